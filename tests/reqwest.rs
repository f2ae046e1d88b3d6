//! The ready-made client over real sockets: HTTP/1.1, HTTP/2 and TLS, with servers that fail in every way.
#![cfg(feature = "reqwest")]
#![allow(clippy::unwrap_used, reason = "a step that fails, fails its test")]

mod support;

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use evenkeel::{
    Backoff, Body, CallPolicy, Client, Disposition, Error, ErrorKind, IdempotencyKeys, Report,
    Retry,
    client::{Balanced, ClientBuilder},
    discover::{Endpoint, LookupHost, from_stream},
};
use futures::{StreamExt, channel::mpsc};
use http::Version;
use support::{
    nowhere::{BlackHole, Refusing, Silent},
    reply::Reply,
    server::{Seen, Server},
    tls::{Authority, client},
};

const ORIGIN: &str = "http://payments.internal";
const SHORT: Duration = Duration::from_millis(200);
/// Far above what any of these tests needs, so that only what they are about ends a call.
const LONG: Duration = Duration::from_secs(20);

/// Something else than the limit under test has ended the call.
const LATE: Duration = Duration::from_secs(10);

fn quick_retry() -> Retry {
    Retry::default()
        .backoff(Backoff::default().initial(Duration::from_millis(10)))
        .without_budget()
}

/// A client of `ORIGIN` over these addresses that only retries: no ejection or breaker gets in the way.
fn over(addresses: impl IntoIterator<Item = SocketAddr>) -> ClientBuilder<Balanced> {
    Client::builder(ORIGIN)
        .endpoints(addresses)
        .deadline(LONG)
        .retry(quick_retry())
        .no_circuit_breaker()
}

fn http1(builder: ClientBuilder<Balanced>) -> Client {
    builder
        .build_reqwest(|_| client())
        .expect("settings that work")
}

fn http2(builder: ClientBuilder<Balanced>) -> Client {
    builder
        .build_reqwest(|_| client().http2_prior_knowledge())
        .expect("settings that work")
}

fn report(response: &reqwest::Response) -> &Report {
    response
        .extensions()
        .get()
        .expect("every response has its report")
}

fn bodies(seen: &[Seen]) -> Vec<&[u8]> {
    seen.iter().map(|seen| &seen.body[..]).collect()
}

fn keys(seen: &[Seen]) -> Vec<Option<&str>> {
    seen.iter()
        .map(|seen| {
            seen.headers
                .get("idempotency-key")
                .map(|key| key.to_str().unwrap())
        })
        .collect()
}

// ===== what reaches the server =====

#[tokio::test]
async fn a_call_reaches_the_endpoint_under_the_origins_name() {
    let server = Server::start([Reply::ok("one"), Reply::ok("two")]);
    for (client, expected) in [
        (http1(over([server.address()])), "one"),
        (http2(over([server.address()])), "two"),
    ] {
        let response = client
            .post("/charges?id=7")
            .header("x-mark", "a")
            .body("charge")
            .send()
            .await
            .unwrap();
        assert_eq!(
            response.url().as_str(),
            "http://payments.internal/charges?id=7"
        );
        assert_eq!(response.text().await.unwrap(), expected);
    }
    let seen = server.seen();
    for seen in &seen {
        assert_eq!(
            (seen.method.as_str(), seen.path.as_str()),
            ("POST", "/charges?id=7")
        );
        assert_eq!(
            (&seen.body[..], &seen.headers["x-mark"]),
            (&b"charge"[..], &"a".parse().unwrap())
        );
    }
    assert_eq!(
        (seen[0].version, seen[0].host.as_deref()),
        (Version::HTTP_11, Some("payments.internal"))
    );
    assert_eq!(
        (seen[1].version, seen[1].authority.as_deref()),
        (Version::HTTP_2, Some("payments.internal"))
    );
}

#[tokio::test]
async fn an_origin_that_resolves_needs_no_endpoints() {
    let server = Server::start([]);
    for origin in ["localhost", "127.0.0.1"] {
        let origin = format!("http://{origin}:{}", server.address().port());
        let client = Client::builder(&origin)
            .build_reqwest(|_| client())
            .unwrap();
        assert_eq!(client.get("/").send().await.unwrap().status(), 200);
    }
    let discovered = LookupHost::new(format!("localhost:{}", server.address().port()));
    let client = Client::builder(ORIGIN)
        .discover(discovered)
        .build_reqwest(|_| client())
        .unwrap();
    assert_eq!(client.get("/").send().await.unwrap().status(), 200);
    assert_eq!(
        server.seen().last().unwrap().host.as_deref(),
        Some("payments.internal")
    );
}

