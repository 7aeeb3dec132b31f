//! Lists of release keys, signed by the root key: how a box learns whom to believe.
//!
//! ```text
//! bundle carries   list 1 -> list 2 -> list 3 …            signed by
//!                    A         A         A and B             A: the root that a box of list 1 or 2 trusts
//!                              B named next -> B             B: the root from list 3 on
//! ```
//!
//! A box takes each list that is newer than its own and signed by the root it trusts at that point; a list that names
//! another root is signed by that one too. So a box that slept through rotations follows them all, and a root that is lost
//! or stolen ends with the first list that leaves it behind. There is no expiry: a stick from last year still installs.

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::keys::{PublicKey, Purpose, SecretKey, Signature, is_key_name};

/// Bytes of all lists in a bundle.
pub const KEY_LISTS_BYTES_MAX: u64 = 64 << 10;
/// Lists in a bundle: rotations that a box may have slept through.
pub const KEY_LISTS_MAX: usize = 32;
/// Release keys of a list.
const KEYS_MAX: usize = 32;

/// A key and whose it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamedKey {
    /// Whose, for people.
    pub name: String,
    /// The key.
    pub key: PublicKey,
}

/// Which keys may sign manifests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyList {
    /// Goes up with every list.
    pub counter: u64,
    /// The root that boxes trust from this list on.
    pub root: PublicKey,
    /// Who may sign.
    pub release: Vec<NamedKey>,
}

/// A list with its signatures over the exact text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedKeyList {
    /// The list's JSON.
    list: String,
    signatures: Vec<RootSignature>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RootSignature {
    root: PublicKey,
    signature: Signature,
}

/// Why a file of lists is refused.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// Not what the format asks for.
    #[error("not readable: {0}")]
    Json(#[from] serde_json::Error),
    /// More than there can be.
    #[error("more than {limit} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many may be.
        limit: usize,
    },
    /// A name that can't be shown.
    #[error("a key's name is empty, too long or has characters that are not shown")]
    Name,
    /// The lists are not in order.
    #[error("the counters of its lists don't go up")]
    Order,
    /// The list leads to a root that did not sign it.
    #[error("list {counter} names a new root key, but is not signed by it")]
    NotSignedByNext {
        /// The list's counter.
        counter: u64,
    },
}

/// `keys.json`: lists in order of their counters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyLists {
    lists: Vec<SignedKeyList>,
}

impl SignedKeyList {
    fn parse(&self) -> Result<KeyList, Problem> {
        let list: KeyList = serde_json::from_str(&self.list)?;
        if list.release.len() > KEYS_MAX {
            return Err(Problem::TooMany { what: "release keys in a list", limit: KEYS_MAX });
        }
        if !list.release.iter().all(|key| is_key_name(&key.name)) {
            return Err(Problem::Name);
        }
        Ok(list)
    }

    fn is_signed_by(&self, root: &PublicKey) -> bool {
        let by_root = self.signatures.iter().take(2).filter(|signature| signature.root == *root);
        by_root.into_iter().any(|by| root.verifies(Purpose::KeyList, self.list.as_bytes(), &by.signature))
    }
}

impl KeyLists {
    /// Reads the lists that a bundle carries: no signature is checked yet.
    ///
    /// # Errors
    /// [`Problem`].
    pub fn parse(bytes: &[u8]) -> Result<Self, Problem> {
        let lists: Self = serde_json::from_slice(bytes)?;
        if lists.lists.len() > KEY_LISTS_MAX {
            return Err(Problem::TooMany { what: "lists of keys", limit: KEY_LISTS_MAX });
        }
        let mut counter = 0;
        for signed in &lists.lists {
            let list = signed.parse()?;
            if list.counter <= counter {
                return Err(Problem::Order);
            }
            counter = list.counter;
        }
        Ok(lists)
    }

