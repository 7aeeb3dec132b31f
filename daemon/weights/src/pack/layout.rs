//! Which tensors a pack interleaves.

use tensor::{DType, LANES, Layout};

/// Bytes of 16 rows beyond which a matrix stays row after row: the importer holds two such groups. R1's widest, 18,432
/// columns in Q8_0, have 313 KB.
pub(crate) const GROUP_BYTES_MAX: usize = 2 << 20;

/// Latent attention's matrices per head, stacked in one tensor.
const PER_HEAD: [&str; 3] = ["attn_k_b", "attn_v_b", "attn_kv_b"];

/// The layout of the tensor called `name` in a pack: 16 rows interleaved, wherever a kernel multiplies with whole rows.
///
/// Vectors, types without an interleaved form, and matrices of other than whole sixteens of rows can't lie so. The
/// matrices per head of latent attention stay as they are because they are cut at heads, which end anywhere, and read
/// transposed.
///
/// A manifest that says otherwise is refused, so that no kernel meets a layout it has no loop for.
pub(crate) fn layout_of(name: &str, dtype: DType, shape: &[usize]) -> Layout {
    let &[rows, cols] = shape else { return Layout::Rows };
    let mut words = name.rsplit('.');
    let is_weight = words.next() == Some("weight");
    let is_per_head = words.next().is_some_and(|stage| PER_HEAD.contains(&stage));
    let fits = Layout::Rows16.fits(dtype, rows)
        && group_bytes(dtype, cols).is_some_and(|bytes| bytes <= GROUP_BYTES_MAX);
    if is_weight && !is_per_head && fits { Layout::Rows16 } else { Layout::Rows }
}

/// Bytes of the rows that are interleaved together; `None` where a row is no whole number of blocks or the size overflows.
pub(crate) fn group_bytes(dtype: DType, cols: usize) -> Option<usize> {
    dtype.bytes_for(cols)?.checked_mul(LANES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matrices_of_whole_sixteens_are_interleaved() {
        for name in ["token_embd.weight", "blk.0.attn_q.weight", "blk.3.ffn_gate.17.weight"] {
            assert_eq!(layout_of(name, DType::Q4K, &[32, 256]), Layout::Rows16, "{name}");
        }
        assert_eq!(layout_of("blk.3.ffn_down.*.weight", DType::Q6K, &[7168, 2048]), Layout::Rows16);
    }

    #[test]
    fn everything_else_stays_row_after_row() {
        let cases: [(&str, DType, &[usize]); 9] = [
            ("blk.0.attn_q.weight", DType::Q4K, &[40, 256]),
            ("blk.0.attn_q.weight", DType::F16, &[32, 256]),
            ("blk.0.attn_q.weight", DType::IQ2S, &[32, 256]),
            ("blk.0.attn_norm.weight", DType::Q8_0, &[32]),
            ("blk.0.attn_q.bias", DType::Q8_0, &[32, 32]),
            ("blk.0.attn_kv_b.weight", DType::Q8_0, &[32, 32]),
            ("blk.0.attn_k_b.weight", DType::Q8_0, &[16, 32, 32]),
            ("blk.0.attn_q.weight", DType::Q8_0, &[16, 1 << 20]),
            ("blk.0.attn_q.weight", DType::Q8_0, &[16, usize::MAX - 31]),
        ];
        for (name, dtype, shape) in cases {
            assert_eq!(layout_of(name, dtype, shape), Layout::Rows, "{name} {dtype} {shape:?}");
        }
    }
}
