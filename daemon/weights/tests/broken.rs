//! Damaged files give errors: never a panic, never memory they merely claim.
#![allow(clippy::unwrap_used, reason = "test code")]

mod support;

use std::fs;

use proptest::prelude::*;
use support::{deepseek_fp8, gguf};
use tensor::{DType, Layout};
use weights::gguf::{Header, TensorFacts, hyperparameters};
use weights::pack::Manifest;
use weights::{Error, GgufTokenizer, ImportOptions, hf, import, open, safetensors};

/// Reads all that can be read from the bytes of a GGUF file.
fn read_gguf(bytes: &[u8]) -> Result<(), String> {
    let header = Header::parse(bytes).map_err(|e| e.to_string())?;
    header.check_data(bytes.len() as u64).map_err(|e| e.to_string())?;
    GgufTokenizer::from_metadata(&header.metadata).map_err(|e| e.to_string())?;
    let facts = TensorFacts { n_vocab: Some(512), has_output: true, has_router_bias: true };
    hyperparameters(&header.metadata, facts).map(drop).map_err(|e| e.to_string())
}

fn small_gguf() -> Vec<u8> {
    fs::read(gguf("tiny-llama.q4_0.gguf").path).unwrap()
}

#[test]
fn a_gguf_file_cut_anywhere_is_refused() {
    let bytes = small_gguf();
    read_gguf(&bytes).unwrap();
    for n in (0..18_000).step_by(7).chain((18_000..bytes.len()).step_by(4099)) {
        let error = read_gguf(&bytes[..n]).unwrap_err();
        let told = ["incomplete", "not a GGUF file"].iter().any(|words| error.contains(words));
        assert!(told, "{n} bytes: {error}");
    }
}

#[test]
fn a_cut_file_opens_with_words_about_what_to_do() {
    let model = gguf("tiny-llama.q4_0.gguf");
    let file = fs::File::options().write(true).open(&model.path).unwrap();
    file.set_len(300_000).unwrap();
    let error = open(&model.path).unwrap_err().to_string();
    assert!(
        error.contains("the file ends at 300000") && error.contains("copy or download it again"),
        "{error}"
    );
    let error =
        import(&model.path, &model.beside("pack"), &ImportOptions::default(), &mut |_| {}).unwrap_err();
    assert!(matches!(error, Error::Gguf { .. }), "{error}");
    assert!(!model.beside("pack").exists() && !model.beside("pack.part").exists());
}

/// Where the first occurrence of `needle` ends.
fn behind(bytes: &[u8], needle: &[u8]) -> usize {
    bytes.windows(needle.len()).position(|window| window == needle).unwrap() + needle.len()
}

#[test]
fn lies_about_sizes_are_found() {
    let good = small_gguf();
    let dims = behind(&good, b"blk.1.ffn_up.weight") + 4;
    let offset = dims + 16 + 4;
    let tokens = behind(&good, b"tokenizer.ggml.tokens") + 8;
    let cases: [(usize, u64, &str); 9] = [
        (8, u64::MAX, "the number of tensors"),
        (16, 1 << 40, "the number of metadata entries"),
        (24, u64::MAX, "a metadata key"),
        (tokens, u64::MAX, "an array's length"),
        (tokens, 1 << 24, "an array at byte"),
        (dims, 1 << 63, "empty or too large"),
        (dims, 160, "overlap"),
        (offset, u64::MAX - 31, "lies about its sizes"),
        (offset, 33, "not a multiple of the alignment"),
    ];
    for (at, lie, want) in cases {
        let mut bytes = good.clone();
        bytes[at..at + 8].copy_from_slice(&lie.to_le_bytes());
        let error = read_gguf(&bytes).unwrap_err();
        assert!(error.contains(want), "{lie} at {at}: {error}");
    }
}

#[test]
fn foreign_bytes_are_named() {
    let cases: [(&[u8], &str); 5] = [
        (b"", "incomplete"),
        (b"PK\x03\x04 and more", "not a GGUF file"),
        (b"GGUF\x01\x00\x00\x00", "version 1 is not supported"),
        (b"GGUF\x00\x00\x00\x03", "big-endian"),
        (b"GGUF\x03\x00\x00\x00\x00", "incomplete"),
    ];
    for (bytes, want) in cases {
        let error = read_gguf(bytes).unwrap_err();
        assert!(error.contains(want), "{bytes:?}: {error}");
    }
}

