//! The rules of the balancer: no clock, no randomness of their own, no waiting.

mod chunks;
mod claim;
mod draws;
mod ejected;
mod ejection;
mod ejection_rule;
mod load;
#[cfg(all(test, evenkeel_loom))]
mod loom_tests;
mod pick;
mod roster;
mod set;
mod slow_start;
mod snapshot;
mod tally;
mod ticket;
mod view;
mod weights;
mod word;

pub(crate) use self::{
    claim::{TriedSet, Wish, caller, claim, untried},
    ejected::Caller,
    ejection::Change,
    roster::{Made, Roster},
    set::{Rules, Seat, Shared},
    snapshot::{Answer, Snapshot},
    ticket::{Basis, Limit, Terms, Ticket},
};
pub use self::{
    ejection_rule::{
        DEFAULT_EJECTION_GROWTH, DEFAULT_EJECTION_TIME, DEFAULT_MAX_EJECTED,
        DEFAULT_MAX_EJECTION_TIME, DEFAULT_PANIC_BELOW, Ejection,
    },
    view::{EndpointState, EndpointStatus},
};
