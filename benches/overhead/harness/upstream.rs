//! The service at the bottom, the calls made of it, and how they are driven.

use std::{
    fmt,
    future::Future,
    hint::black_box,
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::{HeaderValue, Method, Response, header::CONTENT_TYPE};
use http_body_util::{BodyExt, Full};
use tower::{Service, ServiceExt};

use super::case::{Batch, repeat};

/// Requests as they are kept as templates.
pub(crate) type Request<B = Bytes> = http::Request<B>;

/// A service that answers at once, or after it was pending once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Upstream {
    Ready,
    Yield,
}

/// Its handle: like a real client it costs one reference count to clone.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    upstream: Upstream,
    _connections: Arc<()>,
}

impl Upstream {
    pub(crate) const BOTH: [Self; 2] = [Self::Ready, Self::Yield];

    pub(crate) fn client(self) -> Client {
        Client {
            upstream: self,
            _connections: Arc::default(),
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Yield => "yield",
        }
    }
}

impl<B> Service<Request<B>> for Client {
    type Response = Response<Full<Bytes>>;
    type Error = io::Error;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), io::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Answer {
        drop(black_box(request));
        Answer {
            pending: self.upstream == Upstream::Yield,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Answer {
    pending: bool,
}

impl Future for Answer {
    type Output = io::Result<Response<Full<Bytes>>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if std::mem::take(&mut self.pending) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Ok(Response::new(Full::new(Bytes::from_static(
            b"the answer of 23 B long",
        )))))
    }
}

/// One header, a parsed URI, 17 bytes.
pub(crate) fn post() -> Request {
    let mut request = Request::new(Bytes::from(br#"{"amount":"1700"}"#.to_vec()));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = "http://payments.internal:8080/v1/charges?dry=1"
        .parse()
        .expect("a literal URI");
    let json = HeaderValue::from_static("application/json");
    request.headers_mut().insert(CONTENT_TYPE, json);
    request
}

/// The same, safe to repeat.
pub(crate) fn get() -> Request {
    let mut request = post();
    *request.method_mut() = Method::GET;
    request
}

/// Calls of a service with copies of the template, one after the other, each with its body drained.
///
/// # Panics
/// The batch does if a call fails.
pub(crate) fn calls<S, B, RB>(mut service: S, template: Request, body: fn(Bytes) -> B) -> Batch
where
    S: Service<Request<B>, Response = Response<RB>> + 'static,
    S::Error: fmt::Debug,
    RB: http_body::Body,
    RB::Error: fmt::Debug,
    B: 'static,
{
    calls_by(template, body, async move |request| {
        let ready = service.ready().await.expect("the service is ready");
        ready.call(request).await.expect("the call succeeds")
    })
}

/// The same for what is no service.
pub(crate) fn calls_by<B, RB>(
    template: Request,
    body: fn(Bytes) -> B,
    mut call: impl AsyncFnMut(Request<B>) -> Response<RB> + 'static,
) -> Batch
where
    B: 'static,
    RB: http_body::Body,
    RB::Error: fmt::Debug,
{
    repeat(move || {
        let request = black_box(&template).clone().map(body);
        in_place(async {
            let response = call(request).await;
            let mut body = pin!(response.into_body());
            while let Some(frame) = body.frame().await {
                drop(black_box(frame.expect("the body is whole")));
            }
        });
    })
}

/// Polls without a scheduler until the future is done.
fn in_place<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let mut cx = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            return output;
        }
    }
}
