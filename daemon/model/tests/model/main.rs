//! Whole models against references: logits, what happens inside, and what must not change them.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod card;
mod coded;
mod deepseek;
mod draft;
mod exact;

mod inside;
mod logits;
mod streaming;
mod support;
