//! Connections and calls that hang.

use super::*;

// TMO-09, grpc/grpc-rust#1619
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_connection_that_never_comes_about_fails_within_its_limit_and_was_not_sent() {
    let hole = BlackHole::new();
    let client = http1(
        over([hole.address()])
            .connect_timeout(SHORT)
            .retry(quick_retry().max_attempts(1)),
    );
    let start = Instant::now();
    let error = client
        .post("/charges")
        .body("charge")
        .send()
        .await
        .unwrap_err();
    assert!(
        (SHORT..LATE).contains(&start.elapsed()),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(error.disposition(), Disposition::NotSent, "{error}");

    let server = Server::start([]);
    let client = http1(over([hole.address(), server.address()]).connect_timeout(SHORT));
    for _ in 0..5 {
        client.post("/charges").body("charge").send().await.unwrap();
    }
    assert_eq!(server.seen().len(), 5);
}

// TMO-09, grpc/grpc-rust#1619: without a connect timeout the deadline covers connecting.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn without_a_connect_timeout_the_deadline_ends_connecting() {
    let hole = BlackHole::new();
    let client = Client::wrap_reqwest(client().build().unwrap())
        .deadline(SHORT * 3)
        .build()
        .unwrap();
    let start = Instant::now();
    let error = client
        .get(format!("http://{}/", hole.address()))
        .send()
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded, "{error}");
    assert!(
        (SHORT * 3..LATE).contains(&start.elapsed()),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test]
async fn an_endpoint_that_accepts_and_is_silent_is_left_for_another() {
    let (silent, server) = (Silent::new(), Server::start([]));
    let client = http1(over([silent.address(), server.address()]).attempt_timeout(SHORT * 3));
    for _ in 0..5 {
        assert_eq!(client.get("/").send().await.unwrap().status(), 200);
    }
    assert_eq!(server.seen().len(), 5);
}

#[tokio::test]
async fn a_hanging_post_is_an_error_that_says_it_may_have_happened() {
    let server = Server::start([Reply::hang()]);
    let client = http1(over([server.address()]).attempt_timeout(SHORT * 3));
    let error = client
        .post("/charges")
        .body("charge")
        .send()
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.disposition()),
        (ErrorKind::AttemptTimeout, Disposition::Unknown),
        "{error}"
    );
    assert!(error.is_timeout());
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn the_deadline_ends_a_call_that_hangs() {
    let server = Server::start([Reply::hang(), Reply::hang(), Reply::hang()]);
    let client = http1(over([server.address()]));
    let start = Instant::now();
    let short = CallPolicy::new().deadline(SHORT * 3);
    let error = client.get("/").policy(short).send().await.unwrap_err();
    assert!(
        matches!(
            error.kind(),
            ErrorKind::DeadlineExceeded | ErrorKind::AttemptTimeout
        ),
        "{error}"
    );
    assert!(
        (SHORT..LATE).contains(&start.elapsed()),
        "{:?}",
        start.elapsed()
    );
    assert!(error.may_have_happened());
}

#[tokio::test]
async fn a_dropped_call_closes_its_connection() {
    let server = Server::start([Reply::hang()]);
    let client = http1(over([server.address()]));
    let calling = tokio::spawn(client.get("/").send());
    server.received(1).await;
    calling.abort();
    let start = Instant::now();
    while server.open_connections() > 0 {
        assert!(start.elapsed() < LONG);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(client.get("/").send().await.unwrap().status(), 200);
}
