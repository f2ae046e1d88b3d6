//! gRPC over real sockets: a generated client through the whole stack.

#[path = "support/echo.rs"]
mod echo;
#[path = "support/grpc.rs"]
mod grpc;
mod support;

use std::{
    error::Error as _,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use echo::{Message, echo_client::EchoClient};
use evenkeel::{
    Budget, CallPolicy, Channel, ClientBuilder, DeadlineLayer, Disposition, Ejection, Endpoint,
    Error, ErrorKind, IdempotencyKeys, Retry, RetryLayer, classify::Classifier,
};
use futures::{StreamExt, stream};
use grpc::{Act, EchoServer};
use support::{
    nowhere::{BlackHole, Refusing, Silent},
    reply::Reply,
    server::Server,
    tls::Authority,
};
use tokio::{runtime, sync::mpsc, time::sleep};
use tonic::{
    Code, Request, Status,
    transport::{Certificate, ClientTlsConfig},
};
use tower::{Service, ServiceBuilder};

const ORIGIN: &str = "http://echo.internal";
const UNARY: &str = "evenkeel.test.v1.Echo/Unary";
const REPEAT: &str = "evenkeel.test.v1.Echo/Repeat";

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn builder<const N: usize>(endpoints: [SocketAddr; N]) -> ClientBuilder<evenkeel::Balanced> {
    Channel::builder(ORIGIN)
        .endpoints(endpoints.map(Endpoint::new))
        .deadline(Duration::from_secs(5))
}

fn client<const N: usize>(endpoints: [SocketAddr; N]) -> EchoClient<Channel> {
    EchoClient::new(builder(endpoints).build_tonic(Ok).expect("valid"))
}

fn message(text: &str) -> Message {
    Message {
        text: text.to_owned(),
        count: 3,
    }
}

/// The error of ours behind a status.
fn ours(status: &Status) -> &Error {
    let source = status.source().expect("a source");
    source.downcast_ref().expect("an error of ours")
}

// ===== a generated client =====

#[tokio::test]
async fn all_four_kinds_of_method_work() {
    let server = EchoServer::start([]);
    let mut echo = client([server.address()]);

    let reply = echo.unary(message("hello")).await.expect("an answer");
    assert_eq!(reply.into_inner().text, "hello");

    let parts = ["a", "b", "c"].map(message);
    let reply = echo.collect(stream::iter(parts)).await.expect("an answer");
    let reply = reply.into_inner();
    assert_eq!((reply.text.as_str(), reply.count), ("abc", 3));

    let replies = echo.repeat(message("again")).await.expect("a stream");
    let texts: Vec<_> = replies
        .into_inner()
        .map(|reply| reply.expect("a message").text)
        .collect()
        .await;
    assert_eq!(texts, ["again", "again", "again"]);

    // Each message is sent after the answer to the one before it: nothing may be held back.
    let (questions, queue) = mpsc::unbounded_channel();
    let queue = stream::unfold(queue, |mut queue| async move {
        Some((queue.recv().await?, queue))
    });
    let mut answers = echo.chat(queue).await.expect("a stream").into_inner();
    for text in ["one", "two", "three"] {
        questions.send(message(text)).expect("open");
        assert_eq!(
            answers
                .next()
                .await
                .expect("an answer")
                .expect("a message")
                .text,
            text
        );
    }
    drop(questions);
    assert!(answers.next().await.is_none());
    assert_eq!(server.calls(), 4);
}

#[tokio::test]
async fn a_bidirectional_call_starts_before_its_first_message() {
    let server = EchoServer::start([]);
    let mut echo = client([server.address()]);
    let answers = tokio::time::timeout(millis(2000), echo.chat(stream::pending())).await;
    let answers = answers.expect("not waited for").expect("a stream");
    assert_eq!(server.streams(), 1);
    drop(answers);
    let limit = Instant::now() + Duration::from_secs(5);
    while server.streams() > 0 {
        assert!(Instant::now() < limit, "the server was not told");
        sleep(millis(5)).await;
    }
}

#[tokio::test]
async fn a_call_that_is_given_up_before_its_head_is_over_for_the_server_too() {
    let slow = Act::AnswerAfter(Duration::from_secs(60));
    let server = EchoServer::start([slow.clone(), slow]);
    let mut echo = client([server.address()]);
    let mut short = Request::new(stream::pending());
    short
        .extensions_mut()
        .insert(CallPolicy::new().deadline(millis(200)));
    let status = echo.chat(short).await.expect_err("too slow");
    assert_eq!(status.code(), Code::DeadlineExceeded);
    let dropped = tokio::time::timeout(millis(200), echo.unary(message("x"))).await;
    assert!(dropped.is_err() && server.calls() == 2);
    let limit = Instant::now() + Duration::from_secs(5);
    while server.running() > 0 {
        assert!(Instant::now() < limit, "the server was not told");
        sleep(millis(5)).await;
    }
}

#[tokio::test]
async fn an_interceptor_and_a_signature_stand_where_tonic_has_them() {
    let server = EchoServer::start([]);
    let channel = builder([server.address()])
        .before_attempt(|parts, attempt| _ = parts.headers.insert("x-attempt", attempt.into()))
        .build_tonic(Ok)
        .expect("valid");
    let mut echo = EchoClient::with_interceptor(channel, |mut request: Request<()>| {
        request
            .metadata_mut()
            .insert("x-tenant", "blue".parse().expect("metadata"));
        Ok(request)
    });
    echo.unary(message("x")).await.expect("an answer");
    let metadata = server.seen().pop().expect("a call").metadata;
    assert_eq!(metadata["x-tenant"], "blue");
    assert_eq!(metadata["x-attempt"], "1");
}

#[tokio::test]
async fn without_endpoints_the_origins_name_is_looked_up() {
    let server = EchoServer::start([]);
    let origin = format!("http://localhost:{}", server.address().port());
    let channel = Channel::builder(origin).build_tonic(Ok).expect("valid");
    assert!(
        channel.endpoints().is_empty(),
        "nothing is looked up before the first call"
    );
    let mut echo = EchoClient::new(channel.clone());
    echo.unary(message("x")).await.expect("an answer");
    assert!(!channel.endpoints().is_empty());
}

#[tokio::test]
async fn a_channel_is_always_ready_and_a_status_of_the_server_is_the_servers() {
    let server = EchoServer::start([Act::Fail(Status::not_found("no such cart"))]);
    let mut channel = builder([server.address()]).build_tonic(Ok).expect("valid");
    let breaker = channel.circuit_breaker().clone();
    breaker.force_open();
    let ready = std::future::poll_fn(|cx| channel.poll_ready(cx)).await;
    assert!(ready.is_ok());
    breaker.force_closed();
    let status = EchoClient::new(channel)
        .unary(message("x"))
        .await
        .expect_err("failed");
    assert_eq!(
        (status.code(), status.message()),
        (Code::NotFound, "no such cart")
    );
}

// ===== refusals of ours =====

#[tokio::test]
async fn an_open_breaker_is_unavailable_with_our_error_as_source() {
    let server = EchoServer::start([]);
    let channel = builder([server.address()]).build_tonic(Ok).expect("valid");
    channel.circuit_breaker().force_open();
    let mut echo = EchoClient::new(channel);
    let status = echo.unary(message("x")).await.expect_err("open");
    assert_eq!(status.code(), Code::Unavailable);
    assert!(
        status.message().starts_with("circuit breaker is open"),
        "{status}"
    );
    let error = ours(&status);
    assert!(matches!(error.kind(), ErrorKind::CircuitOpen { .. }));
    assert_eq!(error.disposition(), Disposition::NotSent);
    assert_eq!(error.report().attempts().len(), 1, "{error}");
    assert_eq!(server.calls(), 0);
    assert_eq!(
        status.message(),
        error.to_string(),
        "the status adds nothing to the line"
    );
}

#[tokio::test]
async fn no_endpoints_are_unavailable() {
    let none = evenkeel::discover::from_stream(stream::iter([Vec::<SocketAddr>::new()]));
    let channel = Channel::builder(ORIGIN)
        .discover(none)
        .trust_empty()
        .build_tonic(Ok);
    let status = EchoClient::new(channel.expect("valid"))
        .unary(message("x"))
        .await;
    let status = status.expect_err("nobody there");
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(ours(&status).kind(), ErrorKind::NoEndpoints);
}

#[tokio::test]
async fn a_full_endpoint_is_resource_exhausted() {
    let server = EchoServer::start([Act::AnswerAfter(millis(500))]);
    let channel = builder([server.address()])
        .max_in_flight(1)
        .build_tonic(Ok)
        .expect("valid");
    let mut echo = EchoClient::new(channel);
    let mut first = echo.clone();
    let running = tokio::spawn(async move { first.unary(message("first")).await });
    while server.calls() < 1 {
        sleep(millis(5)).await;
    }
    let status = echo.unary(message("second")).await.expect_err("full");
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert_eq!(ours(&status).kind(), ErrorKind::Overloaded);
    running.await.expect("no panic").expect("an answer");
}

#[tokio::test]
async fn a_policy_out_of_range_is_an_invalid_argument() {
    let server = EchoServer::start([]);
    let mut request = Request::new(message("x"));
    request
        .extensions_mut()
        .insert(CallPolicy::new().max_attempts(0));
    let status = client([server.address()])
        .unary(request)
        .await
        .expect_err("no attempts");
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(
        status.message().contains("CallPolicy::max_attempts is 0"),
        "{status}"
    );
    assert_eq!(
        (ours(&status).kind(), server.calls()),
        (ErrorKind::InvalidCall, 0)
    );
}

#[tokio::test]
async fn a_message_that_cannot_be_encoded_is_not_sent_and_not_retried() {
    let server = EchoServer::start([]);
    let mut echo = client([server.address()]).max_encoding_message_size(8);
    let status = echo
        .unary(message("far too long"))
        .await
        .expect_err("too long");
    assert_eq!(status.code(), Code::OutOfRange);
    assert_eq!(server.calls(), 0);
    echo.unary(message("x"))
        .await
        .expect("the channel is as good as before");
}

// ===== connections =====

#[tokio::test]
async fn a_refused_connection_is_tried_elsewhere_whatever_the_method() {
    let (nobody, server) = (Refusing::new(), EchoServer::start([]));
    let mut echo = client([nobody.address(), server.address()]);
    for _ in 0..20 {
        echo.unary(message("x")).await.expect("answered elsewhere");
    }
    assert_eq!(server.calls(), 20);
}

#[tokio::test]
async fn connections_that_are_refused_everywhere_are_unavailable_and_not_sent() {
    let (one, two) = (Refusing::new(), Refusing::new());
    let status = client([one.address(), two.address()])
        .unary(message("x"))
        .await;
    let status = status.expect_err("nobody there");
    assert_eq!(status.code(), Code::Unavailable);
    let error = ours(&status);
    assert_eq!(
        (error.kind(), error.disposition()),
        (ErrorKind::Upstream, Disposition::NotSent)
    );
    assert_eq!(error.report().attempts().len(), 3);
    assert!(status.message().contains("refused"), "{status}");
}

// grpc/grpc-rust#1619
#[tokio::test]
async fn a_connection_that_does_not_come_about_ends_at_its_limit_and_was_not_sent() {
    let (nowhere, server) = (BlackHole::new(), EchoServer::start([]));
    let alone = builder([nowhere.address()])
        .connect_timeout(millis(100))
        .retry(Retry::default().max_attempts(1))
        .build_tonic(Ok)
        .expect("valid");
    let started = Instant::now();
    let status = EchoClient::new(alone)
        .unary(message("x"))
        .await
        .expect_err("nobody there");
    assert!(started.elapsed() < millis(1000), "{:?}", started.elapsed());
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(
        ours(&status).disposition(),
        Disposition::NotSent,
        "{status}"
    );

    let both = builder([nowhere.address(), server.address()])
        .connect_timeout(millis(100))
        .build_tonic(Ok)
        .expect("valid");
    let mut echo = EchoClient::new(both);
    for _ in 0..5 {
        echo.unary(message("x")).await.expect("answered elsewhere");
    }
}

#[tokio::test]
async fn a_refused_stream_was_not_processed_and_is_sent_again_whatever_the_method() {
    let (refuses, server) = (Server::settings().start(), EchoServer::start([]));
    refuses.otherwise(Reply::refuse_stream());
    let mut echo = client([refuses.address(), server.address()]);
    let large = Message {
        text: "x".repeat(1 << 20),
        count: 1,
    };
    for _ in 0..10 {
        let reply = echo.unary(large.clone()).await.expect("answered elsewhere");
        assert_eq!(reply.into_inner().text.len(), 1 << 20);
    }
    assert!(!refuses.seen().is_empty());

    let status = client([refuses.address()])
        .unary(message("x"))
        .await
        .expect_err("refused");
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(
        ours(&status).disposition(),
        Disposition::Refused,
        "{status}"
    );
}

#[tokio::test]
async fn a_connection_that_breaks_may_have_happened_and_only_idempotent_methods_are_sent_again() {
    let (breaks, server) = (Server::settings().start(), EchoServer::start([]));
    breaks.otherwise(Reply::reset());
    let build = || builder([breaks.address(), server.address()]).ejection(Ejection::off());
    let mut plain = EchoClient::new(build().no_circuit_breaker().build_tonic(Ok).expect("valid"));
    let mut failed = 0;
    for _ in 0..20 {
        if let Err(status) = plain.unary(message("x")).await {
            assert_eq!(status.code(), Code::Unavailable, "{status}");
            assert_eq!(ours(&status).disposition(), Disposition::Unknown);
            assert_eq!(ours(&status).report().attempts().len(), 1);
            failed += 1;
        }
    }
    assert!(failed > 0 && failed == breaks.seen().len());

    let declared = build().method(UNARY, CallPolicy::new().idempotent(true));
    let mut echo = EchoClient::new(declared.build_tonic(Ok).expect("valid"));
    for _ in 0..5 {
        echo.unary(message("x")).await.expect("answered elsewhere");
    }
}

#[tokio::test]
async fn over_tls_every_address_is_called_by_the_origins_name() {
    let authority = Authority::new();
    let tls = authority.server(&["echo.internal"]);
    let [one, two] = [(); 2].map(|()| Server::settings().tls(Arc::clone(&tls)).start());
    for server in [&one, &two] {
        server.otherwise(Reply::grpc_message(b"").trailers([("grpc-status", "0")]));
    }
    let trust = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority.pem()));
    let channel = Channel::builder("https://echo.internal:8443")
        .endpoints([one.address(), two.address()].map(Endpoint::new))
        .connect_timeout(millis(1000))
        .build_tonic(|endpoint| endpoint.tls_config(trust))
        .expect("valid");
    let mut echo = EchoClient::new(channel);
    for _ in 0..20 {
        echo.unary(message("x")).await.expect("an answer");
    }
    for server in [one, two] {
        let seen = server.seen();
        assert!(!seen.is_empty());
        assert_eq!(server.connections(), 1);
        for request in seen {
            assert_eq!(request.authority.as_deref(), Some("echo.internal:8443"));
            assert_eq!(request.sni.as_deref(), Some("echo.internal"));
        }
    }
}

