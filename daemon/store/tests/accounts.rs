//! Claiming, signing in, keys and the audit log, on a real file.

#![expect(clippy::unwrap_used, reason = "a step that fails fails the test")]

use store::{ClaimError, Error, NewUser, Privilege, SESSIONS_MAX, Store, User, UserChange};

fn open() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("wels.db")).unwrap();
    (dir, store)
}

fn person(name: &str, role: Privilege) -> NewUser {
    NewUser { name: name.into(), password_hash: "hash".into(), role, lang: None }
}

#[tokio::test]
async fn a_box_is_claimed_once_and_only_with_its_newest_code() {
    let (_dir, store) = open();
    let old = store.new_claim_code().await.unwrap().unwrap();
    let code = store.new_claim_code().await.unwrap().unwrap();
    let refused = store.claim(&old, person("ada", Privilege::User)).await;
    assert!(matches!(refused, Err(ClaimError::BadCode)));
    let typed = code.to_lowercase().replace('-', " ");
    let ada = store.claim(&typed, person("ada", Privilege::User)).await.unwrap();
    assert_eq!(ada.role, Privilege::Admin);
    let refused = store.claim(&code, person("eve", Privilege::User)).await;
    assert!(matches!(refused, Err(ClaimError::AlreadyClaimed)));
    assert_eq!(store.new_claim_code().await.unwrap(), None);
}

#[tokio::test]
async fn the_file_is_private_and_holds_no_secret() {
    use std::os::unix::fs::PermissionsExt;
    let (dir, store) = open();
    let code = store.new_claim_code().await.unwrap().unwrap();
    let ada = store.claim(&code, person("ada", Privilege::Admin)).await.unwrap();
    let session = store.create_session(ada.id, "browser").await.unwrap();
    let key = store.create_key(ada.id, "laptop").await.unwrap();
    store.flush().await.unwrap();
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o077, 0, "{path:?}");
        let bytes = std::fs::read(&path).unwrap();
        let secret = key.key.rsplit('_').next().unwrap();
        for secret in [&*code, &*session.token, secret] {
            assert!(!bytes.windows(secret.len()).any(|w| w == secret.as_bytes()), "{path:?}");
        }
    }
}

#[tokio::test]
async fn sessions_end_with_a_new_password_and_with_the_account() {
    let (_dir, store) = open();
    let ada = store.create_user(None, person("ada", Privilege::Admin)).await.unwrap();
    let bob = store.create_user(Some(ada.id), person("bob", Privilege::User)).await.unwrap();
    let first = store.create_session(bob.id, "a").await.unwrap();
    assert_eq!(store.session_owner(&first.token).await.unwrap().unwrap().user, bob);
    let change = UserChange { password_hash: Some("new".into()), ..UserChange::default() };
    store.change_user(bob.id, bob.id, change).await.unwrap().unwrap();
    assert!(store.session_owner(&first.token).await.unwrap().is_none());

    let second = store.create_session(bob.id, "b").await.unwrap();
    assert!(!store.end_session(ada.id, second.id).await.unwrap(), "another's session stays");
    let change = UserChange { disabled: Some(true), ..UserChange::default() };
    store.change_user(ada.id, bob.id, change).await.unwrap().unwrap();
    assert!(store.session_owner(&second.token).await.unwrap().is_none());
}

