//! GGUF files made up on the spot.

use std::fs;

use tensor::DType;
use weights::gguf::MetadataWriter;

use super::{Bytes, Model};

/// A tensor of a file: name, data type, shape.
pub(crate) type Info = (String, DType, Vec<usize>);

/// The metadata with a table of `tensors` behind it, and how many bytes of data have to follow.
pub(crate) fn header(metadata: MetadataWriter, tensors: &[Info]) -> (Vec<u8>, usize) {
    let mut out = metadata.finish();
    out[8..16].copy_from_slice(&(tensors.len() as u64).to_le_bytes());
    let mut offset = 0usize;
    for (name, dtype, shape) in tensors {
        out.extend((name.len() as u64).to_le_bytes());
        out.extend(name.as_bytes());
        out.extend((shape.len() as u32).to_le_bytes());
        shape.iter().rev().for_each(|&dim| out.extend((dim as u64).to_le_bytes()));
        out.extend(dtype.ggml_id().unwrap().to_le_bytes());
        out.extend((offset as u64).to_le_bytes());
        offset = (offset + dtype.bytes_for(shape.iter().product()).unwrap()).next_multiple_of(32);
    }
    out.resize(out.len().next_multiple_of(32), 0);
    (out, offset)
}

/// A Llama of `n_layers` layers whose matrices have the types that `dtype_of` gives them, by their order; `d_ff` is
/// `d_model`. Its metadata and tensors.
pub(crate) fn llama(
    (n_layers, d_model, n_vocab): (usize, usize, usize),
    mut dtype_of: impl FnMut(usize) -> DType,
) -> (MetadataWriter, Vec<Info>) {
    let mut metadata = MetadataWriter::new();
    metadata.string("general.architecture", "llama");
    let numbers = [
        ("block_count", n_layers),
        ("embedding_length", d_model),
        ("feed_forward_length", d_model),
        ("context_length", 64),
        ("attention.head_count", 8),
    ];
    numbers.iter().for_each(|(key, value)| metadata.u32(&format!("llama.{key}"), *value as u32));
    metadata.f32("llama.attention.layer_norm_rms_epsilon", 1e-6);
    let mut matrices: Vec<(String, usize)> =
        ["token_embd", "output"].iter().map(|name| (format!("{name}.weight"), n_vocab)).collect();
    let mut tensors = vec![("output_norm.weight".to_owned(), DType::F32, vec![d_model])];
    for layer in 0..n_layers {
        let name = |stage: &str| format!("blk.{layer}.{stage}.weight");
        tensors.extend(["attn_norm", "ffn_norm"].map(|stage| (name(stage), DType::F32, vec![d_model])));
        let stages = ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"];
        matrices.extend(stages.map(|stage| (name(stage), d_model)));
    }
    let matrices = matrices.into_iter().enumerate();
    tensors.extend(matrices.map(|(i, (name, rows))| (name, dtype_of(i), vec![rows, d_model])));
    (metadata, tensors)
}

/// A Llama with matrices of every type that GGUF files have, its embedding and head of 40 rows each.
pub(crate) fn of_all_types() -> Model {
    let is_weight = |dtype: &DType| dtype.ggml_id().is_some() && *dtype != DType::I32;
    let dtypes: Vec<DType> = DType::all().filter(is_weight).collect();
    let (metadata, tensors) = llama((4, 256, 40), |i| dtypes[(i + 4) % dtypes.len()]);
    assert!(tensors.len() >= dtypes.len(), "every type occurs; the first two, with few rows, twice");
    let (mut file, n_bytes) = header(metadata, &tensors);
    file.extend(Bytes(7).fill(n_bytes));
    let model = Model::new("all-types.gguf");
    fs::write(&model.path, file).unwrap();
    model
}
