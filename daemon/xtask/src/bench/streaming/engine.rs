//! Who takes part, how each is started, and what each prints.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::outcome::{Measured, Streaming};
use crate::bench::models::Files;
use crate::bench::peer::Peer;
use crate::cgroup::{Cgroup, Usage};
use crate::process::Tool;
use crate::workspace::Workspace;

/// Tokens of the prompt whose speed is measured, and of the one before decoding.
const PREFILL_TOKENS: u32 = 512;
const DEPTH_TOKENS: u32 = 32;

/// What everybody is asked to do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Work {
    pub(super) threads: usize,
    /// Tokens.
    pub(super) decode: u32,
    pub(super) limit_bytes: u64,
}

impl Work {
    /// Options that `wels bench` and the peers' script share.
    fn options(&self) -> Vec<String> {
        let numbers = [("prefill", PREFILL_TOKENS), ("decode", self.decode), ("depth", DEPTH_TOKENS)];
        let options = numbers.iter().flat_map(|(name, value)| [format!("--{name}"), value.to_string()]);
        options.chain(["--threads".to_owned(), self.threads.to_string()]).collect()
    }
}

pub(super) enum Engine {
    /// The daemon's path.
    Wels(PathBuf),
    Peer(Peer),
}

/// An engine under one condition.
pub(super) struct Entrant {
    pub(super) name: &'static str,
    pub(super) engine: Engine,
    /// What the drive reads ahead for it; `None` where that makes no difference.
    pub(super) read_ahead_kib: Option<u64>,
    /// Why it no longer takes part.
    pub(super) failed: Option<String>,
}

impl Entrant {
    pub(super) fn wels(wels: &Path) -> Self {
        Self { name: "wels", engine: Engine::Wels(wels.to_owned()), read_ahead_kib: None, failed: None }
    }

    pub(super) fn peer(name: &'static str, peer: Peer, read_ahead_kib: u64) -> Self {
        Self { name, engine: Engine::Peer(peer), read_ahead_kib: Some(read_ahead_kib), failed: None }
    }

    pub(super) fn is_wels(&self) -> bool {
        matches!(self.engine, Engine::Wels(_))
    }

    pub(super) fn model<'a>(&self, files: &'a Files) -> &'a Path {
        match self.engine {
            Engine::Wels(_) => &files.pack,
            Engine::Peer(_) => &files.gguf,
        }
    }

    /// What it printed.
    pub(super) fn run(
        &self,
        workspace: &Workspace,
        model: &Path,
        work: &Work,
        cgroup: &Cgroup,
    ) -> Result<String> {
        match &self.engine {
            Engine::Peer(peer) => peer.stream(workspace, model, &work.options(), cgroup),
            Engine::Wels(wels) => {
                let bench =
                    Tool::new(workspace, wels).args(["bench", "--json", "--repeat", "1", "--sequences", "1"]);
                let bench = bench.args(["--ram", &work.limit_bytes.to_string()]).arg("--model").arg(model);
                bench.args(work.options()).within(cgroup).output()
            }
        }
    }

    /// The last line of what it printed.
    pub(super) fn parse(
        &self,
        output: &str,
        decode: u32,
        usage: Usage,
        drive_bytes: u64,
    ) -> Result<Measured> {
        let line = output.lines().next_back().context("the benchmark printed nothing")?;
        let measured = match self.engine {
            Engine::Wels(_) => of_wels(line, usage, drive_bytes),
            Engine::Peer(_) => of_peer(line, decode, usage, drive_bytes),
        };
        measured.and_then(checked).with_context(|| format!("not the line of a benchmark: {line}"))
    }
}

impl fmt::Display for Entrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.read_ahead_kib {
            Some(kib) => write!(f, "{}, {kib} KiB", self.name),
            None => f.write_str(self.name),
        }
    }
}

/// What `wels bench --json` ends with, as far as it matters here.
#[derive(Deserialize)]
struct Line {
    load_s: f64,
    prefill_tok_s: f64,
    decode_tok_s: f64,
    /// Null in a model that is not streamed.
    streaming: Option<Streaming>,
}

