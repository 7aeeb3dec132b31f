//! Wels and its peers on one model, in turn.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::How;
use super::logits::Likeness;
use super::peer::{Level, Peer};
use crate::process::Tool;
use crate::workspace::Workspace;
use crate::{console, page_cache};

/// Models from this size on are measured with fewer tokens and without repetitions: their runs are long.
const LARGE_BYTES: u64 = 4_000_000_000;
/// Sequences decoded together, and so the kinds of work besides the prompt.
pub(super) const SEQUENCES: [usize; 2] = [1, 8];

/// What everybody is asked to do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Work {
    pub(super) threads: usize,
    pub(super) level: Option<Level>,
    prefill: usize,
    decode: usize,
    repeat: usize,
    /// On a graphics card, or what stands for one.
    pub(super) on_card: bool,
}

impl Work {
    pub(super) fn new(how: &How, model_bytes: u64) -> Self {
        let (decode, repeat) = if model_bytes > LARGE_BYTES { (24, 1) } else { (64, 3) };
        let (decode, repeat) = (how.decode.unwrap_or(decode), how.repeat.unwrap_or(repeat));
        Self { threads: how.threads(), level: how.level, prefill: 512, decode, repeat, on_card: false }
    }

    /// What a software device can do in a minute or two.
    pub(super) fn on_card(how: &How) -> Self {
        let (decode, repeat) = (how.decode.unwrap_or(16), how.repeat.unwrap_or(1));
        Self { threads: how.threads(), level: how.level, prefill: 64, decode, repeat, on_card: true }
    }

    /// Options that `wels bench` and the peers' script share.
    pub(super) fn options(&self) -> Vec<String> {
        let (decode, repeat) = (self.decode, self.repeat);
        let pairs = [
            ("threads", self.threads),
            ("prefill", self.prefill),
            ("decode", decode),
            ("depth", 32),
            ("repeat", repeat),
        ];
        let sequences = SEQUENCES.map(|n| n.to_string()).join(",");
        let numbers = pairs.iter().flat_map(|(name, value)| [format!("--{name}"), value.to_string()]);
        numbers.chain(["--sequences".to_owned(), sequences]).collect()
    }
}

/// The last line that all of them print.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Speed {
    prefill_tok_s: f64,
    decode: Vec<Decode>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
struct Decode {
    sequences: usize,
    tok_s: f64,
}

impl Speed {
    fn parse(output: &str) -> Result<Self> {
        let line = output.lines().next_back().context("the benchmark printed nothing")?;
        let speed: Self =
            serde_json::from_str(line).with_context(|| format!("not the line of a benchmark: {line}"))?;
        let is_rate = |rate: f64| rate.is_finite() && rate > 0.0;
        if speed.decode.iter().map(|decode| decode.sequences).ne(SEQUENCES) {
            bail!("the benchmark decoded other sequences than it was asked to: {line}");
        }
        if !speed.rates().into_iter().all(is_rate) {
            bail!("the benchmark printed a rate that is none: {line}");
        }
        Ok(speed)
    }

    /// Tokens a second of each kind of work, as [`works`] names them.
    pub(super) fn rates(&self) -> Vec<f64> {
        let decode = self.decode.iter().map(|decode| decode.tok_s);
        std::iter::once(self.prefill_tok_s).chain(decode).collect()
    }
}

/// Names of the kinds of work.
pub(super) fn works() -> Vec<String> {
    let decode =
        SEQUENCES.map(|n| if n == 1 { "decode 1 sequence".into() } else { format!("decode {n} sequences") });
    std::iter::once("prefill".to_owned()).chain(decode).collect()
}

/// Who is measured on what.
pub(super) struct Contest<'a> {
    pub(super) workspace: &'a Workspace,
    pub(super) wels: &'a Path,
    pub(super) work: Work,
    pub(super) peers: Vec<Peer>,
}

/// What came of it.
pub(super) struct Outcome {
    pub(super) model: String,
    pub(super) ours: Vec<Speed>,
    pub(super) theirs: Vec<Rival>,
}

/// A peer's part of it.
pub(super) struct Rival {
    pub(super) name: String,
    /// One a pair, unless it failed.
    pub(super) speeds: Vec<Speed>,
    /// How near its logits are to ours.
    pub(super) likeness: Option<Likeness>,
    pub(super) failed: Option<String>,
}

