//! The edge to [`tonic`](https://docs.rs/tonic): [`Channel`] is what generated clients take in place of tonic's own.
//!
//! ```no_run
//! use std::time::Duration;
//! use evenkeel::{CallPolicy, Channel};
//!
//! # fn build() -> Result<Channel, evenkeel::InvalidSetting> {
//! let channel = Channel::builder("http://greeter.internal:50051")
//!     .endpoints(["10.0.0.1:50051", "10.0.0.2:50051"])
//!     .method("shop.Cart/List", CallPolicy::new().safe(true).unary(true))
//!     .method("shop.Cart/Add", CallPolicy::new().idempotent(true).deadline(Duration::from_secs(1)))
//!     .build_tonic(Ok)?;
//! // let mut cart = CartClient::new(channel);
//! # Ok(channel)
//! # }
//! ```
//!
//! All four kinds of method work. What differs from tonic's channel is what a call goes through, its errors, and that
//! dropping a response stream ends the call, its request stream included.
//!
//! # One call
//!
//! A [`CallPolicy`](crate::CallPolicy) in the extensions of a `tonic::Request` is about that call; what it leaves
//! open is as [`method`](crate::ClientBuilder::method) has it for the method and the service, and then as the client
//! is set. A key goes out as metadata.
//!
//! ```no_run
//! use std::time::Duration;
//! use evenkeel::CallPolicy;
//!
//! let mut request = tonic::Request::new("message");
//! request
//!     .extensions_mut()
//!     .insert(CallPolicy::new().deadline(Duration::from_secs(1)).idempotency_key("order-42"));
//! ```
//!
//! # Deadlines on the wire
//!
//! Every attempt says in `grpc-timeout` how much time is left: until the deadline that somebody chose for the call, or
//! for a method that is declared [`unary`](crate::CallPolicy::unary) until the default deadline or the attempt's limit,
//! whichever is sooner. Without a deadline there is none. One that the caller set, as by `tonic::Request::set_timeout`, is the deadline of that call as one in its
//! policy would be; one that gRPC's protocol does not know fails the call as `INVALID_ARGUMENT` before it is sent.
//!
//! The time is that at which tonic's channel is given the call. If it has to connect first, the server is told of up to
//! [`DEFAULT_CONNECT_TIMEOUT`](crate::client::DEFAULT_CONNECT_TIMEOUT) more than is left when it hears of it; the call ends on time all
//! the same, and the server learns of that. tonic's channel and tonic's servers have timers for the header, too:
//! whichever goes off first, the call ends as our own deadline or limit.
//!
//! # Streams
//!
//! A call may be repeated as long as nothing of its answer has reached the caller: a failure in the trailers right
//! after a good head is one in the head, and a generated client gets it where it gets those, as the error of the call.
//! Of a method that is declared [`unary`](crate::CallPolicy::unary) the first message or the status is waited for,
//! within the attempt's limit; nothing else can be waited for without holding a stream back. The
//! [default deadline](crate::client::DEFAULT_DEADLINE) of such a method covers the whole call, and that of any other the time
//! until its first message or, if that is sooner, until its head is handed to the caller. A deadline that somebody
//! chose (for the client, the method, the call, by `grpc-timeout`, or inherited) covers the whole stream.
//!
//! # Errors
//!
//! A generated client answers with a [`tonic::Status`]. Where the server said it, it is the server's. Where a layer
//! of ours or the connection ended the call its code is the usual one, its message the line that says what happened,
//! and its source the [`Error`](crate::Error) with kind, disposition and report:
//!
//! | what happened | code |
//! | --- | --- |
//! | deadline or attempt limit passed | `DEADLINE_EXCEEDED` |
//! | circuit breaker open, no endpoints | `UNAVAILABLE` |
//! | every endpoint is at its in-flight limit | `RESOURCE_EXHAUSTED` |
//! | a policy, a key or a `grpc-timeout` that is out of range | `INVALID_ARGUMENT` |
//! | no connection, not processed, connection lost | `UNAVAILABLE` |
//! | an answer that is not gRPC's, such as a proxy's page | by its HTTP status, as gRPC says |
//! | stream reset | by its HTTP/2 code, as gRPC's protocol says |
//!
//! ```
//! use std::error::Error as _;
//!
//! fn may_have_happened(status: &tonic::Status) -> bool {
//!     let ours = status.source().and_then(|source| source.downcast_ref::<evenkeel::Error>());
//!     ours.is_some_and(evenkeel::Error::may_have_happened)
//! }
//! # assert!(!may_have_happened(&tonic::Status::not_found("no such cart")));
//! ```
//!
//! A server's own status after failed attempts has that source too, with the story of the attempts in its report.
//!
//! # Layers by hand
//!
//! The layers work around a channel of tonic's own too, with its body types. `evidence` reads its errors, and an
//! [`Error`](crate::Error) becomes a `Status` at the top:
//!
//! ```no_run
//! use std::time::Duration;
//! use evenkeel::{DeadlineLayer, Retry, RetryLayer, classify::Classifier};
//! use tower::ServiceBuilder;
//!
//! # async fn build() -> Result<(), Box<dyn std::error::Error>> {
//! let classifier = Classifier::grpc().evidence(evenkeel::tonic::evidence);
//! let service = ServiceBuilder::new()
//!     .map_err(|error: evenkeel::Error| tonic::Status::from(error))
//!     .layer(DeadlineLayer::new(Duration::from_secs(3))?)
//!     .layer(RetryLayer::new(Retry::default().classifier(classifier).build()?))
//!     .service(tonic::transport::Endpoint::from_static("http://10.0.0.1:50051").connect_lazy());
//! // let mut greeter = GreeterClient::new(service);
//! # let _ = service;
//! # Ok(())
//! # }
//! ```
//!
//! # The connections of endpoints
//!
//! Each endpoint has one connection, opened by the first call that goes there, in the runtime of that call; a channel
//! that is used in several runtimes has one in each, and outlives them. Of the settings that the application's
//! function returns these are ours, whatever it set:
//!
//! | setting | value | reason |
//! | --- | --- | --- |
//! | `origin` | the origin of the client | `:authority` is the same on every endpoint |
//! | `connect_timeout` | [`DEFAULT_CONNECT_TIMEOUT`](crate::client::DEFAULT_CONNECT_TIMEOUT), or the client's setting | a connection that does not come about is known not to have been sent |
//! | `local_address` | not used | tonic does not tell it |
//!
//! A connection on which nothing that was sent is acknowledged for 10 s counts as broken (Linux; elsewhere set
//! `tcp_keepalive` or `http2_keep_alive_interval`). For 50 ms after a connection that took its whole time and did not
//! come about calls to the endpoint fail at once: those that waited for it do so together, not one after the other.
//! After three calls in a row that ran out of time while not a byte came, the next ones get a connection of their own;
//! streams stay on the old one.
//!
//! Everything else is kept: TLS, windows, HTTP/2 and TCP keepalive, a `concurrency_limit` or `rate_limit` of each
//! connection, and a `timeout`, which then holds for each attempt.
//!
//! # https
//!
//! This crate switches on no TLS feature of tonic. An application whose origin is `https` has this line beside ours,
//! and configures it:
//!
//! ```toml
//! tonic = { version = "0.14", features = ["tls-ring", "tls-native-roots"] }
//! ```
//!
//! ```no_run
//! use evenkeel::Channel;
//! use tonic::transport::ClientTlsConfig;
//!
//! let tls = ClientTlsConfig::new().with_enabled_roots();
//! let channel = Channel::builder("https://greeter.internal").build_tonic(|endpoint| endpoint.tls_config(tls))?;
//! # Ok::<(), evenkeel::InvalidSetting>(())
//! ```

mod body;
mod build;
mod channel;
mod connection;
mod connector;
mod evidence;
mod line;
mod methods;
mod replay;
mod status;
mod tls;

pub use self::{
    channel::{Channel, ResponseFuture},
    evidence::evidence,
};
