//! Latent attention's matrices on a card: for every head W_uk, transposed, and W_uv, one below the other.

use gpu::WeightShape;
use half::{bf16, f16};
use tensor::{BlockScale, DType, Layout, Matrix, SCALE_BLOCK};
use weights::{Mla, Weights};

use super::tensors::{Facts, Tensors};
use crate::Error;

/// Some rows of every head of one tensor, as they are to lie on the card.
#[derive(Clone, Debug)]
pub(crate) struct PerHead {
    tensor: String,
    heads: usize,
    /// In the tensor.
    rows_a_head: usize,
    first: usize,
    rows: usize,
    cols: usize,
    /// Columns become rows: a head has `cols` rows of `rows` values.
    transpose: bool,
    /// As it is to lie.
    dtype: DType,
}

impl PerHead {
    /// W_uk and W_uv: of the joint `attn_kv_b`, or of `attn_k_b` (stored transposed) and `attn_v_b`.
    pub(crate) fn find(
        tensors: &Tensors<'_>,
        layer: usize,
        heads: usize,
        mla: &Mla,
        exact: bool,
    ) -> Result<(Self, Self), Error> {
        let &Mla { kv_lora_rank: rank, nope_dim, v_dim, .. } = mla;
        let name = |stage: &str| format!("blk.{layer}.{stage}.weight");
        let find =
            |stage: &str, want: &[usize]| Ok::<_, Error>((name(stage), tensors.require(&name(stage), want)?));
        let of = |(tensor, its): (String, Facts),
                  (rows_a_head, first): (usize, usize),
                  rows: usize,
                  cols: usize,
                  transpose: bool| {
            let in_rows = its.layout == Layout::Rows;
            let whole = [rows_a_head, first, rows, cols].iter().all(|n| n.is_multiple_of(SCALE_BLOCK));
            let keeps = match its.dtype {
                DType::F32 | DType::F16 | DType::BF16 => true,
                DType::F8E4M3 => in_rows && whole,
                _ => in_rows && !transpose,
            };
            let dtype = if keeps {
                its.dtype
            } else {
                instead_of(its.dtype, if transpose { rows } else { cols }, exact)
            };
            Self { tensor, heads, rows_a_head, first, rows, cols, transpose, dtype }
        };
        if tensors.get(&name("attn_k_b")).is_some() {
            let k = find("attn_k_b", &[heads, rank, nope_dim])?;
            let v = find("attn_v_b", &[heads, v_dim, rank])?;
            return Ok((of(k, (rank, 0), rank, nope_dim, false), of(v, (v_dim, 0), v_dim, rank, false)));
        }
        let both = nope_dim + v_dim;
        let tensor = find("attn_kv_b", &[heads * both, rank])?;
        let k = of(tensor.clone(), (both, 0), nope_dim, rank, true);
        Ok((k, of(tensor, (both, nope_dim), v_dim, rank, false)))
    }

    /// The name of the tensor.
    pub(crate) fn tensor(&self) -> &str {
        &self.tensor
    }

    /// As it lies on the card.
    pub(crate) fn shape(&self) -> WeightShape {
        let (rows, cols) = if self.transpose { (self.cols, self.rows) } else { (self.rows, self.cols) };
        WeightShape { dtype: self.dtype, rows: self.heads * rows, cols, parts: 1 }
    }

    /// The bytes of the matrix of [`shape`](Self::shape), row after row, and its factors where it is FP8.
    pub(crate) fn bytes(&self, weights: &Weights) -> (Vec<u8>, Vec<u8>) {
        let tensor = weights.tensor(&self.tensor).expect("found when it was planned");
        // A joint tensor has its FP8 factors beside it; stacked ones have none.
        let matrix = tensor.matrix().or_else(|_| tensor.stacked()).expect("checked when it was found");
        let heads = 0..self.heads;
        if self.dtype == DType::F8E4M3 {
            let bytes = heads.clone().flat_map(|head| self.codes(&matrix, head)).collect();
            return (bytes, heads.flat_map(|head| self.factors(&matrix, head)).collect());
        }
        if self.dtype == matrix.dtype() && matrix.layout() == Layout::Rows && !self.transpose {
            let rows = |head| (0..self.rows).map(move |row| self.row_of(head, row));
            return (heads.flat_map(rows).flat_map(|row| matrix.row(row).to_vec()).collect(), Vec::new());
        }
        (heads.flat_map(|head| self.head(&matrix, head)).collect(), Vec::new())
    }

