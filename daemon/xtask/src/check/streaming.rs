//! A model larger than its memory: what must hold whatever the machine's speed.

use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::server::Server;
use crate::cgroup::Cgroup;
use crate::process::Tool;
use crate::workspace::Workspace;
use crate::{console, page_cache, run, size};

/// Parts of the experts that fit into the cache, in percent.
const SHARES: [u64; 4] = [100, 50, 25, 5];
/// Tokens of the prompt whose continuation is compared, and of that.
const PROMPT_TOKENS: usize = 40;
const GREEDY_TOKENS: usize = 16;
/// Tokens of the longest prompt that is read layer by layer.
const SWEEP_TOKENS: usize = 2048;
/// Time that a restarted daemon is left alone before it is asked.
const PAUSE: Duration = Duration::from_secs(10);

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The model: a pack with routed experts.
    #[arg(long, value_name = "PACK")]
    model: PathBuf,
    /// Memory the model may take, and the cgroup it is put into.
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    ram: u64,
    /// Do only some of it.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Part::Tokens, Part::Reads, Part::FirstToken])]
    only: Vec<Part>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// The same tokens with caches of 100, 50, 25 and 5 % of the experts as with the model in memory, which has to fit.
    Tokens,
    /// A prompt of 2,048 tokens reads every expert that it needs once.
    Reads,
    /// The time from the start of a daemon to its first token, with and without the profile of an earlier run.
    FirstToken,
}

pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    let wels = console::step("the daemon", || run::build(workspace))?;
    let model = args.model.canonicalize().with_context(|| format!("cannot read {}", args.model.display()))?;
    let room = workspace.target().join("check").join(format!("streaming-{}", std::process::id()));
    fs::create_dir_all(&room).with_context(|| format!("cannot make {}", room.display()))?;
    let check = Check { workspace, wels, model, room, ram: args.ram };
    let result = args.only.iter().try_for_each(|part| match part {
        Part::Tokens => check.tokens(),
        Part::Reads => check.reads(),
        Part::FirstToken => check.first_token(),
    });
    fs::remove_dir_all(&check.room).with_context(|| format!("cannot remove {}", check.room.display()))?;
    result
}

struct Check<'a> {
    workspace: &'a Workspace,
    wels: PathBuf,
    model: PathBuf,
    /// For what is written on the way.
    room: PathBuf,
    ram: u64,
}