// ADR-01, Netflix/ribbon#482
#[tokio::test]
async fn an_ipv6_origin_connects_and_keeps_its_brackets() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        return; // this machine has no IPv6
    }
    let server = Server::settings().ip(std::net::Ipv6Addr::LOCALHOST).start();
    let client = Client::builder(format!("http://{}", server.address()))
        .build_reqwest(|_| client())
        .unwrap();
    assert_eq!(client.get("/").send().await.unwrap().status(), 200);
    assert_eq!(
        server.seen()[0].host,
        Some(format!("[::1]:{}", server.address().port()))
    );
}

// ADR-03, nokia/restful#128
#[cfg(target_os = "linux")]
#[tokio::test]
async fn over_tls_name_and_authority_stay_the_origins_on_every_address() {
    let authority = Authority::new();
    for (alpn, version) in [("http/1.1", Version::HTTP_11), ("h2", Version::HTTP_2)] {
        let servers: [Server; 2] = Server::settings()
            .tls(authority.server(&["api.example"]))
            .start_on_one_port();
        servers
            .iter()
            .for_each(|server| server.script([Reply::status(503)]));
        let port = servers[0].address().port();
        let tls = authority.trust(&[alpn]);
        let client = Client::builder(format!("https://api.example:{port}/"))
            .endpoints(servers.iter().map(Server::address))
            .deadline(LONG)
            .retry(quick_retry())
            .no_circuit_breaker()
            .build_reqwest(move |_| client().tls_backend_preconfigured(tls.clone()))
            .unwrap();
        let response = client.get("/x").send().await.unwrap();
        assert_eq!(
            (response.status().as_u16(), response.version()),
            (200, version)
        );
        assert_eq!(
            response.url().as_str(),
            format!("https://api.example:{port}/x")
        );
        assert_eq!(
            report(&response).attempts().len(),
            3,
            "{}",
            report(&response)
        );

        let expected = format!("api.example:{port}");
        let seen: Vec<Seen> = servers.iter().flat_map(Server::seen).collect();
        assert_eq!(seen.len(), 3);
        assert!(
            servers.iter().all(|server| !server.seen().is_empty()),
            "both addresses were called"
        );
        for seen in seen {
            let shown = if version == Version::HTTP_2 {
                &seen.authority
            } else {
                &seen.host
            };
            assert_eq!(
                (shown.as_deref(), seen.sni.as_deref()),
                (Some(expected.as_str()), Some("api.example"))
            );
            assert!(
                version == Version::HTTP_11 || seen.host.is_none(),
                "no Host beside :authority"
            );
        }
    }
}

// ADR-03, nokia/restful#128
#[tokio::test]
async fn an_origin_without_a_port_has_endpoints_on_any_port() {
    let authority = Authority::new();
    for alpn in ["http/1.1", "h2"] {
        let servers = [(); 2].map(|()| {
            Server::settings()
                .tls(authority.server(&["api.example"]))
                .start()
        });
        let tls = authority.trust(&[alpn]);
        let client = Client::builder("https://api.example")
            .endpoints(servers.iter().map(Server::address))
            .build_reqwest(move |_| client().tls_backend_preconfigured(tls.clone()))
            .unwrap();
        for _ in 0..20 {
            client.get("https://api.example/x").send().await.unwrap();
        }
        for server in &servers {
            let seen = server.seen();
            assert!(!seen.is_empty(), "20 calls use both");
            assert!(
                seen.iter()
                    .all(|seen| seen.sni.as_deref() == Some("api.example"))
            );
            let shown = seen[0].authority.as_deref().or(seen[0].host.as_deref());
            assert_eq!(shown, Some("api.example"));
        }
    }
}

#[tokio::test]
async fn a_certificate_for_another_name_is_an_error_that_nothing_was_sent_for() {
    let authority = Authority::new();
    let server = Server::settings()
        .tls(authority.server(&["other.example"]))
        .start();
    let tls = authority.trust(&["h2"]);
    let client = Client::builder("https://api.example")
        .endpoints([server.address()])
        .retry(quick_retry())
        .build_reqwest(move |_| client().tls_backend_preconfigured(tls.clone()))
        .unwrap();
    let error = client.get("/").send().await.unwrap_err();
    assert!(!error.may_have_happened());
    assert_eq!(error.report().attempts().len(), 1, "{error}");
    assert_eq!(server.connections(), 1, "a certificate does not get better");
}

