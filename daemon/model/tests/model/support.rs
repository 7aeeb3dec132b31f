//! What all tests of models do: bind, feed, continue.

use std::path::Path;
use std::sync::Arc;

use model::{Chunk, Forward, LogitsOf, Model, Options, Precision, SeqId};

/// Two float32 implementations agree to 6e-5 on these models; the fixtures' own README calls 1e-3 generous.
pub(crate) const TOLERANCE: f32 = 1e-3;

pub(crate) fn bind(path: &Path, precision: Precision, context: usize) -> Model {
    bind_with(path, Options { precision, kv_tokens: 2 * context, context, ..Options::default() })
}

/// On two threads.
pub(crate) fn bind_with(path: &Path, options: Options) -> Model {
    let weights = Arc::new(weights::open(path).unwrap());
    Model::new(weights, &Options { threads: Some(2), ..options }).unwrap()
}

/// Rows of logits for all of `tokens`, fed in steps of `step`.
pub(crate) fn logits_of(model: &mut Model, tokens: &[u32], step: usize, room: usize) -> (SeqId, Vec<f32>) {
    let seq = model.open(room).unwrap();
    let (mut rows, mut logits) = (Vec::new(), Vec::new());
    for chunk in tokens.chunks(step) {
        model.step(&[Chunk { seq, tokens: chunk, logits: LogitsOf::All }], &mut logits).unwrap();
        rows.extend_from_slice(&logits);
    }
    (seq, rows)
}

pub(crate) fn argmax(row: &[f32]) -> u32 {
    tensor::reference::argmax(row) as u32
}

pub(crate) fn greedy(model: &mut Model, seq: SeqId, mut row: Vec<f32>, n: usize) -> Vec<u32> {
    (0..n)
        .map(|_| {
            let id = argmax(&row);
            model.step(&[Chunk { seq, tokens: &[id], logits: LogitsOf::Last }], &mut row).unwrap();
            id
        })
        .collect()
}
