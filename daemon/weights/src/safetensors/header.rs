//! The header: the tensor table, checked.

use tensor::DType;

use super::json::{self, RawTensor};

/// Largest header; real ones have some 100 KiB, a 700 GB model in one file would have 10 MiB.
const MAX_HEADER_BYTES: u64 = 32 << 20;
/// Tensors in a file.
const MAX_TENSORS: usize = 1 << 20;
/// Dimensions of a tensor.
const MAX_DIMS: usize = 8;

/// `(published name, bytes a value, our type)`
const DTYPES: [(&str, u64, Option<DType>); 15] = [
    ("BF16", 2, Some(DType::BF16)),
    ("F16", 2, Some(DType::F16)),
    ("F32", 4, Some(DType::F32)),
    ("F8_E4M3", 1, Some(DType::F8E4M3)),
    ("I32", 4, Some(DType::I32)),
    ("F64", 8, None),
    ("F8_E5M2", 1, None),
    ("I64", 8, None),
    ("I16", 2, None),
    ("I8", 1, None),
    ("U64", 8, None),
    ("U32", 4, None),
    ("U16", 2, None),
    ("U8", 1, None),
    ("BOOL", 1, None),
];

/// Everything in front of the tensor data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// In the order of their data.
    pub tensors: Vec<TensorInfo>,
    /// Where the tensor data starts in the file.
    pub data_start: u64,
}

/// One tensor of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Published name.
    pub name: String,
    /// Published name of the data type.
    pub dtype_name: &'static str,
    /// Our data type, where we have it.
    pub dtype: Option<DType>,
    /// Outermost dimension first.
    pub shape: Vec<usize>,
    /// From the start of the file.
    pub offset: u64,
    /// Size.
    pub bytes: u64,
}

/// What can be wrong with a safetensors file. Offsets count from the start of the file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The file ends inside its header.
    #[error(
        "the file has {have} bytes, its header needs {need}; it is incomplete: copy or download it again"
    )]
    Truncated {
        /// Bytes of header, length field included.
        need: u64,
        /// Bytes in the file.
        have: u64,
    },
    /// A header beyond any real model.
    #[error(
        "a header of {got} bytes, but at most {limit} are accepted; the file is damaged or not safetensors"
    )]
    HeaderTooLarge {
        /// Its length field.
        got: u64,
        /// The most that is accepted.
        limit: u64,
    },
    /// More tensors than any real model has.
    #[error("{got} tensors, but at most {limit} are accepted")]
    TooManyTensors {
        /// Tensors in the header.
        got: usize,
        /// The most that is accepted.
        limit: usize,
    },
    /// The header isn't the JSON it should be.
    #[error("the header is not valid: {cause}; the file is damaged or not safetensors")]
    Json {
        /// Where and why.
        cause: String,
    },
    /// A data type the format doesn't have.
    #[error("tensor {tensor:?} has the unknown data type {dtype:?}")]
    UnknownDtype {
        /// Its name.
        tensor: String,
        /// The type's name in the file.
        dtype: String,
    },
    /// Dimensions that are too many or too large.
    #[error("tensor {tensor:?} has the shape {shape:?}: too many or too large dimensions")]
    Shape {
        /// Its name.
        tensor: String,
        /// Outermost dimension first, as in the file.
        shape: Vec<u64>,
    },
    /// A size that doesn't follow from shape and type.
    #[error("tensor {tensor:?}: {got} bytes, but its shape and data type take {want}; the file is damaged")]
    Size {
        /// Its name.
        tensor: String,
        /// Bytes between its offsets.
        got: u64,
        /// Bytes its shape takes.
        want: u64,
    },
    /// Tensors that overlap or leave a gap: the format allows neither.
    #[error(
        "tensor {tensor:?} starts at {got} of the data, the tensor before it ends at {want}; the file is damaged"
    )]
    NotContiguous {
        /// Its name.
        tensor: String,
        /// Its first offset.
        got: u64,
        /// The end of the data so far.
        want: u64,
    },
    /// A file that is shorter or longer than its tensors.
    #[error(
        "the file has {have} bytes, its tensors end at {want}; it is incomplete or damaged: copy or download it again"
    )]
    FileSize {
        /// Where the last tensor ends.
        want: u64,
        /// Bytes in the file.
        have: u64,
    },
}

