//! Boxes with people in them.
#![allow(dead_code, reason = "each file of tests uses a part")]

use std::hash::{DefaultHasher, Hasher};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use backup::{DATABASE, Error, Info, Step};
use store::{Answer, NewUser, Privilege, Status, Store, User, password};

pub(crate) const PASSPHRASE: &str = "鲇鱼 swims upstream";

/// A state folder.
pub(crate) struct Box(pub(crate) tempfile::TempDir);

/// Who is on it, and what opens it.
pub(crate) struct People {
    pub(crate) ada: User,
    pub(crate) bob: User,
    pub(crate) session: String,
    pub(crate) key: String,
}

impl Box {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.path().join(DATABASE)
    }

    pub(crate) fn store(&self) -> Store {
        Store::open(&self.database()).unwrap()
    }

    /// An administrator, a colleague with a chat and a key, a setting, a key that is trusted.
    pub(crate) async fn furnished() -> (Self, Store, People) {
        let here = Self::new();
        let store = here.store();
        let person = |name: &str, role| NewUser {
            name: name.into(),
            password_hash: password::hash(&format!("{name}'s password")),
            role,
            lang: None,
        };
        let ada = store.create_user(None, person("ada", Privilege::Admin)).await.unwrap();
        let bob = store.create_user(Some(ada.id), person("bob", Privilege::User)).await.unwrap();
        let chat = store.create_chat(bob.id).await.unwrap();
        let asked =
            store.ask(bob.id, chat.id, None, "服务器繁忙?".into(), "Fische".into()).await.unwrap().unwrap();
        let answer = Answer {
            content: "the server is not busy".into(),
            reasoning: Some("hm".into()),
            reasoning_ms: Some(1),
            status: Status::Done,
            error: None,
            receipt: None,
        };
        store.save_answer(bob.id, asked.answer.id, answer).await.unwrap().unwrap();
        store.set_setting("greeting", Some("moin")).await.unwrap();
        let session = store.create_session(ada.id, "browser").await.unwrap().token;
        let key = store.create_key(bob.id, "script").await.unwrap().key;
        std::fs::write(here.path().join("trust.json"), r#"{"added":[]}"#).unwrap();
        std::fs::create_dir(here.path().join("experts")).unwrap();
        std::fs::write(here.path().join("experts/r1.json"), "{}").unwrap();
        (here, store, People { ada, bob, session, key })
    }

    /// Every name in the folder, with size and hash of what is in it.
    pub(crate) fn listed(&self) -> Vec<(PathBuf, usize, u64)> {
        let mut listed = Vec::new();
        let mut folders = vec![self.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let bytes = if path.is_dir() { Vec::new() } else { std::fs::read(&path).unwrap() };
                folders.extend(path.is_dir().then(|| path.clone()));
                let mut hash = DefaultHasher::new();
                hash.write(&bytes);
                listed.push((path, bytes.len(), hash.finish()));
            }
        }
        listed.sort();
        listed
    }
}

pub(crate) fn quiet(_: Step, _: u64, _: u64) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

pub(crate) fn created(from: &Box) -> Vec<u8> {
    let mut file = Vec::new();
    backup::create(from.path(), &mut file, PASSPHRASE, &mut quiet).unwrap();
    file
}

pub(crate) fn restored(file: &[u8], to: &Box) -> Result<Info, Error> {
    backup::restore(file, PASSPHRASE, to.path(), &mut quiet)
}
