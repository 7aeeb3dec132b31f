//! Packs whose records are coded: nothing is lost, wrong bytes are found.
#![allow(clippy::unwrap_used, reason = "test code")]

mod support;

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use support::{Model, assert_equal, deepseek_fp8, folder, gguf};
use tensor::DType;
use weights::pack::{Coding, Hash, Manifest, Pack, Problem, RecordLayer, decode_record, encode_record};
use weights::{Compress, Error, ImportOptions, ImportReport, Reason, import, open};

fn import_as(model: &Model, name: &str, compress: Compress) -> (PathBuf, ImportReport) {
    let dest = model.beside(name);
    let options = ImportOptions { compress, checkpoint_bytes: 300_000, ..ImportOptions::default() };
    let report = import(&model.path, &dest, &options, &mut |_| {}).unwrap();
    (dest, report)
}

fn layers(pack: &Pack) -> &[RecordLayer] {
    &pack.manifest().experts.as_ref().unwrap().layers
}

/// A coded pack of BF16 experts.
fn coded() -> (Model, Pack) {
    let model = folder("tiny-deepseek-v3");
    let (dest, _) = import_as(&model, "pack", Compress::Always);
    (model, Pack::open(&dest).unwrap())
}

/// The stored bytes of a record, read as the streamer does.
fn stored(pack: &Pack, layer: &RecordLayer, expert: u32) -> Vec<u8> {
    let mut bytes = vec![0; layer.stored_bytes(expert) as usize];
    let file = fs::File::open(pack.experts_path()).unwrap();
    file.read_exact_at(&mut bytes, layer.record_offset(expert)).unwrap();
    bytes
}

