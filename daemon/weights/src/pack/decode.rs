//! Records as they are stored, into records as kernels read them, and back.

use std::path::Path;
use std::sync::Mutex;
use std::thread;

use memmap2::{Mmap, MmapMut};

use super::check::Problem;
use super::coding::{Coding, Decoder, Encoder};
use super::manifest::{Experts, Hash, RecordLayer};
use crate::Error;

/// Decodes expert `expert`'s record of `layer`: `stored` is the record's [`stored_bytes`](RecordLayer::stored_bytes),
/// `out` gets its parts at their places and zeros between them. Of the rest of `out`, if it is larger, nothing is touched.
///
/// The hash is not looked at: check [`hashed`](RecordLayer::hashed) first, then every fault is one of the importer's.
///
/// # Errors
/// The stored bytes are not a record of these parts; the content of `out` is nothing then.
///
/// # Panics
/// `out` is shorter than [`record_bytes`](RecordLayer::record_bytes): a programmer's error.
pub fn decode_record(layer: &RecordLayer, expert: u32, stored: &[u8], out: &mut [u8]) -> Result<(), Problem> {
    decode_with(&mut Decoder::default(), layer, expert, stored, out)
}

/// A record as it is stored, from its [`record_bytes`](RecordLayer::record_bytes) in memory: what [`decode_record`] decodes.
///
/// # Panics
/// `record` is shorter, or a part's coding does not fit its type: a programmer's error.
pub fn encode_record(layer: &RecordLayer, record: &[u8]) -> Vec<u8> {
    let record = &record[..layer.record_bytes as usize];
    if !layer.is_coded() {
        return record.to_vec();
    }
    let (mut encoder, mut stored) = (Encoder::default(), Vec::new());
    for part in &layer.parts {
        let bytes = &record[part.offset as usize..][..part.bytes as usize];
        match Encoder::chunk_bytes(part.dtype).filter(|_| part.coding != Coding::Raw) {
            Some(n) => bytes.chunks(n).for_each(|chunk| encoder.encode_chunk(part.dtype, chunk, &mut stored)),
            None => stored.extend(bytes),
        }
    }
    stored
}

fn decode_with(
    decoder: &mut Decoder,
    layer: &RecordLayer,
    expert: u32,
    stored: &[u8],
    out: &mut [u8],
) -> Result<(), Problem> {
    let out = &mut out[..layer.record_bytes as usize];
    let fault = |at, what| Problem::Record { layer: layer.layer, expert, at, what };
    if !layer.is_coded() {
        out.copy_from_slice(stored.get(..out.len()).ok_or(fault(stored.len(), "the record ends there"))?);
        return Ok(());
    }
    let (mut at, mut end) = (0, 0);
    for part in &layer.parts {
        let (start, bytes) = (part.offset as usize, part.bytes as usize);
        out[end..start].fill(0);
        end = start + bytes;
        let taken = decoder.decode_part(part.coding, part.dtype, &stored[at..], &mut out[start..end]);
        at += taken.map_err(|found| fault(at + found.at, found.what))?;
    }
    if at == stored.len() { Ok(()) } else { Err(fault(at, "the record should end there")) }
}

/// Every coded layer's records, decoded, layer by layer, one each [`stride`](RecordLayer::stride) bytes; on all cores.
///
/// `file` is `experts.bin`, whose size has been compared with the manifest's; `path` is the manifest.
pub(crate) fn decode_all(experts: &Experts, file: &[u8], path: &Path) -> Result<Mmap, Error> {
    let bytes = experts.decoded_bytes();
    let no_memory = |cause| Error::Io { path: path.into(), doing: "get memory for the experts of", cause };
    let size = usize::try_from(bytes).map_err(|_| no_memory(std::io::ErrorKind::OutOfMemory.into()))?;
    let mut memory = MmapMut::map_anon(size.max(1)).map_err(no_memory)?;
    let (mut work, mut rest) = (Vec::new(), &mut memory[..]);
    for layer in experts.coded_layers() {
        for expert in 0..layer.xxh3.len() as u32 {
            let (out, behind) = std::mem::take(&mut rest).split_at_mut(layer.stride as usize);
            work.push((layer, expert, out));
            rest = behind;
        }
    }
    let work = Mutex::new(work.into_iter());
    let n_threads = thread::available_parallelism().map_or(1, usize::from);
    let outcome = thread::scope(|scope| {
        let threads: Vec<_> = (0..n_threads).map(|_| scope.spawn(|| decode_some(&work, file))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("decoding does not panic"))
    });
    outcome.map_err(|problem| Error::Pack { path: path.into(), problem })?;
    memory.make_read_only().map_err(no_memory)
}

/// A record to be decoded, and where to.
type Work<'a> = (&'a RecordLayer, u32, &'a mut [u8]);

/// Takes records and decodes them until there are none.
fn decode_some<'a>(work: &Mutex<impl Iterator<Item = Work<'a>>>, file: &[u8]) -> Result<(), Problem> {
    let mut decoder = Decoder::default();
    loop {
        let next = work.lock().expect("nothing panics with the lock held").next();
        let Some((layer, expert, out)) = next else { return Ok(()) };
        let start = layer.record_offset(expert) as usize;
        let stored = &file[start..][..layer.stored_bytes(expert) as usize];
        let (got, want) = (Hash::of_parts(&[Hash::of(stored)]), layer.xxh3[expert as usize]);
        if got != want {
            return Err(Problem::Checksum { layer: layer.layer, expert, got, want });
        }
        decode_with(&mut decoder, layer, expert, stored, out)?;
    }
}
