//! Bad input is refused where it is built, with an error that names the setting, its value and what is allowed.

use std::time::Duration;

use evenkeel::{
    AttemptTimeoutLayer, Backoff, Breaker, BreakerConfig, Budget, CallPolicy, Client,
    DeadlineLayer, Ejection, ErrorKind, Fixed, IdempotencyKeyLayer, IdempotencyKeys,
    InvalidSetting, Jitter, LookupHost, Pick, Retry, SlowStart,
};

const ORIGIN: &str = "http://payments.internal";

/// The error of a client of this origin and these endpoints.
fn refused(origin: &str, endpoints: &[&str]) -> InvalidSetting {
    let client = Client::builder(origin).endpoints(endpoints.iter().copied());
    client
        .build_reqwest(|_| reqwest::Client::builder())
        .expect_err(origin)
}

fn accepted(origin: &str, endpoints: &[&str]) {
    let client = Client::builder(origin).endpoints(endpoints.iter().copied());
    if let Err(error) = client.build_reqwest(|_| reqwest::Client::builder()) {
        panic!("{origin} {endpoints:?}: {error}");
    }
}

#[track_caller]
fn names<T: std::fmt::Debug>(result: Result<T, InvalidSetting>, field: &str, value: &str) {
    let error = result.expect_err(field);
    assert!(error.field().contains(field), "field of: {error}");
    assert!(error.value().contains(value), "value of: {error}");
    assert!(!error.allowed().is_empty(), "{error}");
}

