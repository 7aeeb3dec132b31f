//! Weights as a card reads them: 16 rows interleaved, padded with zeros to whole sixteens.

use std::borrow::Cow;

use half::f16;
use shaders::Format;
use tensor::{DType, LANES, Layout, Matrix};

/// Bytes of a unit of floats: a line holds one of each of 16 rows.
const UNIT: usize = 4;

/// Rows `first..first + n` of every part, blocks of 16 rows of the parts in turn.
///
/// # Panics
/// Parts differ in shape, or `first` is no whole sixteen: a programmer's error.
pub fn interleave<'a>(format: Format, parts: &[Matrix<'a>], first: usize, n: usize) -> Cow<'a, [u8]> {
    assert!(first.is_multiple_of(LANES), "whole sixteens");
    if let [part] = parts
        && lies_so(format, part)
        && n.is_multiple_of(LANES)
    {
        return Cow::Borrowed(part.row_range(first, first + n).data());
    }
    let block_bytes = format.row_block_bytes(parts[0].cols());
    let mut out = vec![0; n.div_ceil(LANES) * parts.len() * block_bytes];
    let mut blocks = out.chunks_exact_mut(block_bytes);
    for row in (first..first + n).step_by(LANES) {
        for part in parts {
            let block = blocks.next().expect("a block for each part");
            interleave_block(format, part, row..(row + LANES).min(first + n), block);
        }
    }
    Cow::Owned(out)
}

/// Whether a matrix lies in memory as it does on the card.
fn lies_so(format: Format, matrix: &Matrix<'_>) -> bool {
    format.dtype() == matrix.dtype() && matrix.layout() == Layout::Rows16
}

/// Up to 16 rows.
fn interleave_block(format: Format, matrix: &Matrix<'_>, rows: std::ops::Range<usize>, out: &mut [u8]) {
    let as_is = format.dtype() == matrix.dtype();
    if lies_so(format, matrix) {
        return out.copy_from_slice(matrix.row_range(rows.start, rows.end).data());
    }
    let row_bytes = out.len() / LANES;
    let mut together = vec![0; out.len()];
    for (row, to) in rows.zip(together.chunks_exact_mut(row_bytes)) {
        if as_is {
            to.copy_from_slice(matrix.row(row));
        } else {
            encode_row(format.dtype(), matrix, row, to);
        }
    }
    if tensor::interleaved_fields(format.dtype()).is_some() {
        tensor::interleave(format.dtype(), &together, out);
    } else {
        interleave_units(&together, row_bytes, out);
    }
}

/// A row in another format: F32, F16 or Q8_0.
fn encode_row(dtype: DType, matrix: &Matrix<'_>, row: usize, out: &mut [u8]) {
    let mut values = vec![0.0; matrix.cols()];
    matrix.decode_row(row, &mut values);
    match dtype {
        DType::Q8_0 => tensor::quant::quantise_q8_0(&values, out),
        DType::F32 => out.copy_from_slice(bytemuck::cast_slice(&values)),
        DType::F16 => {
            for (to, value) in out.chunks_exact_mut(size_of::<f16>()).zip(values) {
                to.copy_from_slice(&f16::from_f32(value).to_le_bytes());
            }
        }
        other => unreachable!("nothing becomes {other} on its way to a card"),
    }
}

fn interleave_units(rows: &[u8], row_bytes: usize, out: &mut [u8]) {
    for (i, line) in out.chunks_exact_mut(LANES * UNIT).enumerate() {
        for (row, unit) in rows.chunks_exact(row_bytes).zip(line.chunks_exact_mut(UNIT)) {
            unit.copy_from_slice(&row[i * UNIT..(i + 1) * UNIT]);
        }
    }
}

/// Factors of FP8 parts, one part's after another's.
pub(crate) fn scales(parts: &[Matrix<'_>]) -> Vec<u8> {
    let of = |part: &Matrix<'_>| part.scale().map_or_else(|| ones(part), |scale| scale.data.to_vec());
    parts.iter().flat_map(of).collect()
}

/// Factors of an FP8 matrix without any.
fn ones(part: &Matrix<'_>) -> Vec<u8> {
    debug_assert_eq!(part.dtype(), DType::F8E4M3, "others have no place for factors");
    let n = part.rows().div_ceil(tensor::SCALE_BLOCK) * part.cols().div_ceil(tensor::SCALE_BLOCK);
    std::iter::repeat_n(1f32.to_le_bytes(), n).flatten().collect()
}
