//! The drives: real files through both methods.

mod real;
mod support;
