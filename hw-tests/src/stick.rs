//! Sticks as people make them, with `wels bundle`, and as people break them.
//!
//! ```text
//! pack ── wels bundle create ──> image, flashed as it is     ── damage ──> a stick that lies or rots
//!                          └───> wels-bundle/ ── mcopy ──> FAT32
//! ```

mod forge;

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

pub(crate) use self::forge::{Lie, lie};
use crate::esp::Tools;

/// Where a bundle's partition begins.
const PARTITION: u64 = 1 << 20;
/// What the first copy of a partition table takes, with the sector before it.
const TABLE_BYTES: usize = 34 * 512;
/// Room on a FAT32 stick beside its bundle; and what such a stick has at least.
const FAT_ROOM: u64 = 64 << 20;

/// Who makes sticks: the host's own `wels`, keys that the box will believe, and one that it won't.
pub(crate) struct Maker {
    wels: PathBuf,
    tools: Tools,
    folder: PathBuf,
}

/// A bundle to be made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spec<'a> {
    /// What is packed.
    pub(crate) source: &'a Path,
    pub(crate) kind: &'static str,
    pub(crate) name: &'static str,
    pub(crate) counter: u64,
    /// Whose key signs it.
    pub(crate) key: &'static str,
}

/// The key that the box's maker names: theirs sign systems.
pub(crate) const MAKER: &str = "maker";
/// The key that the box is told to believe.
pub(crate) const RELEASE: &str = "release";
/// The key that it is not.
pub(crate) const STRANGER: &str = "stranger";

