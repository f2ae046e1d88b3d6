//! gRPC over what servers' frames say: streams refused, connections that go away, statuses in every place.

#[path = "support/echo.rs"]
mod echo;
mod support;

use std::{
    error::Error as _,
    net::SocketAddr,
    time::{Duration, Instant},
};

use bytes::Bytes;
use echo::{Message, echo_client::EchoClient};
use evenkeel::{
    Backoff, BreakerConfig, Budget, CallPolicy, Channel, ClientBuilder, Disposition, Ejection,
    Endpoint, Error, Jitter, Report, Retry, breaker::State,
};
use futures::{StreamExt, future::join, stream};
use h2::Reason;
use http::{HeaderMap, Request as HttpRequest};
use support::{
    raw_h2::{Act, CANCEL, ENHANCE_YOUR_CALM, INTERNAL_ERROR, NO_ERROR, REFUSED_STREAM, RawServer},
    reply::Reply,
    server::Server,
};
use tokio::net::TcpStream;
use tonic::{Code, Request, Status, transport};

const ORIGIN: &str = "http://echo.internal";
const SERVICE: &str = "evenkeel.test.v1.Echo";

/// Every method is one that may be repeated, or none is.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Methods {
    Plain,
    Idempotent,
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A channel to one server whose breaker and ejection are out of the way.
fn builder(server: SocketAddr, methods: Methods) -> ClientBuilder<evenkeel::Balanced> {
    let idempotent = CallPolicy::new().idempotent(methods == Methods::Idempotent);
    Channel::builder(ORIGIN)
        .endpoints([Endpoint::new(server)])
        .deadline(Duration::from_secs(5))
        .no_circuit_breaker()
        .ejection(Ejection::off())
        .method(SERVICE, idempotent)
}

fn client(server: SocketAddr, methods: Methods) -> EchoClient<Channel> {
    EchoClient::new(builder(server, methods).build_tonic(Ok).expect("valid"))
}

fn message() -> Message {
    Message {
        text: "hello".to_owned(),
        count: 1,
    }
}

/// The error of ours behind a status.
fn ours(status: &Status) -> &Error {
    let source = status.source().expect("a source");
    source.downcast_ref().expect("an error of ours")
}

// ===== the server does what it says: a plain client of h2 and one of tonic =====

/// What a client without any of ours sees of one exchange.
#[derive(Debug)]
struct Plain {
    data: usize,
    trailers: Option<HeaderMap>,
}

async fn plain(address: SocketAddr) -> Result<(HeaderMap, Plain), h2::Error> {
    let socket = TcpStream::connect(address).await.expect("it listens");
    let (mut send, connection) = h2::client::handshake(socket).await?;
    tokio::spawn(connection);
    let request = HttpRequest::post("http://echo.internal/x")
        .body(())
        .expect("valid");
    std::future::poll_fn(|cx| send.poll_ready(cx)).await?;
    let (response, _) = send.send_request(request, true)?;
    let (head, mut body) = response.await?.into_parts();
    let mut data = 0;
    while let Some(chunk) = body.data().await {
        data += chunk.map(|chunk: Bytes| chunk.len())?;
    }
    let trailers = body.trailers().await?;
    Ok((head.headers, Plain { data, trailers }))
}

async fn broken(act: Act) -> h2::Error {
    let server = RawServer::start([act]);
    plain(server.address()).await.expect_err("no answer")
}

#[tokio::test]
async fn the_server_answers_as_scripted() {
    let late = Act::Answer {
        messages: 2,
        status: 14,
    };
    let script = [
        late,
        Act::TrailersOnly(5),
        Act::NoStatus,
        Act::OnlyHead,
        Act::Page(502),
    ];
    let server = RawServer::start(script);
    let status = |headers: &HeaderMap| {
        headers
            .get("grpc-status")
            .map(|code| code.as_bytes().to_vec())
    };
    let mut seen = Vec::new();
    for _ in script {
        let (head, rest) = plain(server.address()).await.expect("an answer");
        let late = rest.trailers.as_ref().and_then(&status);
        seen.push((status(&head), rest.data, late));
    }
    let code = |code: &str| Some(code.as_bytes().to_vec());
    let expected = [
        (None, 10, code("14")),
        (code("5"), 0, None),
        (None, 5, None),
        (None, 0, None),
        (None, 13, None),
    ];
    assert_eq!(seen, expected);
    let acts: Vec<_> = server.seen().iter().map(|seen| seen.act).collect();
    assert_eq!(acts, script.map(Some));
    assert_eq!(server.connections(), script.len());
}

