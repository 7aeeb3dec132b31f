//! The engine: many sequences, one model, one thread.
//!
//! [`start`] moves a [`model::Forward`] onto a thread of its own and returns a [`Handle`]. A request goes in as tokens
//! and comes back as a [`Generation`]: a stream of [`Event`]s; dropping it cancels that request and no other. Between,
//! the scheduler batches decoding sequences with chunks of waiting prompts, and shares the box fairly between owners.
//! Where it can guess what comes next, a step decides several tokens of a sequence ([`speculate`]); the answer is the same.
//!
//! ```text
//! submit -> waiting (bounded, fair by owner) -> running: prefill in chunks -> decode -> Finished | Failed | cancelled
//!                                               ^ KV memory is reserved here, before the first token
//! ```
//!
//! May depend on `model`. Text never enters: tokens in, tokens out. Start reading at `scheduler.rs`.

mod counters;
mod fair;
mod handle;
mod prefix;
mod request;
mod running;
mod sampler;
mod scheduler;
pub mod sim;
pub mod speculate;

pub use counters::{Drafts, Stats};
pub use handle::{Generation, Handle, Options, start, wait_for_end};
pub use model::{Notice, Streamed};
pub use request::{Event, FinishReason, Logprobs, Request, Sampling, SubmitError, Timings};
pub use sampler::Sampler;
pub use speculate::Speculation;
