//! From what came back to what it means: one verdict for retry, breaker, balancer and load.
//!
//! Pure: a response head, or evidence read off an error, goes in; a [`Verdict`] comes out.

mod classifier;
mod evidence;
mod grpc;
mod http;
mod pushback;
mod verdict;

pub use self::{
    classifier::Classifier,
    evidence::Evidence,
    grpc::status_of_foreign,
    verdict::{Class, Pushback, Retryable, Verdict},
};
pub(crate) use self::{
    evidence::chain,
    grpc::{awaits_status, is_failure},
    verdict::{Awaited, Credit},
};
