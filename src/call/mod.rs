//! What belongs to one call, and the only channel between layers, downwards and back up.
//!
//! The outermost layer of ours that sees a request opens its [`Call`]; every layer below finds it in the
//! request (in [`Body`], else in the extensions) and reads from it what it needs to know: the deadline, the
//! key, the endpoints tried. What happened travels back up the same way, so that a deadline that drops
//! everything below it can still tell the whole story.
//!
//! Nothing here waits, reads a clock or draws a random number.

mod attempt;
mod attempts;
mod body;
mod context;
mod deadline;
mod disposition;
mod endpoint;
mod inherited;
mod join;
mod key;
mod picks;
mod policy;
mod report;
mod span;
mod story;
mod wire;

pub(crate) use self::{
    attempt::{Attempt, attempt, set_attempt, stamp_of},
    body::UploadFailed,
    endpoint::{EndpointFacts, Reach},
    join::{Joined, Opened, attach, find, join, join_if_any},
    key::{CallKey, Confinement},
    policy::KeyChoice,
    report::Short,
    wire::{first_of, first_of_two, gave_up, is_grpc, is_grpc_media},
};
pub use self::{
    body::Body,
    context::Call,
    deadline::Deadline,
    disposition::Disposition,
    inherited::{InheritedDeadline, Inheriting},
    key::{IdempotencyKey, InvalidKey, KeyScope},
    policy::CallPolicy,
    report::{AttemptReport, Outcome, Report, Stop},
    wire::DeadlineHeader,
};
