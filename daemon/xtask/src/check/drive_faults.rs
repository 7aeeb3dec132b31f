//! What broken drives do to a daemon that streams: injected into a file system in a file, mounted for the purpose.
//!
//! Every answer has to be the one that the model gives in memory, or an error; and once the fault is gone, right again.

use std::fs::{self, File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::server::Server;
use crate::bench::models::Folder;
use crate::process::Tool;
use crate::workspace::Workspace;
use crate::{console, run, size};

/// Of the file system: the model and as much again.
const IMAGE_BYTES: u64 = 4_000_000_000;
/// Of it, what is left when its drive breaks off. The file system's own structures that matter lie before.
const BROKEN_OFF: u64 = 700_000_000;
/// Memory for experts: a few of them.
const EXPERT_MEMORY: &str = "80MB";
/// Tokens of an answer.
const ANSWER_TOKENS: usize = 4;
/// What a slow drive gives, in bytes a second.
const SLOW_BYTES_S: u64 = 100_000_000;
/// Bytes from one flipped bit to the next: every expert has some.
const FLIP_EVERY: u64 = 1_000_003;
/// One question a fault, and one after it: none is asked twice, or it would be remembered.
const QUESTIONS: [&str; 12] = [
    "What is a catfish?",
    "How deep is the Danube?",
    "Who was here first?",
    "Which bird sings at night?",
    "When does the ferry leave?",
    "Where is the key?",
    "Why is the sea salt?",
    "How do bees find home?",
    "What did the report say?",
    "Who wrote the second letter?",
    "Which way is north?",
    "How many are left?",
];

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folder with v2slice.gguf and its pack; by default they are made in target/bench/models.
    #[arg(long, value_name = "DIR")]
    model_dir: Option<PathBuf>,
}

pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    let wels = console::step("the daemon", || run::build(workspace))?;
    let model_dir = args.model_dir.as_deref().map(std::path::absolute).transpose()?;
    let files = Folder { workspace, brought: model_dir.as_deref() }.bring(&wels, "v2slice")?;
    let room = workspace.target().join("check").join(format!("drive-faults-{}", std::process::id()));
    fs::create_dir_all(&room).with_context(|| format!("cannot make {}", room.display()))?;
    let result = check(workspace, &wels, &files.pack, &room);
    fs::remove_dir_all(&room).with_context(|| format!("cannot remove {}", room.display()))?;
    result
}

fn check(workspace: &Workspace, wels: &Path, pack: &Path, room: &Path) -> Result<()> {
    let right = console::step("the right answers, from memory", || {
        let server = Server::start(wels, (pack, &room.join("state-memory")), [""; 0], None)?;
        QUESTIONS.iter().map(|question| server.ask(question, ANSWER_TOKENS)).collect::<Result<Vec<_>>>()
    })?;
    let right: Vec<String> = right.into_iter().map(|answer| answer.text).collect();
    let disk =
        console::step("a file system in a file, with the model on it", || Disk::make(workspace, room, pack))?;
    let options = ["--expert-memory", EXPERT_MEMORY];
    let server = Server::start(wels, (&disk.pack(), &room.join("state")), options, None)?;
    let mut trial = Trial { server: &server, right: &right, asked: 0 };
    console::step("a sound drive", || trial.expect_right())?;
    console::step(format_args!("a slow drive, {} a second", size::format(SLOW_BYTES_S)), || {
        let slow = Slow::make(&disk, &server)?;
        trial.expect_right()?;
        drop(slow);
        trial.expect_right()
    })?;
    console::step("flipped bits", || {
        disk.flip()?;
        trial.expect_error()?;
        disk.flip()?;
        trial.expect_right()
    })?;
    console::step("the file cut off in the middle", || {
        disk.cut()?;
        trial.expect_error()?;
        disk.mend_file(pack)?;
        trial.expect_right()
    })?;
    console::step("a drive that answers EIO", || {
        disk.break_off()?;
        trial.expect_error()?;
        disk.mend_drive()?;
        trial.expect_right()
    })?;
    server.stop()?;
    console::step("flipped bits, and a second drive with a copy", || {
        disk.writable(true)?;
        disk.flip()?;
        let n_wrong = disk.differences(pack)?;
        let mirror = ["--mirror".as_ref(), pack.as_os_str()];
        let options = options.iter().map(|option| (*option).as_ref()).chain(mirror);
        let server = Server::start(wels, (&disk.pack(), &room.join("state-mirror")), options, None)?;
        let mut trial = Trial { server: &server, right: &right, asked: 0 };
        for _ in 0..3 {
            trial.expect_right()?;
        }
        server.stop()?;
        let n_left = disk.differences(pack)?;
        console::note(format_args!("{n_wrong} flipped bits, {n_left} left: the others were written again"));
        ensure!(n_left < n_wrong, "nothing was repaired");
        Ok(())
    })
}

