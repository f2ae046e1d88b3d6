//! Streams, and every way in which one ends.

use std::time::{Duration, Instant};

use evenkeel::{BreakerConfig, CallPolicy, Channel, Error, ErrorKind, breaker::State};
use futures::{
    StreamExt,
    future::join_all,
    stream::{self, Stream},
};
use tokio::{
    runtime::Handle,
    sync::mpsc::{UnboundedSender, unbounded_channel},
    time::{sleep, timeout},
};
use tonic::{Code, Request, transport::Server};

use crate::{
    SERVICE, builder, channel,
    echo::{Message, echo_client::EchoClient},
    message, millis, ours,
    service::Told,
    told,
};

const S: fn(u64) -> Duration = Duration::from_secs;

/// A request stream that goes on for as long as the sender lives.
fn open() -> (UnboundedSender<Message>, impl Stream<Item = Message>) {
    let (send, queue) = unbounded_channel();
    let next = |mut queue: tokio::sync::mpsc::UnboundedReceiver<Message>| async move {
        Some((queue.recv().await?, queue))
    };
    (send, stream::unfold(queue, next))
}

fn in_flight(channel: &Channel) -> u32 {
    channel.endpoints()[0].in_flight
}

/// A channel whose breaker opens at the first failure.
fn touchy(server: &Told) -> Channel {
    let breaker = BreakerConfig::new().consecutive_failures(1);
    let builder = builder([server.address()]).circuit_breaker(breaker);
    builder.build_tonic(Ok).unwrap()
}

fn assert_unblamed(channel: &Channel) {
    assert_eq!(channel.circuit_breaker().state(), State::Closed);
    assert_eq!(channel.endpoints()[0].penalty, 1.0);
    assert_eq!(in_flight(channel), 0);
}

// RUN-06, linera-io/linera-protocol#6120
#[tokio::test]
async fn a_stream_that_ends_is_over_for_everybody_though_the_caller_keeps_it() {
    let server = Told::start();
    let channel = builder([server.address()])
        .body_idle(millis(300))
        .build_tonic(Ok)
        .unwrap();
    let mut echo = EchoClient::new(channel.clone());

    let mut whole = echo.repeat(message("x")).await.unwrap().into_inner();
    for _ in 0..3 {
        assert!(whole.message().await.unwrap().is_some());
    }
    assert_eq!(in_flight(&channel), 1, "its status is not there yet");
    assert!(whole.message().await.unwrap().is_none());
    assert_eq!(in_flight(&channel), 0);

    let mut late = told("x-every", "250");
    late.extensions_mut()
        .insert(CallPolicy::new().deadline(millis(400)));
    let silent = told("x-every", "2000");
    let mut kept = Vec::new();
    for (request, kind) in [
        (late, ErrorKind::DeadlineExceeded),
        (silent, ErrorKind::BodyIdle),
    ] {
        let mut stream = echo.repeat(request).await.unwrap().into_inner();
        let status = loop {
            match stream.message().await {
                Ok(message) => assert!(message.is_some(), "cut off before its end"),
                Err(status) => break status,
            }
        };
        assert_eq!(status.code(), Code::DeadlineExceeded);
        assert_eq!(ours(&status).kind(), kind);
        assert_eq!(in_flight(&channel), 0, "{kind:?}");
        kept.push(stream);
    }
    server.counts.rest().await;
}

#[tokio::test]
async fn a_request_stream_is_let_go_when_its_call_was_cut_off_though_the_caller_keeps_the_answers()
{
    let server = Told::start();
    let channel = channel([server.address()]);
    let (send, questions) = open();
    let mut request = Request::new(questions);
    request
        .extensions_mut()
        .insert(CallPolicy::new().deadline(millis(300)));
    let answers = EchoClient::new(channel.clone()).chat(request).await;
    let mut answers = answers.unwrap().into_inner();
    assert_eq!(
        answers.message().await.unwrap_err().code(),
        Code::DeadlineExceeded
    );
    timeout(S(5), send.closed())
        .await
        .expect("it is still sent");
    server.counts.rest().await;
    assert_eq!(in_flight(&channel), 0);
}

#[tokio::test]
async fn a_call_that_is_dropped_anywhere_leaves_nothing_in_flight() {
    let server = Told::start();
    let channel = channel([server.address()]);
    let mut echo = EchoClient::new(channel.clone());
    drop(echo.repeat(told("x-every", "1000")).await.unwrap());
    assert_eq!(in_flight(&channel), 0);

    let mut begun = echo
        .repeat(told("x-every", "100"))
        .await
        .unwrap()
        .into_inner();
    assert!(begun.message().await.unwrap().is_some());
    drop(begun);
    assert_eq!(in_flight(&channel), 0);

    assert!(
        timeout(millis(100), echo.unary(told("x-ignore", "1")))
            .await
            .is_err()
    );
    assert_eq!(in_flight(&channel), 0);

    let (send, questions) = open();
    let mut answers = echo.chat(questions).await.unwrap().into_inner();
    send.send(message("a")).unwrap();
    assert!(answers.message().await.unwrap().is_some());
    drop(answers);
    assert_eq!(in_flight(&channel), 0);
    timeout(S(5), send.closed())
        .await
        .expect("it is still sent");
    server.counts.rest().await;
    assert_unblamed(&channel);
}

#[tokio::test]
async fn a_stream_whose_server_dies_is_unavailable_and_no_longer_in_flight() {
    let server = Told::start();
    let channel = touchy(&server);
    let mut echo = EchoClient::new(channel.clone());
    let mut stream = echo
        .repeat(told("x-every", "100"))
        .await
        .unwrap()
        .into_inner();
    assert!(stream.message().await.unwrap().is_some());
    server.kill();
    let status = stream.message().await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    assert_eq!(in_flight(&channel), 0);
    assert_eq!(channel.circuit_breaker().state(), State::Open);
}

