//! Further members of the kinds of faults that public trackers tell of, against the public API alone.
#![cfg(feature = "reqwest")]
#![allow(
    missing_docs,
    clippy::unwrap_used,
    reason = "tests: nothing here is published, and a panic is how they fail"
)]

mod breaker;
mod budget;
mod classify;
mod idempotency;
mod retry;
mod run;
mod secrets;
#[path = "../support/mod.rs"]
mod support;
mod timeout;
mod tower_layers;
