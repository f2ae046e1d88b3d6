//! The idempotency key layer over scripted services, under paused time.

mod attempts;
mod callers;
mod made;
#[path = "../support/mod.rs"]
mod support;

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use evenkeel::{
    AttemptTimeoutLayer, CallPolicy, DeadlineLayer, Disposition, Error, ErrorKind,
    IdempotencyKeyLayer, IdempotencyKeys, Retry, RetryLayer, call::Stop,
};
use futures::future::BoxFuture;
use http::{Method, Request};
use http_body_util::Full;
use tower::{Layer, Service, ServiceBuilder, ServiceExt, layer::layer_fn};

use support::mock::{Act, Mock, Readiness, Seen, millis};

const HEADER: &str = "idempotency-key";

fn keyed(keys: IdempotencyKeys) -> IdempotencyKeyLayer {
    IdempotencyKeyLayer::new(keys).expect("valid settings")
}

fn request(method: Method) -> Request<String> {
    let mut request = Request::new(String::new());
    *request.method_mut() = method;
    request
}

fn post() -> Request<String> {
    request(Method::POST)
}

fn with(mut request: Request<String>, policy: CallPolicy) -> Request<String> {
    request.extensions_mut().insert(policy);
    request
}

fn bringing(key: &str) -> Request<String> {
    let mut request = post();
    request
        .headers_mut()
        .insert(HEADER, key.parse().expect("a header value"));
    request
}

/// The keys that arrived, one list per call.
fn keys(seen: &[Seen], header: &str) -> Vec<Vec<String>> {
    let values = |seen: &Seen| {
        let values = seen.headers.get_all(header).iter();
        values
            .map(|value| value.to_str().expect("text").to_owned())
            .collect()
    };
    seen.iter().map(values).collect()
}

/// What arrived of one request.
async fn sent(layer: &IdempotencyKeyLayer, request: Request<String>) -> Vec<String> {
    let mock = Mock::new([]);
    layer
        .layer(mock.clone())
        .oneshot(request)
        .await
        .expect("an answer");
    keys(&mock.seen(), HEADER).remove(0)
}

async fn refused(layer: &IdempotencyKeyLayer, request: Request<String>) -> Error {
    let mock = Mock::new([]);
    let mut service = layer.layer(mock.clone());
    let ready = std::future::poll_fn(|cx| {
        Poll::Ready(Service::<Request<String>>::poll_ready(&mut service, cx))
    });
    assert!(matches!(ready.await, Poll::Ready(Ok(()))));
    let answer = service.call(request).await.map(drop);
    let error = answer.expect_err("refused");
    assert_eq!(
        (mock.calls(), mock.reserved()),
        (0, 0),
        "nothing is sent or kept reserved"
    );
    assert_eq!(error.kind(), ErrorKind::InvalidCall);
    assert_eq!(error.disposition(), Disposition::NotSent);
    error
}

/// Repeats a call until it succeeds, as a foreign layer may.
#[derive(Clone)]
struct Repeat<S>(S);

impl<S> Service<Request<String>> for Repeat<S>
where
    S: Service<Request<String>, Future: Send> + Clone + Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<String>) -> Self::Future {
        let inner = self.0.clone();
        Box::pin(async move {
            for _ in 0..2 {
                if let Ok(response) = inner.clone().oneshot(request.clone()).await {
                    return Ok(response);
                }
            }
            inner.oneshot(request).await
        })
    }
}

fn failing_twice() -> Mock {
    let reset = || Act::fail(std::io::ErrorKind::ConnectionReset).after(millis(10));
    Mock::new([reset(), reset(), Act::ok()])
}
