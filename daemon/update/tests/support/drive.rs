//! A box's drive as tests make it: a table, two slots, a boot partition's folder, versions of the system; and what firmware,
//! boot loader and initrd make of them, written without the crate's help.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use update::system::{Place, RootHash, StagedSystem};
use update::{CreateOptions, Kind};

use super::{Shop, monitor, noise, options, ready};

pub const SECTOR: usize = 512;
/// Label, first sector, sectors.
const PARTS: [(&str, usize, usize); 7] = [
    ("wels-esp", 64, 64),
    ("wels-root-a", 128, 800),
    ("wels-root-a-verity", 928, 40),
    ("wels-root-b", 968, 800),
    ("wels-root-b-verity", 1768, 40),
    ("wels-state", 1808, 16),
    ("wels-models", 1824, 64),
];
pub const SECTORS: usize = 1984;

/// A version of the system, as a folder that bundles are made of.
#[derive(Clone, Debug)]
pub struct System {
    pub version: &'static str,
    pub root_hash: String,
    pub files: Vec<(&'static str, Vec<u8>)>,
}

impl System {
    /// `n` tells its bytes apart.
    pub fn new(version: &'static str, n: u64) -> Self {
        let root_hash: String = noise(n, 32).iter().map(|byte| format!("{byte:02x}")).collect();
        let facts = format!("{{\"version\":\"{version}\",\"roothash\":\"{root_hash}\"}}");
        let files = vec![
            ("root.img", noise(n + 1000, 300_032)),
            ("root-verity.img", noise(n + 2000, 9_728)),
            ("boot.efi", boot_file(version, &root_hash, n)),
            ("system.json", facts.into_bytes()),
        ];
        Self { version, root_hash, files }
    }

    pub fn hash(&self) -> RootHash {
        RootHash::from_hex(&self.root_hash).unwrap()
    }

    pub fn file(&self, name: &str) -> &[u8] {
        &self.files.iter().find(|(file, _)| *file == name).unwrap().1
    }

    /// The ids of its two partitions, as they lie on the disk.
    fn guids(&self) -> [[u8; 16]; 2] {
        [0, 32].map(|at| {
            let text = &self.root_hash[at..at + 32];
            let bytes: Vec<u8> =
                (0..16).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap()).collect();
            [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15].map(|i| bytes[i])
        })
    }
}

/// A boot file with the sections that count, and a kernel that is noise.
pub fn boot_file(version: &str, root_hash: &str, n: u64) -> Vec<u8> {
    let cmdline = format!("console=tty0 roothash={root_hash} panic=10\0");
    let release = format!("ID=debian\nIMAGE_ID=wels\nIMAGE_VERSION={version}\n");
    let sections: [(&[u8; 8], Vec<u8>); 3] = [
        (b".osrel\0\0", release.into_bytes()),
        (b".cmdline", cmdline.into_bytes()),
        (b".linux\0\0", noise(n + 3000, 20_000)),
    ];
    efi(&sections)
}

/// An EFI program with these sections.
pub fn efi(sections: &[(&[u8; 8], Vec<u8>)]) -> Vec<u8> {
    let mut bytes = vec![0; 0x80];
    bytes[..2].copy_from_slice(b"MZ");
    bytes[0x3c] = 0x80;
    bytes.extend(b"PE\0\0\x64\x86");
    bytes.extend(u16::try_from(sections.len()).unwrap().to_le_bytes());
    bytes.extend([0; 12]);
    bytes.extend(240_u16.to_le_bytes());
    bytes.resize(bytes.len() + 2 + 240, 0);
    let mut at = (bytes.len() + 40 * sections.len()).next_multiple_of(SECTOR);
    for (name, text) in sections {
        let size = text.len().next_multiple_of(SECTOR);
        bytes.extend(*name);
        for number in [text.len(), 0x1000, size, at, 0, 0, 0, 0x4000_0040] {
            bytes.extend(u32::try_from(number).unwrap().to_le_bytes());
        }
        at += size;
    }
    for (_, text) in sections {
        bytes.resize(bytes.len().next_multiple_of(SECTOR), 0);
        bytes.extend(text);
    }
    bytes.resize(bytes.len().next_multiple_of(SECTOR), 0);
    bytes
}

