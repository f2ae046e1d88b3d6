//! Which endpoint an attempt goes to.

mod config;
mod policy;

pub use self::{
    config::{
        DEFAULT_CANDIDATES, DEFAULT_DECAY, DEFAULT_MAX_IN_FLIGHT, DEFAULT_TOLERANCE, Pick,
        SLOW_START_WINDOW, SlowStart,
    },
    policy::{
        DEFAULT_EJECTION_GROWTH, DEFAULT_EJECTION_TIME, DEFAULT_MAX_EJECTED,
        DEFAULT_MAX_EJECTION_TIME, DEFAULT_PANIC_BELOW, Ejection,
    },
};
