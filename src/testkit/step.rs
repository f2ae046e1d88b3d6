use std::{io, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

/// One step of a scripted response body.
#[derive(Clone, Debug)]
#[must_use]
pub struct Step(pub(crate) Kind);

#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Data(Bytes),
    Pause(Duration),
    Trailers(HeaderMap),
    Fail(io::ErrorKind),
    Stall,
    Flood,
    Panic,
}

impl Step {
    /// A frame of data.
    pub fn data(data: impl Into<Bytes>) -> Self {
        Self(Kind::Data(data.into()))
    }

    /// Nothing for so long.
    pub const fn pause(length: Duration) -> Self {
        Self(Kind::Pause(length))
    }

    /// The trailers.
    ///
    /// # Panics
    /// If a name or a value is none.
    pub fn trailers<const N: usize>(trailers: [(&'static str, &str); N]) -> Self {
        let pair = |(name, value): (&'static str, &str)| match HeaderValue::from_str(value) {
            Ok(value) => (HeaderName::from_static(name), value),
            Err(_) => panic!("{value:?} is no header value"),
        };
        Self(Kind::Trailers(trailers.map(pair).into_iter().collect()))
    }

    /// An error of this kind in the place of a frame.
    pub const fn fail(kind: io::ErrorKind) -> Self {
        Self(Kind::Fail(kind))
    }

    /// Silence for ever.
    pub const fn stall() -> Self {
        Self(Kind::Stall)
    }

    /// Data without end, ready at every poll.
    pub const fn flood() -> Self {
        Self(Kind::Flood)
    }

    /// Panics when polled.
    pub const fn panic() -> Self {
        Self(Kind::Panic)
    }

    pub(crate) fn length(&self) -> Option<u64> {
        match &self.0 {
            Kind::Data(data) => u64::try_from(data.len()).ok(),
            Kind::Pause(_) => Some(0),
            Kind::Trailers(_) | Kind::Fail(_) | Kind::Stall | Kind::Flood | Kind::Panic => None,
        }
    }
}
