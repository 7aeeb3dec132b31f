//! Whom this box believes: a root key, the newest list of release keys that it signed, and keys that an administrator added.
//!
//! A stick may bring a newer list, signed by the root that the box trusts already; it never brings trust of its own.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::key_list::{KeyList, KeyLists, NamedKey};
use crate::keys::{PublicKey, PublicKeyFile, Role};
use crate::manifest::Kind;
use crate::{Error, files};

/// The file in the state folder.
const FILE: &str = "trust.json";

/// Why a signer is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Because {
    /// The root's list names it.
    Release,
    /// An administrator of this box added it.
    Added,
}

/// Who signed a bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signer {
    /// Their name, as the list or the administrator says.
    pub name: String,
    /// Their key's fingerprint.
    pub fingerprint: String,
    /// Why the box believes them.
    pub because: Because,
}

/// What is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    /// Placed by an administrator or the factory; a list may have moved on since.
    #[serde(default)]
    root: Option<PublicKey>,
    /// The newest list.
    #[serde(default)]
    list: Option<KeyList>,
    /// Keys that an administrator added.
    #[serde(default)]
    added: Vec<NamedKey>,
}

/// The keys a box believes.
#[derive(Clone, Debug)]
pub struct Trust {
    path: PathBuf,
    built_in_root: Option<PublicKey>,
    state: State,
}

impl Trust {
    /// Reads what `folder` keeps; without a root there, `built_in_root` leads. Where there is one, only keys of a root's list
    /// sign systems.
    ///
    /// # Errors
    /// The file is there and can't be read.
    pub fn open(folder: &Path, built_in_root: Option<PublicKey>) -> Result<Self, Error> {
        let path = folder.join(FILE);
        let state = files::read_json(&path)?.unwrap_or_default();
        Ok(Self { path, built_in_root, state })
    }

    /// Keeps it.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn save(&self) -> Result<(), Error> {
        files::make_folder(files::parent(&self.path))?;
        files::replace(&self.path, &serde_json::to_vec_pretty(&self.state).expect("plain data"))
    }

    /// The root that leads now: the list's, the placed one, the built-in one.
    pub fn root(&self) -> Option<PublicKey> {
        self.state.list.as_ref().map(|list| list.root).or(self.state.root).or(self.built_in_root)
    }

    /// The newest list of release keys.
    pub fn list(&self) -> Option<&KeyList> {
        self.state.list.as_ref()
    }

    /// Keys that an administrator added.
    pub fn added(&self) -> &[NamedKey] {
        &self.state.added
    }

    /// Takes a newer list out of what a bundle brought; says whether there was one.
    ///
    /// # Errors
    /// A list on the way names a root that did not sign it.
    pub fn learn(&mut self, lists: &KeyLists) -> Result<bool, Error> {
        let Some(root) = self.root() else { return Ok(false) };
        let counter = self.state.list.as_ref().map_or(0, |list| list.counter);
        let newer = lists.newest(&root, counter).map_err(Error::KeyLists)?;
        let is_newer = newer.is_some();
        self.state.list = newer.or(self.state.list.take());
        Ok(is_newer)
    }

    /// Who has this key; `None` for a stranger.
    pub fn signer(&self, key: &PublicKey) -> Option<Signer> {
        let release =
            self.state.list.iter().flat_map(|list| &list.release).map(|key| (key, Because::Release));
        let mut known = release.chain(self.state.added.iter().map(|key| (key, Because::Added)));
        let (named, because) = known.find(|(named, _)| named.key == *key)?;
        Some(Signer { name: named.name.clone(), fingerprint: key.fingerprint(), because })
    }

    /// Whether `signer` may sign bundles of that kind. Keys that an administrator added sign models; systems are signed by the
    /// maker, where the box was made with their root.
    ///
    /// # Errors
    /// They may not.
    pub(crate) fn lets_sign(&self, path: &Path, signer: &Signer, kind: Kind) -> Result<(), Error> {
        if kind == Kind::System && self.built_in_root.is_some() && signer.because == Because::Added {
            return Err(Error::NotForSystems { path: path.to_owned(), name: signer.name.clone() });
        }
        Ok(())
    }

    /// Believes a key from now on: a release key beside the list's, or a root key, whose lists start over. Says whether
    /// that changes anything.
    pub fn add(&mut self, file: &PublicKeyFile) -> bool {
        let before = self.state.clone();
        match file.role {
            Role::Root if self.root() != Some(file.public_key) => {
                self.state.root = Some(file.public_key);
                self.state.list = None;
            }
            Role::Release if self.state.added.iter().all(|key| key.key != file.public_key) => {
                self.state.added.push(NamedKey { name: file.name.clone(), key: file.public_key });
            }
            _ => {}
        }
        self.state != before
    }

    /// No longer believes a key that was added; says whether there was one of this fingerprint.
    pub fn remove(&mut self, fingerprint: &str) -> bool {
        let bare = |text: &str| text.replace(' ', "");
        let before = self.state.added.len();
        self.state.added.retain(|key| bare(&key.key.fingerprint()) != bare(fingerprint));
        self.state.added.len() < before
    }
}

