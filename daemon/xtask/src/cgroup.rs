//! A memory cgroup for the time of a run: the program in it gets so many bytes, the cached pages of the files it reads
//! included, and no more.
//!
//! Both kinds are known: version 2 (`memory.max`), and version 1 (`memory.limit_in_bytes`), which older systems mount. A
//! limit that cannot be set is an error: nothing ever runs without one by mistake.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;

use crate::{console, size};

/// Times that a folder whose last program has just ended is tried to be removed, and the pause between.
const REMOVE_TRIES_MAX: u32 = 50;
const REMOVE_EVERY: Duration = Duration::from_millis(20);

/// A cgroup of ours, removed when it is dropped.
#[derive(Debug)]
pub(crate) struct Cgroup {
    folder: PathBuf,
    version: Version,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

/// What the kernel counted of the programs in a cgroup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Usage {
    /// The most bytes at once; version 2 counts them since Linux 5.19.
    pub(crate) peak_bytes: Option<u64>,
    /// Times that memory had to be taken back because the limit was reached.
    pub(crate) limit_hits: u64,
    /// Programs killed because there was nothing to take back.
    pub(crate) killed: u64,
}

impl Cgroup {
    /// Makes a cgroup with that limit, without swap, in the folder `parent`, by default at the top of the hierarchy.
    ///
    /// # Errors
    /// There is no memory controller, or this user may not use it.
    pub(crate) fn make(parent: Option<&Path>, limit_bytes: u64) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let parent = match parent {
            Some(parent) => parent.to_owned(),
            None => top(&fs::read_to_string("/proc/self/mountinfo").context("cannot read the mounts")?)?,
        };
        let version = Version::of(&parent)?;
        if version == Version::Two {
            hand_down(&parent)?;
        }
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = parent.join(format!("wels-bench-{}-{n}", std::process::id()));
        fs::create_dir(&folder).with_context(|| {
            format!("cannot make the cgroup {}; run as root, or give a folder of yours", folder.display())
        })?;
        let cgroup = Self { folder, version };
        cgroup.limit(limit_bytes)?;
        Ok(cgroup)
    }

    /// Sets the limit and reads it back.
    fn limit(&self, bytes: u64) -> Result<()> {
        let (limit, swap) = match self.version {
            Version::One => ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes"),
            Version::Two => ("memory.max", "memory.swap.max"),
        };
        self.write(limit, bytes)?;
        // A kernel without swap has no such file.
        if self.folder.join(swap).exists() {
            self.write(swap, if self.version == Version::One { bytes } else { 0 })?;
        }
        let kept = self.read(limit)?;
        let is_kept = kept.trim().parse::<u64>().is_ok_and(|kept| kept > 0 && kept <= bytes);
        ensure!(is_kept, "the kernel made {} of a limit of {}", kept.trim(), size::format(bytes));
        Ok(())
    }

    /// The words before a program and its arguments that put it into the cgroup: a shell goes in and then becomes the
    /// program, or ends with an error.
    pub(crate) fn entrance(&self) -> [PathBuf; 4] {
        let procs = self.folder.join("cgroup.procs");
        ["sh".into(), "-c".into(), "echo $$ > \"$0\" && exec \"$@\"".into(), procs]
    }

    /// What has been counted so far.
    pub(crate) fn usage(&self) -> Result<Usage> {
        match self.version {
            Version::One => Ok(Usage {
                peak_bytes: Some(whole(&self.read("memory.max_usage_in_bytes")?)?),
                // With swap counted in, that limit is the first to be reached.
                limit_hits: whole(&self.read("memory.failcnt")?)? + self.hits_with_swap(),
                killed: counter(&self.read("memory.oom_control")?, "oom_kill"),
            }),
            Version::Two => {
                let events = self.read("memory.events")?;
                let peak = fs::read_to_string(self.folder.join("memory.peak")).ok();
                Ok(Usage {
                    peak_bytes: peak.map(|peak| whole(&peak)).transpose()?,
                    limit_hits: counter(&events, "max"),
                    killed: counter(&events, "oom_kill"),
                })
            }
        }
    }

    /// Of the limit on memory and swap together, which older kernels may not count.
    fn hits_with_swap(&self) -> u64 {
        self.read("memory.memsw.failcnt").ok().and_then(|text| whole(&text).ok()).unwrap_or(0)
    }

    fn read(&self, name: &str) -> Result<String> {
        let path = self.folder.join(name);
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    }

    fn write(&self, name: &str, value: u64) -> Result<()> {
        let path = self.folder.join(name);
        fs::write(&path, value.to_string())
            .with_context(|| format!("cannot write {value} to {}", path.display()))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        for _ in 0..REMOVE_TRIES_MAX {
            if fs::remove_dir(&self.folder).is_ok() {
                return;
            }
            thread::sleep(REMOVE_EVERY);
        }
        console::note(format_args!("the cgroup {} is left behind: rmdir it", self.folder.display()));
    }
}

impl Version {
    fn of(folder: &Path) -> Result<Self> {
        if folder.join("memory.limit_in_bytes").is_file() {
            Ok(Self::One)
        } else if folder.join("cgroup.subtree_control").is_file() {
            Ok(Self::Two)
        } else {
            bail!("{} is no memory cgroup", folder.display())
        }
    }
}

