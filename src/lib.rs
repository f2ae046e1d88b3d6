//! Client-side resilience for services that call other services.
#![forbid(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::disallowed_methods))]
#![expect(
    dead_code,
    unused_imports,
    reason = "the layers that use these parts are being added"
)]

pub mod balance;
pub mod breaker;
pub mod call;
pub mod classify;
mod client;
mod clock;
pub mod discover;
mod dispatch;
mod error;
mod guarded;
pub mod idempotency;
mod replay;
pub mod retry;
mod rng;
mod stats;
pub mod timeout;

#[cfg(feature = "reqwest")]
pub use self::client::reqwest::{self, Client};
pub use self::{
    breaker::{Breaker, BreakerConfig, CircuitBreakerLayer},
    call::{Body, CallPolicy, Deadline, Disposition, IdempotencyKey, InvalidKey, KeyScope, Report},
    discover::{Discover, Endpoint, Fixed, LookupHost, Origin},
    error::{BoxError, Error, ErrorKind, InvalidSetting},
    guarded::{End, Guarded, Settle},
    idempotency::{IdempotencyKeyLayer, IdempotencyKeys},
    retry::{Backoff, Budget, Jitter, Replay, Retry, RetryLayer, RetryPolicy},
    rng::Random,
    timeout::{AttemptTimeoutLayer, DeadlineLayer},
};
