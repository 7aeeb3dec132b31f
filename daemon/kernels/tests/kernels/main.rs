//! Every stage at every level this processor has, against `tensor::reference`; and the worker pool.

mod attention;
mod inputs;
mod jobs;
mod linear;
mod pool;
mod stages;
