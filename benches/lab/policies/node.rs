//! A server as a tower service, and the errors of the network before it.

use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response};
use http_body_util::Empty;
use tower::Service;

use crate::{
    upstream::Reply,
    world::{Exchange, World},
};

/// Which call a request belongs to.
pub(crate) const CALL: HeaderName = HeaderName::from_static("x-call");

/// The milliseconds that are left.
pub(crate) const DEADLINE: HeaderName = HeaderName::from_static("x-deadline-ms");

const KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// A connection did not come about in time.
#[derive(Debug, thiserror::Error)]
#[error("no connection in time")]
pub(crate) struct ConnectTimeout;

/// The service of one server.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) world: World,
    pub(crate) server: u32,
}

/// A template's copy for one call.
pub(crate) fn request<B>(call: u32, body: B) -> Request<B> {
    let mut request = Request::new(body);
    request.headers_mut().insert(CALL, HeaderValue::from(call));
    request
}

pub(crate) fn call_of<B>(request: &Request<B>) -> u32 {
    let call = request.headers().get(CALL);
    let call = call.and_then(|call| call.to_str().ok()?.parse().ok());
    call.expect("every request names its call")
}

impl<B> Service<Request<B>> for Node {
    type Response = Response<Empty<Bytes>>;
    type Error = io::Error;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Answer {
        let header = |name| {
            request
                .headers()
                .get(name)
                .and_then(|value| value.to_str().ok())
        };
        let (key, deadline) = (KEY, DEADLINE);
        let key = header(&key);
        let left = header(&deadline).and_then(|left| left.parse().ok());
        Answer(self.world.send(self.server, call_of(&request), key, left))
    }
}

/// What comes back.
#[derive(Debug)]
pub(crate) struct Answer(Exchange);

impl Future for Answer {
    type Output = io::Result<Response<Empty<Bytes>>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let reply = ready!(Pin::new(&mut self.0).poll(cx));
        Poll::Ready(match reply {
            Reply::Status(code) => {
                let mut response = Response::new(Empty::new());
                *response.status_mut() = code.try_into().expect("scenarios name statuses");
                Ok(response)
            }
            Reply::Refused => Err(io::ErrorKind::ConnectionRefused.into()),
            Reply::Reset => Err(io::ErrorKind::ConnectionReset.into()),
            Reply::ConnectTimeout => Err(io::Error::other(ConnectTimeout)),
        })
    }
}
