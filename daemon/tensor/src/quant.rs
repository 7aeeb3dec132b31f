//! Scalar decoders of every stored format: the truth that faster kernels are checked against.
//!
//! Each format is a `#[repr(C)]` struct of byte arrays: its fields are the bytes of one block in order, its
//! alignment is 1, so that `bytemuck::cast_slice` turns a row into blocks. All numbers are little-endian. The
//! layouts are GGML's (`ggml-common.h`, llama.cpp, MIT); the values agree bit for bit with its C code and
//! with the `gguf` Python package.
//!
//! | file | formats |
//! | --- | --- |
//! | `float.rs` | F16, BF16, FP8 E4M3 |
//! | `legacy.rs` | 32 values with a scale: Q4_0, Q4_1, Q5_0, Q5_1, Q8_0 |
//! | `k.rs` | 256 values with quantised sub-block scales: Q2_K to Q6_K |
//! | `iq4.rs` | a non-linear table: IQ4_NL, IQ4_XS |
//! | `iq3.rs`, `iq2.rs`, `iq1.rs` | points of a grid: IQ3_*, IQ2_*, IQ1_*; the points in [`grids`] |
//! | `ternary.rs` | TQ1_0, TQ2_0 |
//! | `mxfp4.rs` | MXFP4 |
//!
//! Start reading at [`dequantize`], then [`packed_code`], the order in which nearly every format is packed.

mod float;
pub mod grids;
mod iq1;
mod iq2;
mod iq3;
mod iq4;
mod k;
mod legacy;
mod mxfp4;
mod ternary;

use bytemuck::Pod;

use crate::DType;

pub use float::{bf16_to_f32, e4m3_to_f32, f16_to_f32};
pub use iq1::{IQ1M, IQ1S};
pub use iq2::{IQ2S, IQ2XS, IQ2XXS};
pub use iq3::{IQ3S, IQ3XXS};
pub use iq4::{IQ4_VALUES, IQ4NL, IQ4XS};
pub use k::{Q2K, Q3K, Q4K, Q5K, Q6K, k_scales};
pub use legacy::{Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, quantise_q8_0};
pub use mxfp4::{E2M1_DOUBLED, MXFP4, e8m0_half_to_f32};
pub use ternary::{TQ1_0, TQ2_0};

/// One block of `N` values as it lies in the file.
pub trait Block<const N: usize>: Pod {
    /// Writes the block's values, scales applied.
    fn decode(&self, out: &mut [f32; N]);
}

/// Decodes whole blocks: out[i] = value i of `bytes`.
///
/// F8_E4M3 gives the bare codes' values (its scales live in a tensor of their own), I32 the nearest f32.
///
/// # Panics
/// `bytes` is not exactly what `out.len()` values take: a programmer's error. Any content of `bytes` decodes.
pub fn dequantize(dtype: DType, bytes: &[u8], out: &mut [f32]) {
    assert_eq!(dtype.bytes_for(out.len()), Some(bytes.len()), "bytes of {} values of {dtype}", out.len());
    match dtype {
        DType::F32 => decode_each(bytes, out, f32::from_le_bytes),
        DType::F16 => decode_each(bytes, out, f16_to_f32),
        DType::BF16 => decode_each(bytes, out, bf16_to_f32),
        DType::F8E4M3 => decode_each(bytes, out, |[code]| e4m3_to_f32(code)),
        DType::I32 => decode_each(bytes, out, |bytes| i32::from_le_bytes(bytes) as f32),
        DType::Q4_0 => decode_blocks::<Q4_0, _>(bytes, out),
        DType::Q4_1 => decode_blocks::<Q4_1, _>(bytes, out),
        DType::Q5_0 => decode_blocks::<Q5_0, _>(bytes, out),
        DType::Q5_1 => decode_blocks::<Q5_1, _>(bytes, out),
        DType::Q8_0 => decode_blocks::<Q8_0, _>(bytes, out),
        DType::Q2K => decode_blocks::<Q2K, _>(bytes, out),
        DType::Q3K => decode_blocks::<Q3K, _>(bytes, out),
        DType::Q4K => decode_blocks::<Q4K, _>(bytes, out),
        DType::Q5K => decode_blocks::<Q5K, _>(bytes, out),
        DType::Q6K => decode_blocks::<Q6K, _>(bytes, out),
        DType::IQ1S => decode_blocks::<IQ1S, _>(bytes, out),
        DType::IQ1M => decode_blocks::<IQ1M, _>(bytes, out),
        DType::IQ2XXS => decode_blocks::<IQ2XXS, _>(bytes, out),
        DType::IQ2XS => decode_blocks::<IQ2XS, _>(bytes, out),
        DType::IQ2S => decode_blocks::<IQ2S, _>(bytes, out),
        DType::IQ3XXS => decode_blocks::<IQ3XXS, _>(bytes, out),
        DType::IQ3S => decode_blocks::<IQ3S, _>(bytes, out),
        DType::IQ4NL => decode_blocks::<IQ4NL, _>(bytes, out),
        DType::IQ4XS => decode_blocks::<IQ4XS, _>(bytes, out),
        DType::TQ1_0 => decode_blocks::<TQ1_0, _>(bytes, out),
        DType::TQ2_0 => decode_blocks::<TQ2_0, _>(bytes, out),
        DType::MXFP4 => decode_blocks::<MXFP4, _>(bytes, out),
    }
}

