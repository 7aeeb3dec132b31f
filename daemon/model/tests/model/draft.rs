//! The draft layer, against transformers' own; and guesses that follow from it.

use fixtures::{Expected, max_difference};
use model::{Chunk, Forward, LogitsOf, Model, Options, Precision};

use crate::support::{TOLERANCE, argmax, bind_with, logits_of};

fn bind() -> Model {
    let options = Options {
        precision: Precision::F32,
        kv_tokens: 1024,
        context: 512,
        draft: true,
        ..Options::default()
    };
    bind_with(&fixtures::folder("tiny-deepseek-v3").path, options)
}

#[test]
fn draft_logits_agree() {
    let expected = Expected::read("tiny-deepseek-v3/expected-mtp.safetensors");
    let mut model = bind();
    let n_vocab = model.limits().n_vocab;
    for prompt in ["p7", "p33", "p300"] {
        let ids = expected.u32(&format!("{prompt}.input_ids"));
        let following = expected.u32(&format!("{prompt}.mtp_input_ids"));
        let (seq, rows) = logits_of(&mut model, &ids, ids.len(), ids.len());
        let next = argmax(&rows[rows.len() - n_vocab..]);
        assert_eq!(Some(&next), following.last(), "{prompt}: the main model's greedy token");
        let rows = model.draft_logits(seq, next);
        let last = &rows[rows.len() - n_vocab..];
        let difference = max_difference(last, &expected.f32(&format!("{prompt}.mtp_logits_last")));
        assert!(difference <= TOLERANCE, "{prompt}: last logits differ by {difference}");
        if expected.has(&format!("{prompt}.mtp_logits")) {
            let difference = max_difference(&rows, &expected.f32(&format!("{prompt}.mtp_logits")));
            assert!(difference <= TOLERANCE, "{prompt}: logits differ by {difference}");
        }
        let likeliest: Vec<u32> = rows.chunks_exact(n_vocab).map(argmax).collect();
        assert_eq!(likeliest, expected.u32(&format!("{prompt}.mtp_argmax")), "{prompt}");
        model.close(seq);
    }
}

/// Chunks, decoding and rejected guesses lead to the guess that one step over the same tokens leads to.
#[test]
fn guesses_do_not_depend_on_how_the_tokens_came() {
    let expected = Expected::read("tiny-deepseek-v3/expected-mtp.safetensors");
    let mut model = bind();
    let ids = expected.u32("p33.input_ids");
    let want = expected.u32("p33.mtp_argmax");
    let seq = model.open(64).unwrap();
    let mut logits = Vec::new();
    let mut feed = |model: &mut Model, tokens: &[u32]| {
        model.step(&[Chunk { seq, tokens, logits: LogitsOf::All }], &mut logits).unwrap();
    };
    feed(&mut model, &ids[..10]);
    feed(&mut model, &ids[10..21]);
    assert_eq!(model.draft(&[(seq, ids[21])], 1).unwrap(), [[want[20]]]);
    // One token that is right, two guesses that are wrong.
    feed(&mut model, &[ids[21], 3, 4]);
    model.truncate(seq, 22);
    assert_eq!(model.draft(&[(seq, ids[22])], 1).unwrap(), [[want[21]]]);
    // Without asking for a guess in between.
    feed(&mut model, &ids[22..24]);
    feed(&mut model, &ids[24..25]);
    assert_eq!(model.draft(&[(seq, ids[25])], 3).unwrap()[0][0], want[24]);
    // A longer guess wrote keys of its own, which the truth replaces.
    feed(&mut model, &ids[25..32]);
    assert_eq!(model.draft(&[(seq, ids[32])], 1).unwrap(), [[want[31]]]);
    assert_eq!(model.draft(&[(seq, ids[32])], 1).unwrap(), [vec![0; 0]], "nothing new to guess from");
    feed(&mut model, &[9; 30]);
    let guesses = model.draft(&[(seq, 9)], 8).unwrap();
    assert_eq!(guesses[0].len(), 3, "room for 2 of 64 tokens, and a guess after them");
}

#[test]
fn a_model_without_a_draft_layer_guesses_nothing() {
    let fixture = fixtures::folder("tiny-qwen2");
    let mut model = bind_with(&fixture.path, Options { draft: true, ..Options::default() });
    let (seq, _) = logits_of(&mut model, &[1, 2, 3], 3, 8);
    assert_eq!(model.draft(&[(seq, 4)], 2).unwrap(), [vec![0; 0]]);
}
