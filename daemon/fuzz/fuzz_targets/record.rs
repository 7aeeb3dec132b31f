//! A coded record: wrong bytes are refused or give other values, right ones come back.
#![no_main]

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use tensor::{DType, Layout};
use weights::pack::{Coding, RecordLayer, RecordPart, decode_record, encode_record};

#[derive(Debug, Arbitrary)]
struct Input<'a> {
    /// Values of the two parts.
    n: [u16; 2],
    is_fp8: bool,
    bytes: &'a [u8],
}

fuzz_target!(|input: Input<'_>| {
    let dtype = if input.is_fp8 { DType::F8E4M3 } else { DType::BF16 };
    let layer = layer(dtype, input.n);
    let mut record = vec![0; layer.record_bytes as usize];
    // Whatever it is, it is a record or an error.
    let _ = decode_record(&layer, 0, input.bytes, &mut record);
    // As values they come back.
    let mut values = vec![0; record.len()];
    for part in &layer.parts {
        let range = part.offset as usize..(part.offset + part.bytes) as usize;
        values[range].iter_mut().zip(input.bytes.iter().cycle()).for_each(|(to, from)| *to = *from);
    }
    decode_record(&layer, 0, &encode_record(&layer, &values), &mut record).expect("just encoded");
    assert!(values == record);
});

/// Two coded parts with an uncoded one between them.
fn layer(dtype: DType, n: [u16; 2]) -> RecordLayer {
    let mut end = 0u64;
    let mut part = |dtype: DType, coding, n: usize| {
        let (offset, bytes) = (end.next_multiple_of(64), (n * dtype.block_bytes()) as u64);
        end = offset + bytes;
        let name = "blk.0.ffn_up.*.weight".into();
        let layout = Layout::Rows;
        RecordPart { name, published: String::new(), dtype, shape: vec![n], layout, coding, offset, bytes }
    };
    let [a, b] = n.map(usize::from);
    let parts =
        vec![part(dtype, Coding::Split, a), part(DType::F32, Coding::Raw, 3), part(dtype, Coding::Split, b)];
    RecordLayer {
        layer: 0,
        offset: 0,
        stride: end,
        record_bytes: end,
        parts,
        stored: Vec::new(),
        xxh3: Vec::new(),
    }
}