#[tokio::test]
async fn a_redirect_is_returned_and_not_followed() {
    let server = Server::start([Reply::status(302).header("location", "/elsewhere")]);
    let response = http1(over([server.address()]))
        .get("/")
        .send()
        .await
        .unwrap();
    assert_eq!((response.status().as_u16(), server.seen().len()), (302, 1));
}

/// What each attempt was told in this header.
fn told(server: &Server, name: &str) -> Vec<Option<u64>> {
    let told = |seen: &Seen| Some(seen.headers.get(name)?.to_str().ok()?.parse().unwrap());
    server.seen().iter().map(told).collect()
}

#[tokio::test]
async fn every_attempt_tells_the_time_that_is_left_in_the_header_that_was_asked_for() {
    let failing = || Reply::status(503).after(Duration::from_millis(100));
    let server = Server::start([failing(), failing(), Reply::ok("balanced")]);
    let named = over([server.address()]).deadline_header("x-timeout-ms");
    let second = CallPolicy::new().deadline(LONG * 2);
    let response = http1(named).get("/").policy(second).send().await.unwrap();
    assert_eq!(response.text().await.unwrap(), "balanced");
    let [Some(first), Some(second), Some(third)] = told(&server, "x-timeout-ms")[..] else {
        panic!("three attempts")
    };
    // The attempt limit that retry decides on is half of the call's time.
    assert!(first <= 20_000 && first > 10_000, "{first}");
    assert!(second <= 20_000 && third <= 40_000, "{second}, {third}");
    assert!(third + 200 <= 40_000, "{third}");

    let server = Server::start([failing(), Reply::ok("wrapped")]);
    let client = Client::wrap_reqwest(client().build().unwrap())
        .deadline(LONG)
        .attempt_timeout(LONG)
        .retry(quick_retry())
        .deadline_header("X-Timeout-Ms");
    let response = client.build().unwrap().get(server.url()).send();
    assert_eq!(response.await.unwrap().text().await.unwrap(), "wrapped");
    let [Some(first), Some(second)] = told(&server, "x-timeout-ms")[..] else {
        panic!("two attempts")
    };
    assert!(
        first <= 20_000 && second + 100 <= first,
        "{first}, {second}"
    );
}

#[tokio::test]
async fn no_deadline_is_told_unless_it_is_asked_for_or_where_there_is_none() {
    let server = Server::start([]);
    server.otherwise(Reply::ok(""));
    http1(over([server.address()]))
        .get("/")
        .send()
        .await
        .unwrap();
    let headers = server.seen().pop().unwrap().headers;
    let known = ["host", "accept", "user-agent"];
    assert!(headers.keys().all(|name| known.contains(&name.as_str())));
    let named = over([server.address()]).deadline_header("x-timeout-ms");
    let unlimited = CallPolicy::new().no_deadline();
    let call = http1(named).get("/").policy(unlimited).send();
    call.await.unwrap();
    assert_eq!(told(&server, "x-timeout-ms"), [None, None]);
}

#[test]
fn a_deadline_header_that_is_none_is_refused_with_its_name() {
    for name in [
        "",
        "x timeout",
        "x-timeout:",
        "z\u{e4}hler",
        "grpc-timeout",
        "GRPC-other",
    ] {
        let address = SocketAddr::from(([127, 0, 0, 1], 80));
        let balanced = over([address]).deadline_header(name);
        let error = balanced.build_reqwest(|_| client()).map(drop).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("ClientBuilder::deadline_header is"),
            "{error}"
        );
        assert!(error.to_string().contains(&format!("{name:?}")), "{error}");
        let wrapped = Client::wrap_reqwest(client().build().unwrap());
        assert!(wrapped.deadline_header(name).build().is_err());
    }
}

// ===== refused, reset, closed =====

#[tokio::test]
async fn a_refused_connection_is_tried_elsewhere_whatever_the_method() {
    let (refusing, server) = (Refusing::new(), Server::start([]));
    let client = http1(over([refusing.address(), server.address()]));
    for _ in 0..20 {
        assert_eq!(
            client
                .post("/charges")
                .body("charge")
                .send()
                .await
                .unwrap()
                .status(),
            200
        );
    }
    assert_eq!(server.seen().len(), 20, "each charge once");
}

