//! The state machine and its rules: pure, lock-free, told the time.
//!
//! `word` packs the state into one atomic, so that every transition is one compare-and-swap;
//! `machine` moves it; `rules` says when results open it; `half_open` judges probes; `timing` draws
//! break durations; `blame` says which timeouts and drops count; `journal` keeps the transitions in
//! order for those who watch.

mod answer;
mod blame;
mod check;
mod half_open;
mod journal;
#[cfg(all(test, evenkeel_loom))]
mod loom_tests;
mod machine;
#[cfg(test)]
mod model_tests;
mod rules;
#[cfg(test)]
mod tests;
mod timing;
mod word;

pub(crate) use self::{
    answer::{Admission, Change, Pass, Settled, View},
    blame::{Ending, Limits, blame, blame_error, stands, wish},
    check::check,
    journal::{Journal, Next, Place},
    machine::Machine,
    rules::{Finished, Outcome, Seen},
};
pub use self::{
    answer::{Cause, State},
    journal::Transition,
};