    /// A row of a head in the tensor.
    fn row_of(&self, head: usize, row: usize) -> usize {
        head * self.rows_a_head + self.first + row
    }

    /// Places of a head's values [rows, cols] in the order in which they are to lie.
    fn order(&self, rows: usize, cols: usize) -> Vec<(usize, usize)> {
        match self.transpose {
            true => (0..cols).flat_map(|c| (0..rows).map(move |r| (r, c))).collect(),
            false => (0..rows).flat_map(|r| (0..cols).map(move |c| (r, c))).collect(),
        }
    }

    /// A head's FP8 codes.
    fn codes(&self, matrix: &Matrix<'_>, head: usize) -> Vec<u8> {
        let at = |(r, c): (usize, usize)| matrix.row(self.row_of(head, r))[c];
        self.order(self.rows, self.cols).into_iter().map(at).collect()
    }

    /// A head's FP8 factors, of whole blocks.
    fn factors(&self, matrix: &Matrix<'_>, head: usize) -> Vec<u8> {
        let at =
            |(r, c): (usize, usize)| matrix.scale_at(self.row_of(head, r * SCALE_BLOCK), c * SCALE_BLOCK);
        let blocks = self.order(self.rows / SCALE_BLOCK, self.cols / SCALE_BLOCK);
        blocks.into_iter().flat_map(|block| at(block).to_le_bytes()).collect()
    }

    /// A head's values, encoded anew.
    fn head(&self, matrix: &Matrix<'_>, head: usize) -> Vec<u8> {
        let mut values = vec![0.0; self.rows * self.cols];
        for (row, out) in values.chunks_exact_mut(self.cols).enumerate() {
            matrix.decode_row(self.row_of(head, row), out);
        }
        let order = self.order(self.rows, self.cols);
        let ordered: Vec<f32> = order.into_iter().map(|(r, c)| values[r * self.cols + c]).collect();
        match self.dtype {
            DType::Q8_0 => {
                let mut out = vec![0; DType::Q8_0.bytes_for(ordered.len()).expect("whole blocks")];
                tensor::quant::quantise_q8_0(&ordered, &mut out);
                out
            }
            dtype => ordered.into_iter().flat_map(|value| encode(dtype, value)).collect(),
        }
    }

    pub(crate) fn matrix<'a>(&self, (bytes, scales): &'a (Vec<u8>, Vec<u8>)) -> Matrix<'a> {
        let WeightShape { dtype, rows, cols, .. } = self.shape();
        let matrix = Matrix::new(dtype, rows, cols, bytes).expect("as many bytes as rows");
        if scales.is_empty() {
            return matrix;
        }
        let scale = BlockScale { rows: rows / SCALE_BLOCK, cols: cols / SCALE_BLOCK, data: scales };
        matrix.with_scale(scale).expect("a factor for each block")
    }
}

/// Blocks can't be transposed: they become Q8_0 where arithmetic is fast, else F16, whose 11 bits hold nearly all of a code
/// times its factor. FP8 whose factors would be cut becomes F32, which holds all.
fn instead_of(dtype: DType, cols: usize, exact: bool) -> DType {
    match dtype {
        DType::F8E4M3 => DType::F32,
        _ if !exact && cols.is_multiple_of(DType::Q8_0.block_values()) => DType::Q8_0,
        _ => DType::F16,
    }
}

fn encode(dtype: DType, value: f32) -> Vec<u8> {
    match dtype {
        DType::F32 => value.to_le_bytes().to_vec(),
        DType::BF16 => bf16::from_f32(value).to_le_bytes().to_vec(),
        _ => f16::from_f32(value).to_le_bytes().to_vec(),
    }
}
