//! The box's HTTP face: OpenAI's API for programs, the page and its own API for people.
//!
//! [`serve`] listens; [`App`] is what all requests share: the store, the model in its slot, runs, counters. JSON never
//! leaves this crate downwards: the engine gets tokens, the store gets rows.
//!
//! ```text
//! connection -> observe (span, counters, security headers) -> guard (host, claim, origin)
//!            -> route: /v1 (key) | /api (session) | page
//!            -> generation: template, tokens -> engine -> text, thoughts split off -> SSE
//! ```
//!
//! - A client of `/v1` that leaves cancels its request. A run of the page belongs to the box, not to the connection:
//!   it survives a reload and is stopped explicitly.
//! - Every error, on both surfaces, is OpenAI's JSON shape ([`problem`]).
//! - Texts of prompts and answers are never logged.
//!
//! May depend on `engine`, `text` and `store`. Start reading at `routes.rs`, then `generation.rs`.

mod app;
mod auth;
mod body;
mod generation;
mod guard;
mod metrics;
mod observe;
mod openai;
mod outbound;
mod page;
mod problem;
mod recovery;
mod routes;
mod runs;
mod serve;
mod slot;
mod throttle;
mod ui;
mod updates;
mod words;

pub use app::{App, Config};
pub use recovery::Recovery;
pub use routes::{Access, list as route_list, router};
pub use serve::serve;
pub use slot::{GenerationDefaults, ModelInfo, ModelSlot, ServedModel};
pub use updates::{Desk, Kind, Passphrase, Refusal, Updates, Wish, Wished, updates};
