//! The service as its clients meet it: a real server on port 0, a real SQLite file, a scripted model.

#![expect(clippy::unwrap_used, reason = "a step that fails fails the test")]

mod accounts;
mod chats;
mod client;
mod errors;
mod guards;
mod house;
mod isolation;
mod openai;
mod page;
mod recovery;
mod runs;
mod thoughts;
mod updates;
