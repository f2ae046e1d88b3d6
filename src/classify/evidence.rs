use std::{error::Error as StdError, io};

use super::verdict::{Class, Pushback, Retryable, Verdict};
use crate::{
    call::{Disposition, UploadFailed},
    error::{BoxError, Error, ErrorKind},
};

/// What an error of the transport proves about the attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Evidence {
    /// No byte of it reached a server: the connection was refused, or never came about.
    NotSent,
    /// The server says that it did not process it: `REFUSED_STREAM`, or a `GOAWAY` below this stream.
    Refused,
    /// It was sent, or may have been, and no answer came: a reset, a timeout, anything not known better.
    Unknown,
    /// The peer cannot be trusted or understood (TLS, certificate): not sent, and the next try ends the same way.
    Untrusted,
    /// The request itself cannot be sent (bad URL, missing TLS support): not sent, never retried, nobody's fault.
    Unsendable,
    /// The caller's own request body failed while it was sent: never retried, nobody else's fault.
    BrokenUpload,
}

/// The answer broke off after its head: the server was at work, whatever the error says of that.
#[derive(Debug, thiserror::Error)]
#[error("the answer broke off before its first message")]
struct BrokenAnswer(#[source] BoxError);

impl Error {
    /// The error of an answer of which only the head had come; one of ours passes through as it is.
    pub(crate) fn after_head(error: impl Into<BoxError>) -> Self {
        match error.into().downcast::<Self>() {
            Ok(ours) => *ours,
            Err(other) => Self::witnessed(BrokenAnswer(other), Evidence::Unknown),
        }
    }
}

impl Evidence {
    /// What this evidence means.
    #[must_use]
    pub const fn verdict(self) -> Verdict {
        let failure = Verdict {
            class: Class::Failure,
            retryable: Retryable::IfIdempotent,
            disposition: Disposition::Unknown,
            pushback: Pushback::None,
            endpoint_fault: true,
        };
        let unsent = Verdict {
            disposition: Disposition::NotSent,
            ..failure
        };
        match self {
            Self::NotSent => unsent.retryable(Retryable::Always),
            Self::Refused => Verdict {
                disposition: Disposition::Refused,
                ..failure
            }
            .retryable(Retryable::Always),
            Self::Unknown => failure,
            Self::Untrusted => unsent.retryable(Retryable::Never),
            Self::Unsendable => Verdict {
                endpoint_fault: false,
                ..unsent
            }
            .class(Class::Neutral)
            .retryable(Retryable::Never),
            Self::BrokenUpload => Verdict {
                endpoint_fault: false,
                ..failure
            }
            .class(Class::Neutral)
            .retryable(Retryable::Never),
        }
    }

    /// How reports name it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotSent => "could not connect",
            Self::Refused => "refused by the server",
            Self::Unknown => "failed without an answer",
            Self::Untrusted => "TLS failed",
            Self::Unsendable => "could not be sent",
            Self::BrokenUpload => "the request body failed",
        }
    }

    /// Reads what layers and bodies of ours leave in a source chain, whichever transport is in between.
    pub(crate) fn marked(error: &(dyn StdError + 'static)) -> Option<Self> {
        let causes = || chain(error);
        if causes().any(|cause| cause.is::<UploadFailed>()) {
            return Some(Self::BrokenUpload);
        }
        causes()
            .any(|cause| cause.is::<BrokenAnswer>())
            .then_some(Self::Unknown)
    }

    /// Reads what any transport may leave in a source chain: io kinds. `None` if there is none.
    pub(crate) fn from_io(error: &(dyn StdError + 'static)) -> Option<Self> {
        chain(error)
            .filter_map(|error| error.downcast_ref::<io::Error>())
            .find_map(|error| match error.kind() {
                io::ErrorKind::ConnectionRefused
                | io::ErrorKind::HostUnreachable
                | io::ErrorKind::NetworkUnreachable
                | io::ErrorKind::AddrNotAvailable => Some(Self::NotSent),
                io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionAborted
                | io::ErrorKind::BrokenPipe
                | io::ErrorKind::UnexpectedEof
                | io::ErrorKind::TimedOut => Some(Self::Unknown),
                _ => None,
            })
    }
}

/// The verdict on an error of a layer of ours; `None` for one of the service below.
pub(super) fn ours(error: &Error) -> Option<Verdict> {
    let local = Verdict {
        class: Class::Neutral,
        retryable: Retryable::Never,
        disposition: error.disposition(),
        pushback: Pushback::None,
        endpoint_fault: false,
    };
    let late = Verdict {
        class: Class::Failure,
        endpoint_fault: true,
        ..local
    };
    match error.kind() {
        ErrorKind::AttemptTimeout => Some(late.retryable(match error.disposition() {
            Disposition::NotSent | Disposition::Refused => Retryable::Always,
            Disposition::Answered | Disposition::Unknown => Retryable::IfIdempotent,
        })),
        ErrorKind::DeadlineExceeded | ErrorKind::BodyIdle => Some(late),
        ErrorKind::CircuitOpen { .. }
        | ErrorKind::NoEndpoints
        | ErrorKind::Overloaded
        | ErrorKind::InvalidCall => Some(local),
        ErrorKind::Upstream => None,
    }
}

/// An error and all its sources.
pub(crate) fn chain<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |error| next(*error))
}

/// An io error hides the error it holds: its `source` is already that one's source.
fn next<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a (dyn StdError + 'static)> {
    match error
        .downcast_ref::<io::Error>()
        .and_then(io::Error::get_ref)
    {
        Some(held) => Some(held),
        None => error.source(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_connection_is_not_sent_wherever_it_stands_in_the_chain() {
        let io = io::Error::from(io::ErrorKind::ConnectionRefused);
        let wrapped = io::Error::other(io::Error::other(io));
        assert_eq!(Evidence::from_io(&wrapped), Some(Evidence::NotSent));
    }

    #[test]
    fn a_reset_may_have_happened() {
        let io = io::Error::from(io::ErrorKind::ConnectionReset);
        assert_eq!(Evidence::from_io(&io), Some(Evidence::Unknown));
        assert!(Evidence::Unknown.verdict().disposition.may_have_happened());
    }

    #[test]
    fn rejections_of_our_own_layers_blame_nobody_and_are_not_retried() {
        for kind in [
            ErrorKind::CircuitOpen { retry_in: None },
            ErrorKind::NoEndpoints,
            ErrorKind::Overloaded,
        ] {
            let verdict = ours(&Error::new(kind)).expect("ours");
            assert_eq!(
                (verdict.class, verdict.retryable),
                (Class::Neutral, Retryable::Never)
            );
        }
    }

    #[test]
    fn certificate_errors_are_never_retried() {
        assert_eq!(Evidence::Untrusted.verdict().retryable, Retryable::Never);
    }
}
