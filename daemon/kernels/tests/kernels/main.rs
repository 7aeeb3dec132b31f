//! Every stage at every level this processor has, against `tensor::reference`; and the worker pool.

mod attention;
mod cache;
mod inputs;
mod jobs;
mod latent;
mod linear;
mod pool;
mod stages;