#[tokio::test]
async fn the_server_resets_streams_as_scripted() {
    for code in [REFUSED_STREAM, CANCEL, INTERNAL_ERROR, ENHANCE_YOUR_CALM] {
        for messages in [0, 1] {
            let error = broken(Act::Reset { messages, code }).await;
            assert!(error.is_reset() && error.is_remote(), "{error:?}");
            assert_eq!(error.reason(), Some(Reason::from(code)));
        }
    }
}

#[tokio::test]
async fn the_server_goes_away_as_scripted() {
    for code in [NO_ERROR, ENHANCE_YOUR_CALM] {
        let error = broken(Act::GoAwayBelow(code)).await;
        assert!(error.is_go_away() && error.is_remote(), "{error:?}");
        assert_eq!(error.reason(), Some(Reason::from(code)));
    }
    for act in [Act::GoAwayAt(NO_ERROR), Act::GoAwayAbove(NO_ERROR)] {
        let error = broken(act).await;
        assert!(error.is_io(), "the stream was covered: {error:?}");
    }
    let server = RawServer::start([Act::GoAwayThenAnswer]);
    let (_, rest) = plain(server.address()).await.expect("an answer");
    assert_eq!(rest.data, 5);
    let unwelcoming = RawServer::unwelcoming(ENHANCE_YOUR_CALM);
    let error = plain(unwelcoming.address()).await.expect_err("no answer");
    assert_eq!(error.reason(), Some(Reason::ENHANCE_YOUR_CALM), "{error:?}");
}

#[tokio::test]
async fn tonics_own_channel_understands_the_server() {
    let late = Act::Answer {
        messages: 1,
        status: 14,
    };
    let server = RawServer::start([Act::OK, Act::TrailersOnly(5), late, Act::REFUSE]);
    let uri = format!("http://{}", server.address());
    let endpoint = transport::Endpoint::from_shared(uri).expect("a URI");
    let mut echo = EchoClient::new(endpoint.connect_lazy());
    let reply = echo.unary(message()).await.expect("an answer");
    assert_eq!(reply.into_inner(), Message::default());
    for code in [Code::NotFound, Code::Unavailable, Code::Unavailable] {
        let status = echo.unary(message()).await.expect_err("failed");
        assert_eq!(status.code(), code, "{status}");
    }
    assert_eq!((server.seen().len(), server.connections()), (4, 1));
}

// ===== processed or not =====

/// Answers that prove that nothing was processed.
const UNPROCESSED: [Act; 3] = [
    Act::REFUSE,
    Act::GoAwayBelow(NO_ERROR),
    Act::GoAwayBelow(ENHANCE_YOUR_CALM),
];

/// Ends after which it may have happened.
const DOUBTFUL: [Act; 8] = [
    Act::GoAwayAt(NO_ERROR),
    Act::GoAwayAt(INTERNAL_ERROR),
    Act::GoAwayAt(ENHANCE_YOUR_CALM),
    Act::GoAwayAbove(NO_ERROR),
    Act::GoAwayAbove(ENHANCE_YOUR_CALM),
    reset(CANCEL),
    reset(INTERNAL_ERROR),
    reset(ENHANCE_YOUR_CALM),
];

const fn reset(code: u32) -> Act {
    Act::Reset { messages: 0, code }
}

// RTY-03, JuliaWeb/HTTP.jl#1294, nodejs/undici#5598, HoneyryderChuck/httpx#149
#[tokio::test]
async fn a_stream_that_was_not_processed_is_sent_again_whatever_the_method() {
    for act in UNPROCESSED {
        let server = RawServer::start([act]);
        let reply = client(server.address(), Methods::Plain)
            .unary(message())
            .await;
        let reply = reply.unwrap_or_else(|status| panic!("{act:?}: {status}"));
        assert_eq!(server.seen().len(), 2, "{act:?}");
        let report = reply.extensions().get::<Report>().expect("it was retried");
        assert_eq!(report.attempts().len(), 2, "{report}");
        assert_eq!(report.attempts()[0].disposition(), Disposition::Refused);
    }
}