#[tokio::test]
async fn when_every_endpoint_refuses_nothing_can_have_happened() {
    let refusing = [Refusing::new(), Refusing::new()];
    let client = http1(over(refusing.iter().map(Refusing::address)));
    let error = client
        .post("/charges?token=hidden")
        .body("hidden")
        .send()
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.disposition()),
        (ErrorKind::Upstream, Disposition::NotSent)
    );
    assert!(!error.may_have_happened());
    assert_eq!(error.report().attempts().len(), 3, "{error}");
    assert!(
        !format!("{error} {error:?}").contains("hidden"),
        "{error:?}"
    );
}

// RTY-02, oven-sh/bun#28708, nahi/httpclient#142
#[tokio::test]
async fn a_post_that_a_reused_connection_lost_is_not_sent_again() {
    for lost in [Reply::close(), Reply::reset()] {
        let server = Server::start([Reply::ok("first"), lost]);
        let client = http1(over([server.address()]));
        client
            .post("/charges")
            .body("one")
            .send()
            .await
            .unwrap()
            .bytes()
            .await
            .unwrap();
        let error = client
            .post("/charges")
            .body("two")
            .send()
            .await
            .unwrap_err();
        assert!(error.may_have_happened(), "{error}");
        let seen = server.seen();
        assert_eq!(bodies(&seen), [b"one", b"two"]);
        assert_eq!(
            seen[0].connection, seen[1].connection,
            "the connection was reused"
        );
    }
}

#[tokio::test]
async fn what_may_be_repeated_is_repeated_after_a_reset() {
    let server = Server::start([Reply::reset()]);
    let response = http1(over([server.address()]))
        .put("/charges/7")
        .body("charge")
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 200);
    // RTY-04, XAMPPRocky/octocrab#835: the second attempt has the whole body.
    assert_eq!(bodies(&server.seen()), [b"charge", b"charge"]);
    assert!(
        report(&response).may_have_happened()
            || report(&response).disposition() == Disposition::Answered
    );
}

#[tokio::test]
async fn a_key_makes_a_lost_post_repeatable_under_the_same_key() {
    let server = Server::start([Reply::reset(), Reply::ok(""), Reply::close()]);
    let client = http1(over([server.address()]).idempotency_keys(IdempotencyKeys::default()));
    client.post("/charges").body("one").send().await.unwrap();
    let named = CallPolicy::new().idempotency_key("order-42");
    client
        .post("/charges")
        .body("two")
        .policy(named)
        .send()
        .await
        .unwrap();
    let seen = server.seen();
    assert_eq!(bodies(&seen), [b"one", b"one", b"two", b"two"]);
    let keys = keys(&seen);
    assert!(keys[0].is_some() && keys[0] == keys[1], "{keys:?}");
    assert_eq!(keys[2..], [Some("order-42"); 2]);
}

// RTY-03, JuliaWeb/HTTP.jl#1294, nodejs/undici#5598
#[tokio::test]
async fn a_stream_that_was_refused_is_sent_again_whatever_the_method() {
    let server = Server::start([Reply::refuse_stream(), Reply::refuse_stream()]);
    let response = http2(over([server.address()]))
        .post("/charges")
        .body("charge")
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(bodies(&server.seen()), [b"charge"; 3]);
}

// ===== hang =====

// TMO-09, grpc/grpc-rust#1619
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_connection_that_never_comes_about_fails_within_its_limit_and_was_not_sent() {
    let hole = BlackHole::new();
    let client = http1(
        over([hole.address()])
            .connect_timeout(SHORT)
            .retry(quick_retry().max_attempts(1)),
    );
    let start = Instant::now();
    let error = client
        .post("/charges")
        .body("charge")
        .send()
        .await
        .unwrap_err();
    assert!(
        (SHORT..LATE).contains(&start.elapsed()),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(error.disposition(), Disposition::NotSent, "{error}");

    let server = Server::start([]);
    let client = http1(over([hole.address(), server.address()]).connect_timeout(SHORT));
    for _ in 0..5 {
        client.post("/charges").body("charge").send().await.unwrap();
    }
    assert_eq!(server.seen().len(), 5);
}

// TMO-09, grpc/grpc-rust#1619: without a connect timeout the deadline covers connecting.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn without_a_connect_timeout_the_deadline_ends_connecting() {
    let hole = BlackHole::new();
    let client = Client::wrap_reqwest(client().build().unwrap())
        .deadline(SHORT * 3)
        .build()
        .unwrap();
    let start = Instant::now();
    let error = client
        .get(format!("http://{}/", hole.address()))
        .send()
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded, "{error}");
    assert!(
        (SHORT * 3..LATE).contains(&start.elapsed()),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test]
