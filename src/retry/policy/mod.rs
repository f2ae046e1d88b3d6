//! What retry decides: whether, and after how long.
//!
//! Pure: instants and random numbers are arguments, answers are enums.

mod backoff;
mod checked;
mod decide;

pub use self::checked::RetryPolicy;
pub(crate) use self::decide::{Decision, Key, Replayable, Safety, Situation};
