//! What happens inside DeepSeek's layers, against transformers.

use fixtures::{Expected, max_difference};
use model::{Forward, Precision, Trace};
use tensor::reference::{self, Choice, Gating, Router};

use crate::support::{TOLERANCE, bind, logits_of};

/// Choices closer than this may fall either way.
const MARGIN: f32 = 1e-3;

/// The trace of one prompt.
fn trace(fixture: &fixtures::Model, ids: &[u32]) -> Trace {
    let mut model = bind(&fixture.path, Precision::F32, 512);
    model.start_trace();
    let (seq, _) = logits_of(&mut model, ids, 100, ids.len());
    model.close(seq);
    model.take_trace()
}

fn experts_agree(fixture: &fixtures::Model, expected: &Expected) {
    for prompt in ["p7", "p33", "p300"] {
        let choices = trace(fixture, &expected.u32(&format!("{prompt}.input_ids"))).choices.concat();
        let ids = expected.u32(&format!("{prompt}.router_ids"));
        let weights = expected.f32(&format!("{prompt}.router_weights"));
        let margins = expected.f32(&format!("{prompt}.router_margin"));
        let top_k = ids.len() / margins.len();
        assert_eq!(choices.len(), ids.len(), "{prompt}: layers, tokens and choices");
        let mut n_clear = 0;
        for (token, margin) in margins.iter().enumerate().filter(|(_, margin)| **margin > MARGIN) {
            let of_token = token * top_k..(token + 1) * top_k;
            let got = &choices[of_token.clone()];
            let (ids, weights) = (&ids[of_token.clone()], &weights[of_token]);
            assert!(
                same_experts(got, ids, weights),
                "{prompt}: token {token}, margin {margin}: {got:?}, {ids:?}"
            );
            let got: Vec<f32> = got.iter().map(|choice| choice.weight).collect();
            let difference = max_difference(&got, weights);
            assert!(difference <= TOLERANCE, "{prompt}: token {token}: weights differ by {difference}");
            n_clear += 1;
        }
        assert!(n_clear * 4 > margins.len() * 3, "{prompt}: {n_clear} of {} are clear", margins.len());
    }
}

/// The same experts in the same order; those of equal weights, up to rounding, in any.
fn same_experts(got: &[Choice], ids: &[u32], weights: &[f32]) -> bool {
    let place = |expert| ids.iter().position(|id| *id == expert);
    let mut places: Vec<usize> = got.iter().filter_map(|choice| place(choice.expert)).collect();
    let close = places.iter().enumerate().all(|(i, place)| (weights[*place] - weights[i]).abs() <= TOLERANCE);
    places.sort_unstable();
    close && places.into_iter().eq(0..ids.len())
}

fn hidden_states_agree(fixture: &fixtures::Model, expected: &Expected) {
    let trace = trace(fixture, &expected.u32("p7.input_ids"));
    for (layer, hidden) in trace.hidden.iter().enumerate() {
        let difference = max_difference(hidden, &expected.f32(&format!("p7.hidden_layer{layer}")));
        assert!(difference <= TOLERANCE, "layer {layer} differs by {difference}");
    }
    assert!(!expected.has(&format!("p7.hidden_layer{}", trace.hidden.len())), "all layers are traced");
}

fn folder_agrees_inside(name: &str) {
    let (fixture, expected) =
        (fixtures::folder(name), Expected::read(&format!("{name}/expected.safetensors")));
    experts_agree(&fixture, &expected);
    hidden_states_agree(&fixture, &expected);
}

#[test]
fn v3_chooses_the_same_experts_and_has_the_same_hidden_states() {
    folder_agrees_inside("tiny-deepseek-v3");
}

#[test]
fn fp8_chooses_the_same_experts_and_has_the_same_hidden_states() {
    folder_agrees_inside("tiny-deepseek-v3-fp8");
}

#[test]
fn v2_chooses_the_same_experts_and_has_the_same_hidden_states() {
    folder_agrees_inside("tiny-deepseek-v2");
}

#[test]
fn v2_lite_chooses_the_same_experts_and_has_the_same_hidden_states() {
    folder_agrees_inside("tiny-deepseek-v2-lite");
}

#[test]
fn k_quants_choose_the_same_experts() {
    let name = "tiny-deepseek-v3-k256.q4_k_m";
    let expected = Expected::read(&format!("gguf/{name}.expected.safetensors"));
    experts_agree(&fixtures::gguf(&format!("{name}.gguf")), &expected);
}

/// DeepSeek-V3's real router: 256 experts, 8 groups. Biases around -1.2 tell masked groups from groups of score 0.
#[test]
fn the_router_of_256_experts_agrees() {
    let expected = Expected::read("router/router256.safetensors");
    let router = Router {
        gating: Gating::Sigmoid,
        top_k: 8,
        n_groups: 8,
        top_k_groups: 4,
        normalise: true,
        scale: 2.5,
    };
    for case in ["mixed", "negative"] {
        let (logits, bias) = (expected.f32(&format!("{case}.logits")), expected.f32(&format!("{case}.bias")));
        let (ids, weights) = (expected.u32(&format!("{case}.ids")), expected.f32(&format!("{case}.weights")));
        let margins = expected.f32(&format!("{case}.margin"));
        for (token, logits) in logits.chunks_exact(256).enumerate().filter(|(t, _)| margins[*t] > 1e-5) {
            let mut choices = [Choice::default(); 8];
            reference::route(&mut choices, logits, Some(&bias), &router);
            let of_token = token * 8..(token + 1) * 8;
            assert_eq!(choices.map(|choice| choice.expert)[..], ids[of_token.clone()], "{case} {token}");
            assert!(max_difference(&choices.map(|choice| choice.weight), &weights[of_token]) <= 1e-5);
        }
    }
}