impl Contest<'_> {
    /// Measures `pairs` times Wels on `ours` and every peer on `theirs`. A peer that fails is left out from there on.
    pub(super) fn run(mut self, name: &str, (ours, theirs): (&Path, &Path), pairs: u32) -> Result<Outcome> {
        let Work { threads, prefill, .. } = self.work;
        console::heading(format_args!(
            "{name}: {pairs} rounds on {threads} threads, prompts of {prefill} tokens"
        ));
        let logits = Logits::new(self.workspace)?;
        let mut outcome = Outcome { model: name.into(), ours: Vec::new(), theirs: Vec::new() };
        outcome.theirs.extend(self.peers.iter().map(|peer| Rival::new(&peer.name())));
        // Two files of one model may be larger than the memory together: what the other side reads leaves it.
        let leave = |file| if ours == theirs { Ok(()) } else { page_cache::drop_pages(self.workspace, file) };
        for round in 1..=pairs {
            leave(theirs)?;
            let speed = self.ours(ours, &logits.of("wels")).context("Wels cannot be measured")?;
            console::note(format_args!("round {round}: wels                  {}", words(&speed)));
            outcome.ours.push(speed);
            leave(ours)?;
            for (peer, rival) in self.peers.iter_mut().zip(&mut outcome.theirs) {
                rival.round(self.workspace, peer, theirs, &self.work, &logits);
            }
        }
        Ok(outcome)
    }

    fn ours(&self, model: &Path, logits: &Path) -> Result<Speed> {
        let bench = Tool::new(self.workspace, self.wels).args(["bench", "--json", "--model"]).arg(model);
        let bench = bench.args(self.work.options()).arg("--logits").arg(logits);
        let bench = if self.work.on_card { bench.args(["--device", "gpu"]) } else { bench };
        let bench = match self.work.level {
            Some(level) => bench.env("WELS_CPU", level.wels()),
            None => bench,
        };
        Speed::parse(&bench.output()?)
    }
}

impl Rival {
    fn new(name: &str) -> Self {
        Self { name: name.into(), speeds: Vec::new(), likeness: None, failed: None }
    }

    fn round(&mut self, workspace: &Workspace, peer: &mut Peer, model: &Path, work: &Work, logits: &Logits) {
        if self.failed.is_some() {
            return;
        }
        let file = logits.of("peer");
        let mut measured = peer.bench(workspace, model, work, &file);
        if measured.is_err() && self.speeds.is_empty() && peer.try_without_repacking() {
            console::note(format_args!("         {:<21} fails; without repacking:", self.name));
            measured = peer.bench(workspace, model, work, &file);
            self.name = peer.name();
        }
        match measured
            .and_then(|output| Ok((Speed::parse(&output)?, Likeness::of(&logits.of("wels"), &file)?)))
        {
            Ok((speed, likeness)) => {
                console::note(format_args!("         {:<21} {}", self.name, words(&speed)));
                self.speeds.push(speed);
                self.likeness = Some(likeness);
            }
            Err(error) => {
                let reason = error.to_string();
                console::note(format_args!("         {:<21} {reason}", self.name));
                self.failed = Some(reason);
            }
        }
    }
}

fn words(speed: &Speed) -> String {
    let rates = speed.rates().into_iter().zip(works());
    rates.map(|(rate, work)| format!("{work}: {rate:.1}")).collect::<Vec<_>>().join(", ") + " tok/s"
}

/// Files for the logits of the last run.
struct Logits(PathBuf);

impl Logits {
    fn new(workspace: &Workspace) -> Result<Self> {
        let folder = workspace.target().join("bench/logits");
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(Self(folder))
    }

    fn of(&self, whose: &str) -> PathBuf {
        self.0.join(whose)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DECODE: &str =
        r#""decode": [{"sequences": 1, "tok_s": 10}, {"sequences": 8, "tok_s": 40, "more": 1}]"#;

    #[test]
    fn the_last_line_counts() {
        let speed =
            Speed::parse(&format!("prefill 12\n{{\"prefill_tok_s\": 100.0, {DECODE}, \"model\": \"m\"}}\n"));
        assert_eq!(speed.unwrap().rates(), [100.0, 10.0, 40.0]);
        assert_eq!(works().len(), 3);
    }

    #[test]
    fn nonsense_is_no_speed() {
        let zero = format!("{{\"prefill_tok_s\": 0, {DECODE}}}");
        let other = r#"{"prefill_tok_s": 1, "decode": [{"sequences": 1, "tok_s": 10}]}"#;
        for nonsense in ["", "words", "{}", &zero, other] {
            assert!(Speed::parse(nonsense).is_err(), "{nonsense}");
        }
    }

    #[test]
    fn large_models_are_asked_for_less() {
        let how = How { pairs: 1, threads: Some(2), level: None, decode: None, repeat: None, json: false };
        let decode = |bytes| {
            let options = Work::new(&how, bytes).options();
            let at = options.iter().position(|option| option == "--decode").unwrap();
            options[at + 1].clone()
        };
        assert_eq!((decode(1 << 30), decode(9 << 30)), ("64".into(), "24".into()));
    }
}
