//! Imported packs hold what their sources hold.
#![allow(clippy::unwrap_used, reason = "test code")]

mod support;

use std::collections::BTreeSet;
use std::fs;

use sha2::{Digest, Sha256};
use support::{all, assert_equal, contents, deepseek_fp8, folder, gguf, gguf_files::of_all_types};
use tensor::Layout;
use weights::pack::Pack;
use weights::{Error, ImportOptions, Stage, import, open};

#[test]
fn a_pack_holds_its_source_byte_for_byte() {
    for model in all().chain([deepseek_fp8(), of_all_types()]) {
        let dest = model.beside("pack");
        let mut last = (Stage::Copy, 0);
        let report = import(&model.path, &dest, &ImportOptions::default(), &mut |p| {
            assert!(p.stage != last.0 || p.bytes_done >= last.1);
            assert!(p.bytes_done <= p.bytes_total);
            last = (p.stage, p.bytes_done);
        })
        .unwrap();
        assert!(last.0 == Stage::Finish && report.resumed_bytes == 0);
        let (source, pack) = (open(&model.path).unwrap(), open(&dest).unwrap());
        assert_equal(&source, &pack);
        assert_eq!(report.bytes, source.bytes());
        assert!(!model.beside("pack.part").exists());
        assert!(Pack::open(&dest).unwrap().verify(&mut |_| {}).unwrap().is_empty());
        for file in &pack.source().files {
            let path = if model.path.is_dir() { model.path.join(&file.name) } else { model.path.clone() };
            let digest = Sha256::digest(fs::read(path).unwrap());
            let hex: String = digest.iter().map(|b| format!("{b:02x}")).collect();
            assert_eq!(file.sha256.as_deref(), Some(hex.as_str()));
        }
    }
}

#[test]
fn chunk_size_changes_nothing() {
    for model in [deepseek_fp8(), of_all_types(), gguf("tiny-deepseek-v3-k256.q4_k_m.gguf")] {
        import(&model.path, &model.beside("large"), &ImportOptions::default(), &mut |_| {}).unwrap();
        let large = contents(&model.beside("large")).unwrap();
        for chunk_bytes in [777, 20_000] {
            let options = ImportOptions { chunk_bytes, checkpoint_bytes: 50_000, ..ImportOptions::default() };
            let dest = model.beside(&format!("small-{chunk_bytes}"));
            import(&model.path, &dest, &options, &mut |_| {}).unwrap();
            assert!(large == contents(&dest).unwrap(), "{}, {chunk_bytes}", model.path.display());
        }
    }
}

#[test]
fn rows_of_matrices_that_kernels_multiply_with_are_interleaved() {
    let model = of_all_types();
    let dest = model.beside("pack");
    import(&model.path, &dest, &ImportOptions::default(), &mut |_| {}).unwrap();
    let (source, pack) = (open(&model.path).unwrap(), open(&dest).unwrap());
    assert!(source.tensors().all(|tensor| tensor.layout == Layout::Rows));
    for tensor in pack.tensors() {
        let is_interleaved = tensor.layout == Layout::Rows16;
        assert_eq!(is_interleaved, Layout::Rows16.fits(tensor.dtype, tensor.shape[0]), "{}", tensor.name);
        let same_bytes = tensor.data == source.require(tensor.name).unwrap().data;
        assert_eq!(is_interleaved, !same_bytes, "{}", tensor.name);
    }
    let interleaved = pack.tensors().filter(|tensor| tensor.layout == Layout::Rows16);
    assert_eq!(interleaved.map(|tensor| tensor.dtype).collect::<BTreeSet<_>>().len(), 12);
}

#[test]
fn experts_are_interleaved_and_matrices_per_head_are_not() {
    let model = gguf("tiny-deepseek-v3-k256.q4_k_m.gguf");
    let dest = model.beside("pack");
    import(&model.path, &dest, &ImportOptions::default(), &mut |_| {}).unwrap();
    let pack = Pack::open(&dest).unwrap();
    let experts = pack.manifest().experts.as_ref().unwrap();
    assert!(experts.layers[0].parts.iter().all(|part| part.layout == Layout::Rows16));
    let rows = open(&dest).unwrap();
    let layout = |name: &str| rows.require(name).unwrap().layout;
    assert_eq!(layout("token_embd.weight"), Layout::Rows16);
    assert_eq!(layout("blk.1.ffn_down.7.weight"), Layout::Rows16);
    assert_eq!(layout("blk.1.attn_k_b.weight"), Layout::Rows);
    assert_eq!(layout("blk.1.attn_v_b.weight"), Layout::Rows);
    assert_eq!(layout("blk.1.attn_norm.weight"), Layout::Rows);
}

