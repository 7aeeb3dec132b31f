//! The drives: real files through both methods, and the simulated drive.

mod real;
mod sim;
mod support;
