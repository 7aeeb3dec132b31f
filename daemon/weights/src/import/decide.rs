//! Whether routed experts are coded: decided for each class of tensors from what is measured on this machine.
//!
//! ```text
//! seconds a byte:   raw     1 / drive
//!                   coded   max(ratio / drive, 1 / (cores * decode))       reading and decoding go on at once
//! ```
//!
//! `ratio` and `decode` (bytes of tensors that a core makes a second) are measured on samples of the class, `drive` on the
//! file just written. Of the cores half are taken to be spare: the others compute while experts fly. Coded is what is
//! faster by 5 % or more.
//!
//! Block formats are raw untried: their codes are chosen to fill their range. An entropy coder without memory would take
//! 3.2 % off Q4_K, 3.5 % off Q6_K, 4.5 % off Q8_0 at most (entropies of real weights; zstd 1.5.7 reaches 2 to 5 %).

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tensor::DType;

use super::plan::Plan;
use super::workspace::Output;
use super::{Compress, drive};
use crate::Error;
use crate::pack::{Coding, Decoder, Encoder, RecordLayer, RecordPart};

/// A coded class must be read faster by this share.
const GAIN_MIN: f64 = 0.05;
/// Classes smaller than this, in all layers together, stay in memory anyway.
const BYTES_MIN: u64 = 64 << 20;
/// Chunks that stand for a class.
const SAMPLES: usize = 8;
/// Decoding is measured this long.
const DECODE_TIME: Duration = Duration::from_millis(40);

/// What was decided about a class of routed experts' tensors: those of one part and one data type, in all layers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Choice {
    /// `ffn_gate`, `ffn_up`, `ffn_down`.
    pub part: String,
    /// How the values are stored.
    pub dtype: DType,
    /// Of all the class's tensors, in memory.
    pub bytes: u64,
    /// How they are stored.
    pub coding: Coding,
    /// Why.
    pub reason: Reason,
    /// What samples say; `None` where none were tried.
    pub sample: Option<Sample>,
    /// What the drive's reads bring, in bytes a second; `None` where it was not asked, or can't say.
    pub drive: Option<f64>,
    /// Cores that are taken to be spare for decoding.
    pub cores: usize,
}

/// What samples of a class say about coding it.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Sample {
    /// Coded bytes for each byte.
    pub ratio: f64,
    /// Bytes of tensors that a core decodes a second.
    pub decode: f64,
}

/// Why a class is coded or not.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// It was asked for.
    Asked,
    /// Its format leaves nothing to gain.
    Dense,
    /// It is small.
    Small,
    /// How fast the drive reads can't be told.
    DriveUnknown,
    /// The disk can't hold what rewriting takes.
    NoRoom,
    /// Coded, this share of the time is saved; less than nothing where decoding takes longer than reading.
    Saves(f64),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Asked => write!(f, "as asked"),
            Self::Dense => write!(f, "its blocks leave nothing to gain"),
            Self::Small => write!(f, "too little to matter"),
            Self::DriveUnknown => write!(f, "the drive's speed can't be measured"),
            Self::NoRoom => write!(f, "no room on the disk to rewrite it"),
            Self::Saves(share) if *share < 0.0 => {
                write!(f, "decoding would take {:.0} % longer than reading", -100.0 * share)
            }
            Self::Saves(share) => write!(f, "coded it is read in {:.0} % less time", 100.0 * share),
        }
    }
}

/// Decides about every class of `plan`'s experts, which lie uncoded in `raw`. `has_room` says whether they can be
/// rewritten.
pub(super) fn decide(
    plan: &Plan,
    raw: &Output,
    compress: Compress,
    has_room: bool,
) -> Result<Vec<Choice>, Error> {
    let file = File::open(&raw.path).map_err(Error::io(&raw.path, "open"))?;
    let mut choices = Vec::new();
    let mut drive = None;
    for class in classes(plan) {
        let mut choice = class.choice();
        if compress == Compress::Never {
            choice.reason = Reason::Asked;
        } else if Coding::Split.fits(class.dtype) {
            if compress == Compress::Always || class.bytes >= BYTES_MIN {
                choice.sample = Some(class.sample(&file).map_err(Error::io(&raw.path, "read"))?);
            }
            if compress == Compress::Auto && has_room && class.bytes >= BYTES_MIN {
                if drive.is_none() {
                    drive = Some(drive::read_rate(&raw.path).map_err(Error::io(&raw.path, "read"))?);
                }
                choice.drive = drive.flatten();
            }
            choice.settle(compress, has_room);
        }
        choices.push(choice);
    }
    Ok(choices)
}

/// The coding that was chosen for a part.
pub(super) fn coding_of(choices: &[Choice], part: &RecordPart) -> Coding {
    let is_its = |choice: &&Choice| choice.dtype == part.dtype && class_of(part) == Some(&choice.part);
    choices.iter().find(is_its).map_or(Coding::Raw, |choice| choice.coding)
}

/// `ffn_gate` of `blk.3.ffn_gate.*.weight`; `None` for scales, which are few.
fn class_of(part: &RecordPart) -> Option<&str> {
    part.name.strip_suffix(".*.weight")?.rsplit('.').next()
}

impl Choice {
    /// Decides by what is known.
    fn settle(&mut self, compress: Compress, has_room: bool) {
        let saves = self.sample.zip(self.drive).map(|(sample, drive)| saved(sample, drive, self.cores));
        (self.coding, self.reason) = match saves {
            _ if compress == Compress::Always => (Coding::Split, Reason::Asked),
            _ if self.bytes < BYTES_MIN => (Coding::Raw, Reason::Small),
            _ if !has_room => (Coding::Raw, Reason::NoRoom),
            None => (Coding::Raw, Reason::DriveUnknown),
            Some(share) if share >= GAIN_MIN => (Coding::Split, Reason::Saves(share)),
            Some(share) => (Coding::Raw, Reason::Saves(share)),
        };
    }
}