#[test]
fn experts_lie_in_one_aligned_record_each() {
    let model = deepseek_fp8();
    let dest = model.beside("pack");
    let report = import(&model.path, &dest, &ImportOptions::default(), &mut |_| {}).unwrap();
    // One MoE layer and the draft layer.
    assert_eq!(report.n_experts, 2 * support::N_EXPERTS);
    let pack = Pack::open(&dest).unwrap();
    let experts = pack.manifest().experts.as_ref().unwrap();
    assert_eq!(experts.layers.iter().map(|layer| layer.layer).collect::<Vec<_>>(), [1, 2]);
    let layer = &experts.layers[0];
    let names: Vec<&str> = layer.parts.iter().map(|part| part.name.as_str()).collect();
    let want = ["ffn_gate", "ffn_up", "ffn_down"]
        .map(|stem| [format!("blk.1.{stem}.*.weight"), format!("blk.1.{stem}.*.weight_scale_inv")]);
    assert_eq!(names, want.as_flattened());
    assert_eq!(layer.parts[0].published, "model.layers.1.mlp.experts.*.gate_proj.weight");
    assert_eq!(layer.stride % 4096, 0);
    let bytes = fs::read(pack.experts_path()).unwrap();
    assert_eq!(bytes.len() as u64, experts.bytes);
    let weights = open(&model.path).unwrap();
    for expert in 0..4 {
        let up = weights.require(&format!("blk.1.ffn_up.{expert}.weight")).unwrap();
        let at = (layer.record_offset(expert) + layer.parts[2].offset) as usize;
        assert!(bytes[at..at + up.data.len()] == *up.data);
    }
}

#[test]
fn verify_names_the_tensor_whose_bytes_changed() {
    let model = deepseek_fp8();
    let dest = model.beside("pack");
    import(&model.path, &dest, &ImportOptions::default(), &mut |_| {}).unwrap();
    let pack = Pack::open(&dest).unwrap();
    let flip = |file: &str, at: u64| {
        let path = dest.join(file);
        let mut bytes = fs::read(&path).unwrap();
        bytes[at as usize] ^= 0x10;
        fs::write(&path, bytes).unwrap();
    };
    let experts = pack.manifest().experts.as_ref().unwrap();
    flip("experts.bin", experts.layers[0].record_offset(2) + 5);
    flip("dense.bin", pack.manifest().dense.tensors[3].offset);
    flip("tokenizer.json", 1);
    let findings = pack.verify(&mut |_| {}).unwrap();
    let items: Vec<&str> = findings.iter().map(|finding| finding.item.as_str()).collect();
    assert_eq!(items, [pack.manifest().dense.tensors[3].name.as_str(), "record 1.2", "tokenizer.json"]);
}

#[test]
fn an_existing_target_is_kept_unless_it_is_a_pack_to_be_replaced() {
    let (old, new) = (gguf("tiny-llama.q4_0.gguf"), folder("tiny-qwen2"));
    let dest = old.beside("pack");
    let options = ImportOptions::default();
    let replace = ImportOptions { replace: true, ..ImportOptions::default() };
    import(&old.path, &dest, &options, &mut |_| {}).unwrap();
    let error = import(&new.path, &dest, &options, &mut |_| {}).unwrap_err();
    assert!(matches!(error, Error::DestinationExists { .. }), "{error}");
    import(&new.path, &dest, &replace, &mut |_| {}).unwrap();
    assert_equal(&open(&new.path).unwrap(), &open(&dest).unwrap());
    assert!(!old.beside("pack.part").exists());
    // Nothing of the old pack is left: it had a tokenizer, the new one has none.
    let names: Vec<String> = contents(&dest).unwrap().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["dense.bin", "pack.json"]);
    let folder = old.beside("holiday-pictures");
    fs::create_dir(&folder).unwrap();
    let error = import(&new.path, &folder, &replace, &mut |_| {}).unwrap_err();
    assert!(matches!(error, Error::NotReplaceable { .. }), "{error}");
    let foreign = old.beside("other.part");
    fs::create_dir(&foreign).unwrap();
    fs::write(foreign.join("cat.jpg"), "meow").unwrap();
    let error = import(&new.path, &old.beside("other"), &options, &mut |_| {}).unwrap_err();
    assert!(matches!(error, Error::NotReplaceable { .. }), "{error}");
}

#[test]
fn a_pack_is_not_imported_again() {
    let model = gguf("tiny-qwen2.q8_0.gguf");
    let dest = model.beside("pack");
    import(&model.path, &dest, &ImportOptions::default(), &mut |_| {}).unwrap();
    let error = import(&dest, &model.beside("again"), &ImportOptions::default(), &mut |_| {}).unwrap_err();
    assert!(matches!(error, Error::AlreadyAPack { .. }), "{error}");
    assert!(!model.beside("again.part").exists());
}

#[test]
fn a_source_that_changes_meanwhile_is_refused() {
    let model = gguf("tiny-qwen2.q8_0.gguf");
    let dest = model.beside("pack");
    let mut touched = false;
    let error = import(&model.path, &dest, &ImportOptions::default(), &mut |_| {
        if !std::mem::replace(&mut touched, true) {
            let file = fs::File::options().append(true).open(&model.path).unwrap();
            file.set_len(file.metadata().unwrap().len() + 1).unwrap();
        }
    })
    .unwrap_err();
    assert!(matches!(error, Error::SourceChanged { .. }), "{error}");
    assert!(!dest.exists() && !model.beside("pack.part").exists());
}

#[test]
fn two_imports_to_one_target_do_not_mix() {
    let model = gguf("tiny-qwen2.q8_0.gguf");
    let (dest, options) = (model.beside("pack"), ImportOptions::default());
    let mut second = None;
    import(&model.path, &dest, &options, &mut |_| {
        second.get_or_insert_with(|| import(&model.path, &dest, &options, &mut |_| {}));
    })
    .unwrap();
    assert!(matches!(second, Some(Err(Error::Busy { .. }))), "{second:?}");
}
