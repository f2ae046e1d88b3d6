//! Retry over the balancer: where the next attempt goes, and when.

mod support;

use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use evenkeel::{
    Backoff, Body, Endpoint, ErrorKind, Fixed, IdempotencyKeyLayer, IdempotencyKeys, Jitter,
    KeyScope, Random, Retry, RetryLayer,
    balance::Balancer,
    call::Stop,
    discover::{Discover, from_stream},
};
use http::{Request, Response};
use http_body_util::Full;
use tokio::time::Instant;
use tower::{Layer, Service, ServiceBuilder, ServiceExt};

/// Endpoints 1 to n; odd ones in region "east", even ones in "west"; a zone of their own each.
fn endpoint(number: u8) -> Endpoint {
    let endpoint = Endpoint::parse(&format!("10.0.0.{number}:80")).expect("an address");
    let region = if number % 2 == 1 { "east" } else { "west" };
    endpoint
        .with_region(region)
        .with_zone(format!("zone {number}"))
}

type Log = Arc<Mutex<Vec<(u8, Duration)>>>;
type Answer = Result<Response<Full<Bytes>>, io::Error>;

/// A balancer whose endpoints answer by `answer(endpoint, attempt of the test)`.
fn balanced(
    source: impl Discover,
    log: Log,
    answer: impl Fn(u8, usize) -> Answer + Clone + Send + Sync + 'static,
) -> impl Service<
    Request<Body>,
    Response = Response<impl http_body::Body>,
    Error = evenkeel::Error,
    Future: Send,
> + Clone
+ Send
+ Sync
+ 'static {
    let start = Instant::now();
    Balancer::builder(source)
        .random(Random::seeded(3))
        .build(move |endpoint| {
            let number = match endpoint.address().ip() {
                std::net::IpAddr::V4(ip) => ip.octets()[3],
                std::net::IpAddr::V6(_) => 0,
            };
            let (log, answer) = (Arc::clone(&log), answer.clone());
            Ok(tower::service_fn(move |_: Request<Body>| {
                let mut log = log.lock().expect("no panic");
                log.push((number, start.elapsed()));
                let answer = answer(number, log.len());
                async move { answer }
            }))
        })
        .expect("valid")
}

fn status(code: u16) -> Answer {
    let mut response = Response::new(Full::new(Bytes::new()));
    *response.status_mut() = code.try_into().expect("a status");
    Ok(response)
}

fn reset() -> Answer {
    Err(io::ErrorKind::ConnectionReset.into())
}

fn retry() -> RetryLayer {
    let backoff = Backoff::default()
        .initial(Duration::from_millis(100))
        .jitter(Jitter::None);
    RetryLayer::new(
        Retry::default()
            .backoff(backoff)
            .without_budget()
            .build()
            .expect("valid"),
    )
}

fn post() -> Request<Body> {
    Request::post("/charges")
        .body(Body::from("x"))
        .expect("a request")
}

