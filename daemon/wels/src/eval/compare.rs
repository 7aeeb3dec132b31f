//! Results beside a reference: how far they are apart, and whether that is near enough.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use model::TokenId;
use serde_json::json;
use weights::safetensors::View;

use super::{Tensor, Values};

/// The reference's prompts: NAME.input_ids.
pub(super) fn sequences(reference: &View<'_>) -> BTreeMap<String, Vec<TokenId>> {
    let prompt = |name: &str| {
        let ids = reference.tensor(name)?.i32()?;
        let sequence = name.strip_suffix(".input_ids")?.to_owned();
        Some((sequence, ids.into_iter().map(|id| id as TokenId).collect()))
    };
    reference.tensors().filter_map(|tensor| prompt(&tensor.info.name)).collect()
}

/// The longest greedy continuation that the reference holds.
pub(super) fn n_greedy(reference: &View<'_>) -> usize {
    let lengths = reference.tensors().filter(|tensor| tensor.info.name.ends_with(".greedy_ids"));
    lengths.map(|tensor| tensor.info.shape.iter().product()).max().unwrap_or(0)
}

/// Compares all that the reference holds too; false where something is too far from it.
#[expect(clippy::print_stdout, reason = "a command's result")]
pub(super) fn report(results: &[Tensor], reference: &View<'_>, tolerance: f32, json: bool) -> Result<bool> {
    let mut agrees = true;
    for result in results {
        let Some(finding) = compare(result, reference, tolerance)? else { continue };
        agrees &= finding.agrees;
        let name = &result.name;
        if json {
            let (agrees, found, equal) = (finding.agrees, &finding.found, finding.equal);
            println!("{}", json!({ "tensor": name, "agrees": agrees, "found": found, "equal": equal }));
        } else {
            println!("  {} {name}: {}", if finding.agrees { "ok  " } else { "FAIL" }, finding.found);
        }
    }
    Ok(agrees)
}

struct Finding {
    agrees: bool,
    found: String,
    /// Of whole numbers: how many are equal, and of how many.
    equal: Option<[usize; 2]>,
}

fn compare(result: &Tensor, reference: &View<'_>, tolerance: f32) -> Result<Option<Finding>> {
    let name = &result.name;
    let Some(want) = reference.tensor(name) else { return Ok(None) };
    let (got, wanted) = (&result.shape, &want.info.shape);
    ensure!(got == wanted, "{name}: shape {got:?}, the reference has {wanted:?}");
    let clear = clear_choices(name, reference, tolerance);
    let n_values: usize = got.iter().product();
    let counts = |i: usize| clear.as_ref().is_none_or(|clear| clear[i * clear.len() / n_values]);
    let finding = match &result.values {
        Values::F32(got) => {
            let want = want.f32().with_context(|| format!("{name}: the reference is not F32"))?;
            let pairs = got.iter().zip(&want).enumerate().filter(|(i, _)| counts(*i));
            let worst = pairs.map(|(_, (got, want))| (got - want).abs()).fold(0.0, worse);
            let found = format!("largest difference {worst:.2e}");
            Finding { agrees: worst <= tolerance, found, equal: None }
        }
        Values::I32(got) => {
            let want = want.i32().with_context(|| format!("{name}: the reference is not I32"))?;
            let weights = choices_weights(name, reference);
            let top_k = wanted.last().copied().unwrap_or(1);
            let equal = |i: usize, got: i32| {
                got == want[i]
                    || weights.as_ref().is_some_and(|w| is_tied(i, got, &want, w, top_k, tolerance))
            };
            let pairs = got.iter().enumerate().filter(|(i, _)| counts(*i));
            let (n, n_other) =
                pairs.fold((0, 0), |(n, other), (i, got)| (n + 1, other + usize::from(!equal(i, *got))));
            let found = format!("{} of {n} equal", n - n_other);
            Finding { agrees: n_other == 0, found, equal: Some([n - n_other, n]) }
        }
    };
    Ok(Some(finding))
}

/// The larger of two differences; what is no number is the largest.
fn worse(a: f32, b: f32) -> f32 {
    if b <= a { a } else { b }
}

/// For a router's results: the tokens whose choice is not so close that rounding may decide it.
fn clear_choices(name: &str, reference: &View<'_>, tolerance: f32) -> Option<Vec<bool>> {
    let sequence = name.strip_suffix(".router_ids").or_else(|| name.strip_suffix(".router_weights"))?;
    let margins = reference.tensor(&format!("{sequence}.router_margin"))?.f32()?;
    Some(margins.into_iter().map(|margin| margin > tolerance).collect())
}

/// For a router's choices: the weights they were given.
fn choices_weights(name: &str, reference: &View<'_>) -> Option<Vec<f32>> {
    let sequence = name.strip_suffix(".router_ids")?;
    reference.tensor(&format!("{sequence}.router_weights"))?.f32()
}

/// True where a token's `i`-th choice stands elsewhere among the token's choices, with the same weight up to rounding.
fn is_tied(i: usize, got: i32, ids: &[i32], weights: &[f32], top_k: usize, tolerance: f32) -> bool {
    let of_token = i / top_k * top_k..(i / top_k + 1) * top_k;
    of_token.into_iter().any(|at| ids[at] == got && (weights[at] - weights[i]).abs() <= tolerance)
}