fn of_wels(line: &str, usage: Usage, drive_bytes: u64) -> Result<Measured> {
    let line: Line = serde_json::from_str(line)?;
    let streaming = line.streaming.context("nothing was streamed")?;
    Ok(Measured {
        load_s: line.load_s,
        prefill_tok_s: line.prefill_tok_s,
        prefill_bytes: streaming.prefill.bytes_read,
        decode_tok_s: line.decode_tok_s,
        token_median_s: None,
        token_bytes: streaming.decode.bytes_read as f64 / streaming.decode.tokens as f64,
        drive_bytes,
        usage,
        streaming: Some(streaming),
    })
}

fn checked(measured: Measured) -> Result<Measured> {
    let rates = [measured.prefill_tok_s, measured.decode_tok_s];
    ensure!(rates.iter().all(|rate| rate.is_finite() && *rate > 0.0), "a rate is none");
    Ok(measured)
}

/// What `peer_streaming.py` ends with.
#[derive(Deserialize)]
struct PeerLine {
    load_s: f64,
    prefill: Phase,
    decode: Phase,
}

#[derive(Deserialize)]
struct Phase {
    tok_s: f64,
    bytes_read: u64,
    median_s: Option<f64>,
}

fn of_peer(line: &str, decode: u32, usage: Usage, drive_bytes: u64) -> Result<Measured> {
    let line: PeerLine = serde_json::from_str(line)?;
    Ok(Measured {
        load_s: line.load_s,
        prefill_tok_s: line.prefill.tok_s,
        prefill_bytes: line.prefill.bytes_read,
        decode_tok_s: line.decode.tok_s,
        token_median_s: line.decode.median_s,
        token_bytes: line.decode.bytes_read as f64 / f64::from(decode),
        drive_bytes,
        usage,
        streaming: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wels() -> Entrant {
        Entrant::wels(Path::new("wels"))
    }

    #[test]
    fn the_streaming_of_wels_is_read() {
        let phase = r#"{"hits": 1, "misses": 3, "needed_bytes": 300, "reads": 3, "bytes_read": 306, "busy_s": 0.5,
            "stall_s": 0.1, "wall_s": 1.0, "tokens": 2, "retries": 0}"#;
        let text = format!(
            r#"{{"load_s": 1, "prefill_tok_s": 50, "decode_tok_s": 2, "model": "m", "streaming":
            {{"record_bytes": 100, "slot_bytes": 4096, "prefill": {phase}, "decode": {phase}}}}}"#
        );
        let text = format!("decode 2 tok/s\n{}\n", text.replace('\n', " "));
        let measured = wels().parse(&text, 2, Usage::default(), 400).unwrap();
        let streaming = measured.streaming.unwrap();
        assert_eq!((measured.token_bytes, measured.prefill_bytes, streaming.record_bytes), (153.0, 306, 100));
        assert_eq!(streaming.decode.read_for_needed(), 1.02);
    }

    #[test]
    fn nonsense_of_wels_is_an_error() {
        let nothing_streamed = r#"{"load_s": 1, "prefill_tok_s": 50, "decode_tok_s": 2, "streaming": null}"#;
        for line in [nothing_streamed, "", "words", "{}"] {
            assert!(wels().parse(line, 2, Usage::default(), 0).is_err(), "{line}");
        }
    }

    fn peer(tok_s: f64) -> Measured {
        let line = format!(
            r#"{{"load_s": 1, "load_bytes_read": 7, "prefill": {{"tok_s": {tok_s}, "bytes_read": 9}},
            "decode": {{"tokens": 4, "tok_s": 2, "bytes_read": 80, "median_s": 0.5, "token_s": [0.5]}}}}"#
        );
        of_peer(&line, 4, Usage::default(), 0).unwrap()
    }

    #[test]
    fn a_peers_bytes_are_of_a_token() {
        let measured = checked(peer(8.0)).unwrap();
        assert_eq!((measured.token_bytes, measured.token_median_s), (20.0, Some(0.5)));
        assert!(of_peer("{}", 4, Usage::default(), 0).is_err());
    }

    #[test]
    fn a_rate_of_nothing_is_an_error() {
        assert!(checked(peer(0.0)).is_err());
    }
}