// RTY-03, for the other kinds of method
#[tokio::test]
async fn streams_that_were_not_processed_are_sent_again_in_every_direction() {
    for act in UNPROCESSED {
        let server = RawServer::start([act, Act::OK, act, Act::OK, act, Act::OK]);
        let mut echo = client(server.address(), Methods::Plain);
        let parts = stream::iter([message(), message()]);
        echo.collect(parts.clone())
            .await
            .unwrap_or_else(|status| panic!("{act:?}: {status}"));
        let replies = echo.repeat(message()).await.expect("a stream").into_inner();
        assert_eq!(replies.map(Result::unwrap).count().await, 1, "{act:?}");
        let replies = echo.chat(parts).await.expect("a stream").into_inner();
        assert_eq!(replies.map(Result::unwrap).count().await, 1, "{act:?}");
        assert_eq!(server.seen().len(), 6, "{act:?}");
    }
}

// RTY-03, the third: JuliaWeb/HTTP.jl#1294
#[tokio::test]
async fn a_stream_that_may_have_been_processed_is_sent_again_only_where_that_does_no_harm() {
    for act in DOUBTFUL {
        let server = RawServer::start([act]);
        let answer = client(server.address(), Methods::Plain)
            .unary(message())
            .await;
        let Err(status) = answer else {
            panic!("{act:?}: sent again");
        };
        let error = ours(&status);
        assert_eq!(error.disposition(), Disposition::Unknown, "{act:?} {error}");
        assert_eq!(error.report().attempts().len(), 1, "{act:?} {error}");
        assert_eq!(server.seen().len(), 1, "{act:?}");

        let server = RawServer::start([act]);
        let mut echo = client(server.address(), Methods::Idempotent);
        echo.unary(message())
            .await
            .unwrap_or_else(|status| panic!("{act:?}: {status}"));
        assert_eq!(server.seen().len(), 2, "{act:?}");
    }
}

#[tokio::test]
async fn an_answer_after_a_go_away_that_covers_it_is_the_answer() {
    let server = RawServer::start([Act::GoAwayThenAnswer]);
    let mut echo = client(server.address(), Methods::Plain);
    echo.unary(message()).await.expect("the answer");
    assert_eq!(server.seen().len(), 1);
    echo.unary(message()).await.expect("a new connection");
    assert_eq!((server.seen().len(), server.connections()), (2, 2));
}

// RTY-10, curl/curl#5119
#[tokio::test]
async fn a_server_that_asks_for_calm_on_every_connection_gets_a_bounded_number_of_spaced_requests()
{
    let attempts = 3;
    let backoff = Backoff::default().initial(millis(60)).jitter(Jitter::None);
    let retry = Retry::default()
        .max_attempts(attempts)
        .backoff(backoff)
        .without_budget();
    for methods in [Methods::Plain, Methods::Idempotent] {
        let server = RawServer::always(Act::GoAwayBelow(ENHANCE_YOUR_CALM));
        let channel = builder(server.address(), methods)
            .retry(retry.clone())
            .build_tonic(Ok)
            .expect("valid");
        let (mut one, mut two) = (EchoClient::new(channel.clone()), EchoClient::new(channel));
        let start = Instant::now();
        let (first, second) = join(one.unary(message()), two.unary(message())).await;
        assert!(start.elapsed() >= millis(60 + 120), "no calm: {methods:?}");
        let mut told = 0;
        for status in [first, second].map(|answer| answer.expect_err("never answered")) {
            let error = ours(&status);
            assert_eq!(status.code(), Code::Unavailable, "{status}");
            assert!(error.disposition() <= Disposition::Refused, "{error}");
            let made = error.report().attempts().len();
            assert_eq!(made, attempts as usize, "{error}");
            told += made;
        }
        let seen = server.seen().len();
        assert!(
            (attempts as usize..=told).contains(&seen),
            "{seen} streams for {told} attempts"
        );
        assert!(server.connections() <= told, "{}", server.connections());
    }
}

// RTY-10, before any stream is begun
#[tokio::test]
async fn a_server_that_greets_with_a_request_for_calm_is_not_called_without_end() {
    let backoff = Backoff::default().initial(millis(60)).jitter(Jitter::None);
    let server = RawServer::unwelcoming(ENHANCE_YOUR_CALM);
    let channel = builder(server.address(), Methods::Plain)
        .retry(Retry::default().backoff(backoff).without_budget())
        .build_tonic(Ok)
        .expect("valid");
    let (mut one, mut two) = (EchoClient::new(channel.clone()), EchoClient::new(channel));
    let start = Instant::now();
    let answers = join(one.unary(message()), two.unary(message())).await;
    let attempts: usize = [answers.0, answers.1]
        .map(|answer| answer.expect_err("never answered"))
        .iter()
        .map(|status| ours(status).report().attempts().len())
        .sum();
    assert!(attempts <= 6, "{attempts} attempts");
    assert!(
        start.elapsed() < Duration::from_secs(4),
        "until the deadline"
    );
    // A connection may be opened and lost between two attempts.
    let connections = server.connections();
    assert!(connections <= 2 * attempts, "{connections} connections");
}

