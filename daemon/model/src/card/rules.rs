//! How much of a model lies on a card where rules say it.

use std::collections::BTreeSet;

use shaders::format_of;
use weights::{ExpertKey, ExpertPart, Tensor, Weights};

use super::CardOptions;
use crate::Error;
use crate::placement::{Device, Kernel, Placement};

/// What rules put on a card; `None` where they leave all to the processor.
///
/// # Errors
/// They cut a layer, leave a layer out between two, put other experts there than the first ones of every layer, or ask for
/// arithmetic that no stage has: this version can't.
pub fn options_of(placement: &Placement, weights: &Weights) -> Result<Option<CardOptions>, Error> {
    let hyper = weights.hyper();
    let names: Vec<&str> = weights.tensors().map(|tensor| tensor.name).collect();
    let on_card = |name: &str| placement.of(name).device == Device::Gpu;
    weights
        .tensors()
        .filter(|tensor| on_card(tensor.name))
        .try_for_each(|tensor| can_be(placement, &tensor))?;
    let mut layers = Vec::new();
    for layer in 0..hyper.n_layers {
        let prefix = format!("blk.{layer}.");
        let its = names.iter().filter(|name| name.starts_with(&prefix) && ExpertKey::parse(name).is_none());
        let homes: BTreeSet<bool> = its.map(|name| on_card(name)).collect();
        if homes.len() > 1 {
            return Err(refused(format!("layer {layer} is cut: all of it but routed experts lies together")));
        }
        layers.push(homes.contains(&true));
    }
    let n_layers = layers.iter().take_while(|&&there| there).count();
    if layers[n_layers..].contains(&true) {
        return Err(refused(format!("layer {n_layers} is left out: a card takes the first layers")));
    }
    if n_layers == 0 {
        return Ok(None);
    }
    let ends = ["token_embd.weight", "output_norm.weight", "output.weight"];
    let ends = ends.into_iter().filter(|name| names.contains(name)).all(on_card);
    Ok(Some(CardOptions {
        experts: Some(experts(placement, weights, n_layers)?),
        layers: Some(n_layers),
        ends: Some(ends),
        rules: Some(placement.clone()),
        ..CardOptions::default()
    }))
}

/// Whether a matrix can have the format and the kernel that rules say.
fn can_be(placement: &Placement, tensor: &Tensor<'_>) -> Result<(), Error> {
    let (decision, name) = (placement.of(tensor.name), tensor.name);
    let [.., cols] = *tensor.shape else { return Ok(()) };
    let dtype = decision.format.unwrap_or(tensor.dtype);
    if tensor.shape.len() < 2 {
        return Ok(());
    }
    if !cols.is_multiple_of(dtype.block_values()) {
        return Err(refused(format!("{name}: rows of {cols} values are no whole blocks of {dtype}")));
    }
    if decision.kernel == Kernel::Int8 && !format_of(dtype).has_codes() {
        return Err(refused(format!(
            "{name}: kernel = \"int8\" needs whole codes, and {dtype} has none; format = \"q8_0\" would do"
        )));
    }
    Ok(())
}

/// Experts on the card: as many as every layer that is there has.
fn experts(placement: &Placement, weights: &Weights, n_layers: usize) -> Result<usize, Error> {
    let Some(moe) = weights.hyper().moe else { return Ok(0) };
    let mut least = moe.n_experts;
    for layer in moe.n_dense_layers..n_layers {
        let there = |expert: &usize| {
            let key = ExpertKey { layer: layer as u32, expert: *expert as u32 };
            placement.of(&key.tensor_name(ExpertPart::Gate)).device == Device::Gpu
        };
        let n = (0..moe.n_experts).take_while(there).count();
        if (n..moe.n_experts).any(|expert| there(&expert)) {
            return Err(refused(format!("layer {layer}: a card takes the first experts, without gaps")));
        }
        least = least.min(n);
    }
    Ok(if n_layers > moe.n_dense_layers { least } else { 0 })
}

fn refused(what: String) -> Error {
    Error::RulesRefused { what }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(name: &str, rules: &str) -> Result<Option<CardOptions>, String> {
        let weights = weights::open_headers(&fixtures::folder(name).path).expect("a fixture");
        let placement = Placement::parse(rules).expect("rules");
        options_of(&placement, &weights).map_err(|error| error.to_string())
    }

    const REST: &str = "[[rule]]\nmatch = \"*\"\ndevice = \"cpu\"\n";

    #[test]
    fn rules_say_how_much_lies_on_the_card() {
        assert_eq!(options("tiny-llama", REST), Ok(None));
        let all = options("tiny-llama", "[[rule]]\nmatch = \"*\"\ndevice = \"gpu\"\n");
        assert!(matches!(all, Ok(Some(CardOptions { ends: Some(true), experts: Some(0), .. }))), "{all:?}");
        let one = format!("[[rule]]\nmatch = \"blk.*\"\nlayers = \"0\"\ndevice = \"gpu\"\n{REST}");
        let one = options("tiny-llama", &one);
        assert!(matches!(one, Ok(Some(CardOptions { layers: Some(1), ends: Some(false), .. }))), "{one:?}");
        let experts = "[[rule]]\nmatch = \"blk.*.ffn_*_exps.*\"\nexperts = \"0-2\"\ndevice = \"gpu\"\n\
                       [[rule]]\nmatch = \"blk.*.ffn_*_exps.*\"\ndevice = \"cpu\"\n\
                       [[rule]]\nmatch = \"*\"\ndevice = \"gpu\"\n";
        let experts = options("tiny-deepseek-v3", experts);
        assert!(
            matches!(experts, Ok(Some(CardOptions { experts: Some(3), ends: Some(true), .. }))),
            "{experts:?}"
        );
    }

    #[test]
    fn what_no_card_can_do_yet_is_refused_in_words() {
        let cut = format!("[[rule]]\nmatch = \"*attn*\"\ndevice = \"gpu\"\n{REST}");
        assert!(options("tiny-llama", &cut).is_err_and(|words| words.contains("layer 0 is cut")));
        let kernel = "[[rule]]\nmatch = \"*\"\ndevice = \"gpu\"\nkernel = \"int8\"\n";
        assert!(options("tiny-llama", kernel).is_err_and(|words| words.contains("needs whole codes")));
        let gap = format!("[[rule]]\nmatch = \"blk.*\"\nlayers = \"1\"\ndevice = \"gpu\"\n{REST}");
        assert!(options("tiny-llama", &gap).is_err_and(|words| words.contains("layer 0 is left out")));
    }
}
