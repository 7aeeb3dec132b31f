//! The stages around latent attention: the cache's rows, and parts of heads.

use crate::elementwise::RmsNorm;
use crate::{Cpu, RopeTable};

impl Cpu {
    /// Latent rows as the KV cache holds them: [RMSNorm of the first w.len() values | the others, rotated].
    ///
    /// `x`, `out`: [n_tokens, w.len() + table.dim()].
    ///
    /// # Panics
    /// Lengths differ: a programmer's error.
    pub fn latent_rows(
        &mut self,
        out: &mut [f32],
        x: &[f32],
        w: &[f32],
        eps: f32,
        table: &RopeTable,
        positions: &[u32],
    ) {
        let width = w.len() + table.dim();
        assert!(
            out.len() == x.len() && x.len() == positions.len() * width,
            "x is [n_tokens, rank + rope_dim]"
        );
        let isa = self.isa;
        self.over_rows(out, width, |range, out| {
            let rows = x[range.clone()].chunks_exact(width).zip(&positions[range.start / width..]);
            for (out, (x, position)) in out.chunks_exact_mut(width).zip(rows) {
                let (latent, rope) = out.split_at_mut(w.len());
                isa.run(RmsNorm { out: latent, x: &x[..w.len()], w, eps });
                rope.copy_from_slice(&x[w.len()..]);
                table.rotate(rope, table.dim(), 0..table.dim(), *position);
            }
        });
    }

    /// Copies the last `n` values of every head: out[.., h, out_width - n ..] <- x[.., h, x_width - n ..].
    ///
    /// `x`: [n_heads_in_all, x_width], `out`: [n_heads_in_all, out_width].
    ///
    /// # Panics
    /// Lengths differ: a programmer's error.
    pub fn copy_tails(
        &mut self,
        (out, out_width): (&mut [f32], usize),
        (x, x_width): (&[f32], usize),
        n: usize,
    ) {
        assert_eq!(out.len() / out_width, x.len() / x_width, "as many heads");
        self.over_rows(out, out_width, |range, out| {
            let rows = x.chunks_exact(x_width).skip(range.start / out_width);
            for (out, x) in out.chunks_exact_mut(out_width).zip(rows) {
                out[out_width - n..].copy_from_slice(&x[x_width - n..]);
            }
        });
    }
}
