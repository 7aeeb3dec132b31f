//! Vocabularies as GGUF files carry them, under `tokenizer.ggml.*`.

use tokenizers::models::bpe::Vocab;

use super::bpe::{self, BpeOptions};
use super::json::split_merge;
use super::pieces::{Pieces, Spelling};
use super::{MAX_VOCAB, Named, Steps, Tokenizer, pre, spm};
use crate::Error;
use crate::added::{AddedToken, AddedTokens};

/// The metadata under `tokenizer.ggml.*`, as plain data; field for field what the file says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GgufVocab {
    /// `model`: `gpt2` (byte-level BPE) or `llama` (SentencePiece).
    pub model: String,
    /// `pre`: how text is cut into words.
    pub pre: Option<String>,
    /// `tokens`: spelling by id.
    pub tokens: Vec<String>,
    /// `token_type` by id: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte. Empty if absent.
    pub token_types: Vec<i32>,
    /// `merges`: `"left right"`, best first.
    pub merges: Vec<String>,
    /// `scores` by id; only `llama` needs them.
    pub scores: Vec<f32>,
    /// `bos_token_id`
    pub bos: Option<u32>,
    /// `eos_token_id`
    pub eos: Option<u32>,
    /// `eot_token_id`: end of turn.
    pub eot: Option<u32>,
    /// `eom_token_id`: end of message.
    pub eom: Option<u32>,
    /// `unknown_token_id`
    pub unk: Option<u32>,
    /// `padding_token_id`
    pub pad: Option<u32>,
    /// `add_bos_token`
    pub add_bos: Option<bool>,
    /// `add_eos_token`
    pub add_eos: Option<bool>,
    /// `add_space_prefix`
    pub add_space_prefix: Option<bool>,
    /// `tokenizer.chat_template`
    pub chat_template: Option<String>,
}

/// What a token is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Text, made by merges.
    Text,
    /// An added token; `special` ones are not shown.
    Added { special: bool },
    /// Reserved; nothing encodes to it.
    Unused,
}

impl GgufVocab {
    fn kind(&self, id: usize) -> Kind {
        match self.token_types.get(id) {
            Some(2 | 3) => Kind::Added { special: true },
            Some(4) => Kind::Added { special: false },
            Some(5) => Kind::Unused,
            _ => Kind::Text,
        }
    }

    fn check(&self) -> Result<(), Error> {
        let n = self.tokens.len();
        if n == 0 || n > MAX_VOCAB {
            return Err(Error::vocabulary(format!("{n} tokens; want 1 to {MAX_VOCAB}")));
        }
        for (name, len) in [("token_type", self.token_types.len()), ("scores", self.scores.len())] {
            if len != 0 && len != n {
                return Err(Error::vocabulary(format!("{name} has {len} entries for {n} tokens")));
            }
        }
        let named = [("bos", self.bos), ("eos", self.eos), ("eot", self.eot), ("eom", self.eom)];
        match named.into_iter().find(|(_, id)| id.is_some_and(|id| id as usize >= n)) {
            Some((name, id)) => Err(Error::vocabulary(format!("{name} is {id:?} of {n} tokens"))),
            None => Ok(()),
        }
    }

    /// Tokens that text is made of, with their ids.
    fn text_tokens(&self) -> impl Iterator<Item = (&String, u32)> {
        (0..).zip(&self.tokens).filter(|(id, _)| self.kind(*id as usize) == Kind::Text).map(|(id, t)| (t, id))
    }

    fn added_tokens(&self) -> Vec<AddedToken> {
        let tokens = (0..).zip(&self.tokens);
        let added = tokens.filter_map(|(id, token)| match self.kind(id as usize) {
            Kind::Added { special } => Some((id, token.clone(), special)),
            _ => None,
        });
        added
            .map(|(id, content, special)| AddedToken {
                id,
                content,
                special,
                lstrip: false,
                rstrip: false,
                single_word: false,
            })
            .collect()
    }
}

pub(super) fn build(mut vocab: GgufVocab) -> Result<Tokenizer, Error> {
    vocab.check()?;
    let (steps, spelling, add_bos) = match vocab.model.as_str() {
        "gpt2" => byte_level(&mut vocab)?,
        "llama" => sentence_piece(&vocab)?,
        _ => return Err(Error::UnsupportedModel { model: vocab.model, supported: "gpt2, llama" }),
    };
    let special = |id: usize| vocab.kind(id) == Kind::Added { special: true };
    let tokens = vocab.tokens.iter().enumerate().map(|(id, token)| Some((token.as_str(), special(id))));
    let pieces = Pieces::new(spelling, &tokens.collect::<Vec<_>>());
    let named = Named { bos: vocab.bos, eos: vocab.eos, add_bos: vocab.add_bos.unwrap_or(add_bos) };
    let mut tokenizer = Tokenizer::assemble(steps, AddedTokens::new(vocab.added_tokens())?, pieces, named);
    tokenizer.add_eos_ids(vocab.eot.into_iter().chain(vocab.eom));
    tokenizer.chat_template = vocab.chat_template.take();
    Ok(tokenizer)
}

fn byte_level(vocab: &mut GgufVocab) -> Result<(Steps, Spelling, bool), Error> {
    let pre = pre::by_name(vocab.pre.as_deref())?;
    let merges = std::mem::take(&mut vocab.merges);
    let merges = merges.iter().map(|merge| split_merge(merge)).collect::<Result<Vec<_>, _>>()?;
    let ids: Vocab = vocab.text_tokens().map(|(token, id)| (token.clone(), id)).collect();
    let options = BpeOptions { ignore_merges: pre.ignore_merges, ..BpeOptions::default() };
    let bpe = bpe::build(ids, merges, options)?;
    let steps = Steps { normalizer: pre.normalizer, pre_tokenizer: Some(pre.pre_tokenizer), bpe };
    Ok((steps, Spelling::ByteLevel, pre.add_bos))
}

fn sentence_piece(vocab: &GgufVocab) -> Result<(Steps, Spelling, bool), Error> {
    if vocab.scores.is_empty() {
        return Err(Error::vocabulary("a llama vocabulary without scores"));
    }
    let prefix = vocab.add_space_prefix.unwrap_or(true);
    let scored: Vec<_> =
        vocab.text_tokens().map(|(token, id)| (token.as_str(), id, vocab.scores[id as usize])).collect();
    let mut ids: Vocab = scored.iter().map(|&(token, id, _)| (token.to_owned(), id)).collect();
    let unk_token = vocab.unk.and_then(|id| vocab.tokens.get(id as usize).cloned().zip(Some(id)));
    ids.extend(unk_token.clone());
    let options = BpeOptions {
        byte_fallback: true,
        fuse_unk: true,
        unk_token: unk_token.map(|(token, _)| token),
        ..BpeOptions::default()
    };
    let bpe = bpe::build(ids, spm::merges(&scored), options)?;
    let normalizer = Some(spm::normalizer(prefix).map_err(Error::encode)?);
    Ok((Steps { normalizer, pre_tokenizer: None, bpe }, Spelling::SentencePiece { prefix }, true))
}
