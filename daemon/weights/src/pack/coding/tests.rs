use proptest::prelude::*;
use tensor::DType;

use super::*;

const DTYPES: [DType; 2] = [DType::BF16, DType::F8E4M3];

fn value_bytes(dtype: DType) -> usize {
    dtype.block_bytes()
}

fn encode(dtype: DType, values: &[u8]) -> Vec<u8> {
    let (mut encoder, mut out) = (Encoder::default(), Vec::new());
    let chunks = values.chunks(Encoder::chunk_bytes(dtype).unwrap());
    chunks.for_each(|chunk| encoder.encode_chunk(dtype, chunk, &mut out));
    out
}

fn decode(dtype: DType, stored: &[u8], bytes: usize) -> Result<(Vec<u8>, usize), Fault> {
    let mut out = vec![0xaa; bytes];
    let taken = Decoder::default().decode_part(Coding::Split, dtype, stored, &mut out)?;
    Ok((out, taken))
}

/// Exponents that fall off by halves around a middle, all signs and mantissas.
fn weights(dtype: DType, n: usize, mut seed: u64) -> Vec<u8> {
    let mut next = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    let mut value = || {
        let (below, noise) = ((next() | 1 << 40).trailing_zeros() as u8, next() as u8);
        match dtype {
            DType::BF16 => {
                let exponent = 120u8.saturating_sub(below);
                vec![exponent << 7 | noise & 0x7f, noise & 0x80 | exponent >> 1]
            }
            _ => vec![noise & 0x87 | 13u8.saturating_sub(below) << 3],
        }
    };
    (0..n).flat_map(|_| value()).collect()
}

#[test]
fn weights_come_back_and_take_less() {
    for (dtype, ratio) in [(DType::BF16, 0.64), (DType::F8E4M3, 0.78)] {
        // More than one chunk, the last odd.
        let values = weights(dtype, CHUNK_VALUES + 12_347, 7);
        let stored = encode(dtype, &values);
        let (out, taken) = decode(dtype, &stored, values.len()).unwrap();
        assert!(out == values && taken == stored.len(), "{dtype}");
        let got = stored.len() as f64 / values.len() as f64;
        assert!(got < ratio, "{dtype}: {got}");
        let (least, most) = Coding::Split.bounds(dtype, values.len() as u64);
        assert!((least..=most).contains(&(stored.len() as u64)));
    }
}

#[test]
fn what_does_not_shrink_takes_a_few_bytes_more() {
    for dtype in DTYPES {
        let mut noise = vec![0; 3 * 4096 + 2];
        let mut seed = 1u32;
        noise.iter_mut().for_each(|byte| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *byte = (seed >> 24) as u8;
        });
        let stored = encode(dtype, &noise);
        let (least, most) = Coding::Split.bounds(dtype, noise.len() as u64);
        assert!((least..=most).contains(&(stored.len() as u64)), "{dtype}: {}", stored.len());
        assert!(decode(dtype, &stored, noise.len()).unwrap().0 == noise, "{dtype}");
    }
}

#[test]
fn every_value_and_every_short_length_comes_back() {
    for dtype in DTYPES {
        let all: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
        assert!(decode(dtype, &encode(dtype, &all), all.len()).unwrap().0 == all, "{dtype}");
        for n in 0..200 {
            let values = weights(dtype, n, n as u64 + 1);
            let stored = encode(dtype, &values);
            assert_eq!(decode(dtype, &stored, values.len()), Ok((values, stored.len())), "{dtype}, {n}");
        }
    }
}

#[test]
fn values_of_one_exponent_come_back() {
    for dtype in DTYPES {
        let values = vec![0; 5001 * value_bytes(dtype)];
        let stored = encode(dtype, &values);
        assert!(stored.len() < values.len() * 5 / 8 + 200, "{dtype}: {}", stored.len());
        assert!(decode(dtype, &stored, values.len()).unwrap().0 == values, "{dtype}");
    }
}

#[test]
fn parts_cut_anywhere_are_refused() {
    for dtype in DTYPES {
        let values = weights(dtype, 900, 3);
        let stored = encode(dtype, &values);
        for n in 0..stored.len() {
            assert!(decode(dtype, &stored[..n], values.len()).is_err(), "{dtype}: {n} bytes");
        }
    }
}

#[test]
fn bytes_after_a_part_are_not_its_own() {
    let values = weights(DType::BF16, 333, 9);
    let mut stored = encode(DType::BF16, &values);
    let n = stored.len();
    stored.extend([0x55; 100]);
    assert_eq!(decode(DType::BF16, &stored, values.len()), Ok((values, n)));
}

#[test]
fn a_second_chunks_fault_is_placed() {
    let values = weights(DType::F8E4M3, CHUNK_VALUES + 1000, 5);
    let mut stored = encode(DType::F8E4M3, &values);
    let second = COUNT_BYTES + first_chunk(&stored).unwrap().len();
    stored[second + COUNT_BYTES + 500] = 9;
    let fault = decode(DType::F8E4M3, &stored, values.len()).unwrap_err();
    assert_eq!(fault, Fault { at: second, what: "a chunk is of an unknown kind" });
}

/// What the first version with codings wrote.
#[test]
fn stored_parts_of_old_are_read() {
    for (dtype, name) in [(DType::BF16, "split-bf16"), (DType::F8E4M3, "split-fp8")] {
        let values = weights(dtype, 1003, 42);
        let path = format!("{}/tests/packs/{name}.bin", env!("CARGO_MANIFEST_DIR"));
        let stored = std::fs::read(path).unwrap();
        assert_eq!(decode(dtype, &stored, values.len()), Ok((values, stored.len())), "{dtype}");
    }
}

fn dtypes() -> impl Strategy<Value = DType> {
    prop::sample::select(&DTYPES[..])
}

proptest! {
    #[test]
    fn any_values_come_back(dtype in dtypes(), bytes in prop::collection::vec(any::<u8>(), 0..6000), mask in any::<[u8; 2]>()) {
        // Masks make exponents crowd.
        let n = bytes.len() / value_bytes(dtype) * value_bytes(dtype);
        let values: Vec<u8> = bytes[..n].iter().enumerate().map(|(i, byte)| byte & mask[i % 2]).collect();
        let stored = encode(dtype, &values);
        let (least, most) = Coding::Split.bounds(dtype, values.len() as u64);
        prop_assert!((least..=most).contains(&(stored.len() as u64)));
        prop_assert_eq!(decode(dtype, &stored, values.len()), Ok((values, stored.len())));
    }

    #[test]
    fn wrong_bytes_never_panic(
        dtype in dtypes(),
        n in 0usize..3000,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let values = weights(dtype, n, 11);
        let mut stored = encode(dtype, &values);
        let behind_plane = COUNT_BYTES + Float::of(dtype).unwrap().plane_bytes(n);
        for (at, byte) in changes.iter().filter(|_| !values.is_empty()) {
            // Most faults are in the kind, the lengths and the sizes: half of the changes go there.
            let at = if byte % 2 == 0 { at.index(stored.len()) } else { behind_plane + at.index(150) };
            if let Some(place) = stored.get_mut(at) {
                *place = *byte;
            }
        }
        stored.truncate(cut.index(2 * stored.len() + 1));
        let _ = decode(dtype, &stored, values.len());
    }

    #[test]
    fn noise_never_panics(dtype in dtypes(), n in 0usize..600, noise in prop::collection::vec(any::<u8>(), 0..900)) {
        let _ = decode(dtype, &noise, n * value_bytes(dtype));
    }
}
