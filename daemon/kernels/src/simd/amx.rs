//! Tiles of 16 rows of 64 bytes: AMX with 8-bit integers, beside AVX-512.
//!
//! Stable Rust has no intrinsics for them; the instructions are written out. Their registers are nobody else's: the compiler
//! never uses them.
#![expect(unsafe_code, reason = "instructions behind a token")]

use std::arch::asm;
use std::arch::x86_64::{__cpuid, __cpuid_count};
use std::sync::OnceLock;

use super::Avx512Vnni;

/// Rows of a tile.
pub(crate) const TILE: usize = 16;

/// Proof that the processor has AMX tiles of 8-bit integers and AVX-512, and that Linux lets this process use them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Amx {
    vectors: Avx512Vnni,
}

/// Shapes of tiles, as `ldtilecfg` reads them (Intel SDM, volume 1, section 18.2).
#[derive(Debug)]
#[repr(C, align(64))]
struct Shapes {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

impl Amx {
    /// The token, where the processor has the instructions and the system allows them.
    pub(crate) fn detect() -> Option<Self> {
        static ALLOWED: OnceLock<bool> = OnceLock::new();
        let vectors = Avx512Vnni::detect()?;
        ALLOWED.get_or_init(|| has_tiles() && may_use_tiles()).then_some(Self { vectors })
    }

    /// The vectors beside the tiles.
    pub(crate) fn vectors(self) -> Avx512Vnni {
        self.vectors
    }

    /// Gives this thread tiles for products over `k` values: see [`Tiles`].
    pub(crate) fn tiles(self, k: usize) -> Tiles {
        assert!(k.is_multiple_of(4) && k <= 64, "a tile's row holds at most 64 bytes, whole units of four");
        let mut shapes =
            Shapes { palette: 1, start_row: 0, reserved: [0; 14], row_bytes: [0; 16], rows: [0; 16] };
        let (sums, a, b) = ((64, TILE), (k, TILE), (64, k / 4));
        for (tile, (row_bytes, rows)) in [sums, a, b, sums, a, b, sums, sums].into_iter().enumerate() {
            shapes.row_bytes[tile] = row_bytes as u16;
            shapes.rows[tile] = rows as u8;
        }
        // SAFETY: the token proves the instruction; the shapes are ones it takes.
        unsafe {
            asm!("ldtilecfg [{}]", in(reg) &raw const shapes, options(readonly, nostack, preserves_flags))
        };
        Tiles { k }
    }
}

/// AMX-TILE and AMX-INT8: CPUID leaf 7, EDX bits 24 and 25 (Intel SDM, volume 2, CPUID).
fn has_tiles() -> bool {
    let wanted = 1 << 24 | 1 << 25;
    __cpuid(0).eax >= 7 && __cpuid_count(7, 0).edx & wanted == wanted
}

/// Asks Linux for the tiles' registers, which are too large to be saved for every process (arch_prctl(2),
/// ARCH_REQ_XCOMP_PERM of component 18, XTILEDATA). All threads have the leave of their process.
#[cfg(target_os = "linux")]
fn may_use_tiles() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_ulong = 0x1023;
    const XTILEDATA: libc::c_ulong = 18;
    // SAFETY: takes two numbers, and changes nothing but the leave.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XTILEDATA) == 0 }
}

/// Other systems have other ways to ask.
#[cfg(not(target_os = "linux"))]
fn may_use_tiles() -> bool {
    false
}

/// A thread's tiles, given back when dropped: while it has them, the system saves 8 KiB at every switch.
///
/// Not [`Send`]: shapes belong to a thread.
#[derive(Debug)]
pub(crate) struct Tiles {
    k: usize,
}

/// `sums <- A B`, and writes them: `A` in tile 1 or 4, `B` in the next, sums in the one before.
macro_rules! product {
    ($sums:literal, $a:literal, $b:literal, $operands:expr) => {{
        let Product { a, a_stride, b, sums } = $operands;
        // SAFETY: the caller's promise; nothing but `sums` is written.
        unsafe {
            asm!(
                concat!("tilezero ", $sums),
                concat!("tileloadd ", $a, ", [{a} + {a_stride}]"),
                concat!("tileloadd ", $b, ", [{b} + {line}]"),
                concat!("tdpbsud ", $sums, ", ", $a, ", ", $b),
                concat!("tilestored [{sums} + {line}], ", $sums),
                a = in(reg) a,
                a_stride = in(reg) a_stride,
                b = in(reg) b,
                sums = in(reg) sums,
                line = in(reg) 64_usize,
                options(nostack, preserves_flags),
            );
        }
    }};
}

/// Operands of a product of tiles, by pointer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Product {
    /// A: 16 rows of `k` signed bytes.
    pub(crate) a: *const i8,
    /// From one of its rows to the next.
    pub(crate) a_stride: usize,
    /// B: `k / 4` lines of 16 columns of four unsigned bytes.
    pub(crate) b: *const u8,
    /// A B: 16 rows of 16 integers.
    pub(crate) sums: *mut i32,
}

impl Tiles {
    /// sums <- A B. Two in turn, `odd` and not, use tiles of their own: the second need not wait for the first.
    ///
    /// # Safety
    /// The operands are as large as they say.
    #[inline(always)]
    pub(crate) unsafe fn multiply(&self, product: Product, odd: bool) {
        if odd {
            product!("tmm3", "tmm4", "tmm5", product);
        } else {
            product!("tmm0", "tmm1", "tmm2", product);
        }
    }

    /// As many products as fit into the registers, `rounds` times, of what was left there: for their speed alone.
    pub(crate) fn exercise(&self, rounds: usize) {
        assert_eq!(self.k, 64, "full tiles");
        for _ in 0..rounds {
            // SAFETY: tiles are configured; nothing but them is written.
            unsafe {
                asm!(
                    "tdpbsud tmm0, tmm1, tmm2",
                    "tdpbsud tmm3, tmm4, tmm2",
                    "tdpbsud tmm6, tmm1, tmm5",
                    "tdpbsud tmm7, tmm4, tmm5",
                    options(nomem, nostack, preserves_flags)
                );
            }
        }
    }

    /// Operations of a round of [`exercise`](Tiles::exercise).
    pub(crate) const EXERCISE_OPS: usize = 4 * 2 * TILE * TILE * 64;
}

impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: tiles are there, and nobody else's.
        unsafe { asm!("tilerelease", options(nomem, nostack, preserves_flags)) };
    }
}
