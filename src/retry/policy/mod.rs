//! What retry decides: whether, and after how long.
//!
//! Pure: instants and random numbers are arguments, answers are enums.

mod attempts;
mod backoff;
mod checked;
mod decide;

pub use self::checked::RetryPolicy;
pub(crate) use self::{
    attempts::{Attempts, Ending, How, Next},
    decide::Replayable,
};