/// A daemon that is asked while its drive is or is not broken.
struct Trial<'a> {
    server: &'a Server,
    right: &'a [String],
    /// Questions so far.
    asked: usize,
}

impl Trial<'_> {
    fn expect_right(&mut self) -> Result<()> {
        match self.ask()? {
            (None, seconds) => console::note(format_args!("the right answer, in {seconds:.1} s")),
            (Some(error), _) => bail!("an error without a fault: {error}"),
        }
        Ok(())
    }

    fn expect_error(&mut self) -> Result<()> {
        match self.ask()? {
            (Some(error), seconds) => console::note(format_args!("an error, in {seconds:.1} s: {error}")),
            (None, _) => bail!("a right answer though every expert is broken: the fault missed"),
        }
        Ok(())
    }

    /// The error, if there was one instead of the right answer.
    fn ask(&mut self) -> Result<(Option<String>, f64)> {
        let (question, right) = (QUESTIONS[self.asked], &self.right[self.asked]);
        self.asked += 1;
        let answer = self.server.ask(question, ANSWER_TOKENS)?;
        if answer.is_error() {
            ensure!(!answer.text.is_empty(), "status {} without a word of why", answer.status);
            return Ok((Some(answer.text), answer.seconds));
        }
        ensure!(answer.text == *right, "another answer: {} instead of {right}", answer.text);
        Ok((None, answer.seconds))
    }
}

/// A file system in a file, mounted as long as this lives.
struct Disk<'a> {
    workspace: &'a Workspace,
    image: PathBuf,
    mount: PathBuf,
}

impl<'a> Disk<'a> {
    fn make(workspace: &'a Workspace, room: &Path, pack: &Path) -> Result<Self> {
        let (image, mount) = (room.join("image"), room.join("mount"));
        File::create(&image)?.set_len(IMAGE_BYTES).context("cannot make the image")?;
        fs::create_dir(&mount).context("cannot make the mount point")?;
        Tool::new(workspace, "mkfs.ext4").args(["-q", "-F", "-O", "^has_journal"]).arg(&image).output()?;
        let tool = Tool::new(workspace, "mount").args(["-o", "loop,noatime"]).arg(&image).arg(&mount);
        tool.remedy("loop devices need root").output()?;
        let disk = Self { workspace, image, mount };
        Tool::new(workspace, "cp").arg("-r").arg(pack).arg(disk.pack()).output()?;
        Tool::new(workspace, "sync").output()?;
        Ok(disk)
    }

    fn pack(&self) -> PathBuf {
        self.mount.join("model.wels")
    }

    fn experts(&self) -> Result<File> {
        let path = self.pack().join("experts.bin");
        OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .with_context(|| format!("cannot open {}", path.display()))
    }

    /// Flips bits, or flips them back.
    fn flip(&self) -> Result<()> {
        let (file, mut byte) = (self.experts()?, [0]);
        for place in (0..file.metadata()?.len()).step_by(FLIP_EVERY as usize) {
            file.read_exact_at(&mut byte, place)?;
            file.write_all_at(&[byte[0] ^ 4], place)?;
        }
        file.sync_all().context("cannot write the flipped bits")
    }

