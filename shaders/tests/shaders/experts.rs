//! Stages of a mixture of experts, and their twins.

use gpu::{Binding, Chosen, Counts, ExpertLinear, Extent, Quantised, Rows, Tiles, WeightShape};
use shaders::{Format, TILE_TOKENS, Threads};
use tensor::reference::{self, Choice, Gating, Router};

use crate::card::{Card, agree, numbers};
use crate::twins::{Weights, precision_of, rounded};

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

/// How a case of `expert_linear` runs.
#[derive(Clone, Copy, Debug)]
struct Case {
    gated: bool,
    splits: u32,
    tiled: bool,
    fast: bool,
    gate_then_up: bool,
}

fn expert_linear_agrees(format: Format, case: Case) {
    let Case { gated, splits, tiled, fast, gate_then_up } = case;
    let dtype = format.dtype();
    let (rows, cols, top_k) = (
        if dtype == tensor::DType::F8E4M3 { 128 } else { 32 },
        3 * dtype.block_values().max(if fast { 32 } else { 4 }),
        2,
    );
    let expert = |seed| (Weights::new(dtype, rows, cols, seed), Weights::new(dtype, rows, cols, seed + 1));
    let experts = [expert(70), expert(80)];
    // Of four experts, 3 and 1 lie on the card; 3 has more choices than a tile.
    let table = [NOWHERE, 1, NOWHERE, 0];
    let chosen = [3, 0, 1, 3, 3, 1, 2, 3, 3, 0, 3, 1, 3, 2, 3, 0, 3, 1, 3, 2];
    let choices = chosen.map(|expert| Choice { expert, weight: 0.5 });
    let (n, n_tokens) = (chosen.len(), chosen.len() / top_k);
    let n_x = if gated { n_tokens } else { n };
    let mut x = numbers(n_x * cols, 62);
    if fast && format.has_codes() {
        // What the stage's own quantising leaves as it is.
        x = rounded(&x);
    }
    let before = numbers(n * rows, 63);
    let mut card = Card::new();
    let parts = 1 + usize::from(gated);
    let shape = match gate_then_up {
        true => WeightShape { dtype, rows: 2 * parts * rows, cols, parts: 1 },
        false => WeightShape { dtype, rows: 2 * rows, cols, parts },
    };
    let weight = card.layout.weight(shape);
    let (at, out) = (card.floats(&x), card.floats(&before));
    let choices_at = card.words(&words(&choices));
    let tiles = Tiles { order: card.buffer(n), tiles: card.buffer(4 * n) };
    let codes = card.buffer((n_x * cols).div_ceil(2));
    let quantised = Quantised { codes, factors: card.buffer((n_x * cols).div_ceil(8)), f16: true };
    if tiled {
        gpu::sort_choices(&mut card.recording, top_k, 4, choices_at, tiles);
    }
    let job = ExpertLinear {
        weight: &weight,
        rows,
        gate_then_up,
        n_experts: 4,
        top_k,
        table: card.words(&table),
        chosen: if tiled { Chosen::Tiles(tiles) } else { Chosen::Each(choices_at) },
        by_token: gated,
        quantised: fast.then_some(quantised),
        threads: Threads { quads: 4, splits },
    };
    gpu::expert_linear(&mut card.recording, job, Rows::new(at, cols), Rows::new(out, rows));
    let matrices: Vec<_> = experts.iter().map(|(gate, up)| [gate.matrix(), up.matrix()]).collect();
    let uploads: Vec<_> = match gate_then_up {
        true => {
            let all = matrices.iter().flatten().enumerate();
            all.map(|(i, m)| (&weight, i * rows, std::slice::from_ref(m))).collect()
        }
        false => matrices.iter().enumerate().map(|(i, m)| (&weight, i * rows, &m[..parts])).collect(),
    };
    let counts = Counts { tokens: n_tokens as u32, ..Counts::default() };
    let got = card.run_at(counts, &uploads, out, n * rows);
    let of = |i: usize| Some((matrices[i][0], gated.then_some(matrices[i][1])));
    let there = [None, of(1), None, of(0)];
    for (i, choice) in choices.iter().enumerate() {
        let mut want = before[i * rows..(i + 1) * rows].to_vec();
        let row = if gated { i / top_k } else { i };
        reference::expert_linear(&mut want, &there, *choice, &x[row * cols..(row + 1) * cols]);
        let scale = experts[0].0.norm() * experts[0].1.norm().max(1.0) * precision_of(format, fast);
        agree(&format!("{dtype} {case:?} choice {i}"), &got[i * rows..(i + 1) * rows], &want, scale);
    }
}

#[test]
fn expert_linear_in_every_format() {
    let plain = Case { gated: false, splits: 1, tiled: false, fast: false, gate_then_up: false };
    for format in Format::all() {
        expert_linear_agrees(format, Case { gated: true, ..plain });
        expert_linear_agrees(format, Case { splits: 4, ..plain });
        expert_linear_agrees(
            format,
            Case { tiled: true, gated: true, splits: 4, gate_then_up: true, ..plain },
        );
        if format.fast(true).is_some() {
            expert_linear_agrees(format, Case { tiled: true, fast: true, gated: true, ..plain });
            expert_linear_agrees(format, Case { tiled: true, fast: true, splits: 4, ..plain });
        }
    }
}

#[test]
fn sort_choices_by_expert_and_in_tiles() {
    for (n_tokens, top_k, n_experts) in [(1, 1, 3), (37, 6, 64), (5, 8, 384), (300, 2, 4)] {
        let n = n_tokens * top_k;
        let chosen: Vec<u32> =
            numbers(n, 68).iter().map(|x| ((x + 1.0) * 0.5 * n_experts as f32) as u32 % n_experts).collect();
        let choices: Vec<Choice> = chosen.iter().map(|&expert| Choice { expert, weight: 1.0 }).collect();
        let counts = Counts { tokens: n_tokens as u32, ..Counts::default() };
        let extent = Extent::ExpertTiles { top_k: top_k as u32, n_experts };
        let n_tiles = counts.grid([extent; 3])[0] as usize;
        let run = |which: fn(Tiles) -> Binding, len: usize| {
            let mut card = Card::new();
            let at = card.words(&words(&choices));
            // What was there before does not count as tiles.
            let tiles = Tiles { order: card.buffer(n), tiles: card.words(&vec![7; 4 * n_tiles]) };
            gpu::sort_choices(&mut card.recording, top_k, n_experts as usize, at, tiles);
            let got = card.run(counts, &[], which(tiles), len);
            got.iter().map(|x| x.to_bits()).collect::<Vec<u32>>()
        };
        let mut order = run(|tiles| tiles.order, n);
        let tiles = run(|tiles| tiles.tiles, 4 * n_tiles);
        let (want_order, want_tiles) = reference::sort_choices(&chosen, TILE_TOKENS as usize);
        let tiles: Vec<_> = tiles.chunks_exact(4).map(|t| (t[0], t[1], t[2])).collect();
        assert_eq!(tiles[..want_tiles.len()], want_tiles);
        assert!(tiles[want_tiles.len()..].iter().all(|tile| tile.2 == 0), "the rest is empty");
        order.sort_by_key(|&i| (chosen[i as usize], i));
        assert_eq!(order, want_order);
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
