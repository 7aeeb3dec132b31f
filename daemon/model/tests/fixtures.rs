//! Small models against logits computed by other people's code (transformers in float32).

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::{Chunk, Forward, LogitsOf, Model, Options, Precision, SeqId};
use weights::safetensors::View;

/// Two float32 implementations agree to 6e-5 on these models; the fixtures' own README calls 1e-3 generous.
const TOLERANCE: f32 = 1e-3;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures")
}

fn decompress(path: &Path) -> Vec<u8> {
    let bytes = fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    zstd::decode_all(&bytes[..]).unwrap()
}

/// A fixture folder (or GGUF) unpacked where the readers can map it.
fn unpack(name: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let source = fixtures().join(name);
    if source.is_dir() {
        for entry in fs::read_dir(&source).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            match name.strip_suffix(".zst") {
                Some(name) => fs::write(dir.path().join(name), decompress(&path)).unwrap(),
                None => drop(fs::copy(&path, dir.path().join(name)).unwrap()),
            }
        }
        let path = dir.path().to_owned();
        return (dir, path);
    }
    let path = dir.path().join("model.gguf");
    fs::write(&path, decompress(&fixtures().join(format!("{name}.zst")))).unwrap();
    (dir, path)
}

/// Reference results by name.
struct Expected(Vec<u8>);

impl Expected {
    fn read(path: &Path) -> Self {
        Self(decompress(path))
    }

    fn i32(&self, name: &str) -> Vec<u32> {
        let view = View::parse(&self.0).unwrap();
        let tensor = view.tensor(name).unwrap_or_else(|| panic!("no {name}"));
        tensor.i32().unwrap().into_iter().map(|id| id as u32).collect()
    }

    fn f32(&self, name: &str) -> Vec<f32> {
        View::parse(&self.0).unwrap().tensor(name).unwrap_or_else(|| panic!("no {name}")).f32().unwrap()
    }
}

fn bind(path: &Path, precision: Precision, context: usize) -> Model {
    let weights = Arc::new(weights::open(path).unwrap());
    let options = Options { precision, threads: Some(2), pin: false, kv_tokens: 2 * context, context };
    Model::new(weights, &options).unwrap()
}

/// Rows of logits for all of `tokens`, fed in steps of `step`.
fn logits_of(model: &mut Model, tokens: &[u32], step: usize, room: usize) -> (SeqId, Vec<f32>) {
    let seq = model.open(room).unwrap();
    let (mut rows, mut logits) = (Vec::new(), Vec::new());
    for chunk in tokens.chunks(step) {
        model.step(&[Chunk { seq, tokens: chunk, logits: LogitsOf::All }], &mut logits).unwrap();
        rows.extend_from_slice(&logits);
    }
    (seq, rows)
}

fn argmax(row: &[f32]) -> u32 {
    tensor::reference::argmax(row) as u32
}

fn greedy(model: &mut Model, seq: SeqId, mut row: Vec<f32>, n: usize) -> Vec<u32> {
    (0..n)
        .map(|_| {
            let id = argmax(&row);
            model.step(&[Chunk { seq, tokens: &[id], logits: LogitsOf::Last }], &mut row).unwrap();
            id
        })
        .collect()
}

fn max_difference(got: &[f32], want: &[f32]) -> f32 {
    assert_eq!(got.len(), want.len());
    got.iter().zip(want).map(|(g, w)| (g - w).abs()).fold(0.0, f32::max)
}

/// Last logits, likeliest token at every position, 32 greedy tokens, for all three prompts.
fn agrees_with_reference(name: &str, expected: &str) {
    let (_dir, path) = unpack(name);
    let expected = Expected::read(&fixtures().join(expected));
    let mut model = bind(&path, Precision::F32, 512);
    let n_vocab = model.limits().n_vocab;
    for prompt in ["p7", "p33", "p300"] {
        let ids = expected.i32(&format!("{prompt}.input_ids"));
        let (seq, rows) = logits_of(&mut model, &ids, 128, ids.len() + 32);
        let last = &rows[rows.len() - n_vocab..];
        let difference = max_difference(last, &expected.f32(&format!("{prompt}.logits_last")));
        assert!(difference <= TOLERANCE, "{name} {prompt}: last logits differ by {difference}");
        let likeliest: Vec<u32> = rows.chunks_exact(n_vocab).map(argmax).collect();
        assert_eq!(likeliest, expected.i32(&format!("{prompt}.argmax")), "{name} {prompt}");
        let continuation = greedy(&mut model, seq, last.to_vec(), 32);
        assert_eq!(continuation, expected.i32(&format!("{prompt}.greedy_ids")), "{name} {prompt}");
        model.close(seq);
    }
}