/// The root key in a file that `keygen` wrote; `None` where there is none.
///
/// # Errors
/// A file that is there and can't be read, or has another key, is none to be passed over.
pub fn root_key(path: &Path) -> Result<Option<PublicKey>, Error> {
    let Some(file) = files::read_json::<PublicKeyFile>(path)? else { return Ok(None) };
    match file.role {
        Role::Root => Ok(Some(file.public_key)),
        Role::Release => Err(Error::WrongRole { name: file.name, got: "release", want: "root" }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::SecretKey;

    fn key(role: Role, n: u8) -> SecretKey {
        SecretKey::from_secret(role, "somebody", [n; 32]).unwrap()
    }

    #[test]
    fn a_list_that_drops_a_key_ends_its_trust() {
        let folder = tempfile::tempdir().unwrap();
        let (root, old, new) = (key(Role::Root, 1), key(Role::Release, 2), key(Role::Release, 3));
        let named = |key: &SecretKey| NamedKey { name: key.name.clone(), key: key.public_key() };
        let mut lists = KeyLists::default();
        lists.push(&root, None, vec![named(&old)]).unwrap();
        let mut trust = Trust::open(folder.path(), Some(root.public_key())).unwrap();
        assert!(trust.learn(&lists).unwrap());
        assert_eq!(trust.signer(&old.public_key()).unwrap().because, Because::Release);
        lists.push(&root, None, vec![named(&new)]).unwrap();
        assert!(trust.learn(&lists).unwrap());
        trust.save().unwrap();
        let trust = Trust::open(folder.path(), Some(root.public_key())).unwrap();
        assert_eq!(trust.signer(&old.public_key()), None);
        assert!(trust.signer(&new.public_key()).is_some());
        assert!(!trust.clone().learn(&lists).unwrap(), "nothing new");
    }

    #[test]
    fn a_stick_brings_no_trust_to_a_box_without_a_root() {
        let folder = tempfile::tempdir().unwrap();
        let mut lists = KeyLists::default();
        let release = key(Role::Release, 2);
        lists
            .push(&key(Role::Root, 1), None, vec![NamedKey { name: "x".into(), key: release.public_key() }])
            .unwrap();
        let mut trust = Trust::open(folder.path(), None).unwrap();
        assert!(!trust.learn(&lists).unwrap());
        assert_eq!(trust.signer(&release.public_key()), None);
    }

    #[test]
    fn whom_an_administrator_added_signs_models_and_the_maker_systems() {
        let folder = tempfile::tempdir().unwrap();
        let (root, maker, added) = (key(Role::Root, 1), key(Role::Release, 2), key(Role::Release, 3));
        let mut lists = KeyLists::default();
        lists.push(&root, None, vec![NamedKey { name: "x".into(), key: maker.public_key() }]).unwrap();
        let mut rooted = Trust::open(folder.path(), Some(root.public_key())).unwrap();
        rooted.learn(&lists).unwrap();
        let mut free = Trust::open(folder.path(), None).unwrap();
        let lets = |trust: &Trust, key: &SecretKey, kind| {
            trust.lets_sign(folder.path(), &trust.signer(&key.public_key()).unwrap(), kind)
        };
        for trust in [&mut rooted, &mut free] {
            trust.add(&added.public());
            assert!(lets(trust, &added, Kind::Model).is_ok());
        }
        assert!(lets(&rooted, &maker, Kind::System).is_ok());
        assert!(matches!(lets(&rooted, &added, Kind::System), Err(Error::NotForSystems { .. })));
        assert!(lets(&free, &added, Kind::System).is_ok(), "no maker who could sign");
    }

    #[test]
    fn a_root_key_that_is_none_is_not_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("root.pub");
        assert_eq!(root_key(&path).unwrap(), None);
        let root = key(Role::Root, 1);
        std::fs::write(&path, serde_json::to_vec(&root.public()).unwrap()).unwrap();
        assert_eq!(root_key(&path).unwrap(), Some(root.public_key()));
        std::fs::write(&path, serde_json::to_vec(&key(Role::Release, 2).public()).unwrap()).unwrap();
        assert!(matches!(root_key(&path), Err(Error::WrongRole { .. })));
        std::fs::write(&path, "{").unwrap();
        root_key(&path).unwrap_err();
    }

    #[test]
    fn an_administrator_adds_and_removes_keys() {
        let folder = tempfile::tempdir().unwrap();
        let release = key(Role::Release, 2);
        let mut trust = Trust::open(folder.path(), None).unwrap();
        assert!(trust.add(&release.public()));
        assert!(!trust.add(&release.public()), "twice is once");
        assert_eq!(trust.signer(&release.public_key()).unwrap().because, Because::Added);
        assert!(trust.remove(&release.public_key().fingerprint().replace(' ', "")));
        assert_eq!(trust.signer(&release.public_key()), None);
    }
}