// RTY-10, whatever the limit of attempts
#[tokio::test]
async fn refusals_use_the_budget_like_every_other_retry() {
    for act in [Act::REFUSE, Act::GoAwayBelow(ENHANCE_YOUR_CALM)] {
        let server = RawServer::always(act);
        let budget = Budget::new(0.0, 0.0, 4).expect("valid").starting_with(4);
        let backoff = Backoff::default().initial(millis(1)).max(millis(2));
        let retry = Retry::default()
            .max_attempts(1000)
            .backoff(backoff)
            .budget(budget);
        let channel = builder(server.address(), Methods::Plain)
            .retry(retry)
            .build_tonic(Ok)
            .expect("valid");
        let answer = EchoClient::new(channel).unary(message()).await;
        let status = answer.expect_err("refused for ever");
        let attempts = ours(&status).report().attempts().len();
        assert_eq!((attempts, server.seen().len()), (5, 5), "{act:?}");
    }
}

// ===== where the status is =====

// RTY-09, grpc/grpc-java#7308, grpc/proposal#12
#[tokio::test]
async fn a_stream_that_fails_after_its_first_message_is_one_attempt() {
    let ends = [
        Act::Answer {
            messages: 1,
            status: 14,
        },
        Act::Reset {
            messages: 1,
            code: REFUSED_STREAM,
        },
        Act::Reset {
            messages: 1,
            code: INTERNAL_ERROR,
        },
    ];
    for act in ends {
        let server = RawServer::start([act]);
        let mut echo = client(server.address(), Methods::Idempotent);
        let mut replies = echo.repeat(message()).await.expect("a head").into_inner();
        let first = replies.message().await;
        assert!(matches!(first, Ok(Some(_))), "{act:?}: {first:?}");
        let status = replies.message().await.expect_err("then the failure");
        let expected = match act {
            Act::Reset {
                code: INTERNAL_ERROR,
                ..
            } => Code::Internal,
            _ => Code::Unavailable,
        };
        assert_eq!(status.code(), expected, "{act:?}: {status}");
        assert_eq!(server.seen().len(), 1, "{act:?}");
    }
}

/// A channel whose breaker opens at the third failure in a row.
fn guarded(server: SocketAddr) -> Channel {
    let breaker = BreakerConfig::new().consecutive_failures(3);
    Channel::builder(ORIGIN)
        .endpoints([Endpoint::new(server)])
        .deadline(Duration::from_secs(5))
        .circuit_breaker(breaker)
        .ejection(Ejection::off())
        .build_tonic(Ok)
        .expect("valid")
}

/// The state of the breaker after three calls, and by how much the endpoint is avoided.
async fn after_three(act: Act) -> (State, f32) {
    let server = RawServer::always(act);
    let channel = guarded(server.address());
    let mut echo = EchoClient::new(channel.clone());
    for _ in 0..3 {
        if let Ok(replies) = echo.repeat(message()).await {
            // Up to the first failure: tonic's decoder may go on failing.
            let mut replies = replies.into_inner();
            while let Ok(Some(_)) = replies.message().await {}
        }
    }
    assert_eq!(server.seen().len(), 3, "{act:?}");
    let penalty = channel.endpoints()[0].penalty;
    (channel.circuit_breaker().state(), penalty)
}

// CLS-01, linkerd/linkerd2#7701, linkerd/linkerd2-proxy#2410
// CLS-02, linkerd/linkerd#1567, line/armeria#4496
#[tokio::test]
async fn a_failure_is_one_for_breaker_and_balancer_wherever_the_server_puts_it() {
    let late = |messages, status| Act::Answer { messages, status };
    let failures = [
        late(1, 14),
        late(0, 14),
        late(3, 13),
        Act::TrailersOnly(14),
        Act::TrailersOnly(2),
        Act::NoStatus,
        Act::OnlyHead,
        Act::Page(502),
        Act::Reset {
            messages: 1,
            code: INTERNAL_ERROR,
        },
    ];
    for act in failures {
        let (state, penalty) = after_three(act).await;
        assert_eq!(state, State::Open, "{act:?}");
        assert!(penalty > 1.0, "{act:?}: the balancer did not see it");
    }
    let successes = [
        late(1, 0),
        late(0, 0),
        late(1, 5),
        Act::TrailersOnly(0),
        Act::TrailersOnly(3),
    ];
    for act in successes {
        let (state, penalty) = after_three(act).await;
        assert_eq!((state, penalty), (State::Closed, 1.0), "{act:?}");
    }
}