#[test]
fn an_origin_is_a_scheme_and_a_host_and_nothing_else() {
    for origin in [
        "",
        "payments.internal",
        "payments.internal:8080",
        "ftp://payments.internal",
        "http://",
        "http:///x",
        "http://payments.internal/v1",
        "http://payments.internal/?q=1",
        "http://payments.internal#x",
        "http://user:secret@payments.internal",
        "http://payments.internal:0",
        "http://payments.internal:65536",
        "http://[::1",
        "http://[example.com]:80",
        "http://pay ments",
        "http://2001:db8::10",
    ] {
        let error = refused(origin, &["10.0.0.1:80"]);
        assert!(error.field().contains("origin"), "{origin}: {error}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}

#[test]
fn endpoints_are_addresses_with_a_port() {
    for endpoint in [
        "",
        "10.0.0.1",
        "10.0.0.1:0",
        "10.0.0.1:65536",
        "payments.internal:80",
        "[::1]",
        "[::1",
        "[example.com]:80",
        "[::1]:0",
    ] {
        let error = refused(ORIGIN, &[endpoint]);
        assert!(error.field().contains("endpoint"), "{endpoint}: {error}");
    }
    names(
        Client::builder(ORIGIN)
            .endpoints(<[&str; 0]>::default())
            .build_reqwest(|_| reqwest::Client::builder()),
        "endpoints",
        "empty",
    );
}

// ADR-01, Netflix/ribbon#482
#[test]
fn ipv6_endpoints_are_taken_in_brackets() {
    accepted(
        ORIGIN,
        &["[2001:db8::10]:1079", "[::ffff:10.0.0.1]:80", "10.0.0.1:80"],
    );
    accepted("http://[2001:db8::10]:1079", &["[2001:db8::10]:1079"]);
}

#[test]
fn an_address_as_origin_has_only_itself_as_endpoint() {
    let error = refused("http://10.0.0.1:8080", &["10.0.0.2:8080"]);
    assert!(error.to_string().contains("10.0.0.2:8080"), "{error}");
    accepted("http://10.0.0.1:8080", &["10.0.0.1:8080"]);
    let itself =
        Client::builder("http://10.0.0.1:8080").build_reqwest(|_| reqwest::Client::builder());
    assert!(itself.is_ok());
}

#[test]
fn limits_of_a_client_are_above_zero_and_fit_into_one_another() {
    let second = Duration::from_secs(1);
    let build = |client: evenkeel::ClientBuilder<evenkeel::Balanced>| {
        client
            .endpoints(["10.0.0.1:80"])
            .build_reqwest(|_| reqwest::Client::builder())
    };
    let client = || Client::builder(ORIGIN);
    names(build(client().deadline(Duration::ZERO)), "deadline", "0");
    names(
        build(client().attempt_timeout(Duration::ZERO)),
        "attempt_timeout",
        "0",
    );
    names(build(client().body_idle(Duration::ZERO)), "body_idle", "0");
    names(
        build(client().connect_timeout(Duration::ZERO)),
        "connect_timeout",
        "0",
    );
    names(
        build(client().deadline(second).attempt_timeout(second * 2)),
        "attempt_timeout",
        "2s",
    );
    names(
        build(client().attempt_timeout(second).connect_timeout(second)),
        "connect_timeout",
        "1s",
    );
    names(build(client().max_in_flight(0)), "max_in_flight", "0");
    assert!(build(client().deadline(Duration::MAX)).is_ok());
    assert!(
        build(
            client()
                .attempt_timeout(Duration::MAX)
                .deadline(Duration::MAX)
        )
        .is_ok()
    );
}

#[test]
fn the_layers_refuse_what_the_client_refuses() {
    names(DeadlineLayer::new(Duration::ZERO), "Deadline", "0");
    names(
        AttemptTimeoutLayer::new(Duration::ZERO),
        "AttemptTimeout",
        "0",
    );
    names(
        Retry::default().max_attempts(0).build(),
        "max_attempts",
        "0",
    );
    names(
        Retry::default().max_pushback(Duration::ZERO).build(),
        "max_pushback",
        "0",
    );
}

#[test]
fn backoff_refuses_zero_inverted_and_numbers_that_are_none() {
    let build = |backoff| Retry::default().backoff(backoff).build();
    let (short, long) = (Duration::from_millis(10), Duration::from_secs(1));
    names(
        build(Backoff::default().initial(Duration::ZERO)),
        "initial",
        "0",
    );
    names(
        build(Backoff::default().initial(long).max(short)),
        "max",
        "10ms",
    );
    for multiplier in [f64::NAN, f64::INFINITY, 0.0, -1.0, 0.5] {
        names(
            build(Backoff::default().multiplier(multiplier)),
            "multiplier",
            "",
        );
    }
    assert!(build(Backoff::default().jitter(Jitter::None).max(Duration::MAX)).is_ok());
}

#[test]
fn budgets_refuse_numbers_that_are_none() {
    for ratio in [f64::NAN, f64::INFINITY, -0.1] {
        names(Budget::new(ratio, 0.0, 1), "ratio", "");
    }
    for per_second in [f64::NAN, f64::INFINITY, -1.0] {
        names(Budget::new(0.1, per_second, 1), "per_second", "");
    }
}

// BRK-11, vllm-project/semantic-router#3740
#[test]
fn a_breaker_that_could_never_recover_is_refused() {
    let second = Duration::from_secs(1);
    let rate = || BreakerConfig::new().failure_rate_threshold(0.5);
    assert!(BreakerConfig::new().build().is_err(), "no rule");
    assert!(Breaker::count(0, second).is_err());
    assert!(Breaker::count(5, Duration::ZERO).is_err());
    for threshold in [f64::NAN, f64::INFINITY, 0.0, -0.5, 1.01] {
        assert!(
            BreakerConfig::new()
                .failure_rate_threshold(threshold)
                .build()
                .is_err(),
            "{threshold}"
        );
    }
    assert!(rate().break_duration(Duration::ZERO).build().is_err());
    assert!(rate().window(Duration::ZERO).build().is_err());
    assert!(rate().min_requests(0).build().is_err());
    assert!(
        rate()
            .half_open(0, evenkeel::breaker::CloseWhen::Successes(1))
            .build()
            .is_err()
    );
    assert!(rate().break_jitter(f64::NAN).build().is_err());
    assert!(rate().build().is_ok());
}

#[test]
fn a_balancers_numbers_are_checked() {
    let build = |client: evenkeel::ClientBuilder<evenkeel::Balanced>| {
        client
            .endpoints(["10.0.0.1:80"])
            .build_reqwest(|_| reqwest::Client::builder())
    };
    let pick = |pick| build(Client::builder(ORIGIN).pick(pick));
    assert!(pick(Pick::choices(0)).is_err());
    assert!(pick(Pick::least_cost().candidates(0)).is_err());
    for tolerance in [f64::NAN, f64::INFINITY, 0.5, -1.0] {
        assert!(
            pick(Pick::least_cost().tolerance(tolerance)).is_err(),
            "{tolerance}"
        );
    }
    assert!(pick(Pick::least_cost().decay(Duration::ZERO)).is_err());
    let ejection = |ejection| build(Client::builder(ORIGIN).ejection(ejection));
    assert!(ejection(Ejection::consecutive(0)).is_err());
    assert!(ejection(Ejection::adaptive().time(Duration::ZERO)).is_err());
    assert!(ejection(Ejection::adaptive().growth(f64::NAN)).is_err());
    assert!(ejection(Ejection::adaptive().max_share(1.5)).is_err());
    assert!(
        ejection(
            Ejection::adaptive()
                .time(Duration::from_secs(9))
                .max_time(Duration::from_secs(1))
        )
        .is_err()
    );
    assert!(build(Client::builder(ORIGIN).slow_start(SlowStart::over(Duration::ZERO))).is_err());
}

#[test]
fn a_header_name_that_is_none_is_refused() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    names(
        IdempotencyKeyLayer::new(IdempotencyKeys::default().header("no header")),
        "header",
        "no header",
    );
    names(
        IdempotencyKeyLayer::new(IdempotencyKeys::default().header("")),
        "header",
        "",
    );
    let wrapped = Client::wrap_reqwest(reqwest::Client::new());
    let keys = IdempotencyKeys::default().header("no header");
    names(
        wrapped
            .idempotency_keys_for("http://a.internal", keys)
            .build(),
        "header",
        "no header",
    );
    let wrapped = Client::wrap_reqwest(reqwest::Client::new());
    names(
        wrapped
            .idempotency_keys_for("a.internal/x", IdempotencyKeys::default())
            .build(),
        "origin",
        "a.internal",
    );
}

#[test]
fn sources_refuse_what_they_cannot_look_up() {
    for name in [
        "",
        "payments.internal",
        "payments.internal:0",
        "payments.internal:http",
        "[::1",
        ":80",
    ] {
        assert!(LookupHost::try_new(name).is_err(), "{name:?}");
    }
    assert!(Fixed::try_new(<[&str; 0]>::default()).is_err());
}

#[tokio::test]
async fn a_bad_call_fails_before_it_is_sent_and_says_what_is_wrong() {
    let client = Client::builder("http://10.0.0.1:8080")
        .build_reqwest(|_| reqwest::Client::builder())
        .unwrap();
    let calls = [
        (
            client.get("https://elsewhere.example/x"),
            "elsewhere.example",
        ),
        (client.get("/x").header("no header", "value"), "header name"),
        (
            client
                .get("/x")
                .policy(CallPolicy::new().deadline(Duration::ZERO)),
            "deadline",
        ),
        (
            client.get("/x").policy(CallPolicy::new().max_attempts(0)),
            "max_attempts",
        ),
        (
            client
                .post("/x")
                .policy(CallPolicy::new().idempotency_key("two\nlines")),
            "idempotency_key",
        ),
    ];
    for (call, named) in calls {
        let error = call.send().await.expect_err(named);
        assert_eq!(error.kind(), ErrorKind::InvalidCall, "{error}");
        assert!(!error.may_have_happened());
        assert!(error.to_string().contains(named), "{error}");
    }
}
