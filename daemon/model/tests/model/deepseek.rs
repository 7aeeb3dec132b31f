//! What must not change DeepSeek's logits: the form of attention, the size of steps, the company in a batch.

use fixtures::{Expected, max_difference};
use model::{Chunk, Forward, LatentForm, LogitsOf, Model, Options, Precision, SeqId};

use crate::support::{bind, bind_with, logits_of};

/// Two ways of adding the same numbers up.
const ROUNDING: f32 = 1e-4;

fn bind_form(fixture: &fixtures::Model, latent: LatentForm) -> Model {
    let options =
        Options { precision: Precision::F32, kv_tokens: 1024, context: 512, latent, ..Options::default() };
    bind_with(&fixture.path, options)
}

/// Both layouts of the matrices that expand keys and values: joint, and split with the keys' transposed.
fn models() -> [(fixtures::Model, &'static str); 4] {
    [
        (fixtures::folder("tiny-deepseek-v3"), "tiny-deepseek-v3/expected.safetensors"),
        (fixtures::folder("tiny-deepseek-v3-fp8"), "tiny-deepseek-v3-fp8/expected.safetensors"),
        (fixtures::folder("tiny-deepseek-v2-lite"), "tiny-deepseek-v2-lite/expected.safetensors"),
        (
            fixtures::gguf("tiny-deepseek-v3-k256.q4_k_m.gguf"),
            "gguf/tiny-deepseek-v3-k256.q4_k_m.expected.safetensors",
        ),
    ]
}

#[test]
fn absorbed_and_plain_attention_agree() {
    for (fixture, expected) in models() {
        let ids = Expected::read(expected).u32("p300.input_ids");
        let rows = [LatentForm::Absorbed, LatentForm::Plain].map(|form| {
            let mut model = bind_form(&fixture, form);
            logits_of(&mut model, &ids, 64, ids.len()).1
        });
        let difference = max_difference(&rows[0], &rows[1]);
        assert!(difference <= ROUNDING, "{expected}: {difference}");
    }
}

#[test]
fn decoding_with_the_cache_agrees_with_a_full_recompute() {
    for (fixture, expected) in models() {
        let ids = Expected::read(expected).u32("p33.input_ids");
        let mut model = bind_form(&fixture, LatentForm::Auto);
        let (_, token_by_token) = logits_of(&mut model, &ids, 1, ids.len());
        let (_, at_once) = logits_of(&mut model, &ids, ids.len(), ids.len());
        let difference = max_difference(&token_by_token, &at_once);
        assert!(difference <= ROUNDING, "{expected}: {difference}");
    }
}

/// Long prompts, short ones and decoding sequences in one step: both forms of attention, in any order.
#[test]
fn a_batch_of_different_lengths_agrees_with_each_alone() {
    for (fixture, expected) in models() {
        let mut model = bind_form(&fixture, LatentForm::Auto);
        let n_vocab = model.limits().n_vocab;
        let ids = Expected::read(expected).u32("p300.input_ids");
        let prompts: Vec<&[u32]> = vec![&ids[..5], &ids[20..220], &ids[100..101], &ids[7..78]];
        let alone: Vec<f32> = prompts
            .iter()
            .flat_map(|prompt| {
                let (seq, rows) = logits_of(&mut model, prompt, prompt.len(), prompt.len());
                model.close(seq);
                rows[rows.len() - n_vocab..].to_vec()
            })
            .collect();
        let seqs: Vec<SeqId> = prompts.iter().map(|prompt| model.open(prompt.len()).unwrap()).collect();
        let last = |seq, tokens| Chunk { seq, tokens, logits: LogitsOf::Last };
        let mut together = Vec::new();
        // The second prompt's first half goes before, so that the sequences are at different places too.
        let first_half = [Chunk { seq: seqs[1], tokens: &prompts[1][..100], logits: LogitsOf::None }];
        model.step(&first_half, &mut together).unwrap();
        let chunks = [
            last(seqs[0], prompts[0]),
            last(seqs[1], &prompts[1][100..]),
            last(seqs[2], prompts[2]),
            last(seqs[3], prompts[3]),
        ];
        model.step(&chunks, &mut together).unwrap();
        let difference = max_difference(&together, &alone);
        assert!(difference <= ROUNDING, "{expected}: {difference}");
    }
}

/// What is truncated leaves no trace: drafts that were not accepted.
#[test]
fn a_truncated_sequence_continues_as_if_nothing_had_been_there() {
    let fixture = fixtures::folder("tiny-deepseek-v3");
    let ids = Expected::read("tiny-deepseek-v3/expected.safetensors").u32("p33.input_ids");
    let mut model = bind(&fixture.path, Precision::F32, 128);
    let (seq, _) = logits_of(&mut model, &ids[..20], 20, 64);
    let mut logits = Vec::new();
    model.step(&[Chunk { seq, tokens: &[9, 8, 7, 6], logits: LogitsOf::Last }], &mut logits).unwrap();
    model.truncate(seq, 20);
    model.step(&[Chunk { seq, tokens: &ids[20..], logits: LogitsOf::Last }], &mut logits).unwrap();
    let (_, whole) = logits_of(&mut model, &ids, ids.len(), ids.len());
    assert!(max_difference(&logits, &whole[whole.len() - logits.len()..]) <= ROUNDING);
}

#[test]
fn another_row_costs_more_where_it_reads_experts_of_its_own() {
    let mixture = bind(&fixtures::folder("tiny-deepseek-v2-lite").path, Precision::F32, 64);
    let dense = bind(&fixtures::folder("tiny-qwen2").path, Precision::F32, 64);
    assert!(mixture.row_cost() > dense.row_cost() && mixture.row_cost() < 1.0, "{}", mixture.row_cost());
}
