use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::{Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use super::recorder::{Ending, Entry, Recorder};

/// A service whose calls a [`Recorder`] writes down.
#[derive(Clone, Debug)]
pub struct Recorded<S> {
    inner: S,
    recorder: Recorder,
}

impl<S> Layer<S> for Recorder {
    type Service = Recorded<S>;

    fn layer(&self, inner: S) -> Recorded<S> {
        Recorded {
            inner,
            recorder: self.clone(),
        }
    }
}

impl<S, B, RB> Service<Request<B>> for Recorded<S>
where
    S: Service<Request<B>, Response = Response<RB>>,
    B: Body,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = RecordedFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (parts, body) = request.into_parts();
        let entry = self.recorder.enter(&parts, body.size_hint().exact());
        let future = self.inner.call(Request::from_parts(parts, body));
        RecordedFuture { future, entry }
    }
}

pin_project! {
    /// A call that is written down.
    #[derive(Debug)]
    pub struct RecordedFuture<F> {
        #[pin]
        future: F,
        entry: Entry,
    }
}

impl<F, RB, E> Future for RecordedFuture<F>
where
    F: Future<Output = Result<Response<RB>, E>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let answer = ready!(this.future.poll(cx));
        this.entry.end(Ending::of(&answer));
        Poll::Ready(answer)
    }
}
