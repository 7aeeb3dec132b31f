//! Small models against logits computed by other people's code (transformers in float32).

use fixtures::{Expected, max_difference};
use model::{Chunk, Forward, LogitsOf, Model, Precision, SeqId};

use crate::support::{TOLERANCE, argmax, bind, greedy, logits_of};

/// Last logits, likeliest token at every position, 32 greedy tokens, for all three prompts.
fn agrees_with_reference(fixture: &fixtures::Model, expected: &str) {
    agrees(bind(&fixture.path, Precision::F32, 512), expected, TOLERANCE);
}

pub(crate) fn agrees(mut model: Model, expected: &str, tolerance: f32) {
    let expected = Expected::read(expected);
    let n_vocab = model.limits().n_vocab;
    for prompt in ["p7", "p33", "p300"] {
        let ids = expected.u32(&format!("{prompt}.input_ids"));
        let (seq, rows) = logits_of(&mut model, &ids, 128, ids.len() + 32);
        let last = &rows[rows.len() - n_vocab..];
        let difference = max_difference(last, &expected.f32(&format!("{prompt}.logits_last")));
        assert!(difference <= tolerance, "{prompt}: last logits differ by {difference}");
        let likeliest: Vec<u32> = rows.chunks_exact(n_vocab).map(argmax).collect();
        assert_eq!(likeliest, expected.u32(&format!("{prompt}.argmax")), "{prompt}");
        let continuation = greedy(&mut model, seq, last.to_vec(), 32);
        assert_eq!(continuation, expected.u32(&format!("{prompt}.greedy_ids")), "{prompt}");
        model.close(seq);
    }
}

fn folder_agrees(name: &str) {
    agrees_with_reference(&fixtures::folder(name), &format!("{name}/expected.safetensors"));
}

fn gguf_agrees(name: &str) {
    agrees_with_reference(
        &fixtures::gguf(&format!("{name}.gguf")),
        &format!("gguf/{name}.expected.safetensors"),
    );
}

#[test]
fn tiny_llama_from_safetensors() {
    folder_agrees("tiny-llama");
}

#[test]
fn tiny_qwen2_from_safetensors() {
    folder_agrees("tiny-qwen2");
}

#[test]
fn tiny_llama_from_gguf_q4_0() {
    gguf_agrees("tiny-llama.q4_0");
}

#[test]
fn tiny_qwen2_from_gguf_q8_0() {
    gguf_agrees("tiny-qwen2.q8_0");
}

#[test]
fn tiny_deepseek_v3_from_safetensors() {
    folder_agrees("tiny-deepseek-v3");
}

#[test]
fn tiny_deepseek_v3_from_fp8() {
    folder_agrees("tiny-deepseek-v3-fp8");
}

#[test]
fn tiny_deepseek_v2_from_safetensors() {
    folder_agrees("tiny-deepseek-v2");
}

#[test]
fn tiny_deepseek_v2_lite_from_safetensors() {
    folder_agrees("tiny-deepseek-v2-lite");
}

#[test]
fn tiny_deepseek_v3_from_gguf_k_quants() {
    gguf_agrees("tiny-deepseek-v3-k256.q4_k_m");
}

#[test]
fn a_batch_of_different_lengths_agrees_with_each_alone() {
    let fixture = fixtures::folder("tiny-llama");
    let mut model = bind(&fixture.path, Precision::F32, 512);
    let n_vocab = model.limits().n_vocab;
    let prompts: Vec<Vec<u32>> = [5usize, 40, 71, 1]
        .iter()
        .map(|&n| (0..n).map(|i| ((i * 31 + n * 7) % n_vocab) as u32).collect())
        .collect();
    let alone: Vec<Vec<f32>> = prompts
        .iter()
        .map(|prompt| {
            let (seq, rows) = logits_of(&mut model, prompt, 64, prompt.len());
            model.close(seq);
            rows[rows.len() - n_vocab..].to_vec()
        })
        .collect();
    let seqs: Vec<SeqId> = prompts.iter().map(|prompt| model.open(prompt.len()).unwrap()).collect();
    let chunks: Vec<Chunk<'_>> = seqs
        .iter()
        .zip(&prompts)
        .map(|(&seq, tokens)| Chunk { seq, tokens, logits: LogitsOf::Last })
        .collect();
    let mut together = Vec::new();
    model.step(&chunks, &mut together).unwrap();
    for (row, alone) in together.chunks_exact(n_vocab).zip(&alone) {
        assert!(max_difference(row, alone) < 1e-4);
    }
}

