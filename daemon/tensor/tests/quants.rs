//! Every format against blocks decoded by other people's code, bit for bit.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use tensor::{DType, quant};

/// `name -> bytes` of a zstd-compressed safetensors file.
fn fixture(name: &str) -> BTreeMap<String, Vec<u8>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/quants").join(name);
    let file = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let file = zstd::decode_all(&file[..]).expect("the fixture is zstd");
    let (header_len, rest) = file.split_first_chunk().expect("the header's length comes first");
    let (header, data) = rest.split_at(u64::from_le_bytes(*header_len) as usize);
    let mut header: BTreeMap<String, serde_json::Value> =
        serde_json::from_slice(header).expect("the header is JSON");
    header.remove("__metadata__");
    let bytes = |info: serde_json::Value| {
        let at = |i: usize| info["data_offsets"][i].as_u64().expect("two offsets") as usize;
        data[at(0)..at(1)].to_vec()
    };
    header.into_iter().map(|(name, info)| (name, bytes(info))).collect()
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

fn dequantized(dtype: DType, bytes: &[u8], n: usize) -> Vec<f32> {
    let mut out = vec![0.0; n];
    quant::dequantize(dtype, bytes, &mut out);
    out
}

#[test]
fn every_format_decodes_bit_exactly() {
    let blocks = fixture("blocks.safetensors.zst");
    let formats = blocks.iter().filter_map(|(name, bytes)| Some((name.strip_suffix(".bytes")?, bytes)));
    let mut n_formats = 0;
    for (name, bytes) in formats {
        let want = floats(&blocks[&format!("{name}.f32")]);
        let got = dequantized(name.parse().unwrap(), bytes, want.len());
        for (i, (got, want)) in got.iter().zip(&want).enumerate() {
            assert_eq!(got.to_bits(), want.to_bits(), "{name}, value {i}: {got} against {want}");
        }
        n_formats += 1;
    }
    assert_eq!(n_formats, 24);
}

#[test]
fn every_fp8_code_decodes_exactly() {
    let fixture = fixture("e4m3fn.safetensors.zst");
    let codes = &fixture["e4m3fn.codes"];
    assert_eq!(codes.len(), 256);
    let got = dequantized(DType::F8E4M3, codes, codes.len());
    for ((code, got), want) in codes.iter().zip(got).zip(floats(&fixture["e4m3fn.f32"])) {
        let equal = got.to_bits() == want.to_bits() || got.is_nan() && want.is_nan();
        assert!(equal, "{code:#x}: {got} against {want}");
    }
}