/// A drive with `running` in slot a, and something else or nothing in slot b.
pub fn drive(running: &System, other: Option<&System>) -> Vec<u8> {
    let mut entries = vec![0; 128 * 128];
    let mut disk = vec![0; SECTORS * SECTOR];
    for (i, (label, first, sectors)) in PARTS.into_iter().enumerate() {
        let system = if label.contains("-b") { other } else { Some(running) };
        let guid = match (system, label.contains("-root-"), label.contains("verity")) {
            (Some(system), true, false) => system.guids()[0],
            (Some(system), true, true) => system.guids()[1],
            _ => noise(i as u64 + 77, 16).try_into().unwrap(),
        };
        let entry = &mut entries[i * 128..][..128];
        entry[..16].fill(0x11 + i as u8);
        entry[16..32].copy_from_slice(&guid);
        entry[32..40].copy_from_slice(&(first as u64).to_le_bytes());
        entry[40..48].copy_from_slice(&((first + sectors - 1) as u64).to_le_bytes());
        for (j, c) in label.encode_utf16().enumerate() {
            entry[56 + 2 * j..58 + 2 * j].copy_from_slice(&c.to_le_bytes());
        }
        let bytes = match (system, label.contains("-root-"), label.contains("verity")) {
            (Some(system), true, false) => system.file("root.img"),
            (Some(system), true, true) => system.file("root-verity.img"),
            _ => &[],
        };
        disk[first * SECTOR..][..bytes.len()].copy_from_slice(bytes);
    }
    let last = SECTORS - 1;
    for (own, other, at) in [(1, last, 2), (last, 1, last - 32)] {
        let header = header(own, other, at, &entries);
        disk[own * SECTOR..][..SECTOR].copy_from_slice(&header);
        disk[at * SECTOR..][..entries.len()].copy_from_slice(&entries);
    }
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    disk[446 + 4] = 0xee;
    disk[446 + 8] = 1;
    disk[446 + 12..][..4].copy_from_slice(&(last as u32).to_le_bytes());
    disk
}

fn header(own: usize, other: usize, at: usize, entries: &[u8]) -> Vec<u8> {
    let mut header = b"EFI PART\0\0\x01\0\x5c\0\0\0\0\0\0\0\0\0\0\0".to_vec();
    for number in [own, other, 34, SECTORS - 34] {
        header.extend((number as u64).to_le_bytes());
    }
    header.extend([7; 16]);
    header.extend((at as u64).to_le_bytes());
    header.extend(128_u32.to_le_bytes());
    header.extend(128_u32.to_le_bytes());
    header.extend(crc32fast::hash(entries).to_le_bytes());
    let crc = crc32fast::hash(&header);
    header[16..20].copy_from_slice(&crc.to_le_bytes());
    header.resize(SECTOR, 0);
    header
}

/// The entries of the first copy of the table if its sums are right, else of the second: as the kernel does.
pub fn table(disk: &[u8]) -> Option<&[u8]> {
    [1, SECTORS - 1].into_iter().find_map(|at| {
        let header = &disk[at * SECTOR..][..92];
        let number = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().unwrap());
        let mut summed = header.to_vec();
        summed[16..20].fill(0);
        let entries = disk.get(number(72) as usize * SECTOR..)?.get(..128 * 128)?;
        let is_whole = header.starts_with(b"EFI PART")
            && crc32fast::hash(&summed) == number(16)
            && crc32fast::hash(entries) == number(88);
        is_whole.then_some(entries)
    })
}

/// Where the partition of an id lies.
fn by_id(entries: &[u8], guid: [u8; 16]) -> Option<Range<usize>> {
    let mut found = entries.chunks(128).filter(|entry| entry[16..32] == guid);
    let entry = found.next()?;
    assert!(found.next().is_none(), "an id is there twice");
    let sector = |at: usize| u64::from_le_bytes(entry[at..at + 8].try_into().unwrap()) as usize;
    Some(sector(32) * SECTOR..(sector(40) + 1) * SECTOR)
}