/// Code `i` of codes `BITS` wide, packed in runs of `RUN` bytes.
///
/// Byte `b` of a run holds codes `b`, `b + RUN`, `b + 2 RUN`, ... of the run's `RUN * 8 / BITS`, lowest bits
/// first. For `BITS` 4 and `RUN` 16:
///
/// ```text
/// bits 0..4: | code 0  | code 1  | ... | code 15 |
/// bits 4..8: | code 16 | code 17 | ... | code 31 |
///              byte 0    byte 1          byte 15
/// ```
///
/// `RUN` 1 is the plain order: code `i` in bits `BITS * i ..` of the little-endian number that the bytes
/// form.
///
/// # Panics
/// `bytes` holds no code `i`: a programmer's error.
#[inline(always)]
pub fn packed_code<const BITS: usize, const RUN: usize>(bytes: &[u8], i: usize) -> u8 {
    const { assert!(matches!(BITS, 1 | 2 | 4)) };
    let a_byte = 8 / BITS;
    let byte = bytes[i / (RUN * a_byte) * RUN + i % RUN];
    byte >> (BITS * (i / RUN % a_byte)) & ((1 << BITS) - 1)
}

/// The first `N` codes of [`packed_code`], all at once.
fn unpack<const BITS: usize, const RUN: usize, const N: usize>(bytes: &[u8]) -> [u8; N] {
    const { assert!(matches!(BITS, 1 | 2 | 4) && N.is_multiple_of(RUN * 8 / BITS)) };
    let mut codes = [0; N];
    for (codes, run) in codes.chunks_exact_mut(RUN * 8 / BITS).zip(bytes.chunks_exact(RUN)) {
        for (k, codes) in codes.chunks_exact_mut(RUN).enumerate() {
            for (code, byte) in codes.iter_mut().zip(run) {
                *code = byte >> (BITS * k) & ((1 << BITS) - 1);
            }
        }
    }
    codes
}

/// Codes whose bits from `LOW_BITS` on are stored apart from the low ones.
fn join<const LOW_BITS: usize, const N: usize>(mut low: [u8; N], high: [u8; N]) -> [u8; N] {
    for (code, high) in low.iter_mut().zip(high) {
        *code |= high << LOW_BITS;
    }
    low
}

fn decode_blocks<B: Block<N>, const N: usize>(bytes: &[u8], out: &mut [f32]) {
    let (values, rest) = out.as_chunks_mut::<N>();
    assert!(rest.is_empty(), "bytes_for accepts whole blocks only");
    for (block, values) in bytemuck::cast_slice::<u8, B>(bytes).iter().zip(values) {
        block.decode(values);
    }
}

