//! What can be wrong with a GGUF file.

/// A GGUF file that is broken or beyond what this reader accepts. Offsets count from the start of the file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Another kind of file.
    #[error("not a GGUF file: it starts with {magic:02x?}, not \"GGUF\"")]
    Magic {
        /// The first bytes, four at most.
        magic: Vec<u8>,
    },
    /// A version this reader doesn't know.
    #[error(
        "GGUF version {got} is not supported (2 and 3 are); convert the model again with a current converter"
    )]
    Version {
        /// Version in the file.
        got: u32,
    },
    /// Bytes in the order of another machine.
    #[error("a big-endian GGUF file; only little-endian ones are supported")]
    BigEndian,
    /// The file ends inside its header.
    #[error(
        "the file ends at byte {have}, but {what} at byte {at} needs {need} bytes; it is incomplete: copy or download it again"
    )]
    Truncated {
        /// What was being read.
        what: &'static str,
        /// Where it starts.
        at: u64,
        /// How long it says it is.
        need: u64,
        /// Bytes there are.
        have: u64,
    },
    /// A count or length beyond any real model.
    #[error(
        "{what} at byte {at}: {got}, but at most {limit} are accepted; the file is damaged or not a model"
    )]
    TooMany {
        /// What is counted.
        what: &'static str,
        /// Where the count stands.
        at: u64,
        /// The count.
        got: u64,
        /// The most that is accepted.
        limit: u64,
    },
    /// Text that is no text.
    #[error("{what} at byte {at} is not valid UTF-8; the file is damaged")]
    Utf8 {
        /// What was being read.
        what: &'static str,
        /// Where it starts.
        at: u64,
    },
    /// A value type that the format doesn't have.
    #[error("metadata {key:?}: unknown value type {id}; the file is damaged or newer than this reader")]
    UnknownValueType {
        /// The key.
        key: String,
        /// The type's number.
        id: u32,
    },
    /// A boolean other than 0 and 1.
    #[error("metadata {key:?}: the boolean at byte {at} is {got}, not 0 or 1; the file is damaged")]
    Bool {
        /// The key.
        key: String,
        /// Where it stands.
        at: u64,
        /// The byte.
        got: u8,
    },
    /// An array of arrays.
    #[error("metadata {key:?}: arrays of arrays are not supported")]
    NestedArray {
        /// The key.
        key: String,
    },
    /// The same key twice.
    #[error("metadata {key:?} occurs more than once")]
    DuplicateKey {
        /// The key.
        key: String,
    },
    /// The same tensor twice.
    #[error("tensor {tensor:?} occurs more than once")]
    DuplicateTensor {
        /// Its name.
        tensor: String,
    },
    /// `general.alignment` that is none.
    #[error("general.alignment is {got}; it must be a power of two of at most {limit}")]
    Alignment {
        /// The value.
        got: u64,
        /// The largest accepted.
        limit: u64,
    },
    /// A dimension of 0, or none at all, or a product beyond 64 bits.
    #[error("tensor {tensor:?} has dimensions {dims:?}: empty or too large")]
    Dims {
        /// Its name.
        tensor: String,
        /// Innermost first, as in the file.
        dims: Vec<u64>,
    },
    /// A tensor type this build doesn't decode.
    #[error("tensor {tensor:?} has data type number {id}, which is not supported")]
    UnknownDtype {
        /// Its name.
        tensor: String,
        /// GGML's number.
        id: u32,
    },
    /// Rows that don't divide into blocks.
    #[error("tensor {tensor:?}: rows of {cols} values are no whole number of {dtype} blocks")]
    PartialBlock {
        /// Its name.
        tensor: String,
        /// Values in a row.
        cols: u64,
        /// Data type.
        dtype: tensor::DType,
    },
    /// An offset off the grid.
    #[error("tensor {tensor:?}: offset {offset} is not a multiple of the alignment {alignment}")]
    Misaligned {
        /// Its name.
        tensor: String,
        /// From the start of the data.
        offset: u64,
        /// `general.alignment`.
        alignment: u64,
    },
    /// Data beyond the end of the file.
    #[error(
        "tensor {tensor:?} takes bytes {start} to {end}, but the file ends at {have}; it is incomplete or lies about its \
         sizes: copy or download it again"
    )]
    OutOfFile {
        /// Its name.
        tensor: String,
        /// First byte.
        start: u64,
        /// One past the last byte.
        end: u64,
        /// Bytes in the file.
        have: u64,
    },
    /// Two tensors in the same place.
    #[error("tensors {first:?} and {second:?} overlap; the file is damaged")]
    Overlap {
        /// The one in front.
        first: String,
        /// The one that starts before the other ends.
        second: String,
    },
    /// A file of a split set under a name that doesn't say so.
    #[error(
        "part {no} of {count}, but its name is not like NAME-{no:05}-of-{count:05}.gguf; give it its published name"
    )]
    SplitName {
        /// Part, from 1.
        no: u64,
        /// Parts.
        count: u64,
    },
    /// A split file whose metadata contradicts its name.
    #[error(
        "the name says part {name_no} of {name_count}, the metadata part {no} of {count}; a file was renamed or mixed up"
    )]
    SplitMismatch {
        /// Part by the name, from 1.
        name_no: u64,
        /// Parts by the name.
        name_count: u64,
        /// Part by the metadata, from 1.
        no: u64,
        /// Parts by the metadata.
        count: u64,
    },
    /// The parts don't add up.
    #[error(
        "the parts hold {got} tensors, split.tensors.count says {want}; parts of different models are mixed"
    )]
    SplitTensors {
        /// Tensors found.
        got: u64,
        /// Tensors promised.
        want: u64,
    },
}

/// The value types of the format, by their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum ValueType {
    /// u8
    U8 = 0,
    /// i8
    I8 = 1,
    /// u16
    U16 = 2,
    /// i16
    I16 = 3,
    /// u32
    U32 = 4,
    /// i32
    I32 = 5,
    /// f32
    F32 = 6,
    /// One byte, 0 or 1.
    Bool = 7,
    /// Length u64 and that many bytes of UTF-8.
    String = 8,
    /// Element type u32, count u64, values.
    Array = 9,
    /// u64
    U64 = 10,
    /// i64
    I64 = 11,
    /// f64
    F64 = 12,
}

impl ValueType {
    /// The type behind a number.
    pub(crate) fn from_id(id: u32) -> Option<Self> {
        use ValueType::*;
        const ALL: [ValueType; 13] = [U8, I8, U16, I16, U32, I32, F32, Bool, String, Array, U64, I64, F64];
        ALL.into_iter().find(|t| *t as u32 == id)
    }

    /// Bytes that one value takes at least.
    pub(crate) fn bytes_min(self) -> u64 {
        use ValueType::*;
        match self {
            U8 | I8 | Bool => 1,
            U16 | I16 => 2,
            U32 | I32 | F32 => 4,
            U64 | I64 | F64 | String => 8,
            Array => 12,
        }
    }
}
