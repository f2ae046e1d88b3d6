//! TWR: layers of others between ours.

use std::time::Duration;

use evenkeel::{
    AttemptTimeoutLayer, Body, Breaker, CallPolicy, CircuitBreakerLayer, DeadlineLayer,
    Disposition, IdempotencyKeyLayer, Retry, RetryLayer,
};
use http::Request;
use tower::{ServiceBuilder, ServiceExt};

use crate::support::{
    mock::{Mock, millis},
    script::{Act, Script, answering, statuses},
};

fn retry() -> RetryLayer {
    RetryLayer::new(Retry::default().build().unwrap())
}

fn put() -> Request<Body> {
    Request::put("/").body(Body::from("x")).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_buffer_between_retry_and_breaker_hides_neither_the_call_nor_its_errors() {
    let breaker = Breaker::count(9, Duration::from_secs(9)).unwrap();
    let script = statuses([503, 200]);
    let service = ServiceBuilder::new()
        .layer(DeadlineLayer::new(Duration::from_secs(3)).unwrap())
        .layer(retry())
        .buffer(4)
        .layer(CircuitBreakerLayer::new(breaker.clone()))
        .layer(AttemptTimeoutLayer::new(Duration::from_secs(1)).unwrap())
        .service(script.clone());
    let answer = service.clone().oneshot(put()).await.unwrap();
    assert_eq!((answer.status().as_u16(), script.seen().len()), (200, 2));
    breaker.force_open();
    let error = service.oneshot(put()).await.unwrap_err();
    assert!(
        matches!(error.kind(), evenkeel::ErrorKind::CircuitOpen { .. }),
        "{error}"
    );
    assert_eq!(error.report().attempts().len(), 1);
    assert!(!error.may_have_happened(), "{error}");
}

/// A slot of a limit below is free while the call above waits for its next attempt.
#[tokio::test(start_paused = true)]
async fn a_limit_below_is_not_held_over_a_wait_and_does_not_lose_slots() {
    let mock = Mock::new([Act::status(503), Act::hang(), Act::ok()]);
    let service = ServiceBuilder::new()
        .layer(DeadlineLayer::new(millis(900)).unwrap())
        .layer(retry())
        .concurrency_limit(1)
        .layer(AttemptTimeoutLayer::new(millis(300)).unwrap())
        .service(mock.clone());
    let answers = futures::future::join_all((0..3).map(|_| service.clone().oneshot(put()))).await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    assert_eq!(mock.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_waits_for_a_full_limit_below_until_its_deadline_was_not_sent() {
    let mock = Mock::new([Act::hang(), Act::ok()]);
    let service = ServiceBuilder::new()
        .layer(DeadlineLayer::new(millis(500)).unwrap())
        .layer(IdempotencyKeyLayer::default())
        .layer(retry())
        .concurrency_limit(1)
        .service(mock.clone());
    let (first, second) = tokio::join!(service.clone().oneshot(put()), async {
        tokio::task::yield_now().await;
        let mut call = put();
        call.extensions_mut()
            .insert(CallPolicy::new().deadline(millis(300)));
        service.clone().oneshot(call).await
    });
    let (first, second) = (first.unwrap_err(), second.unwrap_err());
    assert_eq!(first.disposition(), Disposition::Unknown, "{first}");
    assert_eq!(second.disposition(), Disposition::NotSent, "{second}");
}

/// A layer that copies requests and forgets their extensions: `evenkeel::Body` carries the call itself.
#[tokio::test(start_paused = true)]
async fn a_layer_that_forgets_extensions_does_not_cut_the_call_in_two() {
    let script = Script::by(|attempt| match attempt {
        1 => Act::fail(std::io::ErrorKind::ConnectionReset),
        _ => answering(503),
    });
    let forget = |request: Request<Body>| {
        let (parts, body) = request.into_parts();
        let mut bare = Request::new(body);
        *bare.method_mut() = parts.method;
        *bare.headers_mut() = parts.headers;
        bare
    };
    let service = ServiceBuilder::new()
        .layer(retry())
        .map_request(forget)
        .layer(retry())
        .map_request(forget)
        .layer(IdempotencyKeyLayer::default())
        .service(script.clone());
    let answer = service
        .oneshot(Request::post("/").body(Body::from("x")).unwrap())
        .await
        .unwrap();
    assert_eq!(answer.status(), 503);
    let sent = script.seen();
    assert_eq!(sent.len(), 3, "nested retries do not multiply");
    let keys: std::collections::HashSet<_> = sent
        .iter()
        .map(|sent| sent.headers["idempotency-key"].clone())
        .collect();
    assert_eq!(keys.len(), 1);
}

/// A layer that turns answers into errors, as `tower::filter` or a status check does.
#[tokio::test(start_paused = true)]
async fn an_error_made_by_a_layer_of_the_users_is_the_source_of_ours() {
    #[derive(Debug, PartialEq, thiserror::Error)]
    #[error("bad status {0}")]
    struct Status(u16);
    let service = ServiceBuilder::new()
        .layer(DeadlineLayer::new(Duration::from_secs(3)).unwrap())
        .layer(retry())
        .layer(CircuitBreakerLayer::new(
            Breaker::count(9, Duration::from_secs(9)).unwrap(),
        ))
        .map_err(|error: tower::BoxError| error)
        .and_then(|response: http::Response<_>| async move {
            match response.status().as_u16() {
                status @ 400.. => Err(tower::BoxError::from(Status(status))),
                _ => Ok(response),
            }
        })
        .map_err(|error: std::io::Error| tower::BoxError::from(error))
        .service(statuses([404]));
    let error = service.oneshot(put()).await.unwrap_err();
    let source = std::error::Error::source(&error).unwrap();
    assert_eq!(source.downcast_ref::<Status>(), Some(&Status(404)));
    assert!(error.to_string().contains("bad status 404"), "{error}");
}

/// A service that panics when it is called or asked leaves permits, slots and later calls alone.
#[tokio::test(start_paused = true)]
async fn a_service_that_panics_outside_its_future_leaves_nothing_behind() {
    use futures::FutureExt;
    use std::{
        panic::AssertUnwindSafe,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering::SeqCst},
        },
        task::{Context, Poll},
    };
    /// Panics when asked first, and when called first.
    #[derive(Clone)]
    struct Moody(Arc<AtomicUsize>, Script);
    impl tower::Service<Request<Body>> for Moody {
        type Response = <Script as tower::Service<Request<Body>>>::Response;
        type Error = std::io::Error;
        type Future = <Script as tower::Service<Request<Body>>>::Future;
        fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
            assert_ne!(self.0.fetch_add(1, SeqCst), 0, "asked");
            tower::Service::<Request<Body>>::poll_ready(&mut self.1, cx)
        }
        fn call(&mut self, request: Request<Body>) -> Self::Future {
            assert_ne!(self.0.fetch_add(1, SeqCst), 2, "called");
            self.1.call(request)
        }
    }
    let breaker = Breaker::builder()
        .consecutive_failures(1)
        .break_duration(Duration::from_secs(1))
        .build()
        .unwrap();
    breaker.try_acquire().unwrap().failure();
    tokio::time::advance(Duration::from_secs(1)).await;
    let script = statuses([200]);
    let service = ServiceBuilder::new()
        .layer(DeadlineLayer::new(Duration::from_secs(3)).unwrap())
        .layer(IdempotencyKeyLayer::default())
        .layer(retry())
        .layer(CircuitBreakerLayer::new(breaker.clone()))
        .layer(AttemptTimeoutLayer::new(Duration::from_secs(1)).unwrap())
        .service(Moody(Arc::default(), script.clone()));
    for _ in 0..2 {
        let call = AssertUnwindSafe(service.clone().oneshot(put()));
        assert!(call.catch_unwind().await.is_err());
        assert_eq!(breaker.snapshot().probes, 0);
    }
    assert_eq!(service.oneshot(put()).await.unwrap().status(), 200);
    assert_eq!(script.seen().len(), 1);
}

