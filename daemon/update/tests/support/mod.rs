//! Keys, packs and bundles that tests make.
#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    clippy::unwrap_used,
    reason = "test code; no test uses all of it"
)]

pub mod cord;
pub mod drive;
pub mod fuse;

use std::fs;
use std::path::{Path, PathBuf};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use tempfile::TempDir;
use update::manifest::Requires;
use update::{
    Bundle, Carrier, CreateOptions, Error, Installer, KeyLists, Kind, Manifest, Monitor, NamedKey, Options,
    Role, SecretKey, Sha256, Staged, Target, Trial, Trust, create, sign,
};

/// Small, so that small packs have many.
pub const CHUNK_BYTES: u32 = 64 << 10;

pub fn random(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

/// Bytes that nothing compresses.
pub fn noise(seed: u64, n: usize) -> Vec<u8> {
    let mut bytes = vec![0; n];
    random(seed).fill_bytes(&mut bytes);
    bytes
}

/// Files of a pack: `n` chunks of noise, some text, an empty file, one in a folder.
pub fn pack(seed: u64, n: usize) -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("dense.bin", noise(seed, n * CHUNK_BYTES as usize + 1234)),
        ("empty", Vec::new()),
        ("inner/pack.json", format!("{{\"seed\": {seed}}}").repeat(9000).into_bytes()),
        ("LICENSE", b"free".to_vec()),
    ]
}

/// A workshop: a folder, a root, a release key that it signed for.
pub struct Shop {
    pub dir: TempDir,
    pub root: SecretKey,
    pub release: SecretKey,
    pub lists: KeyLists,
}

impl Shop {
    pub fn new() -> Self {
        Self::at(tempfile::tempdir().unwrap())
    }

    pub fn at(dir: TempDir) -> Self {
        let root = SecretKey::from_secret(Role::Root, "Wels root", [1; 32]).unwrap();
        let release = SecretKey::from_secret(Role::Release, "Wels release", [2; 32]).unwrap();
        let mut lists = KeyLists::default();
        lists.push(&root, None, vec![named(&release)]).unwrap();
        Self { dir, root, release, lists }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn models(&self) -> PathBuf {
        self.path("models")
    }

    pub fn trust(&self) -> Trust {
        Trust::open(&self.path("state"), Some(self.root.public_key())).unwrap()
    }

    /// Writes a folder with these files.
    pub fn folder(&self, name: &str, files: &[(&str, Vec<u8>)]) -> PathBuf {
        let folder = self.path(name);
        for (path, bytes) in files {
            let path = folder.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        folder
    }

    pub fn options(&self, version: u64) -> CreateOptions {
        CreateOptions {
            kind: Kind::Model,
            name: "tiny".into(),
            title: "A tiny model".into(),
            version,
            created: "2026-11-26".into(),
            requires: Requires::default(),
            previous: None,
            chunk_bytes: CHUNK_BYTES,
        }
    }

    /// A signed image of a folder.
    pub fn image(&self, folder: &Path, options: &CreateOptions) -> PathBuf {
        let mut n = 0;
        let path = loop {
            let path = self.path(&format!("bundle-{n}.img"));
            if !path.exists() {
                break path;
            }
            n += 1;
        };
        create(folder, &Target::Image(path.clone()), options, &mut |_, _| {}).unwrap();
        sign(&path, &self.release, Some(&self.lists)).unwrap();
        path
    }

    /// A signed image of `pack(version, n)` as that version.
    pub fn version(&self, version: u64, n: usize) -> PathBuf {
        let folder = self.folder(&format!("pack-{version}"), &pack(version, n));
        self.image(&folder, &self.options(version))
    }

    /// A signed stream of this manifest, whatever it says, and these blobs; their bits are set as they come.
    pub fn forged(&self, manifest: &Manifest, blobs: &[(Sha256, Vec<u8>)]) -> PathBuf {
        let json = manifest.to_json();
        let mut carried = vec![0_u8; manifest.chunks().count().div_ceil(8)];
        (0..blobs.len()).for_each(|i| carried[i / 8] |= 1 << (i % 8));
        let mut stream = Vec::new();
        member(&mut stream, "manifest.json", &json);
        member(&mut stream, "carried", &carried);
        member(&mut stream, "manifest.sig", &[b' '; 512]);
        member(&mut stream, "keys.json", &[b' '; 64 << 10]);
        for (name, bytes) in blobs.iter().filter(|(_, bytes)| !bytes.is_empty()) {
            member(&mut stream, &format!("blobs/{name}"), bytes);
        }
        stream.extend([0; 1024]);
        let path = self.path("forged");
        fs::write(&path, stream).unwrap();
        // To sign it the carrier is only opened; what it carries is not looked at.
        match sign(&path, &self.release, Some(&self.lists)) {
            Ok(_) | Err(Error::Truncated { .. } | Error::Manifest { .. }) => path,
            Err(error) => panic!("{error}"),
        }
    }

    pub fn open(&self, path: &Path) -> Result<Bundle, Error> {
        Carrier::open(path)?.check(&self.trust()).map(|(bundle, _)| bundle)
    }

    pub fn installer(&self) -> Installer {
        Installer::open(&self.models()).unwrap()
    }

    pub fn stage(&self, path: &Path) -> Result<Staged, Error> {
        let bundle = self.open(path)?;
        self.installer().stage(&bundle, &options(), &monitor(&bundle))
    }

    /// Stages and commits.
    pub fn install(&self, path: &Path) -> PathBuf {
        let bundle = self.open(path).unwrap();
        let (mut installer, monitor) = (self.installer(), monitor(&bundle));
        let trial = ready(installer.stage(&bundle, &options(), &monitor).unwrap());
        installer.commit(&trial, &monitor).unwrap();
        trial.path
    }
}

/// A tar member, written without the crate's help.
fn member(stream: &mut Vec<u8>, name: &str, bytes: &[u8]) {
    let mut header = [0; 512];
    let fields = [
        (0, name.to_owned()),
        (100, "0000444".into()),
        (108, "0000000".into()),
        (116, "0000000".into()),
        (124, format!("{:011o}", bytes.len())),
        (136, "00000000000".into()),
        (148, " ".repeat(8)),
        (156, "0".into()),
        (257, "ustar\x0000".into()),
    ];
    for (at, text) in fields {
        header[at..at + text.len()].copy_from_slice(text.as_bytes());
    }
    let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    stream.extend(header);
    stream.extend(bytes);
    stream.resize(stream.len().next_multiple_of(512), 0);
}

pub fn named(key: &SecretKey) -> NamedKey {
    NamedKey { name: key.name.clone(), key: key.public_key() }
}

pub fn options() -> Options {
    Options { checkpoint_bytes: 3 * u64::from(CHUNK_BYTES), ..Options::default() }
}

pub fn monitor(bundle: &Bundle) -> Monitor {
    Monitor::new(&bundle.manifest, |_| {})
}

pub fn ready(staged: Staged) -> Trial {
    match staged {
        Staged::Ready(trial) => trial,
        Staged::Nothing => panic!("it serves already"),
    }
}

/// Whether a folder holds these files and what the installer adds.
pub fn holds(folder: &Path, files: &[(&str, Vec<u8>)]) -> bool {
    files.iter().all(|(path, bytes)| fs::read(folder.join(path)).is_ok_and(|found| found == *bytes))
}
