//! The server's side of a deadline: what an incoming call leaves is what outbound calls inherit.
//!
//! [`InboundLayer`] reads how much time the caller still waits, `grpc-timeout` on a gRPC request and a header of
//! choice on others, and gives everything that runs within the handler an [`InheritedDeadline`](crate::InheritedDeadline):
//! the handler's future, and the response body while it is polled, since a server stream makes its calls there. Every
//! outbound call through a layer or client of this crate then ends by that instant at the latest, and tells the next
//! server what is left of it.
//!
//! ```text
//!  A, 1 s to go --grpc-timeout: 1 s--> B works 300 ms --grpc-timeout: 0.7 s--> C
//! ```
//!
//! - The time counts from when the request comes to the layer; the way here is not known.
//! - It is about outbound calls. The handler itself is not cut off: tonic's server does that up to the response head,
//!   and for others `tower_http`'s timeout or [`Deadline::run`](crate::Deadline::run) can.
//! - The instant is in the request's extensions too, `Deadline::NEVER` if there is none, for handlers that want to
//!   know it.
//! - A task that is spawned inherits nothing: see [`InheritedDeadline`](crate::InheritedDeadline).
//! - With no time left, or with a header that cannot be read, the handler is not called:
//!
//! | | gRPC | others |
//! |---|---|---|
//! | no time left | `DEADLINE_EXCEEDED` | 504 |
//! | malformed | `INTERNAL` | 400 |
//!
//! ```no_run
//! # #[cfg(feature = "tonic")]
//! # fn serve() {
//! use evenkeel::InboundLayer;
//!
//! let server = tonic::transport::Server::builder().layer(InboundLayer::new());
//! // server.add_service(GreeterServer::new(greeter)).serve(address).await
//! # let _ = server;
//! # }
//! ```
//!
//! ```
//! use evenkeel::{DeadlineHeader, InboundLayer};
//!
//! let layer = InboundLayer::new().header(DeadlineHeader::millis("x-timeout-ms")?);
//! // axum: Router::new().route("/price", get(price)).layer(layer)
//! # let _ = layer;
//! # Ok::<(), evenkeel::InvalidSetting>(())
//! ```

mod body;
mod future;
mod layer;
mod policy;
mod service;

pub use self::{
    body::InboundBody, future::InboundFuture, layer::InboundLayer, service::InboundService,
};