impl Maker {
    /// Begins anew, or with the keys and sticks of an earlier run, whose box is remembered.
    pub(crate) fn new(wels: &Path, root: &Path, tools: &Tools, folder: &Path, is_anew: bool) -> Result<Self> {
        let wels = wels.canonicalize().with_context(|| format!("no wels at {}", wels.display()))?;
        if is_anew && folder.exists() {
            fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))?;
        }
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let maker = Self { wels, tools: tools.clone(), folder: folder.to_owned() };
        for key in [MAKER, RELEASE, STRANGER] {
            let out = maker.key(key);
            if out.is_file() {
                continue;
            }
            maker.wels(&["bundle", "keygen", "--role", "release", "--name", key, "--out", &text(&out)])?;
        }
        if !maker.lists().is_file() {
            let named = text(&maker.folder.join(format!("{MAKER}.key.pub")));
            maker.wels(&[
                "bundle",
                "keys",
                &text(&maker.lists()),
                "--root",
                &text(root),
                "--release",
                &named,
            ])?;
        }
        Ok(maker)
    }

    /// Whom the box's maker names.
    fn lists(&self) -> PathBuf {
        self.folder.join("keys.json")
    }

    fn key(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.key"))
    }

    /// The text of the key's public half: what an administrator pastes.
    pub(crate) fn public_key(&self, name: &str) -> Result<String> {
        let path = self.folder.join(format!("{name}.key.pub"));
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    }

    /// A file for a stick of that name.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// An image to be flashed; made once, unless what is packed has changed since.
    pub(crate) fn image(&self, spec: &Spec<'_>) -> Result<PathBuf> {
        let image = self.path(&format!("{}-{}-{}.img", spec.name, spec.counter, spec.key));
        let changed = |path: &Path| path.metadata().and_then(|found| found.modified()).ok();
        if changed(&image) < changed(spec.source) {
            // `wels` writes over nothing.
            let _ = fs::remove_file(&image);
            self.create(spec, "--image", &image)?;
        }
        Ok(image)
    }

    /// A stick with FAT32, as it is bought, on which the bundle lies as a folder.
    pub(crate) fn fat(&self, spec: &Spec<'_>) -> Result<PathBuf> {
        let folder = self.path("fat");
        fs::create_dir_all(&folder)?;
        self.create(spec, "--folder", &folder)?;
        let image = self.path(&format!("{}-{}.fat", spec.name, spec.counter));
        let made = self.fat_of(&folder.join("wels-bundle"), &image);
        fs::remove_dir_all(&folder)?;
        made.map(|()| image)
    }

    /// A stick with exFAT and nothing on it.
    pub(crate) fn exfat(&self, name: &str) -> Result<PathBuf> {
        let image = self.path(name);
        File::create(&image)?.set_len(FAT_ROOM)?;
        self.tools.output("usr/sbin/mkfs.exfat", &["-L", "KEEPER", &text(&image)])?;
        Ok(image)
    }

    /// A stick with FAT32 and one empty file on it.
    pub(crate) fn fat_with(&self, file: &str) -> Result<PathBuf> {
        let (image, empty) = (self.path(&format!("{file}.fat")), self.path(file));
        File::create(&empty)?;
        self.fat_of(&empty, &image).map(|()| image)
    }

    /// Formats an image and puts a file or folder on it.
    fn fat_of(&self, what: &Path, image: &Path) -> Result<()> {
        let mut bytes = FAT_ROOM;
        if what.is_dir() {
            for entry in fs::read_dir(what).with_context(|| format!("cannot list {}", what.display()))? {
                bytes += entry?.metadata()?.len();
            }
        }
        File::create(image)?.set_len(bytes.next_multiple_of(1 << 20))?;
        self.tools.output("usr/bin/mformat", &["-i", &text(image), "-F", "-v", "STICK", "::"])?;
        self.tools.output("usr/bin/mcopy", &["-s", "-i", &text(image), &text(what), "::"]).map(drop)
    }

    /// Signs whatever lies in a folder. `wels` complains of what it signed where that is a lie, after it has.
    fn sign_anything(&self, folder: &Path) -> Result<()> {
        let arguments = ["bundle", "sign", &text(folder), "--key", &text(&self.key(RELEASE))];
        self.command(&arguments).output().context("cannot start wels")?;
        Ok(())
    }

    fn create(&self, spec: &Spec<'_>, option: &str, to: &Path) -> Result<()> {
        let (counter, key) = (spec.counter.to_string(), text(&self.key(spec.key)));
        let what = ["bundle", "create", &text(spec.source), "--kind", spec.kind, "--name", spec.name];
        let how = ["--counter", &counter, "--key", &key, option, &text(to)];
        let lists = text(&self.lists());
        let by_maker: &[&str] = if spec.key == MAKER { &["--keys", &lists] } else { &[] };
        self.wels(&[&what[..], &how[..], by_maker].concat())
    }

    fn wels(&self, arguments: &[&str]) -> Result<()> {
        let output = self.command(arguments).output().context("cannot start wels")?;
        if !output.status.success() {
            bail!("wels {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.wels);
        command.args(arguments).stdin(Stdio::null());
        command
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// A copy of a stick's image, to be damaged.
pub(crate) fn copy(image: &Path, to: &Path) -> Result<()> {
    fs::copy(image, to).with_context(|| format!("cannot copy {}", image.display()))?;
    Ok(())
}

/// Turns a bit of a byte of the bundle, `share` of the way through it.
pub(crate) fn flip(image: &Path, share: f64) -> Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(image)?;
    let bytes = file.metadata()?.len() - 2 * PARTITION;
    let at = PARTITION + (bytes as f64 * share) as u64;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at)?;
    file.write_all_at(&[byte[0] ^ 4], at)?;
    Ok(())
}

/// Changes what a signed manifest says, and leaves the signature as it is.
pub(crate) fn retitle(image: &Path) -> Result<()> {
    const WORD: &[u8] = b"\"version\":";
    let file = OpenOptions::new().read(true).write(true).open(image)?;
    let mut bytes = vec![0; 64 << 10];
    file.read_exact_at(&mut bytes, PARTITION)?;
    let at = bytes.windows(WORD.len()).position(|word| word == WORD).context("no version in the manifest")?;
    let digit = bytes[at + WORD.len()];
    ensure!(digit.is_ascii_digit(), "the version is no number");
    let other = if digit == b'9' { b'8' } else { digit + 1 };
    file.write_all_at(&[other], PARTITION + (at + WORD.len()) as u64)?;
    Ok(())
}

/// Tears the first copy of its partition table.
pub(crate) fn tear_table(image: &Path) -> Result<()> {
    let file = OpenOptions::new().write(true).open(image)?;
    file.write_all_at(&vec![0; TABLE_BYTES - 512], 512)?;
    Ok(())
}
