//! Bodies between tonic's world and ours.

use std::{
    collections::VecDeque,
    convert::Infallible,
    future::Future,
    mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::Reason;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use pin_project_lite::pin_project;
use tokio::sync::oneshot;
use tonic::Status;

use super::status;
use crate::{call::Body, error::BoxError};

/// Looks at the beginning of a request body: a single message, which is there at once, becomes a body in memory, so
/// that it can be sent again whatever its size. Nothing is waited for, and what was taken of a stream is sent first.
///
/// # Errors
/// If there is nothing to send but an error, such as a message that cannot be encoded.
pub(super) fn peeked(mut body: tonic::body::Body, cx: &mut Context<'_>) -> Result<Body, Status> {
    let mut poll = |body: &mut tonic::body::Body| match body.is_end_stream() {
        true => Poll::Ready(None),
        false => Pin::new(body).poll_frame(cx),
    };
    let first = match poll(&mut body) {
        Poll::Ready(None) => return Ok(Body::empty()),
        Poll::Ready(Some(frame)) => frame?,
        Poll::Pending => return Ok(Body::stream(body)),
    };
    match (first.into_data(), poll(&mut body)) {
        (Ok(message), Poll::Ready(None)) => Ok(Body::from(message)),
        (first, second) => {
            let first = first.map_or_else(|trailers| trailers, Frame::data);
            let mut taken = VecDeque::from([Ok(first)]);
            if let Poll::Ready(second) = second {
                taken.extend(second);
            }
            Ok(Body::stream(Begun { taken, body }))
        }
    }
}

/// A stream of which the first frames have been taken.
struct Begun {
    taken: VecDeque<Result<Frame<Bytes>, Status>>,
    body: tonic::body::Body,
}

impl HttpBody for Begun {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match self.taken.pop_front() {
            Some(frame) => Poll::Ready(Some(frame)),
            None => Pin::new(&mut self.body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.taken.is_empty() && self.body.is_end_stream()
    }
}

/// Sends a body as tonic would: its length is not told, since a `content-length` is not of gRPC. A stream is sent as
/// long as the other half lives.
pub(super) fn outgoing(body: Body) -> (tonic::body::Body, Option<Wanted>) {
    let body = match body.into_bytes() {
        Ok(message) => return (tonic::body::Body::new(Message(message)), None),
        Err(stream) => stream,
    };
    let (keep, wanted) = oneshot::channel();
    let (failure, failed) = oneshot::channel();
    let stream = Upload {
        body,
        sending: Some(Sending { wanted, failure }),
    };
    let keep = Wanted {
        _keep: keep,
        failed,
    };
    (tonic::body::Body::new(stream), Some(keep))
}

/// A body in memory; empty once it was sent.
struct Message(Bytes);

impl HttpBody for Message {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let message = mem::take(&mut self.0);
        Poll::Ready((!message.is_empty()).then(|| Ok(Frame::data(message))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

/// Held by whoever still wants the answer to a request stream.
pub(super) struct Wanted {
    _keep: oneshot::Sender<Infallible>,
    failed: oneshot::Receiver<BoxError>,
}

impl Wanted {
    /// The error of the request stream itself, which hyper keeps to itself.
    pub(super) fn failure(&mut self) -> Option<BoxError> {
        self.failed.try_recv().ok()
    }
}

struct Sending {
    wanted: oneshot::Receiver<Infallible>,
    failure: oneshot::Sender<BoxError>,
}

struct Upload {
    body: Body,
    sending: Option<Sending>,
}

impl Upload {
    /// Ends the stream, and the call for the server.
    fn reset(&mut self, reason: Reason) -> Option<Result<Frame<Bytes>, BoxError>> {
        self.body = Body::empty();
        Some(Err(h2::Error::from(reason).into()))
    }
}

impl HttpBody for Upload {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Some(sending) = &mut self.sending else {
            return Pin::new(&mut self.body).poll_frame(cx);
        };
        if Pin::new(&mut sending.wanted).poll(cx).is_ready() {
            self.sending = None;
            return Poll::Ready(self.reset(Reason::CANCEL));
        }
        Poll::Ready(match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            Some(Err(error)) => {
                if let Some(sending) = self.sending.take() {
                    // Nobody may want to know.
                    let _ = sending.failure.send(error);
                }
                self.reset(Reason::INTERNAL_ERROR)
            }
            frame => frame,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

pin_project! {
    /// A response body; a call of which it is dropped or over wants no more of its request stream.
    ///
    /// hyper goes on with the request once the head is there, whatever becomes of the response.
    pub(super) struct Incoming {
        #[pin]
        body: tonic::body::Body,
        // Kept here, since to ask h2 takes a lock: no message is the end, that is trailers.
        ended: bool,
        wanted: Option<Wanted>,
    }
}

impl Incoming {
    pub(super) fn new(body: tonic::body::Body, wanted: Option<Wanted>) -> Self {
        Self {
            ended: body.is_end_stream(),
            body,
            wanted,
        }
    }
}

impl HttpBody for Incoming {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.project();
        let mut frame = ready!(this.body.poll_frame(cx));
        if let Some(Err(error)) = &mut frame
            && let Some(failure) = this.wanted.as_mut().and_then(Wanted::failure)
        {
            *error = status::of_upload(failure);
        }
        if !matches!(&frame, Some(Ok(frame)) if frame.is_data()) {
            *this.ended = true;
            *this.wanted = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

pin_project! {
    /// A response body as the caller gets it.
    pub(super) struct Received<B> {
        #[pin]
        body: B,
    }
}

impl<B> Received<B>
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    pub(super) fn boxed(body: B) -> tonic::body::Body {
        match body.is_end_stream() {
            true => tonic::body::Body::empty(),
            false => tonic::body::Body::new(Self { body }.boxed_unsync()),
        }
    }
}

impl<B> HttpBody for Received<B>
where
    B: HttpBody<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let mut frame = ready!(self.project().body.poll_frame(cx));
        if let Some(Ok(frame)) = &mut frame
            && let Some(trailers) = frame.trailers_mut()
        {
            status::sane(trailers);
        }
        Poll::Ready(frame.map(|frame| {
            frame.map_err(|error| Status::from_error(status::told_of_body(error.into())))
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use futures::{StreamExt, stream};
    use http_body_util::{BodyExt, Full, StreamBody};

    use super::*;

    fn peek(body: tonic::body::Body) -> Result<Body, Status> {
        peeked(body, &mut Context::from_waker(Waker::noop()))
    }

    fn frames<const N: usize>(parts: [Result<&'static str, Status>; N]) -> tonic::body::Body {
        let frames = parts.map(|part| part.map(|data| Frame::data(Bytes::from(data))));
        tonic::body::Body::new(StreamBody::new(stream::iter(frames)))
    }

    #[test]
    fn a_single_message_is_in_memory_whatever_its_size_and_nothing_is_too() {
        let large = Bytes::from(vec![7; 1 << 20]);
        let body = peek(tonic::body::Body::new(Full::new(large.clone()))).expect("no error");
        assert_eq!(body.as_bytes(), Some(&large));
        let body = peek(frames([Ok("one")])).expect("no error");
        assert_eq!(body.as_bytes(), Some(&Bytes::from("one")));
        for nothing in [tonic::body::Body::empty(), frames([])] {
            assert!(peek(nothing).expect("no error").is_end_stream());
        }
    }

    #[tokio::test]
    async fn a_stream_loses_nothing_and_is_not_waited_for() {
        let body = peek(frames([Ok("one"), Ok("two"), Ok("three")])).expect("no error");
        assert!(body.as_bytes().is_none());
        assert_eq!(
            body.collect().await.expect("no error").to_bytes(),
            "onetwothree"
        );

        let silent = stream::pending::<Result<Frame<Bytes>, Status>>();
        let silent = tonic::body::Body::new(StreamBody::new(silent));
        assert!(!peek(silent).expect("not waited for").is_end_stream());

        let one = stream::iter([Ok::<_, Status>(Frame::data(Bytes::from("one")))]);
        let open = tonic::body::Body::new(StreamBody::new(one.chain(stream::pending())));
        let mut body = peek(open).expect("not waited for");
        let frame = body.frame().await.expect("a frame").expect("no error");
        assert_eq!(frame.into_data().expect("data"), "one");
    }

    #[tokio::test]
    async fn an_error_at_once_is_an_answer_and_a_later_one_comes_in_its_place() {
        let error = peek(frames([Err(Status::out_of_range("too large"))])).expect_err("at once");
        assert_eq!(error.code(), tonic::Code::OutOfRange);
        let mut body = peek(frames([Ok("one"), Err(Status::internal("no"))])).expect("a message");
        assert!(body.frame().await.expect("a frame").is_ok());
        assert!(body.frame().await.expect("a frame").is_err());
    }
}
