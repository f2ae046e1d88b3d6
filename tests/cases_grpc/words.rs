//! What servers say, and what of it is said on.

use std::{
    error::Error as _,
    sync::Arc,
    time::{Duration, Instant},
};

use evenkeel::{
    BreakerConfig, CallPolicy, Ejection, Error, IdempotencyKeys, Retry, breaker::State,
};
use futures::stream;
use tokio::time::{sleep, timeout};
use tonic::{Code, Request, Status};

use crate::{
    UNARY, builder, channel,
    echo::echo_client::EchoClient,
    good, message, millis, ours,
    support::{reply::Reply, server::Server},
    told,
};

fn grpc(reply: Reply) -> Reply {
    reply.header("content-type", "application/grpc")
}

fn head(status: u16, statuses: &[&str]) -> Reply {
    let said = |reply: Reply, code: &&str| reply.header("grpc-status", code);
    statuses.iter().fold(grpc(Reply::status(status)), said)
}

fn late(code: &str) -> Reply {
    Reply::grpc_message(b"").trailers([("grpc-status", code)])
}

// CLS-01, CLS-02, in the words of servers and proxies that are not careful
#[tokio::test]
async fn what_callers_are_shown_and_what_the_breaker_counts_are_the_same() {
    const GOOD: State = State::Closed;
    const BAD: State = State::Open;
    let html = |status| Reply::status(status).header("content-type", "text/html");
    let cases = [
        (good(), Code::Ok, GOOD),
        (late("5"), Code::NotFound, GOOD),
        (late("99"), Code::Unknown, BAD),
        (late("00"), Code::Unknown, BAD),
        (late("014"), Code::Unknown, BAD),
        (head(200, &["00"]), Code::Unknown, BAD),
        (head(200, &["014"]), Code::Unknown, BAD),
        (head(200, &["-1"]), Code::Unknown, BAD),
        (head(200, &[""]), Code::Unknown, BAD),
        (head(200, &["14", "0"]), Code::Unavailable, BAD),
        (head(503, &["5"]), Code::NotFound, GOOD),
        (head(503, &[]), Code::Unavailable, BAD),
        (
            Reply::status(200).header("grpc-status", "14"),
            Code::Unavailable,
            BAD,
        ),
        (
            Reply::ok(&[0; 5][..]).trailers([("grpc-status", "0")]),
            Code::Unknown,
            BAD,
        ),
        (html(200).body("<html>"), Code::Unknown, BAD),
        (html(503).body("<html>"), Code::Unavailable, BAD),
        (html(401).body("<html>"), Code::Unauthenticated, GOOD),
        (Reply::status(204), Code::Unknown, BAD),
        (
            Reply::status(301).header("location", "/x"),
            Code::Unknown,
            BAD,
        ),
        (late("14").header("grpc-status", "5"), Code::NotFound, GOOD),
        (
            Reply::grpc_message(b"").trailers([("x", "0")]),
            Code::Unknown,
            BAD,
        ),
    ];
    for (reply, code, state) in cases {
        let what = format!("{reply:?}");
        let server = Server::start([reply]);
        let channel = builder([server.address()])
            .circuit_breaker(BreakerConfig::new().consecutive_failures(1))
            .ejection(Ejection::off())
            .build_tonic(Ok)
            .unwrap();
        let answer = EchoClient::new(channel.clone()).unary(message("x")).await;
        let shown = answer.map_or_else(|status| status.code(), |_| Code::Ok);
        assert_eq!(shown, code, "{what}");
        assert_eq!(channel.circuit_breaker().state(), state, "{what}");
        assert_eq!(channel.endpoints()[0].in_flight, 0, "{what}");
    }
}

#[tokio::test]
async fn a_proxy_that_says_when_is_waited_for() {
    let busy = Reply::status(503).header("content-type", "text/html");
    let server = Server::start([busy.header("retry-after", "1").body("<html>")]);
    server.otherwise(good());
    let channel = builder([server.address()]).method(UNARY, CallPolicy::new().safe(true));
    let started = Instant::now();
    let mut echo = EchoClient::new(channel.build_tonic(Ok).unwrap());
    echo.unary(message("x")).await.unwrap();
    assert!(started.elapsed() >= Duration::from_secs(1));
}

#[tokio::test]
async fn no_secret_of_a_call_or_an_answer_is_in_what_is_said_of_it() {
    const SECRET: &str = "hunter2";
    let replies = [
        Reply::grpc_status(14)
            .header("x-token", SECRET)
            .header("grpc-status-details-bin", "aHVudGVyMg"),
        Reply::status(503).header("x-token", SECRET).body(SECRET),
        Reply::ok(SECRET),
        Reply::grpc_message(SECRET.as_bytes())
            .trailers([("grpc-status", "14"), ("x-token", SECRET)]),
        Reply::reset(),
        Reply::refuse_stream(),
        Reply::hang(),
    ];
    for reply in replies {
        let what = format!("{reply:?}");
        let server = Server::start([]);
        server.otherwise(reply);
        let channel = builder([server.address()])
            .deadline(millis(400))
            .idempotency_keys(IdempotencyKeys::default())
            .build_tonic(Ok)
            .unwrap();
        let mut request = told("authorization", SECRET);
        request.get_mut().text = SECRET.to_owned();
        let policy = CallPolicy::new().idempotency_key(SECRET);
        assert!(!format!("{policy:?}").contains(SECRET));
        request.extensions_mut().insert(policy);
        let status = EchoClient::new(channel.clone())
            .unary(request)
            .await
            .unwrap_err();
        let mut said = vec![
            status.to_string(),
            format!(
                "{channel:?} {:?} {:?}",
                channel.endpoints(),
                channel.circuit_breaker()
            ),
        ];
        let error = status
            .source()
            .and_then(|cause| cause.downcast_ref::<Error>());
        if let Some(error) = error {
            assert_eq!(error.to_string().lines().count(), 1);
            let report = error.report();
            said.push(format!("{error} {error:?} {report} {report:?}"));
            let mut cause = error.source();
            while let Some(next) = cause {
                said.push(next.to_string());
                cause = next.source();
            }
        }
        assert!(
            said.iter().all(|line| !line.contains(SECRET)),
            "{what}: {said:?}"
        );
    }
}