#[tokio::test]
async fn a_certificate_of_another_name_fails_for_good_and_https_without_settings_says_what_is_missing()
 {
    let authority = Authority::new();
    let server = Server::settings()
        .tls(authority.server(&["other.internal"]))
        .start();
    let build = || {
        Channel::builder("https://echo.internal")
            .endpoints([Endpoint::new(server.address())])
            .connect_timeout(millis(1000))
    };
    let trust = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority.pem()));
    let channel = build()
        .build_tonic(|endpoint| endpoint.tls_config(trust))
        .expect("valid");
    let status = EchoClient::new(channel)
        .unary(message("x"))
        .await
        .expect_err("another name");
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(ours(&status).disposition(), Disposition::NotSent);
    assert_eq!(ours(&status).report().attempts().len(), 1, "{status}");

    let plain = build()
        .build_tonic(Ok)
        .expect("only tonic knows that TLS is not set");
    let status = EchoClient::new(plain)
        .unary(message("x"))
        .await
        .expect_err("no TLS");
    assert!(status.message().contains("tls_config"), "{status}");
    assert_eq!(ours(&status).kind(), ErrorKind::InvalidCall);
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn the_port_of_the_origin_is_shown_or_left_out_as_asked() {
    let server = Server::start([]);
    server.otherwise(Reply::grpc_message(b"").trailers([("grpc-status", "0")]));
    for (without, authority) in [(false, "echo.internal:1"), (true, "echo.internal")] {
        let builder =
            Channel::builder("http://echo.internal:1").endpoints([Endpoint::new(server.address())]);
        let builder = if without {
            builder.authority_without_port()
        } else {
            builder
        };
        let mut echo = EchoClient::new(builder.build_tonic(Ok).expect("valid"));
        echo.unary(message("x")).await.expect("an answer");
        let seen = server.seen().pop().expect("a request");
        assert_eq!(seen.authority.as_deref(), Some(authority));
        assert!(
            !seen.headers.contains_key("content-length"),
            "as tonic sends it"
        );
    }
}

