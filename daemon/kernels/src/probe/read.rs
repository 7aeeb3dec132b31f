//! Memory read as fast as it comes.
#![expect(unsafe_code, reason = "vector loads follow a pointer")]

use crate::level::Kernel;
use crate::linear::PREFETCH_BYTES;
use crate::simd::Simd;

/// Vectors that are read together, each into a result of its own: no load waits for the one before.
const TOGETHER: usize = 4;
/// Floats of a cache line.
const LINE: usize = 16;

/// The largest value, 0 at least: the cheapest computation that needs them all.
pub(super) struct Largest<'a> {
    pub(super) of: &'a [f32],
}

impl Kernel for Largest<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        let mut largest = [s.splat(0.0); TOGETHER];
        let chunks = self.of.chunks_exact(TOGETHER * S::LANES);
        let rest = chunks.remainder().iter().fold(0.0, |a: f32, b| a.max(*b));
        for chunk in chunks {
            let ahead = chunk.as_ptr().wrapping_byte_add(PREFETCH_BYTES);
            (0..chunk.len()).step_by(LINE).for_each(|line| s.prefetch(ahead.wrapping_add(line).cast()));
            for (vector, largest) in chunk.chunks_exact(S::LANES).zip(&mut largest) {
                // SAFETY: the vector has so many floats.
                *largest = s.max(*largest, unsafe { s.load(vector.as_ptr()) });
            }
        }
        largest.into_iter().fold(rest, |a, b| a.max(s.largest(b)))
    }
}
