//! Further members of the kinds of faults that public bug reports name: balancing, discovery, runtimes and sockets.
#![cfg(feature = "reqwest")]
#![allow(clippy::unwrap_used, reason = "a step that fails, fails its test")]

mod black_hole;
mod lost;
mod sets;
mod sockets;
mod stalled;
#[path = "../support/mod.rs"]
mod support;
