//! A tokenizer in metadata: `tokenizer.ggml.*`, read and written.

use super::{Metadata, MetadataWriter};
use crate::{BadField, GgufTokenizer, ValueProblem};

const MODEL: &str = "tokenizer.ggml.model";
const PRE: &str = "tokenizer.ggml.pre";
const TOKENS: &str = "tokenizer.ggml.tokens";
const TYPES: &str = "tokenizer.ggml.token_type";
const MERGES: &str = "tokenizer.ggml.merges";
const SCORES: &str = "tokenizer.ggml.scores";
const BOS: &str = "tokenizer.ggml.bos_token_id";
const EOS: &str = "tokenizer.ggml.eos_token_id";
const EOT: &str = "tokenizer.ggml.eot_token_id";
const EOM: &str = "tokenizer.ggml.eom_token_id";
const UNK: &str = "tokenizer.ggml.unknown_token_id";
const PAD: &str = "tokenizer.ggml.padding_token_id";
const ADD_BOS: &str = "tokenizer.ggml.add_bos_token";
const ADD_EOS: &str = "tokenizer.ggml.add_eos_token";
const ADD_SPACE: &str = "tokenizer.ggml.add_space_prefix";

impl GgufTokenizer {
    /// Reads the tokenizer out of a file's metadata; `None` where it has none.
    ///
    /// # Errors
    /// A field of the wrong type, an array of the wrong length, an id beyond the vocabulary.
    pub fn from_metadata(metadata: &Metadata) -> Result<Option<Self>, BadField> {
        let read = Reader { metadata };
        let Some(model) = read.field(MODEL, Metadata::string)?.filter(|&model| model != "none") else {
            return Ok(None);
        };
        let tokens = read.field(TOKENS, Metadata::strings)?.ok_or_else(|| BadField::missing(TOKENS))?;
        let n = tokens.len();
        Ok(Some(Self {
            model: model.into(),
            pre: read.field(PRE, Metadata::string)?.map(str::to_owned),
            tokens: tokens.into(),
            token_types: read.per_token(TYPES, n, Metadata::ints, |&v| i32::try_from(v).unwrap_or(0))?,
            merges: read.field(MERGES, Metadata::strings)?.unwrap_or_default().into(),
            scores: read.per_token(SCORES, n, Metadata::floats, |&v| v as f32)?,
            bos: read.id(BOS, n)?,
            eos: read.id(EOS, n)?,
            eot: read.id(EOT, n)?,
            eom: read.id(EOM, n)?,
            unk: read.id(UNK, n)?,
            pad: read.id(PAD, n)?,
            add_bos: read.field(ADD_BOS, Metadata::bool)?,
            add_eos: read.field(ADD_EOS, Metadata::bool)?,
            add_space_prefix: read.field(ADD_SPACE, Metadata::bool)?,
        }))
    }

    /// A GGUF file of metadata alone, from which [`from_metadata`](Self::from_metadata) gives an equal tokenizer.
    pub fn to_gguf(&self) -> Vec<u8> {
        let mut out = MetadataWriter::new();
        out.string(MODEL, &self.model);
        self.pre.iter().for_each(|pre| out.string(PRE, pre));
        out.strings(TOKENS, &self.tokens);
        if !self.token_types.is_empty() {
            out.i32s(TYPES, &self.token_types);
        }
        if !self.merges.is_empty() {
            out.strings(MERGES, &self.merges);
        }
        if !self.scores.is_empty() {
            out.f32s(SCORES, &self.scores);
        }
        let ids = [
            (BOS, self.bos),
            (EOS, self.eos),
            (EOT, self.eot),
            (EOM, self.eom),
            (UNK, self.unk),
            (PAD, self.pad),
        ];
        for (key, id) in ids {
            id.iter().for_each(|&id| out.u32(key, id));
        }
        let flags = [(ADD_BOS, self.add_bos), (ADD_EOS, self.add_eos), (ADD_SPACE, self.add_space_prefix)];
        for (key, flag) in flags {
            flag.iter().for_each(|&flag| out.bool(key, flag));
        }
        out.finish()
    }
}

struct Reader<'a> {
    metadata: &'a Metadata,
}

impl<'a> Reader<'a> {
    fn field<T>(
        &self,
        key: &'static str,
        get: impl FnOnce(&'a Metadata, &str) -> Result<Option<T>, ValueProblem>,
    ) -> Result<Option<T>, BadField> {
        get(self.metadata, key).map_err(|problem| BadField::new(key, problem))
    }

    /// An array with one value a token, or none at all.
    fn per_token<T: 'a, U>(
        &self,
        key: &'static str,
        n_tokens: usize,
        get: impl FnOnce(&'a Metadata, &str) -> Result<Option<&'a [T]>, ValueProblem>,
        convert: impl Fn(&T) -> U,
    ) -> Result<Vec<U>, BadField> {
        let values = self.field(key, get)?.unwrap_or_default();
        if !values.is_empty() && values.len() != n_tokens {
            return Err(BadField::range(key, format!("{} values", values.len()), "one value a token"));
        }
        Ok(values.iter().map(convert).collect())
    }

    fn id(&self, key: &'static str, n_tokens: usize) -> Result<Option<u32>, BadField> {
        match self.field(key, Metadata::uint)? {
            Some(id) if id >= n_tokens as u64 => Err(BadField::range(key, id, "a token of the vocabulary")),
            id => Ok(id.map(|id| u32::try_from(id).expect("below the length of an array with a limit"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::Header;

    #[test]
    fn survives_writing_and_reading() {
        let tokenizer = GgufTokenizer {
            model: "gpt2".into(),
            pre: Some("qwen2".into()),
            tokens: vec!["!".into(), "Ġa".into(), "鲶".into()],
            token_types: vec![1, 3, -1],
            merges: vec!["Ġ a".into()],
            scores: vec![0.1, f32::MIN_POSITIVE, -7.5],
            bos: Some(0),
            eot: Some(2),
            add_bos: Some(false),
            ..GgufTokenizer::default()
        };
        let header = Header::parse(&tokenizer.to_gguf()).expect("our own file");
        assert_eq!(GgufTokenizer::from_metadata(&header.metadata), Ok(Some(tokenizer)));
    }

    #[test]
    fn refuses_ids_beyond_the_vocabulary() {
        let tokenizer = GgufTokenizer {
            model: "gpt2".into(),
            tokens: vec!["!".into()],
            eos: Some(1),
            ..Default::default()
        };
        let header = Header::parse(&tokenizer.to_gguf()).expect("our own file");
        let field = GgufTokenizer::from_metadata(&header.metadata).expect_err("id 1 of 1 token");
        assert_eq!(
            field.to_string(),
            "tokenizer.ggml.eos_token_id: 1, but it must be a token of the vocabulary"
        );
    }
}
