//! [`Tokenizer`]: text to token ids and back, for byte-pair-encoding vocabularies from either kind of model file.

mod bpe;
mod gguf;
mod json;
mod pieces;
mod pre;
mod spm;

use std::borrow::Cow;
use std::collections::BTreeSet;

use tokenizers::models::bpe::BPE;
use tokenizers::{
    Model, Normalizer, NormalizerWrapper, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer,
    PreTokenizerWrapper,
};

pub use self::gguf::GgufVocab;
use self::pieces::Pieces;
use crate::Error;
use crate::added::{AddedTokens, Span};

/// Longest text [`Tokenizer::encode`] takes: more than any listed model's context holds of ordinary text.
///
/// Set by the example `encode_cost`: time grows with the length alone, but each byte takes 100 to 330 bytes of memory
/// while it is being tokenized.
pub const MAX_ENCODE_BYTES: usize = 2 << 20;

/// Largest vocabulary accepted; the largest published one has 262,144 tokens.
pub const MAX_VOCAB: usize = 1 << 20;

/// Spellings that end an answer when they are added tokens, whatever the file says its one EOS is: chat models end
/// turns with a token of their own.
const END_OF_TURN: [&str; 8] = [
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end|>",
    "<|end_of_text|>",
    "<|endoftext|>",
    "<end_of_turn>",
    "<｜end▁of▁sentence｜>",
];

/// What the spelling of a special token in a text means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Special {
    /// Plain text: for anything a user wrote.
    Plain,
    /// The token itself: for text the program or the model's own template wrote.
    Recognise,
}

/// The steps from text to ids; each as in the `tokenizers` crate.
struct Steps {
    normalizer: Option<NormalizerWrapper>,
    pre_tokenizer: Option<PreTokenizerWrapper>,
    bpe: BPE,
}

/// Ids that the model file names, and what it says about using them.
#[derive(Clone, Debug, Default)]
struct Named {
    bos: Option<u32>,
    eos: Option<u32>,
    add_bos: bool,
}

/// A vocabulary with everything needed to encode and decode; immutable and shared between threads.
pub struct Tokenizer {
    steps: Steps,
    added: AddedTokens,
    pieces: Pieces,
    named: Named,
    eos_ids: BTreeSet<u32>,
    chat_template: Option<String>,
}

impl Tokenizer {
    /// Reads `tokenizer.json` and, for BOS, EOS and the chat template, `tokenizer_config.json`.
    ///
    /// # Errors
    /// The files are malformed, or the model is not byte-pair encoding.
    pub fn from_json(tokenizer: &[u8], config: Option<&[u8]>) -> Result<Self, Error> {
        json::read(tokenizer, config)
    }

    /// Builds the tokenizer of a GGUF file from its metadata.
    ///
    /// # Errors
    /// The tokenizer's model or its pre-tokenizer is not known, or the vocabulary contradicts itself.
    pub fn from_gguf(vocab: GgufVocab) -> Result<Self, Error> {
        gguf::build(vocab)
    }

    fn assemble(steps: Steps, added: AddedTokens, pieces: Pieces, named: Named) -> Self {
        let ends = END_OF_TURN.iter().filter_map(|spelling| added.id_of(spelling));
        let eos_ids = named.eos.into_iter().chain(ends).collect();
        Self { steps, added, pieces, named, eos_ids, chat_template: None }
    }

    /// Token ids of a text. BOS is not added: see [`Self::add_bos`].
    ///
    /// # Errors
    /// The text is longer than [`MAX_ENCODE_BYTES`].
    pub fn encode(&self, text: &str, special: Special) -> Result<Vec<u32>, Error> {
        check_length(text)?;
        let spans = self.added.split(text, special == Special::Recognise);
        self.encode_spans(text, spans, None)
    }

    /// [`Self::encode`] of a text in which `sentinel` keeps forged spellings apart; it is gone before the text is
    /// tokenized.
    pub(crate) fn encode_shielded(&self, text: &str, sentinel: char) -> Result<Vec<u32>, Error> {
        check_length(text)?;
        self.encode_spans(text, self.added.split(text, true), Some(sentinel))
    }

    /// Each stretch of text is tokenized by itself: no merge crosses an added token.
    fn encode_spans(&self, text: &str, spans: Vec<Span>, drop: Option<char>) -> Result<Vec<u32>, Error> {
        let mut ids = Vec::new();
        for span in spans {
            match span.id {
                Some(id) => ids.push(id),
                None => self.steps.run(&text[span.range], drop, &mut ids).map_err(Error::encode)?,
            }
        }
        Ok(ids)
    }

