use super::*;

/// A state folder with an old life, and a new one that waits.
fn with_a_restore(old: &[&str], new: &[&str]) -> tempfile::TempDir {
    let state = tempfile::tempdir().unwrap();
    for name in old {
        fs::write(state.path().join(name), format!("old {name}")).unwrap();
    }
    let staged = Staged::of(state.path());
    staged.begin().unwrap();
    for name in new {
        fs::write(staged.part(name), format!("new {name}")).unwrap();
    }
    staged.mark_ready(&info()).unwrap();
    state
}

fn info() -> Info {
    let part = crate::Part { name: DATABASE.into(), bytes: 1 };
    Info { format: 1, version: "0.1.0".into(), made_ms: 1, schema: 1, parts: vec![part] }
}

/// Names and texts of a folder.
fn listed(folder: &Path) -> Vec<(String, String)> {
    let Ok(names) = fs::read_dir(folder) else { return Vec::new() };
    let files = names.map(|name| name.unwrap()).filter(|name| name.file_type().unwrap().is_file());
    let mut listed: Vec<_> = files
        .map(|file| (file.file_name().into_string().unwrap(), fs::read_to_string(file.path()).unwrap()))
        .collect();
    listed.sort();
    listed
}

fn pairs(life: &str, names: &[&str]) -> Vec<(String, String)> {
    names.iter().map(|name| ((*name).to_owned(), format!("{life} {name}"))).collect()
}

/// Lets `left` changes happen, then cuts the power.
fn cut_after(mut left: usize) -> impl FnMut() -> Result<(), Error> {
    move || match left.checked_sub(1) {
        Some(less) => {
            left = less;
            Ok(())
        }
        None => Err(Error::Cancelled),
    }
}

const OLD: [&str; 3] = ["trust.json", DATABASE, "wels.sqlite-wal"];

#[test]
fn cut_off_after_any_change_the_next_start_goes_on() {
    let mut cuts = 0;
    loop {
        let state = with_a_restore(&OLD, &[DATABASE]);
        fs::write(state.path().join("fallback.txt"), "old fallback.txt").unwrap();
        let whole = finish(state.path(), &mut cut_after(cuts)).is_ok();
        if !whole {
            // A second cut on the way, at every distance from the first.
            let _ = finish(state.path(), &mut cut_after(cuts % 4));
            let info = finish_restore(state.path()).unwrap();
            assert!(info.is_some() || !state.path().join(FOLDER).exists(), "cut {cuts}");
        }
        assert_eq!(listed(&state.path().join(BEFORE)), pairs("old", &OLD), "cut {cuts}");
        let now = [pairs("old", &["fallback.txt"]), pairs("new", &[DATABASE])].concat();
        assert_eq!(listed(state.path()), now, "cut {cuts}");
        assert_eq!(fs::read_dir(state.path()).unwrap().count(), 3, "nothing else is left");
        assert_eq!(finish_restore(state.path()).unwrap(), None, "once is enough");
        if whole {
            break;
        }
        cuts += 1;
    }
    assert!(cuts >= 10, "{cuts}");
}

#[test]
fn the_next_restore_replaces_what_the_last_one_kept() {
    let state = with_a_restore(&OLD, &[DATABASE]);
    assert_eq!(finish_restore(state.path()).unwrap(), Some(info()));
    let staged = Staged::of(state.path());
    staged.begin().unwrap();
    fs::write(staged.part(DATABASE), "newest").unwrap();
    fs::write(staged.part("trust.json"), "new trust.json").unwrap();
    staged.mark_ready(&info()).unwrap();
    assert!(!staged.has_begun());
    finish_restore(state.path()).unwrap().unwrap();
    assert_eq!(listed(&state.path().join(BEFORE)), pairs("new", &[DATABASE]));
    assert_eq!(listed(state.path())[0], pairs("new", &["trust.json"])[0]);
}

#[test]
fn what_came_in_part_is_removed_and_changes_nothing() {
    let state = with_a_restore(&OLD, &[DATABASE]);
    fs::remove_file(state.path().join(FOLDER).join("ready")).unwrap();
    assert_eq!(finish_restore(state.path()).unwrap(), None);
    assert_eq!(listed(state.path()), pairs("old", &OLD));
    assert_eq!(fs::read_dir(state.path()).unwrap().count(), 3);
    assert_eq!(finish_restore(&state.path().join("nowhere")).unwrap(), None);
}

#[test]
fn a_restore_that_comes_just_now_is_left_alone() {
    let state = with_a_restore(&OLD, &[DATABASE]);
    let lock = Lock::take(state.path()).unwrap();
    assert_eq!(finish_restore(state.path()).unwrap(), None);
    assert_eq!(listed(state.path()), pairs("old", &OLD));
    drop(lock);
    assert!(finish_restore(state.path()).unwrap().is_some());
}

#[test]
fn half_a_switch_is_seen() {
    for cuts in 1..9 {
        let state = with_a_restore(&OLD, &[DATABASE]);
        finish(state.path(), &mut cut_after(cuts)).unwrap_err();
        // The first names are those of a journal and a log's index, which aren't there.
        assert!(Staged::of(state.path()).has_begun(), "cut {cuts}");
    }
}

#[test]
fn what_a_newer_version_made_ready_waits_for_it() {
    let newer = [
        serde_json::to_vec(&Info { schema: store::SCHEMA_VERSION + 1, ..info() }).unwrap(),
        br#"{"format":2}"#.to_vec(),
    ];
    for mark in newer {
        let state = with_a_restore(&OLD, &[DATABASE]);
        let ready = state.path().join(FOLDER).join("ready");
        fs::write(&ready, &mark).unwrap();
        assert_eq!(finish_restore(state.path()).unwrap(), None);
        assert_eq!(listed(state.path()), pairs("old", &OLD));
        assert!(ready.exists());
        // Once it has begun there is no way back.
        fs::rename(&ready, ready.with_file_name("placing")).unwrap();
        assert_eq!(finish_restore(state.path()).is_ok(), mark.len() > 20);
    }
}
