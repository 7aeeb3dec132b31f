//! Tokenizers as the files have them: plain data, understood elsewhere.

/// What a model brings to build a tokenizer from.
#[derive(Clone, Debug, PartialEq)]
pub enum TokenizerFiles {
    /// Hugging Face.
    Json {
        /// `tokenizer.json`, whole.
        tokenizer_json: Vec<u8>,
        /// `tokenizer_config.json`, whole, where there is one.
        config: Option<Vec<u8>>,
    },
    /// GGUF metadata.
    Gguf(GgufTokenizer),
}

/// The tokenizer in a GGUF file's metadata (`tokenizer.ggml.*`).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GgufTokenizer {
    /// `gpt2` (byte-level BPE), `llama` (SentencePiece), ...
    pub model: String,
    /// Pre-tokenizer: `llama-bpe`, `qwen2`, `deepseek-v3`, ...
    pub pre: Option<String>,
    /// Token texts by id, in the model's own spelling.
    pub tokens: Vec<String>,
    /// By id, or empty: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte.
    pub token_types: Vec<i32>,
    /// `"left right"`, most important first.
    pub merges: Vec<String>,
    /// By id, or empty.
    pub scores: Vec<f32>,
    /// Beginning of sequence.
    pub bos: Option<u32>,
    /// End of sequence.
    pub eos: Option<u32>,
    /// End of turn.
    pub eot: Option<u32>,
    /// End of message.
    pub eom: Option<u32>,
    /// Unknown token.
    pub unk: Option<u32>,
    /// Padding.
    pub pad: Option<u32>,
    /// Put `bos` in front of a text.
    pub add_bos: Option<bool>,
    /// Put `eos` behind a text.
    pub add_eos: Option<bool>,
    /// Put a space in front of a text.
    pub add_space_prefix: Option<bool>,
}
