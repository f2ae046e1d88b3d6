//! What an error of reqwest, hyper or h2 proves about the attempt that it ended.

use std::{error::Error as StdError, io};

use crate::{
    classify::{Classifier, Evidence, chain},
    error::{Error, ErrorKind},
};

/// Reads errors of reqwest and of hyper and h2 below it, wherever they stand in a source chain; `None` if
/// there is none of them.
///
/// [`HttpService`](super::HttpService) has read its own errors already. This is for layers around another
/// adapter: `Classifier::default().evidence(evenkeel::reqwest::evidence)`.
///
/// | error | evidence |
/// | --- | --- |
/// | no connection came about, or the request was never written to one | `NotSent` |
/// | TLS handshake or certificate | `Untrusted` |
/// | HTTP/2 `REFUSED_STREAM`, or a stream above the last one of a `GOAWAY` | `Refused` |
/// | a URL or a header that cannot be sent | `Unsendable` |
/// | the request body failed while it was sent | `BrokenUpload` |
/// | reset, closed without an answer, timeout, broken answer | `Unknown` |
#[must_use]
pub fn evidence(error: &(dyn StdError + 'static)) -> Option<Evidence> {
    let mut seen = None;
    for cause in chain(error) {
        if let Some(edge) = cause.downcast_ref::<reqwest::Error>() {
            seen = Some(of_reqwest(edge));
        } else if let Some(hyper) = cause.downcast_ref::<hyper::Error>() {
            seen.get_or_insert(Evidence::Unknown);
            // Written to no connection: its queue was dropped, or its channel was closed before.
            if hyper.is_canceled() || hyper.is_closed() {
                return Some(Evidence::NotSent);
            }
        } else if let Some(h2) = cause.downcast_ref::<h2::Error>() {
            return Some(of_h2(h2));
        }
        if matches!(
            seen,
            Some(Evidence::NotSent | Evidence::Untrusted | Evidence::Unsendable)
        ) {
            break;
        }
    }
    seen
}

/// The default classifier with the evidence of this edge.
pub(crate) fn reqwest_classifier() -> Classifier {
    Classifier::default().evidence(evidence)
}

/// One of reqwest's errors as ours, without what its URL may hold of secrets.
pub(super) fn witness(mut error: reqwest::Error) -> Error {
    if let Some(url) = error.url_mut() {
        url.set_query(None);
        url.set_fragment(None);
        super::target::take_user(url);
    }
    match evidence(&error) {
        Some(Evidence::Unsendable) if error.is_builder() => {
            Error::new(ErrorKind::InvalidCall).with_source(error)
        }
        found => Error::witnessed(error, found.unwrap_or(Evidence::Unknown)),
    }
}

fn of_reqwest(error: &reqwest::Error) -> Evidence {
    if error.is_builder() {
        return Evidence::Unsendable;
    }
    match (error.is_connect(), is_tls(error)) {
        (_, true) => Evidence::Untrusted,
        (true, false) => Evidence::NotSent,
        (false, false) => Evidence::Unknown,
    }
}

/// Frames name the stream, so these two come only where the server did not process it (RFC 9113, 6.8, 8.7);
/// a stream that a `GOAWAY` covers ends as an io error when the connection goes.
fn of_h2(error: &h2::Error) -> Evidence {
    let refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
    // Sent by hyper, which does so when the request body fails, and keeps the body's own error to itself.
    let by_our_side = error.is_reset() && !error.is_remote() && !error.is_library();
    if by_our_side {
        return Evidence::BrokenUpload;
    }
    if error.is_remote() && (refused || error.is_go_away()) {
        Evidence::Refused
    } else {
        Evidence::Unknown
    }
}

/// TLS stacks are not of our dependencies, so none of their errors has a type here. Those of rustls come as
/// io `InvalidData`, which connecting has no other use for; those of the others are known by their words. A
/// peer that hangs up during the handshake is a failed connection like any other.
fn is_tls(error: &reqwest::Error) -> bool {
    let words: &[&str] = if error.is_connect() {
        &TLS_WORDS
    } else {
        &ALERT_WORDS
    };
    chain(error).skip(1).any(|cause| {
        let io = cause.downcast_ref::<io::Error>().map(io::Error::kind);
        let text = cause.to_string().to_ascii_lowercase();
        (error.is_connect() && io == Some(io::ErrorKind::InvalidData))
            || words.iter().any(|word| text.contains(word))
    })
}

const TLS_WORDS: [&str; 3] = ["certificate", "ssl routines", "handshake failure"];

/// With TLS 1.3 a client's certificate is refused when the request is already on its way: no server has
/// acted on it then, since the handshake has not ended for it.
const ALERT_WORDS: [&str; 3] = [
    "alert: certificate",
    "alert: unknownca",
    "alert certificate",
];
