//! Client-side resilience for services that call other services.
//!
//! Every outbound call gets a deadline and attempt timeouts, retries with backoff and jitter under a budget, a
//! circuit breaker, one idempotency key per unsafe call, and load balancing over a discovered set of endpoints:
//! one slow or dead dependency does not take its callers down, and a retry does no harm.
//!
//! ```text
//!  your call
//!     |
//!  deadline ............ one instant for everything below, response body included
//!  idempotency key ..... drawn once, the same on every attempt
//!  retry ............... attempts, pauses, budget; holds nothing while it sleeps
//!  before_attempt ...... your signature or token, fresh for each attempt
//!  circuit breaker ..... closed, open, half-open; counts attempts
//!  balancer ............ another endpoint for every attempt; ejects those that fail
//!     |
//!     +-- endpoint 1 ... attempt timeout, commit point (gRPC), connection
//!     +-- endpoint 2 ... attempt timeout, commit point (gRPC), connection
//! ```
//!
//! # A. A ready-made client
//!
//! ```no_run
//! # #[cfg(feature = "reqwest")]
//! # async fn charge() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//! use evenkeel::{CallPolicy, Client, IdempotencyKeys, Retry};
//!
//! let payments = Client::builder("http://payments.internal:8080") // Host and TLS name of every endpoint
//!     .endpoints(["10.0.0.1:8080", "10.0.0.2:8080"])      // left out: the name, looked up every 30 s
//!     .idempotency_keys(IdempotencyKeys::default())       // "this service de-duplicates by key"
//!     .deadline(Duration::from_secs(3))
//!     .attempt_timeout(Duration::from_millis(800))
//!     .retry(Retry::default().max_attempts(3))
//!     .build_reqwest(|_endpoint| reqwest::Client::builder())?;
//!
//! let reply = payments
//!     .post("/charges")
//!     .body(r#"{"amount": 42}"#)
//!     .policy(CallPolicy::new().deadline(Duration::from_secs(1)).idempotency_key("order-42"))
//!     .send()
//!     .await;
//! match reply {
//!     Ok(response) => println!("{}", response.status()),
//!     // One line that says what happened, and whether the charge may have gone through.
//!     Err(error) => println!("{error} (may have happened: {})", error.may_have_happened()),
//! }
//! # Ok(())
//! # }
//! ```
//!
//! A [`Client`] has no parameters and is cheap to clone: keep one in your application's state.
//!
//! # B. The same for gRPC
//!
//! With the feature `tonic`: a channel that generated clients take in place of tonic's own.
//!
//! ```no_run
//! # #[cfg(feature = "tonic")]
//! # fn build() -> Result<(), evenkeel::InvalidSetting> {
//! use evenkeel::{CallPolicy, Channel};
//!
//! let channel = Channel::builder("http://greeter.internal:50051")
//!     .endpoints(["10.0.0.1:50051", "10.0.0.2:50051"])
//!     .method("greet.Greeter/SayHello", CallPolicy::new().safe(true)) // only reads: may be repeated
//!     .build_tonic(Ok)?;
//! // let mut greeter = GreeterClient::new(channel);
//! # let _ = channel;
//! # Ok(())
//! # }
//! ```
//!
//! # C. Around a client that you have
//!
//! Any URL, no balancer; one breaker and one budget for each origin.
//!
//! ```no_run
//! # #[cfg(feature = "reqwest")]
//! # async fn fetch(my_client: reqwest::Client) -> Result<(), Box<dyn std::error::Error>> {
//! let http = evenkeel::Client::wrap_reqwest(my_client).build()?;
//! let page = http.get("https://api.example/v1/x").send().await?;
//! # let _ = page;
//! # Ok(())
//! # }
//! ```
//!
//! # D. Layer by layer, around any tower service over `http` types
//!
//! Each layer works alone and in any order; [`Stack`] is a builder in which a wrong order does not compile.
//!
//! ```
//! use std::time::Duration;
//! use evenkeel::{
//!     AttemptTimeoutLayer, Breaker, CircuitBreakerLayer, DeadlineLayer, IdempotencyKeyLayer, Retry, RetryLayer,
//! };
//! use tower::{ServiceBuilder, ServiceExt};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # use http_body_util::Full;
//! # use bytes::Bytes;
//! # let client = tower::service_fn(|_: http::Request<Full<Bytes>>| async {
//! #     Ok::<_, std::io::Error>(http::Response::new(Full::new(Bytes::from("hello"))))
//! # });
//! let breaker = Breaker::count(5, Duration::from_secs(10))?; // 5 failures in 10 s: open for 30 s
//! let service = ServiceBuilder::new()
//!     .layer(DeadlineLayer::new(Duration::from_secs(3))?)
//!     .layer(IdempotencyKeyLayer::default())
//!     .layer(RetryLayer::new(Retry::default().build()?))
//!     .layer(CircuitBreakerLayer::new(breaker.clone()))
//!     .layer(AttemptTimeoutLayer::new(Duration::from_millis(800))?)
//!     .service(client); // with reqwest: evenkeel::reqwest::HttpService::new(client)
//!
//! let request = http::Request::get("http://hello.internal/").body(Full::new(Bytes::new()))?;
//! let response = service.clone().oneshot(request).await?; // a clone shares everything
//! assert!(response.status().is_success());
//! # Ok(())
//! # }
//! ```
//!
//! The service inside is `Clone + Send + Sync + 'static` (tower's `BoxCloneService` is not `Sync`, its
//! `BoxCloneSyncService` is), its response is an `http::Response`, and below a retry its request body is one that
//! can be sent again: see [`Replay`]. If all that the compiler says is that the bounds of `oneshot` are not
//! satisfied, write `tower::ServiceExt::oneshot(service, request)`: then it names the one that is not.
//!
//! # E. The decisions alone, around any future
//!
//! ```
//! use std::time::Duration;
//! use evenkeel::{Breaker, Deadline};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # async fn query() -> Result<u64, std::io::Error> { Ok(7) }
//! let breaker = Breaker::count(5, Duration::from_secs(10))?;
//! let rows = Deadline::from_now(Duration::from_secs(1)).run(breaker.run(query())).await??;
//! # assert_eq!(rows, 7);
//! # Ok(())
//! # }
//! ```
//!
//! [`retry::run`] repeats any future under a budget.
//!
//! # In a server
//!
//! [`InboundLayer`] makes the deadline of each incoming call the one that the server's own calls inherit.
//!
//! # What you get back
//!
//! A response of any status is a response. One that failed or was retried carries a [`Report`] in its
//! extensions; every [`Error`] has one. Both say, attempt by attempt, where it went, how it ended, how long it
//! took, how long the pause was, and why there was no further one.
//!
//! ```no_run
//! # #[cfg(feature = "reqwest")]
//! # async fn look(client: evenkeel::Client) -> Result<(), Box<dyn std::error::Error>> {
//! use evenkeel::{ErrorKind, Report};
//!
//! match client.get("/price").send().await {
//!     Ok(response) => {
//!         if let Some(report) = response.extensions().get::<Report>() {
//!             println!("{report}"); // 2 attempts in 13 ms: #1 10.0.0.1:8080 503 after 1.1 ms, ...
//!         }
//!         println!("{}", response.text().await?);
//!     }
//!     Err(error) => match error.kind() {
//!         ErrorKind::CircuitOpen { retry_in } => println!("come back in {retry_in:?}"),
//!         _ if error.is_timeout() => println!("too slow after {} attempts", error.report().count()),
//!         _ => println!("{error}"),
//!     },
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Testing
//!
//! With the feature `test-util` the module `testkit` brings scripted services, a virtual server, the whole stack by one
//! seed, assertions on attempts and reports, and contracts that a tower layer of yours can be held to.
//!
//! Import what you use by name: `use evenkeel::*` would put the module `evenkeel::reqwest` in front
//! of the crate of that name.
//!
//! # Reading order
//!
//! [`stack`] lists the layers in their order; then [`call`], through which they talk; then any of the layer modules,
//! which all have the same shape.
#![forbid(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::disallowed_methods))]
#![cfg_attr(
    not(all(feature = "reqwest", feature = "tonic")),
    expect(dead_code, reason = "no edge alone needs all of the crate")
)]
pub mod balance;
pub mod breaker;
pub mod call;
pub mod classify;
pub mod client;
mod clock;
pub mod commit;
pub mod discover;
mod dispatch;
mod error;
mod guarded;
pub mod idempotency;
pub mod inbound;
mod replay;
pub mod retry;
mod rng;
mod sealed;
mod setting;
pub mod stack;
mod stats;
mod sync;
#[cfg(feature = "test-util")]
pub mod testkit;
pub mod timeout;

