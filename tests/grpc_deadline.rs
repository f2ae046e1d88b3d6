//! What a gRPC server is told of the deadline, and whose timer ends a call: over real sockets.

#[path = "support/echo.rs"]
mod echo;
#[path = "support/grpc.rs"]
mod grpc;
mod support;

use std::{
    error::Error as _,
    net::SocketAddr,
    time::{Duration, Instant},
};

use echo::{Message, echo_client::EchoClient};
use evenkeel::{
    Backoff, Balanced, CallPolicy, Channel, ClientBuilder, Ejection, Endpoint, Error, ErrorKind,
    Jitter, Retry,
};
use futures::{StreamExt, future::join_all, stream};
use grpc::{Act, EchoServer};
use support::{
    mock::millis,
    nowhere::Silent,
    reply::Reply,
    server::{LOOPBACK, RUNTIME, Server},
    tls::Authority,
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    time::sleep,
};
use tonic::{
    Code, Request, Status,
    transport::{Certificate, ClientTlsConfig},
};

const ECHO: &str = "evenkeel.test.v1.Echo";
const UNARY: &str = "evenkeel.test.v1.Echo/Unary";

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(60);

fn builder<const N: usize>(endpoints: [SocketAddr; N]) -> ClientBuilder<Balanced> {
    let backoff = Backoff::default().initial(PAUSE).jitter(Jitter::None);
    Channel::builder("http://echo.internal")
        .endpoints(endpoints.map(Endpoint::new))
        .deadline(Duration::from_secs(5))
        .retry(Retry::default().backoff(backoff).without_budget())
        .ejection(Ejection::off())
        .no_circuit_breaker()
        .method(ECHO, CallPolicy::new().idempotent(true))
}

fn client(builder: ClientBuilder<Balanced>) -> EchoClient<Channel> {
    EchoClient::new(builder.build_tonic(Ok).expect("valid"))
}

fn message() -> Message {
    Message {
        text: "x".to_owned(),
        count: 3,
    }
}

fn with(policy: CallPolicy) -> Request<Message> {
    let mut request = Request::new(message());
    request.extensions_mut().insert(policy);
    request
}

fn ours(status: &Status) -> &Error {
    let source = status.source().expect("a source");
    source.downcast_ref().expect("an error of ours")
}

/// The `grpc-timeout` of each attempt, checked to the letter.
fn told(server: &EchoServer) -> Vec<Option<Duration>> {
    let told = |seen: &grpc::Seen| {
        let values = seen.metadata.get_all("grpc-timeout");
        let values: Vec<_> = values.iter().collect();
        assert!(values.len() <= 1, "{values:?}");
        Some(parsed(values.first()?.to_str().expect("text")))
    };
    server.seen().iter().map(told).collect()
}

fn parsed(value: &str) -> Duration {
    let (digits, unit) = value.split_at(value.len() - 1);
    assert!((1..=8).contains(&digits.len()), "{value}");
    let number: u64 = digits.parse().expect("digits");
    match unit {
        "n" => Duration::from_nanos(number),
        "u" => Duration::from_micros(number),
        "m" => Duration::from_millis(number),
        "S" => Duration::from_secs(number),
        "M" => Duration::from_secs(number * 60),
        "H" => Duration::from_secs(number * 3600),
        _ => panic!("{value}"),
    }
}

fn unavailable() -> Act {
    Act::Fail(Status::unavailable("not now"))
}

// ===== what is told =====

#[tokio::test]
async fn every_attempt_is_told_what_is_left_and_never_more() {
    let server = EchoServer::start([unavailable(), unavailable()]);
    let begun = Instant::now();
    let mut echo = client(builder([server.address()]));
    echo.unary(message()).await.expect("the third attempt");
    let told = told(&server);
    let [Some(first), Some(second), Some(third)] = told[..] else {
        panic!("{told:?}")
    };
    assert!(first <= Duration::from_secs(5));
    assert!(
        second + PAUSE <= first && third + PAUSE <= second,
        "{told:?}"
    );
    let spent = begun.elapsed();
    assert!(
        third + spent >= Duration::from_secs(5) - millis(50),
        "{third:?}"
    );
}

#[tokio::test]
async fn a_timeout_that_the_caller_set_is_the_calls_deadline_and_is_written_anew() {
    let server = EchoServer::start([unavailable(), unavailable()]);
    let mut echo = client(builder([server.address()]).deadline(millis(800)));
    let mut request = Request::new(message());
    request.set_timeout(Duration::from_secs(9));
    echo.unary(request).await.expect("the third attempt");
    let told = told(&server);
    let [Some(first), Some(second), Some(third)] = told[..] else {
        panic!("{told:?}")
    };
    // Longer than the client's own, as a call's policy may be.
    assert!(
        first <= Duration::from_secs(9) && third > millis(800),
        "{told:?}"
    );
    assert!(
        second + PAUSE <= first && third + PAUSE <= second,
        "{told:?}"
    );
}

