//! The fuzzer's seeds are what the crate writes today: made by this test, and compared where they are there.
#![allow(clippy::unwrap_used, reason = "test code")]

mod support;

use std::fs;
use std::path::Path;

use support::Shop;
use support::drive::{SECTOR, System, drive, efi};

/// Set to write them anew.
const WRITE: &str = "WELS_WRITE_SEEDS";

#[test]
fn the_fuzzers_seeds_are_what_is_written_today() {
    let shop = Shop::new();
    let folder = shop.folder("pack", &[("a/b", b"so it goes; ".repeat(40)), ("c", vec![7, 1, 200])]);
    let image = fs::read(shop.image(&folder, &update::CreateOptions { chunk_bytes: 256, ..shop.options(1) }))
        .unwrap();
    let bundle = shop.open(&shop.path("bundle-0.img")).unwrap();
    let stream = &image[1 << 20..][..bundle.stream_bytes() as usize];
    // Of the table only what is read; the fuzz target puts checksums right, so the partition may begin where it can.
    let mut table = image[..80 * 512].to_vec();
    table[1024 + 32..][..16].copy_from_slice(&[&40_u64.to_le_bytes()[..], &50_u64.to_le_bytes()].concat());
    let seeds = [
        ("manifest", b'm', bundle.manifest_bytes().trim_ascii_end().to_vec()),
        ("keys", b'k', shop.lists.to_json()),
        ("stream", b's', stream.to_vec()),
        ("table", b't', table),
    ];
    keep("bundle", &seeds);
}

#[test]
fn so_are_those_of_the_system() {
    let system = System::new("0.1.0", 1);
    let sections = [
        (b".osrel\0\0", b"IMAGE_VERSION=0.1.0\n".to_vec()),
        (b".cmdline", format!("roothash={}", system.root_hash).into_bytes()),
    ];
    let disk = drive(&system, None);
    let table = [&disk[..34 * SECTOR], &disk[disk.len() - 34 * SECTOR..]].concat();
    keep("system", &[("boot_file", b'b', efi(&sections)), ("drive", b'd', table)]);
}

/// Compares the seeds of a target, or writes them.
fn keep(target: &str, seeds: &[(&str, u8, Vec<u8>)]) {
    let seeds_folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds").join(target);
    for (name, kind, bytes) in seeds {
        let seed = [&[*kind], &bytes[..]].concat();
        let path = seeds_folder.join(name);
        if std::env::var_os(WRITE).is_some() {
            fs::create_dir_all(&seeds_folder).unwrap();
            fs::write(&path, &seed).unwrap();
        }
        assert!(fs::read(&path).unwrap() == seed, "{name} differs; write the seeds anew with {WRITE}=1");
    }
}