#[tokio::test]
async fn a_silent_stream_that_is_the_probe_of_a_breaker_does_not_keep_all_others_out() {
    let server = Told::start();
    let channel = channel([server.address()]);
    let mut echo = EchoClient::new(channel.clone());
    echo.unary(message("x")).await.unwrap();
    let address = server.kill();
    while channel.circuit_breaker().state() == State::Closed {
        assert!(echo.unary(message("x")).await.is_err());
    }
    let _again = Told::with(address, Server::builder());
    while channel.circuit_breaker().state() != State::HalfOpen {
        sleep(millis(10)).await;
    }
    let silent = echo.chat(stream::pending()).await.unwrap();
    let started = Instant::now();
    while echo.unary(message("x")).await.is_err() {
        assert!(started.elapsed() < S(4), "the server is well");
        sleep(millis(10)).await;
    }
    drop(silent);
}

#[tokio::test]
async fn a_stream_goes_on_without_the_channel_that_it_came_from() {
    let server = Told::start();
    let mut stream = {
        let mut echo = EchoClient::new(channel([server.address()]));
        echo.repeat(told("x-every", "100"))
            .await
            .unwrap()
            .into_inner()
    };
    for _ in 0..3 {
        assert!(stream.message().await.unwrap().is_some());
    }
    assert!(stream.message().await.unwrap().is_none());
}

#[tokio::test]
async fn a_server_that_never_reads_holds_no_call_beyond_its_deadline_and_no_other_call() {
    let server = Told::start();
    let channel = builder([server.address()])
        .deadline(millis(500))
        .build_tonic(Ok)
        .unwrap();
    let mut echo = EchoClient::new(channel.clone());
    let large = "x".repeat(1 << 16);
    let parts = (0..1000).map(move |_| message(&large));
    let mut request = Request::new(stream::iter(parts));
    request
        .metadata_mut()
        .insert("x-ignore", "1".parse().unwrap());
    let answer = timeout(S(3), echo.collect(request)).await.expect("in time");
    let status = answer.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    server.counts.rest().await;
    assert_eq!(in_flight(&channel), 0);
    // What it held of the connection's window is there for others.
    let large = message(&"x".repeat(1 << 17));
    for _ in 0..3 {
        echo.unary(large.clone()).await.unwrap();
    }
}

/// Messages of which one is too long for a client that sends at most 64 bytes.
fn one_too_long(pause: Duration) -> impl Stream<Item = Message> {
    let parts = ["a".to_owned(), "b".repeat(100), "c".to_owned()];
    stream::iter(parts).then(move |text| async move {
        sleep(pause).await;
        message(&text)
    })
}

#[tokio::test]
async fn a_message_that_cannot_be_encoded_is_the_callers_fault_wherever_in_the_stream_it_comes() {
    let server = Told::start();
    let channel = touchy(&server);
    let mut echo = EchoClient::new(channel.clone()).max_encoding_message_size(64);
    for pause in [0, 20] {
        let status = echo.collect(one_too_long(millis(pause))).await.unwrap_err();
        assert_eq!(status.code(), Code::OutOfRange, "{status}");
        let error: &Error = ours(&status);
        assert!(error.report().attempts().len() <= 1, "{error}");
        assert_unblamed(&channel);
    }
    let answers = echo.chat(one_too_long(millis(20))).await.unwrap();
    let answers: Vec<_> = answers.into_inner().take(2).collect().await;
    assert_eq!(answers[0].as_ref().unwrap().text, "a");
    let status = answers[1].as_ref().unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange, "{status}");
    assert_unblamed(&channel);
    server.counts.rest().await;
}

#[tokio::test]
async fn an_answer_that_is_too_long_is_the_callers_own_error() {
    let server = Told::start();
    let channel = touchy(&server);
    let mut echo = EchoClient::new(channel.clone()).max_decoding_message_size(16);
    let status = echo.unary(message(&"x".repeat(100))).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange, "{status}");
    assert_unblamed(&channel);
}

#[tokio::test]
async fn thousands_of_calls_leave_no_task_and_no_call_behind() {
    let server = Told::start();
    let channel = builder([server.address()])
        .method(SERVICE, CallPolicy::new().idempotent(true))
        .build_tonic(Ok)
        .unwrap();
    let one = |number: u32| {
        let mut echo = EchoClient::new(channel.clone());
        async move {
            match number % 4 {
                0 => assert!(echo.unary(message("x")).await.is_ok()),
                1 => drop(echo.repeat(message("x")).await.unwrap()),
                2 => {
                    let parts = stream::iter(["a", "b"]).map(message);
                    assert!(echo.collect(parts).await.is_ok());
                }
                _ => {
                    let answers = echo.repeat(message("x")).await.unwrap();
                    assert_eq!(answers.into_inner().count().await, 3);
                }
            }
        }
    };
    let metrics = Handle::current().metrics();
    let mut tasks = Vec::new();
    for calls in [400, 4000] {
        for _ in 0..calls / 40 {
            join_all((0..40).map(one)).await;
        }
        let limit = Instant::now() + S(5);
        while metrics.num_alive_tasks() > 3 && Instant::now() < limit {
            sleep(millis(10)).await;
        }
        tasks.push(metrics.num_alive_tasks());
    }
    assert!(tasks[1] <= tasks[0], "{tasks:?}");
    assert_eq!(in_flight(&channel), 0);
}
