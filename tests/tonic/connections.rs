//! Connections.

use super::*;

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
