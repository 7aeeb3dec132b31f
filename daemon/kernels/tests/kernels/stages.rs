//! The stages that touch every value once, against the reference.

use crate::inputs::{Rng, cpus};
use kernels::{Choice, Precision, RopePairs, RopeTable};
use proptest::prelude::*;
use tensor::{DType, Matrix, reference};

/// Asserts that every value is within `relative` of the one wanted, or `absolute`.
fn assert_near(got: &[f32], want: &[f32], relative: f32, absolute: f32) -> Result<(), TestCaseError> {
    prop_assert_eq!(got.len(), want.len());
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        prop_assert!(
            (got - want).abs() <= relative * want.abs() + absolute,
            "value {}: {}, want {}",
            i,
            got,
            want
        );
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Lengths up to above the point where rows are shared among threads; starts are unaligned.
    #[test]
    fn rms_norm_matches(width in 1_usize..700, n_tokens in prop::sample::select(&[1_usize, 2, 60][..]), seed: u64) {
        let mut rng = Rng(seed);
        let (x, w) = (rng.floats(n_tokens * width + 1), rng.floats(width));
        let mut want = vec![0.0; n_tokens * width];
        for (want, x) in want.chunks_exact_mut(width).zip(x[1..].chunks_exact(width)) {
            reference::rms_norm(want, x, &w, 1e-5);
        }
        for cpu in &mut cpus(Precision::F32) {
            let mut got = vec![f32::NAN; want.len()];
            cpu.rms_norm(&mut got, &x[1..], &w, 1e-5);
            // The mean is off by at most width u, its root by half.
            assert_near(&got, &want, width as f32 / (1 << 25) as f32 + 4e-7, 0.0)?;
        }
    }

    #[test]
    fn swiglu_matches(n in prop::sample::select(&[1_usize, 7, 16, 33, 1536, 40_001][..]), spread in 0.1_f32..120.0, seed: u64) {
        let mut rng = Rng(seed);
        let gate: Vec<f32> = rng.floats(n).iter().map(|x| x * spread).collect();
        let up = rng.floats(n);
        let mut want = vec![0.0; n];
        reference::swiglu(&mut want, &gate, &up);
        for cpu in &mut cpus(Precision::F32) {
            let mut got = vec![f32::NAN; n];
            cpu.swiglu(&mut got, &gate, &up);
            // Below e^-88 the kernel's exponential saturates.
            assert_near(&got, &want, 1e-6, 1e-36)?;
        }
    }

    #[test]
    fn add_matches(n in prop::sample::select(&[1_usize, 31, 576, 50_000][..]), seed: u64) {
        let mut rng = Rng(seed);
        let (x, y) = (rng.floats(n), rng.floats(n));
        let want: Vec<f32> = x.iter().zip(&y).map(|(x, y)| x + y).collect();
        for cpu in &mut cpus(Precision::Fast) {
            let mut got = x.clone();
            cpu.add(&mut got, &y);
            prop_assert_eq!(&got, &want);
        }
    }

    #[test]
    fn rope_matches_near_and_far(
        half in 1_usize..40,
        kept in 0_usize..5,
        n_heads in 1_usize..9,
        first in prop::sample::select(&[0_u32, 250, 8000, 1 << 20, u32::MAX - 40][..]),
        n_tokens in prop::sample::select(&[1_usize, 3, 40][..]),
        interleaved: bool,
        seed: u64,
    ) {
        let pairs = if interleaved { RopePairs::Interleaved } else { RopePairs::Halves };
        let (dim, head_dim) = (2 * half, 2 * half + kept);
        let freqs = reference::rope_frequencies(1e4, dim);
        let table = RopeTable::new(&freqs, 1.25, pairs);
        let x = Rng(seed).floats(n_tokens * n_heads * head_dim);
        let positions: Vec<u32> = (first..first + n_tokens as u32).collect();
        let mut want = x.clone();
        for (x, position) in want.chunks_exact_mut(n_heads * head_dim).zip(&positions) {
            for head in x.chunks_exact_mut(head_dim) {
                reference::rope(head, *position as usize, &freqs, 1.25, pairs);
            }
        }
        for cpu in &mut cpus(Precision::F32) {
            let mut got = x.clone();
            cpu.rope(&mut got, n_heads, (head_dim, 0), &table, &positions);
            assert_near(&got, &want, 0.0, 1e-6)?;
        }
    }
}

