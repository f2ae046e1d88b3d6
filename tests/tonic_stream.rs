//! gRPC over real sockets: what comes right after a good head, and how long a stream may last.

#[path = "support/echo.rs"]
mod echo;
#[path = "support/grpc.rs"]
mod grpc;
mod support;

use std::{
    error::Error as _,
    net::SocketAddr,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use echo::{Message, echo_client::EchoClient};
use evenkeel::{
    AttemptTimeoutLayer, Backoff, CallPolicy, Channel, ClientBuilder, CommitLayer, DeadlineLayer,
    Disposition, Ejection, Endpoint, Error, ErrorKind, Jitter, Report, Retry, RetryLayer,
    call::Outcome, classify::Classifier,
};
use futures::{StreamExt, stream};
use grpc::EchoServer;
use support::{
    raw_h2::{
        Act, CANCEL, ENHANCE_YOUR_CALM, INTERNAL_ERROR, NO_ERROR, REFUSED_STREAM, RawServer, Then,
    },
    reply::Reply,
    server::Server,
};
use tokio::{sync::mpsc, time::sleep};
use tonic::{Code, Request, Status, Streaming, transport};
use tower::ServiceBuilder;

const SERVICE: &str = "evenkeel.test.v1.Echo";

/// Long enough for a head to arrive by itself.
const PAUSE: Duration = millis(150);
const AT_ONCE: Duration = Duration::ZERO;

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const fn failing(pause: Duration) -> Act {
    let then = Then::Trailers(&[("grpc-status", "14"), ("x-region", "north")]);
    Act::Head { pause, then }
}

/// A channel to one server whose breaker and ejection are out of the way.
fn builder(server: SocketAddr, policy: CallPolicy) -> ClientBuilder<evenkeel::Balanced> {
    let backoff = Backoff::default().initial(millis(1)).jitter(Jitter::None);
    Channel::builder("http://echo.internal")
        .endpoints([Endpoint::new(server)])
        .no_circuit_breaker()
        .ejection(Ejection::off())
        .retry(Retry::default().backoff(backoff).without_budget())
        .method(SERVICE, policy)
}

fn client(server: SocketAddr, policy: CallPolicy) -> EchoClient<Channel> {
    EchoClient::new(builder(server, policy).build_tonic(Ok).expect("valid"))
}

fn idempotent() -> CallPolicy {
    CallPolicy::new().idempotent(true)
}

fn unary() -> CallPolicy {
    CallPolicy::new().unary(true)
}

fn message() -> Message {
    Message {
        text: "hello".to_owned(),
        count: 1,
    }
}

fn ours(status: &Status) -> &Error {
    let source = status.source().expect("a source");
    source.downcast_ref().expect("an error of ours")
}

async fn all(mut replies: Streaming<Message>) -> Result<usize, Status> {
    let mut count = 0;
    while replies.message().await?.is_some() {
        count += 1;
    }
    Ok(count)
}

// ===== a failure right after the head =====

#[tokio::test]
async fn all_four_kinds_of_method_are_sent_again_after_a_failure_in_trailers() {
    let empty = Act::Head {
        pause: AT_ONCE,
        then: Then::EmptyThenTrailers(&[("grpc-status", "14")]),
    };
    for failure in [failing(AT_ONCE), empty] {
        let server = RawServer::start([failure, Act::OK].repeat(4));
        let mut echo = client(server.address(), idempotent());
        let parts = stream::iter([message(), message()]);
        let reply = echo.unary(message()).await.expect("the second answers");
        let report = reply.extensions().get::<Report>().expect("it was retried");
        let outcomes: Vec<_> = report
            .attempts()
            .iter()
            .map(|attempt| attempt.outcome())
            .collect();
        assert_eq!(
            outcomes,
            ["UNAVAILABLE", "OK"].map(Outcome::Grpc),
            "{report}"
        );
        echo.collect(parts.clone())
            .await
            .expect("the second answers");
        let replies = echo.repeat(message()).await.expect("the second answers");
        assert_eq!(all(replies.into_inner()).await.expect("messages"), 1);
        let replies = echo.chat(parts).await.expect("the second answers");
        assert_eq!(all(replies.into_inner()).await.expect("messages"), 1);
        assert_eq!(server.seen().len(), 8, "{failure:?}");
    }
}

#[tokio::test]
async fn a_failure_that_is_final_is_the_error_of_the_call_with_the_servers_metadata() {
    let server = RawServer::start([failing(AT_ONCE)].repeat(4));
    let mut plain = client(server.address(), CallPolicy::new());
    let status = plain.repeat(message()).await.expect_err("not repeatable");
    assert_eq!((status.code(), server.seen().len()), (Code::Unavailable, 1));
    assert_eq!(status.metadata().get("x-region").expect("its own"), "north");
    let mut echo = client(server.address(), idempotent());
    let status = echo
        .unary(message())
        .await
        .expect_err("every attempt failed");
    assert_eq!((status.code(), server.seen().len()), (Code::Unavailable, 4));
    assert_eq!(ours(&status).report().attempts().len(), 3, "{status}");
    assert_eq!(ours(&status).disposition(), Disposition::Answered);
}

#[tokio::test]
async fn only_a_method_that_is_declared_unary_is_waited_for() {
    let server = RawServer::start([failing(PAUSE)]);
    let mut echo = client(server.address(), unary().idempotent(true));
    echo.unary(message()).await.expect("the second answers");
    assert_eq!(server.seen().len(), 2);

    let server = RawServer::start([failing(PAUSE)]);
    let mut echo = client(server.address(), idempotent());
    let replies = echo
        .repeat(message())
        .await
        .expect("the head is not held back");
    let status = all(replies.into_inner()).await.expect_err("then it failed");
    assert_eq!((status.code(), server.seen().len()), (Code::Unavailable, 1));

    let mut said = Request::new(message());
    said.extensions_mut().insert(unary().idempotent(true));
    let server = RawServer::start([failing(PAUSE)]);
    let mut echo = client(server.address(), CallPolicy::new());
    echo.unary(said).await.expect("this call said so");
    assert_eq!(server.seen().len(), 2);
}

// BKO-11, grpc/proposal#12, thomhurst/Kevlar#465
#[tokio::test]
async fn pushback_in_the_trailers_is_kept_to() {
    const WAIT: Then = Then::Trailers(&[("grpc-status", "14"), ("grpc-retry-pushback-ms", "250")]);
    const EXHAUSTED: Then =
        Then::Trailers(&[("grpc-status", "8"), ("grpc-retry-pushback-ms", "100")]);
    const SILENT: Then = Then::Trailers(&[("grpc-status", "8")]);
    const NEVER: Then = Then::Trailers(&[("grpc-status", "14"), ("grpc-retry-pushback-ms", "-1")]);
    let waits = [
        (WAIT, Some(250)),
        (EXHAUSTED, Some(100)),
        (SILENT, None),
        (NEVER, None),
    ];
    for (then, wait) in waits {
        let server = RawServer::start([Act::Head {
            pause: AT_ONCE,
            then,
        }]);
        let answer = client(server.address(), idempotent())
            .unary(message())
            .await;
        assert_eq!(answer.is_ok(), wait.is_some(), "{then:?}");
        let seen = server.seen();
        match (wait, &seen[..]) {
            (Some(wait), [first, second]) => assert!(second.at - first.at >= millis(wait)),
            (None, [_]) => {}
            _ => panic!("{then:?}: {} attempts", seen.len()),
        }
    }
}

// RTY-03, after the head: JuliaWeb/HTTP.jl#1294, nodejs/undici#5598
#[tokio::test]
async fn a_stream_that_breaks_after_its_head_may_have_happened_whatever_the_server_claims() {
    for (then, code) in [
        (Then::Reset(REFUSED_STREAM), Code::Unavailable),
        (Then::Reset(INTERNAL_ERROR), Code::Internal),
        (Then::Reset(CANCEL), Code::Cancelled),
        (Then::GoAway(NO_ERROR), Code::Unavailable),
        (Then::GoAway(ENHANCE_YOUR_CALM), Code::Unavailable),
        (Then::Close, Code::Unavailable),
    ] {
        let act = Act::Head { pause: PAUSE, then };
        let server = RawServer::start([act]);
        let answer = client(server.address(), unary()).unary(message()).await;
        let status = answer.expect_err("not repeatable");
        assert_eq!(server.seen().len(), 1, "{then:?}");
        assert_eq!(status.code(), code, "{then:?}: {status}");
        let error = ours(&status);
        assert_eq!(
            error.disposition(),
            Disposition::Unknown,
            "{then:?}: {error}"
        );
        assert_eq!(error.report().attempts().len(), 1, "{then:?}: {error}");

        let server = RawServer::start([act]);
        let mut echo = client(server.address(), unary().idempotent(true));
        let reply = echo.unary(message()).await;
        reply.unwrap_or_else(|status| panic!("{then:?}: {status}"));
        assert_eq!(server.seen().len(), 2, "{then:?}");
    }
}

#[tokio::test]
async fn details_that_are_no_base64_are_no_panic_in_trailers_either() {
    for (details, told) in [("***", &b""[..]), ("Zm9v", b"foo")] {
        let server = Server::start([]);
        let failure = Reply::status(200).header("content-type", "application/grpc");
        let trailers = [("grpc-status", "5"), ("grpc-status-details-bin", details)];
        server.script([failure.trailers(trailers)]);
        let answer = client(server.address(), unary()).unary(message()).await;
        let status = answer.expect_err("not found");
        assert_eq!((status.code(), status.details()), (Code::NotFound, told));
    }
}

#[tokio::test]
async fn breaker_and_balancer_see_each_end_once() {
    let ends = [
        failing(AT_ONCE),
        failing(PAUSE),
        Act::Head {
            pause: PAUSE,
            then: Then::Reset(INTERNAL_ERROR),
        },
        Act::OK,
    ];
    for act in ends {
        let server = RawServer::always(act);
        let rules = evenkeel::BreakerConfig::new().consecutive_failures(3);
        let channel = builder(server.address(), unary())
            .circuit_breaker(rules)
            .build_tonic(Ok)
            .expect("valid");
        let mut echo = EchoClient::new(channel.clone());
        for made in 0..3 {
            let open = channel.circuit_breaker().state() != evenkeel::breaker::State::Closed;
            assert!(!open, "{act:?}: open after {made} calls");
            let _ = echo.unary(message()).await;
        }
        let closed = channel.circuit_breaker().state() == evenkeel::breaker::State::Closed;
        assert_eq!(closed, act == Act::OK, "{act:?}");
        let endpoint = &channel.endpoints()[0];
        assert_eq!(endpoint.in_flight, 0, "{act:?}");
        assert_eq!(endpoint.penalty > 1.0, act != Act::OK, "{act:?}");
    }
}

// ===== time =====

#[tokio::test]
async fn a_unary_call_that_hangs_after_its_head_is_cut_off_and_sent_again() {
    let server = Server::start([]);
    let head = || Reply::status(200).header("content-type", "application/grpc");
    server.script([head().stall()]);
    server.otherwise(Reply::grpc_message(b"").trailers([("grpc-status", "0")]));
    let channel = builder(server.address(), unary().idempotent(true))
        .connect_timeout(millis(100))
        .attempt_timeout(millis(300))
        .build_tonic(Ok)
        .expect("valid");
    let start = Instant::now();
    let reply = EchoClient::new(channel).unary(message()).await;
    let reply = reply.expect("the second answers");
    assert!(start.elapsed() >= millis(300));
    let report = reply.extensions().get::<Report>().expect("it was retried");
    assert_eq!(
        report.attempts()[0].outcome(),
        Outcome::Failed("attempt timed out")
    );
}

#[tokio::test]
async fn a_stream_that_is_cut_off_while_it_is_waited_for_is_over_for_the_server_too() {
    let server = EchoServer::start([]);
    let channel = builder(server.address(), unary())
        .connect_timeout(millis(100))
        .attempt_timeout(millis(300))
        .build_tonic(Ok)
        .expect("valid");
    // No method that is unary, so that the server can tell.
    let mut echo = EchoClient::new(channel);
    let status = echo.chat(stream::pending()).await.expect_err("no message");
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert_eq!(ours(&status).kind(), ErrorKind::AttemptTimeout);
    let limit = Instant::now() + Duration::from_secs(5);
    while server.streams() > 0 {
        assert!(Instant::now() < limit, "the server was not told");
        sleep(millis(5)).await;
    }
}

#[tokio::test]
async fn a_request_stream_ends_with_the_answers_though_server_and_caller_keep_the_stream() {
    let server = RawServer::early();
    let mut echo = client(server.address(), idempotent());
    let alive = Arc::new(());
    let held = Arc::downgrade(&alive);
    let silent = stream::poll_fn(move |_| {
        let _ = &alive;
        Poll::<Option<Message>>::Pending
    });
    let mut answers = echo.chat(silent).await.expect("a head").into_inner();
    while answers.message().await.expect("all is well").is_some() {
        assert_eq!(held.strong_count(), 1, "it is a conversation");
    }
    let limit = Instant::now() + Duration::from_secs(5);
    while held.strong_count() > 0 {
        assert!(Instant::now() < limit, "it is still asked");
        sleep(millis(5)).await;
    }
    drop(answers);
}

/// Asks once, and once more after this time; how many answers came and what ended them.
async fn chat(mut echo: EchoClient<Channel>, again: Duration) -> (usize, Option<Status>) {
    let (questions, queue) = mpsc::unbounded_channel();
    let queue = stream::unfold(queue, |mut queue| async move {
        Some((queue.recv().await?, queue))
    });
    questions.send(message()).expect("open");
    let mut answers = echo.chat(queue).await.expect("a head").into_inner();
    let asking = async move {
        sleep(again).await;
        let _ = questions.send(message());
    };
    let reading = async move {
        let mut count = 0;
        loop {
            match answers.next().await {
                Some(Ok(_)) => count += 1,
                Some(Err(status)) => return (count, Some(status)),
                None => return (count, None),
            }
        }
    };
    tokio::join!(asking, reading).1
}

#[tokio::test]
async fn the_deadline_that_nobody_chose_does_not_cut_a_stream_and_one_that_was_does() {
    let server = EchoServer::start([]);
    let preset = evenkeel::client::DEFAULT_DEADLINE;
    let untold = client(server.address(), CallPolicy::new());
    let long = chat(untold, preset + millis(400));
    let chosen = builder(server.address(), CallPolicy::new())
        .deadline(millis(400))
        .build_tonic(Ok)
        .expect("valid");
    let short = chat(EchoClient::new(chosen), millis(800));
    let (long, short) = tokio::join!(long, short);
    assert_eq!(long.0, 2);
    assert!(long.1.is_none(), "{:?}", long.1);
    assert_eq!(short.0, 1);
    let status = short.1.expect("cut off");
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert_eq!(ours(&status).kind(), ErrorKind::DeadlineExceeded);
}

// ===== by hand =====

#[tokio::test]
async fn by_hand_around_a_channel_of_tonics_own() {
    let server = RawServer::start([failing(PAUSE), Act::OK]);
    let uri = format!("http://{}", server.address());
    let endpoint = transport::Endpoint::from_shared(uri).expect("a URI");
    let classifier = Classifier::grpc().evidence(evenkeel::tonic::evidence);
    let retry = Retry::default()
        .classifier(classifier)
        .build()
        .expect("valid");
    let service = ServiceBuilder::new()
        .map_err(Status::from)
        .layer(DeadlineLayer::new(Duration::from_secs(5)).expect("valid"))
        .layer(RetryLayer::new(retry))
        .layer(AttemptTimeoutLayer::new(Duration::from_secs(2)).expect("valid"))
        .layer(CommitLayer::new())
        .service(endpoint.connect_lazy());
    let mut request = Request::new(message());
    request.extensions_mut().insert(unary().idempotent(true));
    let reply = EchoClient::new(service).unary(request).await;
    reply.expect("the second answers");
    assert_eq!(server.seen().len(), 2);
}
