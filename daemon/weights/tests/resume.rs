//! Interrupted imports: killed, then resumed; and stopped by a full disk.
//!
//! The import runs in a child process (this test binary again, with `child` selected), so that a kill is a real one.
#![allow(clippy::unwrap_used, reason = "test code")]

mod support;

use std::cell::Cell;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output};

use nix::sys::signal::{Signal, kill};
use nix::unistd::getpid;
use support::{Bytes, Model, contents, deepseek_fp8, gguf};
use weights::{Compress, ImportOptions, ImportReport, Stage, import, open};

const SEED: u64 = 0x5eed_f00d;
/// What the child says when the import reports a full disk.
const DISK_FULL: &str = "reported as a full disk";

fn options() -> ImportOptions {
    // Experts are coded: an import of both passes.
    let compress = Compress::Always;
    ImportOptions { chunk_bytes: 1500, checkpoint_bytes: 20_000, compress, ..ImportOptions::default() }
}

/// Runs [`child`] in a process of its own.
fn run_child(model: &Model, dest: &Path, variable: &str, value: u64, shell: &str) -> Output {
    let script = format!("{shell} exec \"$0\" --exact child --ignored --nocapture");
    let mut command = Command::new("sh");
    command.arg("-c").arg(script).arg(std::env::current_exe().unwrap());
    command.env("IMPORT_FROM", &model.path).env("IMPORT_TO", dest).env(variable, value.to_string());
    command.output().unwrap()
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
#[ignore = "a process the other tests start"]
fn child() {
    let (from, to) = (std::env::var("IMPORT_FROM").unwrap(), std::env::var("IMPORT_TO").unwrap());
    let (kill_at, limit_at) = (number("KILL_AT_STEP"), number("LIMIT_AT_STEP"));
    let step = Cell::new(0);
    let result = import(from.as_ref(), to.as_ref(), &options(), &mut |_| {
        if kill_at == Some(step.get()) {
            kill(getpid(), Signal::SIGKILL).unwrap();
        }
        if limit_at == Some(step.get()) {
            let status =
                Command::new("prlimit").args(["--fsize=5000", "--pid"]).arg(getpid().to_string()).status();
            assert!(status.unwrap().success());
        }
        step.set(step.get() + 1);
    });
    if let Err(error) = result {
        let is_full = matches!(error, weights::Error::DiskFull { .. });
        panic!("{}: {error}", if is_full { DISK_FULL } else { "another failure" });
    }
}

fn finish(model: &Model, dest: &Path) -> ImportReport {
    import(&model.path, dest, &options(), &mut |_| {}).unwrap()
}

/// A complete import beside the model, and the number of progress steps it took.
fn complete(model: &Model) -> (std::path::PathBuf, u64) {
    let dest = model.beside("complete");
    let mut steps = 0;
    import(&model.path, &dest, &options(), &mut |_| steps += 1).unwrap();
    (dest, steps)
}

#[test]
fn a_killed_import_goes_on_to_the_same_pack() {
    let model = deepseek_fp8();
    let (reference, steps) = complete(&model);
    let reference = contents(&reference).unwrap();
    let mut random = Bytes(SEED);
    let mut resumed = 0;
    // The last steps, where the small files are written and the folder is renamed, are all tried.
    let kills = (0..12).map(|_| random.below(steps)).chain(steps - 6..steps);
    for (i, kill_at) in kills.enumerate() {
        let dest = model.beside(&format!("pack-{i}"));
        let status = run_child(&model, &dest, "KILL_AT_STEP", kill_at, "").status;
        assert_eq!(status.signal(), Some(9), "seed {SEED:#x}, step {kill_at}: the child was not killed");
        if dest.exists() {
            // Killed between the rename and the clean-up: complete but for the journal.
            assert!(kill_at == steps - 1, "step {kill_at}");
            open(&dest).unwrap();
            continue;
        }
        let report = finish(&model, &dest);
        resumed += report.resumed_bytes;
        assert!(contents(&dest).unwrap() == reference, "seed {SEED:#x}, step {kill_at}: packs differ");
    }
    assert!(resumed > 0, "seed {SEED:#x}: nothing was ever resumed");
}

#[test]
fn an_import_killed_while_it_codes_goes_on_to_the_same_pack() {
    let model = deepseek_fp8();
    let (reference, mut stages) = (model.beside("complete"), Vec::new());
    import(&model.path, &reference, &options(), &mut |p| stages.push(p.stage)).unwrap();
    let reference = contents(&reference).unwrap();
    let first = stages.iter().position(|stage| *stage == Stage::Code).unwrap();
    let last = stages.iter().rposition(|stage| *stage == Stage::Code).unwrap();
    assert!(last - first > 4, "too few steps to be killed in: {}", last - first);
    let mut random = Bytes(SEED);
    let some = (0..6).map(|_| first + random.below((last - first) as u64) as usize);
    // Just before and after it was decided; at the ends; where the files change places.
    let kills = some.chain([first - 1, first, first + 1]).chain(last - 1..stages.len());
    for (i, kill_at) in kills.enumerate() {
        let dest = model.beside(&format!("pack-{i}"));
        let status = run_child(&model, &dest, "KILL_AT_STEP", kill_at as u64, "").status;
        assert_eq!(status.signal(), Some(9), "seed {SEED:#x}, step {kill_at}: the child was not killed");
        if dest.exists() {
            assert_eq!(kill_at, stages.len() - 1);
            continue;
        }
        let report = finish(&model, &dest);
        assert!(report.resumed_bytes > 0, "seed {SEED:#x}, step {kill_at}: nothing was resumed");
        assert!(contents(&dest).unwrap() == reference, "seed {SEED:#x}, step {kill_at}: packs differ");
    }
}

#[test]
fn a_kill_while_coding_does_not_copy_the_source_again() {
    let model = deepseek_fp8();
    let (dest, mut stages) = (model.beside("complete"), Vec::new());
    import(&model.path, &dest, &options(), &mut |p| stages.push(p.stage)).unwrap();
    let kill_at = stages.iter().rposition(|stage| *stage == Stage::Code).unwrap();
    let dest = model.beside("pack");
    run_child(&model, &dest, "KILL_AT_STEP", kill_at as u64, "");
    let mut again = Vec::new();
    import(&model.path, &dest, &options(), &mut |p| again.push(p.stage)).unwrap();
    assert!(!again.contains(&Stage::Copy) && !again.contains(&Stage::Measure), "{again:?}");
}

#[test]
fn a_twice_killed_import_goes_on_to_the_same_pack() {
    let model = deepseek_fp8();
    let (reference, steps) = complete(&model);
    let dest = model.beside("pack");
    for _ in 0..2 {
        let status = run_child(&model, &dest, "KILL_AT_STEP", steps / 3, "").status;
        assert_eq!(status.signal(), Some(9));
    }
    let report = finish(&model, &dest);
    assert!(report.resumed_bytes > 0);
    assert!(contents(&dest).unwrap() == contents(&reference).unwrap());
}

#[test]
fn a_kill_in_any_chunk_of_any_kind_of_tensor_is_made_good() {
    // Interleaved, alone and in a record; row after row: a matrix, a stack of them.
    let kinds = [
        "token_embd.weight",
        "blk.1.ffn_down.5.weight",
        "blk.1.ffn_gate_inp.weight",
        "blk.1.attn_k_b.weight",
    ];
    let model = gguf("tiny-deepseek-v3-k256.q4_k_m.gguf");
    let (reference, mut items) = (model.beside("complete"), Vec::new());
    import(&model.path, &reference, &options(), &mut |p| items.push(p.item.to_owned())).unwrap();
    let reference = contents(&reference).unwrap();
    for kind in kinds {
        let steps: Vec<usize> = (0..items.len()).filter(|&step| items[step] == kind).collect();
        for step in [steps[0], steps[steps.len() / 2], steps[steps.len() - 1]] {
            let dest = model.beside(&format!("pack-{step}"));
            let status = run_child(&model, &dest, "KILL_AT_STEP", step as u64, "").status;
            assert_eq!(status.signal(), Some(9), "{kind}: the child was not killed");
            finish(&model, &dest);
            assert!(contents(&dest).unwrap() == reference, "{kind}, step {step}: packs differ");
        }
    }
}

#[test]
fn a_torn_journal_line_is_cut_off() {
    let model = deepseek_fp8();
    let (reference, steps) = complete(&model);
    let dest = model.beside("pack");
    run_child(&model, &dest, "KILL_AT_STEP", steps / 2, "");
    let journal = model.beside("pack.part").join("journal");
    let mut text = std::fs::read(&journal).unwrap();
    text.extend(b"0123456789abcdef {\"hashes\": [\"00");
    std::fs::write(&journal, text).unwrap();
    let report = finish(&model, &dest);
    assert!(report.resumed_bytes > 0);
    assert!(contents(&dest).unwrap() == contents(&reference).unwrap());
}

#[test]
fn a_changed_source_starts_over() {
    let model = deepseek_fp8();
    let (_, steps) = complete(&model);
    let dest = model.beside("pack");
    run_child(&model, &dest, "KILL_AT_STEP", steps / 2, "");
    let shard = model.path.join("model-00001-of-00002.safetensors");
    let mut bytes = std::fs::read(&shard).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&shard, bytes).unwrap();
    assert_eq!(finish(&model, &dest).resumed_bytes, 0);
    support::assert_equal(&open(&model.path).unwrap(), &open(&dest).unwrap());
}

#[test]
fn a_full_disk_leaves_nothing_behind() {
    let model = deepseek_fp8();
    let (reference, steps) = complete(&model);
    // A file size limit makes writes fail as a full disk does: before anything is copied, and in the middle.
    let small_limit = "ulimit -f 8; trap '' XFSZ;";
    let cases = [
        ("UNUSED", 0, small_limit),
        ("LIMIT_AT_STEP", steps / 2, "trap '' XFSZ;"),
        ("LIMIT_AT_STEP", 0, "trap '' XFSZ;"),
    ];
    for (i, (variable, value, shell)) in cases.into_iter().enumerate() {
        let dest = model.beside(&format!("pack-{i}"));
        let output = run_child(&model, &dest, variable, value, shell);
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(told.contains(DISK_FULL), "case {i}: {told}");
        assert!(
            !dest.exists() && !model.beside(&format!("pack-{i}.part")).exists(),
            "case {i}: something is left"
        );
        finish(&model, &dest);
        assert!(contents(&dest).unwrap() == contents(&reference).unwrap());
    }
}