impl Check<'_> {
    fn tokens(&self) -> Result<()> {
        let experts = fs::metadata(self.model.join("experts.bin")).context("the model has no experts")?.len();
        let tokens = self.room.join("tokens.json");
        let ids: Vec<usize> = (0..PROMPT_TOKENS).map(|i| 1 + i * 37 % 199).collect();
        fs::write(&tokens, json!({ "prompt": ids }).to_string()).context("cannot write the prompt")?;
        let eval = |name: &str, options: &[String]| {
            let out = self.room.join(name);
            let eval = Tool::new(self.workspace, &self.wels).args(["eval", "--precision", "fast", "--model"]);
            let eval = eval.arg(&self.model).arg("--tokens").arg(&tokens).arg("--out").arg(&out);
            eval.args(["--greedy", &GREEDY_TOKENS.to_string()]).args(options).output()?;
            fs::read(&out).with_context(|| format!("cannot read {}", out.display()))
        };
        let in_memory = console::step("all experts in memory", || eval("in-memory", &[]))?;
        for share in SHARES {
            // With all of them nothing would be streamed.
            let memory = (experts * share / 100).min(experts - 1);
            let what = format!("{share} % of the experts in memory, {}", size::format(memory));
            let streamed = console::step(what, || {
                eval("streamed", &["--expert-memory".to_owned(), memory.to_string()])
            })?;
            ensure!(streamed == in_memory, "logits or tokens differ");
            console::note(format_args!(
                "the same logits and likeliest tokens at {PROMPT_TOKENS} positions, and {GREEDY_TOKENS} greedy tokens, bit for bit"
            ));
        }
        Ok(())
    }

    fn reads(&self) -> Result<()> {
        let what = format!("a cold prompt of {SWEEP_TOKENS} tokens in {}", size::format(self.ram));
        let cgroup = Cgroup::make(None, self.ram)?;
        let line = console::step(what, || {
            page_cache::drop_pages(self.workspace, &self.model)?;
            let numbers = ["--repeat", "1", "--sequences", "1", "--decode", "1"];
            let bench = Tool::new(self.workspace, &self.wels).args(["bench", "--json"]).args(numbers);
            let bench = bench.args(["--prefill", &SWEEP_TOKENS.to_string(), "--ram", &self.ram.to_string()]);
            bench.arg("--model").arg(&self.model).within(&cgroup).output()
        })?;
        let line: Value = serde_json::from_str(line.lines().next_back().unwrap_or_default())
            .context("the benchmark prints no JSON")?;
        let prefill = &line["streaming"]["prefill"];
        let count = |name: &str| prefill[name].as_u64().with_context(|| format!("nothing is said of {name}"));
        let (wanted, reads) = (count("hits")? + count("misses")?, count("reads")?);
        let (read, needed) = (count("bytes_read")?, count("needed_bytes")?);
        console::note(format_args!(
            "{wanted} experts wanted, {reads} reads; {} read, {} needed; {:.1} tok/s; memory at most {}",
            size::format(read),
            size::format(needed),
            line["prefill_tok_s"].as_f64().unwrap_or_default(),
            cgroup.usage()?.peak_bytes.map_or_else(|| "unknown".into(), size::format)
        ));
        let experts = fs::metadata(self.model.join("experts.bin")).context("the model has no experts")?.len();
        ensure!(reads == wanted, "every expert that is wanted is read once");
        ensure!(read <= experts, "more is read than there is: some experts were wanted twice");
        Ok(())
    }

    fn first_token(&self) -> Result<()> {
        let (state, profile) = (self.room.join("state"), self.room.join("profile.json"));
        let start = || {
            page_cache::drop_pages(self.workspace, &self.model)?;
            let cgroup = Cgroup::make(None, self.ram)?;
            let ram = self.ram.to_string();
            let options = [OsStr::new("--ram"), ram.as_ref(), "--expert-profile".as_ref(), profile.as_ref()];
            Ok::<_, anyhow::Error>((
                Server::start(&self.wels, (&self.model, &state), options, Some(&cgroup))?,
                cgroup,
            ))
        };
        console::step("a first life, in which the drive is measured and experts are used", || {
            let (server, _cgroup) = start()?;
            for question in ["What is a catfish?", "How deep is the Danube?", "Who was here first?"] {
                server.ask(question, 2 * GREEDY_TOKENS)?;
            }
            server.stop()
        })?;
        let kept = fs::read(&profile).context("cannot read the profile")?;
        console::heading("time to the first token of a restarted daemon");
        for (what, kept, pause) in [
            ("without a profile, asked at once", None, Duration::ZERO),
            ("with one, asked at once", Some(&kept), Duration::ZERO),
            ("without a profile, asked after 10 s", None, PAUSE),
            ("with one, asked after 10 s", Some(&kept), PAUSE),
        ] {
            match kept {
                Some(kept) => fs::write(&profile, kept).context("cannot write the profile")?,
                None => fs::remove_file(&profile).context("cannot remove the profile")?,
            }
            let (server, _cgroup) = start()?;
            let listening = server.started.elapsed();
            thread::sleep(pause);
            let answer = server.ask("Which fish is the largest in the river?", 1)?;
            ensure!(!answer.is_error(), "the daemon answers: {}", answer.text);
            console::note(format_args!(
                "{what:<36} {:.2} s after the question, {:.2} s of loading before",
                answer.seconds,
                listening.as_secs_f64()
            ));
            server.stop()?;
        }
        Ok(())
    }
}
