//! `tokenizer.json` and `tokenizer_config.json` as Hugging Face writes them.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::Value;
use tokenizers::pre_tokenizers::metaspace::PrependScheme;
use tokenizers::{NormalizerWrapper, PreTokenizerWrapper};

use super::bpe::{self, BpeOptions};
use super::pieces::{Pieces, Spelling};
use super::{MAX_VOCAB, Named, Steps, Tokenizer};
use crate::Error;
use crate::added::{AddedToken, AddedTokens};

#[derive(Deserialize)]
struct TokenizerJson {
    #[serde(default)]
    added_tokens: Vec<AddedJson>,
    normalizer: Option<NormalizerWrapper>,
    pre_tokenizer: Option<PreTokenizerWrapper>,
    decoder: Option<Value>,
    model: BpeJson,
}

/// Only the kind of the model, read first, so that another kind is refused by name.
#[derive(Deserialize)]
struct Kind {
    model: ModelKind,
}

#[derive(Deserialize)]
struct ModelKind {
    #[serde(rename = "type")]
    kind: Option<String>,
}

#[derive(Deserialize)]
struct AddedJson {
    id: u32,
    content: String,
    #[serde(default)]
    special: bool,
    #[serde(default)]
    lstrip: bool,
    #[serde(default)]
    rstrip: bool,
    #[serde(default)]
    single_word: bool,
}

#[derive(Deserialize)]
struct BpeJson {
    vocab: HashMap<String, u32>,
    merges: Vec<MergeJson>,
    unk_token: Option<String>,
    #[serde(default)]
    byte_fallback: bool,
    #[serde(default)]
    fuse_unk: bool,
    #[serde(default)]
    ignore_merges: bool,
    continuing_subword_prefix: Option<String>,
    end_of_word_suffix: Option<String>,
}

/// Older files write `"Ġ t"`, newer ones `["Ġ", "t"]`.
#[derive(Deserialize)]
#[serde(untagged)]
enum MergeJson {
    Joined(String),
    Pair(String, String),
}

#[derive(Default, Deserialize)]
struct ConfigJson {
    bos_token: Option<TokenJson>,
    eos_token: Option<TokenJson>,
    #[serde(default)]
    add_bos_token: bool,
    chat_template: Option<TemplateJson>,
}

/// A token by its spelling, bare or as an object.
#[derive(Deserialize)]
#[serde(untagged)]
enum TokenJson {
    Bare(String),
    Object { content: String },
}

/// One template, or several by name of which `default` is the chat's.
#[derive(Deserialize)]
#[serde(untagged)]
enum TemplateJson {
    One(String),
    Named(Vec<NamedTemplate>),
}

#[derive(Deserialize)]
struct NamedTemplate {
    name: String,
    template: String,
}

pub(super) fn read(tokenizer: &[u8], config: Option<&[u8]>) -> Result<Tokenizer, Error> {
    let Kind { model } = parse("tokenizer.json", tokenizer)?;
    if let Some(kind) = model.kind.filter(|kind| kind != "BPE") {
        return Err(Error::UnsupportedModel { model: kind, supported: "BPE" });
    }
    let json: TokenizerJson = parse("tokenizer.json", tokenizer)?;
    let config: ConfigJson =
        config.map_or_else(|| Ok(ConfigJson::default()), |c| parse("tokenizer_config.json", c))?;
    let spelling = spelling_of(json.decoder.as_ref())?;
    refuse_position_dependent(json.pre_tokenizer.as_ref())?;
    let added: Vec<AddedToken> = json.added_tokens.into_iter().map(AddedToken::from).collect();
    let pieces = pieces(spelling, &json.model.vocab, &added)?;
    let steps =
        Steps { normalizer: json.normalizer, pre_tokenizer: json.pre_tokenizer, bpe: json.model.build()? };
    let named = Named { add_bos: config.add_bos_token, ..Named::default() };
    let mut tokenizer = Tokenizer::assemble(steps, AddedTokens::new(added)?, pieces, named);
    tokenizer.configure(config);
    Ok(tokenizer)
}

impl Tokenizer {
    fn configure(&mut self, config: ConfigJson) {
        self.named.bos = config.bos_token.and_then(|token| self.id_of(token.spelling()));
        self.named.eos = config.eos_token.and_then(|token| self.id_of(token.spelling()));
        self.eos_ids.extend(self.named.eos);
        self.chat_template = config.chat_template.and_then(TemplateJson::into_default);
    }
}

fn parse<'a, T: Deserialize<'a>>(file: &'static str, bytes: &'a [u8]) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(|e| Error::Json { file, detail: e.to_string() })
}

