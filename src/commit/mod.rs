//! Where an attempt at a gRPC call ends: not with the head, but with the first message.
//!
//! A gRPC server may send a good head and say in the trailers right after it that the call failed. Nothing of such an
//! answer has reached the caller, so the call may be repeated as after a status in the head. [`CommitLayer`] makes the
//! two the same: it looks at the first frame of the body before it hands the head on.
//!
//! | first frame | what becomes of it |
//! |---|---|
//! | trailers with a status other than OK | they move into the head and the body is empty: every layer above judges the answer at once, and retry may repeat the call |
//! | data | the call is committed; the frame is handed out first by the body |
//! | trailers with OK or without a status, or an end | handed out by the body as they came |
//! | an error | the error of the attempt. The server was at work, so it may have happened whatever the error looks like |
//! | none yet | a method [declared unary](crate::CallPolicy::unary) is waited for; any other is committed |
//!
//! - gRFC A6 commits a call at its head. Servers and proxies send one before they know how the call will end, and a
//!   caller who has seen nothing but that has lost nothing: only a message is an answer here. What may be repeated at
//!   all is no wider for it, since the server was at work.
//! - Nothing is waited for that could depend on what the caller does with the head: a bidirectional stream may send
//!   its first message only then. So of methods not declared unary a failure in trailers is repeated only if it came
//!   together with the head, as servers that fail at once send it.
//! - The wait of a unary method is part of the attempt: this layer stands below the attempt timeout, which cancels the
//!   stream when it drops it.
//! - Of methods not declared unary, a deadline that nobody chose ends at the commit point, which is the first message or
//!   the head that is handed to the caller, whichever comes first; the ready-made channel's
//!   [default](crate::client::DEFAULT_DEADLINE) is the only such deadline.
//! - An empty DATA frame is no message.
//! - A request or an answer that is not gRPC's, and a head that has a status, pass through untouched.
//!
//! ```no_run
//! # #[cfg(feature = "tonic")]
//! # fn build() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//! use evenkeel::{AttemptTimeoutLayer, CommitLayer, DeadlineLayer, Retry, RetryLayer, classify::Classifier};
//! use tower::ServiceBuilder;
//!
//! let classifier = Classifier::grpc().evidence(evenkeel::tonic::evidence);
//! let service = ServiceBuilder::new()
//!     .map_err(|error: evenkeel::Error| tonic::Status::from(error))
//!     .layer(DeadlineLayer::new(Duration::from_secs(3))?)
//!     .layer(RetryLayer::new(Retry::default().classifier(classifier).build()?))
//!     .layer(AttemptTimeoutLayer::new(Duration::from_millis(800))?)
//!     .layer(CommitLayer::new())
//!     .service(tonic::transport::Endpoint::from_static("http://10.0.0.1:50051").connect_lazy());
//! // let mut greeter = GreeterClient::new(service);
//! # let _ = service;
//! # Ok(())
//! # }
//! ```

mod body;
mod future;
mod layer;
mod policy;
mod service;

pub use self::{body::Begun, future::ResponseFuture, layer::CommitLayer, service::CommitService};
