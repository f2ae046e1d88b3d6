//! The one wrapper of response bodies: a guard of a layer that lives as long as the body.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Buf;
use http::{HeaderMap, Response};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::{
    error::{BoxError, Error},
    sealed::Sealed,
};

/// How a response body ended.
#[derive(Debug)]
#[non_exhaustive]
pub enum End<'a> {
    /// With its last frame, which may be trailers.
    Complete {
        /// The trailers, if there were any.
        trailers: Option<&'a HeaderMap>,
    },
    /// With this error.
    Failed(&'a BoxError),
}

/// What a layer does about the response body: settle an outcome, give something back, limit its time.
///
/// A body that is dropped before its end drops the guard: its own `Drop` is the third way to end. Only layers of this
/// crate have guards.
pub trait Settle: Sealed {
    /// Polled while no frame is ready; an error ends the body.
    fn poll_limit(&mut self, cx: &mut Context<'_>) -> Poll<Error> {
        let _ = cx;
        Poll::Pending
    }

    /// Asked when data is ready that is not the last of the body; an error takes its place and ends the body.
    fn refuse_data(&mut self) -> Option<Error> {
        None
    }

    /// A frame came.
    fn on_frame(&mut self) {}

    /// The body ended.
    fn on_end(&mut self, end: End<'_>);
}

pin_project! {
    /// A response body with a guard that lives as long as it does.
    ///
    /// Settled at once when the body has already ended, since nobody may ever poll it.
    #[derive(Debug)]
    pub struct Guarded<B, G> {
        // `None` once it was cut off.
        #[pin]
        body: Option<B>,
        guard: Option<G>,
    }
}

impl<B, G> Guarded<B, G> {
    /// Settles the guard of a body that is over already, before the response is put [together](Self::of).
    #[inline(always)]
    pub(crate) fn settle(response: &Response<B>, guard: &mut Option<G>)
    where
        B: Body,
        G: Settle,
    {
        if response.body().is_end_stream()
            && let Some(mut guard) = guard.take()
        {
            guard.on_end(End::Complete { trailers: None });
        }
    }

    /// The response with this guard on its body.
    #[inline(always)]
    pub(crate) fn of(response: Response<B>, guard: Option<G>) -> Response<Self> {
        response.map(|body| Self {
            body: Some(body),
            guard,
        })
    }

    /// The response with a body that nothing watches, where the type has to be the same.
    pub(crate) fn unguarded(response: Response<B>) -> Response<Self> {
        Self::of(response, None)
    }

    /// The body within; `None` once a limit has cut it off.
    pub const fn get_ref(&self) -> Option<&B> {
        self.body.as_ref()
    }
}

impl<B, G> Body for Guarded<B, G>
where
    B: Body,
    B::Data: Buf,
    B::Error: Into<BoxError>,
    G: Settle,
{
    type Data = B::Data;
    type Error = BoxError;

    #[inline(always)]
    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, BoxError>>> {
        let mut this = self.project();
        let Some(mut body) = this.body.as_mut().as_pin_mut() else {
            return Poll::Ready(None);
        };
        let Some(guard) = this.guard.as_mut() else {
            return body.poll_frame(cx).map_err(Into::into);
        };
        let _scope = crate::clock::enter();
        let refused = match body.as_mut().poll_frame(cx) {
            Poll::Ready(frame) => {
                let frame = frame.map(|frame| frame.map_err(Into::into));
                let ended = body.is_end_stream();
                let Some(error) = refusal(guard, frame.as_ref().filter(|_| !ended)) else {
                    settle(this.guard, frame.as_ref(), ended);
                    return Poll::Ready(frame);
                };
                error
            }
            Poll::Pending => ready!(guard.poll_limit(cx)),
        };
        let error = Some(Err(refused.into()));
        settle(this.guard, error.as_ref(), false);
        // Nothing that comes later is handed out, and whoever sends it is told so now.
        this.body.set(None);
        Poll::Ready(error)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let none = || SizeHint::with_exact(0);
        self.body.as_ref().map_or_else(none, Body::size_hint)
    }
}

/// The guard's objection to more data.
fn refusal<D, G: Settle>(
    guard: &mut G,
    frame: Option<&Result<Frame<D>, BoxError>>,
) -> Option<Error> {
    match frame {
        Some(Ok(frame)) if frame.is_data() => guard.refuse_data(),
        _ => None,
    }
}

/// Tells the guard what came; at the end the guard goes, so that it settles once.
fn settle<D, G: Settle>(
    guard: &mut Option<G>,
    frame: Option<&Result<Frame<D>, BoxError>>,
    ended: bool,
) {
    let Some(open) = guard.as_mut() else {
        return;
    };
    match frame {
        Some(Ok(frame)) if !ended && !frame.is_trailers() => open.on_frame(),
        Some(Ok(frame)) => {
            open.on_end(End::Complete {
                trailers: frame.trailers_ref(),
            });
            *guard = None;
        }
        None => {
            open.on_end(End::Complete { trailers: None });
            *guard = None;
        }
        Some(Err(error)) => {
            open.on_end(End::Failed(error));
            *guard = None;
        }
    }
}
