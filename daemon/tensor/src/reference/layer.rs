//! Stages of a layer as a graphics card computes them: a dispatch each.

use super::{Choice, mat_vec, silu};
use crate::Matrix;

/// y = W x + b for one token: out[r] = b[r] + sum_c W[r, c] x[c]; with `up`, out[r] = silu((W x)[r]) * (W_up x)[r].
///
/// `w`, `up`: [rows, cols]; `x`: [cols]; `bias`, `out`: [rows].
///
/// # Panics
/// Lengths don't fit: a programmer's error.
pub fn linear(out: &mut [f32], w: &Matrix<'_>, up: Option<&Matrix<'_>>, bias: Option<&[f32]>, x: &[f32]) {
    mat_vec(out, w, x);
    if let Some(up) = up {
        let gate = out.to_vec();
        mat_vec(out, up, x);
        out.iter_mut().zip(gate).for_each(|(out, gate)| *out *= silu(gate));
    }
    for (out, bias) in out.iter_mut().zip(bias.unwrap_or_default()) {
        *out += bias;
    }
}

/// Writes a token's keys (or values) to a cache of blocks of 32 tokens.
///
/// ```text
/// cache: [blocks][heads][width / 4][32 tokens][4 values]
/// ```
/// `x`: [heads, width]; `slot`: block * 32 + place in the block.
///
/// # Panics
/// Lengths don't fit: a programmer's error.
pub fn kv_write(cache: &mut [f32], x: &[f32], slot: usize) {
    let (block, place) = (slot / 32, slot % 32);
    for (i, four) in x.chunks_exact(4).enumerate() {
        let at = ((block * x.len() / 4 + i) * 32 + place) * 4;
        cache[at..at + 4].copy_from_slice(four);
    }
}

/// Joins attention over parts of the past: each with the maximum of its scores, the sum of their exponentials over it, and the
/// values weighted by these.
///
/// ```text
/// out = sum_s e^(max_s - max) values_s / sum_s e^(max_s - max) sum_s
/// ```
/// Source: Dao et al. 2023, "Flash-Decoding for long-context inference".
///
/// # Panics
/// Lengths differ: a programmer's error.
pub fn attention_combine(out: &mut [f32], parts: &[(f32, f32, &[f32])]) {
    let most = parts.iter().map(|part| part.0).fold(f32::NEG_INFINITY, f32::max);
    let factor = |max: f32| f64::from(max - most).exp();
    let sum: f64 = parts.iter().map(|&(max, sum, _)| factor(max) * f64::from(sum)).sum();
    for (i, out) in out.iter_mut().enumerate() {
        let value: f64 = parts.iter().map(|&(max, _, values)| factor(max) * f64::from(values[i])).sum();
        *out = (value / sum) as f32;
    }
}

/// Residual: out[i] += x[i].
///
/// # Panics
/// Lengths differ: a programmer's error.
pub fn add(out: &mut [f32], x: &[f32]) {
    assert_eq!(out.len(), x.len(), "lengths of out and x");
    out.iter_mut().zip(x).for_each(|(out, x)| *out += x);
}

/// [`linear`] of a choice's expert, one of the `experts` that are there; nothing changes where it is not.
///
/// `experts`: of each expert, its matrix, or gate and up; `x`: [cols]; `out`: [rows].
///
/// # Panics
/// Lengths don't fit, or there is no such expert: a programmer's error.
pub fn expert_linear(
    out: &mut [f32],
    experts: &[Option<(Matrix<'_>, Option<Matrix<'_>>)>],
    choice: Choice,
    x: &[f32],
) {
    if let Some((w, up)) = &experts[choice.expert as usize] {
        linear(out, w, up.as_ref(), None, x);
    }
}

/// out += sum over the choices whose expert is there: weight rows[choice], in order.
///
/// `rows`: [top_k, width]; `choices`: [top_k]; `there`: [n_experts]; `out`: [width].
///
/// # Panics
/// Lengths don't fit: a programmer's error.
pub fn combine(out: &mut [f32], rows: &[f32], choices: &[Choice], there: &[bool]) {
    for (row, choice) in rows.chunks_exact(out.len()).zip(choices) {
        if there[choice.expert as usize] {
            out.iter_mut().zip(row).for_each(|(out, x)| *out += choice.weight * x);
        }
    }
}

/// Choices by expert: their numbers, expert after expert, and tiles of up to `tile` of one expert's: (expert, place of its first
/// in the order, how many).
///
/// `experts`: of each choice, its expert.
pub fn sort_choices(experts: &[u32], tile: usize) -> (Vec<u32>, Vec<(u32, u32, u32)>) {
    let mut order: Vec<u32> = (0..experts.len() as u32).collect();
    order.sort_by_key(|&i| experts[i as usize]);
    let mut tiles = Vec::new();
    for its in order.chunk_by(|&a, &b| experts[a as usize] == experts[b as usize]) {
        for its in its.chunks(tile) {
            let first = tiles.last().map_or(0, |&(_, first, n)| first + n);
            tiles.push((experts[its[0] as usize], first, its.len() as u32));
        }
    }
    (order, tiles)
}
