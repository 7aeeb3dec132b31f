//! [`Codec`]: a model's tokenizer and chat template, made to work together.

use std::sync::Arc;

use crate::shield::{Shield, Shielded};
use crate::{ChatTemplate, Conversation, Error, StreamDecoder, THINK_CLOSE, THINK_OPEN, Tokenizer};

/// From conversation to prompt and from tokens to text, for one model.
#[derive(Debug)]
pub struct Codec {
    tokenizer: Arc<Tokenizer>,
    template: Option<ChatTemplate>,
    shield: Shield,
    /// The template speaks of thoughts: the model is one that has them.
    thinks: bool,
}

/// A conversation ready for the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    /// The rendered text, markers and all.
    pub text: String,
    /// Its tokens. A BOS is there if the template wrote one.
    pub ids: Vec<u32>,
    /// Whether the template opened a thought that the model continues: see [`crate::ThinkSplitter::new`].
    pub opens_thought: bool,
    /// Whether the model may think without opening its thought: see [`crate::ThinkSplitter::expecting`]. Not where the
    /// prompt ends in or behind a thought.
    pub expects_thought: bool,
}

impl Codec {
    /// Joins a tokenizer with a chat template, which replaces the one in the tokenizer's file.
    ///
    /// `template`: Jinja source (`chat_template.jinja`, or an override of the administrator).
    ///
    /// # Errors
    /// The template is not valid. A missing one is an error only once [`Self::prompt`] needs it.
    pub fn new(tokenizer: Tokenizer, template: Option<&str>) -> Result<Self, Error> {
        let spelling = |id: Option<u32>| id.map(|id| tokenizer.token_text(id)).unwrap_or_default();
        let (bos, eos) = (spelling(tokenizer.bos()), spelling(tokenizer.eos()));
        let source = template.or(tokenizer.chat_template());
        let thinks = source.is_some_and(|source| source.contains(THINK_CLOSE));
        let template = source.map(|source| ChatTemplate::new(source, &bos, &eos)).transpose()?;
        let shield = Shield::new(tokenizer.added())?;
        Ok(Self { tokenizer: Arc::new(tokenizer), template, shield, thinks })
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Whether the model can chat at all.
    pub fn has_template(&self) -> bool {
        self.template.is_some()
    }

    /// A decoder for the model's answer.
    pub fn stream_decoder(&self) -> StreamDecoder {
        StreamDecoder::new(Arc::clone(&self.tokenizer))
    }

    /// Renders and tokenizes a conversation. Special tokens spelled in its strings stay plain text; only the
    /// template's own become tokens. There is no fallback for a model without a template: a prompt in a format the
    /// model was not trained on gives answers that look right and are not.
    ///
    /// # Errors
    /// The model has no template, the template refuses or fails, or the prompt is too long.
    pub fn prompt(&self, conversation: &Conversation) -> Result<Prompt, Error> {
        let template = self.template.as_ref().ok_or(Error::NoChatTemplate)?;
        let Shielded { conversation, sentinel } = self.shield.shield(conversation)?;
        let rendered = template.render(&conversation)?;
        let ids = self.tokenizer.encode_shielded(&rendered, sentinel)?;
        let ends_with = |marker| conversation.add_generation_prompt && rendered.trim_end().ends_with(marker);
        let opens_thought = ends_with(THINK_OPEN);
        let expects_thought = self.thinks && !opens_thought && !ends_with(THINK_CLOSE);
        Ok(Prompt { text: rendered.replace(sentinel, ""), ids, opens_thought, expects_thought })
    }
}
