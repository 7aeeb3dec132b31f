//! Models split over several GGUF files.
#![allow(clippy::unwrap_used, reason = "test code")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use support::{assert_equal, gguf};
use weights::gguf::{Header, MetadataWriter, TensorInfo};
use weights::{ImportOptions, import, open};

/// Bytes of the metadata entries and their number, taken from a whole file.
fn metadata(bytes: &[u8], header: &Header) -> (u64, Vec<u8>) {
    let count = u64::from_le_bytes(bytes[16..24].try_into().unwrap());
    let name = &header.tensors[0].name;
    let mut first_tensor = (name.len() as u64).to_le_bytes().to_vec();
    first_tensor.extend(name.as_bytes());
    let end = bytes.windows(first_tensor.len()).position(|window| window == first_tensor).unwrap();
    (count, bytes[24..end].to_vec())
}

/// `split.*` keys as bytes.
fn split_keys(no: usize, count: usize, n_tensors: usize) -> (u64, Vec<u8>) {
    let mut keys = MetadataWriter::new();
    keys.u32("split.no", no as u32);
    keys.u32("split.count", count as u32);
    keys.u32("split.tensors.count", n_tensors as u32);
    (3, keys.finish()[24..].to_vec())
}

fn part(bytes: &[u8], entries: &[(u64, Vec<u8>)], tensors: &[TensorInfo]) -> Vec<u8> {
    let mut out = b"GGUF\x03\x00\x00\x00".to_vec();
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend(entries.iter().map(|(count, _)| count).sum::<u64>().to_le_bytes());
    entries.iter().for_each(|(_, bytes)| out.extend(bytes));
    let mut data = Vec::new();
    for info in tensors {
        out.extend((info.name.len() as u64).to_le_bytes());
        out.extend(info.name.as_bytes());
        out.extend((info.shape.len() as u32).to_le_bytes());
        info.shape.iter().rev().for_each(|&dim| out.extend((dim as u64).to_le_bytes()));
        out.extend(info.dtype.ggml_id().unwrap().to_le_bytes());
        data.resize(data.len().next_multiple_of(32), 0);
        out.extend((data.len() as u64).to_le_bytes());
        data.extend(&bytes[info.offset as usize..][..info.bytes as usize]);
    }
    out.resize(out.len().next_multiple_of(32), 0);
    out.extend(data);
    out
}

/// Splits a GGUF file into `count` parts beside it; the first has no tensors, as some tools write it.
fn split(path: &Path, count: usize) -> Vec<PathBuf> {
    let bytes = fs::read(path).unwrap();
    let header = Header::parse(&bytes).unwrap();
    let per_part = header.tensors.len().div_ceil(count - 1);
    let mut parts = header.tensors.chunks(per_part);
    let mut paths = Vec::new();
    for no in 0..count {
        let mut entries = vec![split_keys(no, count, header.tensors.len())];
        if no == 0 {
            entries.push(metadata(&bytes, &header));
        }
        let tensors = if no == 0 { &[][..] } else { parts.next().unwrap() };
        let path = path.with_file_name(format!("split-{:05}-of-{count:05}.gguf", no + 1));
        fs::write(&path, part(&bytes, &entries, tensors)).unwrap();
        paths.push(path);
    }
    paths
}

#[test]
fn any_part_opens_the_whole_model() {
    let model = gguf("tiny-llama.q4_0.gguf");
    let paths = split(&model.path, 4);
    let whole = open(&model.path).unwrap();
    for path in &paths {
        assert_equal(&whole, &open(path).unwrap());
    }
    let dest = model.beside("pack");
    import(&paths[2], &dest, &ImportOptions::default(), &mut |_| {}).unwrap();
    let pack = open(&dest).unwrap();
    assert_equal(&whole, &pack);
    assert_eq!(pack.source().files.len(), 4);
}

#[test]
fn mixed_up_parts_are_refused() {
    let model = gguf("tiny-llama.q4_0.gguf");
    let paths = split(&model.path, 3);
    let alone = model.beside("renamed.gguf");
    fs::copy(&paths[0], &alone).unwrap();
    let error = open(&alone).unwrap_err().to_string();
    assert!(error.contains("give it its published name"), "{error}");
    fs::rename(&paths[1], model.beside("away")).unwrap();
    let error = open(&paths[2]).unwrap_err().to_string();
    assert!(error.contains("split-00002-of-00003.gguf: not found"), "{error}");
    fs::copy(&paths[2], &paths[1]).unwrap();
    let error = open(&paths[0]).unwrap_err().to_string();
    assert!(error.contains("the name says part 2 of 3, the metadata part 3 of 3"), "{error}");
}

#[test]
fn parts_of_different_models_are_refused() {
    let (model, other) = (gguf("tiny-llama.q4_0.gguf"), gguf("tiny-qwen2.q8_0.gguf"));
    let (paths, others) = (split(&model.path, 3), split(&other.path, 3));
    fs::copy(&others[2], &paths[2]).unwrap();
    let error = open(&paths[0]).unwrap_err().to_string();
    assert!(
        error.contains("parts of different models are mixed") || error.contains("more than once"),
        "{error}"
    );
}
