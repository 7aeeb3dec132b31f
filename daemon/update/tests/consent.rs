//! What an administrator agreed to, what waits for its test after a cut cord, and what a bundle asks of the system.
#![allow(clippy::unwrap_used, reason = "test code")]

mod support;

use std::fs;

use support::{Shop, monitor, options, pack, ready};
use update::manifest::Requires;
use update::{Agreed, CreateOptions, Installed, Kind, Options, Verdict};

#[test]
fn consent_is_kept_until_the_bundle_serves() {
    let shop = Shop::new();
    let bundle = shop.open(&shop.version(1, 2)).unwrap();
    let other = shop.open(&shop.version(2, 2)).unwrap();
    shop.installer().agree(other.id, false).unwrap();
    shop.installer().agree(bundle.id, true).unwrap();
    let agreed = Some(Agreed { id: bundle.id, allow_older: true });
    assert_eq!(shop.installer().agreed(), agreed, "the last one, after a restart");
    let mut installer = shop.installer();
    let trial = ready(installer.stage(&bundle, &options(), &monitor(&bundle)).unwrap());
    assert_eq!(installer.agreed(), agreed, "not before its test");
    installer.commit(&trial, &monitor(&bundle)).unwrap();
    drop(installer);
    assert_eq!(shop.installer().agreed(), None);
}

#[test]
fn consent_ends_when_the_bundle_is_given_up_or_no_longer_wanted_or_serves_already() {
    let shop = Shop::new();
    let bundle = shop.open(&shop.version(1, 2)).unwrap();
    let mut installer = shop.installer();
    let trial = ready(installer.stage(&bundle, &options(), &monitor(&bundle)).unwrap());
    installer.agree(bundle.id, false).unwrap();
    installer.abandon(&trial, "no answer").unwrap();
    assert_eq!(installer.agreed(), None);
    installer.agree(bundle.id, false).unwrap();
    installer.withdraw().unwrap();
    assert_eq!(installer.agreed(), None);
    let trial = ready(installer.stage(&bundle, &options(), &monitor(&bundle)).unwrap());
    installer.commit(&trial, &monitor(&bundle)).unwrap();
    installer.agree(bundle.id, false).unwrap();
    installer.stage(&bundle, &options(), &monitor(&bundle)).unwrap();
    assert_eq!(installer.agreed(), None);
    assert_eq!(Installed::read(&shop.models()).unwrap().agreed, None, "on the disk, too");
}

#[test]
fn a_version_that_was_copied_but_not_tested_waits_for_its_test() {
    let shop = Shop::new();
    shop.install(&shop.version(1, 2));
    assert_eq!(shop.installer().pending(Kind::Model).unwrap(), None, "what serves waits for nothing");
    let trial = ready(shop.stage(&shop.version(2, 2)).unwrap());
    // Here the power goes.
    let mut installer = shop.installer();
    assert_eq!(installer.pending(Kind::Model).unwrap(), Some(trial.clone()));
    assert_eq!(installer.pending(Kind::System).unwrap(), None);
    let bundle = shop.open(&shop.path("bundle-1.img")).unwrap();
    installer.commit(&trial, &monitor(&bundle)).unwrap();
    assert_eq!(installer.pending(Kind::Model).unwrap(), None);
    installer.rollback(Kind::Model).unwrap();
    assert_eq!(installer.pending(Kind::Model).unwrap(), None, "it has served");
}

#[test]
fn an_older_version_waits_only_where_an_administrator_wants_it() {
    let shop = Shop::new();
    let old = shop.open(&shop.version(1, 2)).unwrap();
    shop.install(&shop.version(3, 2));
    let allow = Options { allow_older: true, ..options() };
    let mut installer = shop.installer();
    let trial = ready(installer.stage(&old, &allow, &monitor(&old)).unwrap());
    assert_eq!(installer.pending(Kind::Model).unwrap(), None);
    installer.agree(old.id, true).unwrap();
    let newer =
        ready(installer.stage(&shop.open(&shop.version(4, 2)).unwrap(), &options(), &monitor(&old)).unwrap());
    assert_eq!(
        installer.pending(Kind::Model).unwrap(),
        Some(trial),
        "before a newer one that nobody asked for"
    );
    installer.withdraw().unwrap();
    assert_eq!(installer.pending(Kind::Model).unwrap(), Some(newer));
}

#[test]
fn a_version_that_was_given_up_does_not_wait_and_goes_even_after_a_cut() {
    let shop = Shop::new();
    let bundle = shop.open(&shop.version(1, 2)).unwrap();
    let mut installer = shop.installer();
    let trial = ready(installer.stage(&bundle, &options(), &monitor(&bundle)).unwrap());
    let aside = shop.path("aside");
    fs::rename(&trial.path, &aside).unwrap();
    fs::create_dir_all(&trial.path).unwrap();
    installer.abandon(&trial, "no answer").unwrap();
    // As if the power had gone before its folder went.
    fs::remove_dir_all(&trial.path).ok();
    fs::create_dir_all(trial.path.parent().unwrap()).unwrap();
    fs::rename(&aside, &trial.path).unwrap();
    assert_eq!(installer.pending(Kind::Model).unwrap(), None);
    drop(installer);
    let mut installer = shop.installer();
    assert!(!trial.path.exists());
    // Wanted again, it stays.
    installer.agree(bundle.id, false).unwrap();
    ready(installer.stage(&bundle, &options(), &monitor(&bundle)).unwrap());
    drop(installer);
    assert_eq!(shop.installer().pending(Kind::Model).unwrap(), Some(trial));
}

#[test]
fn a_bundle_for_a_later_system_is_refused_where_the_system_is_known() {
    let shop = Shop::new();
    let requires = Requires { system_version: Some(5), ..Requires::default() };
    let image = shop.image(&shop.folder("pack", &pack(1, 2)), &CreateOptions { requires, ..shop.options(1) });
    let bundle = shop.open(&image).unwrap();
    let verdict = |system_version| {
        let preview = shop.installer().preview(&bundle, &Options { system_version, ..options() }).unwrap();
        (preview.verdict, preview.refusal.map(|refusal| refusal.code))
    };
    assert_eq!(verdict(Some(4)), (None, Some("system_too_old".into())));
    assert_eq!(verdict(Some(5)), (Some(Verdict::Install), None));
    assert_eq!(verdict(None), (Some(Verdict::Install), None));
}

#[test]
fn what_a_later_system_adds_to_the_state_is_passed_over() {
    let shop = Shop::new();
    shop.install(&shop.version(1, 2));
    let path = shop.models().join(".installed.json");
    let mut state: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    state["later"] = serde_json::json!([1]);
    state["model"]["current"]["later"] = serde_json::json!("too");
    fs::write(&path, state.to_string()).unwrap();
    assert_eq!(shop.installer().current(Kind::Model), Some(shop.models().join("tiny/1")));
}

#[test]
fn tests_that_were_begun_are_counted_until_one_ends() {
    let shop = Shop::new();
    let bundle = shop.open(&shop.version(1, 2)).unwrap();
    let trial = ready(shop.installer().stage(&bundle, &options(), &monitor(&bundle)).unwrap());
    for begun in 1..=3 {
        // Each time the box ends in the middle of it.
        assert_eq!(shop.installer().begin_test(&trial).unwrap(), begun);
    }
    shop.installer().abandon(&trial, "it ends the box").unwrap();
    let trial = ready(shop.installer().stage(&bundle, &options(), &monitor(&bundle)).unwrap());
    assert_eq!(shop.installer().begin_test(&trial).unwrap(), 1);
}