/// Two copies of one attempt at once, as a hedging layer of others sends them: one answer, nobody blamed.
#[tokio::test(start_paused = true)]
async fn copies_of_one_call_may_run_at_once() {
    let mock = Mock::new([Act::hang(), Act::ok().after(millis(10))]);
    let breaker = Breaker::count(1, Duration::from_secs(9)).unwrap();
    let inner = ServiceBuilder::new()
        .layer(CircuitBreakerLayer::new(breaker.clone()))
        .layer(AttemptTimeoutLayer::new(Duration::from_secs(2)).unwrap())
        .service(mock.clone());
    let hedge = tower::service_fn(move |request: Request<Body>| {
        let mut copy = Request::new(request.body().try_clone().unwrap());
        *copy.method_mut() = request.method().clone();
        let (first, second) = (inner.clone(), inner.clone());
        async move {
            let first = std::pin::pin!(first.oneshot(request));
            let second = std::pin::pin!(async {
                tokio::time::sleep(millis(20)).await;
                second.oneshot(copy).await
            });
            futures::future::select(first, second)
                .await
                .factor_first()
                .0
        }
    });
    let service = ServiceBuilder::new()
        .layer(DeadlineLayer::new(Duration::from_secs(3)).unwrap())
        .layer(retry())
        .service(hedge);
    let answer = service.oneshot(put()).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!((mock.calls(), mock.in_flight()), (2, 0));
    let seen = breaker.snapshot();
    assert_eq!((seen.failed, seen.abandoned), (0, 1), "{seen:?}");
}