#[test]
fn a_step_beyond_the_reservation_is_an_error() {
    let fixture = fixtures::folder("tiny-qwen2");
    let mut model = bind(&fixture.path, Precision::F32, 64);
    let seq = model.open(1).unwrap();
    let tokens = vec![1; kernels::BLOCK_TOKENS + 1];
    let error = model.step(&[Chunk { seq, tokens: &tokens, logits: LogitsOf::Last }], &mut Vec::new());
    assert!(matches!(error, Err(model::Error::BeyondReservation { .. })), "{error:?}");
    let error = model.step(&[Chunk { seq, tokens: &[1 << 20], logits: LogitsOf::Last }], &mut Vec::new());
    assert!(matches!(error, Err(model::Error::UnknownToken { .. })), "{error:?}");
}

/// Mean negative log probability of the next token, exponentiated.
fn perplexity(model: &mut Model, ids: &[u32]) -> f64 {
    let n_vocab = model.limits().n_vocab;
    let (seq, rows) = logits_of(model, ids, 256, ids.len());
    model.close(seq);
    let log_probs = rows.chunks_exact(n_vocab).zip(&ids[1..]).map(|(row, &next)| {
        let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = row.iter().map(|&logit| f64::from(logit - max).exp()).sum();
        f64::from(row[next as usize] - max) - sum.ln()
    });
    (-log_probs.sum::<f64>() / (ids.len() - 1) as f64).exp()
}

#[test]
fn smollm2_continues_five_chats_as_the_reference_does() {
    let model = bind(&fixtures::test_data("smollm2.gguf"), Precision::F32, 2048);
    chats_agree(model, &["c0", "c1", "c2", "c3", "c4"], TOLERANCE);
}

/// Likeliest token at every position, probed logits, 64 greedy tokens.
pub(crate) fn chats_agree(mut model: Model, chats: &[&str], tolerance: f32) {
    let expected = Expected::read("smollm2/expected.safetensors");
    let n_vocab = model.limits().n_vocab;
    for chat in chats {
        let ids = expected.u32(&format!("{chat}.input_ids"));
        let (seq, rows) = logits_of(&mut model, &ids, 128, ids.len() + 64);
        let likeliest: Vec<u32> = rows.chunks_exact(n_vocab).map(argmax).collect();
        assert_eq!(likeliest, expected.u32(&format!("{chat}.argmax")), "{chat}");
        let last = rows[rows.len() - n_vocab..].to_vec();
        let probes = expected.u32("probe_ids").into_iter().map(|id| last[id as usize]).collect::<Vec<_>>();
        let difference = max_difference(&probes, &expected.f32(&format!("{chat}.last_probe_logits")));
        assert!(difference <= tolerance, "{chat}: probe logits differ by {difference}");
        let continuation = greedy(&mut model, seq, last, 64);
        assert_eq!(continuation, expected.u32(&format!("{chat}.greedy_ids")), "{chat}");
        model.close(seq);
    }
}

#[test]
fn smollm2_perplexity_at_f32() {
    let expected = Expected::read("smollm2/expected.safetensors");
    let got = perplexity(
        &mut bind(&fixtures::test_data("smollm2.gguf"), Precision::F32, 2048),
        &expected.u32("ppl.input_ids"),
    );
    assert!((got - 19.85).abs() <= 0.01, "perplexity {got}");
}

#[test]
fn smollm2_perplexity_on_the_fast_path() {
    let expected = Expected::read("smollm2/expected.safetensors");
    let got = perplexity(
        &mut bind(&fixtures::test_data("smollm2.gguf"), Precision::Fast, 2048),
        &expected.u32("ppl.input_ids"),
    );
    assert!(got <= 20.0, "perplexity {got}");
}