fn decode_each<const BYTES: usize>(bytes: &[u8], out: &mut [f32], decode: impl Fn([u8; BYTES]) -> f32) {
    let (values, _) = bytes.as_chunks::<BYTES>();
    for (out, bytes) in out.iter_mut().zip(values) {
        *out = decode(*bytes);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Length in bytes of a block struct, and of its values.
    fn size<B: Block<N>, const N: usize>() -> (usize, usize) {
        (size_of::<B>(), N)
    }

    #[test]
    fn block_structs_have_the_size_their_type_states() {
        let sizes = [
            (DType::Q4_0, size::<Q4_0, _>()),
            (DType::Q4_1, size::<Q4_1, _>()),
            (DType::Q5_0, size::<Q5_0, _>()),
            (DType::Q5_1, size::<Q5_1, _>()),
            (DType::Q8_0, size::<Q8_0, _>()),
            (DType::Q2K, size::<Q2K, _>()),
            (DType::Q3K, size::<Q3K, _>()),
            (DType::Q4K, size::<Q4K, _>()),
            (DType::Q5K, size::<Q5K, _>()),
            (DType::Q6K, size::<Q6K, _>()),
            (DType::IQ1S, size::<IQ1S, _>()),
            (DType::IQ1M, size::<IQ1M, _>()),
            (DType::IQ2XXS, size::<IQ2XXS, _>()),
            (DType::IQ2XS, size::<IQ2XS, _>()),
            (DType::IQ2S, size::<IQ2S, _>()),
            (DType::IQ3XXS, size::<IQ3XXS, _>()),
            (DType::IQ3S, size::<IQ3S, _>()),
            (DType::IQ4NL, size::<IQ4NL, _>()),
            (DType::IQ4XS, size::<IQ4XS, _>()),
            (DType::TQ1_0, size::<TQ1_0, _>()),
            (DType::TQ2_0, size::<TQ2_0, _>()),
            (DType::MXFP4, size::<MXFP4, _>()),
        ];
        assert_eq!(sizes.len(), DType::all().filter(|dtype| dtype.is_quantised()).count());
        for (dtype, size) in sizes {
            assert_eq!(size, (dtype.block_bytes(), dtype.block_values()), "{dtype}");
        }
    }

    #[test]
    fn packed_codes_lie_in_runs() {
        let bytes = [0x21, 0x43, 0x65, 0x87];
        let codes = |code: fn(&[u8], usize) -> u8| (0..8).map(|i| code(&bytes, i)).collect::<Vec<_>>();
        assert_eq!(codes(packed_code::<4, 1>), [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(codes(packed_code::<4, 2>), [1, 3, 2, 4, 5, 7, 6, 8]);
        assert_eq!(codes(packed_code::<4, 4>), [1, 3, 5, 7, 2, 4, 6, 8]);
        assert_eq!(codes(packed_code::<2, 4>), [1, 3, 1, 3, 0, 0, 1, 1]);
        assert_eq!(codes(packed_code::<1, 1>), [1, 0, 0, 0, 0, 1, 0, 0]);
    }

    #[test]
    fn unpacking_takes_every_packed_code() {
        let bytes: [u8; 64] = std::array::from_fn(|i| (i * 37 + 11) as u8);
        fn check<const BITS: usize, const RUN: usize, const N: usize>(bytes: &[u8]) {
            assert_eq!(
                unpack::<BITS, RUN, N>(bytes),
                std::array::from_fn(|i| packed_code::<BITS, RUN>(bytes, i))
            );
        }
        check::<4, 16, 128>(&bytes);
        check::<4, 64, 128>(&bytes);
        check::<2, 32, 256>(&bytes);
        check::<1, 32, 256>(&bytes);
        check::<1, 1, 64>(&bytes);
    }

    #[test]
    #[should_panic(expected = "bytes of 32 values of Q4_0")]
    fn refuses_a_length_that_does_not_match() {
        dequantize(DType::Q4_0, &[0; 17], &mut [0.0; 32]);
    }

    proptest! {
        #[test]
        fn any_bytes_decode_at_any_alignment(
            bytes in prop::collection::vec(any::<u8>(), 421),
            start in 0..2usize,
        ) {
            for dtype in DType::all() {
                let n = 420 / dtype.block_bytes();
                let mut out = vec![f32::MAX; n * dtype.block_values()];
                dequantize(dtype, &bytes[start..start + n * dtype.block_bytes()], &mut out);
                if dtype != DType::F32 && dtype != DType::BF16 {
                    let written = out.iter().all(|&value| value != f32::MAX);
                    prop_assert!(written, "{dtype} left values as they were");
                }
            }
        }
    }
}
