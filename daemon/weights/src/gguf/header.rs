//! The header: metadata and the tensor table, checked.

use std::collections::HashSet;

use tensor::DType;

use super::Problem;
use super::cursor::Cursor;
use super::metadata::{self, Metadata};

/// Tensors in a file.
const MAX_TENSORS: u64 = 1 << 20;
/// Dimensions of a tensor.
const MAX_DIMS: usize = 4;
/// Largest `general.alignment`.
const MAX_ALIGNMENT: u64 = 1 << 20;
/// `general.alignment` where the file doesn't say.
const DEFAULT_ALIGNMENT: u64 = 32;

/// Everything in front of the tensor data.
#[derive(Clone, Debug, PartialEq)]
pub struct Header {
    /// Keys and values.
    pub metadata: Metadata,
    /// In file order.
    pub tensors: Vec<TensorInfo>,
    /// Where the tensor data starts in the file.
    pub data_start: u64,
}

/// One line of the tensor table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Published name.
    pub name: String,
    /// How the values are stored.
    pub dtype: DType,
    /// Outermost dimension first (the file has them innermost first).
    pub shape: Vec<usize>,
    /// From the start of the file.
    pub offset: u64,
    /// Size.
    pub bytes: u64,
}

/// A line of the table before the data's place is known.
struct RawInfo {
    name: String,
    dtype: DType,
    dims: Vec<u64>,
    offset: u64,
}

impl Header {
    /// Reads a header out of the first bytes of a file.
    ///
    /// `bytes` need not reach into the tensor data. Whether the data is there is checked by
    /// [`check_data`](Self::check_data).
    ///
    /// # Errors
    /// [`Problem::Truncated`] where `bytes` ends too early; any other problem is final.
    pub fn parse(bytes: &[u8]) -> Result<Self, Problem> {
        let mut cursor = Cursor::new(bytes);
        let magic = cursor.take(4.min(bytes.len() as u64), "the magic number")?;
        if !b"GGUF".starts_with(magic) {
            return Err(Problem::Magic { magic: magic.to_vec() });
        }
        match cursor.u32("the version")? {
            2 | 3 => {}
            version if matches!(version.swap_bytes(), 1..=3) => return Err(Problem::BigEndian),
            got => return Err(Problem::Version { got }),
        }
        let n_tensors = cursor.count(MAX_TENSORS, "the number of tensors")?;
        let n_metadata = metadata::count(&mut cursor)?;
        let metadata = Metadata::parse(&mut cursor, n_metadata)?;
        let alignment = alignment(&metadata)?;
        let raw = (0..n_tensors).map(|_| raw_info(&mut cursor)).collect::<Result<Vec<_>, _>>()?;
        let data_start = cursor.at().next_multiple_of(alignment);
        let tensors =
            raw.into_iter().map(|raw| raw.place(data_start, alignment)).collect::<Result<_, _>>()?;
        let header = Self { metadata, tensors, data_start };
        header.check_names()?;
        Ok(header)
    }

    fn check_names(&self) -> Result<(), Problem> {
        let mut names = HashSet::with_capacity(self.tensors.len());
        match self.tensors.iter().find(|info| !names.insert(info.name.as_str())) {
            Some(twice) => Err(Problem::DuplicateTensor { tensor: twice.name.clone() }),
            None => Ok(()),
        }
    }

    /// Checks that every tensor lies within a file of `file_bytes` and that no two overlap.
    pub fn check_data(&self, file_bytes: u64) -> Result<(), Problem> {
        let mut by_offset: Vec<&TensorInfo> = self.tensors.iter().collect();
        by_offset.sort_by_key(|info| info.offset);
        for info in &by_offset {
            let end = info.offset.saturating_add(info.bytes);
            if end > file_bytes {
                let (tensor, start) = (info.name.clone(), info.offset);
                return Err(Problem::OutOfFile { tensor, start, end, have: file_bytes });
            }
        }
        match by_offset.windows(2).find(|pair| pair[0].offset + pair[0].bytes > pair[1].offset) {
            Some(pair) => Err(Problem::Overlap { first: pair[0].name.clone(), second: pair[1].name.clone() }),
            None => Ok(()),
        }
    }
}

fn alignment(metadata: &Metadata) -> Result<u64, Problem> {
    match metadata.uint("general.alignment") {
        Ok(None) => Ok(DEFAULT_ALIGNMENT),
        Ok(Some(got)) if got.is_power_of_two() && got <= MAX_ALIGNMENT => Ok(got),
        Ok(Some(got)) => Err(Problem::Alignment { got, limit: MAX_ALIGNMENT }),
        Err(_) => Err(Problem::Alignment { got: 0, limit: MAX_ALIGNMENT }),
    }
}

fn raw_info(cursor: &mut Cursor<'_>) -> Result<RawInfo, Problem> {
    let name = cursor.string("a tensor's name")?.to_owned();
    let at = cursor.at();
    let n_dims = cursor.u32("a tensor's number of dimensions")?;
    if n_dims as usize > MAX_DIMS {
        let (got, limit) = (n_dims.into(), MAX_DIMS as u64);
        return Err(Problem::TooMany { what: "a tensor's dimensions", at, got, limit });
    }
    let dims = (0..n_dims).map(|_| cursor.u64("a tensor's dimension")).collect::<Result<Vec<_>, _>>()?;
    let id = cursor.u32("a tensor's data type")?;
    let offset = cursor.u64("a tensor's offset")?;
    let Some(dtype) = DType::from_ggml_id(id) else {
        return Err(Problem::UnknownDtype { tensor: name, id });
    };
    Ok(RawInfo { name, dtype, dims, offset })
}

impl RawInfo {
    fn place(self, data_start: u64, alignment: u64) -> Result<TensorInfo, Problem> {
        let Self { name, dtype, dims, offset } = self;
        let shape: Option<Vec<usize>> =
            dims.iter().rev().map(|&dim| usize::try_from(dim).ok().filter(|&dim| dim > 0)).collect();
        let n = shape.as_ref().and_then(|shape| shape.iter().try_fold(1usize, |n, &dim| n.checked_mul(dim)));
        let (Some(shape), Some(n), Some(&cols)) = (shape, n, dims.first()) else {
            return Err(Problem::Dims { tensor: name, dims });
        };
        if !cols.is_multiple_of(dtype.block_values() as u64) {
            return Err(Problem::PartialBlock { tensor: name, cols, dtype });
        }
        let Some(bytes) = dtype.bytes_for(n) else { return Err(Problem::Dims { tensor: name, dims }) };
        if !offset.is_multiple_of(alignment) {
            return Err(Problem::Misaligned { tensor: name, offset, alignment });
        }
        // An offset near 2^64 saturates and is then found to lie outside the file.
        let offset = data_start.saturating_add(offset);
        Ok(TensorInfo { name, dtype, shape, offset, bytes: bytes as u64 })
    }
}