    /// Text of a sequence of ids; `skip_special` leaves special tokens out. Bytes that are not UTF-8 become U+FFFD and
    /// ids outside the vocabulary are empty.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> String {
        let shown = ids.iter().filter(|&&id| !(skip_special && self.is_special(id)));
        let bytes: Vec<u8> = shown.flat_map(|&id| self.token_bytes(id)).copied().collect();
        let text = String::from_utf8_lossy(&bytes);
        text.strip_prefix(self.pieces.prefix()).unwrap_or(&text).to_owned()
    }

    /// The bytes a token stands for, possibly only a part of a character. Empty for ids outside the vocabulary.
    pub fn token_bytes(&self, id: u32) -> &[u8] {
        self.pieces.bytes(id)
    }

    /// What a token alone would show: its bytes, with U+FFFD where they are not UTF-8.
    pub fn token_text(&self, id: u32) -> String {
        String::from_utf8_lossy(self.token_bytes(id)).into_owned()
    }

    /// One more than the highest id. The model's output may be wider: it is often padded.
    pub fn n_vocab(&self) -> usize {
        self.pieces.len()
    }

    /// Id of a token by its spelling in the vocabulary (`Ġthe`, `<|im_end|>`).
    pub fn id_of(&self, token: &str) -> Option<u32> {
        self.added.id_of(token).or_else(|| self.steps.bpe.token_to_id(token))
    }

    /// The beginning-of-sequence token.
    pub fn bos(&self) -> Option<u32> {
        self.named.bos
    }

    /// Whether raw text (not a rendered chat template, which writes its own) should begin with [`Self::bos`].
    pub fn add_bos(&self) -> bool {
        self.named.add_bos && self.named.bos.is_some()
    }

    /// The file's own end-of-sequence token.
    pub fn eos(&self) -> Option<u32> {
        self.named.eos
    }

    /// Every token that ends an answer: the file's EOS, the known end-of-turn tokens, and those given to
    /// [`Self::add_eos_ids`].
    pub fn eos_ids(&self) -> &BTreeSet<u32> {
        &self.eos_ids
    }

    /// Takes in the `eos_token_id` list of `generation_config.json`.
    pub fn add_eos_ids(&mut self, ids: impl IntoIterator<Item = u32>) {
        self.eos_ids.extend(ids);
    }

    /// Whether a token is left out of text shown to people. `<think>` and `</think>` never are: they say where the
    /// answer begins.
    pub fn is_special(&self, id: u32) -> bool {
        self.pieces.is_special(id)
    }

    /// The template in the file the tokenizer was read from.
    pub fn chat_template(&self) -> Option<&str> {
        self.chat_template.as_deref()
    }

    /// White space that the encoder puts before a text and the decoder takes away again; empty for most.
    pub(crate) fn prefix(&self) -> &'static str {
        self.pieces.prefix()
    }

    pub(crate) fn added(&self) -> &AddedTokens {
        &self.added
    }
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let n_vocab = self.n_vocab();
        f.debug_struct("Tokenizer")
            .field("n_vocab", &n_vocab)
            .field("named", &self.named)
            .finish_non_exhaustive()
    }
}

impl Steps {
    fn run(&self, text: &str, drop: Option<char>, ids: &mut Vec<u32>) -> tokenizers::Result<()> {
        let text = drop.map_or(Cow::Borrowed(text), |sentinel| Cow::Owned(text.replace(sentinel, "")));
        let mut work = PreTokenizedString::from(&*text);
        if let Some(normalizer) = &self.normalizer {
            work.normalize(|piece| normalizer.normalize(piece))?;
        }
        if let Some(pre_tokenizer) = &self.pre_tokenizer {
            pre_tokenizer.pre_tokenize(&mut work)?;
        }
        work.tokenize(|piece| self.bpe.tokenize(piece.get()))?;
        let words = work.get_splits(OffsetReferential::Normalized, OffsetType::None);
        ids.extend(words.iter().flat_map(|(_, _, tokens)| tokens.iter().flatten()).map(|token| token.id));
        Ok(())
    }
}

fn check_length(text: &str) -> Result<(), Error> {
    if text.len() > MAX_ENCODE_BYTES {
        return Err(Error::TextTooLong { bytes: text.len(), max_bytes: MAX_ENCODE_BYTES });
    }
    Ok(())
}
