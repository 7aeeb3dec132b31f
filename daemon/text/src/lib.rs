//! Text to tokens and back: everything between what a person types and what the engine computes on.
//!
//! ```text
//! Conversation --ChatTemplate--> text --Tokenizer--> ids          Codec::prompt does both, and keeps
//!                                                                 users from forging special tokens
//! ids --StreamDecoder--> text --ThinkSplitter--> reasoning | answer --StopMatcher--> what is shown
//! ```
//!
//! A leaf: it depends on no other crate of the workspace and does no input or output, so vocabularies arrive as
//! bytes ([`Tokenizer::from_json`]) or as plain data ([`GgufVocab`]). Model files are untrusted: a malformed
//! tokenizer or a hostile template is an [`Error`], never a panic, a hang or an allocation of what it claims.
//!
//! Start reading at [`Codec`], then `shield.rs` (the safety of special tokens) and `tokenizer.rs`.

mod added;
mod codec;
mod conversation;
mod error;
mod shield;
mod stop;
mod stream;
mod template;
mod think;
mod tokenizer;

pub use codec::{Codec, Prompt};
pub use conversation::{Conversation, FunctionCall, Message, Role, ToolCall};
pub use error::Error;
pub use stop::{MAX_STOP_BYTES, MAX_STOPS, Passed, StopMatcher};
pub use stream::StreamDecoder;
pub use template::{ChatTemplate, MAX_TEMPLATE_BYTES};
pub use think::{Delta, THINK_CLOSE, THINK_OPEN, ThinkSplitter};
pub use tokenizer::{GgufVocab, MAX_ENCODE_BYTES, MAX_VOCAB, Special, Tokenizer};
