use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::Response;
use pin_project_lite::pin_project;

use super::body::InboundBody;
use crate::{call::InheritedDeadline, dispatch::polled_after_end};

pin_project! {
    /// An incoming call on its way: the handler, which inherits the deadline while it is polled.
    ///
    /// # Panics
    /// If it is polled again after its end.
    #[derive(Debug)]
    pub struct InboundFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[derive(Debug)]
    #[project = StateProj]
    enum State<F> {
        Handling { #[pin] handler: F, inherited: InheritedDeadline },
        Refused { answer: Option<Response<Bytes>> },
    }
}

impl<F> InboundFuture<F> {
    pub(crate) const fn handling(handler: F, inherited: InheritedDeadline) -> Self {
        let state = State::Handling { handler, inherited };
        Self { state }
    }

    pub(crate) const fn refused(answer: Response<Bytes>) -> Self {
        let answer = Some(answer);
        Self {
            state: State::Refused { answer },
        }
    }
}

impl<F, B, E> Future for InboundFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<InboundBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProj::Handling { handler, inherited } => {
                let _entered = inherited.enter();
                let response = ready!(handler.poll(cx))?;
                let inherit = |body| InboundBody::inheriting(body, *inherited);
                Poll::Ready(Ok(response.map(inherit)))
            }
            StateProj::Refused { answer } => match answer.take() {
                Some(answer) => Poll::Ready(Ok(answer.map(InboundBody::refusal))),
                None => polled_after_end(),
            },
        }
    }
}