    /// As it is written.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("plain data")
    }

    /// The newest list that a chain of signatures leads to from `root`, where it is newer than `counter`.
    ///
    /// # Errors
    /// A list on the chain leads to a root that did not sign it.
    pub fn newest(&self, root: &PublicKey, counter: u64) -> Result<Option<KeyList>, Problem> {
        let (mut root, mut newest) = (*root, None);
        for signed in &self.lists {
            let list = signed.parse()?;
            // Lists that others signed are not this box's: it goes on with the root it trusts.
            if list.counter <= counter || !signed.is_signed_by(&root) {
                continue;
            }
            if !signed.is_signed_by(&list.root) {
                return Err(Problem::NotSignedByNext { counter: list.counter });
            }
            root = list.root;
            newest = Some(list);
        }
        Ok(newest)
    }

    /// The last list, whoever signed it: what the next one follows.
    pub fn last(&self) -> Option<KeyList> {
        self.lists.last().and_then(|signed| signed.parse().ok())
    }

    /// Adds a list of `release` keys, signed by `root`, and by `next` where the root changes.
    ///
    /// # Errors
    /// There are too many lists or keys, a name can't be shown, or `root` is not the one that the last list leads to.
    pub fn push(
        &mut self,
        root: &SecretKey,
        next: Option<&SecretKey>,
        release: Vec<NamedKey>,
    ) -> Result<KeyList, Error> {
        let last = self.last();
        if last.as_ref().is_some_and(|last| last.root != root.public_key()) {
            return Err(Error::NotTheRoot { fingerprint: root.public_key().fingerprint() });
        }
        let counter = last.map_or(1, |last| last.counter + 1);
        let list = KeyList { counter, root: next.unwrap_or(root).public_key(), release };
        let text = serde_json::to_string(&list).expect("plain data");
        let sign = |key: &SecretKey| RootSignature {
            root: key.public_key(),
            signature: key.sign(Purpose::KeyList, text.as_bytes()),
        };
        let signatures = std::iter::once(root).chain(next).map(sign).collect();
        let mut longer = self.clone();
        longer.lists.push(SignedKeyList { list: text, signatures });
        let json = longer.to_json();
        Self::parse(&json).map_err(Error::KeyLists)?;
        if json.len() as u64 > KEY_LISTS_BYTES_MAX {
            return Err(Error::KeyLists(Problem::TooMany {
                what: "bytes",
                limit: KEY_LISTS_BYTES_MAX as usize,
            }));
        }
        *self = longer;
        Ok(list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::Role;

    fn root(n: u8) -> SecretKey {
        SecretKey::from_secret(Role::Root, "root", [n; 32]).unwrap()
    }

    fn named(n: u8) -> NamedKey {
        let key = SecretKey::from_secret(Role::Release, "release", [n; 32]).unwrap().public_key();
        NamedKey { name: format!("release {n}"), key }
    }

    /// Lists 1 and 2 by root 1; list 2 names root 2; list 3 by root 2.
    fn rotated() -> KeyLists {
        let mut lists = KeyLists::default();
        lists.push(&root(1), None, vec![named(11)]).unwrap();
        lists.push(&root(1), Some(&root(2)), vec![named(12)]).unwrap();
        lists.push(&root(2), None, vec![named(13)]).unwrap();
        KeyLists::parse(&lists.to_json()).unwrap()
    }

    #[test]
    fn a_box_follows_rotations_it_slept_through() {
        let list = rotated().newest(&root(1).public_key(), 0).unwrap().unwrap();
        assert_eq!((list.counter, list.root, list.release), (3, root(2).public_key(), vec![named(13)]));
        assert!(rotated().newest(&root(2).public_key(), 2).unwrap().is_some());
        assert_eq!(rotated().newest(&root(2).public_key(), 3).unwrap(), None, "nothing newer");
        assert_eq!(rotated().newest(&root(9).public_key(), 0).unwrap(), None, "a stranger's lists");
    }

    #[test]
    fn a_root_that_was_left_behind_signs_nothing_more() {
        let mut lists = KeyLists::default();
        lists.push(&root(1), Some(&root(2)), vec![named(11)]).unwrap();
        assert!(matches!(lists.push(&root(1), None, vec![named(66)]), Err(Error::NotTheRoot { .. })));
        // Put there by somebody who has the old root and other tools.
        let mut forged = KeyLists::default();
        forged.push(&root(1), None, vec![]).unwrap();
        forged.push(&root(1), None, vec![named(66)]).unwrap();
        lists.lists.push(forged.lists.pop().unwrap());
        let list = lists.newest(&root(1).public_key(), 0).unwrap().unwrap();
        assert_eq!(list.release, [named(11)]);
    }

    #[test]
    fn a_new_root_must_sign_too() {
        let mut lists = KeyLists::default();
        lists.push(&root(1), Some(&root(2)), vec![]).unwrap();
        lists.lists[0].signatures.pop();
        let result = lists.newest(&root(1).public_key(), 0);
        assert!(matches!(result, Err(Problem::NotSignedByNext { counter: 1 })));
    }

    #[test]
    fn a_changed_list_is_nobodys() {
        let mut lists = rotated();
        lists.lists[0].list = lists.lists[0].list.replace("release 11", "release 10");
        let list = lists.newest(&root(1).public_key(), 0).unwrap().unwrap();
        assert_eq!(list.counter, 3, "list 2 still leads on");
        for signed in &mut lists.lists {
            signed.list.push(' ');
        }
        assert_eq!(lists.newest(&root(1).public_key(), 0).unwrap(), None);
    }

    #[test]
    fn lists_out_of_order_are_refused() {
        let mut lists = rotated();
        lists.lists.swap(0, 1);
        assert!(matches!(KeyLists::parse(&lists.to_json()), Err(Problem::Order)));
    }
}
