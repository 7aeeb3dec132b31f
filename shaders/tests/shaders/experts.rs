//! Stages of a mixture of experts, and their twins.

use gpu::{Counts, ExpertLinear, Rows, WeightShape};
use shaders::{Format, Threads};
use tensor::reference::{self, Choice, Gating, Router};

use crate::card::{Card, agree, numbers};
use crate::twins::Weights;

const NOWHERE: u32 = u32::MAX;

fn words(choices: &[Choice]) -> Vec<u32> {
    choices.iter().flat_map(|choice| [choice.expert, choice.weight.to_bits()]).collect()
}

#[test]
fn route_by_either_rule_with_groups_and_bias() {
    let v3 = Router {
        gating: Gating::Sigmoid,
        top_k: 8,
        n_groups: 8,
        top_k_groups: 4,
        normalise: true,
        scale: 2.5,
    };
    let v2 = Router {
        gating: Gating::Softmax,
        top_k: 6,
        n_groups: 1,
        top_k_groups: 1,
        normalise: false,
        scale: 1.0,
    };
    let grouped = Router { n_groups: 4, top_k_groups: 2, top_k: 3, ..v2 };
    for (rule, n_experts, biased) in
        [(v3, 256, true), (v2, 66, false), (grouped, 40, false), (v3, 384, false)]
    {
        let n_tokens = 5;
        let logits: Vec<f32> = numbers(n_tokens * n_experts, 60).iter().map(|x| 3.0 * x).collect();
        let bias = biased.then(|| numbers(n_experts, 61));
        let mut card = Card::new();
        let (at, choices) = (card.floats(&logits), card.buffer(2 * n_tokens * rule.top_k));
        let bias_at = bias.as_ref().map(|bias| card.floats(bias));
        gpu::route(&mut card.recording, (&rule, n_experts), bias_at, (Rows::new(at, n_experts), choices));
        let counts = Counts { tokens: n_tokens as u32, ..Counts::default() };
        let got = card.run(counts, &[], choices, 2 * n_tokens * rule.top_k);
        for (t, got) in got.chunks_exact(2 * rule.top_k).enumerate() {
            let mut want = vec![Choice::default(); rule.top_k];
            let logits = &logits[t * n_experts..(t + 1) * n_experts];
            reference::route(&mut want, logits, bias.as_deref(), &rule);
            let experts: Vec<u32> = got.iter().step_by(2).map(|x| x.to_bits()).collect();
            assert_eq!(experts, want.iter().map(|c| c.expert).collect::<Vec<_>>(), "{rule:?} token {t}");
            let weights: Vec<f32> = got.iter().skip(1).step_by(2).copied().collect();
            agree("weights", &weights, &want.iter().map(|c| c.weight).collect::<Vec<_>>(), 1.0);
        }
    }
}

fn expert_linear_agrees(format: Format, gated: bool, splits: u32) {
    let dtype = format.dtype();
    let (rows, cols, top_k) =
        (if dtype == tensor::DType::F8E4M3 { 128 } else { 32 }, 3 * dtype.block_values().max(4), 2);
    let expert = |seed| (Weights::new(dtype, rows, cols, seed), Weights::new(dtype, rows, cols, seed + 1));
    let experts = [expert(70), expert(80)];
    // Of four experts, 3 and 1 lie on the card.
    let table = [NOWHERE, 1, NOWHERE, 0];
    let choices: Vec<Choice> = [3, 0, 1, 3].iter().map(|&expert| Choice { expert, weight: 0.5 }).collect();
    let n_x = if gated { 2 } else { 4 };
    let x = numbers(n_x * cols, 62);
    let before = numbers(4 * rows, 63);
    let mut card = Card::new();
    let parts = 1 + usize::from(gated);
    let weight = card.layout.weight(WeightShape { dtype, rows: 2 * rows, cols, parts });
    let (at, out) = (card.floats(&x), card.floats(&before));
    let job = ExpertLinear {
        weight: &weight,
        rows,
        n_experts: 4,
        top_k,
        table: card.words(&table),
        choices: card.words(&words(&choices)),
        by_token: gated,
        threads: Threads { quads: 4, splits },
    };
    gpu::expert_linear(&mut card.recording, job, Rows::new(at, cols), Rows::new(out, rows));
    let matrices: Vec<_> = experts.iter().map(|(gate, up)| [gate.matrix(), up.matrix()]).collect();
    let uploads: Vec<_> =
        matrices.iter().enumerate().map(|(i, m)| (&weight, i * rows, &m[..parts])).collect();
    let got = card.run_at(Counts { tokens: 2, ..Counts::default() }, &uploads, out, 4 * rows);
    let of = |i: usize| Some((matrices[i][0], gated.then_some(matrices[i][1])));
    let there = [None, of(1), None, of(0)];
    for (i, choice) in choices.iter().enumerate() {
        let mut want = before[i * rows..(i + 1) * rows].to_vec();
        let row = if gated { i / top_k } else { i };
        reference::expert_linear(&mut want, &there, *choice, &x[row * cols..(row + 1) * cols]);
        let scale = experts[0].0.norm() * experts[0].1.norm().max(1.0);
        agree(&format!("{dtype} choice {i}"), &got[i * rows..(i + 1) * rows], &want, scale);
    }
}

#[test]
fn expert_linear_in_every_format() {
    for format in Format::all() {
        expert_linear_agrees(format, true, 1);
        expert_linear_agrees(format, false, 4);
    }
}

#[test]
fn combine_sums_what_lies_on_the_card() {
    let (top_k, width, n_tokens) = (3, 76, 2);
    let rows = numbers(n_tokens * top_k * width, 64);
    let before = numbers(n_tokens * width, 65);
    let choices: Vec<Choice> = (0..n_tokens * top_k)
        .map(|i| Choice { expert: (i * 5 % 4) as u32, weight: 0.1 + i as f32 })
        .collect();
    let mut card = Card::new();
    let (table, choices_at) = (card.words(&[0, NOWHERE, 2, 1]), card.words(&words(&choices)));
    let (rows_at, out) = (card.floats(&rows), card.floats(&before));
    gpu::combine(&mut card.recording, (top_k, width), (table, choices_at), (rows_at, out));
    let got = card.run(Counts { tokens: 2, ..Counts::default() }, &[], out, n_tokens * width);
    for t in 0..n_tokens {
        let mut want = before[t * width..(t + 1) * width].to_vec();
        let of_token = t * top_k..(t + 1) * top_k;
        let rows = &rows[of_token.start * width..of_token.end * width];
        reference::combine(&mut want, rows, &choices[of_token], &[true, false, true, true]);
        agree("combine", &got[t * width..(t + 1) * width], &want, 10.0);
    }
}

#[test]
fn add_adds() {
    let (x, before) = (numbers(2 * 52, 66), numbers(2 * 52, 67));
    let mut card = Card::new();
    let (at, out) = (card.floats(&x), card.floats(&before));
    gpu::add(&mut card.recording, 52, at, out);
    let got = card.run(Counts { tokens: 2, ..Counts::default() }, &[], out, before.len());
    let mut want = before;
    reference::add(&mut want, &x);
    assert_eq!(got, want);
}
