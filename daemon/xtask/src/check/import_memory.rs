//! The memory of an import, measured on the program people run and a model of real size.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::workspace::Workspace;
use crate::{console, run, size};

/// Time between looks at the import.
const LOOK_EVERY: Duration = Duration::from_millis(20);

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The model: a GGUF file or a Hugging Face folder, best many times larger than the limit.
    #[arg(long, value_name = "PATH")]
    model: PathBuf,
    /// Folder on the disk that takes the pack for the time of the check; by default target/check.
    #[arg(long, value_name = "DIR")]
    room: Option<PathBuf>,
    /// Private memory the import may take, in MiB (RLIMIT_DATA).
    #[arg(long, default_value_t = 64, value_name = "MIB")]
    private: u64,
    /// Folder of a memory cgroup, with a limit far below the model's size, that the import is put into.
    ///
    /// It shows that the pages of the files read and written are given back: make the cgroup first, and write its limit.
    #[arg(long, value_name = "DIR")]
    cgroup: Option<PathBuf>,
}

pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    let wels = console::step("the daemon", || run::build(workspace))?;
    let room = std::path::absolute(args.room.clone().unwrap_or_else(|| workspace.target().join("check")))?;
    fs::create_dir_all(&room).with_context(|| format!("cannot make {}", room.display()))?;
    let pack = room.join(format!("import-memory-{}.wels", std::process::id()));
    let result = check(args, &wels, &pack);
    for left in [pack.clone(), pack.with_extension("wels.part")] {
        if left.exists() {
            fs::remove_dir_all(&left).with_context(|| format!("cannot remove {}", left.display()))?;
        }
    }
    result
}

fn check(args: &Args, wels: &Path, pack: &Path) -> Result<()> {
    let model = args.model.canonicalize().with_context(|| format!("cannot read {}", args.model.display()))?;
    let total = model_bytes(&model)?;
    let mut command = limited(args, wels, &model, pack)?;
    console::step(format_args!("import {}, killed half-way", size::format(total)), || {
        let journal = pack.with_extension("wels.part").join("journal");
        let (status, peak) =
            watch(&mut command, |pid| bytes_read(pid) >= total / 2 && has_checkpoint(&journal))?;
        ensure!(
            status.code().is_none(),
            "the import ended before it was killed ({status}); take a larger model"
        );
        tell(&peak);
        Ok(())
    })?;
    let mut command = limited(args, wels, &model, pack)?;
    console::step("import, resumed", || {
        let report = pack.with_extension("json");
        command.arg("--json").stdout(fs::File::create(&report).context("cannot write the report")?);
        let (status, peak) = watch(&mut command, |_| false)?;
        let told = fs::read(&report).and_then(|told| fs::remove_file(&report).map(|()| told))?;
        ensure!(status.success(), "the resumed import failed ({status}); it may not fit into the limit");
        tell(&peak);
        let told: Value = serde_json::from_slice(&told).context("the import's report is no JSON")?;
        ensure!(told["resumed_bytes"].as_u64() > Some(0), "the import started over instead of resuming");
        Ok(())
    })?;
    console::step("every byte of the pack", || verify(wels, pack))
}

/// Reads the pack back. The doctor may find fault with other things: a made-up model has no chat template.
fn verify(wels: &Path, pack: &Path) -> Result<()> {
    let output = Command::new(wels).args(["doctor", "--json", "--model"]).arg(pack).output();
    let output = output.context("cannot start the doctor")?;
    let findings: Vec<Value> = serde_json::from_slice(&output.stdout).context("the doctor prints no JSON")?;
    let bytes =
        findings.iter().find(|finding| finding["check"] == "bytes").context("no word about the bytes")?;
    ensure!(bytes["ok"] == true, "the pack's bytes: {}", bytes["found"]);
    Ok(())
}

/// The import under its limits, set by a shell that then becomes it.
fn limited(args: &Args, wels: &Path, model: &Path, pack: &Path) -> Result<Command> {
    let mut script = format!("ulimit -d {} && ", args.private << 10);
    if let Some(cgroup) = &args.cgroup {
        let procs = cgroup.canonicalize().unwrap_or_else(|_| cgroup.clone()).join("cgroup.procs");
        ensure!(procs.is_file(), "{} is no cgroup: it has no cgroup.procs", cgroup.display());
        script += &format!("echo $$ > '{}' && ", procs.display());
    }
    let mut command = Command::new("sh");
    command.arg("-c").arg(script + "exec \"$0\" \"$@\"").arg(wels).arg("import").arg(model).arg(pack);
    command.stdin(Stdio::null());
    Ok(command)
}

/// The most memory seen, in KiB.
#[derive(Default)]
struct Peak {
    anonymous: u64,
    file: u64,
}

fn tell(peak: &Peak) {
    let (anonymous, file) = (size::format(peak.anonymous << 10), size::format(peak.file << 10));
    console::note(format_args!("private memory at most {anonymous} (RssAnon), of files {file} (RssFile)"));
}

/// Runs a command to its end, or until `enough` of its process id: then it is killed.
fn watch(command: &mut Command, enough: impl Fn(u32) -> bool) -> Result<(ExitStatus, Peak)> {
    let mut child = command.spawn().context("cannot start the import")?;
    let mut peak = Peak::default();
    loop {
        if let Some(status) = child.try_wait().context("cannot wait for the import")? {
            return Ok((status, peak));
        }
        look(&child, &mut peak);
        if enough(child.id()) {
            child.kill().context("cannot kill the import")?;
        }
        thread::sleep(LOOK_EVERY);
    }
}

fn look(child: &Child, peak: &mut Peak) {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
    peak.anonymous = peak.anonymous.max(number(&status, "RssAnon:"));
    peak.file = peak.file.max(number(&status, "RssFile:"));
}

/// Bytes a process has read so far.
fn bytes_read(pid: u32) -> u64 {
    number(&fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default(), "rchar:")
}

/// The number behind `key` in a file of /proc; 0 where it isn't.
fn number(text: &str, key: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// The first line says which import it is; the second is a checkpoint.
fn has_checkpoint(journal: &Path) -> bool {
    fs::read(journal).is_ok_and(|text| text.iter().filter(|&&byte| byte == b'\n').count() > 1)
}

/// Bytes of the model's tensor files.
fn model_bytes(model: &Path) -> Result<u64> {
    if model.is_file() {
        return Ok(fs::metadata(model)?.len());
    }
    let mut bytes = 0;
    for entry in fs::read_dir(model)? {
        let path = entry?.path();
        if path.extension().is_some_and(|end| end == "safetensors") {
            bytes += fs::metadata(&path)?.len();
        }
    }
    if bytes == 0 {
        bail!("{} holds no safetensors files", model.display());
    }
    Ok(bytes)
}
