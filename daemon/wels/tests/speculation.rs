//! A real model says the same with and without guesses.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use engine::{Event, Generation, Options, Request, Sampling, Speculation};
use model::{Model, Precision, TokenId};
use serde_json::{Value, json};

const N_TOKENS: usize = 64;
/// Ends an answer of this model.
const IM_END: TokenId = 2;

/// What answers repeat: a text that is to be copied or changed a little.
const COPIES: [&str; 10] = [
    "Repeat: the otter swims, the beaver builds, the heron waits. The otter swims, the beaver builds, the heron waits.",
    "Copy this list:\n1. Otter, 12 persons\n2. Beaver, 8 persons\n3. Heron, 24 persons\n4. Kingfisher, 6 persons",
    "Correct the grammar and change nothing else: The meeting are on Tuesday at nine in the room Otter on the first floor.",
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

fn model(path: &Path, precision: Precision) -> Model {
    let weights = Arc::new(weights::open(path).unwrap());
    let options =
        model::Options { precision, context: 512, kv_tokens: 4096, draft: true, ..model::Options::default() };
    Model::new(weights, &options).unwrap()
}

/// The answers, and the tokens that were guessed right, by lookup and by the draft layer.
fn answers(
    model: Model,
    prompts: &[Vec<TokenId>],
    sampling: &Sampling,
    speculation: Speculation,
) -> (Vec<Vec<TokenId>>, [u64; 2]) {
    // One after the other: what is in a step does not depend on who submits when.
    let options = Options { speculation, sequences_max: 1, ..Options::default() };
    let handle = engine::start(Box::new(model), options);
    let submit = |(prompt, owner): (&Vec<TokenId>, u64)| {
        let (sampling, stop_ids, prompt) = (sampling.clone(), vec![IM_END], prompt.clone());
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
    let stats = handle.stats();
    (answers, [stats.lookup.accepted_total, stats.draft_layer.accepted_total])
}

fn drawn() -> Sampling {
    Sampling { temperature: 0.7, top_p: 0.95, seed: 5, ..Sampling::default() }
}

/// Answers are the same with guesses as without; how many guesses were right.
fn same_with_guesses(
    (path, precision): (&Path, Precision),
    prompts: &[Vec<TokenId>],
    sampling: &Sampling,
    speculation: Speculation,
) -> [u64; 2] {
    let (want, none) = answers(model(path, precision), prompts, sampling, Speculation::Off);
    let (got, right) = answers(model(path, precision), prompts, sampling, speculation);
    assert_eq!(none, [0; 2]);
    assert_eq!(got, want, "{precision:?}, {speculation:?}, temperature {}", sampling.temperature);
    right
}

const LOOKUP: Speculation = Speculation::Lookup { tokens_max: 3 };

#[test]
fn lookups_do_not_change_what_a_real_model_says() {
    let path = fixtures::test_data("smollm2.gguf");
    let prompts: Vec<_> = COPIES.iter().chain(&ANSWERS).map(|question| prompt(&path, question)).collect();
    let [right, _] = same_with_guesses((&path, Precision::Fast), &prompts, &Sampling::greedy(), LOOKUP);
    assert!(right > 2 * prompts.len() as u64, "{right} guesses were right");
    same_with_guesses((&path, Precision::Fast), &prompts[..5], &drawn(), LOOKUP);
    // Slow, so a few that copy and a few that don't.
    same_with_guesses((&path, Precision::F32), &prompts[9..11], &Sampling::greedy(), LOOKUP);
}

/// Weights are random here, and guesses right by chance or where an answer runs in circles: wrong ones must leave no trace.
#[test]
fn neither_draft_layer_nor_lookups_change_what_deepseek_says() {
    let fixture = fixtures::folder("tiny-deepseek-v3");
    let prompts: Vec<Vec<TokenId>> =
        (1..=20).map(|i| (0..3 * i).map(|j| (j * j * 7 + i * 31) % 505).collect()).collect();
    for precision in [Precision::F32, Precision::Fast] {
        let subject = (fixture.path.as_path(), precision);
        for speculation in
            [LOOKUP, Speculation::Draft { tokens_max: 1 }, Speculation::Draft { tokens_max: 3 }]
        {
            same_with_guesses(subject, &prompts, &Sampling::greedy(), speculation);
        }
        same_with_guesses(subject, &prompts[..5], &drawn(), Speculation::Auto);
    }
}
