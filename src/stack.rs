//! The one right order of the layers, as types.
//!
//! A [`Stack`] takes layers from the outermost to the innermost; a layer in the wrong place does not compile.
//! Everything may be left out but nothing can be swapped:
//!
//! 1. deadline: the whole call, readiness, pauses and response body included
//! 2. idempotency key: one for all attempts
//! 3. retry: holds no permit, no endpoint and no response while it sleeps
//! 4. circuit breaker: counts attempts; "open" is never retried
//! 5. attempt timeout, or a balancer over services that have one each
//! 6. commit point of gRPC calls: looks at the first frame of the answer
//!
//! ```
//! use std::time::Duration;
//! use evenkeel::{AttemptTimeoutLayer, Breaker, CircuitBreakerLayer, DeadlineLayer, IdempotencyKeyLayer, Retry, RetryLayer, Stack};
//!
//! # fn main() -> Result<(), evenkeel::InvalidSetting> {
//! # let client = tower::service_fn(|_: http::Request<http_body_util::Full<bytes::Bytes>>| async {
//! #     Ok::<_, std::io::Error>(http::Response::new(http_body_util::Full::new(bytes::Bytes::new())))
//! # });
//! let service = Stack::new()
//!     .deadline(DeadlineLayer::new(Duration::from_secs(3))?)
//!     .idempotency_key(IdempotencyKeyLayer::default())
//!     .retry(RetryLayer::new(Retry::default().build()?))
//!     .circuit_breaker(CircuitBreakerLayer::new(Breaker::count(5, Duration::from_secs(10))?))
//!     .attempt_timeout(AttemptTimeoutLayer::new(Duration::from_millis(800))?)
//!     .service(client);
//! # let _ = service;
//! # Ok(())
//! # }
//! ```
//!
//! ```compile_fail
//! # use std::time::Duration;
//! # use evenkeel::{DeadlineLayer, Retry, RetryLayer, Stack};
//! // A deadline inside retry would give every attempt a fresh one.
//! Stack::new()
//!     .retry(RetryLayer::new(Retry::default().build().unwrap()))
//!     .deadline(DeadlineLayer::new(Duration::from_secs(3)).unwrap());
//! ```

use std::marker::PhantomData;

use tower::{
    Layer, ServiceBuilder,
    layer::util::{Identity, Stack as Both},
};

use crate::{
    breaker::CircuitBreakerLayer,
    commit::CommitLayer,
    idempotency::IdempotencyKeyLayer,
    retry::RetryLayer,
    timeout::{AttemptTimeoutLayer, DeadlineLayer},
};

/// Layers from the outermost to the innermost; `At` is the place of the last one.
#[derive(Clone, Debug)]
#[must_use]
pub struct Stack<L, At> {
    layers: ServiceBuilder<L>,
    at: PhantomData<At>,
}

/// The places in a stack, outermost first.
pub mod place {
    use crate::sealed::Sealed;

    macro_rules! places {
        ($($doc:literal $place:ident outside of [$($inner:ident)*])*) => {$(
            #[doc = $doc]
            #[derive(Clone, Copy, Debug)]
            pub struct $place;
            impl Sealed for $place {}
            $(impl Outside<$inner> for $place {})*
        )*};
    }

    /// A place outside of another: a layer for `Inner` may follow.
    #[diagnostic::on_unimplemented(
        message = "this layer has to stand further out: `{Self}` is not outside of `{Inner}`",
        note = "the order is deadline, idempotency key, retry, circuit breaker, attempt timeout, commit point"
    )]
    pub trait Outside<Inner>: Sealed {}

    places! {
        "Nothing yet." Start outside of [Deadline Key Retry Breaker Attempt Commit]
        "The deadline." Deadline outside of [Key Retry Breaker Attempt Commit]
        "The idempotency key." Key outside of [Retry Breaker Attempt Commit]
        "Retry." Retry outside of [Breaker Attempt Commit]
        "The circuit breaker." Breaker outside of [Attempt Commit]
        "The attempt timeout." Attempt outside of [Commit]
        "The commit point." Commit outside of []
    }
}

impl Stack<Identity, place::Start> {
    /// Nothing yet.
    pub fn new() -> Self {
        Self {
            layers: ServiceBuilder::new(),
            at: PhantomData,
        }
    }
}

impl Default for Stack<Identity, place::Start> {
    fn default() -> Self {
        Self::new()
    }
}

impl<L, At> Stack<L, At> {
    /// The limit of the whole call.
    pub fn deadline(self, layer: DeadlineLayer) -> Stack<Both<DeadlineLayer, L>, place::Deadline>
    where
        At: place::Outside<place::Deadline>,
    {
        self.with(layer)
    }

    /// One key for all attempts of an unsafe call.
    pub fn idempotency_key(
        self,
        layer: IdempotencyKeyLayer,
    ) -> Stack<Both<IdempotencyKeyLayer, L>, place::Key>
    where
        At: place::Outside<place::Key>,
    {
        self.with(layer)
    }

    /// Attempts, pauses and the budget.
    pub fn retry(self, layer: RetryLayer) -> Stack<Both<RetryLayer, L>, place::Retry>
    where
        At: place::Outside<place::Retry>,
    {
        self.with(layer)
    }

    /// The breaker of the whole destination.
    pub fn circuit_breaker(
        self,
        layer: CircuitBreakerLayer,
    ) -> Stack<Both<CircuitBreakerLayer, L>, place::Breaker>
    where
        At: place::Outside<place::Breaker>,
    {
        self.with(layer)
    }

    /// The limit of each attempt.
    pub fn attempt_timeout(
        self,
        layer: AttemptTimeoutLayer,
    ) -> Stack<Both<AttemptTimeoutLayer, L>, place::Attempt>
    where
        At: place::Outside<place::Attempt>,
    {
        self.with(layer)
    }

    /// The commit point of gRPC calls.
    pub fn commit(self, layer: CommitLayer) -> Stack<Both<CommitLayer, L>, place::Commit>
    where
        At: place::Outside<place::Commit>,
    {
        self.with(layer)
    }

    /// A layer that is not ours, at the place reached: it keeps the request's body or extensions.
    pub fn layer<T>(self, layer: T) -> Stack<Both<T, L>, At> {
        Stack {
            layers: self.layers.layer(layer),
            at: PhantomData,
        }
    }

    /// Puts the layers around the service that does the call.
    pub fn service<S>(self, service: S) -> L::Service
    where
        L: Layer<S>,
    {
        self.layers.service(service)
    }

    fn with<T, To>(self, layer: T) -> Stack<Both<T, L>, To> {
        Stack {
            layers: self.layers.layer(layer),
            at: PhantomData,
        }
    }
}
