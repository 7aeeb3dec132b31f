//! Stages that touch every value once: RMSNorm, residual add, SwiGLU.
#![expect(unsafe_code, reason = "vector loads and stores over chunks of exact length")]

use crate::level::Kernel;
use crate::simd::Simd;

/// RMSNorm of rows: out[i] = w[i] * x[i] / sqrt(mean(x^2) + eps).
///
/// `x`, `out`: [n_tokens, w.len()]. Sums in f32 lanes.
/// Source: Zhang & Sennrich 2019, arXiv:1910.07467.
pub(crate) struct RmsNorm<'a> {
    pub(crate) out: &'a mut [f32],
    pub(crate) x: &'a [f32],
    pub(crate) w: &'a [f32],
    pub(crate) eps: f32,
}

impl Kernel for RmsNorm<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { out, x, w, eps } = self;
        for (out, x) in out.chunks_exact_mut(w.len()).zip(x.chunks_exact(w.len())) {
            let mean = sum_of_squares(s, x) / w.len() as f32;
            let scale = (mean + eps).sqrt().recip();
            map2(s, out, x, w, |s, x, w| s.mul(s.mul(x, s.splat(scale)), w), |x, w| x * scale * w);
        }
    }
}

/// Residual: x[i] += y[i].
pub(crate) struct Add<'a> {
    pub(crate) x: &'a mut [f32],
    pub(crate) y: &'a [f32],
}

impl Kernel for Add<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        for (x, y) in self.x.iter_mut().zip(self.y) {
            *x += y;
        }
    }
}

/// SwiGLU: out[i] = silu(gate[i]) * up[i], silu(x) = x / (1 + e^-x).
///
/// Source: Shazeer 2020, arXiv:2002.05202.
pub(crate) struct SwiGlu<'a> {
    pub(crate) out: &'a mut [f32],
    pub(crate) gate: &'a [f32],
    pub(crate) up: &'a [f32],
}

impl Kernel for SwiGlu<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        map2(
            s,
            self.out,
            self.gate,
            self.up,
            |s, gate, up| {
                let e = s.exp(s.sub(s.splat(0.0), gate));
                s.mul(s.div(gate, s.add(s.splat(1.0), e)), up)
            },
            |gate, up| gate / (1.0 + (-gate).exp()) * up,
        );
    }
}

#[inline(always)]
fn sum_of_squares<S: Simd>(s: S, x: &[f32]) -> f32 {
    let chunks = x.chunks_exact(S::LANES);
    let tail: f32 = chunks.remainder().iter().map(|x| x * x).sum();
    let mut acc = s.splat(0.0);
    for chunk in chunks {
        // SAFETY: a chunk holds LANES floats.
        let x = unsafe { s.load(chunk.as_ptr()) };
        acc = s.fma(x, x, acc);
    }
    s.sum(acc) + tail
}

/// out[i] = f(a[i], b[i]): `vector` on whole vectors, `scalar` on the tail.
#[inline(always)]
fn map2<S: Simd>(
    s: S,
    out: &mut [f32],
    a: &[f32],
    b: &[f32],
    vector: impl Fn(S, S::F, S::F) -> S::F,
    scalar: impl Fn(f32, f32) -> f32,
) {
    let whole = out.len() - out.len() % S::LANES;
    let (out, out_tail) = out.split_at_mut(whole);
    let (a, a_tail) = a.split_at(whole);
    let (b, b_tail) = b.split_at(whole);
    let chunks = a.chunks_exact(S::LANES).zip(b.chunks_exact(S::LANES));
    for (out, (a, b)) in out.chunks_exact_mut(S::LANES).zip(chunks) {
        // SAFETY: all three chunks hold LANES floats.
        unsafe { s.store(out.as_mut_ptr(), vector(s, s.load(a.as_ptr()), s.load(b.as_ptr()))) };
    }
    for (out, (a, b)) in out_tail.iter_mut().zip(a_tail.iter().zip(b_tail)) {
        *out = scalar(*a, *b);
    }
}
