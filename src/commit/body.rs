use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Buf;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

pin_project! {
    /// A response body that has been looked at: a frame that was taken then is handed out first.
    pub struct Begun<B>
    where
        B: Body,
    {
        taken: Option<Frame<B::Data>>,
        over: bool,
        #[pin]
        body: B,
    }
}

impl<B: Body> Begun<B> {
    /// The body whose first poll came to this.
    pub(crate) fn new(first: Poll<Option<Frame<B::Data>>>, body: B) -> Self {
        let over = matches!(first, Poll::Ready(None));
        let taken = match first {
            Poll::Ready(frame) => frame,
            Poll::Pending => None,
        };
        Self { taken, over, body }
    }

    /// The body within; a frame that was taken is no longer in it.
    pub const fn get_ref(&self) -> &B {
        &self.body
    }
}

impl<B: Body> Body for Begun<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.project();
        if let Some(frame) = this.taken.take() {
            return Poll::Ready(Some(Ok(frame)));
        }
        match this.over {
            true => Poll::Ready(None),
            false => this.body.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.taken.is_none() && (self.over || self.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        if self.over {
            return SizeHint::with_exact(0);
        }
        let data = self.taken.as_ref().and_then(Frame::data_ref);
        let taken = data.map_or(0, Buf::remaining) as u64;
        let rest = self.body.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(taken));
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(taken));
        }
        hint
    }
}

impl<B: Body> fmt::Debug for Begun<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Begun")
            .field("taken", &self.taken.is_some())
            .field("over", &self.over)
            .finish_non_exhaustive()
    }
}
