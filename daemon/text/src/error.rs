//! What can go wrong with a vocabulary, a template or a text.

/// Errors of this crate. Facts are fields; the text says what to do where something can be done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A JSON file of the model does not parse or lacks what it must have.
    #[error("{file}: {detail}")]
    Json {
        /// `tokenizer.json` or `tokenizer_config.json`.
        file: &'static str,
        /// The parser's words, with line and column where it has them.
        detail: String,
    },
    /// The vocabulary contradicts itself.
    #[error("vocabulary: {detail}")]
    Vocabulary {
        /// What contradicts what.
        detail: String,
    },
    /// The tokenizer is of a kind this crate does not implement.
    #[error("tokenizer model {model:?} is not supported; supported: {supported}")]
    UnsupportedModel {
        /// As the file names it.
        model: String,
        /// What would have worked.
        supported: &'static str,
    },
    /// `tokenizer.ggml.pre` names a pre-tokenizer this crate does not know.
    ///
    /// Guessing would tokenize almost right, which is worse than not at all.
    #[error("pre-tokenizer {name:?} is not supported; supported: {supported}")]
    UnknownPreTokenizer {
        /// As the file names it.
        name: String,
        /// All known names, separated by commas.
        supported: String,
    },
    /// A text is longer than [`crate::MAX_ENCODE_BYTES`].
    #[error("text of {bytes} bytes is too long to tokenize; the limit is {max_bytes} bytes")]
    TextTooLong {
        /// Length of the text.
        bytes: usize,
        /// The limit.
        max_bytes: usize,
    },
    /// The tokenizer failed on a text.
    #[error("tokenizing: {detail}")]
    Encode {
        /// The tokenizer's words.
        detail: String,
    },
    /// The model brings no chat template, so there is no honest way to write a prompt for it.
    #[error(
        "the model has no chat template; add chat_template.jinja next to it, or use a model made for chatting"
    )]
    NoChatTemplate,
    /// The template's source is longer than [`crate::MAX_TEMPLATE_BYTES`].
    #[error("chat template of {bytes} bytes is too long; the limit is {max_bytes} bytes")]
    TemplateTooLong {
        /// Length of the source.
        bytes: usize,
        /// The limit.
        max_bytes: usize,
    },
    /// The template is not valid Jinja.
    #[error("chat template: {detail}")]
    TemplateSyntax {
        /// The parser's words and the line.
        detail: String,
    },
    /// The template refused the conversation (`raise_exception`).
    #[error("the model's chat template refuses this conversation: {reason}")]
    TemplateRefused {
        /// The template's own words.
        reason: String,
    },
    /// The template failed on the conversation: it met a value it was not written for.
    #[error("the model's chat template fails on this conversation: {detail}")]
    TemplateFailed {
        /// The engine's words and the line.
        detail: String,
    },
    /// The template did more work than any honest template needs.
    #[error("the model's chat template ran out of its budget of {fuel} steps")]
    TemplateFuel {
        /// The budget.
        fuel: u64,
    },
    /// Every sentinel this crate could mark the conversation with occurs in it already.
    #[error("the conversation uses all of the noncharacters U+FDD0 to U+FDEF")]
    NoSentinel,
    /// A stop string is empty or too long, or there are too many.
    #[error("stop strings: {detail}")]
    Stop {
        /// Which limit was broken.
        detail: String,
    },
}

impl Error {
    pub(crate) fn vocabulary(detail: impl Into<String>) -> Self {
        Self::Vocabulary { detail: detail.into() }
    }

    pub(crate) fn encode(detail: impl std::fmt::Display) -> Self {
        Self::Encode { detail: detail.to_string() }
    }
}