#[test]
fn tiny_llama_from_safetensors() {
    agrees_with_reference("tiny-llama", "tiny-llama/expected.safetensors.zst");
}

#[test]
fn tiny_qwen2_from_safetensors() {
    agrees_with_reference("tiny-qwen2", "tiny-qwen2/expected.safetensors.zst");
}

#[test]
fn tiny_qwen2_tied_from_safetensors() {
    agrees_with_reference("tiny-qwen2-tied", "tiny-qwen2-tied/expected.safetensors.zst");
}

#[test]
fn tiny_llama_from_gguf_q4_0() {
    agrees_with_reference("gguf/tiny-llama.q4_0.gguf", "gguf/tiny-llama.q4_0.expected.safetensors.zst");
}

#[test]
fn tiny_qwen2_from_gguf_q8_0() {
    agrees_with_reference("gguf/tiny-qwen2.q8_0.gguf", "gguf/tiny-qwen2.q8_0.expected.safetensors.zst");
}

#[test]
fn tiny_qwen2_tied_from_gguf_f16() {
    agrees_with_reference(
        "gguf/tiny-qwen2-tied.f16.gguf",
        "gguf/tiny-qwen2-tied.f16.expected.safetensors.zst",
    );
}

#[test]
fn a_batch_of_different_lengths_agrees_with_each_alone() {
    let (_dir, path) = unpack("tiny-llama");
    let mut model = bind(&path, Precision::F32, 512);
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
    let (_dir, path) = unpack("tiny-qwen2");
    let mut model = bind(&path, Precision::F32, 64);
    let seq = model.open(1).unwrap();
    let tokens = vec![1; kernels::BLOCK_TOKENS + 1];
    let error = model.step(&[Chunk { seq, tokens: &tokens, logits: LogitsOf::Last }], &mut Vec::new());
    assert!(matches!(error, Err(model::Error::BeyondReservation { .. })), "{error:?}");
    let error = model.step(&[Chunk { seq, tokens: &[1 << 20], logits: LogitsOf::Last }], &mut Vec::new());
    assert!(matches!(error, Err(model::Error::UnknownToken { .. })), "{error:?}");
}

fn smollm2() -> PathBuf {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/test-data");
    let dir = std::env::var_os("WELS_TEST_DATA").map_or(default, PathBuf::from);
    let path = dir.join("smollm2.gguf");
    assert!(path.exists(), "{} is missing: run `cargo xtask fetch`", path.display());
    path
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
    let expected = Expected::read(&fixtures().join("smollm2/expected.safetensors.zst"));
    let mut model = bind(&smollm2(), Precision::F32, 2048);
    let n_vocab = model.limits().n_vocab;
    for chat in ["c0", "c1", "c2", "c3", "c4"] {
        let ids = expected.i32(&format!("{chat}.input_ids"));
        let (seq, rows) = logits_of(&mut model, &ids, 128, ids.len() + 64);
        let likeliest: Vec<u32> = rows.chunks_exact(n_vocab).map(argmax).collect();
        assert_eq!(likeliest, expected.i32(&format!("{chat}.argmax")), "{chat}");
        let last = rows[rows.len() - n_vocab..].to_vec();
        let probes = expected.i32("probe_ids").into_iter().map(|id| last[id as usize]).collect::<Vec<_>>();
        let difference = max_difference(&probes, &expected.f32(&format!("{chat}.last_probe_logits")));
        assert!(difference <= TOLERANCE, "{chat}: probe logits differ by {difference}");
        let continuation = greedy(&mut model, seq, last, 64);
        assert_eq!(continuation, expected.i32(&format!("{chat}.greedy_ids")), "{chat}");
        model.close(seq);
    }
}

#[test]
fn smollm2_perplexity_at_f32() {
    let expected = Expected::read(&fixtures().join("smollm2/expected.safetensors.zst"));
    let got = perplexity(&mut bind(&smollm2(), Precision::F32, 2048), &expected.i32("ppl.input_ids"));
    assert!((got - 19.85).abs() <= 0.01, "perplexity {got}");
}

#[test]
fn smollm2_perplexity_on_the_fast_path() {
    let expected = Expected::read(&fixtures().join("smollm2/expected.safetensors.zst"));
    let got = perplexity(&mut bind(&smollm2(), Precision::Fast, 2048), &expected.i32("ppl.input_ids"));
    assert!(got <= 20.0, "perplexity {got}");
}