#[test]
fn settings_out_of_range_are_refused_when_the_channel_is_built() {
    let built = |builder: ClientBuilder<evenkeel::Balanced>| builder.build_tonic(Ok).map(drop);
    let refused = |builder| built(builder).expect_err("refused").to_string();
    let one = || Channel::builder(ORIGIN).endpoints(["127.0.0.1:1"]);
    assert!(refused(Channel::builder("echo.internal")).contains("origin"));
    assert!(refused(one().method("Echo/", CallPolicy::new())).contains("package.Service/Method"));
    assert!(refused(one().deadline(Duration::ZERO)).contains("deadline"));
    let itself = Channel::builder("http://127.0.0.1:1").endpoints(["127.0.0.2:1"]);
    assert!(refused(itself).contains("only itself"));
    let other = one().build_tonic(|_| Ok(tonic::transport::Endpoint::from_static("http://other")));
    assert!(
        other
            .map(drop)
            .expect_err("another origin")
            .to_string()
            .contains("http://other")
    );
    let agent = one().build_tonic(|endpoint| endpoint.user_agent("a\nb"));
    assert!(
        agent
            .map(drop)
            .expect_err("no header")
            .to_string()
            .contains("user agent")
    );
    assert!(built(one()).is_ok());
}

// ===== time =====

