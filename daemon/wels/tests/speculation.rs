//! A real model says the same with and without guesses.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use engine::{Event, Generation, Options, Request, Sampling, Speculation};
use model::{Chunk, Forward, LogitsOf, Model, Precision, TokenId};
use serde_json::{Value, json};

const N_TOKENS: usize = 64;
/// Ends an answer of this model.
const IM_END: TokenId = 2;

/// What answers repeat: a text that is to be copied or changed a little.
const COPIES: [&str; 10] = [
    "Repeat: the otter swims, the beaver builds, the heron waits. The otter swims, the beaver builds, the heron waits.",
    "Copy this list:\n1. Otter, 12 persons\n2. Beaver, 8 persons\n3. Heron, 24 persons\n4. Kingfisher, 6 persons",
    "Correct the spelling and change nothing else: The meating is on tuesday at nine in the room Otter on the first flor.",
    "Rename `a` to `total`:\n```python\ndef add(xs):\n    a = 0\n    for x in xs:\n        a = a + x\n    return a\n```",
    "Count from 1 to 30, separated by commas.",
    "Say the word \"fish\" twenty times.",
    "Write this as JSON: name Otter, persons 12; name Beaver, persons 8; name Heron, persons 24.",
    "Translate to German, first the sentence, then the translation: The water in the lake is cold in the morning.",
    "Write the multiplication table of 7.",
    "Read back to me: LOT-2231, LOT-2232, LOT-2233, LOT-2234, LOT-2235, LOT-2236, LOT-2237.",
];
/// What has to be said anew.
const ANSWERS: [&str; 10] = [
    "What is the capital of France?",
    "Why is the sky blue?",
    "Tell me about a storm on a lake, as somebody remembers it who was a child then.",
    "Explain to a colleague what a firewall does.",
    "How is cheese made?",
    "Write a short letter that turns down an offer, politely.",
    "What should I take along for a walk in the mountains?",
    "Who wrote Faust, and what is it about?",
    "Give me a name for a small boat and say why.",
    "What is the difference between weather and climate?",
];

fn smollm2() -> PathBuf {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/test-data");
    let path = std::env::var_os("WELS_TEST_DATA").map_or(default, PathBuf::from).join("smollm2.gguf");
    assert!(path.exists(), "{} is missing: run `cargo xtask fetch`", path.display());
    path
}

/// The prompt that the model's chat template makes of a question.
fn prompt(model: &Path, question: &str) -> Vec<TokenId> {
    let dir = tempfile::tempdir().unwrap();
    let messages = dir.path().join("messages.json");
    fs::write(&messages, json!([{ "role": "user", "content": question }]).to_string()).unwrap();
    let mut tokenize = Command::new(env!("CARGO_BIN_EXE_wels"));
    tokenize.arg("tokenize").arg("--model").arg(model).arg("--messages").arg(&messages).arg("--json");
    let output = tokenize.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let prompt: Value = serde_json::from_slice(&output.stdout).unwrap();
    prompt["ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as TokenId).collect()
}

fn model(precision: Precision) -> Model {
    let weights = Arc::new(weights::open(&smollm2()).unwrap());
    // The two tests share the machine: a thread each is faster than two each that wait for each other.
    let (threads, context) = (Some(1), 512);
    let options =
        model::Options { precision, threads, context, kv_tokens: 4096, ..model::Options::default() };
    Model::new(weights, &options).unwrap()
}

/// The likeliest answers, and the tokens that were guessed right.
fn answers(
    precision: Precision,
    prompts: &[Vec<TokenId>],
    speculation: Speculation,
) -> (Vec<Vec<TokenId>>, u64) {
    // One after the other: what is in a step does not depend on who submits when.
    let options = Options { speculation, sequences_max: 1, ..Options::default() };
    let handle = engine::start(Box::new(model(precision)), options);
    let submit = |(prompt, owner): (&Vec<TokenId>, u64)| {
        let (sampling, stop_ids) = (Sampling::greedy(), vec![IM_END]);
        let prompt = prompt.clone();
        handle
            .submit(Request { prompt, max_tokens: N_TOKENS, stop_ids, sampling, logprobs: None, owner })
            .unwrap()
    };
    let generations: Vec<_> = prompts.iter().zip(0..).map(submit).collect();
    let answer = |mut generation: Generation| {
        let events = std::iter::from_fn(|| generation.blocking_next());
        let token = |event| match event {
            Event::Token { id, .. } => Some(id),
            Event::Failed { message } => panic!("{message}"),
            _ => None,
        };
        events.filter_map(token).collect()
    };
    let answers = generations.into_iter().map(answer).collect();
    (answers, handle.stats().lookup.accepted_total)
}

/// How far apart the logits of two tokens are after `tokens`.
fn margin(precision: Precision, tokens: &[TokenId], [a, b]: [TokenId; 2]) -> f32 {
    let mut model = model(precision);
    let (seq, mut logits) = (model.open(tokens.len()).unwrap(), Vec::new());
    model.step(&[Chunk { seq, tokens, logits: LogitsOf::Last }], &mut logits).unwrap();
    (logits[a as usize] - logits[b as usize]).abs()
}

/// Compares answers with and without lookups: equal, but where two tokens are less than `tie` apart in logits.
fn compare(precision: Precision, prompts: &[Vec<TokenId>], tie: f32) {
    let (want, none) = answers(precision, prompts, Speculation::Off);
    let (got, accepted) = answers(precision, prompts, Speculation::Lookup { tokens_max: 8 });
    assert!(none == 0 && accepted > 2 * prompts.len() as u64, "{accepted} guesses were right");
    for ((prompt, want), got) in prompts.iter().zip(&want).zip(&got) {
        let n_same = want.iter().zip(got).take_while(|(a, b)| a == b).count();
        if n_same == want.len().max(got.len()) {
            continue;
        }
        let tokens: Vec<_> = prompt.iter().chain(&want[..n_same]).copied().collect();
        let next = [want, got].map(|answer| answer.get(n_same).copied().unwrap_or(IM_END));
        let margin = margin(precision, &tokens, next);
        assert!(margin < tie, "{precision:?}: {next:?} after {n_same} tokens, {margin} apart");
    }
}

/// One question of each kind: f32 is slow. (All twenty are equal.)
#[test]
fn lookups_do_not_change_what_a_real_model_says_in_f32() {
    let questions = COPIES.iter().chain(&ANSWERS).step_by(10);
    let prompts: Vec<_> = questions.map(|question| prompt(&smollm2(), question)).collect();
    compare(Precision::F32, &prompts, 1e-3);
}

/// On the fast path one or two rows and more than two are summed in different orders, and 8-bit activations make as much
/// of it as they cost against f32 (both 0.3 in the logits' root mean square, for this model). Nearly equal logits may
/// change places, as they do when other sequences join the batch.
#[test]
fn lookups_change_nothing_but_ties_on_the_fast_path() {
    let prompts: Vec<_> =
        COPIES.iter().chain(&ANSWERS).map(|question| prompt(&smollm2(), question)).collect();
    compare(Precision::Fast, &prompts, 1.0);
}
