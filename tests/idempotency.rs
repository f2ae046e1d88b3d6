//! The idempotency key layer over scripted services, under paused time.

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
use support::mock::{Act, Mock, Readiness, Seen, millis};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, layer::layer_fn};

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

// IDK-01 (square/square-mcp-server#31, svix/svix-webhooks#2401)
#[tokio::test(start_paused = true)]
async fn every_attempt_carries_the_same_key_wherever_the_layer_stands() {
    let deadline = DeadlineLayer::new(Duration::from_secs(9)).expect("above zero");
    let key = IdempotencyKeyLayer::default();
    let (outside, inside) = (failing_twice(), failing_twice());
    let above = ServiceBuilder::new()
        .layer(&key)
        .layer(layer_fn(Repeat))
        .service(outside.clone());
    let below = ServiceBuilder::new()
        .layer(deadline)
        .layer(layer_fn(Repeat))
        .layer(&key)
        .service(inside.clone());
    above.oneshot(post()).await.expect("the third attempt");
    below.oneshot(post()).await.expect("the third attempt");
    for mock in [outside, inside] {
        let keys = keys(&mock.seen(), HEADER);
        assert_eq!(keys.len(), 3);
        assert_eq!(keys[0].len(), 1, "exactly one header");
        assert!(keys.iter().all(|key| *key == keys[0]), "{keys:?}");
    }
}

fn retry() -> RetryLayer {
    let retry = Retry::default().max_attempts(3).without_budget();
    RetryLayer::new(retry.build().expect("valid settings"))
}

fn body(request: Request<String>) -> Request<Full<Bytes>> {
    request.map(|_| Full::new(Bytes::from("charge")))
}

// IDK-01 (square/square-mcp-server#31, svix/svix-webhooks#2401)
#[tokio::test(start_paused = true)]
async fn a_post_that_times_out_twice_is_repeated_with_one_key_in_both_layer_orders() {
    let key = IdempotencyKeyLayer::default();
    let limit = AttemptTimeoutLayer::new(millis(50)).expect("above zero");
    let script = || Mock::new([Act::hang(), Act::hang(), Act::ok()]);
    let (outside, inside) = (script(), script());
    let above = key.layer(retry().layer(limit.layer(outside.clone())));
    let below = retry().layer(key.layer(limit.layer(inside.clone())));
    above
        .oneshot(body(post()))
        .await
        .expect("the third attempt");
    below
        .oneshot(body(post()))
        .await
        .expect("the third attempt");
    for mock in [outside, inside] {
        let keys = keys(&mock.seen(), HEADER);
        assert_eq!((keys.len(), keys[0].len()), (3, 1));
        assert!(keys.iter().all(|key| *key == keys[0]), "{keys:?}");
    }
}

// IDK-04 (http4s/http4s#4614)
#[tokio::test(start_paused = true)]
async fn a_key_of_whatever_origin_makes_a_post_retryable_and_distrust_undoes_it() {
    let default = IdempotencyKeyLayer::default;
    let distrusting = || keyed(IdempotencyKeys::default().trust_caller_keys(false));
    let callers_only = || keyed(IdempotencyKeys::default().methods([]));
    let given = || with(post(), CallPolicy::new().idempotency_key("order-42"));
    let without = |request| with(request, CallPolicy::new().no_idempotency_key());
    for (layer, request, calls) in [
        (default(), post(), 3),
        (default(), bringing("mykey123"), 3),
        (default(), given(), 3),
        (callers_only(), bringing("mykey123"), 3),
        (callers_only(), post(), 1),
        (distrusting(), bringing("mykey123"), 1),
        (distrusting(), given(), 3),
        (default(), without(post()), 1),
        (default(), without(bringing("mykey123")), 1),
        (default(), bringing(""), 1),
    ] {
        let (outside, inside) = (failing_twice(), failing_twice());
        let above = layer.layer(retry().layer(outside.clone()));
        let below = retry().layer(layer.layer(inside.clone()));
        let answers = [
            above.oneshot(body(request.clone())).await.map(drop),
            below.oneshot(body(request.clone())).await.map(drop),
        ];
        assert_eq!(
            (outside.calls(), inside.calls()),
            (calls, calls),
            "{request:?}"
        );
        assert!(answers.iter().all(|answer| answer.is_ok() == (calls == 3)));
    }
}

#[tokio::test(start_paused = true)]
async fn no_attempt_is_made_when_the_destination_may_have_forgotten_the_key() {
    let forgetful = keyed(IdempotencyKeys::default().lifetime(millis(10)));
    let mock = failing_twice();
    let service = forgetful.layer(retry().layer(mock.clone()));
    let error = service.oneshot(body(post())).await.map(drop).unwrap_err();
    assert_eq!(mock.calls(), 1, "{error}");
    assert!(error.may_have_happened());
}

