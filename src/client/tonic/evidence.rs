//! What an error of tonic, hyper or h2 proves about the attempt that it ended.

use std::{error::Error as StdError, io};

use tonic::{ConnectError, transport};
use tower::buffer::error::Closed;

use super::tls::NoTlsConfig;
use crate::{
    classify::{Classifier, Evidence, chain},
    client::evidence::{is_tls, of_transport},
    error::{Error, ErrorKind},
};

/// Reads errors of tonic's channel and of hyper and h2 below it, wherever they stand in a source chain; `None` if
/// there is none of them.
///
/// [`Channel`](super::Channel) does so by itself. This is for layers by hand around a channel of tonic's own:
/// `Classifier::grpc().evidence(evenkeel::tonic::evidence)`.
///
/// | error | evidence |
/// | --- | --- |
/// | no connection came about, be it for lack of time, or the request was never written to one | `NotSent` |
/// | TLS handshake or certificate, no HTTP/2 at the other end | `Untrusted` |
/// | HTTP/2 `REFUSED_STREAM`, or a stream above the last one of a `GOAWAY` | `Refused` |
/// | `https` without TLS settings | `Unsendable` |
/// | the request stream failed while it was sent | `BrokenUpload` |
/// | reset, closed without an answer, timeout, broken answer | `Unknown` |
#[must_use]
pub fn evidence(error: &(dyn StdError + 'static)) -> Option<Evidence> {
    let mut seen = None;
    let mut sent = false;
    for cause in chain(error) {
        if let Some(connect) = cause.downcast_ref::<ConnectError>() {
            return Some(of_connect(connect));
        }
        if let Some(proof) = of_transport(cause) {
            return Some(proof);
        }
        if cause.is::<Closed>() || (!sent && is_connect_timeout(cause)) {
            return Some(Evidence::NotSent);
        }
        sent |= cause.is::<hyper::Error>();
        if sent || cause.is::<transport::Error>() {
            seen = Some(Evidence::Unknown);
        }
    }
    seen
}

/// gRPC's classifier with the evidence of this edge.
pub(super) fn tonic_classifier() -> Classifier {
    Classifier::grpc().evidence(evidence)
}

/// One of tonic's errors as ours.
pub(super) fn witness(error: transport::Error) -> Error {
    match evidence(&error) {
        Some(Evidence::Unsendable) => Error::new(ErrorKind::InvalidCall).with_source(NoTlsConfig),
        found => Error::witnessed(error, found.unwrap_or(Evidence::Unknown)),
    }
}

/// Whether tonic's own timer ended the call: that of the `grpc-timeout` header, or of `Endpoint::timeout`.
pub(super) fn is_timeout(error: &(dyn StdError + 'static)) -> bool {
    chain(error).any(|cause| cause.is::<tonic::TimeoutExpired>())
}

/// The connect timeout stands above the connector, so its error is no [`ConnectError`]; one of the connection itself
/// comes by way of hyper.
fn is_connect_timeout(cause: &(dyn StdError + 'static)) -> bool {
    let io = cause.downcast_ref::<io::Error>();
    io.is_some_and(|io| io.kind() == io::ErrorKind::TimedOut)
}

fn of_connect(error: &ConnectError) -> Evidence {
    // A type that tonic keeps to itself.
    if error.to_string() == "Connecting to HTTPS without TLS enabled" {
        Evidence::Unsendable
    } else if is_tls(error, true) {
        Evidence::Untrusted
    } else {
        Evidence::NotSent
    }
}
