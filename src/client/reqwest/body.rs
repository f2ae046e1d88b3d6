//! Bodies between http's world and reqwest's.

use std::{
    any::Any,
    pin::Pin,
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use pin_project_lite::pin_project;
use sync_wrapper::SyncWrapper;

use crate::{
    call::{Body, UploadFailed},
    error::BoxError,
};

/// Any body as one of reqwest's: bytes in memory stay bytes, and a stream need not be `Sync`.
pub(super) fn into_reqwest<B>(body: B) -> reqwest::Body
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let mut slot = Some(body);
    let any = &mut slot as &mut dyn Any;
    if let Some(theirs) = any
        .downcast_mut::<Option<reqwest::Body>>()
        .and_then(Option::take)
    {
        return theirs;
    }
    if let Some(ours) = any.downcast_mut::<Option<Body>>().and_then(Option::take) {
        return match ours.into_bytes() {
            Ok(bytes) => bytes.into(),
            Err(stream) => reqwest::Body::wrap(SyncBody::new(stream)),
        };
    }
    slot.map_or_else(reqwest::Body::default, |body| {
        reqwest::Body::wrap(SyncBody::new(body))
    })
}

/// One of reqwest's bodies as ours, bytes in memory without a copy of them.
pub(super) fn from_reqwest(mut body: reqwest::Body) -> Body {
    if body.as_bytes().is_none() {
        return Body::stream(body);
    }
    let mut cx = Context::from_waker(Waker::noop());
    match Pin::new(&mut body).poll_frame(&mut cx) {
        Poll::Ready(Some(Ok(frame))) => {
            frame.into_data().map_or_else(|_| Body::empty(), Body::from)
        }
        // A body in memory is never pending; without a frame it is an empty one.
        _ => Body::empty(),
    }
}

pin_project! {
    /// A request body that may be shared, since nothing of it can be reached through a shared reference.
    pub(super) struct SyncBody<B> {
        #[pin]
        body: SyncWrapper<B>,
        // Kept here: asking the body itself takes it exclusively.
        hint: SizeHint,
        ended: bool,
    }
}

impl<B: HttpBody> SyncBody<B> {
    pub(super) fn new(body: B) -> Self {
        Self {
            hint: body.size_hint(),
            ended: body.is_end_stream(),
            body: SyncWrapper::new(body),
        }
    }
}

impl<B> HttpBody for SyncBody<B>
where
    B: HttpBody,
    B::Error: Into<BoxError>,
{
    type Data = B::Data;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, BoxError>>> {
        let this = self.project();
        let mut body = this.body.get_pin_mut();
        let frame = ready!(body.as_mut().poll_frame(cx));
        *this.hint = body.size_hint();
        *this.ended = body.is_end_stream();
        Poll::Ready(frame.map(|frame| frame.map_err(UploadFailed::boxed)))
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }

    fn size_hint(&self) -> SizeHint {
        // Not `Copy` in every http-body 1.
        SizeHint::clone(&self.hint)
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, convert::Infallible};

    use http_body_util::{BodyExt, Full};

    use super::*;

    /// Counts its frames down; `Send`, but not `Sync`.
    struct Countdown(Cell<u8>);

    impl HttpBody for Countdown {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            let left = self.0.get();
            self.0.set(left.saturating_sub(1));
            Poll::Ready((left > 0).then(|| Ok(Frame::data(Bytes::copy_from_slice(&[b'0' + left])))))
        }

        fn is_end_stream(&self) -> bool {
            self.0.get() == 0
        }

        fn size_hint(&self) -> SizeHint {
            SizeHint::with_exact(self.0.get().into())
        }
    }

    #[test]
    fn bytes_in_memory_stay_bytes_both_ways() {
        let theirs = into_reqwest(Body::from("charge"));
        assert_eq!(theirs.as_bytes(), Some(b"charge".as_slice()));
        assert_eq!(into_reqwest(theirs).as_bytes(), Some(b"charge".as_slice()));
        let ours = from_reqwest(reqwest::Body::from("charge"));
        assert_eq!(
            ours.as_bytes().map(Bytes::as_ref),
            Some(b"charge".as_slice())
        );
        assert!(from_reqwest(reqwest::Body::from("")).is_end_stream());
    }

    #[tokio::test]
    async fn a_stream_keeps_its_frames_its_size_and_its_end() {
        let mut body = into_reqwest(Body::stream(Countdown(Cell::new(2))));
        assert_eq!(body.size_hint().exact(), Some(2));
        let frame = body.frame().await.expect("a frame").expect("no error");
        assert_eq!(frame.into_data().expect("data"), "2");
        assert_eq!(body.size_hint().exact(), Some(1));
        body.frame().await.expect("a frame").expect("no error");
        assert!(body.is_end_stream() && body.frame().await.is_none());
    }

    #[tokio::test]
    async fn foreign_bodies_pass_through_a_stream() {
        let body = into_reqwest(Full::new(Bytes::from("full")));
        assert_eq!(body.size_hint().exact(), Some(4));
        assert_eq!(
            from_reqwest(body)
                .collect()
                .await
                .expect("no error")
                .to_bytes(),
            "full"
        );
    }
}