    /// Places where a flipped bit is.
    fn differences(&self, pack: &Path) -> Result<usize> {
        let (ours, right) = (self.experts()?, File::open(pack.join("experts.bin"))?);
        let (mut a, mut b, mut n) = ([0], [0], 0);
        for place in (0..ours.metadata()?.len()).step_by(FLIP_EVERY as usize) {
            ours.read_exact_at(&mut a, place)?;
            right.read_exact_at(&mut b, place)?;
            n += usize::from(a != b);
        }
        Ok(n)
    }

    /// Leaves a little of the first record.
    fn cut(&self) -> Result<()> {
        self.experts()?.set_len(10_000).context("cannot cut the file off")
    }

    fn mend_file(&self, pack: &Path) -> Result<()> {
        let mut file = self.experts()?;
        let mut right = File::open(pack.join("experts.bin"))?;
        std::io::copy(&mut right, &mut file).context("cannot write the experts again")?;
        file.sync_all().context("cannot write the experts again")
    }

    /// Takes the end of the image away: what lay there cannot be read.
    fn break_off(&self) -> Result<()> {
        self.writable(false)?;
        let copied = fs::copy(&self.image, self.spare()).context("cannot keep a copy of the image")?;
        ensure!(copied > BROKEN_OFF, "the image is too small");
        OpenOptions::new().write(true).open(&self.image)?.set_len(BROKEN_OFF).context("cannot cut the image")
    }

    fn mend_drive(&self) -> Result<()> {
        let (mut image, mut spare) =
            (OpenOptions::new().write(true).open(&self.image)?, File::open(self.spare())?);
        image.seek(SeekFrom::Start(BROKEN_OFF))?;
        spare.seek(SeekFrom::Start(BROKEN_OFF))?;
        std::io::copy(&mut spare, &mut image).context("cannot write the image again")?;
        image.flush()?;
        fs::remove_file(self.spare()).context("cannot remove the copy of the image")
    }

    fn spare(&self) -> PathBuf {
        self.image.with_extension("spare")
    }

    fn writable(&self, writable: bool) -> Result<()> {
        let how = if writable { "remount,rw" } else { "remount,ro" };
        Tool::new(self.workspace, "mount").args(["-o", how]).arg(&self.mount).output().map(drop)
    }
}

impl Drop for Disk<'_> {
    fn drop(&mut self) {
        if let Err(error) = Tool::new(self.workspace, "umount").arg("--lazy").arg(&self.mount).output() {
            console::note(format_args!("{} stays mounted: {error:#}", self.mount.display()));
        }
    }
}

/// A cgroup with a limit on what is read from a drive.
struct Slow {
    folder: PathBuf,
    parent: PathBuf,
    pid: u32,
}

impl Slow {
    fn make(disk: &Disk<'_>, server: &Server) -> Result<Self> {
        let device = fs::metadata(&disk.mount).context("cannot look at the mounted drive")?.dev();
        let device = format!("{}:{}", nix::sys::stat::major(device), nix::sys::stat::minor(device));
        let one = Path::new("/sys/fs/cgroup/blkio");
        let (parent, name, limit) = if one.join("blkio.throttle.read_bps_device").is_file() {
            (one, "blkio.throttle.read_bps_device", format!("{device} {SLOW_BYTES_S}"))
        } else {
            (Path::new("/sys/fs/cgroup"), "io.max", format!("{device} rbps={SLOW_BYTES_S}"))
        };
        let folder = parent.join(format!("wels-slow-{}", std::process::id()));
        fs::create_dir(&folder).context("a drive is slowed down by a cgroup; run as root")?;
        let slow = Self { folder, parent: parent.to_owned(), pid: server.pid() };
        fs::write(slow.folder.join(name), limit).context("the kernel cannot slow a drive down")?;
        slow.enter(&slow.folder)?;
        Ok(slow)
    }

    fn enter(&self, folder: &Path) -> Result<()> {
        fs::write(folder.join("cgroup.procs"), self.pid.to_string()).context("cannot slow the daemon down")
    }
}

impl Drop for Slow {
    fn drop(&mut self) {
        let left = self.enter(&self.parent).and_then(|()| Ok(fs::remove_dir(&self.folder)?));
        if let Err(error) = left {
            console::note(format_args!("the cgroup {} is left behind: {error:#}", self.folder.display()));
        }
    }
}
