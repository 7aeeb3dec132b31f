//! What a tensor is, on disk and in memory: data types and their block layouts, matrices over borrowed bytes,
//! and the scalar reference that every faster kernel is checked against.
//!
//! A leaf crate: it depends on no other crate of the workspace. Start reading at [`DType`], then [`Matrix`],
//! then [`reference`].

mod dtype;
mod interleaved;
mod matrix;
pub mod quant;
pub mod reference;

pub use dtype::DType;
pub use interleaved::{LANES, Layout, deinterleave_row, interleave, interleaved_fields};
pub use matrix::{BlockScale, Matrix, SCALE_BLOCK, ShapeError};
