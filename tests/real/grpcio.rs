//! The channel against grpcio's server, and beside grpcio's own client.

#[path = "../support/echo.rs"]
mod echo;
mod python;

use std::{
    error::Error as _,
    time::{Duration, Instant},
};

use echo::{Message, echo_client::EchoClient};
use evenkeel::{Backoff, CallPolicy, Channel, Endpoint, Error, Jitter, Retry, breaker::State};
use python::GrpcioServer;
use serde_json::Value;
use tonic::{Code, Request, Status, client::Grpc, codegen::http::uri::PathAndQuery};
use tonic_prost::ProstCodec;

const SERVICE: &str = "evenkeel.test.v1.Echo";
const ATTEMPTS: u32 = 3;

/// A channel whose methods may all be repeated.
fn channel(server: &GrpcioServer) -> Channel {
    Channel::builder("http://echo.internal")
        .endpoints([Endpoint::new(server.address())])
        .deadline(Duration::from_secs(10))
        .retry(Retry::default().max_attempts(ATTEMPTS))
        .method(SERVICE, CallPolicy::new().idempotent(true))
        .build_tonic(Ok)
        .expect("valid")
}

fn scripted(name: &str, steps: &str) -> Request<Message> {
    let mut request = Request::new(Message {
        text: "hello".to_owned(),
        count: 1,
    });
    let text = |text: &str| text.parse().expect("ASCII");
    request.metadata_mut().insert("script-id", text(name));
    request.metadata_mut().insert("script", text(steps));
    request
}

/// One attempt as the server saw it.
#[derive(Debug)]
struct Attempt {
    /// `grpc-previous-rpc-attempts`.
    previous: Option<String>,
    /// What was left until the call's deadline; `None`: it was not told.
    remaining: Option<f64>,
    /// Seconds of a clock of its own.
    at: f64,
}

/// The attempts that the server saw for a script.
async fn seen(server: &GrpcioServer, name: &str) -> Vec<Attempt> {
    let question = Message {
        text: name.to_owned(),
        count: 0,
    };
    let told: Message = ask(channel(server), "/evenkeel.test.v1.Control/Unary", question)
        .await
        .expect("the server is there");
    let attempts: Vec<Value> = serde_json::from_str(&told.text).expect("JSON");
    let read = |attempt: &Value| Attempt {
        previous: attempt["previous"].as_str().map(str::to_owned),
        remaining: attempt["remaining"].as_f64(),
        at: attempt["at"].as_f64().expect("a time"),
    };
    attempts.iter().map(read).collect()
}

