//! What has to lie in a card's memory, planned before any is taken.

use shaders::{Format, format_of};
use tensor::{DType, LANES, SCALE_BLOCK};

/// What a buffer holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BufferKind {
    /// Weights, several tensors side by side.
    Slab,
    /// Keys or values of a layer.
    Kv,
    /// Activations.
    Activations,
    /// Weights that come and go.
    Ring,
}

/// A part of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Binding {
    pub(crate) buffer: usize,
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
}

impl Binding {
    /// Bytes of the part.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes from `offset` on.
    pub fn from(&self, offset: u64) -> Self {
        assert!(offset < self.bytes, "within the part");
        Self { offset: self.offset + offset, bytes: self.bytes - offset, ..*self }
    }

    /// The first bytes of the part.
    pub fn first(&self, bytes: u64) -> Self {
        assert!(bytes <= self.bytes, "a part of the part");
        Self { bytes, ..*self }
    }
}

/// A weight matrix, or two of one shape whose blocks of 16 rows take turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WeightShape {
    /// As the file has it.
    pub dtype: DType,
    /// Rows of each.
    pub rows: usize,
    /// Values in a row.
    pub cols: usize,
    /// Matrices: 1, or 2 for gate and up.
    pub parts: usize,
}

/// Consecutive rows of a weight that are bound together.
#[derive(Clone, Copy, Debug)]
pub struct Shard {
    /// Where they lie.
    pub weights: Binding,
    /// Their FP8 factors, of each part; all of the matrix's.
    pub scales: Option<Binding>,
    /// The first.
    pub first_row: usize,
    /// How many.
    pub rows: usize,
}

/// Where a weight lies.
#[derive(Clone, Debug)]
pub struct Weight {
    /// Its shape.
    pub shape: WeightShape,
    /// The format it lies in.
    pub format: Format,
    /// In order of rows.
    pub shards: Vec<Shard>,
    /// Whether its products with a prompt's activations are of 8 bits; `None` leaves it to the model.
    pub int8: Option<bool>,
}

impl Weight {
    /// A weight in memory that is there, which other weights may share; FP8 factors lie apart.
    ///
    /// # Panics
    /// It does not fit there: a programmer's error.
    pub fn within(shape: WeightShape, at: Binding, scales: Option<Binding>) -> Self {
        let format = format_of(shape.dtype);
        let bytes = shape.rows.div_ceil(LANES) * shape.parts * format.row_block_bytes(shape.cols);
        let scales = scales.filter(|_| format.dtype() == DType::F8E4M3);
        let weights = at.first(bytes as u64);
        Self {
            shape,
            format,
            shards: vec![Shard { weights, scales, first_row: 0, rows: shape.rows }],
            int8: None,
        }
    }

    /// Bytes in the card's memory.
    pub fn bytes(&self) -> u64 {
        self.shards.iter().map(|shard| shard.weights.bytes + shard.scales.map_or(0, |s| s.bytes)).sum()
    }
}

/// Buffers, with what each is for.
#[derive(Clone, Debug)]
pub struct Layout {
    binding_max: u64,
    slab_max: u64,
    pub(crate) buffers: Vec<(BufferKind, u64)>,
    /// The slab that is being filled.
    slab: Option<usize>,
}

/// Where a binding may begin: the largest value that devices ask for.
const ALIGN: u64 = 256;
/// Weights of one buffer, where the card would allow more: a lost allocation is tried elsewhere sooner.
const SLAB_MAX: u64 = 1 << 30;

impl Layout {
    /// Nothing yet. `binding_max`: bytes that may be bound at once; `buffer_max`: bytes of a buffer.
    pub fn new(binding_max: u64, buffer_max: u64) -> Self {
        Self {
            binding_max,
            slab_max: buffer_max.min(SLAB_MAX.max(binding_max)),
            buffers: Vec::new(),
            slab: None,
        }
    }

    /// A buffer of its own.
    pub fn buffer(&mut self, kind: BufferKind, bytes: u64) -> Binding {
        let bytes = bytes.max(16).next_multiple_of(16);
        self.buffers.push((kind, bytes));
        Binding { buffer: self.buffers.len() - 1, offset: 0, bytes }
    }

    /// A part of a slab.
    fn in_slab(&mut self, bytes: u64) -> Binding {
        let bytes = bytes.next_multiple_of(16);
        let open =
            self.slab.filter(|&slab| self.buffers[slab].1.next_multiple_of(ALIGN) + bytes <= self.slab_max);
        let slab = open.unwrap_or_else(|| {
            self.buffers.push((BufferKind::Slab, 0));
            self.buffers.len() - 1
        });
        self.slab = Some(slab);
        let offset = self.buffers[slab].1.next_multiple_of(ALIGN);
        self.buffers[slab].1 = offset + bytes;
        Binding { buffer: slab, offset, bytes }
    }

    /// A place for a vector of f32, padded to whole vectors of four.
    pub fn vector(&mut self, len: usize) -> Binding {
        self.in_slab(4 * len.next_multiple_of(LANES) as u64)
    }

    /// A place for numbers of 32 bits.
    pub fn words(&mut self, len: usize) -> Binding {
        self.in_slab(4 * len as u64)
    }

    /// A place for a weight: as many rows to a shard as may be bound, in whole blocks of rows that share a factor.
    ///
    /// # Panics
    /// Rows are no whole number of blocks, or one block of rows is more than may be bound: no model is so wide.
    pub fn weight(&mut self, shape: WeightShape) -> Weight {
        let WeightShape { dtype, rows, cols, parts } = shape;
        let format = format_of(dtype);
        let row_block = (parts * format.row_block_bytes(cols)) as u64;
        let blocks = rows.div_ceil(LANES) as u64;
        let shared = (SCALE_BLOCK / LANES) as u64;
        let fit = self.binding_max / row_block;
        let fit = if fit >= blocks { blocks } else { fit / shared * shared };
        assert!(fit > 0, "16 rows of {cols} values are bound at once");
        let scales = (format.dtype() == DType::F8E4M3).then(|| {
            self.in_slab((4 * parts * rows.div_ceil(SCALE_BLOCK) * cols.div_ceil(SCALE_BLOCK)) as u64)
        });
        let shards = (0..blocks.div_ceil(fit)).map(|i| {
            let n = fit.min(blocks - i * fit);
            let first_row = (i * fit) as usize * LANES;
            let weights = self.in_slab(n * row_block);
            Shard { weights, scales, first_row, rows: (n as usize * LANES).min(rows - first_row) }
        });
        Weight { shape, format, shards: shards.collect(), int8: None }
    }

    /// Bytes of all buffers, or of one kind.
    pub fn bytes(&self, kind: Option<BufferKind>) -> u64 {
        let counts = |(its, _): &&(BufferKind, u64)| kind.is_none_or(|kind| kind == *its);
        self.buffers.iter().filter(counts).map(|(_, bytes)| bytes).sum()
    }

    /// Bytes of the largest buffer of a kind.
    pub fn largest(&self, kind: BufferKind) -> u64 {
        self.buffers.iter().filter(|(its, _)| *its == kind).map(|(_, bytes)| *bytes).max().unwrap_or(0)
    }

    /// Bytes that may be bound at once.
    pub fn binding_max(&self) -> u64 {
        self.binding_max
    }

    /// The largest buffer that is bound whole.
    pub(crate) fn largest_bound(&self) -> u64 {
        let bound = self.buffers.iter().filter(|(kind, _)| *kind != BufferKind::Slab);
        bound.map(|(_, bytes)| *bytes).max().unwrap_or(0)
    }
}