#[tokio::test]
async fn the_deadline_ends_a_call_that_nobody_answers() {
    let silent = Silent::new();
    let channel = builder([silent.address()])
        .deadline(millis(300))
        .build_tonic(Ok)
        .expect("valid");
    let started = Instant::now();
    let status = EchoClient::new(channel)
        .unary(message("x"))
        .await
        .expect_err("silence");
    assert!(started.elapsed() < millis(1000), "{:?}", started.elapsed());
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert_eq!(ours(&status).kind(), ErrorKind::DeadlineExceeded);
    assert!(ours(&status).may_have_happened());
}

#[tokio::test]
async fn a_deadline_that_was_set_covers_the_stream() {
    let server = Server::settings().start();
    let head = Reply::grpc_message(b"").stall();
    server.otherwise(head);
    let mut request = Request::new(message("x"));
    request
        .extensions_mut()
        .insert(CallPolicy::new().deadline(millis(300)));
    let mut echo = client([server.address()]);
    let mut replies = echo.repeat(request).await.expect("a head").into_inner();
    assert!(replies.message().await.expect("one message").is_some());
    let status = replies.message().await.expect_err("then silence");
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert_eq!(ours(&status).kind(), ErrorKind::DeadlineExceeded);
}

#[tokio::test]
async fn a_timeout_header_of_the_callers_is_not_a_cancellation() {
    let silent = Silent::new();
    let mut request = Request::new(message("x"));
    request.set_timeout(millis(200));
    let started = Instant::now();
    let status = client([silent.address()])
        .unary(request)
        .await
        .expect_err("silence");
    assert!(started.elapsed() < millis(1000), "{:?}", started.elapsed());
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
}

