//! The small files beside the tensors: tokenizer, chat template, generation defaults, licence.

use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::files::read_small;
use crate::generation::Generation;
use crate::{Error, TokenizerFiles};

pub(crate) const TOKENIZER: &str = "tokenizer.json";
pub(crate) const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
/// Largest `tokenizer.json`; real ones have up to some 35 MB.
pub(crate) const MAX_TOKENIZER_BYTES: u64 = 128 << 20;
/// Largest of the other small files.
const MAX_SMALL_BYTES: u64 = 16 << 20;
/// Names under which the licence's text is published.
const LICENCES: [&str; 4] = ["LICENSE", "LICENSE.txt", "LICENSE.md", "LICENSE-MODEL"];

/// A side file whole; `None` if there is none.
pub(super) fn small(folder: &Path, name: &str) -> Result<Option<Vec<u8>>, Error> {
    read_small(&folder.join(name), MAX_SMALL_BYTES)
}

/// `tokenizer.json` and `tokenizer_config.json`.
pub(super) fn tokenizer(folder: &Path) -> Result<Option<TokenizerFiles>, Error> {
    let Some(tokenizer_json) = read_small(&folder.join(TOKENIZER), MAX_TOKENIZER_BYTES)? else {
        return Ok(None);
    };
    Ok(Some(TokenizerFiles::Json { tokenizer_json, config: small(folder, TOKENIZER_CONFIG)? }))
}

/// The licence's text.
pub(super) fn licence(folder: &Path) -> Result<Option<Vec<u8>>, Error> {
    for name in LICENCES {
        if let Some(text) = small(folder, name)? {
            return Ok(Some(text));
        }
    }
    Ok(None)
}

/// Where a template can stand, and how.
#[derive(Default, Deserialize)]
#[serde(default)]
struct TemplateHolder {
    chat_template: Option<Template>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Template {
    One(String),
    Named(Vec<NamedTemplate>),
}

#[derive(Deserialize)]
struct NamedTemplate {
    name: String,
    template: String,
}

impl Template {
    /// Of several templates the one called `default`.
    fn text(self) -> Option<String> {
        match self {
            Template::One(text) => Some(text),
            Template::Named(all) => all.into_iter().find(|t| t.name == "default").map(|t| t.template),
        }
    }
}

/// The chat template: a file of its own, or a key of one of two others, in transformers' order.
pub(super) fn chat_template(folder: &Path) -> Result<Option<String>, Error> {
    if let Some(text) = small(folder, "chat_template.jinja")? {
        return Ok(Some(String::from_utf8_lossy(&text).into_owned()));
    }
    for name in ["chat_template.json", TOKENIZER_CONFIG] {
        let holder: Option<TemplateHolder> = json(folder, name)?;
        if let Some(text) = holder.and_then(|holder| holder.chat_template).and_then(Template::text) {
            return Ok(Some(text));
        }
    }
    Ok(None)
}

/// `eos_token_id` is one id or several.
#[derive(Deserialize)]
#[serde(untagged)]
enum Ids {
    One(u32),
    Many(Vec<u32>),
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct GenerationConfig {
    bos_token_id: Option<u32>,
    eos_token_id: Option<Ids>,
    do_sample: Option<bool>,
    temperature: Option<f32>,
    top_p: Option<f32>,
    top_k: Option<u32>,
    min_p: Option<f32>,
    repetition_penalty: Option<f32>,
}

/// `generation_config.json`, its end tokens from `config.json` where it has none.
pub(super) fn generation(folder: &Path, config: &str) -> Result<Generation, Error> {
    let published: GenerationConfig = json(folder, "generation_config.json")?.unwrap_or_default();
    let fallback: GenerationConfig = json(folder, config)?.unwrap_or_default();
    let eos_ids = match published.eos_token_id.or(fallback.eos_token_id) {
        None => Vec::new(),
        Some(Ids::One(id)) => vec![id],
        Some(Ids::Many(ids)) => ids,
    };
    let greedy = published.do_sample == Some(false);
    Ok(Generation {
        eos_ids,
        bos_id: published.bos_token_id.or(fallback.bos_token_id),
        temperature: if greedy { Some(0.0) } else { published.temperature },
        top_p: published.top_p,
        top_k: published.top_k,
        min_p: published.min_p,
        repetition_penalty: published.repetition_penalty,
    })
}

/// A side file's JSON; `None` if there is no such file.
pub(super) fn json<T: DeserializeOwned>(folder: &Path, name: &str) -> Result<Option<T>, Error> {
    let Some(bytes) = small(folder, name)? else { return Ok(None) };
    let parsed = serde_json::from_slice(&bytes);
    parsed.map(Some).map_err(|cause| Error::Json { path: folder.join(name), cause })
}
