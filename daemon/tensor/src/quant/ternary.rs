//! Ternary formats: values -d, 0 and d.

use bytemuck::{Pod, Zeroable};

use super::{Block, f16_to_f32, unpack};

/// 256 values: `d * (trit - 1)`, five trits to a byte.
///
/// A byte holds trits t0..t4 as the fraction 0.t0t1t2t3t4 in base 3, in 256ths, rounded up: trit p is the
/// whole part of three times the fraction, after p multiplications by 3 whose whole parts are dropped.
///
/// ```text
/// | 48 bytes: five trits each | 4 bytes: four trits each | d: f16 |
///
/// value        byte, trit
/// 0..160       i % 32, i / 32
/// 160..240     32 + (i - 160) % 16, (i - 160) / 16
/// 240..256     48 + (i - 240) % 4, (i - 240) / 4
/// ```
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct TQ1_0 {
    /// Values 0..160 in the first 32 bytes, values 160..240 in the last 16.
    pub five: [u8; 48],
    /// Values 240..256.
    pub four: [u8; 4],
    /// Scale, f16.
    pub d: [u8; 2],
}

impl Block<256> for TQ1_0 {
    fn decode(&self, out: &mut [f32; 256]) {
        let d = f16_to_f32(self.d);
        let (first, rest) = out.split_at_mut(160);
        let (second, third) = rest.split_at_mut(80);
        unpack_trits(d, &self.five[..32], first);
        unpack_trits(d, &self.five[32..], second);
        unpack_trits(d, &self.four, third);
    }
}

/// out[p * bytes.len() + b] = d * (trit p of byte b - 1).
fn unpack_trits(d: f32, bytes: &[u8], out: &mut [f32]) {
    let mut power = 1u8;
    for out in out.chunks_exact_mut(bytes.len()) {
        for (out, byte) in out.iter_mut().zip(bytes) {
            let trit = (u16::from(byte.wrapping_mul(power)) * 3) >> 8;
            *out = d * (f32::from(trit) - 1.0);
        }
        power = power.wrapping_mul(3);
    }
}

/// 256 values: `d * (code - 1)`. Code 3 decodes to `2 d`; no encoder writes it.
///
/// ```text
/// | 64 bytes: 2-bit codes in runs of 32 | d: f16 |
/// ```
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct TQ2_0 {
    /// 2-bit codes, two runs of 32 bytes.
    pub codes: [u8; 64],
    /// Scale, f16.
    pub d: [u8; 2],
}

impl Block<256> for TQ2_0 {
    fn decode(&self, out: &mut [f32; 256]) {
        let d = f16_to_f32(self.d);
        for (out, code) in out.iter_mut().zip(unpack::<2, 32, 256>(&self.codes)) {
            *out = d * (f32::from(code) - 1.0);
        }
    }
}