#[tokio::test]
async fn tonics_own_timeout_holds_for_each_attempt() {
    let (silent, server) = (Silent::new(), EchoServer::start([]));
    let channel = builder([silent.address(), server.address()])
        .ejection(Ejection::off())
        .method("evenkeel.test.v1.Echo", CallPolicy::new().safe(true))
        .build_tonic(|endpoint| Ok(endpoint.timeout(millis(100))))
        .expect("valid");
    let mut echo = EchoClient::new(channel);
    for _ in 0..5 {
        echo.unary(message("x")).await.expect("answered elsewhere");
    }
    let alone =
        builder([silent.address()]).build_tonic(|endpoint| Ok(endpoint.timeout(millis(100))));
    let status = EchoClient::new(alone.expect("valid"))
        .unary(message("x"))
        .await;
    let status = status.expect_err("silence");
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert_eq!(ours(&status).kind(), ErrorKind::AttemptTimeout);
}

// ===== policies and keys =====

#[tokio::test]
async fn a_key_is_metadata_and_the_same_on_every_attempt() {
    let (breaks, server) = (Server::settings().start(), EchoServer::start([]));
    breaks.otherwise(Reply::reset());
    let channel = builder([breaks.address(), server.address()])
        .ejection(Ejection::off())
        .no_circuit_breaker()
        .idempotency_keys(IdempotencyKeys::default())
        .method(REPEAT, CallPolicy::new().safe(true))
        .build_tonic(Ok)
        .expect("valid");
    let mut echo = EchoClient::new(channel);
    for _ in 0..8 {
        echo.unary(message("x"))
            .await
            .expect("retried, since it is keyed");
    }
    let keys = |metadata: &http::HeaderMap| metadata["idempotency-key"].clone();
    let tried: Vec<_> = breaks
        .seen()
        .iter()
        .map(|seen| keys(&seen.headers))
        .collect();
    let answered: Vec<_> = server
        .seen()
        .iter()
        .map(|seen| keys(&seen.metadata))
        .collect();
    assert!(!tried.is_empty() && tried.iter().all(|key| answered.contains(key)));

    echo.repeat(message("x")).await.expect("a stream");
    let seen = server.seen().pop().expect("a call");
    assert_eq!(seen.method, "Repeat");
    assert!(
        !seen.metadata.contains_key("idempotency-key"),
        "it only reads"
    );
}

#[tokio::test]
async fn what_a_call_says_goes_before_what_its_method_says() {
    let silent = Silent::new();
    let channel = builder([silent.address()])
        .method(UNARY, CallPolicy::new().deadline(millis(200)))
        .build_tonic(Ok)
        .expect("valid");
    let mut echo = EchoClient::new(channel);
    for (own, limit) in [(None, 200), (Some(millis(500)), 500)] {
        let mut request = Request::new(message("x"));
        if let Some(own) = own {
            request
                .extensions_mut()
                .insert(CallPolicy::new().deadline(own));
        }
        let started = Instant::now();
        let status = echo.unary(request).await.expect_err("silence");
        assert_eq!(status.code(), Code::DeadlineExceeded);
        let took = started.elapsed();
        assert!(
            took >= millis(limit) && took < millis(limit + 250),
            "{took:?}"
        );
    }
}