#[tokio::test]
async fn a_servers_message_of_several_lines_is_one_line_in_ours() {
    let server = Server::start([]);
    let down = Reply::grpc_status(14).header("grpc-message", "one%0Atwo%0D%0Athree%1B[31m");
    server.otherwise(down);
    let channel = builder([server.address()]).method(UNARY, CallPolicy::new().safe(true));
    let mut echo = EchoClient::new(channel.build_tonic(Ok).unwrap());
    let status: Status = echo.unary(message("x")).await.unwrap_err();
    assert_eq!(status.message(), "one\ntwo\r\nthree\u{1b}[31m");
    let line = ours(&status).to_string();
    assert!(!line.contains(char::is_control), "{line:?}");
}

// gRFC A6
#[tokio::test]
async fn a_pushback_that_is_no_number_of_it_forbids_and_nothing_is_told_to_a_first_attempt() {
    for wishes in [
        &["2147483648"][..],
        &["1", "1"],
        &["0x1"],
        &["1.0"],
        &["1", "-1"],
    ] {
        let down = |reply: Reply, wish: &&str| reply.header("grpc-retry-pushback-ms", wish);
        let server = Server::start([wishes.iter().fold(Reply::grpc_status(14), down)]);
        server.otherwise(good());
        let channel = builder([server.address()])
            .method(UNARY, CallPolicy::new().safe(true))
            .retry(Retry::default().without_budget());
        let mut echo = EchoClient::new(channel.build_tonic(Ok).unwrap());
        let status = echo.unary(message("x")).await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable, "{wishes:?}");
        let seen = server.seen();
        assert_eq!(seen.len(), 1, "{wishes:?}");
        assert!(!seen[0].headers.contains_key("grpc-previous-rpc-attempts"));
    }
}

#[tokio::test]
async fn an_answer_before_the_end_of_the_request_stream_is_the_answer_and_lets_go_of_the_stream() {
    let denied = || Reply::grpc_message(b"").trailers([("grpc-status", "7")]);
    let server = Server::start([]);
    let channel = channel([server.address()]);
    let mut echo = EchoClient::new(channel.clone());
    let cases = [
        (Reply::grpc_status(7), Code::PermissionDenied),
        (denied(), Code::PermissionDenied),
        (good(), Code::Ok),
    ];
    let large = message(&"x".repeat(1 << 16));
    for (reply, code) in cases {
        server.otherwise(reply.early());
        let alive = Arc::new(());
        let held = Arc::downgrade(&alive);
        let large = large.clone();
        let endless = stream::repeat_with(move || {
            let _ = &alive;
            large.clone()
        });
        let answer = timeout(Duration::from_secs(5), echo.collect(endless)).await;
        let answer = answer.expect("no hang");
        assert_eq!(
            answer.map_or_else(|status| status.code(), |_| Code::Ok),
            code
        );
        let limit = Instant::now() + Duration::from_secs(5);
        while held.strong_count() > 0 {
            assert!(Instant::now() < limit, "it is still sent");
            sleep(millis(5)).await;
        }
        assert_eq!(channel.endpoints()[0].in_flight, 0);
    }
}

// TMO-08, tokio-rs/tokio#3551
#[tokio::test]
async fn times_without_end_are_no_panic_wherever_they_are_set() {
    let server = Server::start([]);
    server.otherwise(good());
    let seconds = [u64::MAX, u64::MAX / 10, 400_000_000_000, 3_153_600_000];
    for far in seconds
        .map(Duration::from_secs)
        .into_iter()
        .chain([Duration::MAX])
    {
        let channel = builder([server.address()])
            .deadline(far)
            .attempt_timeout(far)
            .body_idle(far)
            .build_tonic(|endpoint| Ok(endpoint.timeout(far)));
        let mut echo = EchoClient::new(channel.unwrap());
        echo.unary(message("x")).await.unwrap();
        let policy = CallPolicy::new()
            .deadline(far)
            .attempt_timeout(far)
            .body_idle(far);
        let mut request = Request::new(message("x"));
        request.extensions_mut().insert(policy);
        echo.unary(request).await.unwrap();
    }
    let mut echo = EchoClient::new(channel([server.address()]));
    echo.unary(told("grpc-timeout", "99999999H")).await.unwrap();
}
