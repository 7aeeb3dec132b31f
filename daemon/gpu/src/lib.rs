//! Graphics cards through Vulkan: which there are, their memory, and what is computed on them.
//!
//! ```text
//! adapter.rs     the cards of this machine
//! layout.rs      what has to lie in a card's memory, planned before anything is taken: buffers, weights in slabs
//! recording.rs   what is computed, in order: stages over that layout; no device in it
//! stages.rs      one constructor a stage
//! device.rs      an opened card
//! program.rs     a layout in its memory, recordings made ready to run, results read back
//! profile.rs     time of each stage
//! upload.rs      weights from files to the card: 16 rows interleaved
//! ```
//! A model plans a [`Layout`] and makes [`Recording`]s over it; both are plain data, so that what a model would take and do on
//! a card is known without one. May depend on `shaders` and `tensor`. Start reading at [`Recording`].

mod adapter;
mod device;
mod error;
mod layout;
mod measure;
mod pipelines;
mod profile;
mod program;
mod recording;
mod stages;
mod upload;

pub use adapter::{Adapter, CardKind, adapters};
pub use device::{Device, DeviceOptions, Limits};
pub use error::Error;
pub use layout::{Binding, BufferKind, Layout, Shard, Weight, WeightShape};
pub use measure::{Speed, measure};
pub use profile::StageTime;
pub use program::{Copy, Pending, Program};
pub use recording::{Counts, Extent, Recording, Stage, Word};
pub use stages::{
    Attention, Chosen, EXPERTS_MAX, Embedding, ExpertLinear, GROUPS_MAX, Linear, Quantised, Rope, Rows,
    Tiles, add, argmax, attention, combine, embedding, expert_linear, expert_tiles_max, kv_write, linear,
    rms_norm, rope, route, sort_choices, swiglu,
};
pub use upload::interleave;
