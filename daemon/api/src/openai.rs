//! OpenAI's API, `/v1`: what programs already speak.

mod chat;
mod chunk;
mod models;
mod request;

pub(crate) use chat::chat;
pub(crate) use models::{model, models};
