use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame};
use tonic::{Status, body::Body};

use crate::replay::{Recording, Replay};

/// For layers by hand: one that tonic made is a stream even where it is a single message, so that what a retry sends
/// again was recorded. [`Channel`](super::Channel) keeps single messages in memory.
impl Replay for Body {
    fn try_clone(&self) -> Option<Self> {
        self.is_end_stream().then(Self::empty)
    }

    fn rebox() -> Option<fn(Recording<Self>) -> Self> {
        Some(|recording| Self::new(Unmeasured(recording)))
    }
}

/// A recording knows its length in the end, and the body that it is of never tells one: a `content-length` is not of
/// gRPC.
struct Unmeasured(Recording<Body>);

impl HttpBody for Unmeasured {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Pin::new(&mut self.0).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }
}
