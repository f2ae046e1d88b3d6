//! IDK: one key for one call.

use evenkeel::{
    Backoff, Body, CallPolicy, IdempotencyKeyLayer, IdempotencyKeys, Jitter, Retry, RetryLayer,
};
use http::{HeaderName, Method, Request};
use tower::{Layer, ServiceBuilder, ServiceExt};

use crate::support::script::{Act, Script, answering};

fn retry() -> Retry {
    let backoff = Backoff::default().jitter(Jitter::None);
    Retry::default().backoff(backoff).without_budget()
}

fn request(method: Method) -> Request<Body> {
    Request::builder()
        .method(method)
        .uri("/orders/42")
        .body(Body::from("x"))
        .unwrap()
}

fn lost_once() -> Script {
    Script::by(|attempt| match attempt {
        1 => Act::fail(std::io::ErrorKind::ConnectionReset),
        _ => answering(200),
    })
}

#[tokio::test(start_paused = true)]
async fn a_patch_is_repeated_under_the_key_that_follows_from_it() {
    let keys = IdempotencyKeys::default()
        .natural_key(|parts| Some(format!("{}-7", parts.uri.path().replace('/', "-"))));
    let script = lost_once();
    let service = ServiceBuilder::new()
        .layer(IdempotencyKeyLayer::new(keys).unwrap())
        .layer(RetryLayer::new(retry().build().unwrap()))
        .service(script.clone());
    service.oneshot(request(Method::PATCH)).await.unwrap();
    let sent = script.seen();
    assert_eq!(sent.len(), 2);
    assert!(
        sent.iter()
            .all(|sent| sent.headers["idempotency-key"] == "-orders-42-7")
    );
}

#[tokio::test(start_paused = true)]
async fn a_callers_key_counts_however_its_header_is_written_and_wherever_it_is_looked_for() {
    let names = ["idempotency-key", "Idempotency-Key", "IDEMPOTENCY-KEY"];
    for name in names {
        let script = lost_once();
        let mut call = request(Method::POST);
        call.headers_mut().insert(
            HeaderName::from_bytes(name.as_bytes()).unwrap(),
            "k1".parse().unwrap(),
        );
        RetryLayer::new(retry().build().unwrap())
            .layer(script.clone())
            .oneshot(call)
            .await
            .unwrap();
        assert_eq!(script.seen().len(), 2, "{name}");
    }
    let custom = HeaderName::from_static("x-request-token");
    let (keys, trusting) = (
        IdempotencyKeys::default().header("X-Request-Token"),
        retry().key_header(custom.clone()).build().unwrap(),
    );
    let script = lost_once();
    let mut call = request(Method::POST);
    call.headers_mut().insert(custom, "k2".parse().unwrap());
    let service = ServiceBuilder::new()
        .layer(RetryLayer::new(trusting))
        .layer(IdempotencyKeyLayer::new(keys).unwrap())
        .service(script.clone());
    service.oneshot(call).await.unwrap();
    let sent = script.seen();
    assert_eq!(sent.len(), 2);
    assert!(
        sent.iter()
            .all(|sent| sent.headers["x-request-token"] == "k2")
    );
    assert!(
        sent.iter()
            .all(|sent| !sent.headers.contains_key("idempotency-key"))
    );
}

/// Two key layers with different headers, as an application and a library may bring them: one key.
#[tokio::test(start_paused = true)]
async fn two_key_layers_agree_on_one_key() {
    let script = lost_once();
    let other = IdempotencyKeys::default().header("x-request-token");
    let service = ServiceBuilder::new()
        .layer(IdempotencyKeyLayer::default())
        .layer(RetryLayer::new(retry().build().unwrap()))
        .layer(IdempotencyKeyLayer::new(other).unwrap())
        .service(script.clone());
    service.oneshot(request(Method::POST)).await.unwrap();
    let sent = script.seen();
    let keys: std::collections::HashSet<_> = sent
        .iter()
        .flat_map(|sent| {
            ["idempotency-key", "x-request-token"].map(|name| sent.headers.get(name).cloned())
        })
        .collect();
    assert_eq!(keys.len(), 1, "{}", sent.len());
}

#[tokio::test(start_paused = true)]
async fn a_post_without_a_key_for_once_is_sent_once_and_bare() {
    let script = lost_once();
    let service = ServiceBuilder::new()
        .layer(IdempotencyKeyLayer::default())
        .layer(RetryLayer::new(retry().build().unwrap()))
        .service(script.clone());
    let mut call = request(Method::POST);
    call.extensions_mut()
        .insert(CallPolicy::new().no_idempotency_key());
    let error = service.oneshot(call).await.unwrap_err();
    assert!(error.may_have_happened());
    assert!(script.seen().len() == 1 && script.seen()[0].headers.is_empty());
}
