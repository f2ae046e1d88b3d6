//! Numbers that several layers keep: tokens, averages, recent durations, sliding windows.
//!
//! Pure: instants and durations are arguments. Bounded memory, no locks.
//!
//! Windows are told an *era* as well: a number that rises each time the past must be forgotten. A result
//! belongs to the era it was recorded under, so nothing has to be cleared, and what arrives late cannot leak
//! into a newer era.

pub(crate) mod bucket;
pub(crate) mod budget;
pub(crate) mod endpoints;
pub(crate) mod ewma;
pub(crate) mod last;
#[cfg(all(test, evenkeel_loom))]
mod loom_tests;
pub(crate) mod quantile;
pub(crate) mod run;
pub(crate) mod throttle;
pub(crate) mod times;
pub(crate) mod window;
