//! The stages around a mixture of experts: the choice, and the sum of what was chosen.

use tensor::reference::{self, Choice, Router};

use crate::Cpu;
use crate::level::Kernel;
use crate::simd::Simd;

impl Cpu {
    /// Chooses every token's experts. `logits`: [n_tokens, n_experts], `choices`: [n_tokens, top_k].
    ///
    /// # Panics
    /// Lengths differ: a programmer's error.
    pub fn route(
        &mut self,
        choices: &mut [Choice],
        logits: &[f32],
        n_experts: usize,
        bias: Option<&[f32]>,
        router: &Router,
    ) {
        assert_eq!(choices.len() * n_experts, logits.len() * router.top_k, "top_k choices a token");
        self.pool.for_each_slice(choices, router.top_k, |range, choices| {
            let first = range.start / router.top_k;
            let rows = logits.chunks_exact(n_experts).skip(first);
            for (choices, logits) in choices.chunks_exact_mut(router.top_k).zip(rows) {
                reference::route(choices, logits, bias, router);
            }
        });
    }

    /// The mixture: out[t] += sum_k choices[t, k].weight * rows[places[t, k]], in the order of the choices, whatever the
    /// order the experts were computed in.
    ///
    /// `out`: [n_tokens, width], `rows`: [any number, width], `choices`, `places`: [n_tokens, top_k].
    ///
    /// # Panics
    /// Lengths differ, or a place is no row: a programmer's error.
    pub fn combine(
        &mut self,
        out: &mut [f32],
        width: usize,
        rows: &[f32],
        choices: &[Choice],
        places: &[u32],
    ) {
        let n_tokens = out.len() / width;
        assert!(out.len() == n_tokens * width && choices.len() == places.len(), "a place for every choice");
        let top_k = choices.len() / n_tokens.max(1);
        self.by_rows(out, width, |range, out| {
            let (first, n) = (range.start / width * top_k, out.len() / width * top_k);
            let (choices, places) = (&choices[first..first + n], &places[first..first + n]);
            Combine { out, width, rows, choices, places, top_k }
        });
    }
}

struct Combine<'a> {
    out: &'a mut [f32],
    width: usize,
    rows: &'a [f32],
    choices: &'a [Choice],
    places: &'a [u32],
    top_k: usize,
}

impl Kernel for Combine<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Self { out, width, rows, choices, places, top_k } = self;
        let chosen = choices.chunks_exact(top_k).zip(places.chunks_exact(top_k));
        for (out, (choices, places)) in out.chunks_exact_mut(width).zip(chosen) {
            for (choice, place) in choices.iter().zip(places) {
                let row = &rows[*place as usize * width..][..width];
                for (out, value) in out.iter_mut().zip(row) {
                    *out += choice.weight * value;
                }
            }
        }
    }
}
