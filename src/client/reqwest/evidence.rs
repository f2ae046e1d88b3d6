//! What an error of reqwest, hyper or h2 proves about the attempt that it ended.

use std::error::Error as StdError;

use crate::{
    classify::{Classifier, Evidence, chain},
    client::evidence::{is_tls, of_transport},
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
        } else if let Some(proof) = of_transport(cause) {
            return Some(proof);
        } else if cause.is::<hyper::Error>() {
            seen.get_or_insert(Evidence::Unknown);
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
    match (error.is_connect(), is_tls(error, error.is_connect())) {
        (_, true) => Evidence::Untrusted,
        (true, false) => Evidence::NotSent,
        (false, false) => Evidence::Unknown,
    }
}
