use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::Response;
use http_body::{Body, Frame};
use pin_project_lite::pin_project;

use super::{
    body::Begun,
    policy::{Next, Opening, into_head},
};
use crate::{
    call::Call,
    error::{BoxError, Error},
};

pin_project! {
    /// The answer of one attempt, up to its commit point.
    pub struct ResponseFuture<F, B> {
        #[pin]
        answer: F,
        // An open head whose body is waited for.
        begun: Option<Response<B>>,
        opening: Opening,
        call: Option<Arc<Call>>,
    }
}

impl<F, B> ResponseFuture<F, B> {
    pub(crate) const fn new(answer: F, opening: Opening, call: Option<Arc<Call>>) -> Self {
        Self {
            answer,
            begun: None,
            opening,
            call,
        }
    }
}

impl<F, B, E> Future for ResponseFuture<F, B>
where
    F: Future<Output = Result<Response<B>, E>>,
    E: Into<BoxError>,
    B: Body + Unpin,
    B::Error: Into<BoxError>,
{
    type Output = Result<Response<Begun<B>>, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = match this.begun.take() {
            Some(begun) => begun,
            None => ready!(this.answer.poll(cx)).map_err(Error::from_inner)?,
        };
        if !this.opening.is_open(response.status(), response.headers()) {
            return Poll::Ready(Ok(handed_on(response, Poll::Pending)));
        }
        loop {
            let polled = Pin::new(response.body_mut()).poll_frame(cx);
            let mut first = polled.map_err(Error::after_head)?;
            match this.opening.next(&first) {
                Next::Skip => continue,
                Next::Wait => {
                    *this.begun = Some(response);
                    return Poll::Pending;
                }
                Next::Commit => this.call.iter().for_each(|call| call.commit()),
                Next::HandOn => {}
                Next::Move(trailers) => {
                    if into_head(response.headers_mut(), trailers).is_ok() {
                        first = Poll::Ready(None);
                    }
                }
            }
            return Poll::Ready(Ok(handed_on(response, first)));
        }
    }
}

/// The response whose body came to this when it was looked at.
fn handed_on<B: Body>(
    response: Response<B>,
    first: Poll<Option<Frame<B::Data>>>,
) -> Response<Begun<B>> {
    response.map(|body| Begun::new(first, body))
}

impl<F, B> fmt::Debug for ResponseFuture<F, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture")
            .field("opening", &self.opening)
            .finish_non_exhaustive()
    }
}
