//! Routed experts: where they are, and when they are ready.
//!
//! A layer asks [`Experts`] for those that the step's tokens were routed to and computes them as they come, in whatever
//! order: [`Wanted::ready`] gives those that are in memory. Here all of them are mapped and come at once; what streams
//! them from a drive stands behind the same two calls.
//!
//! What layers wanted can be recorded ([`trace`]) and replayed against caches of other sizes and policies ([`replay`]).
//!
//! May depend on `weights` and `tensor`. Start reading at [`Experts`].

pub mod disk;
mod error;
mod experts;
mod policy;
pub mod replay;
mod slot;
pub mod trace;

pub use error::Error;
pub use experts::{Expert, Experts, Wanted};
pub use policy::Policy;
pub use slot::{PAGE_BYTES, Slot};
