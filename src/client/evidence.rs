//! What errors of hyper, h2 and TLS prove, whichever client they come through.

use std::{error::Error as StdError, io};

use crate::classify::{Evidence, chain};

/// What one link of a source chain proves if it is one of hyper's or h2's.
pub(super) fn of_transport(cause: &(dyn StdError + 'static)) -> Option<Evidence> {
    if let Some(hyper) = cause.downcast_ref::<hyper::Error>() {
        // Written to no connection: its queue was dropped, or its channel was closed before.
        return (hyper.is_canceled() || hyper.is_closed()).then_some(Evidence::NotSent);
    }
    cause.downcast_ref::<h2::Error>().map(of_h2)
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
pub(super) fn is_tls(error: &(dyn StdError + 'static), connecting: bool) -> bool {
    let words: &[&str] = if connecting { &TLS_WORDS } else { &ALERT_WORDS };
    chain(error).skip(1).any(|cause| {
        let io = cause.downcast_ref::<io::Error>().map(io::Error::kind);
        let text = cause.to_string().to_ascii_lowercase();
        (connecting && io == Some(io::ErrorKind::InvalidData))
            || words.iter().any(|word| text.contains(word))
    })
}

const TLS_WORDS: [&str; 4] = [
    "certificate",
    "ssl routines",
    "handshake failure",
    "http/2 was not negotiated",
];

/// With TLS 1.3 a client's certificate is refused when the request is already on its way: no server has
/// acted on it then, since the handshake has not ended for it.
const ALERT_WORDS: [&str; 3] = [
    "alert: certificate",
    "alert: unknownca",
    "alert certificate",
];