// ===== runtimes =====

fn current_thread() -> runtime::Runtime {
    runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}

// RUN-03, seanmonstar/reqwest#1148
#[test]
fn a_channel_is_built_without_a_runtime_and_outlives_those_it_is_used_in() {
    let server = EchoServer::start([]);
    let echo = client([server.address()]);
    for _ in 0..3 {
        let runtime = current_thread();
        for _ in 0..2 {
            let mut echo = echo.clone();
            runtime
                .block_on(echo.unary(message("x")))
                .expect("an answer");
        }
    }
    assert_eq!(server.calls(), 6);
}

#[test]
fn runtimes_that_live_side_by_side_do_not_wait_for_one_another() {
    let server = EchoServer::start([]);
    let echo = client([server.address()]);
    let runtimes = [current_thread(), current_thread()];
    for _ in 0..3 {
        for runtime in &runtimes {
            let mut echo = echo.clone();
            // The other one is not driven meanwhile.
            runtime
                .block_on(echo.unary(message("x")))
                .expect("an answer");
        }
    }
    assert_eq!(server.calls(), 6);
}

#[test]
fn without_a_runtime_a_call_is_an_error_and_no_panic() {
    let server = EchoServer::start([]);
    let mut echo = client([server.address()]);
    let status = futures::executor::block_on(echo.unary(message("x"))).expect_err("no runtime");
    assert!(status.message().contains("runtime"), "{status}");
    assert!(!ours(&status).may_have_happened());
    current_thread()
        .block_on(echo.unary(message("x")))
        .expect("an answer");
}

#[test]
fn a_call_whose_runtime_ends_is_over_and_the_next_one_elsewhere_works() {
    let server = EchoServer::start([Act::AnswerAfter(Duration::from_secs(60))]);
    let mut echo = client([server.address()]);
    let first = current_thread();
    let mut cut = echo.clone();
    first.spawn(async move { cut.unary(message("cut")).await });
    first.block_on(async {
        while server.calls() < 1 {
            sleep(millis(5)).await;
        }
    });
    drop(first);
    current_thread()
        .block_on(echo.unary(message("x")))
        .expect("an answer");
}

// ===== what servers say =====