/// The name of the boot file that the loader takes: of those with boots left the newest, else the newest.
pub fn takes(esp: &BTreeMap<String, Vec<u8>>) -> Option<&str> {
    let key = |name: &&str| {
        let stem = name.strip_prefix("wels_").unwrap().strip_suffix(".efi").unwrap();
        let (version, counter) = stem.split_once('+').unwrap_or((stem, "9"));
        let left: u32 = counter.split('-').next().unwrap().parse().unwrap();
        let version: Vec<u32> = version.split('.').map(|number| number.parse().unwrap()).collect();
        (left > 0, version, left)
    };
    esp.keys().map(String::as_str).filter(|name| name.ends_with(".efi")).max_by_key(key)
}

/// Which of `systems` starts, whole to the last byte.
///
/// # Panics
/// None does: a box that doesn't start.
pub fn boot<'a>(disk: &[u8], esp: &BTreeMap<String, Vec<u8>>, systems: &'a [System]) -> &'a System {
    let name = takes(esp).unwrap_or_else(|| panic!("no boot file: {:?}", esp.keys()));
    let system = systems.iter().find(|system| *system.file("boot.efi") == esp[name]);
    let system = system.unwrap_or_else(|| panic!("{name} is torn"));
    let entries = table(disk).expect("no copy of the table is whole");
    for (guid, file) in system.guids().into_iter().zip(["root.img", "root-verity.img"]) {
        let part = by_id(entries, guid).unwrap_or_else(|| panic!("{name}: its {file} is not in the table"));
        let bytes = system.file(file);
        assert!(disk[part][..bytes.len()] == *bytes, "{name}: its {file} is torn");
    }
    system
}

/// The files of a boot partition's folder.
pub fn read_esp(esp: &Path) -> BTreeMap<String, Vec<u8>> {
    let list = fs::read_dir(esp.join("EFI/Linux")).unwrap().map(|entry| entry.unwrap());
    list.map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())).collect()
}

pub fn write_esp(esp: &Path, files: &BTreeMap<String, Vec<u8>>) {
    let folder = esp.join("EFI/Linux");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    files.iter().for_each(|(name, bytes)| fs::write(folder.join(name), bytes).unwrap());
}

/// A box: its drive as a file, its boot partition as a folder.
pub struct Rig {
    pub shop: Shop,
    pub disk: PathBuf,
    pub esp: PathBuf,
    pub running: System,
}

impl Rig {
    /// Runs `running`, and has `other` in its other slot.
    pub fn new(running: System, other: Option<&System>) -> Self {
        let shop = Shop::new();
        let (disk, esp) = (shop.path("disk.img"), shop.path("esp"));
        fs::write(&disk, drive(&running, other)).unwrap();
        let name = |system: &System| format!("wels_{}.efi", system.version);
        let files = [Some(&running), other].into_iter().flatten();
        write_esp(&esp, &files.map(|system| (name(system), system.file("boot.efi").to_vec())).collect());
        Self { shop, disk, esp, running }
    }

    pub fn place(&self) -> Place<'_> {
        Place { disk: &self.disk, esp: &self.esp, running: self.running.hash() }
    }

    /// The folder of a version, staged by a real bundle.
    pub fn stage(&self, system: &System, version: u64) -> PathBuf {
        let bundle = self.shop.open(&self.bundle(system, version)).unwrap();
        let mut installer = self.shop.installer();
        ready(installer.stage(&bundle, &options(), &monitor(&bundle)).unwrap()).path
    }

    /// A signed image of a version.
    pub fn bundle(&self, system: &System, version: u64) -> PathBuf {
        let folder = self.shop.folder(&format!("system-{version}"), &system.files);
        let options = CreateOptions { kind: Kind::System, name: "wels".into(), ..self.shop.options(version) };
        self.shop.image(&folder, &options)
    }

    pub fn open(&self, folder: &Path) -> Result<StagedSystem, update::Error> {
        StagedSystem::open(folder, &self.shop.trust()).map(|(staged, _)| staged)
    }

    pub fn boot<'a>(&self, systems: &'a [System]) -> &'a System {
        boot(&fs::read(&self.disk).unwrap(), &read_esp(&self.esp), systems)
    }

    pub fn names(&self) -> Vec<String> {
        read_esp(&self.esp).into_keys().collect()
    }
}
