//! Routed experts: where they are, and when they are ready.
//!
//! A layer asks [`Experts`] for those that the step's tokens were routed to and computes them as they come, in whatever
//! order: [`Wanted::ready`] gives those that are in memory.
//!
//! ```text
//! Experts (experts.rs)      mapped: all are there;  streamed:
//!  └ streamer.rs            what is wanted, under way, ready (as streaming.rs asks)
//!     ├ cache.rs            slots within a budget, who gives way
//!     │  └ policy.rs, slot.rs
//!     ├ profile.rs          what was used, kept over restarts
//!     ├ copies.rs           several drives: who reads, what is repaired
//!     └ disk.rs             the border to the drives
//! ```
//!
//! What layers wanted can be recorded ([`trace`]) and replayed against caches of other sizes and policies ([`replay`]).
//!
//! May depend on `weights` and `tensor`. Start reading at [`Experts`].

mod cache;
mod copies;
pub mod disk;
mod error;
mod experts;
mod policy;
mod profile;
pub mod replay;
mod slot;
mod staging;
mod stats;
mod streamer;
mod streaming;
pub mod trace;
mod trial;

pub use copies::Copies;
pub use error::Error;
pub use experts::{Expert, Experts, Origin, Wanted};
pub use policy::Policy;
pub use slot::{PAGE_BYTES, Slot};
pub use stats::Stats;
pub use streaming::{Loan, Streaming};
