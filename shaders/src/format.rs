//! Formats that stages read weights in.

use tensor::DType;

use crate::shader::Arithmetic;

/// A weight format on a graphics card: 16 rows interleaved, whatever the file has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Format(DType);

/// The format that a data type's weights lie in on the card: their own, or F16 for rare block types, which are decoded.
pub fn format_of(dtype: DType) -> Format {
    Format(if source(dtype).is_some() { dtype } else { DType::F16 })
}

impl Format {
    /// Every format.
    pub fn all() -> impl Iterator<Item = Self> {
        DType::all().filter(|&dtype| source(dtype).is_some()).map(Self)
    }

    /// The data type.
    pub fn dtype(self) -> DType {
        self.0
    }

    /// Values of a row that a thread takes at a time; a row is a whole number of them.
    pub fn group_values(self) -> usize {
        if self.0.is_quantised() { 32 } else { 4 }
    }

    /// Whether its values are whole codes times factors.
    pub fn has_codes(self) -> bool {
        self.0.is_quantised()
    }

    /// What products with so many tokens at a time can be made of.
    pub(crate) fn arithmetics(self, tokens: u32) -> Vec<Arithmetic> {
        let fast = self.fast(true).filter(|_| tokens > 1);
        std::iter::once(Arithmetic::F32).chain(fast).collect()
    }

    /// What the products of tiles are fastest made of, if not of f32, on a card with or without half floats.
    pub fn fast(self, f16: bool) -> Option<Arithmetic> {
        match self.0 {
            _ if self.has_codes() => Some(Arithmetic::Int8),
            DType::F16 | DType::F8E4M3 => f16.then_some(Arithmetic::F16),
            _ => None,
        }
    }

    /// The file that reads it in half floats.
    pub(crate) fn halves(self) -> &'static str {
        match self.0 {
            DType::F8E4M3 => "format/halves/f8_e4m3.wgsl",
            _ => "format/halves/f16.wgsl",
        }
    }

    /// Bytes that 16 rows of `cols` values take.
    ///
    /// # Panics
    /// `cols` is no whole number of blocks: a programmer's error.
    pub fn row_block_bytes(self, cols: usize) -> usize {
        tensor::LANES * self.0.bytes_for(cols).expect("whole blocks")
    }

    /// The files that read it.
    pub(crate) fn files(self) -> (&'static [&'static str], &'static str) {
        source(self.0).expect("checked when it was made")
    }
}

/// What a format's file needs, and the file.
fn source(dtype: DType) -> Option<(&'static [&'static str], &'static str)> {
    const CODES: &[&str] = &["part/codes.wgsl"];
    const K: &[&str] = &["part/codes.wgsl", "part/k_scales.wgsl"];
    const IQ4: &[&str] = &["part/codes.wgsl", "part/iq4_values.wgsl"];
    Some(match dtype {
        DType::F32 => (&[], "format/f32.wgsl"),
        DType::F16 => (&[], "format/f16.wgsl"),
        DType::BF16 => (&[], "format/bf16.wgsl"),
        DType::F8E4M3 => (&[], "format/f8_e4m3.wgsl"),
        DType::Q4_0 => (CODES, "format/q4_0.wgsl"),
        DType::Q4_1 => (CODES, "format/q4_1.wgsl"),
        DType::Q5_0 => (CODES, "format/q5_0.wgsl"),
        DType::Q5_1 => (CODES, "format/q5_1.wgsl"),
        DType::Q8_0 => (CODES, "format/q8_0.wgsl"),
        DType::Q2K => (CODES, "format/q2_k.wgsl"),
        DType::Q3K => (CODES, "format/q3_k.wgsl"),
        DType::Q4K => (K, "format/q4_k.wgsl"),
        DType::Q5K => (K, "format/q5_k.wgsl"),
        DType::Q6K => (CODES, "format/q6_k.wgsl"),
        DType::IQ4NL => (IQ4, "format/iq4_nl.wgsl"),
        DType::IQ4XS => (IQ4, "format/iq4_xs.wgsl"),
        _ => return None,
    })
}
