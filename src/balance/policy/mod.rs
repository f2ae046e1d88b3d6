//! The rules of the balancer: no clock, no randomness of their own, no waiting.

mod draws;
mod ejected;
mod ejection;
mod ejection_rule;
mod load;
mod pick;
mod slow_start;
mod tally;
mod weights;
mod word;

pub use self::ejection_rule::{
    DEFAULT_EJECTION_GROWTH, DEFAULT_EJECTION_TIME, DEFAULT_MAX_EJECTED, DEFAULT_MAX_EJECTION_TIME,
    DEFAULT_PANIC_BELOW, Ejection,
};