#[tokio::test]
async fn a_timeout_of_the_call_goes_before_the_deadline_of_its_method() {
    let server = EchoServer::start([]);
    let method = CallPolicy::new().deadline(millis(500));
    let mut echo = client(builder([server.address()]).method(UNARY, method));
    let mut request = Request::new(message());
    request.set_timeout(Duration::from_secs(9));
    echo.unary(request).await.expect("an answer");
    echo.unary(message()).await.expect("an answer");
    let told = told(&server);
    assert!(
        told[0] > Some(millis(500)) && told[1] <= Some(millis(500)),
        "{told:?}"
    );
}

#[tokio::test]
async fn a_malformed_timeout_is_an_invalid_argument_and_is_not_sent() {
    let server = EchoServer::start([]);
    let mut echo = client(builder([server.address()]));
    for timeout in ["100000000S", "1", "S", "1x", "-1S", ""] {
        let mut request = Request::new(message());
        let value = timeout.parse().expect("metadata");
        request.metadata_mut().insert("grpc-timeout", value);
        let status = echo.unary(request).await.expect_err("malformed");
        assert_eq!(status.code(), Code::InvalidArgument, "{timeout}");
        assert!(status.message().contains("grpc-timeout"), "{status}");
        assert_eq!(ours(&status).kind(), ErrorKind::InvalidCall);
        assert!(!ours(&status).may_have_happened());
    }
    assert_eq!(server.calls(), 0);
}

#[tokio::test]
async fn a_timeout_of_zero_is_over_and_not_sent() {
    let server = EchoServer::start([]);
    let mut request = Request::new(message());
    request.set_timeout(Duration::ZERO);
    let status = client(builder([server.address()])).unary(request).await;
    let status = status.expect_err("no time");
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert!(!ours(&status).may_have_happened());
    assert_eq!(server.calls(), 0);
}

#[tokio::test]
async fn a_call_without_deadline_tells_none() {
    let server = EchoServer::start([]);
    let mut echo = client(builder([server.address()]).deadline(Duration::MAX));
    echo.unary(message()).await.expect("an answer");
    let mut echo = client(builder([server.address()]));
    let unlimited = with(CallPolicy::new().no_deadline());
    echo.unary(unlimited).await.expect("an answer");
    assert_eq!(told(&server), [None, None]);
}

#[tokio::test]
async fn the_limit_of_an_attempt_is_told_where_the_method_is_unary_and_nowhere_else() {
    let server = EchoServer::start([]);
    let limited = builder([server.address()]).attempt_timeout(millis(900));
    let mut echo = client(limited.method(UNARY, CallPolicy::new().unary(true)));
    echo.unary(message()).await.expect("an answer");
    let replies = echo.repeat(message()).await.expect("a head").into_inner();
    assert_eq!(replies.count().await, 3);
    let parts = stream::iter([message()]);
    echo.collect(parts).await.expect("an answer");
    let [unary, repeat, collect] = told(&server)[..] else {
        panic!("three calls")
    };
    assert!(unary.is_some_and(|told| told <= millis(900)), "{unary:?}");
    for streams in [repeat, collect] {
        assert!(
            streams.is_some_and(|told| told > millis(900)),
            "{streams:?}"
        );
    }
}

#[tokio::test]
async fn grpc_has_its_own_header_and_refuses_another_one() {
    let server = EchoServer::start([]);
    let named = builder([server.address()]).deadline_header("x-timeout-ms");
    let error = named.build_tonic(Ok).map(drop).expect_err("grpc-timeout");
    assert!(error.to_string().contains("grpc-timeout"), "{error}");
}

/// Passes bytes on to a server, but not before this time is over.
fn slow_way_to(server: SocketAddr, delay: Duration) -> SocketAddr {
    let listener = std::net::TcpListener::bind((LOOPBACK, 0)).expect("a free port");
    listener.set_nonblocking(true).expect("an open socket");
    let address = listener.local_addr().expect("it is bound");
    RUNTIME.spawn(async move {
        let listener = TcpListener::from_std(listener).expect("nonblocking");
        while let Ok((mut near, _)) = listener.accept().await {
            tokio::spawn(async move {
                sleep(delay).await;
                let mut far = TcpStream::connect(server).await.expect("it listens");
                // It ends when either side goes.
                drop(copy_bidirectional(&mut near, &mut far).await);
            });
        }
    });
    address
}

