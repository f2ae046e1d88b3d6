//! Deadlines and timeouts.

use super::*;

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
