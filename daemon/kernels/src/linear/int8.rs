//! Products in integers: quantised weights times activations quantised to 8 bits.

mod avx2;
mod avx512;
mod format;
mod panel;

use std::ops::Range;

use tensor::DType;

use self::avx2::Format256;
use self::avx512::Format512;
use self::format::{Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0};
pub(crate) use self::panel::{PANEL_ROWS, Panel};
use super::activations::{Activations, Token};
use super::{EXACT_ROWS, Job};
use crate::level::Isa;
use crate::simd::{Avx2, Avx512Vnni};

/// Tokens from which unpacking rows into a panel pays: SmolLM2 decoded 3, 4, 6 and 8 sequences at 93, 119, 155 and 193 tok/s
/// with panels, at 96, 135, 135 and 150 without.
const PANEL_TOKENS: usize = EXACT_ROWS + 1;
/// Bytes of panels a tile should not exceed: half of a core's L2 cache.
const PANELS_BYTES: usize = 1 << 20;

/// Rows of one job times all tokens.
pub(crate) struct Int8Tile<'a> {
    pub(crate) job: &'a Job<'a>,
    pub(crate) rows: Range<usize>,
    pub(crate) x: &'a Activations,
    pub(crate) panels: &'a mut Vec<Panel>,
}

/// True where there is an integer kernel for this type of weights.
pub(crate) fn supports(isa: Isa, dtype: DType) -> bool {
    use DType::{Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0};
    !matches!(isa, Isa::Scalar(_)) && matches!(dtype, Q4_0 | Q4_1 | Q5_0 | Q5_1 | Q8_0 | Q4K | Q5K | Q6K)
}

/// Rows of as many panels as fit the cache, where panels are used: tiles are best made of whole ones.
pub(crate) fn panel_rows(isa: Isa, cols: usize, n_tokens: usize) -> Option<usize> {
    let panels = matches!(isa, Isa::Avx512(_)) && n_tokens >= PANEL_TOKENS;
    panels.then(|| (PANELS_BYTES / Panel::bytes(cols)).max(1) * PANEL_ROWS)
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
            other => panic!("no integer kernel for {other}: asked of `supports`"),
        }
    };
}

impl Int8Tile<'_> {
    /// out[.., rows] <- x W^T.
    ///
    /// # Panics
    /// [`supports`] denies the type: a programmer's error.
    pub(crate) fn run(self, isa: Isa) {
        match isa {
            Isa::Scalar(_) => panic!("no integer kernels without vectors: asked of `supports`"),
            Isa::Avx2(token) => by_format!(self, run_avx2, token),
            Isa::Avx512(token) => by_format!(self, run_avx512, token),
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
fn run_avx2<F: Format256>(_: Avx2, tile: Int8Tile<'_>) {
    #[target_feature(enable = "avx2,fma,f16c")]
    fn enabled<F: Format256>(tile: &Int8Tile<'_>) {
        let mut token = 0;
        while token + 4 <= tile.job.n_tokens() {
            // SAFETY: the row and the tokens have `n` values, checked when the job was made.
            tile.rows_times::<4>(token, |w, n, x| unsafe { avx2::row::<F, 4>(w, n, x) });
            token += 4;
        }
        while token < tile.job.n_tokens() {
            // SAFETY: as above.
            tile.rows_times::<1>(token, |w, n, x| unsafe { avx2::row::<F, 1>(w, n, x) });
            token += 1;
        }
    }
    // SAFETY: the token exists only where detection found the instructions.
    unsafe { enabled::<F>(&tile) }
}

#[expect(unsafe_code, reason = "enables instructions that the token proves")]
fn run_avx512<F: Format512>(_: Avx512Vnni, tile: Int8Tile<'_>) {
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    fn enabled<F: Format512>(tile: Int8Tile<'_>) {
        const { assert!(PANEL_TOKENS == 5, "a kernel for every smaller number") }
        match tile.job.n_tokens() {
            // SAFETY: the row and the tokens have `n` values, checked when the job was made.
            1 => tile.rows_times::<1>(0, |w, n, x| unsafe { avx512::row::<F, 1>(w, n, x) }),
            // SAFETY: as above.
            2 => tile.rows_times::<2>(0, |w, n, x| unsafe { avx512::row::<F, 2>(w, n, x) }),
            // SAFETY: as above.
            3 => tile.rows_times::<3>(0, |w, n, x| unsafe { avx512::row::<F, 3>(w, n, x) }),
            // SAFETY: as above.
            4 => tile.rows_times::<4>(0, |w, n, x| unsafe { avx512::row::<F, 4>(w, n, x) }),
            _ => panels::<F>(tile),
        }
    }
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    fn panels<F: Format512>(tile: Int8Tile<'_>) {
        let Int8Tile { job, rows, x, panels } = tile;
        let n_tokens = job.n_tokens();
        let rows_of = |panel: usize| {
            let start = rows.start + panel * PANEL_ROWS;
            start..rows.end.min(start + PANEL_ROWS)
        };
        let n_panels = rows.len().div_ceil(PANEL_ROWS);
        if panels.len() < n_panels {
            panels.resize_with(n_panels, Panel::default);
        }
        for (i, panel) in panels[..n_panels].iter_mut().enumerate() {
            // SAFETY: the instructions are enabled, and `F` is the matrix's format.
            unsafe { panel.unpack::<F>(job, rows_of(i)) };
        }
        for start in (0..n_tokens).step_by(TOKENS_A_SWEEP) {
            let tokens = start..n_tokens.min(start + TOKENS_A_SWEEP);
            for (i, panel) in panels[..n_panels].iter().enumerate() {
                // SAFETY: the instructions are enabled; these rows were just unpacked, and are this tile's.
                unsafe { panel.times(job, rows_of(i), x, tokens.clone()) };
            }
        }
    }
    // SAFETY: the token exists only where detection found the instructions.
    unsafe { enabled::<F>(tile) }
}

/// Tokens that all panels of a tile use before the next: their activations stay in the first-level cache.
const TOKENS_A_SWEEP: usize = 12;
