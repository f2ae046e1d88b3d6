//! gRPC: further members of the kinds of faults that public bug reports name.
#![allow(clippy::unwrap_used, reason = "a step that fails, fails its test")]

mod any_script;
mod connecting;
#[path = "../support/echo.rs"]
mod echo;
mod policies;
mod runtimes;
mod service;
mod streams;
#[path = "../support/mod.rs"]
mod support;
mod words;

use std::{error::Error as _, net::SocketAddr, time::Duration};

use echo::{Message, echo_client::EchoClient};
use evenkeel::{Balanced, Channel, ClientBuilder, Endpoint, Error};
use support::reply::Reply;
use tonic::{Request, Status};

const ORIGIN: &str = "http://echo.internal";
const SERVICE: &str = "evenkeel.test.v1.Echo";
const UNARY: &str = "evenkeel.test.v1.Echo/Unary";

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn builder<const N: usize>(endpoints: [SocketAddr; N]) -> ClientBuilder<Balanced> {
    Channel::builder(ORIGIN).endpoints(endpoints.map(Endpoint::new))
}

fn channel<const N: usize>(endpoints: [SocketAddr; N]) -> Channel {
    builder(endpoints).build_tonic(Ok).unwrap()
}

fn client<const N: usize>(endpoints: [SocketAddr; N]) -> EchoClient<Channel> {
    EchoClient::new(channel(endpoints))
}

fn message(text: &str) -> Message {
    let text = text.to_owned();
    Message { text, count: 3 }
}

/// A message with one word of metadata, which tells the service what to do.
fn told(name: &'static str, value: &str) -> Request<Message> {
    let mut request = Request::new(message("x"));
    request.metadata_mut().insert(name, value.parse().unwrap());
    request
}

/// An answer of a server: a message, and all is well.
fn good() -> Reply {
    Reply::grpc_message(b"").trailers([("grpc-status", "0")])
}

/// The error of ours behind a status.
fn ours(status: &Status) -> &Error {
    let source = status.source();
    let ours = source.and_then(|source| source.downcast_ref());
    ours.unwrap_or_else(|| panic!("an error of ours: {status}"))
}
