//! WGSL: what a graphics card computes, one stage a file, quant formats as files of their own.
//!
//! ```text
//! wgsl/STAGE.wgsl          a stage; its twin on the processor is `tensor::reference::STAGE`
//! wgsl/format/FORMAT.wgsl  how a format's weights become numbers; linear, embedding and their like are built with each
//! wgsl/part/*.wgsl         what stages share: functions, and bodies that a stage takes in by `//@ include`
//! ```
//! A [`Shader`] names one variant; [`Shader::source`] puts its files together, with a few constants in front (WGSL does not
//! mind the order). Nothing here knows a device. May depend on `tensor`. Start reading at `wgsl/linear.wgsl`, then [`Shader`].

mod format;
mod shader;

pub use format::{Format, format_of};
pub use shader::{Access, Arithmetic, KvType, Shader, TILE_TOKENS, Threads, reload_from};
