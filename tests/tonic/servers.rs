//! What servers and proxies say.

use super::*;

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