#[test]
fn embed_picks_rows() {
    let bytes = Rng(5).weights(DType::Q8_0, 100 * 64);
    let table = Matrix::new(DType::Q8_0, 100, 64, &bytes).expect("whole blocks");
    let ids: Vec<u32> = (0..400).map(|i| i * 7 % 100).collect();
    let mut want = vec![0.0; ids.len() * 64];
    for (want, id) in want.chunks_exact_mut(64).zip(&ids) {
        reference::embedding(want, &table, *id as usize);
    }
    for cpu in &mut cpus(Precision::Fast) {
        let mut got = vec![f32::NAN; want.len()];
        cpu.embed(&mut got, &table, &ids);
        assert_eq!(got, want);
    }
}

#[test]
fn a_mixture_is_summed_in_the_order_of_the_choices() {
    let mut rng = Rng(5);
    let (width, n_tokens, top_k) = (37, 9, 3);
    let rows = rng.floats(n_tokens * top_k * width);
    let base = rng.floats(n_tokens * width);
    let choices: Vec<Choice> =
        (0..n_tokens * top_k).map(|i| Choice { expert: i as u32, weight: rng.float() }).collect();
    let places: Vec<u32> = (0..n_tokens * top_k).rev().map(|i| i as u32).collect();
    for cpu in &mut cpus(Precision::F32) {
        let mut got = base.clone();
        cpu.combine(&mut got, width, &rows, &choices, &places);
        for (i, (got, base)) in got.iter().zip(&base).enumerate() {
            let (token, col) = (i / width, i % width);
            let mut want = *base;
            for k in token * top_k..(token + 1) * top_k {
                want += choices[k].weight * rows[places[k] as usize * width + col];
            }
            assert!((got - want).abs() <= 1e-6, "{got}, want {want}");
        }
    }
}

#[test]
fn latent_rows_are_normed_and_rotated() {
    let mut rng = Rng(6);
    let (rank, n_tokens) = (40, 7);
    let freqs = reference::rope_frequencies(1e4, 16);
    let table = RopeTable::new(&freqs, 1.1, RopePairs::Interleaved);
    let (x, w) = (rng.floats(n_tokens * (rank + 16)), rng.floats(rank));
    let positions: Vec<u32> = (0..n_tokens as u32).map(|i| i * 31).collect();
    for cpu in &mut cpus(Precision::F32) {
        let mut got = vec![f32::NAN; x.len()];
        cpu.latent_rows(&mut got, &x, &w, 1e-6, &table, &positions);
        for ((got, x), position) in got.chunks(rank + 16).zip(x.chunks(rank + 16)).zip(&positions) {
            let mut want = vec![0.0; rank];
            reference::rms_norm(&mut want, &x[..rank], &w, 1e-6);
            want.extend_from_slice(&x[rank..]);
            reference::rope(&mut want[rank..], *position as usize, &freqs, 1.1, RopePairs::Interleaved);
            assert!(got.iter().zip(&want).all(|(g, w)| (g - w).abs() <= 1e-5), "{got:?}, want {want:?}");
        }
        let mut tails = vec![f32::NAN; n_tokens * 20];
        cpu.copy_tails((&mut tails, 20), (&x, rank + 16), 16);
        for (tail, x) in tails.chunks(20).zip(x.chunks(rank + 16)) {
            assert!(tail[..4].iter().all(|value| value.is_nan()));
            assert_eq!(tail[4..], x[rank..]);
        }
    }
}