#[tokio::test(start_paused = true)]
async fn trailers_come_through_every_layer() {
    use bytes::Bytes;
    use http_body::Frame;
    use http_body_util::{BodyExt, StreamBody};
    let below = tower::service_fn(|_: Request<Body>| async {
        let mut trailers = http::HeaderMap::new();
        trailers.insert("x-sum", "42".parse().unwrap());
        let frames = [Frame::data(Bytes::from("data")), Frame::trailers(trailers)];
        let frames = frames.map(Ok::<_, std::io::Error>);
        Ok::<_, std::io::Error>(http::Response::new(StreamBody::new(futures::stream::iter(
            frames,
        ))))
    });
    let service = ServiceBuilder::new()
        .layer(DeadlineLayer::new(Duration::from_secs(3)).unwrap())
        .layer(IdempotencyKeyLayer::default())
        .layer(retry())
        .layer(CircuitBreakerLayer::new(
            Breaker::count(9, Duration::from_secs(9)).unwrap(),
        ))
        .layer(AttemptTimeoutLayer::new(Duration::from_secs(1)).unwrap())
        .service(below);
    let whole = service
        .oneshot(put())
        .await
        .unwrap()
        .into_body()
        .collect()
        .await
        .unwrap();
    assert_eq!(whole.trailers().unwrap()["x-sum"], "42");
    assert_eq!(whole.to_bytes(), "data");
}

/// Many callers who lose interest at random moments, on many threads: all is given back.
#[test]
fn calls_dropped_on_many_threads_give_everything_back() {
    use crate::support::mock::Step;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_time()
        .build()
        .unwrap();
    let acts = (0..400_u64).map(|number| match number % 4 {
        0 => Act::status(503).after(millis(1)),
        1 => Act::hang(),
        2 => Act::fail(std::io::ErrorKind::ConnectionReset).after(millis(1)),
        _ => Act::ok()
            .after(millis(1))
            .body([Step::pause(millis(1)), Step::data("x")]),
    });
    let mock = Mock::new(acts);
    let breaker = Breaker::builder()
        .consecutive_failures(20)
        .break_duration(millis(3))
        .build()
        .unwrap();
    let service = ServiceBuilder::new()
        .layer(DeadlineLayer::new(millis(60)).unwrap())
        .layer(IdempotencyKeyLayer::default())
        .layer(retry())
        .concurrency_limit(16)
        .layer(CircuitBreakerLayer::new(breaker.clone()))
        .layer(AttemptTimeoutLayer::new(millis(8)).unwrap())
        .service(mock.clone());
    runtime.block_on(async {
        let tasks: Vec<_> = (0..300_u64)
            .map(|number| {
                let call = service.clone().oneshot(put());
                tokio::spawn(tokio::time::timeout(millis(number % 17), call))
            })
            .collect();
        for task in tasks {
            drop(task.await.unwrap());
        }
    });
    assert_eq!(
        (mock.in_flight(), mock.reserved(), mock.bodies()),
        (0, 0, 0)
    );
    std::thread::sleep(millis(5));
    let probe = breaker.try_acquire().unwrap();
    assert_eq!(breaker.snapshot().probes, u8::from(probe.is_probe()));
}
