//! TWR: layers of others between ours.

use std::time::Duration;

use evenkeel::{
    AttemptTimeoutLayer, Body, Breaker, CallPolicy, CircuitBreakerLayer, DeadlineLayer,
    Disposition, IdempotencyKeyLayer, Retry, RetryLayer,
};
use http::Request;
use tower::{ServiceBuilder, ServiceExt};

use crate::support::{
    mock::{self, Mock, millis},
    script::{Act, Script},
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
    let script = Script::statuses([503, 200]);
    let service = ServiceBuilder::new()
        .layer(DeadlineLayer::new(Duration::from_secs(3)).unwrap())
        .layer(retry())
        .buffer(4)
        .layer(CircuitBreakerLayer::new(breaker.clone()))
        .layer(AttemptTimeoutLayer::new(Duration::from_secs(1)).unwrap())
        .service(script.clone());
    let answer = service.clone().oneshot(put()).await.unwrap();
    assert_eq!((answer.status().as_u16(), script.sent().len()), (200, 2));
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
    let mock = Mock::new([mock::Act::status(503), mock::Act::hang(), mock::Act::ok()]);
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
    let mock = Mock::new([mock::Act::hang(), mock::Act::ok()]);
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
    let script = Script::new(|attempt| match attempt {
        1 => Act::error(std::io::ErrorKind::ConnectionReset),
        _ => Act::status(503),
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
    let sent = script.sent();
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
        .service(Script::statuses([404]));
    let error = service.oneshot(put()).await.unwrap_err();
    let source = std::error::Error::source(&error).unwrap();
    assert_eq!(source.downcast_ref::<Status>(), Some(&Status(404)));
    assert!(error.to_string().contains("bad status 404"), "{error}");
}
