//! Retries by status.

use super::*;

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