/// Reads the decoder only as far as it decides how tokens spell bytes.
fn spelling_of(decoder: Option<&Value>) -> Result<Spelling, Error> {
    let kind = |d: &Value| d["type"].as_str().unwrap_or_default().to_owned();
    let decoder = decoder.cloned().unwrap_or_default();
    let steps = match decoder["decoders"].as_array() {
        Some(steps) => steps.iter().map(kind).collect(),
        None => vec![kind(&decoder)],
    };
    let has = |name: &str| steps.iter().any(|step| step == name);
    if has("ByteLevel") {
        Ok(Spelling::ByteLevel)
    } else if has("ByteFallback") {
        Ok(Spelling::SentencePiece { prefix: has("Strip") })
    } else {
        let model = format!("BPE with decoder {}", steps.join(", "));
        Err(Error::UnsupportedModel { model, supported: "decoders with ByteLevel or ByteFallback" })
    }
}

/// Text is tokenized stretch by stretch, so a step that asks whether a stretch begins the text would be misled.
fn refuse_position_dependent(pre_tokenizer: Option<&PreTokenizerWrapper>) -> Result<(), Error> {
    match pre_tokenizer {
        Some(PreTokenizerWrapper::Metaspace(m)) if m.prepend_scheme == PrependScheme::First => {
            let model = "Metaspace with prepend_scheme \"first\"".to_owned();
            Err(Error::UnsupportedModel { model, supported: "the model's GGUF file" })
        }
        Some(PreTokenizerWrapper::Sequence(steps)) => {
            steps.as_ref().iter().try_for_each(|step| refuse_position_dependent(Some(step)))
        }
        _ => Ok(()),
    }
}

/// Added tokens come last, so that their spelling wins where the vocabulary has the id too.
fn pieces(spelling: Spelling, vocab: &HashMap<String, u32>, added: &[AddedToken]) -> Result<Pieces, Error> {
    let ids = vocab.values().copied().chain(added.iter().map(|token| token.id));
    let n_vocab = ids.max().map_or(0, |id| id as usize + 1);
    if n_vocab > MAX_VOCAB {
        return Err(Error::vocabulary(format!("highest id {}; the limit is {MAX_VOCAB}", n_vocab - 1)));
    }
    let mut tokens = vec![None; n_vocab];
    for (token, &id) in vocab {
        tokens[id as usize] = Some((token.as_str(), false));
    }
    for token in added {
        tokens[token.id as usize] = Some((token.content.as_str(), token.special));
    }
    Ok(Pieces::new(spelling, &tokens))
}

impl From<AddedJson> for AddedToken {
    fn from(json: AddedJson) -> Self {
        let AddedJson { id, content, special, lstrip, rstrip, single_word } = json;
        Self { id, content, special, lstrip, rstrip, single_word }
    }
}

impl BpeJson {
    fn build(self) -> Result<tokenizers::models::bpe::BPE, Error> {
        let affixes = [self.continuing_subword_prefix, self.end_of_word_suffix];
        if affixes.iter().flatten().any(|affix| !affix.is_empty()) {
            let model = "BPE with subword affixes".to_owned();
            return Err(Error::UnsupportedModel { model, supported: "BPE without affixes" });
        }
        let merges = self.merges.into_iter().map(MergeJson::into_pair).collect::<Result<Vec<_>, _>>()?;
        let options = BpeOptions {
            ignore_merges: self.ignore_merges,
            byte_fallback: self.byte_fallback,
            fuse_unk: self.fuse_unk,
            unk_token: self.unk_token,
        };
        bpe::build(self.vocab.into_iter().collect(), merges, options)
    }
}

impl MergeJson {
    fn into_pair(self) -> Result<(String, String), Error> {
        match self {
            Self::Pair(left, right) => Ok((left, right)),
            Self::Joined(joined) => split_merge(&joined),
        }
    }
}

/// `"Ġ t"` is the pair (`Ġ`, `t`).
pub(super) fn split_merge(joined: &str) -> Result<(String, String), Error> {
    let (left, right) =
        joined.split_once(' ').ok_or_else(|| Error::vocabulary(format!("merge {joined:?} is not a pair")))?;
    Ok((left.to_owned(), right.to_owned()))
}

impl TokenJson {
    fn spelling(&self) -> &str {
        match self {
            Self::Bare(spelling) | Self::Object { content: spelling } => spelling,
        }
    }
}

impl TemplateJson {
    fn into_default(self) -> Option<String> {
        match self {
            Self::One(template) => Some(template),
            Self::Named(named) => named.into_iter().find(|t| t.name == "default").map(|t| t.template),
        }
    }
}
