//! Stages: every variant is valid, and computes what its twin does.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod attention;
mod card;
mod experts;
mod twins;
mod valid;