#[tokio::test]
async fn whoever_lost_the_password_comes_back_as_an_admin() {
    let (_dir, store) = open();
    let ada = store.create_user(None, person("ada", Privilege::Admin)).await.unwrap();
    let bob = store.create_user(Some(ada.id), person("bob", Privilege::User)).await.unwrap();
    let adas = store.create_session(ada.id, "a").await.unwrap();
    let key = store.create_key(bob.id, "script").await.unwrap();
    let disable = UserChange { disabled: Some(true), ..UserChange::default() };
    store.change_user(ada.id, bob.id, disable).await.unwrap().unwrap();
    let bobs = store.create_session(bob.id, "b").await.unwrap();

    let recovered = store.recover("BOB", "new".into()).await.unwrap();
    assert_eq!(recovered, User { role: Privilege::Admin, disabled: false, ..bob.clone() });
    assert_eq!(store.password_hash(bob.id).await.unwrap().as_deref(), Some("new"));
    assert!(store.session_owner(&bobs.token).await.unwrap().is_none());
    assert_eq!(store.key_owner(&key.key).await.unwrap().unwrap().user.id, bob.id);
    // Nobody else notices.
    assert_eq!(store.session_owner(&adas.token).await.unwrap().unwrap().user, ada);
    assert_eq!(store.password_hash(ada.id).await.unwrap().as_deref(), Some("hash"));
    let line = store.audit_log(None, 1).await.unwrap().remove(0);
    assert_eq!(
        (&*line.action, line.actor, &line.detail["is_new"]),
        ("recovered", Some(bob.id), &false.into())
    );

    let eve = store.recover("eve", "hers".into()).await.unwrap();
    assert_eq!((&*eve.name, eve.role, eve.disabled), ("eve", Privilege::Admin, false));
    assert_eq!(store.users().await.unwrap().len(), 3);
    assert_eq!(store.audit_log(None, 1).await.unwrap()[0].detail["is_new"], true);
}

#[tokio::test]
async fn the_oldest_session_makes_room() {
    let (_dir, store) = open();
    let ada = store.create_user(None, person("ada", Privilege::Admin)).await.unwrap();
    let first = store.create_session(ada.id, "first").await.unwrap();
    for _ in 0..SESSIONS_MAX {
        store.create_session(ada.id, "more").await.unwrap();
    }
    assert_eq!(store.sessions(ada.id).await.unwrap().len(), SESSIONS_MAX);
    assert!(store.session_owner(&first.token).await.unwrap().is_none());
}

#[tokio::test]
async fn a_key_works_until_revoked_by_its_owner() {
    let (_dir, store) = open();
    let ada = store.create_user(None, person("ada", Privilege::Admin)).await.unwrap();
    let bob = store.create_user(Some(ada.id), person("bob", Privilege::User)).await.unwrap();
    let made = store.create_key(bob.id, "script").await.unwrap();
    assert!(made.key.starts_with(&made.info.prefix));
    assert_eq!(store.key_owner(&made.key).await.unwrap().unwrap().user.id, bob.id);
    assert!(store.keys(bob.id).await.unwrap()[0].last_used_at.is_some());
    for wrong in ["", "wels_", "wels_1_", &made.key[..made.key.len() - 1], &made.key.replace("wels_", "x")] {
        assert!(store.key_owner(wrong).await.unwrap().is_none(), "{wrong}");
    }
    assert!(!store.revoke_key(ada.id, made.info.id).await.unwrap(), "another's key stays");
    assert!(store.revoke_key(bob.id, made.info.id).await.unwrap());
    assert!(store.key_owner(&made.key).await.unwrap().is_none());
}

#[tokio::test]
async fn names_are_unique_and_an_admin_always_remains() {
    let (_dir, store) = open();
    let ada = store.create_user(None, person("ada", Privilege::Admin)).await.unwrap();
    let taken = store.create_user(Some(ada.id), person("ADA", Privilege::User)).await;
    assert!(matches!(taken, Err(Error::NameTaken { .. })));
    let demote = UserChange { role: Some(Privilege::User), ..UserChange::default() };
    assert!(matches!(store.change_user(ada.id, ada.id, demote).await, Err(Error::LastAdmin)));
    assert!(matches!(store.delete_user(ada.id, ada.id).await, Err(Error::LastAdmin)));
    assert_eq!(store.users().await.unwrap()[0].user, ada);
}

#[tokio::test]
async fn the_audit_log_tells_and_cannot_be_changed() {
    let (dir, store) = open();
    let ada = store.create_user(None, person("ada", Privilege::Admin)).await.unwrap();
    store.create_key(ada.id, "script").await.unwrap();
    let log = store.audit_log(None, 10).await.unwrap();
    assert_eq!(log.iter().map(|entry| &*entry.action).collect::<Vec<_>>(), ["key_created", "user_created"]);
    assert_eq!(log[0].actor, Some(ada.id));

    let intruder = rusqlite::Connection::open(dir.path().join("wels.db")).unwrap();
    assert!(intruder.execute("DELETE FROM audit", []).is_err());
    assert!(intruder.execute("UPDATE audit SET action = 'nothing'", []).is_err());
}