// CLS-02: judged at head time
#[tokio::test]
async fn a_failure_without_a_message_is_sent_again_and_one_that_blames_the_caller_is_not() {
    let server = RawServer::start([Act::TrailersOnly(14)]);
    let mut echo = client(server.address(), Methods::Idempotent);
    echo.unary(message()).await.expect("the second answers");
    assert_eq!(server.seen().len(), 2);
    let server = RawServer::start([Act::TrailersOnly(3)]);
    let mut echo = client(server.address(), Methods::Idempotent);
    let status = echo.unary(message()).await.expect_err("final");
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(server.seen().len(), 1);
}

// ===== pushback =====

// BKO-11, grpc/proposal#12, thomhurst/Kevlar#465
#[tokio::test]
async fn pushback_is_kept_to_exactly() {
    const BACKOFF: u64 = 700;
    let backoff = Backoff::default()
        .initial(millis(BACKOFF))
        .jitter(Jitter::None);
    let cases = [
        (Some("250"), Some(250)),
        (Some("0"), Some(0)),
        (Some("-1"), None),
        (Some("abc"), None),
        (Some("+5"), None),
        (Some("1.5"), None),
        (Some(""), None),
        (None, Some(BACKOFF)),
    ];
    for (wish, expected) in cases {
        let failed = Reply::grpc_status(14);
        let failed = match wish {
            Some(wish) => failed.header("grpc-retry-pushback-ms", wish),
            None => failed,
        };
        let server = Server::start([failed]);
        server.otherwise(Reply::grpc_message(b"").trailers([("grpc-status", "0")]));
        let channel = builder(server.address(), Methods::Idempotent)
            .retry(Retry::default().backoff(backoff))
            .build_tonic(Ok)
            .expect("valid");
        let answer = EchoClient::new(channel)
            .unary(Request::new(message()))
            .await;
        let times: Vec<_> = server.seen().iter().map(|seen| seen.at).collect();
        match (expected, &times[..]) {
            (Some(wait), [first, second]) => {
                let waited = *second - *first;
                let upper = millis(wait + 400);
                assert!(answer.is_ok(), "{wish:?}");
                assert!(
                    (millis(wait)..upper).contains(&waited),
                    "{wish:?}: {waited:?}"
                );
            }
            (None, [_]) => {
                let status = answer.expect_err("it forbids");
                assert_eq!(status.code(), Code::Unavailable, "{wish:?}");
            }
            (_, times) => panic!("{wish:?}: {} attempts", times.len()),
        }
    }
}

// BKO-11: still inside the deadline, the attempts and the budget
#[tokio::test]
async fn pushback_gives_no_leave_beyond_deadline_attempts_or_budget() {
    let pushed_back = |wish| Reply::grpc_status(14).header("grpc-retry-pushback-ms", wish);
    let call = async |wish, retry: Retry| {
        let server = Server::start([]);
        server.otherwise(pushed_back(wish));
        let channel = builder(server.address(), Methods::Idempotent)
            .deadline(Duration::from_secs(2))
            .retry(retry)
            .build_tonic(Ok)
            .expect("valid");
        let start = Instant::now();
        let answer = EchoClient::new(channel).unary(message()).await;
        assert_eq!(answer.expect_err("busy").code(), Code::Unavailable);
        (server.seen().len(), start.elapsed())
    };
    let (attempts, took) = call("10000", Retry::default()).await;
    assert!(attempts == 1 && took < millis(1000), "{attempts}, {took:?}");
    let (attempts, _) = call("0", Retry::default().max_attempts(4).without_budget()).await;
    assert_eq!(attempts, 4);
    let budget = Budget::new(0.0, 0.0, 2).expect("valid").starting_with(1);
    let (attempts, _) = call("0", Retry::default().max_attempts(4).budget(budget)).await;
    assert_eq!(attempts, 2);
}
