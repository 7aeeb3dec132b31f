//! Products in integers: quantised weights times activations quantised to 8 bits.
//!
//! Interleaved rows are multiplied by `lanes.rs`. Rows that lie one after another, as in a GGUF file, are read as they are
//! for a few tokens (`avx2.rs`, `avx512.rs`), and interleaved on the way for more.

mod avx2;
mod avx512;
mod format;
mod lanes;

use std::ops::Range;

use tensor::{DType, Layout};

use self::avx2::Format256;
use self::avx512::Format512;
use self::format::{Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0};
pub(crate) use self::lanes::{LanesTile, Scratch as LanesScratch, apart, supports, tile_rows};
use super::activations::{Activations, Token};
use super::{EXACT_ROWS, Job};
use crate::level::Isa;
use crate::simd::{Avx2, Avx512Vnni};

/// Rows of one job times all tokens.
pub(crate) struct RowsTile<'a> {
    pub(crate) job: &'a Job<'a>,
    pub(crate) rows: Range<usize>,
    pub(crate) x: &'a Activations,
}

/// True where rows are to be read as they lie: few tokens, each computed as it would be alone.
pub(crate) fn rows_as_they_lie(isa: Isa, job: &Job<'_>) -> bool {
    use DType::{Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0};
    let readable = matches!(job.weight.dtype(), Q4_0 | Q4_1 | Q5_0 | Q5_1 | Q8_0 | Q4K | Q5K | Q6K);
    let few = job.n_tokens() <= EXACT_ROWS && job.weight.layout() == Layout::Rows;
    few && readable && !matches!(isa, Isa::Scalar(_))
}

macro_rules! by_format {
    ($self:ident, $run:ident, $token:ident) => {
        match $self.job.weight.dtype() {
            DType::Q4_0 => $run::<Q4_0>($token, $self),
            DType::Q4_1 => $run::<Q4_1>($token, $self),
            DType::Q5_0 => $run::<Q5_0>($token, $self),
            DType::Q5_1 => $run::<Q5_1>($token, $self),
            DType::Q8_0 => $run::<Q8_0>($token, $self),
            DType::Q4K => $run::<Q4K>($token, $self),
            DType::Q5K => $run::<Q5K>($token, $self),
            DType::Q6K => $run::<Q6K>($token, $self),
            other => panic!("no integer kernel for {other}: asked of `rows_as_they_lie`"),
        }
    };
}

impl RowsTile<'_> {
    /// out[.., rows] <- x W^T.
    ///
    /// # Panics
    /// [`rows_as_they_lie`] says no: a programmer's error.
    pub(crate) fn run(self, isa: Isa) {
        match isa {
            Isa::Scalar(_) => panic!("no integer kernels without vectors: asked of `rows_as_they_lie`"),
            Isa::Avx2(token) => by_format!(self, run_avx2, token),
            Isa::Avx512(token) => by_format!(self, run_avx512, token),
            Isa::Amx(token) => Self::run(self, Isa::Avx512(token.vectors())),
        }
    }

    /// Calls `product` for every row and up to `N` tokens at a time.
    #[inline(always)]
    #[expect(unsafe_code, reason = "writes rows that belong to this tile")]
    fn rows_times<const N: usize>(
        &self,
        first: usize,
        product: impl Fn(*const u8, usize, &[Token; N]) -> [f32; N],
    ) {
        let tokens: [Token; N] = std::array::from_fn(|t| self.x.token(self.job.token(first + t)));
        let cols = self.job.weight.cols();
        for row in self.rows.clone() {
            let products = product(self.job.row(row), cols, &tokens);
            for (t, value) in products.into_iter().enumerate() {
                // SAFETY: the tile's rows are this worker's, the tokens are those of the activations.
                unsafe { self.job.set(first + t, row, value) };
            }
        }
    }
}

#[expect(unsafe_code, reason = "enables instructions that the token proves")]
fn run_avx2<F: Format256>(_: Avx2, tile: RowsTile<'_>) {
    #[target_feature(enable = "avx2,fma,f16c")]
    fn enabled<F: Format256>(tile: &RowsTile<'_>) {
        match tile.job.n_tokens() {
            // SAFETY: the row and the tokens have `n` values, checked when the job was made.
            1 => tile.rows_times::<1>(0, |w, n, x| unsafe { avx2::row::<F, 1>(w, n, x) }),
            // SAFETY: as above.
            2 => tile.rows_times::<2>(0, |w, n, x| unsafe { avx2::row::<F, 2>(w, n, x) }),
            // SAFETY: as above.
            3 => tile.rows_times::<3>(0, |w, n, x| unsafe { avx2::row::<F, 3>(w, n, x) }),
            // SAFETY: as above.
            _ => tile.rows_times::<4>(0, |w, n, x| unsafe { avx2::row::<F, 4>(w, n, x) }),
        }
    }
    // SAFETY: the token exists only where detection found the instructions.
    unsafe { enabled::<F>(&tile) }
}

#[expect(unsafe_code, reason = "enables instructions that the token proves")]
fn run_avx512<F: Format512>(_: Avx512Vnni, tile: RowsTile<'_>) {
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    fn enabled<F: Format512>(tile: &RowsTile<'_>) {
        const { assert!(EXACT_ROWS == 4, "a kernel for every number up to it") }
        match tile.job.n_tokens() {
            // SAFETY: the row and the tokens have `n` values, checked when the job was made.
            1 => tile.rows_times::<1>(0, |w, n, x| unsafe { avx512::row::<F, 1>(w, n, x) }),
            // SAFETY: as above.
            2 => tile.rows_times::<2>(0, |w, n, x| unsafe { avx512::row::<F, 2>(w, n, x) }),
            // SAFETY: as above.
            3 => tile.rows_times::<3>(0, |w, n, x| unsafe { avx512::row::<F, 3>(w, n, x) }),
            // SAFETY: as above.
            _ => tile.rows_times::<4>(0, |w, n, x| unsafe { avx512::row::<F, 4>(w, n, x) }),
        }
    }
    // SAFETY: the token exists only where detection found the instructions.
    unsafe { enabled::<F>(&tile) }
}
