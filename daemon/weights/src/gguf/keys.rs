//! Reading metadata under an architecture's prefix.

use super::{Metadata, Value};
use crate::{BadField, ValueProblem};

/// Metadata under an architecture's prefix.
pub(super) struct Keys<'a> {
    pub(super) metadata: &'a Metadata,
    pub(super) prefix: &'static str,
}

impl Keys<'_> {
    /// The whole key.
    pub(super) fn name(&self, key: &str) -> String {
        format!("{}.{key}", self.prefix)
    }

    /// Reads `prefix.key`; an error names it.
    fn read<'k, T>(
        &'k self,
        key: &str,
        get: impl FnOnce(&'k Metadata, &str) -> Result<Option<T>, ValueProblem>,
    ) -> Result<Option<T>, BadField> {
        let name = self.name(key);
        get(self.metadata, &name).map_err(|problem| BadField { key: name, problem })
    }

    pub(super) fn uint(&self, key: &str) -> Result<Option<u64>, BadField> {
        self.read(key, Metadata::uint)
    }

    pub(super) fn float(&self, key: &str) -> Result<Option<f32>, BadField> {
        self.read(key, |metadata, name| Ok(metadata.float(name)?.map(|v| v as f32)))
    }

    pub(super) fn bool(&self, key: &str) -> Result<Option<bool>, BadField> {
        self.read(key, Metadata::bool)
    }

    pub(super) fn string(&self, key: &str) -> Result<Option<&str>, BadField> {
        self.read(key, Metadata::string)
    }

    pub(super) fn need_float(&self, key: &str) -> Result<f32, BadField> {
        self.float(key)?.ok_or_else(|| BadField::missing(self.name(key)))
    }

    pub(super) fn need(&self, key: &str) -> Result<usize, BadField> {
        self.size(key)?.ok_or_else(|| BadField::missing(self.name(key)))
    }

    /// A size; an array with one entry per layer counts if all entries are equal.
    pub(super) fn size(&self, key: &str) -> Result<Option<usize>, BadField> {
        let name = self.name(key);
        if let Some(Value::Ints(per_layer)) = self.metadata.get(&name) {
            let first = per_layer.first().copied().unwrap_or(0);
            if per_layer.iter().any(|&v| v != first) {
                return Err(BadField::unsupported(
                    name,
                    "a different value per layer",
                    "one value for all layers",
                ));
            }
            return Ok(Some(usize::try_from(first).unwrap_or(0)));
        }
        let value = self.uint(key)?;
        Ok(value.map(|v| usize::try_from(v).unwrap_or(usize::MAX)))
    }
}
