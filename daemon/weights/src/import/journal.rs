//! The journal: what is done, on disk, in lines that prove themselves.
//!
//! ```text
//! XXH3 of the rest, 16 hex digits | space | JSON | newline
//! {"start": {"fingerprint": "…"}}                                          first line
//! {"copied": {"hashes": [new pieces'], "digests": [new files'], "position": n, "sha256": "state"}}   while copying
//! {"decided": [{"part": "ffn_gate", "coding": "split", …}]}                once, if there are routed experts
//! {"rewritten": [[bytes, hash], …]}                                        new records', if some are coded
//! ```
//!
//! A line is appended only after the data it speaks of has been synced. A torn last line fails its hash and is cut off.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::Sha256;
use sha2::digest::common::hazmat::{SerializableState, SerializedState};

use super::decide::Choice;
use super::plan::Plan;
use super::workspace::write_error;
use crate::Error;
use crate::files::read_small;
use crate::pack::{Coding, Hash, PAGE_BYTES};
use crate::source::Source;

/// Largest journal: 2^20 pieces of 19 bytes each, 2^17 records of 40, and as much again.
const MAX_JOURNAL_BYTES: u64 = 64 << 20;

/// How far an import has come.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    /// Of the pieces done, in plan order.
    pub(super) hashes: Vec<Hash>,
    /// SHA-256 of the source files done, in hex.
    pub(super) digests: Vec<String>,
    /// Bytes read of the source file at hand.
    pub(super) position: u64,
    /// Over those bytes.
    pub(super) sha256: Sha256,
    /// How routed experts are to be stored; `None` until it is decided.
    pub(super) choices: Option<Vec<Choice>>,
    /// Records rewritten, in file order.
    pub(super) rewritten: Vec<Rewritten>,
}

/// A record in its new place: its stored bytes, and its hash.
pub(super) type Rewritten = (u64, Hash);

impl State {
    /// Bytes of the source read so far.
    pub(super) fn bytes_done(&self, source: &Source) -> u64 {
        source.files[..self.digests.len()].iter().map(|file| file.bytes).sum::<u64>() + self.position
    }

    /// False for a state that can't be of this plan.
    fn fits(&self, plan: &Plan, source: &Source) -> bool {
        let (n, file) = (self.hashes.len(), self.digests.len());
        let bytes = source.files.get(file).map_or(0, |file| file.bytes);
        let next_is_ahead =
            plan.pieces.get(n).is_none_or(|next| (next.file, next.offset) >= (file, self.position));
        let in_order = self.rewritten.is_empty() || (self.is_coded() && file == source.files.len());
        n <= plan.pieces.len()
            && file <= source.files.len()
            && self.position <= bytes
            && next_is_ahead
            && in_order
            && self.rewritten.len() <= plan.records().count()
    }

    /// Whether some class of routed experts is coded.
    pub(super) fn is_coded(&self) -> bool {
        self.choices.iter().flatten().any(|choice| choice.coding != Coding::Raw)
    }

    /// Where the next record goes that is rewritten.
    pub(super) fn rewritten_bytes(&self) -> u64 {
        self.rewritten.iter().map(|(bytes, _)| bytes.next_multiple_of(PAGE_BYTES)).sum()
    }
}

/// A line's JSON.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Start { fingerprint: String },
    Copied(Copied),
    Decided(Vec<Choice>),
    Rewritten(Vec<Rewritten>),
}

/// What was copied since the line before.
#[derive(Serialize, Deserialize)]
struct Copied {
    hashes: Vec<Hash>,
    digests: Vec<String>,
    position: u64,
    sha256: String,
}

/// An open journal. Its file is locked as long as it is open: one import at a time.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    file: File,
    /// Pieces, files and rewritten records in the lines so far.
    n_hashes: usize,
    n_digests: usize,
    n_rewritten: usize,
}