impl Header {
    /// Bytes of the header, length field included, from a file's first 8 bytes.
    ///
    /// # Errors
    /// [`Problem::Truncated`] or [`Problem::HeaderTooLarge`].
    pub fn size(bytes: &[u8]) -> Result<u64, Problem> {
        let Some(length) = bytes.first_chunk::<8>() else {
            return Err(Problem::Truncated { need: 8, have: bytes.len() as u64 });
        };
        match u64::from_le_bytes(*length) {
            got if got > MAX_HEADER_BYTES => Err(Problem::HeaderTooLarge { got, limit: MAX_HEADER_BYTES }),
            got => Ok(8 + got),
        }
    }

    /// Reads a header out of the first bytes of a file; they need not reach into the tensor data.
    ///
    /// # Errors
    /// Whatever the header gets wrong. Whether the data is there is checked by [`check_data`](Self::check_data).
    pub fn parse(bytes: &[u8]) -> Result<Self, Problem> {
        let size = Self::size(bytes)?;
        let json = bytes.get(8..size as usize);
        let json = json.ok_or(Problem::Truncated { need: size, have: bytes.len() as u64 })?;
        let mut raw = json::parse(json).map_err(|e| Problem::Json { cause: e.to_string() })?;
        if raw.len() > MAX_TENSORS {
            return Err(Problem::TooManyTensors { got: raw.len(), limit: MAX_TENSORS });
        }
        raw.sort_by_key(|(_, raw)| raw.data_offsets);
        let mut end = 0;
        let mut tensors = Vec::with_capacity(raw.len());
        for (name, raw) in raw {
            let [begin, next] = raw.data_offsets;
            if begin != end {
                return Err(Problem::NotContiguous { tensor: name, got: begin, want: end });
            }
            tensors.push(place(name, raw, size)?);
            end = next;
        }
        Ok(Self { tensors, data_start: size })
    }

    /// Where the last tensor ends.
    pub fn file_bytes(&self) -> u64 {
        self.tensors.last().map_or(self.data_start, |last| last.offset.saturating_add(last.bytes))
    }

    /// Checks that a file of `have` bytes ends where the last tensor does.
    pub fn check_data(&self, have: u64) -> Result<(), Problem> {
        let want = self.file_bytes();
        if have == want { Ok(()) } else { Err(Problem::FileSize { want, have }) }
    }
}

/// Checks one tensor's type, shape and size.
fn place(name: String, raw: RawTensor, data_start: u64) -> Result<TensorInfo, Problem> {
    let Some(&(dtype_name, value_bytes, dtype)) = DTYPES.iter().find(|(name, ..)| *name == raw.dtype) else {
        return Err(Problem::UnknownDtype { tensor: name, dtype: raw.dtype });
    };
    let n = raw.shape.iter().try_fold(value_bytes, |n, &dim| n.checked_mul(dim));
    let shape: Option<Vec<usize>> = raw.shape.iter().map(|&dim| usize::try_from(dim).ok()).collect();
    let (Some(want), Some(shape), true) = (n, shape, raw.shape.len() <= MAX_DIMS) else {
        return Err(Problem::Shape { tensor: name, shape: raw.shape });
    };
    let [begin, end] = raw.data_offsets;
    let got = end.saturating_sub(begin);
    if got != want || end < begin {
        return Err(Problem::Size { tensor: name, got, want });
    }
    let offset = data_start.saturating_add(begin);
    Ok(TensorInfo { name, dtype_name, dtype, shape, offset, bytes: got })
}
