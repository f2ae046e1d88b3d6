use std::{
    mem,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::call::InheritedDeadline;

pin_project! {
    /// The response body of a handler, which inherits the deadline while it is polled; or what stands in its place.
    #[derive(Debug)]
    pub struct InboundBody<B> {
        #[pin]
        kind: Kind<B>,
    }
}

pin_project! {
    #[derive(Debug)]
    #[project = KindProj]
    enum Kind<B> {
        Handlers { #[pin] body: B, inherited: InheritedDeadline },
        Refusal { text: Bytes },
    }
}

impl<B> InboundBody<B> {
    pub(crate) const fn inheriting(body: B, inherited: InheritedDeadline) -> Self {
        let kind = Kind::Handlers { body, inherited };
        Self { kind }
    }

    pub(crate) const fn refusal(text: Bytes) -> Self {
        let kind = Kind::Refusal { text };
        Self { kind }
    }
}

impl<B: Body<Data = Bytes>> Body for InboundBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.project().kind.project() {
            KindProj::Handlers { body, inherited } => {
                let _entered = inherited.enter();
                body.poll_frame(cx)
            }
            KindProj::Refusal { text } => {
                let text = Some(mem::take(text)).filter(|text| !text.is_empty());
                Poll::Ready(text.map(|text| Ok(Frame::data(text))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Handlers { body, .. } => body.is_end_stream(),
            Kind::Refusal { text } => text.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Handlers { body, .. } => body.size_hint(),
            Kind::Refusal { text } => SizeHint::with_exact(text.len() as u64),
        }
    }
}