impl Journal {
    /// Opens or creates the journal at `path` and locks it.
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let mut options = OpenOptions::new();
        let file =
            options.read(true).append(true).create(true).open(path).map_err(write_error(path, "create"))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { path: path.into(), file, n_hashes: 0, n_digests: 0, n_rewritten: 0 }),
            Err(std::fs::TryLockError::WouldBlock) => {
                Err(Error::Busy { path: path.parent().unwrap_or(path).into() })
            }
            Err(std::fs::TryLockError::Error(cause)) => {
                Err(Error::Io { path: path.into(), doing: "lock", cause })
            }
        }
    }

    /// The state an earlier import of the same plan left; `None` where there is none to trust. What follows the last
    /// good line is cut off.
    pub(super) fn resume(&mut self, plan: &Plan, source: &Source) -> Result<Option<State>, Error> {
        let text = read_small(&self.path, MAX_JOURNAL_BYTES)?.unwrap_or_default();
        let mut lines = text.split_inclusive(|&b| b == b'\n').map_while(checked);
        let Some((mut end, start)) = lines.next().map(|json| (json.len() + LINE_OVERHEAD, json)) else {
            return Ok(None);
        };
        match serde_json::from_slice(start) {
            Ok(Line::Start { fingerprint }) if fingerprint == plan.fingerprint => {}
            _ => return Ok(None),
        }
        let mut state = State::default();
        for json in lines {
            let Some(()) = replay(&mut state, json) else { return Ok(None) };
            end += json.len() + LINE_OVERHEAD;
        }
        if !state.fits(plan, source) {
            return Ok(None);
        }
        self.file.set_len(end as u64).map_err(Error::io(&self.path, "shorten"))?;
        self.count(&state);
        Ok(Some(state))
    }

    /// Notes how much of the state is in the lines.
    fn count(&mut self, state: &State) {
        self.n_hashes = state.hashes.len();
        self.n_digests = state.digests.len();
        self.n_rewritten = state.rewritten.len();
    }

    /// Empties the journal and writes its first line.
    pub(super) fn start(&mut self, plan: &Plan) -> Result<(), Error> {
        self.file.set_len(0).map_err(Error::io(&self.path, "shorten"))?;
        self.count(&State::default());
        self.append(&Line::Start { fingerprint: plan.fingerprint.clone() })
    }

    /// Notes what was copied; the data it speaks of must have been synced.
    pub(super) fn copied(&mut self, state: &State) -> Result<(), Error> {
        let line = Line::Copied(Copied {
            hashes: state.hashes[self.n_hashes..].to_vec(),
            digests: state.digests[self.n_digests..].to_vec(),
            position: state.position,
            sha256: to_hex(&state.sha256.serialize()),
        });
        self.count(state);
        self.append(&line)
    }

    /// Notes what was decided.
    pub(super) fn decided(&mut self, choices: &[Choice]) -> Result<(), Error> {
        self.append(&Line::Decided(choices.to_vec()))
    }

    /// Notes which records were rewritten; they must have been synced.
    pub(super) fn rewritten(&mut self, state: &State) -> Result<(), Error> {
        let line = Line::Rewritten(state.rewritten[self.n_rewritten..].to_vec());
        self.count(state);
        self.append(&line)
    }

    fn append(&mut self, line: &Line) -> Result<(), Error> {
        let json = serde_json::to_vec(line).expect("strings, numbers and lists only");
        let mut line = format!("{} ", Hash::of(&json)).into_bytes();
        line.extend(json);
        line.push(b'\n');
        let written = self.file.write_all(&line).and_then(|()| self.file.sync_data());
        written.map_err(write_error(&self.path, "write"))
    }
}

/// Hash, space and newline around a line's JSON.
const LINE_OVERHEAD: usize = 16 + 1 + 1;

/// A line's JSON if its hash agrees.
fn checked(line: &[u8]) -> Option<&[u8]> {
    let (hash, json) = line.strip_suffix(b"\n")?.split_at_checked(17)?;
    let hash = std::str::from_utf8(hash).ok()?.strip_suffix(' ')?;
    (hash == Hash::of(json).to_string()).then_some(json)
}

fn replay(state: &mut State, json: &[u8]) -> Option<()> {
    match serde_json::from_slice(json).ok()? {
        Line::Start { .. } => return None,
        Line::Copied(copied) => {
            state.hashes.extend(copied.hashes);
            state.digests.extend(copied.digests);
            state.position = copied.position;
            let bytes = from_hex(&copied.sha256)?;
            let serialized = SerializedState::<Sha256>::try_from(bytes.as_slice()).ok()?;
            state.sha256 = Sha256::deserialize(&serialized).ok()?;
        }
        Line::Decided(choices) => state.choices = Some(choices),
        Line::Rewritten(records) => state.rewritten.extend(records),
    }
    Some(())
}

/// Lower-case hex.
pub(super) fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes().chunks(2);
    digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}