fn safetensors_file(json: &str, data: usize) -> Vec<u8> {
    let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
    bytes.extend(json.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    bytes
}

#[test]
fn safetensors_lies_are_found() {
    let cases = [
        (r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#, 7, "incomplete or damaged"),
        (r#"{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}"#, 8, "its shape and data type take 12"),
        (r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#, 12, "starts at 4"),
        (r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}"#, 8, "starts at 8"),
        (r#"{"a":{"dtype":"F32","shape":[9223372036854775808,4],"data_offsets":[0,8]}}"#, 8, "too large"),
        (r#"{"a":{"dtype":"F33","shape":[2],"data_offsets":[0,8]}}"#, 8, "unknown data type"),
        (r#"{"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}}"#, 8, "not valid"),
        (
            r#"{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#,
            0,
            "more than once",
        ),
        ("[1, 2]", 0, "not valid"),
    ];
    for (json, data, want) in cases {
        let error = safetensors::View::parse(&safetensors_file(json, data)).unwrap_err().to_string();
        assert!(error.contains(want), "{json}: {error}");
    }
    let huge = u64::MAX.to_le_bytes();
    let error = safetensors::View::parse(&huge).unwrap_err();
    assert!(matches!(error, safetensors::Problem::HeaderTooLarge { .. }), "{error}");
}

/// A manifest with everything in it.
fn manifest() -> String {
    let model = deepseek_fp8();
    import(&model.path, &model.beside("pack"), &ImportOptions::default(), &mut |_| {}).unwrap();
    fs::read_to_string(model.beside("pack").join("pack.json")).unwrap()
}

#[test]
fn manifest_lies_are_found() {
    let good = manifest();
    let parsed = Manifest::parse(good.as_bytes()).unwrap();
    let lie = |change: &dyn Fn(&mut Manifest)| {
        let mut manifest = parsed.clone();
        change(&mut manifest);
        Manifest::parse(&manifest.to_json()).unwrap_err().to_string()
    };
    let layer = |m: &mut Manifest| m.experts.as_mut().unwrap().layers[0].clone();
    let cases = [
        (lie(&|m| m.version = 4), "version 4 is not supported"),
        (lie(&|m| m.version = 0), "version 0 is not supported"),
        (lie(&|m| m.format = "zip".into()), "not \"wels-pack\""),
        (lie(&|m| m.hyperparameters.n_heads = 0), "n_heads"),
        (lie(&|m| m.dense.tensors[1].offset = 0), "a page of its own"),
        (lie(&|m| m.dense.tensors[0].bytes -= 1), "not that of its shape"),
        (lie(&|m| m.dense.tensors[0].shape[0] = usize::MAX), "not that of its shape"),
        (lie(&|m| m.dense.bytes = 1), "beyond dense.bin"),
        (lie(&|m| m.experts.as_mut().unwrap().bytes -= 1), "beyond experts.bin"),
        (lie(&|m| m.experts.as_mut().unwrap().layers[0].stride = 0), "pages of their own"),
        (lie(&|m| m.experts.as_mut().unwrap().layers[0].offset = u64::MAX - 4095), "beyond experts.bin"),
        (lie(&|m| m.experts.as_mut().unwrap().layers[0].parts[1].offset = 0), "parts overlap"),
        (
            lie(&|m| {
                let again = layer(m);
                m.experts.as_mut().unwrap().layers.push(again)
            }),
            "pages of their own",
        ),
        (lie(&|m| m.files[0].name = "../../etc/passwd".into()), "the side file"),
    ];
    for (error, want) in cases {
        assert!(error.contains(want), "{want}: {error}");
    }
}

#[test]
fn layouts_that_no_matrix_can_have_are_refused() {
    let model = gguf("tiny-deepseek-v3-k256.q4_k_m.gguf");
    import(&model.path, &model.beside("pack"), &ImportOptions::default(), &mut |_| {}).unwrap();
    let good = fs::read(model.beside("pack").join("pack.json")).unwrap();
    let good = Manifest::parse(&good).unwrap();
    let refused = |manifest: Manifest, tensor: &str| {
        let error = Manifest::parse(&manifest.to_json()).unwrap_err().to_string();
        assert!(error.contains(tensor) && error.contains("said to be interleaved"), "{tensor}: {error}");
    };
    // A vector, floats, a stack of matrices.
    for name in ["output_norm.weight", "blk.1.ffn_gate_inp.weight", "blk.0.attn_k_b.weight"] {
        let mut lie = good.clone();
        lie.dense.tensors.iter_mut().find(|t| t.name == name).unwrap().layout = Layout::Rows16;
        refused(lie, name);
    }
    let mut matrix = good.clone();
    let t = &mut matrix.dense.tensors[0];
    assert_eq!((t.layout, t.dtype), (Layout::Rows16, DType::Q6K));
    (t.shape, t.bytes) = (vec![40, 256], 40 * 210);
    refused(matrix.clone(), "output.weight");
    let t = &mut matrix.dense.tensors[0];
    (t.dtype, t.shape, t.bytes) = (DType::F16, vec![32, 256], 32 * 512);
    refused(matrix.clone(), "output.weight");
    // Matrices per head, which kernels cut apart.
    let mut per_head = good.clone();
    per_head.dense.tensors[0].name = "blk.0.attn_kv_b.weight".into();
    refused(per_head, "attn_kv_b");
    let mut part = good.clone();
    let layer = &mut part.experts.as_mut().unwrap().layers[0];
    (layer.parts[2].shape, layer.parts[2].bytes) = (vec![8, 256], 8 * 210);
    layer.record_bytes = layer.parts[2].offset + 8 * 210;
    refused(part, "blk.1.ffn_down.*.weight");
    let mut old = good;
    old.version = 1;
    refused(old.clone(), "output.weight");
    let unknown = String::from_utf8(old.to_json()).unwrap().replace("rows16", "rows17");
    let error = Manifest::parse(unknown.as_bytes()).unwrap_err().to_string();
    assert!(error.contains("rows17"), "{error}");
}

/// A change to a file: bytes overwritten, taken out, doubled.
#[derive(Clone, Debug)]
enum Mutation {
    Set(usize, u8),
    Number(usize, u64),
    Cut(usize),
    Remove(usize, usize),
    Double(usize, usize),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    use Mutation::*;
    let at = || 0usize..1 << 16;
    let number = prop_oneof![Just(u64::MAX), Just(1 << 63), Just(1 << 32), Just(0), 0u64..100_000];
    prop_oneof![
        (at(), any::<u8>()).prop_map(|(at, byte)| Set(at, byte)),
        (at(), number).prop_map(|(at, number)| Number(at, number)),
        at().prop_map(Cut),
        (at(), 1usize..64).prop_map(|(at, n)| Remove(at, n)),
        (at(), 1usize..64).prop_map(|(at, n)| Double(at, n)),
    ]
}

fn mutate(bytes: &mut Vec<u8>, mutation: &Mutation) {
    let span = |at: usize, n: usize, len: usize| (at % len)..(at % len + n).min(len);
    if bytes.is_empty() {
        return;
    }
    let len = bytes.len();
    match *mutation {
        Mutation::Set(at, byte) => bytes[at % len] = byte,
        Mutation::Number(at, number) => {
            let range = span(at, 8, len);
            let n = range.len();
            bytes[range].copy_from_slice(&number.to_le_bytes()[..n]);
        }
        Mutation::Cut(at) => bytes.truncate(at % len),
        Mutation::Remove(at, n) => drop(bytes.drain(span(at, n, len))),
        Mutation::Double(at, n) => {
            let range = span(at, n, len);
            let copy = bytes[range.clone()].to_vec();
            bytes.splice(range.start..range.start, copy);
        }
    }
}

fn mutations() -> impl Strategy<Value = Vec<Mutation>> {
    prop::collection::vec(mutation(), 1..5)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn mutated_gguf_never_panics(mutations in mutations()) {
        static GOOD: std::sync::LazyLock<Vec<u8>> = std::sync::LazyLock::new(small_gguf);
        // The header and a little data: mutations should hit what is parsed.
        let mut bytes = GOOD[..20_000].to_vec();
        mutations.iter().for_each(|m| mutate(&mut bytes, m));
        let _ = read_gguf(&bytes);
    }

    #[test]
    fn mutated_safetensors_never_panics(mutations in mutations()) {
        let mut bytes = safetensors::Writer::new().f32("a", &[2, 3], &[0.5; 6]).i32("b", &[1], &[7]).finish();
        mutations.iter().for_each(|m| mutate(&mut bytes, m));
        if let Ok(view) = safetensors::View::parse(&bytes) {
            view.tensors().for_each(|tensor| drop((tensor.f32(), tensor.i32())));
        }
    }

    #[test]
    fn mutated_manifest_never_panics(mutations in mutations()) {
        static GOOD: std::sync::LazyLock<String> = std::sync::LazyLock::new(manifest);
        let mut bytes = GOOD.clone().into_bytes();
        mutations.iter().for_each(|m| mutate(&mut bytes, m));
        let _ = Manifest::parse(&bytes);
    }

    #[test]
    fn mutated_config_never_panics(mutations in mutations()) {
        static GOOD: std::sync::LazyLock<Vec<u8>> =
            std::sync::LazyLock::new(|| fs::read(deepseek_fp8().path.join("config.json")).unwrap());
        let mut bytes = GOOD.clone();
        mutations.iter().for_each(|m| mutate(&mut bytes, m));
        let _ = hf::hyperparameters(&bytes, true);
    }
}
