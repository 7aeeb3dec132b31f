//! The header's JSON, with duplicate names refused: a map would keep the last one silently.

use std::collections::HashSet;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, Visitor};

/// A tensor as written.
#[derive(Debug, Deserialize)]
pub(super) struct RawTensor {
    pub(super) dtype: String,
    pub(super) shape: Vec<u64>,
    pub(super) data_offsets: [u64; 2],
}

/// Names and tensors; `__metadata__` is left out.
pub(super) fn parse(json: &[u8]) -> Result<Vec<(String, RawTensor)>, serde_json::Error> {
    let Table(tensors) = serde_json::from_slice(json)?;
    Ok(tensors)
}

struct Table(Vec<(String, RawTensor)>);

impl<'de> Deserialize<'de> for Table {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(TableVisitor)
    }
}

struct TableVisitor;

impl<'de> Visitor<'de> for TableVisitor {
    type Value = Table;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Table, A::Error> {
        let mut names = HashSet::new();
        let mut tensors = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            if name == "__metadata__" {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            if !names.insert(name.clone()) {
                return Err(A::Error::custom(format_args!("tensor {name:?} occurs more than once")));
            }
            tensors.push((name, map.next_value()?));
        }
        Ok(Table(tensors))
    }
}
