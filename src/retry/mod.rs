//! Attempts of one call.

mod config;
mod policy;

pub use self::{
    config::{
        Backoff, DEFAULT_BUDGET_PER_SECOND, DEFAULT_BUDGET_RATIO, DEFAULT_BUDGET_START,
        DEFAULT_INITIAL_BACKOFF, DEFAULT_KEY_HEADER, DEFAULT_MAX_ATTEMPTS, DEFAULT_MAX_BACKOFF,
        DEFAULT_MAX_PUSHBACK, DEFAULT_MULTIPLIER, DEFAULT_REPLAY_LIMIT, Jitter, Retry,
    },
    policy::RetryPolicy,
};
pub use crate::stats::budget::Budget;
