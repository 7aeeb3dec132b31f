//! Packs of every version open.
#![allow(clippy::unwrap_used, reason = "test code")]

mod support;

use std::fs;

use support::{assert_equal, gguf};
use weights::pack::{Layout, Manifest, Pack};
use weights::{ExpertKey, ExpertPart, ImportOptions, import, open};

/// What version 1 wrote about a pack of `tiny-deepseek-v3-k256.q4_k_m.gguf`: its hashes are of the published bytes.
const VERSION_1: &[u8] = include_bytes!("packs/version-1.json");

/// What version 2 wrote about the same: its hashes are of interleaved bytes.
const VERSION_2: &[u8] = include_bytes!("packs/version-2.json");

/// Data of a pack's file: zeros, and pieces at their places.
fn file<'a>(bytes: u64, pieces: impl IntoIterator<Item = (u64, &'a [u8])>) -> Vec<u8> {
    let mut out = vec![0; bytes as usize];
    for (at, piece) in pieces {
        out[at as usize..][..piece.len()].copy_from_slice(piece);
    }
    out
}

#[test]
fn a_pack_of_version_1_lies_row_after_row() {
    let model = gguf("tiny-deepseek-v3-k256.q4_k_m.gguf");
    let source = open(&model.path).unwrap();
    let dest = model.beside("pack");
    import(&model.path, &dest, &ImportOptions::default(), &mut |_| {}).unwrap();
    let manifest = Manifest::parse(VERSION_1).unwrap();
    assert_eq!(manifest.version, 1);
    let data = |name: &str| source.require(name).unwrap().data;
    let dense = manifest.dense.tensors.iter().map(|t| (t.offset, data(&t.name)));
    fs::write(dest.join("dense.bin"), file(manifest.dense.bytes, dense)).unwrap();
    let experts = manifest.experts.as_ref().unwrap();
    let layer = &experts.layers[0];
    let records = (0..layer.xxh3.len() as u32).flat_map(|expert| {
        let key = ExpertKey { layer: layer.layer, expert };
        let parts = layer.parts.iter().zip(ExpertPart::ALL);
        parts.map(move |(at, part)| (layer.record_offset(expert) + at.offset, data(&key.tensor_name(part))))
    });
    fs::write(dest.join("experts.bin"), file(experts.bytes, records)).unwrap();
    fs::write(dest.join("pack.json"), VERSION_1).unwrap();

    let pack = open(&dest).unwrap();
    assert!(pack.tensors().all(|tensor| tensor.layout == Layout::Rows));
    assert_equal(&source, &pack);
    assert_eq!(Pack::open(&dest).unwrap().verify(&mut |_| {}).unwrap(), []);
}

#[test]
fn a_pack_of_version_2_has_the_data_of_todays() {
    let model = gguf("tiny-deepseek-v3-k256.q4_k_m.gguf");
    let dest = model.beside("pack");
    import(&model.path, &dest, &ImportOptions::default(), &mut |_| {}).unwrap();
    assert_eq!(Manifest::parse(VERSION_2).unwrap().version, 2);
    fs::write(dest.join("pack.json"), VERSION_2).unwrap();
    let pack = open(&dest).unwrap();
    assert!(pack.tensors().any(|tensor| tensor.layout == Layout::Rows16));
    assert_equal(&open(&model.path).unwrap(), &pack);
    assert_eq!(Pack::open(&dest).unwrap().verify(&mut |_| {}).unwrap(), []);
}
