//! Bundles as files: made, signed, read, refused.
#![allow(clippy::unwrap_used, reason = "test code")]

mod support;

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, symlink};
use std::path::Path;
use std::process::Command;

use support::{CHUNK_BYTES, Shop, named, noise, pack};
use update::manifest::{self, FORMAT};
use update::{
    Because, Carrier, Error, FOLDER, KeyLists, Kind, Manifest, Role, SecretKey, Target, Trust, WriteOptions,
    create, sign, verify, write,
};

#[test]
fn an_image_and_a_folder_hold_the_same() {
    let shop = Shop::new();
    let folder = shop.folder("pack", &pack(1, 9));
    let targets = [Target::Image(shop.path("a.img")), Target::Folder(shop.path("stick"))];
    let mut ids = Vec::new();
    for target in targets {
        create(&folder, &target, &shop.options(1), &mut |_, _| {}).unwrap();
        // The folder on the stick, or the stick with the folder on it.
        let path = if let Target::Folder(stick) = target { stick } else { target.path() };
        assert!(matches!(shop.open(&path), Err(Error::Unsigned { .. })));
        sign(&path, &shop.release, Some(&shop.lists)).unwrap();
        let bundle = shop.open(&path).unwrap();
        let signer = bundle.signer.clone().unwrap();
        assert_eq!((signer.name.as_str(), signer.because), ("Wels release", Because::Release));
        let verified = verify(&bundle, &mut |_, _| {}).unwrap();
        assert_eq!((verified.left_out, verified.patches), (0, 0));
        ids.push(bundle.id);
    }
    assert_eq!(ids[0], ids[1]);
    assert!(shop.path("stick").join(FOLDER).join("bundle.tar.000").is_file());
}

#[test]
fn a_bundle_is_made_of_the_same_bytes_twice() {
    let shop = Shop::new();
    let folder = shop.folder("pack", &pack(1, 3));
    let [a, b] = [shop.image(&folder, &shop.options(1)), shop.image(&folder, &shop.options(1))];
    assert!(fs::read(a).unwrap() == fs::read(b).unwrap());
}

#[test]
fn other_peoples_tar_reads_the_stream() {
    let shop = Shop::new();
    let image = shop.version(1, 3);
    let stream = fs::read(&image).unwrap()[1 << 20..].to_vec();
    fs::write(shop.path("stream.tar"), stream).unwrap();
    let listed = Command::new("tar").arg("-tf").arg(shop.path("stream.tar")).output().unwrap();
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    let names = String::from_utf8(listed.stdout).unwrap();
    assert!(names.starts_with("manifest.json\ncarried\nmanifest.sig\nkeys.json\nblobs/"), "{names}");
}

#[test]
fn other_peoples_tools_read_the_partition_table() {
    let shop = Shop::new();
    let image = shop.version(1, 3);
    let found = Command::new("blkid").args(["-p", "-o", "export"]).arg(&image).output().unwrap();
    let found = String::from_utf8(found.stdout).unwrap();
    assert!(found.contains("PTTYPE=gpt"), "{found}");
    let listed = Command::new("partx")
        .args(["--show", "--bytes", "--output", "START,SECTORS,NAME"])
        .arg(&image)
        .output();
    let listed = String::from_utf8(listed.unwrap().stdout).unwrap();
    let line = listed.lines().last().unwrap_or_default();
    assert!(line.contains("2048") && line.ends_with("WELS-BUNDLE"), "{listed}");
}

#[test]
fn what_zstd_shrinks_is_carried_shrunk_and_twins_once() {
    let shop = Shop::new();
    let chunk = noise(5, CHUNK_BYTES as usize);
    let text = "so it goes; ".repeat(100_000).into_bytes();
    let files = [("a", [&chunk[..], &chunk, &chunk].concat()), ("b", chunk), ("c", text)];
    let bundle = shop.open(&shop.image(&shop.folder("pack", &files), &shop.options(1))).unwrap();
    let (_, bytes, left_out) = bundle.contents();
    assert_eq!(left_out, 0);
    assert!(bytes < u64::from(CHUNK_BYTES) * 11 / 10, "{bytes}");
}