#[cfg(feature = "reqwest")]
pub use self::client::reqwest::{self, Client, RequestBuilder};
#[cfg(feature = "tonic")]
pub use self::client::tonic::{self, Channel};
#[cfg(any(feature = "reqwest", feature = "tonic", feature = "test-util"))]
pub use self::client::{Balanced, ClientBuilder};
pub use self::{
    balance::{Balancer, BalancerConfig, Ejection, Pick, SlowStart},
    breaker::{Breaker, BreakerConfig, CircuitBreakerLayer},
    call::{
        Body, CallPolicy, Deadline, DeadlineHeader, Disposition, IdempotencyKey, InheritedDeadline,
        InvalidKey, KeyScope, Report,
    },
    commit::CommitLayer,
    discover::{Discover, Endpoint, Fixed, LookupHost, Origin},
    error::{BoxError, Error, ErrorKind, InvalidSetting},
    guarded::{End, Guarded, Settle},
    idempotency::{IdempotencyKeyLayer, IdempotencyKeys},
    inbound::InboundLayer,
    retry::{Backoff, Budget, Jitter, Replay, Retry, RetryLayer, RetryPolicy},
    rng::Random,
    stack::Stack,
    timeout::{AttemptTimeoutLayer, DeadlineLayer},
};

/// Its example has to compile.
#[cfg(all(doctest, feature = "reqwest"))]
#[doc = include_str!("../README.md")]
struct Readme;