#[tokio::test(start_paused = true)]
async fn the_first_retry_goes_elsewhere_at_once_and_the_second_waits() {
    for fault in [
        || status(503),
        reset,
        || Err(io::ErrorKind::ConnectionRefused.into()),
    ] {
        let log = Log::default();
        let service = balanced(
            Fixed::new((1..=5).map(endpoint)),
            Arc::clone(&log),
            move |_, _| fault(),
        );
        let call = Request::get("/").body(Body::empty()).expect("a request");
        let _ = retry().layer(service).oneshot(call).await;
        let log = log.lock().expect("no panic");
        let times: Vec<_> = log.iter().map(|(_, at)| at.as_millis()).collect();
        assert_eq!(
            times,
            [0, 0, 200],
            "the wait is left out, the exponent is not shifted"
        );
        let mut tried: Vec<_> = log.iter().map(|(number, _)| *number).collect();
        tried.sort_unstable();
        tried.dedup();
        assert_eq!(
            tried.len(),
            3,
            "each attempt went to another endpoint: {log:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn with_nowhere_else_to_go_or_a_pushback_the_first_retry_waits() {
    let log = Log::default();
    let service = balanced(Fixed::new([endpoint(1)]), Arc::clone(&log), |_, _| {
        status(503)
    });
    let get = || Request::get("/").body(Body::empty()).expect("a request");
    let _ = retry().layer(service).oneshot(get()).await;
    assert_eq!(
        log.lock().expect("no panic")[1].1,
        Duration::from_millis(100)
    );

    let log = Log::default();
    let service = balanced(
        Fixed::new((1..=5).map(endpoint)),
        Arc::clone(&log),
        |_, _| {
            status(503).map(|mut response| {
                response
                    .headers_mut()
                    .insert("retry-after", http::HeaderValue::from_static("1"));
                response
            })
        },
    );
    let _ = retry().layer(service).oneshot(get()).await;
    assert!(log.lock().expect("no panic")[1].1 >= Duration::from_secs(1));
}

async fn regions_of(scope: Option<KeyScope>, answer: fn(u8, usize) -> Answer) -> Vec<Vec<u8>> {
    let mut calls = Vec::new();
    let log = Log::default();
    let service = balanced(Fixed::new((1..=6).map(endpoint)), Arc::clone(&log), answer);
    let keys = scope.map_or_else(IdempotencyKeys::default, |scope| {
        IdempotencyKeys::default().scope(scope)
    });
    let service = ServiceBuilder::new()
        .layer(IdempotencyKeyLayer::new(keys).expect("valid"))
        .layer(retry())
        .service(service);
    for _ in 0..30 {
        let _ = service.clone().oneshot(post()).await;
        calls.push(
            log.lock()
                .expect("no panic")
                .drain(..)
                .map(|(number, _)| number)
                .collect(),
        );
    }
    calls
}

fn all_in_one(attempts: &[u8]) -> bool {
    attempts.iter().all(|number| number % 2 == attempts[0] % 2)
}

#[tokio::test(start_paused = true)]
async fn a_keyed_call_that_went_unanswered_stays_in_the_scope_of_its_key() {
    let by_default = regions_of(None, |_, _| reset()).await;
    assert!(
        by_default.iter().all(|attempts| all_in_one(attempts)),
        "{by_default:?}"
    );
    assert!(
        by_default
            .iter()
            .all(|attempts| attempts.len() == 3 && attempts[0] != attempts[1])
    );

    let zone = regions_of(Some(KeyScope::Zone), |_, _| reset()).await;
    assert!(
        zone.iter()
            .all(|attempts| attempts.iter().all(|number| *number == attempts[0])),
        "{zone:?}"
    );

    let global = regions_of(Some(KeyScope::Global), |_, _| reset()).await;
    assert!(
        !global.iter().all(|attempts| all_in_one(attempts)),
        "{global:?}"
    );

    let answered = regions_of(None, |_, _| status(503)).await;
    assert!(
        !answered.iter().all(|attempts| all_in_one(attempts)),
        "what was answered is known: {answered:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_key_is_known_nowhere_any_more_ends_with_that_reason() {
    let (sets, source) = tokio::sync::mpsc::unbounded_channel::<Vec<Endpoint>>();
    let source = futures::stream::unfold(source, |mut source| async move {
        let set = source.recv().await?;
        Some((Ok::<_, evenkeel::BoxError>(set), source))
    });
    sets.send(vec![endpoint(1)]).expect("listening");
    let log = Log::default();
    let service = balanced(from_stream(source), Arc::clone(&log), |_, _| reset());
    let service = ServiceBuilder::new()
        .layer(IdempotencyKeyLayer::new(IdempotencyKeys::default()).expect("valid"))
        .layer(retry())
        .service(service);
    let call = tokio::spawn(service.oneshot(post()));
    tokio::time::sleep(Duration::from_millis(50)).await;
    sets.send(vec![endpoint(2), endpoint(4)])
        .expect("listening");
    let Err(error) = call.await.expect("no panic") else {
        panic!("every attempt is reset");
    };
    assert_eq!(error.kind(), ErrorKind::NoEndpoints);
    assert_eq!(error.report().stop(), Some(Stop::OutOfKeyScope));
    assert!(error.may_have_happened());
    assert_eq!(log.lock().expect("no panic").len(), 1);
}
