//! The edge to [`reqwest`](https://docs.rs/reqwest): [`HttpService`] puts its client under a stack of layers
//! built by hand, [`RequestBuilder`] is how requests of the ready-made [`Client`] are written.
//!
//! Layers by hand speak `http::Request`, which [`reqwest::Client`](::reqwest::Client) does not:
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

mod body;
mod client;
mod endpoint;
mod evidence;
mod header;
mod http_service;
mod request;
mod response;
mod target;
mod tls;

pub use self::{
    client::Client,
    endpoint::CONNECT_TIMEOUT,
    evidence::evidence,
    http_service::{HttpService, ResponseFuture},
    request::RequestBuilder,
};
pub(crate) use self::{
    client::ClientService,
    endpoint::{EndpointSettings, check_tls, endpoint_client},
    evidence::reqwest_classifier,
    response::{ClientBody, boxed},
};
