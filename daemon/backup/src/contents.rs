//! What a backup says of itself in its first member, `backup.json`, and what may follow.

use std::io::BufRead;

use serde::{Deserialize, Serialize};

use crate::age::Reader;
use crate::tar::{self, MEMBER_BYTES_MAX};
use crate::{Error, tar::read_size};

/// The database's name in the state folder.
pub const DATABASE: &str = "wels.sqlite";
/// The format that is written, and the newest that is read.
pub const FORMAT: u32 = 1;
/// The first member.
pub(crate) const HEADER: &str = "backup.json";

const HEADER_BYTES_MAX: u64 = 16 << 10;
/// A file of settings.
pub(crate) const SETTINGS_BYTES_MAX: u64 = 4 << 20;
/// Characters of a version's name.
const VERSION_CHARS_MAX: usize = 100;

/// What a backup carries, in this order, the database always: names in the state folder, and bytes they may have. What belongs
/// to the machine is not here: profiles of experts, reasons of a fallback.
pub(crate) const CARRIED: [(&str, u64); 2] =
    [(DATABASE, MEMBER_BYTES_MAX), ("trust.json", SETTINGS_BYTES_MAX)];

/// What a backup is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Info {
    /// [`FORMAT`] when it was made.
    pub format: u32,
    /// The version of Wels that made it.
    pub version: String,
    /// When, unix ms, by the clock of the box.
    pub made_ms: u64,
    /// The version of the database's schema.
    pub schema: usize,
    /// What it carries.
    pub parts: Vec<Part>,
}

/// A file of the state folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// Its name.
    pub name: String,
    /// Its size.
    pub bytes: u64,
}

impl Info {
    /// Bytes of all parts.
    pub fn bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.bytes).sum()
    }

    pub(crate) fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("plain data")
    }

    /// Reads the first member.
    pub(crate) fn read<R: BufRead>(from: &mut Reader<R>) -> Result<Self, Error> {
        let bytes = read_size(from, HEADER)?;
        if bytes > HEADER_BYTES_MAX {
            return Err(wrong(format!("{HEADER} has {bytes} bytes, {HEADER_BYTES_MAX} at most")));
        }
        let mut json = vec![0; bytes as usize];
        from.read_exact(&mut json)?;
        tar::read_padding(from, bytes)?;
        Self::parse(&json)
    }

    pub(crate) fn parse(json: &[u8]) -> Result<Self, Error> {
        /// What every format has.
        #[derive(Deserialize)]
        struct Any {
            format: u32,
        }
        let not_json = |cause: serde_json::Error| wrong(format!("{HEADER}: {cause}"));
        let Any { format } = serde_json::from_slice(json).map_err(not_json)?;
        if format > FORMAT {
            return Err(Error::NewerFormat { found: format, known: FORMAT });
        }
        let info: Self = serde_json::from_slice(json).map_err(not_json)?;
        info.check().map(|()| info)
    }

    fn check(&self) -> Result<(), Error> {
        let mut carried = CARRIED.iter();
        for part in &self.parts {
            // In their order, so none comes twice.
            let Some((_, bytes_max)) = carried.find(|(name, _)| *name == part.name) else {
                return Err(wrong(format!(
                    "it names {:?}, which is nothing that a backup carries there",
                    part.name
                )));
            };
            if part.bytes > *bytes_max {
                return Err(wrong(format!("{} has {} bytes, {bytes_max} at most", part.name, part.bytes)));
            }
        }
        let printable = self.version.chars().all(|c| !c.is_control());
        if !printable || self.version.chars().count() > VERSION_CHARS_MAX {
            return Err(wrong("its version is no name of a version".into()));
        }
        match self.parts.first() {
            Some(part) if part.name == DATABASE => Ok(()),
            _ => Err(wrong("it brings no database".into())),
        }
    }
}

fn wrong(what: String) -> Error {
    Error::Contents { what }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn info(parts: &[(&str, u64)]) -> Info {
        let part = |&(name, bytes): &(&str, u64)| Part { name: name.into(), bytes };
        let parts = parts.iter().map(part).collect();
        Info { format: 1, version: "0.1.0".into(), made_ms: 1, schema: 3, parts }
    }

    fn refusal(info: &Info) -> String {
        Info::parse(&info.to_json()).unwrap_err().to_string()
    }

    #[test]
    fn only_what_a_backup_carries_is_taken() {
        let right = info(&[(DATABASE, 4096), ("trust.json", 20)]);
        assert_eq!(Info::parse(&right.to_json()).unwrap(), right);
        assert!(refusal(&info(&[])).contains("no database"));
        assert!(refusal(&info(&[("trust.json", 20)])).contains("no database"));
        for name in ["../wels.sqlite", "/etc/passwd", "experts/a.json", "", DATABASE] {
            assert!(refusal(&info(&[(DATABASE, 1), (name, 1)])).contains("nothing that a backup carries"));
        }
        assert!(refusal(&info(&[(DATABASE, u64::MAX)])).contains("at most"));
        assert!(refusal(&info(&[(DATABASE, 1), ("trust.json", 5 << 20)])).contains("at most"));
        assert!(refusal(&Info { version: "\x1b[2J".into(), ..right }).contains("version"));
    }

    #[test]
    fn a_newer_format_is_told_apart_whatever_it_holds() {
        let newer = Info::parse(br#"{"format":2,"chapters":[]}"#);
        assert!(matches!(newer, Err(Error::NewerFormat { found: 2, known: 1 })));
    }

    proptest! {
        #[test]
        fn anything_is_parsed_or_refused(json in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Info::parse(&json);
        }
    }
}