fn flip(path: PathBuf, at: u64) {
    let mut bytes = fs::read(&path).unwrap();
    bytes[at as usize] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

#[test]
fn coded_and_uncoded_packs_hold_the_same_tensors() {
    let bf16 = ["tiny-deepseek-v2", "tiny-deepseek-v2-lite", "tiny-deepseek-v3"].map(folder);
    for model in bf16.into_iter().chain([folder("tiny-deepseek-v3-fp8"), deepseek_fp8()]) {
        let (raw, _) = import_as(&model, "raw", Compress::Never);
        let (coded, report) = import_as(&model, "coded", Compress::Always);
        assert!(report.choices.iter().all(|choice| choice.coding == Coding::Split), "{:?}", report.choices);
        let pack = Pack::open(&coded).unwrap();
        assert!(layers(&pack).iter().all(RecordLayer::is_coded));
        assert_equal(&open(&raw).unwrap(), &open(&coded).unwrap());
        assert_equal(&open(&model.path).unwrap(), &open(&coded).unwrap());
        assert_eq!(pack.verify(&mut |_| {}).unwrap(), []);
        assert!(!coded.join("experts.rewritten").exists() && !coded.join("journal").exists());
    }
}

#[test]
fn coded_weights_take_less_room() {
    for (name, ratio) in [("tiny-deepseek-v3", 0.75), ("tiny-deepseek-v3-fp8", 0.92)] {
        let model = folder(name);
        let (dest, report) = import_as(&model, "pack", Compress::Always);
        let pack = Pack::open(&dest).unwrap();
        for layer in layers(&pack) {
            let got = layer.stored.iter().sum::<u64>() as f64
                / (layer.record_bytes * layer.stored.len() as u64) as f64;
            assert!(got < ratio, "{name}, layer {}: {got}", layer.layer);
        }
        for choice in &report.choices {
            let sample = choice.sample.unwrap();
            assert!(sample.ratio < ratio && sample.decode > 0.0, "{choice:?}");
        }
    }
}

#[test]
fn a_record_is_decoded_from_one_read() {
    let (model, pack) = coded();
    let source = open(&model.path).unwrap();
    for layer in layers(&pack) {
        for expert in 0..layer.xxh3.len() as u32 {
            let stored = stored(&pack, layer, expert);
            // A coded record is hashed whole.
            let whole = 0..stored.len() as u64;
            assert_eq!(layer.hashed(expert), [whole]);
            assert_eq!(Hash::of_parts(&[Hash::of(&stored)]), layer.xxh3[expert as usize]);
            // Memory in pages, not clean.
            let mut memory = vec![0xaa; layer.stride as usize];
            decode_record(layer, expert, &stored, &mut memory).unwrap();
            for part in &layer.parts {
                let tensor = source.require(&part.name.replace('*', &expert.to_string())).unwrap();
                assert!(memory[part.offset as usize..][..part.bytes as usize] == *tensor.data);
            }
            assert!(encode_record(layer, &memory) == stored);
        }
    }
}

#[test]
fn an_uncoded_record_goes_through_the_same_door() {
    let model = deepseek_fp8();
    let (dest, _) = import_as(&model, "pack", Compress::Never);
    let pack = Pack::open(&dest).unwrap();
    let layer = &layers(&pack)[0];
    let stored = stored(&pack, layer, 1);
    let mut memory = vec![0; layer.record_bytes as usize];
    decode_record(layer, 1, &stored, &mut memory).unwrap();
    assert!(memory == stored);
    let problem = decode_record(layer, 1, &stored[..stored.len() - 1], &mut memory).unwrap_err();
    assert!(matches!(problem, Problem::Record { expert: 1, .. }), "{problem}");
}

#[test]
fn records_cut_or_stretched_are_refused_with_their_place() {
    let (_model, pack) = coded();
    let layer = &layers(&pack)[0];
    let mut bytes = stored(&pack, layer, 2);
    let mut memory = vec![0; layer.record_bytes as usize];
    for n in (0..bytes.len()).step_by(97) {
        let problem = decode_record(layer, 2, &bytes[..n], &mut memory).unwrap_err();
        assert!(matches!(problem, Problem::Record { expert: 2, at, .. } if at <= n), "{n} bytes: {problem}");
    }
    let n = bytes.len();
    bytes.push(0);
    let problem = decode_record(layer, 2, &bytes, &mut memory).unwrap_err();
    assert!(matches!(problem, Problem::Record { at, .. } if at == n), "{problem}");
}

#[test]
fn a_coded_record_whose_bytes_changed_is_found_by_verify_and_when_opened() {
    let (_model, pack) = coded();
    let layer = &layers(&pack)[0];
    let expert = layer.xxh3.len() as u32 - 1;
    flip(pack.experts_path(), layer.record_offset(expert) + layer.stored_bytes(expert) / 2);
    let findings = pack.verify(&mut |_| {}).unwrap();
    let item = format!("record {}.{expert}", layer.layer);
    assert_eq!(findings.iter().map(|finding| finding.item.as_str()).collect::<Vec<_>>(), [item.as_str()]);
    let error = open(pack.experts_path().parent().unwrap()).unwrap_err();
    assert!(matches!(&error, Error::Pack { problem: Problem::Checksum { .. }, .. }), "{error}");
    assert!(error.to_string().contains(&item), "{error}");
}

#[test]
fn a_record_that_is_wrong_by_its_own_hash_is_refused() {
    let (_model, pack) = coded();
    let dir = pack.experts_path().parent().unwrap().to_owned();
    let layer = &layers(&pack)[0];
    // The first chunk's count.
    flip(pack.experts_path(), layer.record_offset(0) + 2);
    let mut manifest = pack.manifest().clone();
    let hash = Hash::of_parts(&[Hash::of(&stored(&pack, layer, 0))]);
    manifest.experts.as_mut().unwrap().layers[0].xxh3[0] = hash;
    fs::write(dir.join("pack.json"), manifest.to_json()).unwrap();
    let error = open(&dir).unwrap_err();
    assert!(matches!(&error, Error::Pack { problem: Problem::Record { expert: 0, .. }, .. }), "{error}");
}

#[test]
fn lies_about_coded_records_are_found() {
    let (_model, pack) = coded();
    let lie = |change: &dyn Fn(&mut RecordLayer)| {
        let mut manifest = pack.manifest().clone();
        change(&mut manifest.experts.as_mut().unwrap().layers[0]);
        Manifest::parse(&manifest.to_json()).unwrap_err().to_string()
    };
    let cases = [
        (lie(&|layer| layer.stored[0] = 4096), "can't be that of its parts"),
        (lie(&|layer| layer.stored[0] = u64::MAX), "can't be that of its parts"),
        (lie(&|layer| layer.stored[0] = layer.record_bytes + 4096), "can't be that of its parts"),
        (lie(&|layer| layer.stored.truncate(1)), "not every record"),
        (lie(&|layer| layer.stored.clear()), "not every record"),
        (lie(&|layer| layer.stride += 1 << 40), "holes"),
        (lie(&|layer| layer.offset += 4096), "pages of their own"),
        (
            lie(&|layer| layer.parts.iter_mut().for_each(|part| part.coding = Coding::Raw)),
            "without a coded part",
        ),
    ];
    for (error, want) in cases {
        assert!(error.contains(want), "{want}: {error}");
    }
    let mut old = pack.manifest().clone();
    old.version = 2;
    let error = Manifest::parse(&old.to_json()).unwrap_err().to_string();
    assert!(error.contains("said to be coded"), "{error}");
    let error = lie(&|layer| {
        let part = &mut layer.parts[0];
        (part.dtype, part.bytes) = (DType::F16, part.bytes);
    });
    assert!(error.contains("said to be coded"), "{error}");
}

#[test]
fn block_formats_are_raw_untried() {
    let model = gguf("tiny-deepseek-v3-k256.q4_k_m.gguf");
    let (dest, report) = import_as(&model, "pack", Compress::Always);
    assert!(!report.choices.is_empty());
    for choice in &report.choices {
        assert_eq!((choice.coding, choice.reason), (Coding::Raw, Reason::Dense), "{choice:?}");
        assert!(choice.sample.is_none());
    }
    assert!(layers(&Pack::open(&dest).unwrap()).iter().all(|layer| !layer.is_coded()));
}

#[test]
fn little_models_are_raw_unless_asked_otherwise() {
    let model = folder("tiny-deepseek-v3");
    let reasons = |name, compress| {
        let (_, report) = import_as(&model, name, compress);
        let parts: Vec<_> = report.choices.iter().map(|choice| choice.part.clone()).collect();
        assert_eq!(parts, ["ffn_down", "ffn_gate", "ffn_up"]);
        report.choices.iter().map(|choice| (choice.coding, choice.reason)).collect::<Vec<_>>()
    };
    assert_eq!(reasons("auto", Compress::Auto), [(Coding::Raw, Reason::Small); 3]);
    assert_eq!(reasons("never", Compress::Never), [(Coding::Raw, Reason::Asked); 3]);
    assert_eq!(reasons("always", Compress::Always), [(Coding::Split, Reason::Asked); 3]);
}

#[test]
fn a_model_without_experts_has_nothing_to_decide() {
    let model = gguf("tiny-qwen2.q8_0.gguf");
    let (_, report) = import_as(&model, "pack", Compress::Always);
    assert!(report.choices.is_empty());
}