async fn an_endpoint_that_accepts_and_is_silent_is_left_for_another() {
    let (silent, server) = (Silent::new(), Server::start([]));
    let client = http1(over([silent.address(), server.address()]).attempt_timeout(SHORT * 3));
    for _ in 0..5 {
        assert_eq!(client.get("/").send().await.unwrap().status(), 200);
    }
    assert_eq!(server.seen().len(), 5);
}

#[tokio::test]
async fn a_hanging_post_is_an_error_that_says_it_may_have_happened() {
    let server = Server::start([Reply::hang()]);
    let client = http1(over([server.address()]).attempt_timeout(SHORT * 3));
    let error = client
        .post("/charges")
        .body("charge")
        .send()
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.disposition()),
        (ErrorKind::AttemptTimeout, Disposition::Unknown),
        "{error}"
    );
    assert!(error.is_timeout());
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn the_deadline_ends_a_call_that_hangs() {
    let server = Server::start([Reply::hang(), Reply::hang(), Reply::hang()]);
    let client = http1(over([server.address()]));
    let start = Instant::now();
    let short = CallPolicy::new().deadline(SHORT * 3);
    let error = client.get("/").policy(short).send().await.unwrap_err();
    assert!(
        matches!(
            error.kind(),
            ErrorKind::DeadlineExceeded | ErrorKind::AttemptTimeout
        ),
        "{error}"
    );
    assert!(
        (SHORT..LATE).contains(&start.elapsed()),
        "{:?}",
        start.elapsed()
    );
    assert!(error.may_have_happened());
}

