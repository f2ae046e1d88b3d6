//! A generated client over the channel.

use super::*;

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
async fn a_signature_sees_the_call_with_all_that_its_caller_said_of_it() {
    let server = EchoServer::start([]);
    let channel = builder([server.address()])
        .before_attempt(|parts, _| {
            let method = parts.extensions.get::<GrpcMethod<'static>>();
            let method = method.expect("generated clients say it").method();
            let method = method.parse().expect("a header value");
            parts.headers.insert("x-method", method);
        })
        .build_tonic(Ok)
        .expect("valid");
    EchoClient::new(channel)
        .unary(message("x"))
        .await
        .expect("an answer");
    let metadata = server.seen().pop().expect("a call").metadata;
    assert_eq!(metadata["x-method"], "Unary");
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