/// Where the hierarchy with the memory controller is mounted, of the text of `/proc/self/mountinfo`.
fn top(mounts: &str) -> Result<PathBuf> {
    let parse = |line: &str| {
        let (mount, system) = line.split_once(" - ")?;
        let folder = mount.split(' ').nth(4)?;
        let mut system = system.split(' ');
        let (kind, options) = (system.next()?, system.nth(1)?);
        Some((kind.to_owned(), folder.to_owned(), options.split(',').any(|option| option == "memory")))
    };
    let all: Vec<_> = mounts.lines().filter_map(parse).collect();
    // Where version 1 has the controller, version 2 has not.
    let one = all.iter().find(|(kind, _, has_memory)| kind == "cgroup" && *has_memory);
    let found = one.or_else(|| all.iter().find(|(kind, ..)| kind == "cgroup2"));
    let (_, folder, _) = found.context("no cgroups are mounted here, so memory cannot be limited")?;
    Ok(folder.into())
}

/// Lets the cgroups below `parent` have limits.
fn hand_down(parent: &Path) -> Result<()> {
    let has = |name: &str| {
        let text = fs::read_to_string(parent.join(name)).unwrap_or_default();
        text.split_whitespace().any(|controller| controller == "memory")
    };
    ensure!(has("cgroup.controllers"), "{} has no memory controller to limit with", parent.display());
    if has("cgroup.subtree_control") {
        return Ok(());
    }
    let path = parent.join("cgroup.subtree_control");
    fs::write(&path, "+memory").with_context(|| {
        format!("cannot write +memory to {}; run as root, outside of a container", path.display())
    })
}

fn whole(text: &str) -> Result<u64> {
    text.trim().parse().with_context(|| format!("{} is no number", text.trim()))
}

/// The number behind `key` in a file of such lines; 0 where it isn't.
fn counter(text: &str, key: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
    line.and_then(|number| number.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
33 31 0:30 / /sys/fs/cgroup/cpuacct rw,relatime - cgroup cgroup rw,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";

    #[test]
    fn the_hierarchy_with_the_controller_is_found() {
        assert_eq!(top(HYBRID).unwrap(), Path::new("/sys/fs/cgroup/memory"));
        let unified = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate";
        assert_eq!(top(unified).unwrap(), Path::new("/sys/fs/cgroup"));
        assert!(top("22 27 0:21 / /proc rw - proc proc rw").is_err());
    }

    #[test]
    fn a_folder_that_limits_nothing_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let error = Cgroup::make(Some(folder.path()), 1 << 30).unwrap_err();
        assert!(error.to_string().ends_with("is no memory cgroup"), "{error}");
        fs::write(folder.path().join("cgroup.subtree_control"), "").unwrap();
        fs::write(folder.path().join("cgroup.controllers"), "cpu pids").unwrap();
        let error = Cgroup::make(Some(folder.path()), 1 << 30).unwrap_err();
        assert!(error.to_string().contains("no memory controller"), "{error}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "nothing is left behind");
    }

    #[test]
    fn counters_are_read_by_their_whole_name() {
        let events = "low 0\nhigh 0\nmax 17\noom 2\noom_kill 1\n";
        assert_eq!(
            (counter(events, "max"), counter(events, "oom_kill"), counter(events, "kill")),
            (17, 1, 0)
        );
    }

    #[test]
    fn both_versions_count_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let files = [
            ("memory.max_usage_in_bytes", "4096\n"),
            ("memory.failcnt", "1\n"),
            ("memory.memsw.failcnt", "16\n"),
            ("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"),
            ("memory.peak", "4096\n"),
            ("memory.events", "low 0\nhigh 0\nmax 17\noom 3\noom_kill 2\noom_group_kill 0\n"),
        ];
        files.iter().for_each(|(name, text)| fs::write(folder.path().join(name), text).unwrap());
        for version in [Version::One, Version::Two] {
            // Not dropped: the folder is no cgroup of ours.
            let cgroup = std::mem::ManuallyDrop::new(Cgroup { folder: folder.path().into(), version });
            let usage = Usage { peak_bytes: Some(4096), limit_hits: 17, killed: 2 };
            assert_eq!(cgroup.usage().unwrap(), usage, "{version:?}");
        }
    }

    /// Where this machine allows it, a program is inside; elsewhere the error says what is missing.
    #[test]
    fn a_program_runs_inside_or_not_at_all() {
        let cgroup = match Cgroup::make(None, 64 << 20) {
            Ok(cgroup) => cgroup,
            Err(error) => {
                assert!(format!("{error:#}").contains("cgroup"), "{error:#}");
                return;
            }
        };
        let [shell, words @ ..] = cgroup.entrance();
        let output =
            std::process::Command::new(shell).args(words).args(["cat", "/proc/self/cgroup"]).output();
        let text = String::from_utf8(output.unwrap().stdout).unwrap();
        let (usage, folder) = (cgroup.usage().unwrap(), cgroup.folder.clone());
        assert!(text.contains(folder.file_name().unwrap().to_str().unwrap()), "{text}");
        assert!(usage.peak_bytes.is_none_or(|peak| peak > 0) && usage.killed == 0, "{usage:?}");
        drop(cgroup);
        assert!(!folder.exists());
    }
}
