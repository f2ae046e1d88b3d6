//! Numbers that several layers keep: tokens, averages, recent durations.
//!
//! Pure: instants and durations are arguments. Bounded memory, no locks.

pub(crate) mod bucket;
pub(crate) mod budget;
pub(crate) mod ewma;
pub(crate) mod quantile;