/// The share of a raw read's time that coding saves.
fn saved(sample: Sample, drive: f64, cores: usize) -> f64 {
    let raw = 1.0 / drive;
    let coded = (sample.ratio / drive).max(1.0 / (cores as f64 * sample.decode));
    1.0 - coded / raw
}

/// Tensors that are decided about together.
struct Class<'a> {
    part: &'a str,
    dtype: DType,
    bytes: u64,
    /// Where they are.
    places: Vec<(&'a RecordLayer, &'a RecordPart)>,
}

fn classes(plan: &Plan) -> Vec<Class<'_>> {
    let mut classes: BTreeMap<(DType, &str), Class<'_>> = BTreeMap::new();
    for layer in plan.layers() {
        for part in &layer.parts {
            let Some(name) = class_of(part) else { continue };
            let new = || Class { part: name, dtype: part.dtype, bytes: 0, places: Vec::new() };
            let class = classes.entry((part.dtype, name)).or_insert_with(new);
            class.bytes += part.bytes * layer.xxh3.len() as u64;
            class.places.push((layer, part));
        }
    }
    classes.into_values().collect()
}

impl Class<'_> {
    fn choice(&self) -> Choice {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        Choice {
            part: self.part.into(),
            dtype: self.dtype,
            bytes: self.bytes,
            coding: Coding::Raw,
            reason: Reason::Dense,
            sample: None,
            drive: None,
            cores: (cores / 2).max(1),
        }
    }

    /// Codes chunks from all over the class and measures how fast they are decoded.
    fn sample(&self, file: &File) -> io::Result<Sample> {
        let chunk_bytes = Encoder::chunk_bytes(self.dtype).expect("asked only where a coding fits") as u64;
        let (mut encoder, mut raw_bytes) = (Encoder::default(), 0);
        let mut samples = Vec::new();
        for i in 0..SAMPLES {
            let nth = |of: u64| of * i as u64 / SAMPLES as u64;
            let (layer, part) = self.places[nth(self.places.len() as u64) as usize];
            let record = layer.record_offset(nth(layer.xxh3.len() as u64) as u32);
            let chunk = nth(part.bytes.div_ceil(chunk_bytes)) * chunk_bytes;
            let mut raw = vec![0; chunk_bytes.min(part.bytes - chunk) as usize];
            file.read_exact_at(&mut raw, record + part.offset + chunk)?;
            let mut coded = Vec::new();
            encoder.encode_chunk(self.dtype, &raw, &mut coded);
            raw_bytes += raw.len();
            samples.push((coded, raw));
        }
        let coded_bytes: usize = samples.iter().map(|(coded, _)| coded.len()).sum();
        let decode = raw_bytes as f64 / self.fastest_decode(&mut samples).as_secs_f64();
        Ok(Sample { ratio: coded_bytes as f64 / raw_bytes as f64, decode })
    }

    /// The shortest of several times that decoding all samples takes: whatever else runs only ever slows it.
    fn fastest_decode(&self, samples: &mut [(Vec<u8>, Vec<u8>)]) -> Duration {
        let (mut decoder, mut fastest) = (Decoder::default(), Duration::MAX);
        let start = Instant::now();
        while fastest == Duration::MAX || start.elapsed() < DECODE_TIME {
            let begin = Instant::now();
            for (coded, raw) in &mut *samples {
                let taken = decoder.decode_part(Coding::Split, self.dtype, coded, raw);
                assert_eq!(taken, Ok(coded.len()), "what was just encoded decodes");
            }
            fastest = fastest.min(begin.elapsed());
        }
        fastest.max(Duration::from_nanos(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FP8: Sample = Sample { ratio: 0.84, decode: 2e9 };

    fn choice(sample: Sample, drive: Option<f64>, cores: usize) -> (Coding, Reason) {
        let mut choice = Choice {
            part: "ffn_up".into(),
            dtype: DType::F8E4M3,
            bytes: 1 << 30,
            coding: Coding::Raw,
            reason: Reason::Dense,
            sample: Some(sample),
            drive,
            cores,
        };
        choice.settle(Compress::Auto, true);
        (choice.coding, choice.reason)
    }

    #[test]
    fn a_slow_drive_makes_coding_pay() {
        let (coding, reason) = choice(FP8, Some(1e9), 1);
        assert_eq!(coding, Coding::Split);
        assert!(matches!(reason, Reason::Saves(share) if (share - 0.16).abs() < 1e-9), "{reason:?}");
    }

    #[test]
    fn a_drive_faster_than_the_spare_cores_does_not() {
        let (coding, reason) = choice(FP8, Some(7e9), 1);
        assert_eq!(coding, Coding::Raw);
        assert!(matches!(reason, Reason::Saves(share) if (share + 2.5).abs() < 1e-9), "{reason:?}");
        assert_eq!(choice(FP8, Some(7e9), 8).0, Coding::Split);
    }

    #[test]
    fn a_gain_within_the_noise_is_none() {
        assert_eq!(choice(Sample { ratio: 0.97, ..FP8 }, Some(1e9), 4).0, Coding::Raw);
    }

    #[test]
    fn an_unknown_drive_is_not_guessed() {
        assert_eq!(choice(FP8, None, 4), (Coding::Raw, Reason::DriveUnknown));
    }
}
