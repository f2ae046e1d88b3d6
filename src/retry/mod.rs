//! Attempts of one call: whether a failed one is repeated, after how long, and with what body.
//!
//! # What is retried
//! Never more than [`max_attempts`](Retry::max_attempts) times, the first included, whatever the evidence.
//!
//! | outcome | GET, HEAD, OPTIONS, TRACE, PUT, DELETE, or with a key | other methods |
//! |---|---|---|
//! | could not connect, refused stream: not processed | yes | yes |
//! | reset, attempt timeout, 408, 500, 502, 503, 504 | yes | no |
//! | 429 | yes | no |
//! | 429, 503 with `Retry-After`, if [declared unprocessed](Retry::throttled_means_unprocessed) | yes | yes |
//! | 425 | once | no |
//! | 409 | only with a key that may be running | no |
//! | 501, 505, TLS, open breaker, other 4xx, success | no | no |
//!
//! With [`Classifier::grpc`](crate::classify::Classifier::grpc) every method is a POST, so that what a call says of
//! itself decides:
//!
//! | outcome | idempotent, safe, or with a key | others |
//! |---|---|---|
//! | could not connect, refused stream: not processed | yes | yes |
//! | `UNAVAILABLE`, reset, attempt timeout; 429, 502, 503, 504 of a proxy | yes | no |
//! | `RESOURCE_EXHAUSTED` with `grpc-retry-pushback-ms` | yes | no |
//! | every other code, a status after messages | no | no |
//!
//! The server is told of earlier attempts by `grpc-previous-rpc-attempts`, and its `grpc-retry-pushback-ms` is the
//! wait exactly; a negative or malformed one ends the call. [`Budget::grpc_throttling`] is the throttling of gRFC A6.
//!
//! [`CallPolicy::idempotent`](crate::CallPolicy::idempotent) says it for one call, either way.
//!
//! # When
//! After [`Backoff`] with [`Jitter`], or when the server asks for by `Retry-After`. The wait before the second
//! attempt is left out where the fault is one endpoint's and the balancer has another. Nothing starts that
//! could not end before the call's deadline: the caller gets the last outcome at once. [`Budget`] holds
//! retries to a share of calls.
//!
//! # What the caller gets
//! The last outcome: a response unread, whatever its status, or the [`Error`](crate::Error). The
//! [`Report`](crate::Report), in the response's extensions if the call failed or was retried and on every
//! error, says why there was no further attempt. Once a head is handed over, retry is done with the call: over gRPC
//! [`CommitLayer`](crate::CommitLayer) makes a failure that comes right after the head one of the head.
//!
//! # Order
//! The idempotency key may be made above or below. A retry inside a retry of the same call passes through. A
//! call that finds no deadline layer above keeps to the deadline of its own [`CallPolicy`](crate::CallPolicy).
//! A streamed request body of an unsafe call is recorded only if the key is known before the first attempt.

mod body;
mod config;
mod future;
mod layer;
mod policy;
mod service;

pub use self::{
    body::Tally,
    config::{
        Backoff, DEFAULT_BUDGET_PER_SECOND, DEFAULT_BUDGET_RATIO, DEFAULT_BUDGET_START,
        DEFAULT_INITIAL_BACKOFF, DEFAULT_KEY_HEADER, DEFAULT_MAX_ATTEMPTS, DEFAULT_MAX_BACKOFF,
        DEFAULT_MAX_PUSHBACK, DEFAULT_MULTIPLIER, DEFAULT_REPLAY_LIMIT, Jitter, Retry,
    },
    future::ResponseFuture,
    layer::RetryLayer,
    policy::RetryPolicy,
    service::{Judge, RetryService, Run, run},
};
pub use crate::{
    replay::{Recording, Replay},
    stats::budget::Budget,
};
