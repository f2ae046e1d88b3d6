//! The edge to [`reqwest`](https://docs.rs/reqwest): [`HttpService`] puts its client under a stack of layers
//! built by hand, [`RequestBuilder`] is how requests of the ready-made [`Client`] are written.
//!
//! Layers by hand speak `http::Request`, which [`reqwest::Client`] does not:
//!
//! ```no_run
//! use evenkeel::reqwest::HttpService;
//! use tower::ServiceExt;
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let service = HttpService::new(reqwest::Client::new());
//! let request = http::Request::get("http://127.0.0.1:8080/health").body(evenkeel::Body::empty())?;
//! let response = service.oneshot(request).await?;
//! assert!(response.status().is_success());
//! # Ok(())
//! # }
//! ```
//!
//! # The clients of endpoints
//!
//! A balanced [`Client`] has one reqwest client per endpoint, made from the builder that the application's
//! function returns. These settings of it are ours, whatever it set:
//!
//! | setting | value | reason |
//! | --- | --- | --- |
//! | `resolve` of the origin's host | the endpoint's address | `Host`, `:authority` and the TLS server name stay the origin's |
//! | `no_proxy` | on | a proxy would choose the address |
//! | `redirect` | none | a redirect is a response: followed below the layers it would hide a call |
//! | `retry` | never | attempts below the layers would be seen by no limit and no budget |
//! | `connect_timeout` | [`DEFAULT_CONNECT_TIMEOUT`], or the client's setting | a connection that does not come about is known not to have been sent |
//! | `http2_keep_alive_interval` | 2 s | a quiet peer that a call waits for is asked whether it is there |
//! | `http2_keep_alive_timeout` | 8 s | a connection that was lost without a word is left for a new one |
//!
//! Everything else is kept: TLS, pools, default headers, and a `timeout` or `read_timeout`, which then hold
//! for each attempt.
//!
//! An origin with a port of its own, served at other ports, keeps it in `Host` over plain HTTP/1.1. Over
//! https, and over plain HTTP/2 by prior knowledge, the authority can show no other port than the one
//! connected to: call `authority_without_port()`, or leave the port out of the origin.
//!
//! # https
//!
//! This crate switches on no TLS feature of reqwest, since which one is the application's choice (two of
//! them in one program make rustls refuse both). An application that calls `https` has this line beside ours:
//!
//! ```toml
//! reqwest = { version = "0.13", features = ["rustls"] }
//! ```
//!
//! Without it a call to an `https` URL fails before it is sent, with an error that names the line.

mod balanced;
mod body;
mod client;
mod endpoint;
mod evidence;
mod header;
mod http_service;
mod per_origin;
mod replay;
mod request;
mod response;
mod target;
mod tls;
mod wrapped;

pub use super::DEFAULT_CONNECT_TIMEOUT;

pub use self::{
    client::Client,
    evidence::evidence,
    http_service::{HttpService, ResponseFuture},
    request::RequestBuilder,
    response::into_response,
    wrapped::Wrapped,
};
