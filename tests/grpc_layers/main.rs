//! gRPC through the layers by hand: the status in the head, in the trailers, or missing; pushback.
#![expect(
    clippy::unwrap_used,
    reason = "helpers outside of the test functions set up what cannot fail"
)]

mod attempts;
mod judged;
mod pushback;
mod throttling;

use std::{
    convert::Infallible,
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use evenkeel::{
    Backoff, Breaker, Budget, CallPolicy, CircuitBreakerLayer, DeadlineLayer, Jitter, Report,
    Retry, RetryLayer, RetryPolicy,
    breaker::State,
    call::Stop,
    classify::{Classifier, Evidence, Verdict},
};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use tokio::time::Instant;
use tower::{Layer, Service, ServiceExt, service_fn};

type Body = UnsyncBoxBody<Bytes, Infallible>;

fn map(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let entry = |(name, value): &(&'static str, &str)| {
        (
            HeaderName::from_static(name),
            HeaderValue::from_str(value).unwrap(),
        )
    };
    pairs.iter().map(entry).collect()
}

/// One message, then these trailers.
fn message(trailers: Option<HeaderMap>) -> Response<Body> {
    let data = Full::new(Bytes::from_static(b"\0\0\0\0\x01x"));
    let body = match trailers {
        Some(trailers) => data
            .with_trailers(async move { Some(Ok(trailers)) })
            .boxed_unsync(),
        None => data.boxed_unsync(),
    };
    let response = Response::builder().header("content-type", "application/grpc");
    response.body(body).unwrap()
}

/// A head that is all there is.
fn trailers_only(pairs: &[(&'static str, &str)]) -> Response<Body> {
    let mut response = Response::new(Full::default().boxed_unsync());
    *response.headers_mut() = map(pairs);
    let grpc = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert("content-type", grpc);
    response
}

/// Calls a breaker over this answer until it has been read to its end, so many times.
async fn state_after(times: usize, answer: fn() -> Response<Body>) -> State {
    state_after_of(times, answer, Classifier::grpc()).await
}

async fn state_after_of(
    times: usize,
    answer: impl Fn() -> Response<Body> + Clone + Send + Sync + 'static,
    classifier: Classifier,
) -> State {
    let breaker = Breaker::count(3, Duration::from_secs(10)).unwrap();
    read(&breaker, times, answer, classifier).await;
    breaker.state()
}

async fn read(
    breaker: &Breaker,
    times: usize,
    answer: impl Fn() -> Response<Body> + Clone + Send + Sync + 'static,
    classifier: Classifier,
) {
    let layer = CircuitBreakerLayer::new(breaker.clone()).classifier(classifier);
    let service = layer.layer(service_fn(move |_: Request<Full<Bytes>>| {
        std::future::ready(Ok::<_, Infallible>(answer()))
    }));
    for _ in 0..times {
        let call = service.clone().oneshot(Request::new(Full::default()));
        if let Ok(reply) = call.await {
            let _ = reply.into_body().collect().await;
        }
    }
}

fn idempotent() -> Request<Full<Bytes>> {
    let mut request = Request::post("/shop.Cart/List")
        .body(Full::default())
        .unwrap();
    request
        .extensions_mut()
        .insert(CallPolicy::new().idempotent(true));
    request
}

/// One policy over a server of which a test says what it answers, and which remembers what it was sent.
struct Retried {
    policy: RetryPolicy,
    sent: Arc<Mutex<Vec<HeaderMap>>>,
}

impl Retried {
    fn new(settings: Retry) -> Self {
        Self::reading(settings, Classifier::grpc())
    }

    fn reading(settings: Retry, classifier: Classifier) -> Self {
        let backoff = Backoff::default().jitter(Jitter::None);
        let settings = settings.classifier(classifier).backoff(backoff);
        Self {
            policy: settings.build().unwrap(),
            sent: Arc::default(),
        }
    }

    /// Makes one call of which every attempt is answered so; how often it went out, and why no further.
    async fn call<E>(
        &self,
        request: Request<Full<Bytes>>,
        answer: impl Fn() -> Result<Response<Body>, E> + Clone + Send + Sync + 'static,
    ) -> (usize, Option<Stop>)
    where
        E: std::error::Error + Send + Sync + 'static,
    {
        self.sent.lock().unwrap().clear();
        let sent = Arc::clone(&self.sent);
        let layer = RetryLayer::new(self.policy.clone());
        let service = layer.layer(service_fn(move |request: Request<Full<Bytes>>| {
            sent.lock().unwrap().push(request.headers().clone());
            std::future::ready(answer())
        }));
        let stop = match service.oneshot(request).await {
            Ok(reply) => {
                let stop = reply.extensions().get::<Report>().and_then(Report::stop);
                let _ = reply.into_body().collect().await;
                stop
            }
            Err(error) => error.report().stop(),
        };
        (self.sent.lock().unwrap().len(), stop)
    }

    async fn status(&self, status: &'static str) -> (usize, Option<Stop>) {
        let answer = move || Ok::<_, Infallible>(trailers_only(&[("grpc-status", status)]));
        self.call(idempotent(), answer).await
    }

    async fn trailers(&self, trailers: Option<&'static str>) -> (usize, Option<Stop>) {
        let answer = move || {
            let trailers = trailers.map(|status| map(&[("grpc-status", status)]));
            Ok::<_, Infallible>(message(trailers))
        };
        self.call(idempotent(), answer).await
    }

    fn tokens(&self) -> f64 {
        let budget = self.policy.budget().expect("one");
        budget.balance(std::time::Instant::now())
    }

    fn previous_attempts(&self) -> Vec<Option<String>> {
        let number = |headers: &HeaderMap| {
            let values: Vec<_> = headers
                .get_all("grpc-previous-rpc-attempts")
                .iter()
                .collect();
            assert!(values.len() < 2, "{values:?}");
            values
                .first()
                .map(|value| value.to_str().unwrap().to_owned())
        };
        self.sent.lock().unwrap().iter().map(number).collect()
    }
}
