//! A few tokens in one step get, bit for bit, the logits they get one by one: guesses change no answer.

use std::path::Path;

use model::{Chunk, EXACT_ROWS, Forward, LogitsOf, Model, Precision, SeqId};

use crate::support::bind;

const PROMPT: usize = 70;

fn rows(model: &mut Model, seq: SeqId, tokens: &[u32]) -> Vec<f32> {
    let mut logits = Vec::new();
    model.step(&[Chunk { seq, tokens, logits: LogitsOf::All }], &mut logits).unwrap();
    logits
}

fn same_together(path: &Path) {
    for precision in [Precision::F32, Precision::Fast] {
        let mut model = bind(path, precision, 256);
        let n_vocab = model.limits().n_vocab;
        let tokens: Vec<u32> =
            (0..PROMPT + 3 * EXACT_ROWS).map(|i| ((i * 37 + 11) % n_vocab) as u32).collect();
        let (prompt, answer) = tokens.split_at(PROMPT);
        let seq = model.open(tokens.len()).unwrap();
        rows(&mut model, seq, prompt);
        let alone: Vec<f32> = answer.iter().flat_map(|token| rows(&mut model, seq, &[*token])).collect();
        for n in 2..=EXACT_ROWS {
            model.truncate(seq, PROMPT);
            let together: Vec<f32> =
                answer.chunks(n).flat_map(|tokens| rows(&mut model, seq, tokens)).collect();
            let n_other = together.iter().zip(&alone).filter(|(a, b)| a.to_bits() != b.to_bits()).count();
            assert_eq!(n_other, 0, "{}: {precision:?}, {n} together", path.display());
        }
    }
}

#[test]
fn dense_models() {
    same_together(&fixtures::gguf("tiny-llama.q4_0.gguf").path);
    same_together(&fixtures::gguf("tiny-qwen2.q8_0.gguf").path);
    same_together(&fixtures::folder("tiny-llama").path);
}

#[test]
fn mixtures_of_experts() {
    same_together(&fixtures::gguf("tiny-deepseek-v3-k256.q4_k_m.gguf").path);
    same_together(&fixtures::folder("tiny-deepseek-v3-fp8").path);
    same_together(&fixtures::folder("tiny-deepseek-v2-lite").path);
}

#[test]
fn a_real_model() {
    same_together(&fixtures::test_data("smollm2.gguf"));
}