#[tokio::test]
async fn a_stream_that_breaks_after_a_message_is_not_begun_again() {
    let server = Server::start([]);
    server.script([Reply::grpc_message(b"").cut()]);
    let mut request = Request::new(message("x"));
    request
        .extensions_mut()
        .insert(CallPolicy::new().idempotent(true));
    let mut echo = client([server.address()]);
    let mut replies = echo.repeat(request).await.expect("a head").into_inner();
    assert!(replies.message().await.expect("one message").is_some());
    let status = replies.message().await.expect_err("then a reset");
    assert_eq!(status.code(), Code::Internal, "{status}");
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn what_a_proxy_answers_is_read_by_the_published_mapping() {
    let server = Server::start([]);
    for (reply, code) in [
        (
            Reply::status(502)
                .header("content-type", "text/html")
                .body("<html>"),
            Code::Unavailable,
        ),
        (Reply::status(403), Code::PermissionDenied),
        (Reply::ok("<html>login</html>"), Code::Unknown),
    ] {
        server.script([reply]);
        let sent = server.seen().len();
        let status = client([server.address()]).unary(message("x")).await;
        let status = status.expect_err("no answer of gRPC's");
        assert_eq!(status.code(), code, "{status}");
        assert_eq!(server.seen().len(), sent + 1, "not idempotent: sent once");
    }
    server.script([Reply::status(502)]);
    server.otherwise(Reply::grpc_message(b"").trailers([("grpc-status", "0")]));
    let safe = builder([server.address()]).method(UNARY, CallPolicy::new().safe(true));
    let mut echo = EchoClient::new(safe.build_tonic(Ok).expect("valid"));
    echo.unary(message("x"))
        .await
        .expect("the proxy found another server");
}

#[tokio::test]
async fn details_that_are_no_base64_are_dropped_and_no_panic() {
    let server = Server::start([]);
    let details = ("grpc-status-details-bin", "***");
    server.script([
        Reply::grpc_status(5).header(details.0, details.1),
        Reply::grpc_message(b"").trailers([("grpc-status", "5"), details]),
        Reply::grpc_status(5).header(details.0, "Zm9v"),
    ]);
    let mut echo = client([server.address()]);
    for expected in ["", "", "foo"] {
        let status = echo.unary(message("x")).await.expect_err("not found");
        assert_eq!(status.code(), Code::NotFound);
        assert_eq!(status.details(), expected.as_bytes());
    }
}

#[tokio::test]
async fn a_recorded_stream_is_sent_again() {
    let (breaks, server) = (Server::settings().start(), EchoServer::start([]));
    breaks.otherwise(Reply::reset());
    let channel = builder([breaks.address(), server.address()])
        .ejection(Ejection::off())
        .no_circuit_breaker()
        .method(
            "evenkeel.test.v1.Echo/Collect",
            CallPolicy::new().idempotent(true),
        );
    let mut echo = EchoClient::new(channel.build_tonic(Ok).expect("valid"));
    for _ in 0..8 {
        let parts = stream::iter(["a", "b", "c"]).map(message);
        // Not all of it is there at once.
        let parts = parts.then(|part| async {
            tokio::task::yield_now().await;
            part
        });
        let reply = echo.collect(parts).await.expect("answered elsewhere");
        assert_eq!(reply.get_ref().text, "abc");
        if let Some(report) = reply.extensions().get::<evenkeel::Report>() {
            assert_eq!(report.attempts().len(), 2, "{report}");
        }
    }
    assert!(!breaks.seen().is_empty());
}

// ===== by hand =====

#[tokio::test]
async fn layers_by_hand_around_a_channel_of_tonics_own() {
    let (nobody, server) = (Refusing::new(), EchoServer::start([]));
    let classifier = Classifier::default().evidence(evenkeel::tonic::evidence);
    let build = |address: SocketAddr| {
        let uri = format!("http://{address}");
        let endpoint = tonic::transport::Endpoint::from_shared(uri).expect("a URI");
        let retry = Retry::default()
            .classifier(classifier.clone())
            .build()
            .expect("valid");
        let service = ServiceBuilder::new()
            .map_err(Status::from)
            .layer(DeadlineLayer::new(Duration::from_secs(3)).expect("valid"))
            .layer(RetryLayer::new(retry))
            .service(endpoint.connect_lazy());
        EchoClient::new(service)
    };
    let reply = build(server.address())
        .unary(message("x"))
        .await
        .expect("an answer");
    assert_eq!(reply.into_inner().text, "x");
    let parts = ["a", "b"].map(message);
    let reply = build(server.address())
        .collect(stream::iter(parts))
        .await
        .expect("an answer");
    assert_eq!(reply.into_inner().text, "ab");

    let status = build(nobody.address())
        .unary(message("x"))
        .await
        .expect_err("nobody there");
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    assert_eq!(ours(&status).report().attempts().len(), 3, "{status}");
    assert_eq!(ours(&status).disposition(), Disposition::NotSent);
}

#[tokio::test]
async fn by_hand_a_repeated_request_is_sent_as_tonic_sends_the_first() {
    let server = Server::start([Reply::grpc_status(14)]);
    server.otherwise(Reply::grpc_message(b"").trailers([("grpc-status", "0")]));
    let uri = format!("http://{}", server.address());
    let endpoint = tonic::transport::Endpoint::from_shared(uri).expect("a URI");
    let retry = Retry::default().classifier(Classifier::grpc());
    let service = ServiceBuilder::new()
        .map_err(Status::from)
        .layer(RetryLayer::new(retry.build().expect("valid")))
        .service(endpoint.connect_lazy());
    let mut request = Request::new(message("x"));
    let idempotent = CallPolicy::new().idempotent(true);
    request.extensions_mut().insert(idempotent);
    EchoClient::new(service)
        .unary(request)
        .await
        .expect("an answer");
    let [first, second] = &*server.seen() else {
        panic!("two attempts");
    };
    assert_eq!(first.body, second.body);
    for name in first.headers.keys().chain(second.headers.keys()) {
        let counts = name == "grpc-previous-rpc-attempts";
        assert!(
            counts || first.headers.get(name) == second.headers.get(name),
            "{name}"
        );
    }
}

// ===== retries by status =====

// gRFC A6
#[tokio::test]
async fn an_unavailable_answer_is_sent_again_and_the_server_told_how_often() {
    let unavailable = || Act::Fail(Status::unavailable("down"));
    let server = EchoServer::start([unavailable(), unavailable()]);
    let channel = builder([server.address()])
        .method(UNARY, CallPolicy::new().idempotent(true))
        .build_tonic(Ok)
        .expect("valid");
    let reply = EchoClient::new(channel).unary(message("x")).await;
    assert_eq!(reply.expect("the third answers").into_inner().text, "x");
    let told: Vec<_> = server
        .seen()
        .iter()
        .map(|seen| seen.metadata.get("grpc-previous-rpc-attempts").cloned())
        .collect();
    let number = |number| Some(http::HeaderValue::from(number));
    assert_eq!(told, [None, number(1), number(2)]);
}

// BKO-11, grpc/proposal#12
#[tokio::test]
async fn the_pushback_of_a_status_is_kept_to() {
    let pushed_back = |wish: &'static str| {
        let mut status = Status::unavailable("busy");
        let wish = wish.parse().expect("ASCII");
        status.metadata_mut().insert("grpc-retry-pushback-ms", wish);
        Act::Fail(status)
    };
    let server = EchoServer::start([pushed_back("250"), Act::Answer, pushed_back("-1")]);
    let channel = builder([server.address()])
        .method(UNARY, CallPolicy::new().idempotent(true))
        .build_tonic(Ok)
        .expect("valid");
    let mut echo = EchoClient::new(channel);
    let start = Instant::now();
    echo.unary(message("x")).await.expect("the second answers");
    assert!(start.elapsed() >= millis(250), "{:?}", start.elapsed());
    let status = echo.unary(message("x")).await.expect_err("it forbids");
    assert_eq!((status.code(), server.calls()), (Code::Unavailable, 3));
}