/// A unary call of a method that no client was generated for.
async fn ask<Q, A>(channel: Channel, path: &'static str, question: Q) -> Result<A, Status>
where
    Q: prost::Message + 'static,
    A: prost::Message + Default + 'static,
{
    let mut grpc = Grpc::new(channel);
    grpc.ready().await.expect("always ready");
    let path = PathAndQuery::from_static(path);
    let answer = grpc.unary(Request::new(question), path, ProstCodec::<Q, A>::default());
    Ok(answer.await?.into_inner())
}

/// The error of ours behind a status.
fn ours(status: &Status) -> Option<&Error> {
    status.source()?.downcast_ref()
}

/// How many attempts our report tells of; without one there was a single one.
fn reported(answer: &Result<tonic::Response<Message>, Status>) -> usize {
    match answer {
        Ok(reply) => reply
            .extensions()
            .get::<evenkeel::Report>()
            .map_or(1, |report| report.attempts().len()),
        Err(status) => ours(status).map_or(1, |error| error.report().attempts().len()),
    }
}

#[tokio::test]
async fn grpcio_and_the_channel_make_the_same_attempts_of_the_same_script() {
    let server = GrpcioServer::start();
    let scripts = [
        ("ok", 1),
        ("status=14|ok", 2),
        ("status=14|status=14|ok", 3),
        ("status=14", 3),
        ("status=14|status=5|ok", 2),
        ("status=5|ok", 1),
        ("status=13|ok", 1),
        ("status=8|ok", 1),
        ("status=14 pushback=150|ok", 2),
        // Not 0, which the next test asks of the channel alone: grpcio 1.85 says that it retries in 0 ms, as gRFC A6
        // has it, and then waits for the deadline.
        ("status=14 pushback=1|ok", 2),
        ("status=14 pushback=-1|ok", 1),
        ("status=14 pushback=soon|ok", 1),
        ("status=14|status=14 pushback=-1|ok", 2),
    ];
    for (steps, expected) in scripts {
        let theirs = format!("grpcio: {steps}");
        let code = server.call_by_grpcio(&theirs, steps, ATTEMPTS);
        let theirs = seen(&server, &theirs).await;

        let mut echo = EchoClient::new(channel(&server));
        let answer = echo.unary(scripted(steps, steps)).await;
        let counted = seen(&server, steps).await;
        let previous = |attempts: &[Attempt]| -> Vec<_> {
            let told = attempts.iter().map(|attempt| attempt.previous.clone());
            told.collect()
        };
        assert_eq!(previous(&theirs), previous(&counted), "{steps}");
        let (theirs, counted) = (theirs.len(), counted.len());
        assert_eq!(
            (counted, reported(&answer)),
            (expected, expected),
            "{steps}: at the server, and in our report"
        );
        assert_eq!(theirs, counted, "{steps}: grpcio's own client");
        let ended = answer.map_or_else(|status| status.code(), |_| Code::Ok);
        assert_eq!(ended, Code::from_i32(code), "{steps}");
    }
}

// BKO-11, grpc/proposal#12
#[tokio::test]
async fn pushback_of_grpcio_is_kept_to() {
    let server = GrpcioServer::start();
    let backoff = Backoff::default()
        .initial(Duration::from_millis(900))
        .jitter(Jitter::None);
    for (steps, least, most) in [
        ("status=14 pushback=300|ok", 0.3, 0.8),
        ("status=14 pushback=0|ok", 0.0, 0.5),
        ("status=14|ok", 0.9, 1.4),
        ("status=8 pushback=300|ok", 0.3, 0.8),
    ] {
        let channel = Channel::builder("http://echo.internal")
            .endpoints([Endpoint::new(server.address())])
            .retry(Retry::default().backoff(backoff))
            .method(SERVICE, CallPolicy::new().idempotent(true))
            .build_tonic(Ok)
            .expect("valid");
        let answer = EchoClient::new(channel).unary(scripted(steps, steps)).await;
        answer.unwrap_or_else(|status| panic!("{steps}: {status}"));
        let attempts = seen(&server, steps).await;
        let [first, second] = &attempts[..] else {
            panic!("{steps}: {attempts:?}");
        };
        let waited = second.at - first.at;
        // Two clock readings in another process: a millisecond either way says nothing.
        assert!(
            waited > least - 0.005 && waited < most,
            "{steps}: {waited} s"
        );
    }
}

// RTY-09, grpc/grpc-java#7308
#[tokio::test]
async fn a_status_after_messages_is_the_end_of_the_one_attempt() {
    let server = GrpcioServer::start();
    let channel = channel(&server);
    let breaker = channel.circuit_breaker().clone();
    let mut echo = EchoClient::new(channel.clone());
    let steps = "messages=2 status=14 pushback=0";
    let replies = echo.repeat(scripted("late", steps)).await.expect("a head");
    let mut replies = replies.into_inner();
    for _ in 0..2 {
        let message = replies.message().await.expect("sent before").expect("one");
        assert_eq!(message.text, "hello");
    }
    let status = replies.message().await.expect_err("then the status");
    assert_eq!(
        (status.code(), status.message()),
        (Code::Unavailable, "scripted")
    );
    assert_eq!(seen(&server, "late").await.len(), 1);
    // CLS-01: a failure all the same.
    assert_eq!(breaker.state(), State::Closed, "one is not enough");
    assert!(channel.endpoints()[0].penalty > 1.0);
}

#[tokio::test]
async fn retry_info_reaches_the_caller_and_is_no_pushback() {
    let server = GrpcioServer::start();
    let mut echo = EchoClient::new(channel(&server));
    let steps = "status=8 retry-info=7|ok";
    let status = echo.unary(scripted("info", steps)).await;
    let status = status.expect_err("exhausted");
    assert_eq!(status.code(), Code::ResourceExhausted);
    let type_name = b"type.googleapis.com/google.rpc.RetryInfo";
    let details = status.details();
    let names_it = details
        .windows(type_name.len())
        .any(|window| window == type_name);
    assert!(names_it, "{details:?}");
    assert_eq!(seen(&server, "info").await.len(), 1);
}

// RTY-03: gRFC A6 commits a call at the head, as grpcio does; this channel does so at the first message.
#[tokio::test]
async fn a_failure_between_head_and_first_message_is_sent_again_by_the_channel_though_not_by_grpcio()
 {
    let server = GrpcioServer::start();
    let steps = "head sleep=50 status=14|head ok";
    let code = server.call_by_grpcio("grpcio: late", steps, ATTEMPTS);
    assert_eq!(Code::from_i32(code), Code::Unavailable);
    assert_eq!(seen(&server, "grpcio: late").await.len(), 1);

    for (name, unary, expected) in [("unary", true, 2), ("may stream", false, 1)] {
        let mut request = scripted(name, steps);
        let policy = CallPolicy::new().unary(unary);
        request.extensions_mut().insert(policy);
        let answer = EchoClient::new(channel(&server)).unary(request).await;
        assert_eq!(answer.is_ok(), unary, "{name}: {answer:?}");
        assert_eq!(seen(&server, name).await.len(), expected, "{name}");
    }
}

// TMO-05, TMO-07
#[tokio::test]
async fn grpcio_hears_at_each_attempt_what_is_left_of_the_deadline() {
    let server = GrpcioServer::start();
    let mut echo = EchoClient::new(channel(&server));
    let mut request = scripted("hurry", "sleep=300 status=14 pushback=200|ok");
    let policy = CallPolicy::new().deadline(Duration::from_secs(90));
    request.extensions_mut().insert(policy);
    echo.unary(request).await.expect("the second attempt");
    let attempts = seen(&server, "hurry").await;
    let left = attempts.iter().map(|attempt| attempt.remaining);
    let [Some(first), Some(second)] = left.collect::<Vec<_>>()[..] else {
        panic!("{attempts:?}");
    };
    // grpcio rounds up.
    assert!(first > 85.0 && first < 90.2, "{first} s");
    let gone = attempts[1].at - attempts[0].at;
    assert!(
        (first - second - gone).abs() < 0.2,
        "{first} s, {second} s, {gone} s between"
    );
}

#[tokio::test]
async fn a_timeout_that_the_caller_sets_reaches_grpcio() {
    let server = GrpcioServer::start();
    let mut echo = EchoClient::new(channel(&server));
    let mut request = scripted("timed", "ok");
    request.set_timeout(Duration::from_secs(4));
    echo.unary(request).await.expect("an answer");
    let attempts = seen(&server, "timed").await;
    let remaining = attempts[0].remaining.expect("it was told");
    // grpcio rounds up.
    assert!(remaining > 3.0 && remaining < 4.2, "{remaining} s");

    let start = Instant::now();
    let mut slow = scripted("slow", "sleep=3000");
    slow.set_timeout(Duration::from_millis(300));
    let status = echo.unary(slow).await.expect_err("too slow");
    assert!(start.elapsed() < Duration::from_secs(2), "{status}");
}

/// `grpc.health.v1.HealthCheckRequest`.
#[derive(Clone, PartialEq, prost::Message)]
struct HealthQuestion {
    #[prost(string, tag = "1")]
    service: String,
}

/// `grpc.health.v1.HealthCheckResponse`.
#[derive(Clone, PartialEq, prost::Message)]
struct HealthAnswer {
    #[prost(int32, tag = "1")]
    status: i32,
}

#[tokio::test]
async fn the_health_service_answers_through_the_channel() {
    const SERVING: i32 = 1;
    let server = GrpcioServer::start();
    let check = async |service: &str| {
        let service = service.to_owned();
        let path = "/grpc.health.v1.Health/Check";
        ask::<_, HealthAnswer>(channel(&server), path, HealthQuestion { service }).await
    };
    assert_eq!(check(SERVICE).await.expect("an answer").status, SERVING);
    let status = check("nobody").await.expect_err("not known");
    assert_eq!(status.code(), Code::NotFound);
}
