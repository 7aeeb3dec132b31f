//! The journal: what is done, on disk, in lines that prove themselves.
//!
//! ```text
//! XXH3 of the rest, 16 hex digits | space | JSON | newline
//! {"fingerprint": "…"}                                                     first line
//! {"hashes": [new pieces'], "digests": [new files'], "position": n, "sha256": "state"}   every other one
//! ```
//!
//! A line is appended only after the data it speaks of has been synced. A torn last line fails its hash and is cut off.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::Sha256;
use sha2::digest::common::hazmat::{SerializableState, SerializedState};

use super::plan::Plan;
use super::workspace::write_error;
use crate::Error;
use crate::files::read_small;
use crate::pack::Hash;
use crate::source::Source;

/// Largest journal: 2^20 pieces of 19 bytes each, and as much again.
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
}

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
        n <= plan.pieces.len() && file <= source.files.len() && self.position <= bytes && next_is_ahead
    }
}

#[derive(Serialize, Deserialize)]
struct Start {
    fingerprint: String,
}

/// What happened since the line before.
#[derive(Serialize, Deserialize)]
struct Checkpoint {
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
    /// Pieces and files in the lines so far.
    n_hashes: usize,
    n_digests: usize,
}

impl Journal {
    /// Opens or creates the journal at `path` and locks it.
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let mut options = OpenOptions::new();
        let file =
            options.read(true).append(true).create(true).open(path).map_err(write_error(path, "create"))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { path: path.into(), file, n_hashes: 0, n_digests: 0 }),
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
        let same =
            serde_json::from_slice::<Start>(start).is_ok_and(|start| start.fingerprint == plan.fingerprint);
        if !same {
            return Ok(None);
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
        (self.n_hashes, self.n_digests) = (state.hashes.len(), state.digests.len());
        Ok(Some(state))
    }

    /// Empties the journal and writes its first line.
    pub(super) fn start(&mut self, plan: &Plan) -> Result<(), Error> {
        self.file.set_len(0).map_err(Error::io(&self.path, "shorten"))?;
        (self.n_hashes, self.n_digests) = (0, 0);
        self.append(&Start { fingerprint: plan.fingerprint.clone() })
    }

    /// Notes the state; the data it speaks of must have been synced.
    pub(super) fn checkpoint(&mut self, state: &State) -> Result<(), Error> {
        let checkpoint = Checkpoint {
            hashes: state.hashes[self.n_hashes..].to_vec(),
            digests: state.digests[self.n_digests..].to_vec(),
            position: state.position,
            sha256: to_hex(&state.sha256.serialize()),
        };
        (self.n_hashes, self.n_digests) = (state.hashes.len(), state.digests.len());
        self.append(&checkpoint)
    }

    fn append(&mut self, line: &impl Serialize) -> Result<(), Error> {
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
    let checkpoint: Checkpoint = serde_json::from_slice(json).ok()?;
    state.hashes.extend(checkpoint.hashes);
    state.digests.extend(checkpoint.digests);
    state.position = checkpoint.position;
    let bytes = from_hex(&checkpoint.sha256)?;
    let serialized = SerializedState::<Sha256>::try_from(bytes.as_slice()).ok()?;
    state.sha256 = Sha256::deserialize(&serialized).ok()?;
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