#[test]
fn a_delta_carries_what_is_new() {
    let shop = Shop::new();
    let n = 200;
    let old = noise(1, n * CHUNK_BYTES as usize);
    let mut new = old.clone();
    for i in 0..n / 10 {
        // A byte in every tenth chunk.
        new[(10 * i + 3) * CHUNK_BYTES as usize + 77] ^= 1;
    }
    let old = shop.folder("old", &[("dense.bin", old)]);
    let new = shop.folder("new", &[("dense.bin", new)]);
    let full = shop.image(&new, &shop.options(2));
    let from_folder = update::CreateOptions { previous: Some(old.clone()), ..shop.options(2) };
    let old_image = shop.image(&old, &shop.options(1));
    let from_image = update::CreateOptions { previous: Some(old_image), ..shop.options(2) };
    for delta in [shop.image(&new, &from_folder), shop.image(&new, &from_image)] {
        let bundle = shop.open(&delta).unwrap();
        assert_eq!(bundle.contents().0, n / 10);
        let stream = |path| shop.open(path).unwrap().stream_bytes();
        let share = stream(&delta) as f64 / stream(&full) as f64;
        assert!(share <= 0.12, "{share}");
        assert_eq!(bundle.id, shop.open(&full).unwrap().id, "the same version, so the same manifest");
    }
}

#[test]
fn a_stranger_is_named_and_refused_until_an_administrator_adds_the_key() {
    let shop = Shop::new();
    let image = shop.version(1, 2);
    let stranger = SecretKey::from_secret(Role::Release, "Stranger", [9; 32]).unwrap();
    // With lists by a root of their own.
    let mut lists = KeyLists::default();
    let root = SecretKey::from_secret(Role::Root, "Root of strangers", [8; 32]).unwrap();
    lists.push(&root, None, vec![named(&stranger)]).unwrap();
    sign(&image, &stranger, Some(&lists)).unwrap();
    let fingerprint = stranger.public_key().fingerprint();
    match shop.open(&image) {
        Err(Error::UnknownKey { fingerprint: named, .. }) => assert_eq!(named, fingerprint),
        other => panic!("{other:?}"),
    }
    let mut trust = shop.trust();
    trust.add(&stranger.public());
    let (bundle, _) = Carrier::open(&image).unwrap().check(&trust).unwrap();
    assert_eq!(bundle.signer.unwrap().because, Because::Added);
}

#[test]
fn a_root_key_signs_no_bundle() {
    let shop = Shop::new();
    let image = shop.version(1, 1);
    assert!(matches!(sign(&image, &shop.root, None), Err(Error::WrongRole { .. })));
}

#[test]
fn a_bundle_brings_the_list_that_names_its_key_and_the_box_keeps_it() {
    let mut shop = Shop::new();
    let next = SecretKey::from_secret(Role::Release, "Next", [3; 32]).unwrap();
    let root = SecretKey::from_secret(Role::Root, "Next root", [4; 32]).unwrap();
    shop.lists.push(&shop.root.clone(), Some(&root), vec![named(&next)]).unwrap();
    let image = shop.version(1, 1);
    assert!(matches!(shop.open(&image), Err(Error::UnknownKey { .. })), "the new list dropped the old key");
    sign(&image, &next, Some(&shop.lists)).unwrap();
    let (_, trust) = Carrier::open(&image).unwrap().check(&shop.trust()).unwrap();
    trust.save().unwrap();
    let kept = shop.trust();
    assert_eq!((kept.root(), kept.list().unwrap().counter), (Some(root.public_key()), 2));
}

#[test]
fn a_changed_byte_before_the_blobs_is_found_by_signature() {
    let shop = Shop::new();
    let image = shop.version(1, 1);
    let file = OpenOptions::new().read(true).write(true).open(&image).unwrap();
    // In the manifest, behind its header.
    let at = (1 << 20) + 512 + 60;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
    assert!(matches!(shop.open(&image), Err(Error::BadSignature { .. })));
}