// gRFC A6
#[tokio::test]
async fn failures_throttle_retries_until_successes_bring_the_tokens_back() {
    let server = EchoServer::start([]);
    let budget = Budget::grpc_throttling(4, 0.5).expect("valid");
    let channel = builder([server.address()])
        .no_circuit_breaker()
        .method("evenkeel.test.v1.Echo", CallPolicy::new().idempotent(true))
        .retry(Retry::default().budget(budget.clone()))
        .build_tonic(Ok)
        .expect("valid");
    let mut echo = EchoClient::new(channel);
    let tokens = || budget.balance(Instant::now());
    server.script([
        Act::Fail(Status::unavailable("")),
        Act::Fail(Status::unavailable("")),
    ]);
    assert!(echo.unary(message("x")).await.is_err());
    assert_eq!((server.calls(), tokens()), (2, 2.0), "no third attempt");
    // One answer has its status in the trailers, as has each stream.
    assert!(echo.unary(message("x")).await.is_ok());
    assert_eq!(tokens(), 2.5);
    let stream = echo.repeat(message("x")).await.expect("a stream");
    let replies: Vec<_> = stream.into_inner().collect().await;
    assert!(replies.iter().all(Result::is_ok));
    assert_eq!(tokens(), 3.0);
    server.script([Act::FailLate(Status::unavailable(""))]);
    let stream = echo.repeat(message("x")).await.expect("a stream");
    let replies: Vec<_> = stream.into_inner().collect().await;
    assert!(replies.iter().any(Result::is_err));
    assert_eq!((server.calls(), tokens()), (5, 2.0), "not sent again");
}

fn unavailable() -> Act {
    Act::Fail(Status::unavailable("draining"))
}

#[tokio::test]
async fn an_idempotent_method_is_tried_elsewhere_when_a_server_is_unavailable() {
    let [drains, server] = [(); 2].map(|()| EchoServer::start([]));
    drains.script(vec![unavailable(); 100]);
    let build = || {
        builder([drains.address(), server.address()])
            .ejection(Ejection::off())
            .no_circuit_breaker()
    };
    let declared = build().method(UNARY, CallPolicy::new().idempotent(true));
    let mut echo = EchoClient::new(declared.build_tonic(Ok).expect("valid"));
    for _ in 0..8 {
        echo.unary(message("x")).await.expect("answered elsewhere");
    }
    let retried = drains.calls();
    assert!(retried > 0 && server.calls() == 8);

    let mut plain = EchoClient::new(build().build_tonic(Ok).expect("valid"));
    let mut failed = 0;
    for _ in 0..20 {
        failed += usize::from(plain.unary(message("x")).await.is_err());
    }
    assert!(
        failed > 0 && failed == drains.calls() - retried,
        "each failure was one attempt"
    );

    let mut said = Request::new(message("x"));
    said.extensions_mut().insert(CallPolicy::new().safe(true));
    plain.unary(said).await.expect("this call may be repeated");
}

#[tokio::test]
async fn a_status_of_the_server_after_failed_attempts_tells_their_story() {
    let server = EchoServer::start(vec![unavailable(); 3]);
    let channel = builder([server.address()])
        .ejection(Ejection::off())
        .method(UNARY, CallPolicy::new().idempotent(true));
    let mut echo = EchoClient::new(channel.build_tonic(Ok).expect("valid"));
    let status = echo.unary(message("x")).await.expect_err("unavailable");
    assert_eq!(
        (status.code(), status.message()),
        (Code::Unavailable, "draining")
    );
    let error = ours(&status);
    assert_eq!(
        (error.kind(), error.disposition()),
        (ErrorKind::Upstream, Disposition::Answered)
    );
    assert_eq!(error.report().attempts().len(), 3, "{error}");
    assert_eq!(server.calls(), 3);
}
