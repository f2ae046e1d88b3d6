//! Refusals of ours.

use super::*;

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