#[test]
fn a_damaged_chunk_is_named() {
    let shop = Shop::new();
    let image = shop.version(1, 9);
    let bytes = fs::read(&image).unwrap();
    // A byte of noise near the end of the stream's first half.
    let needle = &pack(1, 9)[0].1[3 * CHUNK_BYTES as usize..][..64];
    let at = bytes.windows(64).position(|window| window == needle).unwrap();
    let file = OpenOptions::new().write(true).open(&image).unwrap();
    file.write_all_at(&[!bytes[at]], at as u64).unwrap();
    match verify(&shop.open(&image).unwrap(), &mut |_, _| {}) {
        Err(Error::Corrupt { file, offset, .. }) => {
            assert_eq!((file.as_str(), offset), ("dense.bin", 3 * u64::from(CHUNK_BYTES)));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_carrier_cut_anywhere_is_an_error() {
    let shop = Shop::new();
    let image = shop.version(1, 3);
    let stream = shop.open(&image).unwrap().stream_bytes();
    let bytes = fs::read(&image).unwrap();
    let bare = shop.path("bare");
    fs::write(&bare, &bytes[1 << 20..]).unwrap();
    shop.open(&bare).unwrap();
    let file = OpenOptions::new().write(true).open(&bare).unwrap();
    for cut in (0..stream).step_by(4999).chain([stream - 1]).collect::<Vec<_>>().into_iter().rev() {
        file.set_len(cut).unwrap();
        let error = shop.open(&bare).expect_err("cut");
        assert!(
            matches!(error, Error::Truncated { .. } | Error::NoBundle { .. } | Error::Gpt { .. }),
            "{cut}: {error}"
        );
    }
    let image = OpenOptions::new().write(true).open(&image).unwrap();
    image.set_len(bytes.len() as u64 / 2).unwrap();
}

#[test]
fn a_damaged_table_is_read_from_its_copy() {
    let shop = Shop::new();
    let image = shop.version(1, 3);
    let file = OpenOptions::new().write(true).open(&image).unwrap();
    file.write_all_at(b"garbage", 512 + 20).unwrap();
    shop.open(&image).unwrap();
    let bytes = file.metadata().unwrap().len();
    file.write_all_at(b"garbage", bytes - 500).unwrap();
    assert!(matches!(shop.open(&image), Err(Error::Gpt { .. })));
}

/// What a manifest says, with one thing changed.
fn changed(change: impl FnOnce(&mut Manifest)) -> Result<Manifest, manifest::Problem> {
    let shop = Shop::new();
    let mut manifest = shop.open(&shop.version(1, 2)).unwrap().manifest;
    change(&mut manifest);
    Manifest::parse(&manifest.to_json())
}

#[test]
fn manifests_that_lie_are_refused() {
    use manifest::Problem;
    assert!(changed(|_| {}).is_ok());
    let sizes: [fn(&mut Manifest); 7] = [
        |m| m.files[1].bytes += 1,
        |m| m.files[1].bytes = u64::MAX,
        |m| m.files[1].chunks[0].bytes = 0,
        |m| m.files[1].chunks[0].bytes = u32::MAX,
        |m| _ = m.files[1].chunks.pop(),
        |m| m.files[3].chunks[0].stored.as_mut().unwrap().bytes = u32::MAX,
        |m| m.files[3].chunks[0].stored.as_mut().unwrap().coding = manifest::Coding::Patch,
    ];
    for (i, change) in sizes.into_iter().enumerate() {
        assert!(matches!(changed(change), Err(Problem::Size { .. })), "{i}");
    }
    for path in
        ["../dense.bin", "/etc/passwd", "a/b/c", "LICENSE", "license", "bundle.json", ".installed.json"]
    {
        assert!(matches!(changed(|m| m.files[1].path = path.into()), Err(Problem::Path { .. })), "{path}");
    }
    for name in ["", "..", ".staging", "a/b", "A", "lost+found", "-", &"x".repeat(65)] {
        assert!(matches!(changed(|m| m.name = name.into()), Err(Problem::Text { .. })), "{name}");
    }
    for title in ["", " ", "a\u{1b}[2Jb", "safe\u{202e}live", &"x".repeat(121)] {
        assert!(matches!(changed(|m| m.title = title.into()), Err(Problem::Text { .. })), "{title:?}");
    }
    assert!(matches!(changed(|m| m.version = 0), Err(Problem::Text { .. })));
    assert!(matches!(changed(|m| m.files.clear()), Err(Problem::Text { .. })));
    assert!(matches!(changed(|m| m.format = FORMAT + 1), Err(Problem::Format { .. })));
}

#[test]
fn a_newer_format_is_told_from_damage() {
    let newer = br#"{"format": 7, "whatever": []}"#;
    assert!(matches!(Manifest::parse(newer), Err(manifest::Problem::Format { format: 7 })));
    for text in ["", "{}", "[]", "null", "{\"format\": -1}", "{\"format\": 1}", &"[".repeat(100_000)] {
        assert!(matches!(Manifest::parse(text.as_bytes()), Err(manifest::Problem::Json(_))), "{text:.20}");
    }
}

#[test]
fn a_folder_with_links_is_no_source_and_no_carrier() {
    let shop = Shop::new();
    let folder = shop.folder("pack", &pack(1, 1));
    symlink("/etc/passwd", folder.join("link")).unwrap();
    let made = create(&folder, &Target::Image(shop.path("a.img")), &shop.options(1), &mut |_, _| {});
    assert!(matches!(made, Err(Error::Source { .. })));
    let stick = shop.folder("stick/wels-bundle", &[]);
    fs::create_dir_all(&stick).unwrap();
    symlink("/etc/passwd", stick.join("bundle.tar.000")).unwrap();
    assert!(matches!(shop.open(&shop.path("stick")), Err(Error::Io { .. })));
}

#[test]
fn writing_makes_a_bundle_of_its_own_and_replaces_nothing() {
    let shop = Shop::new();
    let image = shop.version(1, 5);
    let bundle = shop.open(&image).unwrap();
    let dest = shop.path("stick.img");
    write(&bundle, &dest, WriteOptions::default(), &mut |_, _| {}).unwrap();
    let written = shop.open(&dest).unwrap();
    assert_eq!(written.id, bundle.id);
    verify(&written, &mut |_, _| {}).unwrap();
    assert!(matches!(
        write(&bundle, &dest, WriteOptions::default(), &mut |_, _| {}),
        Err(Error::Exists { .. })
    ));
    write(&bundle, &dest, WriteOptions { force: true }, &mut |_, _| {}).unwrap();
}

#[test]
fn a_system_travels_as_patches_of_the_one_before() {
    let shop = Shop::new();
    let old = noise(1, 6 << 20);
    // Something in front moves all, and some places differ.
    let mut new = [&noise(2, 5000)[..], &old].concat();
    (0..20).for_each(|i| new[i * 300_000 + 999] ^= 0x55);
    let zeros = vec![0; 1 << 20];
    let before =
        shop.folder("before", &[("root", old), ("EFI/wels.efi", [&noise(3, 9)[..], &zeros].concat())]);
    let after =
        shop.folder("after", &[("root", [&new[..], &zeros].concat()), ("EFI/wels.efi", zeros.clone())]);
    let options = update::CreateOptions {
        kind: Kind::System,
        name: "wels-os".into(),
        previous: Some(before.clone()),
        chunk_bytes: 1 << 20,
        ..shop.options(2)
    };
    let image = shop.image(&after, &options);
    let bundle = shop.open(&image).unwrap();
    let (_, bytes, _) = bundle.contents();
    assert!(bytes < 60_000, "{bytes}");
    // Without the files it refers to, nothing can be made of it; with them, the new ones.
    let mut installer = shop.installer();
    let refused = installer.stage(&bundle, &support::options(), &support::monitor(&bundle));
    assert!(matches!(refused, Err(Error::MissingChunks { .. })), "{refused:?}");
    let bases = vec![before.join("EFI/wels.efi"), before.join("root")];
    let options = update::Options { bases, ..support::options() };
    let trial = support::ready(installer.stage(&bundle, &options, &support::monitor(&bundle)).unwrap());
    assert!(fs::read(trial.path.join("root")).unwrap() == [&new[..], &zeros].concat());
    assert!(fs::read(trial.path.join("EFI/wels.efi")).unwrap() == zeros);
}

#[test]
fn a_file_that_is_no_bundle_is_said_to_be_none() {
    let shop = Shop::new();
    let trust = Trust::open(&shop.path("state"), None).unwrap();
    for (name, bytes) in [("empty", vec![]), ("noise", noise(1, 100_000)), ("zeros", vec![0; 100_000])] {
        fs::write(shop.path(name), bytes).unwrap();
        let error =
            Carrier::open(&shop.path(name)).and_then(|carrier| carrier.check(&trust)).expect_err(name);
        assert!(matches!(error, Error::NoBundle { .. } | Error::Gpt { .. }), "{error}");
    }
    assert!(matches!(Carrier::open(&shop.path("nowhere")), Err(Error::NoBundle { .. })));
    assert!(matches!(Carrier::open(Path::new("/dev/null")), Err(Error::NoBundle { .. })));
    let image = File::open(shop.version(1, 1)).unwrap();
    Carrier::from_file(Path::new("handed over"), image).unwrap();
}

#[test]
fn a_folder_that_is_open_already_is_read_wherever_it_went() {
    let shop = Shop::new();
    let stick = shop.path("stick");
    let folder = shop.folder("pack", &pack(1, 3));
    create(&folder, &Target::Folder(stick.clone()), &shop.options(1), &mut |_, _| {}).unwrap();
    sign(&stick, &shop.release, Some(&shop.lists)).unwrap();
    let open = File::open(&stick).unwrap();
    let inner = File::open(stick.join(FOLDER)).unwrap();
    // As if it were mounted where only another process sees it.
    let away = shop.path("away");
    fs::rename(&stick, &away).unwrap();
    for folder in [&open, &inner] {
        let carrier = Carrier::from_folder(Path::new("the stick"), folder).unwrap();
        let (bundle, _) = carrier.check(&shop.trust()).unwrap();
        assert!(bundle.path().starts_with("the stick"));
        verify(&bundle, &mut |_, _| {}).unwrap();
    }
    let part = away.join(FOLDER).join("bundle.tar.000");
    fs::rename(&part, away.join("elsewhere")).unwrap();
    symlink(away.join("elsewhere"), &part).unwrap();
    Carrier::from_folder(Path::new("the stick"), &open).expect_err("a link is not followed");
}
