//! A whole file in memory: for small files, such as reference results.

use super::{Header, Problem, TensorInfo};

/// The tensors of a safetensors file whose bytes somebody else owns.
#[derive(Debug)]
pub struct View<'a> {
    header: Header,
    bytes: &'a [u8],
}

/// One tensor of a [`View`].
#[derive(Clone, Copy, Debug)]
pub struct TensorView<'a> {
    /// Type, shape and place.
    pub info: &'a TensorInfo,
    /// Row after row, little-endian.
    pub data: &'a [u8],
}

impl<'a> View<'a> {
    /// Reads the header and checks that all data is there.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Problem> {
        let header = Header::parse(bytes)?;
        header.check_data(bytes.len() as u64)?;
        Ok(Self { header, bytes })
    }

    /// The tensor called `name`.
    pub fn tensor(&self, name: &str) -> Option<TensorView<'_>> {
        self.header.tensors.iter().find(|info| info.name == name).map(|info| self.view(info))
    }

    /// All tensors.
    pub fn tensors(&self) -> impl Iterator<Item = TensorView<'_>> {
        self.header.tensors.iter().map(|info| self.view(info))
    }

    fn view<'s>(&'s self, info: &'s TensorInfo) -> TensorView<'s> {
        let start = info.offset as usize;
        TensorView { info, data: &self.bytes[start..start + info.bytes as usize] }
    }
}

impl TensorView<'_> {
    /// The values of an F32 tensor; `None` for any other type.
    pub fn f32(&self) -> Option<Vec<f32>> {
        (self.info.dtype_name == "F32").then(|| self.words().map(f32::from_le_bytes).collect())
    }

    /// The values of an I32 tensor; `None` for any other type.
    pub fn i32(&self) -> Option<Vec<i32>> {
        (self.info.dtype_name == "I32").then(|| self.words().map(i32::from_le_bytes).collect())
    }

    fn words(&self) -> impl Iterator<Item = [u8; 4]> {
        self.data.chunks_exact(4).map(|word| word.try_into().expect("four bytes"))
    }
}
