//! Nothing that is told, in any way, shows what was planted in query, headers, body or key.

use std::{fmt::Debug, time::Duration};

use evenkeel::{
    AttemptTimeoutLayer, Body, Breaker, Budget, CallPolicy, CircuitBreakerLayer, DeadlineLayer,
    IdempotencyKey, IdempotencyKeyLayer, IdempotencyKeys, Report, Retry, RetryLayer,
    reqwest::HttpService,
};
use http::{HeaderName, Request};
use tower::{ServiceBuilder, ServiceExt};

use crate::support::script::{Act, Script, answering};

const SECRET: &str = "hunter2topsecret";

/// Both renderings, with everything below.
fn told(thing: &(impl std::error::Error + 'static)) -> String {
    let mut text = format!("{thing} {thing:?} {thing:#?}");
    let mut cause = thing.source();
    while let Some(error) = cause {
        text.push_str(&format!(" {error} {error:?}"));
        cause = error.source();
    }
    text
}

fn silent(what: &str, text: &str) {
    for planted in [SECRET, "hunter2"] {
        assert!(!text.contains(planted), "{what}: {text}");
    }
}

fn shown(thing: &impl Debug) -> String {
    format!("{thing:?} {thing:#?}")
}

fn call(uri: &str) -> Request<Body> {
    let mut call = Request::post(format!("{uri}?token={SECRET}"))
        .body(Body::from(SECRET))
        .unwrap();
    for name in ["authorization", "idempotency-key", "cookie"] {
        call.headers_mut()
            .insert(HeaderName::from_static(name), SECRET.parse().unwrap());
    }
    call
}

/// hashicorp/go-retryablehttp#206, http4s/http4s#6597
#[tokio::test(start_paused = true)]
async fn no_way_to_fail_shows_a_secret() {
    type Plan = fn(usize) -> Act;
    let plans: [Plan; 5] = [
        |_| {
            answering(503)
                .header("x-token", SECRET)
                .header("retry-after", "99999")
        },
        |_| Act::fail(std::io::ErrorKind::ConnectionReset),
        |_| Act::refuse(),
        |_| Act::hang(),
        |_| answering(409).header("location", SECRET),
    ];
    for plan in plans {
        let breaker = Breaker::count(2, Duration::from_secs(9)).unwrap();
        let service = ServiceBuilder::new()
            .layer(DeadlineLayer::new(Duration::from_secs(3)).unwrap())
            .layer(IdempotencyKeyLayer::default())
            .layer(RetryLayer::new(Retry::default().build().unwrap()))
            .layer(CircuitBreakerLayer::new(breaker.clone()))
            .layer(AttemptTimeoutLayer::new(Duration::from_secs(1)).unwrap())
            .service(Script::by(plan));
        for _ in 0..3 {
            let pending = service.clone().oneshot(call("http://pay.internal/x"));
            match pending.await {
                Ok(answer) => {
                    if let Some(report) = answer.extensions().get::<Report>() {
                        silent("report", &format!("{report} {}", shown(report)));
                    }
                }
                Err(error) => silent("error", &told(&error)),
            }
        }
        silent(
            "breaker",
            &format!("{} {}", shown(&breaker), shown(&breaker.snapshot())),
        );
    }
}

#[tokio::test]
async fn a_client_that_cannot_connect_shows_no_secret() {
    let service = ServiceBuilder::new()
        .layer(DeadlineLayer::new(Duration::from_secs(3)).unwrap())
        .layer(RetryLayer::new(Retry::default().build().unwrap()))
        .service(HttpService::new(
            crate::support::tls::client().build().unwrap(),
        ));
    for uri in [
        "http://127.0.0.1:1/x",
        "http://user:hunter2topsecret@127.0.0.1:1/x",
        "/relative",
        "ftp://127.0.0.1:1/x",
    ] {
        let error = service.clone().oneshot(call(uri)).await.unwrap_err();
        silent(uri, &told(&error));
    }
    silent("service", &shown(&service));
}

#[test]
fn the_debug_of_what_users_hold_shows_no_secret() {
    let key = IdempotencyKey::new(format!("k-42{SECRET}")).unwrap();
    let policy = CallPolicy::new().idempotency_key(format!("k-42{SECRET}"));
    let invalid = CallPolicy::new().idempotency_key(format!("{SECRET}\n"));
    let keys = IdempotencyKeys::default().natural_key(|_| Some(SECRET.to_owned()));
    silent("key", &shown(&key));
    silent("policy", &shown(&policy));
    silent("invalid", &shown(&invalid));
    silent(
        "invalid key",
        &told(&IdempotencyKey::new(format!("{SECRET}\n")).unwrap_err()),
    );
    silent("keys", &shown(&keys));
    silent("body", &shown(&Body::from(SECRET)));
    silent("budget", &shown(&Budget::default()));
}

/// One that is short is hidden, too: four characters would be all of it.
#[test]
fn a_short_key_is_not_shown_whole() {
    let key = IdempotencyKey::new("4711").unwrap();
    assert!(!format!("{key:?}").contains("4711"), "{key:?}");
}

#[tokio::test(start_paused = true)]
async fn a_pending_call_shows_no_secret() {
    let service = ServiceBuilder::new()
        .layer(DeadlineLayer::new(Duration::from_secs(3)).unwrap())
        .layer(IdempotencyKeyLayer::default())
        .layer(RetryLayer::new(Retry::default().build().unwrap()))
        .layer(CircuitBreakerLayer::new(
            Breaker::count(2, Duration::from_secs(9)).unwrap(),
        ))
        .layer(AttemptTimeoutLayer::new(Duration::from_secs(1)).unwrap())
        .service(
            crate::support::mock::Mock::new([]).readiness(crate::support::mock::Readiness::Never),
        );
    let mut service = std::pin::pin!(service);
    let pending = tower::Service::call(&mut *service, call("http://pay.internal/x"));
    silent("pending", &shown(&pending));
}

/// The ready-made client: what it builds, sends and says of failures.
#[tokio::test]
async fn the_ready_made_client_shows_no_secret() {
    let nowhere = crate::support::nowhere::Refusing::new();
    let origin = format!("http://{}", nowhere.address());
    let wrapped = crate::support::tls::client()
        .default_headers(
            [(http::header::AUTHORIZATION, SECRET.parse().unwrap())]
                .into_iter()
                .collect(),
        )
        .build()
        .unwrap();
    let client = evenkeel::Client::wrap_reqwest(wrapped).build().unwrap();
    silent("client", &shown(&client));
    let build = |url: &str| {
        client
            .post(url)
            .query(&[("token", SECRET)])
            .bearer_auth(SECRET)
            .header("x-secret", SECRET)
            .body(SECRET)
            .policy(CallPolicy::new().idempotency_key(format!("key-{SECRET}")))
    };
    let authority = nowhere.address();
    for url in [
        format!("{origin}/x?again={SECRET}#{SECRET}"),
        format!("http://user:{SECRET}@{authority}/x"),
        format!("https://user:{SECRET}@{authority}/x?q={SECRET}"),
        format!("ftp://user:{SECRET}@{authority}/x?q={SECRET}"),
        format!("http://user:{SECRET}@[::bad]/x?q={SECRET}"),
        format!("not a url?q={SECRET}"),
    ] {
        silent("request", &shown(&build(&url)));
        let error = build(&url).send().await.unwrap_err();
        silent(&url.replace(SECRET, "*"), &told(&error));
    }
}