// The connection comes about within tonic's channel, below the last place where a header can be written.
#[tokio::test]
async fn a_connection_that_is_slow_to_come_about_is_told_as_time_that_is_left_and_is_not() {
    let authority = Authority::new();
    let server = Server::settings()
        .tls(authority.server(&["echo.internal"]))
        .start();
    server.otherwise(Reply::hang());
    let way = slow_way_to(server.address(), millis(150));
    let trust = Certificate::from_pem(authority.pem());
    let tls = ClientTlsConfig::new().ca_certificate(trust);
    let channel = Channel::builder("https://echo.internal")
        .endpoints([Endpoint::new(way)])
        .connect_timeout(millis(900))
        .deadline(millis(2000))
        .build_tonic(|endpoint| endpoint.tls_config(tls));
    let begun = Instant::now();
    let mut echo = EchoClient::new(channel.expect("valid"));
    let status = echo.unary(message()).await.expect_err("it hangs");
    let took = begun.elapsed();
    assert_eq!(ours(&status).kind(), ErrorKind::DeadlineExceeded);
    assert!(took >= millis(2000) && took < millis(4000), "{took:?}");
    let seen = &server.received(1).await[0];
    let told = parsed(seen.headers["grpc-timeout"].to_str().expect("text"));
    let arrived = seen.at.duration_since(begun);
    assert!(told <= millis(2000), "{told:?}");
    assert!(told + arrived >= millis(2150), "{told:?} at {arrived:?}");
}

// ===== whose timer =====

/// A server that nobody hears of again; and one of tonic's, which ends a call itself when the time it was told is over.
fn hanging() -> (Silent, EchoServer) {
    let slow = std::iter::repeat_n(Act::AnswerAfter(Duration::from_secs(60)), 200);
    (Silent::new(), EchoServer::start(slow))
}

/// Many at once, so that either timer is sometimes first.
const MANY: usize = 40;

async fn statuses<F: Future<Output = Status>>(call: impl Fn(usize) -> F) -> Vec<Status> {
    join_all((0..MANY).map(call)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_deadline_is_ours_whichever_timer_goes_off_first() {
    let (silent, server) = hanging();
    for address in [silent.address(), server.address()] {
        let echo = client(builder([address]).method(UNARY, CallPolicy::new().unary(true)));
        let statuses = statuses(|number| {
            let mut echo = echo.clone();
            let length = millis(200) + Duration::from_micros(number as u64 * 37);
            let request = with(CallPolicy::new().deadline(length).no_retry());
            async move {
                match number % 2 {
                    0 => echo.unary(request).await.expect_err("too slow"),
                    _ => echo.repeat(request).await.map(drop).expect_err("too slow"),
                }
            }
        });
        for status in statuses.await {
            assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
            assert_eq!(ours(&status).kind(), ErrorKind::DeadlineExceeded);
            assert!(ours(&status).may_have_happened());
            assert_eq!(ours(&status).report().attempts().len(), 1);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_limit_of_an_attempt_is_ours_whichever_timer_goes_off_first_and_is_retried() {
    let (silent, server) = hanging();
    for address in [silent.address(), server.address()] {
        let method = CallPolicy::new().unary(true).idempotent(true);
        let limited = builder([address]).method(UNARY, method);
        let channel = limited.retry(Retry::default().max_attempts(2).without_budget());
        let channel = channel.build_tonic(Ok).expect("valid");
        let statuses = statuses(|number| {
            let mut echo = EchoClient::new(channel.clone());
            let limit = millis(200) + Duration::from_micros(number as u64 * 37);
            let request = with(CallPolicy::new().attempt_timeout(limit));
            async move { echo.unary(request).await.expect_err("too slow") }
        });
        for status in statuses.await {
            assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
            let error = ours(&status);
            assert_eq!(error.kind(), ErrorKind::AttemptTimeout, "{status:?}");
            assert_eq!(error.report().attempts().len(), 2, "{error}");
        }
    }
}

#[tokio::test]
async fn a_deadline_that_passes_while_the_answer_streams_is_ours() {
    let server = Server::settings().start();
    server.otherwise(Reply::grpc_message(b"").stall());
    let mut echo = client(builder([server.address()]));
    let request = with(CallPolicy::new().deadline(millis(300)));
    let mut replies = echo.repeat(request).await.expect("a head").into_inner();
    assert!(replies.message().await.expect("one message").is_some());
    let status = replies.message().await.expect_err("then silence");
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert_eq!(ours(&status).kind(), ErrorKind::DeadlineExceeded);
}
