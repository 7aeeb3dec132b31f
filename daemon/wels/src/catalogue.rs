//! The catalogue of models, carried in the binary.

mod shape;

use anyhow::{Context, Result, bail};
use rust_embed::RustEmbed;
use serde::{Deserialize, Serialize};

use shape::Shape;
pub(crate) use shape::{compare, hyperparameters};

/// `models/*/model.toml`.
#[derive(RustEmbed)]
#[folder = "$CARGO_MANIFEST_DIR/../../models"]
#[include = "*/model.toml"]
struct Files;

/// One model.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) architecture: String,
    pub(crate) licence: String,
    pub(crate) context: usize,
    pub(crate) template: String,
    pub(crate) about: String,
    hyperparameters: Option<Shape>,
    pub(crate) source: Source,
    #[serde(default)]
    pub(crate) placement: Placement,
}

/// Where a model comes from.
#[derive(Debug, Deserialize, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub(crate) enum Source {
    /// A hub's repository.
    Hub { repo: String, revision: String, index: Option<String>, files: Vec<File> },
    /// A file inside Python packages.
    Package { package: String, version: String, file: String, bytes: u64, sha256: String },
}

/// A published file.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct File {
    pub(crate) name: String,
    sha256: String,
}

/// What a model needs.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Placement {
    pub(crate) ram_bytes: Option<u64>,
}

impl Source {
    /// The hashes that are known, of whatever files.
    fn known_sha256s(&self) -> Vec<&str> {
        match self {
            Source::Package { sha256, .. } => vec![sha256],
            Source::Hub { files, .. } => files.iter().filter_map(File::known_sha256).collect(),
        }
    }
}

impl File {
    /// The hash, where one is known.
    pub(crate) fn known_sha256(&self) -> Option<&str> {
        (self.sha256 != "unknown").then_some(&self.sha256)
    }
}

impl Entry {
    /// Whether one of its files has one of these hashes.
    fn has_one_of(&self, hashes: &[&str]) -> bool {
        let known = self.source.known_sha256s();
        hashes.iter().any(|hash| known.iter().any(|known| known.eq_ignore_ascii_case(hash)))
    }

    /// Whether a file that calls itself `name` is of this model: letters and digits count, and converters add the
    /// format they read.
    fn is_called(&self, name: &str) -> bool {
        let plain = |text: &str| -> String {
            text.chars().filter(|c| c.is_alphanumeric()).map(|c| c.to_ascii_lowercase()).collect()
        };
        let name = plain(name);
        let name = ["bf16", "gguf"].iter().find_map(|format| name.strip_suffix(format)).unwrap_or(&name);
        name == plain(&self.name) || name == plain(&self.id)
    }
}

/// All entries, by id.
pub(crate) fn entries() -> Result<Vec<Entry>> {
    let mut entries = Files::iter()
        .map(|path| {
            let file = Files::get(&path).context("listed a moment ago")?;
            let text = std::str::from_utf8(&file.data)?;
            toml::from_str::<Entry>(text).with_context(|| format!("models/{path}"))
        })
        .collect::<Result<Vec<_>>>()?;
    entries.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(entries)
}

/// The entry called `id`.
pub(crate) fn find(id: &str) -> Result<Entry> {
    let entries = entries()?;
    let known: Vec<String> = entries.iter().map(|entry| entry.id.clone()).collect();
    match entries.into_iter().find(|entry| entry.id == id) {
        Some(entry) => Ok(entry),
        None => bail!("no model {id:?} in the catalogue; there are: {}", known.join(", ")),
    }
}

/// The name of the entry that one of these hashes belongs to.
pub(crate) fn name_by_sha256(hashes: &[&str]) -> Option<String> {
    entries().ok()?.into_iter().find(|entry| entry.has_one_of(hashes)).map(|entry| entry.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_is_well_formed() {
        let entries = entries().unwrap();
        assert!(entries.len() >= 16);
        for entry in entries {
            assert!(
                Files::get(&format!("{}/model.toml", entry.id)).is_some(),
                "{}: folder and id differ",
                entry.id
            );
            assert!(["llama", "qwen2", "deepseek2"].contains(&entry.architecture.as_str()), "{}", entry.id);
            let is_hash = |hash: &&str| hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit());
            assert!(
                entry.source.known_sha256s().iter().all(is_hash),
                "{}: a hash is 64 hex digits",
                entry.id
            );
        }
    }
}