#[tokio::test(start_paused = true)]
async fn a_call_is_not_repeated_beyond_the_lifetime_that_its_caller_states() {
    let stating = |lifetime: Duration| CallPolicy::new().idempotency_key_lifetime(lifetime);
    let day = Duration::from_secs(86_400);
    let short = || keyed(IdempotencyKeys::default().lifetime(millis(10)));
    for (layer, request, calls) in [
        (None, with(bringing("k"), stating(millis(10))), 1),
        (None, with(bringing("k"), stating(day)), 3),
        (None, with(bringing("k"), stating(Duration::MAX)), 3),
        (None, bringing("k"), 3),
        (Some(short()), with(bringing("k"), stating(day)), 3),
        (Some(short()), bringing("k"), 3),
        (Some(short()), with(post(), stating(day)), 3),
        (Some(short()), post(), 1),
        (
            Some(IdempotencyKeyLayer::default()),
            with(post(), stating(millis(10)).idempotency_key("order-42")),
            1,
        ),
        (
            Some(IdempotencyKeyLayer::default()),
            with(bringing("k"), stating(millis(10))),
            1,
        ),
    ] {
        let (mock, case) = (failing_twice(), format!("{layer:?} {request:?}"));
        let retried = retry().layer(mock.clone());
        let answer = match layer {
            Some(layer) => layer.layer(retried).oneshot(body(request)).await.map(drop),
            None => retried.oneshot(body(request)).await.map(drop),
        };
        assert_eq!(mock.calls(), calls, "{case}");
        if let Err(error) = answer {
            assert_eq!(error.report().stop(), Some(Stop::KeyExpired), "{case}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_stated_lifetime_of_zero_fails_the_call_unsent() {
    let policy = CallPolicy::new().idempotency_key_lifetime(Duration::ZERO);
    let error = refused(&IdempotencyKeyLayer::default(), with(post(), policy)).await;
    let line = error.to_string();
    assert!(
        line.contains("CallPolicy::idempotency_key_lifetime"),
        "{line}"
    );
}

// IDK-02 (Modern-Treasury/modern-treasury-python#70)
#[tokio::test(start_paused = true)]
async fn the_callers_key_is_sent_unchanged_and_alone_on_every_attempt() {
    let deadline = DeadlineLayer::new(Duration::from_secs(9)).expect("above zero");
    for layer in [
        IdempotencyKeyLayer::default(),
        keyed(IdempotencyKeys::default().quoted()),
        keyed(IdempotencyKeys::default().trust_caller_keys(false)),
        keyed(IdempotencyKeys::default().natural_key(|_| Some("natural".to_owned()))),
    ] {
        let (outside, inside) = (failing_twice(), failing_twice());
        let above = layer.layer(Repeat(outside.clone()));
        let below = deadline.layer(Repeat(layer.layer(inside.clone())));
        above
            .oneshot(bringing("mykey123"))
            .await
            .expect("the third attempt");
        below
            .oneshot(bringing("mykey123"))
            .await
            .expect("the third attempt");
        for mock in [outside, inside] {
            assert_eq!(keys(&mock.seen(), HEADER), vec![vec!["mykey123"]; 3]);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_unusual_key_of_the_caller_is_left_as_it_is() {
    for key in [
        "",
        "\"quoted\"",
        "with space",
        "k\u{7f}",
        &"long".repeat(200),
    ] {
        let mut request = post();
        let value = http::HeaderValue::from_bytes(key.as_bytes());
        let Ok(value) = value else { continue };
        request.headers_mut().insert(HEADER, value.clone());
        let mock = Mock::new([]);
        let service = IdempotencyKeyLayer::default().layer(mock.clone());
        service.oneshot(request).await.expect("an answer");
        let values: Vec<_> = mock.seen()[0]
            .headers
            .get_all(HEADER)
            .iter()
            .cloned()
            .collect();
        assert_eq!(values, [value]);
    }
}

#[tokio::test(start_paused = true)]
async fn two_keys_in_one_request_are_refused() {
    let mut request = bringing("one");
    request
        .headers_mut()
        .append(HEADER, "two".parse().expect("a header value"));
    let error = refused(&IdempotencyKeyLayer::default(), request).await;
    let line = error.to_string();
    assert!(
        line.contains("2 values of the header idempotency-key"),
        "{line}"
    );
    assert!(
        !line.contains("one,") && !line.contains("two"),
        "no key in it: {line}"
    );
}

// IDK-03 (tryAGI/AutoSDK#238)
#[tokio::test(start_paused = true)]
async fn only_post_and_patch_get_a_key_by_default() {
    let layer = IdempotencyKeyLayer::default();
    let unkeyed = [
        "GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "PROPFIND",
    ];
    for method in unkeyed {
        let method = method.parse().expect("a method");
        assert_eq!(sent(&layer, request(method)).await, Vec::<String>::new());
    }
    for method in [Method::POST, Method::PATCH] {
        assert_eq!(sent(&layer, request(method)).await.len(), 1);
    }
}

// IDK-03 (tryAGI/AutoSDK#238)
#[tokio::test(start_paused = true)]
async fn methods_and_header_are_settings_and_a_call_can_do_without() {
    let puts = keyed(IdempotencyKeys::default().methods([Method::PUT]));
    assert_eq!(sent(&puts, request(Method::PUT)).await.len(), 1);
    assert!(sent(&puts, post()).await.is_empty());
    let none = keyed(IdempotencyKeys::default().methods([]));
    assert!(sent(&none, post()).await.is_empty());

    let without = with(post(), CallPolicy::new().no_idempotency_key());
    assert!(
        sent(&IdempotencyKeyLayer::default(), without)
            .await
            .is_empty()
    );

    let mock = Mock::new([]);
    let named = keyed(IdempotencyKeys::default().header("X-Request-Token"));
    named
        .layer(mock.clone())
        .oneshot(post())
        .await
        .expect("an answer");
    assert_eq!(keys(&mock.seen(), "x-request-token")[0].len(), 1);
    assert!(keys(&mock.seen(), HEADER)[0].is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_key_given_for_the_call_is_sent_whatever_its_method() {
    let layer = IdempotencyKeyLayer::default();
    let given = || CallPolicy::new().idempotency_key("order-42");
    assert_eq!(sent(&layer, with(post(), given())).await, ["order-42"]);
    assert_eq!(
        sent(&layer, with(request(Method::DELETE), given())).await,
        ["order-42"]
    );
    assert_eq!(
        sent(&layer, with(bringing("mine"), given())).await,
        ["mine"],
        "never touched"
    );
    let quoted = keyed(IdempotencyKeys::default().quoted());
    let tricky = CallPolicy::new().idempotency_key(r#"a "b" \c"#);
    assert_eq!(
        sent(&quoted, with(post(), tricky)).await,
        [r#""a \"b\" \\c""#]
    );
}

#[tokio::test(start_paused = true)]
async fn a_key_that_cannot_be_sent_fails_the_call_unsent() {
    for key in ["", "a\nb", "schlüssel", &"k".repeat(256)] {
        let given = with(post(), CallPolicy::new().idempotency_key(key));
        let error = refused(&IdempotencyKeyLayer::default(), given).await;
        assert!(
            error.to_string().contains("CallPolicy::idempotency_key"),
            "{error}"
        );

        let natural = key.to_owned();
        let keys = IdempotencyKeys::default().natural_key(move |_| Some(natural.clone()));
        let error = refused(&keyed(keys), post()).await;
        assert!(!error.to_string().contains("schl"), "no key in it: {error}");
    }
}

// IDK-05 (cartalyst/stripe#93, svix/svix-webhooks#1944)
#[tokio::test(start_paused = true)]
async fn a_template_sent_twice_gets_two_keys() {
    let mock = Mock::new([]);
    let service = IdempotencyKeyLayer::default().layer(mock.clone());
    let template = with(post(), CallPolicy::new());
    service
        .clone()
        .oneshot(template.clone())
        .await
        .expect("an answer");
    tokio::time::advance(millis(10)).await;
    service.oneshot(template).await.expect("an answer");
    let keys = keys(&mock.seen(), HEADER);
    assert_ne!(keys[0], keys[1]);
}

// IDK-05 (cartalyst/stripe#93, svix/svix-webhooks#1944)
#[test]
fn eight_threads_with_one_service_never_share_a_key() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(8)
        .enable_time()
        .build();
    let mock = Mock::new([]);
    runtime.expect("a runtime").block_on(async {
        let service = IdempotencyKeyLayer::default().layer(mock.clone());
        let tasks = (0..8).map(|_| {
            let service = service.clone();
            tokio::spawn(async move {
                for _ in 0..250 {
                    service.clone().oneshot(post()).await.expect("an answer");
                }
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.expect("no panic");
        }
    });
    let keys: HashSet<_> = keys(&mock.seen(), HEADER).into_iter().flatten().collect();
    assert_eq!(keys.len(), 2000);
    for key in keys {
        let parsed = uuid(&key);
        assert_eq!(
            (parsed.0, parsed.1),
            ('4', true),
            "a version 4 UUID of 122 random bits: {key}"
        );
    }
}

/// Version digit, and whether the variant is that of RFC 9562 and the form is right.
fn uuid(key: &str) -> (char, bool) {
    let groups: Vec<_> = key.split('-').collect();
    let lengths = groups.iter().map(|group| group.len()).collect::<Vec<_>>();
    let hex = key
        .chars()
        .all(|char| char == '-' || matches!(char, '0'..='9' | 'a'..='f'));
    let variant = groups[3].starts_with(['8', '9', 'a', 'b']);
    let version = groups[2].chars().next().expect("a digit");
    (version, variant && hex && lengths == [8, 4, 4, 4, 12])
}

#[tokio::test(start_paused = true)]
async fn a_natural_key_is_asked_for_once_per_call_and_may_decline() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let natural = move |parts: &http::request::Parts| {
        counted.fetch_add(1, Relaxed);
        Some(format!(
            "pay-{}",
            parts.headers.get("order")?.to_str().ok()?
        ))
    };
    let layer = keyed(IdempotencyKeys::default().natural_key(natural));
    let deadline = DeadlineLayer::new(Duration::from_secs(9)).expect("above zero");
    let mock = failing_twice();
    let service = deadline.layer(Repeat(layer.layer(mock.clone())));
    let mut order = post();
    order
        .headers_mut()
        .insert("order", "42".parse().expect("a header value"));
    service.oneshot(order).await.expect("the third attempt");
    assert_eq!(keys(&mock.seen(), HEADER), vec![vec!["pay-42"]; 3]);
    assert_eq!(asked.load(Relaxed), 1);

    let declined = sent(&layer, post()).await;
    assert_eq!(uuid(&declined[0]).0, '4');
}

#[tokio::test(start_paused = true)]
async fn settings_out_of_range_are_refused_by_name() {
    let keys = IdempotencyKeys::default;
    for (keys, field) in [
        (keys().header("no name"), "IdempotencyKeys::header"),
        (keys().header(""), "IdempotencyKeys::header"),
        (keys().lifetime(Duration::ZERO), "IdempotencyKeys::lifetime"),
    ] {
        assert_eq!(IdempotencyKeyLayer::new(keys).unwrap_err().field(), field);
    }
    let endless = keyed(keys().lifetime(Duration::MAX));
    assert_eq!(sent(&endless, post()).await.len(), 1);
}

// TWR-01 (tower-rs/tower#547), TWR-05 (linkerd/linkerd2-proxy#506)
#[tokio::test(start_paused = true)]
async fn the_instance_that_was_polled_ready_is_the_one_called() {
    for readiness in [
        Readiness::Always,
        Readiness::Polls(2),
        Readiness::After(millis(5)),
    ] {
        let mock = Mock::new([]).readiness(readiness);
        let mut service = IdempotencyKeyLayer::default().layer(mock.clone());
        for _ in 0..3 {
            let ready = ServiceExt::<Request<String>>::ready(&mut service).await;
            ready.expect("ready").call(post()).await.expect("an answer");
        }
        assert_eq!((mock.calls(), mock.reserved()), (3, 0), "{readiness:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_waits_below_the_layer_was_not_sent() {
    let mock = Mock::new([]).readiness(Readiness::Never);
    let deadline = DeadlineLayer::new(millis(50)).expect("above zero");
    let service = deadline.layer(IdempotencyKeyLayer::default().layer(mock.clone()));
    let error = service.oneshot(post()).await.map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
    assert_eq!(
        (error.disposition(), mock.calls()),
        (Disposition::NotSent, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn a_key_is_hidden_from_debug() {
    let mock = Mock::new([]);
    let service = IdempotencyKeyLayer::default().layer(mock.clone());
    let policy = CallPolicy::new().idempotency_key("topsecret-order");
    service
        .oneshot(with(post(), policy))
        .await
        .expect("an answer");
    let headers = &mock.seen()[0].headers;
    assert!(headers.contains_key(HEADER));
    assert!(!format!("{headers:?}").contains("topsecret"));
}

#[cfg(feature = "test-util")]
#[tokio::test(start_paused = true)]
async fn seeded_keys_repeat_for_tests_and_are_version_4_still() {
    let layer = |seed| keyed(IdempotencyKeys::default().seeded(seed));
    let (one, two, other) = (layer(7), layer(7), layer(8));
    let key = sent(&one, post()).await;
    assert_eq!(sent(&two, post()).await, key);
    assert_ne!(sent(&one, post()).await, key);
    assert_ne!(sent(&other, post()).await, key);
    assert_eq!(uuid(&key[0]), ('4', true));
}
