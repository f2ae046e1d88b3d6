//! Bodies of requests and responses.

use super::*;

// RTY-08, nodejs/undici#3356, #5724
#[tokio::test]
async fn a_body_that_breaks_off_is_an_error_and_never_a_second_body() {
    for make in [http1, http2] {
        let server = Server::start([Reply::ok("H").cut()]);
        server.otherwise(Reply::ok("Hello World"));
        let mut response = make(over([server.address()]))
            .get("/")
            .send()
            .await
            .unwrap();
        assert_eq!(response.chunk().await.unwrap().unwrap(), "H");
        assert!(response.chunk().await.is_err());
        assert_eq!(server.seen().len(), 1);
    }
}

// RTY-08, nodejs/undici#3356
#[tokio::test]
async fn a_body_that_falls_silent_ends_at_its_limit() {
    for make in [http1, http2] {
        let server = Server::start([Reply::ok("H").stall()]);
        server.otherwise(Reply::ok("Hello World"));
        let mut response = make(over([server.address()]).body_idle(SHORT))
            .get("/")
            .send()
            .await
            .unwrap();
        assert_eq!(response.chunk().await.unwrap().unwrap(), "H");
        let start = Instant::now();
        let error = response.chunk().await.unwrap_err();
        assert!(
            (SHORT / 2..LATE).contains(&start.elapsed()),
            "{:?}",
            start.elapsed()
        );
        assert!(
            cause(&error).is_some_and(|error| error.kind() == ErrorKind::BodyIdle),
            "{error:?}"
        );
        assert_eq!(server.seen().len(), 1);
    }
}

// TMO-01, browserbase/sdk-node#206, seanmonstar/reqwest#1380
#[tokio::test]
async fn the_deadline_covers_the_body() {
    let server = Server::start([Reply::ok("H").stall()]);
    let policy = CallPolicy::new().deadline(SHORT * 2);
    let start = Instant::now();
    let response = http1(over([server.address()]))
        .get("/")
        .policy(policy)
        .send()
        .await
        .unwrap();
    let error = response.bytes().await.unwrap_err();
    assert!(
        (SHORT..LATE).contains(&start.elapsed()),
        "{:?}",
        start.elapsed()
    );
    assert!(
        cause(&error).is_some_and(|error| error.kind() == ErrorKind::DeadlineExceeded),
        "{error:?}"
    );
}

fn cause(error: &reqwest::Error) -> Option<&Error> {
    let first = std::error::Error::source(error);
    std::iter::successors(first, |error| error.source()).find_map(|error| error.downcast_ref())
}

// RTY-07, openai/openai-go#495, alexfalkowski/go-service#2521
#[tokio::test]
async fn a_failed_response_gives_its_connection_back_before_the_next_attempt() {
    let server = Server::settings().connections(1).start();
    server.script([Reply::status(503).body("a long excuse").stall()]);
    let client = http1(over([server.address()]).attempt_timeout(LONG));
    let start = Instant::now();
    assert_eq!(client.get("/").send().await.unwrap().status(), 200);
    assert!(start.elapsed() < LATE, "{:?}", start.elapsed());
    assert_eq!(server.connections(), 2);
}

// RTY-07, openai/openai-go#495
#[tokio::test]
async fn the_last_response_is_handed_over_unread() {
    let server = Server::start([]);
    server.otherwise(Reply::status(503).body("busy"));
    let response = http1(over([server.address()]))
        .get("/")
        .send()
        .await
        .unwrap();
    assert_eq!(report(&response).attempts().len(), 3);
    assert_eq!(
        (
            response.status().as_u16(),
            response.text().await.unwrap().as_str()
        ),
        (503, "busy")
    );
    assert_eq!(server.seen().len(), 3);
}

// RTY-05, TrueLayer/reqwest-middleware#44
#[tokio::test]
async fn a_streamed_body_is_sent_and_a_small_one_is_sent_again() {
    let server = Server::start([Reply::status(503)]);
    let frames = futures::stream::iter(["ch", "ar", "ge"])
        .map(|part| Ok::<_, std::io::Error>(http_body::Frame::data(part.into())));
    let body = Body::stream(http_body_util::StreamBody::new(frames));
    let response = http1(over([server.address()]))
        .put("/charges/7")
        .body(body)
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(bodies(&server.seen()), [b"charge", b"charge"]);
}
