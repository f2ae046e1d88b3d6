use std::{
    any::Any,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;

use super::{attempt::Attempt, context::Call};
use crate::error::BoxError;

/// The request body of the ready-made stacks: bytes in memory, or a stream.
///
/// It also carries what layers tell one another about the call, which is cheaper than the request's
/// extensions and survives every foreign layer that keeps the body.
///
/// ```
/// use evenkeel::Body;
/// assert!(Body::from("in memory").try_clone().is_some());
/// ```
pub struct Body {
    kind: Kind,
    call: Option<Arc<Call>>,
    attempt: Option<Attempt>,
    /// What a client's edge tells its transport.
    edge: Option<Arc<dyn Any + Send + Sync>>,
}

enum Kind {
    Memory(Option<Bytes>),
    Stream(Pin<Box<dyn HttpBody<Data = Bytes, Error = BoxError> + Send>>),
}

/// The caller's own request body failed while it was sent: nobody else is at fault.
#[derive(Debug, thiserror::Error)]
#[error("the request body failed")]
pub(crate) struct UploadFailed(#[source] BoxError);

impl UploadFailed {
    /// Marks an error of a request body, once.
    pub(crate) fn boxed(error: impl Into<BoxError>) -> BoxError {
        let error = error.into();
        if error.is::<Self>() {
            return error;
        }
        Box::new(Self(error))
    }
}

impl Body {
    /// A body without content.
    #[must_use]
    pub fn empty() -> Self {
        Self::from(Bytes::new())
    }

    /// A body that is sent as it comes; `Send` is all that is asked of it.
    ///
    /// An error of it is the caller's own: it ends the call, is no failure of the server to breaker and
    /// balancer, and stays reachable by `source()`.
    pub fn stream<B>(body: B) -> Self
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        Self::new(Kind::Stream(Box::pin(body.map_err(UploadFailed::boxed))))
    }

    fn new(kind: Kind) -> Self {
        Self {
            kind,
            call: None,
            attempt: None,
            edge: None,
        }
    }

    /// The content, if it is all in memory and not yet sent.
    #[must_use]
    pub fn as_bytes(&self) -> Option<&Bytes> {
        match &self.kind {
            Kind::Memory(bytes) => bytes.as_ref(),
            Kind::Stream(_) => None,
        }
    }

    /// A copy of a body in memory, whatever its size; `None` for a stream.
    #[must_use]
    pub fn try_clone(&self) -> Option<Self> {
        let Kind::Memory(bytes) = &self.kind else {
            return None;
        };
        Some(Self {
            kind: Kind::Memory(bytes.clone()),
            call: self.call.clone(),
            attempt: self.attempt,
            edge: self.edge.clone(),
        })
    }

    /// The content for another attempt, which gets facts of its own; `None` for a stream.
    pub(crate) fn copied(&self) -> Option<Self> {
        let bytes = self.as_bytes()?.clone();
        Some(Self {
            edge: self.edge.clone(),
            ..Self::from(bytes)
        })
    }

    /// Takes the content out: bytes in memory as `Ok`, a stream as `Err`.
    pub(crate) fn into_bytes(self) -> Result<Bytes, Self> {
        match self.kind {
            Kind::Memory(bytes) => Ok(bytes.unwrap_or_default()),
            Kind::Stream(_) => Err(self),
        }
    }

    pub(crate) fn call(&self) -> Option<&Arc<Call>> {
        self.call.as_ref()
    }

    pub(crate) fn set_call(&mut self, call: Arc<Call>) {
        self.call = Some(call);
    }

    /// Keeps what the edge tells its transport, as long as the body is one of ours in memory.
    pub(crate) fn set_edge(&mut self, edge: Arc<dyn Any + Send + Sync>) {
        self.edge = Some(edge);
    }

    pub(crate) fn edge(&self) -> Option<&Arc<dyn Any + Send + Sync>> {
        self.edge.as_ref()
    }

    pub(crate) fn attempt(&self) -> Option<Attempt> {
        self.attempt
    }

    pub(super) fn forget_attempt(&mut self) {
        self.attempt = None;
    }

    pub(crate) fn set_attempt(&mut self, attempt: Attempt) {
        self.attempt = Some(attempt);
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.kind {
            Kind::Memory(bytes) => Poll::Ready(
                bytes
                    .take()
                    .filter(|bytes| !bytes.is_empty())
                    .map(|bytes| Ok(Frame::data(bytes))),
            ),
            Kind::Stream(stream) => stream.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Memory(bytes) => bytes.as_ref().is_none_or(Bytes::is_empty),
            Kind::Stream(stream) => stream.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Memory(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Kind::Stream(stream) => stream.size_hint(),
        }
    }
}

impl Default for Body {
    fn default() -> Self {
        Self::empty()
    }
}

impl<T: Into<Bytes>> From<T> for Body {
    fn from(content: T) -> Self {
        Self::new(Kind::Memory(Some(content.into())))
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Memory(bytes) => {
                write!(f, "Body({} bytes)", bytes.as_ref().map_or(0, Bytes::len))
            }
            Kind::Stream(_) => f.write_str("Body(stream)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_memory_body_is_one_frame_and_then_over() {
        let mut body = Body::from("abc");
        assert_eq!(body.size_hint().exact(), Some(3));
        let frame = body.frame().await.expect("one frame").expect("no error");
        assert_eq!(frame.into_data().expect("data"), "abc");
        assert!(body.is_end_stream());
        assert!(body.frame().await.is_none());
    }

    #[tokio::test]
    async fn an_empty_body_has_no_frame() {
        assert!(Body::empty().is_end_stream());
        assert!(Body::empty().frame().await.is_none());
    }

    #[test]
    fn a_stream_has_no_copy_and_debug_shows_no_content() {
        let body = Body::stream(http_body_util::Full::new(Bytes::from("secret")));
        assert!(body.try_clone().is_none());
        assert_eq!(
            format!("{body:?} {:?}", Body::from("secret")),
            "Body(stream) Body(6 bytes)"
        );
    }
}
