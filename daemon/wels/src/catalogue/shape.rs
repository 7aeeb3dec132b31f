//! A model's hyperparameters against those the catalogue has for it.

use std::fmt;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use weights::{Architecture, Hyperparameters, Weights};

use super::{Entry, entries};

/// Relative difference at which two numbers are the same: files store some as products.
const TOLERANCE: f64 = 1e-5;

/// What tells one mixture of experts from another, as paths into [`Hyperparameters`].
const IDENTITY: [&str; 6] = ["n_layers", "d_model", "n_heads", "n_vocab", "moe.n_experts", "moe.top_k"];

/// `hyperparameters` of an entry.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(untagged)]
pub(crate) enum Shape {
    /// Those of the entry of this id.
    SameAs(String),
    /// Some or all fields of [`Hyperparameters`], under the names they have there.
    Fields(Map<String, Value>),
}

/// A field in which a file differs from the catalogue.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Difference {
    field: String,
    file: String,
    catalogue: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { field, file, catalogue } = self;
        write!(f, "{field} is {file} in the file and {catalogue} in the catalogue")
    }
}

/// A file that is one of the catalogue's models.
#[derive(Debug)]
pub(crate) struct Match {
    /// The model's name.
    pub(crate) name: String,
    /// Where the file differs from it.
    pub(crate) differences: Vec<Difference>,
}

impl Match {
    /// An error where there are differences.
    pub(crate) fn check(&self) -> Result<()> {
        if self.differences.is_empty() {
            return Ok(());
        }
        let list: Vec<String> = self.differences.iter().map(ToString::to_string).collect();
        anyhow::bail!("the file looks like {}, but {}", self.name, list.join("; "))
    }
}

/// Finds the catalogue's model that a file is: by the hash of a file it came from, by its name, or, for a mixture of
/// experts, by its shape. `None` for any other.
pub(crate) fn compare(weights: &Weights) -> Result<Option<Match>> {
    let hashes: Vec<&str> = weights.source().files.iter().filter_map(|file| file.sha256.as_deref()).collect();
    compare_with(&entries()?, weights.hyper(), &hashes)
}

fn compare_with(entries: &[Entry], hyper: &Hyperparameters, hashes: &[&str]) -> Result<Option<Match>> {
    let file = serde_json::to_value(hyper).context("hyperparameters as JSON")?;
    let is_named = |entry: &&Entry| {
        entry.has_one_of(hashes) || hyper.name.as_deref().is_some_and(|name| entry.is_called(name))
    };
    if let Some(entry) = entries.iter().find(is_named) {
        let Some(fields) = fields(entries, entry)? else { return Ok(None) };
        return Ok(Some(Match { name: entry.name.clone(), differences: differences(fields, &file) }));
    }
    if hyper.architecture != Architecture::DeepSeek2 {
        return Ok(None);
    }
    // Several models share a network, or nearly: the one that fits best speaks.
    let mut best: Option<Match> = None;
    for entry in entries {
        let Some(fields) = fields(entries, entry)?.filter(|fields| is_shaped(fields, &file)) else {
            continue;
        };
        let differences = differences(fields, &file);
        if best.as_ref().is_none_or(|best| differences.len() < best.differences.len()) {
            best = Some(Match { name: entry.name.clone(), differences });
        }
    }
    Ok(best)
}

/// The hyperparameters of the entry called `id`, as a file of the model would have them, without draft layers.
pub(crate) fn hyperparameters(id: &str) -> Result<Hyperparameters> {
    let entries = entries()?;
    let entry = entries.iter().find(|entry| entry.id == id).context("an id of the catalogue")?;
    let fields = fields(&entries, entry)?;
    let fields =
        fields.with_context(|| format!("models/{id} has no hyperparameters; give a file of the model"))?;
    // What the catalogue leaves to files: of these, only whether the head is the embedding changes what a model takes.
    let mut whole = serde_json::json!({
        "architecture": entry.architecture, "name": entry.name, "context": entry.context, "rms_eps": 1e-6,
        "n_draft_layers": 0, "tied": true,
    });
    let object = whole.as_object_mut().context("made as a table")?;
    object.extend(fields.clone());
    whole["rope"]["pairs"] = serde_json::json!(weights::RopePairs::Interleaved);
    serde_json::from_value(whole).with_context(|| format!("models/{id}"))
}

/// The fields an entry has, its own or another's.
fn fields<'a>(entries: &'a [Entry], entry: &'a Entry) -> Result<Option<&'a Map<String, Value>>> {
    match &entry.hyperparameters {
        None => Ok(None),
        Some(Shape::Fields(fields)) => Ok(Some(fields)),
        Some(Shape::SameAs(id)) => {
            let other = entries.iter().find(|entry| entry.id == *id);
            match other.and_then(|entry| entry.hyperparameters.as_ref()) {
                Some(Shape::Fields(fields)) => Ok(Some(fields)),
                _ => anyhow::bail!("models/{}: {id:?} is no entry with hyperparameters of its own", entry.id),
            }
        }
    }
}

