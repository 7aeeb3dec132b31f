//! Element types and block layouts, with GGML's numbering.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How the values of a tensor row are stored.
///
/// A row is a whole number of blocks; a block holds [`block_values`](DType::block_values) values in
/// [`block_bytes`](DType::block_bytes) bytes. The layouts are those of GGML (`ggml-common.h`), little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "&'static str", try_from = "String")]
pub enum DType {
    /// IEEE 754 single precision.
    F32,
    /// IEEE 754 half precision.
    F16,
    /// The upper half of an f32.
    BF16,
    /// 8-bit float, 4 exponent and 3 mantissa bits, no infinities. Scales live in a tensor of their own.
    F8E4M3,
    /// 32 values: f16 scale, 4-bit codes around 8.
    Q4_0,
    /// 32 values: f16 scale and minimum, 4-bit codes.
    Q4_1,
    /// 32 values: f16 scale, 5-bit codes around 16.
    Q5_0,
    /// 32 values: f16 scale and minimum, 5-bit codes.
    Q5_1,
    /// 32 values: f16 scale, signed bytes.
    Q8_0,
    /// 256 values in 16 sub-blocks, 2-bit codes.
    Q2K,
    /// 256 values in 16 sub-blocks, 3-bit codes.
    Q3K,
    /// 256 values in 8 sub-blocks, 4-bit codes.
    Q4K,
    /// 256 values in 8 sub-blocks, 5-bit codes.
    Q5K,
    /// 256 values in 16 sub-blocks, 6-bit codes.
    Q6K,
    /// 256 values, 2.06 bits each: 8-value grid and signs.
    IQ2XXS,
    /// 256 values, 2.31 bits each.
    IQ2XS,
    /// 256 values, 2.56 bits each.
    IQ2S,
    /// 256 values, 3.06 bits each: 4-value grid and signs.
    IQ3XXS,
    /// 256 values, 3.44 bits each.
    IQ3S,
    /// 256 values, 1.56 bits each: ternary 8-value grid.
    IQ1S,
    /// 256 values, 1.75 bits each.
    IQ1M,
    /// 32 values: f16 scale, 4-bit codes into a non-linear table.
    IQ4NL,
    /// 256 values: the same table with 6-bit sub-block scales.
    IQ4XS,
    /// 256 ternary values, five to a byte.
    TQ1_0,
    /// 256 ternary values, two bits each.
    TQ2_0,
    /// 32 values: E8M0 scale, E2M1 codes.
    MXFP4,
    /// 32-bit integers (index tensors; no kernel computes on them).
    I32,
}

/// `(type, published name, GGML number, values a block, bytes a block)`
const TABLE: [(DType, &str, Option<u32>, usize, usize); 27] = [
    (DType::F32, "F32", Some(0), 1, 4),
    (DType::F16, "F16", Some(1), 1, 2),
    (DType::BF16, "BF16", Some(30), 1, 2),
    (DType::F8E4M3, "F8_E4M3", None, 1, 1),
    (DType::Q4_0, "Q4_0", Some(2), 32, 18),
    (DType::Q4_1, "Q4_1", Some(3), 32, 20),
    (DType::Q5_0, "Q5_0", Some(6), 32, 22),
    (DType::Q5_1, "Q5_1", Some(7), 32, 24),
    (DType::Q8_0, "Q8_0", Some(8), 32, 34),
    (DType::Q2K, "Q2_K", Some(10), 256, 84),
    (DType::Q3K, "Q3_K", Some(11), 256, 110),
    (DType::Q4K, "Q4_K", Some(12), 256, 144),
    (DType::Q5K, "Q5_K", Some(13), 256, 176),
    (DType::Q6K, "Q6_K", Some(14), 256, 210),
    (DType::IQ2XXS, "IQ2_XXS", Some(16), 256, 66),
    (DType::IQ2XS, "IQ2_XS", Some(17), 256, 74),
    (DType::IQ3XXS, "IQ3_XXS", Some(18), 256, 98),
    (DType::IQ1S, "IQ1_S", Some(19), 256, 50),
    (DType::IQ4NL, "IQ4_NL", Some(20), 32, 18),
    (DType::IQ3S, "IQ3_S", Some(21), 256, 110),
    (DType::IQ2S, "IQ2_S", Some(22), 256, 82),
    (DType::IQ4XS, "IQ4_XS", Some(23), 256, 136),
    (DType::I32, "I32", Some(26), 1, 4),
    (DType::IQ1M, "IQ1_M", Some(29), 256, 56),
    (DType::TQ1_0, "TQ1_0", Some(34), 256, 54),
    (DType::TQ2_0, "TQ2_0", Some(35), 256, 66),
    (DType::MXFP4, "MXFP4", Some(39), 32, 17),
];

impl DType {
    fn row(self) -> &'static (DType, &'static str, Option<u32>, usize, usize) {
        TABLE.iter().find(|row| row.0 == self).expect("every variant has a row: tested")
    }

    /// Every data type, in no particular order.
    pub fn all() -> impl Iterator<Item = DType> {
        TABLE.iter().map(|row| row.0)
    }

    /// The published name: `Q4_K`, `F8_E4M3`.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// Values in a block; 1 for plain types.
    pub fn block_values(self) -> usize {
        self.row().3
    }

    /// Bytes in a block.
    pub fn block_bytes(self) -> usize {
        self.row().4
    }

    /// GGML's type number, where GGUF has one.
    pub fn ggml_id(self) -> Option<u32> {
        self.row().2
    }

    /// The type behind a GGUF type number.
    pub fn from_ggml_id(id: u32) -> Option<DType> {
        TABLE.iter().find(|row| row.2 == Some(id)).map(|row| row.0)
    }

    /// Bytes that `n` values take, if they fill whole blocks and the product fits.
    pub fn bytes_for(self, n: usize) -> Option<usize> {
        let values = self.block_values();
        if !n.is_multiple_of(values) {
            return None;
        }
        (n / values).checked_mul(self.block_bytes())
    }

    /// True for types stored in blocks with scales, false for plain numbers.
    pub fn is_quantised(self) -> bool {
        self.block_values() > 1
    }
}

impl From<DType> for &'static str {
    fn from(dtype: DType) -> Self {
        dtype.name()
    }
}

impl TryFrom<String> for DType {
    type Error = String;

    fn try_from(s: String) -> Result<Self, Self::Error> {
        s.parse()
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for DType {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        TABLE.iter().find(|row| row.1 == s).map(|row| row.0).ok_or_else(|| format!("unknown data type {s:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_round_trip() {
        for dtype in DType::all() {
            assert_eq!(dtype.name().parse::<DType>(), Ok(dtype));
            if let Some(id) = dtype.ggml_id() {
                assert_eq!(DType::from_ggml_id(id), Some(dtype));
            }
        }
        assert_eq!(DType::all().count(), DType::I32 as usize + 1);
    }

    #[test]
    fn partial_blocks_have_no_size() {
        assert_eq!(DType::Q4K.bytes_for(512), Some(288));
        assert_eq!(DType::Q4K.bytes_for(500), None);
        assert_eq!(DType::Q8_0.bytes_for(usize::MAX - 31), None);
    }
}