#[tokio::test]
async fn a_dropped_call_closes_its_connection() {
    let server = Server::start([Reply::hang()]);
    let client = http1(over([server.address()]));
    let calling = tokio::spawn(client.get("/").send());
    server.received(1).await;
    calling.abort();
    let start = Instant::now();
    while server.open_connections() > 0 {
        assert!(start.elapsed() < LONG);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(client.get("/").send().await.unwrap().status(), 200);
}

// ===== bodies =====

// RTY-08, nodejs/undici#3356, #5724
#[tokio::test]
async fn a_body_that_breaks_off_is_an_error_and_never_a_second_body() {
    for make in [http1, http2] {
        let server = Server::start([Reply::ok("H").cut()]);
        server.otherwise(Reply::ok("Hello World"));
        let mut response = make(over([server.address()]))
            .get("/")
            .send()
            .await
            .unwrap();
        assert_eq!(response.chunk().await.unwrap().unwrap(), "H");
        assert!(response.chunk().await.is_err());
        assert_eq!(server.seen().len(), 1);
    }
}

// RTY-08, nodejs/undici#3356
#[tokio::test]
async fn a_body_that_falls_silent_ends_at_its_limit() {
    for make in [http1, http2] {
        let server = Server::start([Reply::ok("H").stall()]);
        server.otherwise(Reply::ok("Hello World"));
        let mut response = make(over([server.address()]).body_idle(SHORT))
            .get("/")
            .send()
            .await
            .unwrap();
        assert_eq!(response.chunk().await.unwrap().unwrap(), "H");
        let start = Instant::now();
        let error = response.chunk().await.unwrap_err();
        assert!(
            (SHORT / 2..LATE).contains(&start.elapsed()),
            "{:?}",
            start.elapsed()
        );
        assert!(
            cause(&error).is_some_and(|error| error.kind() == ErrorKind::BodyIdle),
            "{error:?}"
        );
        assert_eq!(server.seen().len(), 1);
    }
}

// TMO-01, browserbase/sdk-node#206, seanmonstar/reqwest#1380
#[tokio::test]
async fn the_deadline_covers_the_body() {
    let server = Server::start([Reply::ok("H").stall()]);
    let policy = CallPolicy::new().deadline(SHORT * 2);
    let start = Instant::now();
    let response = http1(over([server.address()]))
        .get("/")
        .policy(policy)
        .send()
        .await
        .unwrap();
    let error = response.bytes().await.unwrap_err();
    assert!(
        (SHORT..LATE).contains(&start.elapsed()),
        "{:?}",
        start.elapsed()
    );
    assert!(
        cause(&error).is_some_and(|error| error.kind() == ErrorKind::DeadlineExceeded),
        "{error:?}"
    );
}

fn cause(error: &reqwest::Error) -> Option<&Error> {
    let first = std::error::Error::source(error);
    std::iter::successors(first, |error| error.source()).find_map(|error| error.downcast_ref())
}

// RTY-07, openai/openai-go#495, alexfalkowski/go-service#2521
#[tokio::test]
async fn a_failed_response_gives_its_connection_back_before_the_next_attempt() {
    let server = Server::settings().connections(1).start();
    server.script([Reply::status(503).body("a long excuse").stall()]);
    let client = http1(over([server.address()]).attempt_timeout(LONG));
    let start = Instant::now();
    assert_eq!(client.get("/").send().await.unwrap().status(), 200);
    assert!(start.elapsed() < LATE, "{:?}", start.elapsed());
    assert_eq!(server.connections(), 2);
}

// RTY-07, openai/openai-go#495
#[tokio::test]
async fn the_last_response_is_handed_over_unread() {
    let server = Server::start([]);
    server.otherwise(Reply::status(503).body("busy"));
    let response = http1(over([server.address()]))
        .get("/")
        .send()
        .await
        .unwrap();
    assert_eq!(report(&response).attempts().len(), 3);
    assert_eq!(
        (
            response.status().as_u16(),
            response.text().await.unwrap().as_str()
        ),
        (503, "busy")
    );
    assert_eq!(server.seen().len(), 3);
}

// RTY-05, TrueLayer/reqwest-middleware#44
#[tokio::test]
async fn a_streamed_body_is_sent_and_a_small_one_is_sent_again() {
    let server = Server::start([Reply::status(503)]);
    let frames = futures::stream::iter(["ch", "ar", "ge"])
        .map(|part| Ok::<_, std::io::Error>(http_body::Frame::data(part.into())));
    let body = Body::stream(http_body_util::StreamBody::new(frames));
    let response = http1(over([server.address()]))
        .put("/charges/7")
        .body(body)
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(bodies(&server.seen()), [b"charge", b"charge"]);
}

// ===== discovery =====

// LB-07, linkerd/linkerd2-proxy#240, tower-rs/tower#17
#[tokio::test]
async fn a_name_that_nobody_knows_ends_at_the_deadline_with_the_reason() {
    let client = Client::builder("http://no-such-name.invalid").deadline(SHORT * 3);
    let client = http1(client);
    let start = Instant::now();
    let error = client
        .post("/charges")
        .body("charge")
        .send()
        .await
        .unwrap_err();
    assert!(start.elapsed() < LATE);
    assert_eq!(error.disposition(), Disposition::NotSent, "{error}");
    let story = std::iter::successors(Some(&error as &dyn std::error::Error), |error| {
        error.source()
    });
    let story: Vec<String> = story.map(ToString::to_string).collect();
    assert!(
        story
            .iter()
            .any(|line| line.contains("no-such-name.invalid")),
        "{story:#?}"
    );
}

// LB-07, linkerd/linkerd2-proxy#240
#[tokio::test]
async fn a_call_waits_for_the_first_endpoints() {
    let server = Server::start([]);
    let (sets, changes) = mpsc::unbounded::<Vec<SocketAddr>>();
    let client = http1(over([server.address()]).discover(from_stream(changes)));
    let calling = tokio::spawn(client.post("/charges").body("charge").send());
    tokio::time::sleep(SHORT).await;
    assert!(server.seen().is_empty() && !calling.is_finished());
    sets.unbounded_send(vec![server.address()]).unwrap();
    assert_eq!(calling.await.unwrap().unwrap().status(), 200);
}

// DSC-01, cortexproject/cortex#7698; DSC-09, linkerd/linkerd2#573
#[tokio::test]
async fn a_new_set_replaces_the_old_one_and_a_failed_lookup_does_not() {
    let servers = [Server::start([]), Server::start([])];
    let (sets, changes) = mpsc::unbounded::<Result<Vec<SocketAddr>, std::io::Error>>();
    let client = http1(over([servers[0].address()]).discover(from_stream(changes)));
    sets.unbounded_send(Ok(vec![servers[0].address()])).unwrap();
    client.get("/").send().await.unwrap();
    sets.unbounded_send(Err(std::io::ErrorKind::TimedOut.into()))
        .unwrap();
    tokio::time::sleep(SHORT).await;
    client.get("/").send().await.unwrap();
    let [first, second] = &servers;
    assert_eq!(
        (first.seen().len(), first.connections(), second.seen().len()),
        (2, 1, 0)
    );

    sets.unbounded_send(Ok(vec![second.address()])).unwrap();
    tokio::time::sleep(SHORT).await;
    for _ in 0..5 {
        client.get("/").send().await.unwrap();
    }
    assert_eq!((first.seen().len(), second.seen().len()), (2, 5));
}

// RUN-07, linkerd/linkerd2-proxy#285
#[tokio::test]
async fn the_last_clone_takes_discovery_and_connections_with_it() {
    let server = Server::start([]);
    let (sets, changes) = mpsc::unbounded::<Vec<SocketAddr>>();
    let client = http1(over([server.address()]).discover(from_stream(changes)));
    sets.unbounded_send(vec![server.address()]).unwrap();
    client.clone().get("/").send().await.unwrap();
    assert!(!sets.is_closed());
    drop(client);
    let start = Instant::now();
    while !sets.is_closed() || server.open_connections() > 0 {
        assert!(
            start.elapsed() < LATE,
            "{} connections open",
            server.open_connections()
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

// ===== an existing client =====

fn retrying_by_itself() -> reqwest::ClientBuilder {
    let policy = reqwest::retry::for_host("127.0.0.1")
        .no_budget()
        .max_retries_per_request(2);
    let policy = policy.classify_fn(|attempt| match attempt.status() {
        Some(status) if status.is_server_error() => attempt.retryable(),
        _ => attempt.success(),
    });
    client().retry(policy)
}

async fn attempts_on_a_failing_server(wrapped: reqwest::ClientBuilder) -> usize {
    let server = Server::start([]);
    server.otherwise(Reply::status(503));
    let wrapped = wrapped.build().unwrap();
    let client = Client::wrap_reqwest(wrapped)
        .retry(quick_retry())
        .no_circuit_breaker()
        .build()
        .unwrap();
    let response = client.get(server.url()).send().await.unwrap();
    assert_eq!(report(&response).attempts().len(), 3);
    server.seen().len()
}

#[tokio::test]
async fn retries_of_a_wrapped_client_multiply_ours() {
    assert_eq!(attempts_on_a_failing_server(client()).await, 3);
    assert_eq!(attempts_on_a_failing_server(retrying_by_itself()).await, 9);
}

#[tokio::test]
async fn a_balanced_client_switches_the_retries_of_its_endpoints_clients_off() {
    let server = Server::start([]);
    server.otherwise(Reply::status(503));
    let client = over([server.address()])
        .build_reqwest(|_| retrying_by_itself())
        .unwrap();
    assert_eq!(client.get("/").send().await.unwrap().status(), 503);
    assert_eq!(server.seen().len(), 3);
}

#[tokio::test]
async fn a_wrapped_client_goes_to_any_origin_and_says_where_from_the_answer_came() {
    let servers = [
        Server::start([Reply::ok("a")]),
        Server::start([Reply::reset(), Reply::ok("b")]),
    ];
    let client = Client::wrap_reqwest(client().build().unwrap())
        .retry(quick_retry())
        .build()
        .unwrap();
    for (server, expected) in servers.iter().zip(["a", "b"]) {
        let url = format!("{}/x?y=z", server.url());
        let response = client.get(&url).send().await.unwrap();
        assert_eq!(response.url().as_str(), url);
        assert_eq!(response.text().await.unwrap(), expected);
    }
    let error = client.get("/x").send().await.unwrap_err();
    assert_eq!(
        (error.kind(), error.disposition()),
        (ErrorKind::InvalidCall, Disposition::NotSent)
    );
}

// ===== runtimes =====

// RUN-02, tower-rs/tower#139
#[test]
fn clients_are_built_and_dropped_without_a_runtime() {
    let server = Server::start([]);
    drop(http1(over([server.address()])));
    drop(
        Client::builder("http://localhost:1")
            .build_reqwest(|_| client())
            .unwrap(),
    );
    drop(
        Client::wrap_reqwest(client().build().unwrap())
            .build()
            .unwrap(),
    );
}

// RUN-03, seanmonstar/reqwest#1148, rust-lang/rustup#3852
#[test]
fn a_client_outlives_the_runtime_that_used_it_first() {
    let server = Server::start([]);
    let origin = format!("http://localhost:{}", server.address().port());
    let clients = [
        http1(over([server.address()])),
        Client::builder(origin)
            .retry(quick_retry())
            .build_reqwest(|_| client())
            .unwrap(),
    ];
    for _ in 0..3 {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        for client in &clients {
            let status = runtime.block_on(async { client.get("/").send().await.unwrap().status() });
            assert_eq!(status, 200);
        }
    }
}

// ===== bad input =====

#[test]
fn what_cannot_work_is_refused_when_the_client_is_built() {
    let built = |builder: ClientBuilder<Balanced>| builder.build_reqwest(|_: &Endpoint| client());
    let address: SocketAddr = ([10, 0, 0, 1], 80).into();
    let no_port: SocketAddr = ([10, 0, 0, 1], 0).into();
    let zero = Duration::ZERO;
    for (builder, field) in [
        (Client::builder("payments.internal"), "origin"),
        (Client::builder("http://payments.internal/v1"), "origin"),
        (Client::builder("http://payments.internal:0"), "origin"),
        (Client::builder("http://[example.com]:80"), "origin"),
        (Client::builder("http://[::1"), "origin"),
        (
            Client::builder(ORIGIN).endpoints(Vec::<SocketAddr>::new()),
            "endpoints",
        ),
        (Client::builder(ORIGIN).endpoints([no_port]), "endpoint"),
        (
            Client::builder(ORIGIN).endpoints(["2001:db8::10:80"]),
            "endpoint",
        ),
        (
            Client::builder(ORIGIN).discover(LookupHost::new("payments.internal:0")),
            "host and port",
        ),
        (
            Client::builder(ORIGIN).discover(LookupHost::new("a:80").refresh_every(zero)),
            "refresh_every",
        ),
        (over([address]).deadline(zero), "deadline"),
        (over([address]).attempt_timeout(zero), "attempt_timeout"),
        (over([address]).attempt_timeout(LONG * 2), "attempt_timeout"),
        (over([address]).connect_timeout(zero), "connect_timeout"),
        (over([address]).body_idle(zero), "body_idle"),
        (
            over([address]).retry(Retry::default().max_attempts(0)),
            "max_attempts",
        ),
        (
            over([address])
                .retry(Retry::default().backoff(Backoff::default().multiplier(f64::NAN))),
            "multiplier",
        ),
    ] {
        let refused = built(builder).expect_err(field);
        assert!(refused.field().ends_with(field), "{refused}");
    }
}

// TMO-08, tokio-rs/tokio#3551, #5183, #6634
#[tokio::test]
async fn the_longest_durations_mean_never_and_overflow_nothing() {
    let server = Server::start([]);
    for long in [
        Duration::MAX,
        Duration::MAX - Duration::from_nanos(1),
        Duration::from_secs(u64::MAX / 10),
    ] {
        let discovered =
            LookupHost::new(format!("localhost:{}", server.address().port())).refresh_every(long);
        let client = Client::builder(ORIGIN)
            .discover(discovered)
            .deadline(long)
            .attempt_timeout(long)
            .body_idle(long);
        let client = http1(client);
        let policy = CallPolicy::new()
            .deadline(long)
            .attempt_timeout(long)
            .body_idle(long);
        for policy in [CallPolicy::new(), policy] {
            let response = client.get("/").policy(policy).send().await.unwrap();
            assert_eq!(response.text().await.unwrap(), "");
        }
    }
}

#[tokio::test]
async fn a_short_deadline_needs_no_other_setting() {
    let server = Server::start([]);
    for deadline in [Duration::from_millis(400), SHORT] {
        let client = http1(over([server.address()]).deadline(deadline));
        assert_eq!(client.get("/").send().await.unwrap().status(), 200);
    }
    let client = http1(over([server.address()]).attempt_timeout(SHORT));
    assert_eq!(client.get("/").send().await.unwrap().status(), 200);
    let named = over([server.address()])
        .attempt_timeout(SHORT)
        .connect_timeout(SHORT);
    assert_eq!(
        named
            .build_reqwest(|_| support::tls::client())
            .unwrap_err()
            .field(),
        "ClientBuilder::connect_timeout"
    );
}