fn is_shaped(fields: &Map<String, Value>, file: &Value) -> bool {
    let at = |path: &str| path.split('.').try_fold(file, |value, key| value.get(key));
    let leaves = leaves(fields);
    let of_entry = |path: &str| leaves.iter().find(|(leaf, _)| leaf == path).map(|(_, value)| *value);
    IDENTITY.iter().all(|path| at(path).is_some_and(|value| Some(value) == of_entry(path)))
}

/// Every field of the catalogue that the file has otherwise, or not at all.
fn differences(fields: &Map<String, Value>, file: &Value) -> Vec<Difference> {
    let differs = |(path, want): (String, &Value)| {
        let got = path.split('.').try_fold(file, |value, key| value.get(key)).unwrap_or(&Value::Null);
        (!is_same(got, want)).then(|| Difference { field: path, file: told(got), catalogue: told(want) })
    };
    leaves(fields).into_iter().filter_map(differs).collect()
}

/// Every value that is no table, with its path.
fn leaves(fields: &Map<String, Value>) -> Vec<(String, &Value)> {
    let mut all = Vec::new();
    for (key, value) in fields {
        match value {
            Value::Object(inner) => {
                all.extend(leaves(inner).into_iter().map(|(path, value)| (format!("{key}.{path}"), value)));
            }
            _ => all.push((key.clone(), value)),
        }
    }
    all
}

fn is_same(got: &Value, want: &Value) -> bool {
    match (got.as_f64(), want.as_f64()) {
        (Some(got), Some(want)) => (got - want).abs() <= TOLERANCE * want.abs(),
        _ => got == want,
    }
}

fn told(value: &Value) -> String {
    match value {
        Value::Null => "absent".into(),
        Value::String(text) => text.clone(),
        Value::Number(number) if number.is_f64() => format!("{}", number.as_f64().unwrap_or(f64::NAN) as f32),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The hyperparameters of an entry, as a file that is right would have them.
    fn file(id: &str, name: Option<&str>) -> Hyperparameters {
        Hyperparameters { name: name.map(str::to_owned), ..hyperparameters(id).unwrap() }
    }

    fn found(hyper: &Hyperparameters) -> Option<Match> {
        compare_with(&entries().unwrap(), hyper, &[]).unwrap()
    }

    #[test]
    fn every_entry_is_a_whole_model_that_agrees_with_itself() {
        for entry in entries().unwrap() {
            let hyper = file(&entry.id, Some(&entry.name));
            hyper.check().unwrap_or_else(|e| panic!("{}: {e}", entry.id));
            let found = found(&hyper).unwrap_or_else(|| panic!("{} is not found by its name", entry.id));
            assert_eq!((found.name.as_str(), &found.differences[..]), (entry.name.as_str(), &[][..]));
        }
    }

    #[test]
    fn every_field_of_an_entry_is_one_of_hyperparameters() {
        for entry in entries().unwrap() {
            let Some(Shape::Fields(fields)) = &entry.hyperparameters else { continue };
            let whole = serde_json::to_value(file(&entry.id, None)).unwrap();
            for (path, _) in leaves(fields) {
                let at = path.split('.').try_fold(&whole, |value, key| value.get(key));
                assert!(at.is_some(), "{}: {path}", entry.id);
            }
        }
    }

    #[test]
    fn a_difference_names_the_field_and_both_values() {
        let mut hyper = file("deepseek-r1", Some("DeepSeek R1 BF16"));
        hyper.moe.as_mut().unwrap().n_groups = 1;
        hyper.moe.as_mut().unwrap().top_k_groups = 1;
        hyper.rope.scaling = None;
        let error = found(&hyper).unwrap().check().unwrap_err().to_string();
        for words in [
            "the file looks like DeepSeek-R1, but ",
            "moe.n_groups is 1 in the file and 8 in the catalogue",
            "rope.scaling.factor is absent in the file and 40 in the catalogue",
        ] {
            assert!(error.contains(words), "{words}: {error}");
        }
    }

    #[test]
    fn a_mixture_of_experts_is_known_by_its_shape() {
        let mut hyper = file("deepseek-v3.1", Some("Anything at all"));
        assert!(found(&hyper).unwrap().differences.is_empty());
        hyper.moe.as_mut().unwrap().scale = 1.0;
        let error = found(&hyper).unwrap().check().unwrap_err().to_string();
        assert!(error.ends_with("but moe.scale is 1 in the file and 2.5 in the catalogue"), "{error}");
        // Kimi K2 comes with two contexts; a file of either is right.
        for id in ["kimi-k2-instruct", "kimi-k2-instruct-0905"] {
            assert!(found(&file(id, None)).unwrap().differences.is_empty(), "{id}");
        }
    }

    #[test]
    fn other_models_are_nobodys_business() {
        let mut pruned = file("deepseek-v3", Some("V3 with fewer experts"));
        pruned.moe.as_mut().unwrap().n_experts = 128;
        assert!(found(&pruned).is_none());
        // The shape of R1-Distill-Qwen-7B, and not its base of the frequencies: Qwen2.5-7B.
        let mut qwen = file("r1-distill-qwen-7b", Some("Qwen2.5 7B Instruct"));
        qwen.rope.theta = 1e6;
        assert!(found(&qwen).is_none());
    }
}
