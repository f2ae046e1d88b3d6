//! The timeout layers around reqwest over real sockets.
#![cfg(feature = "reqwest")]

mod support;

use std::{
    error::Error as StdError,
    io,
    time::{Duration, Instant},
};

use evenkeel::{
    AttemptTimeoutLayer, Body, Deadline, DeadlineLayer, Disposition, Error, ErrorKind,
    reqwest::HttpService,
};
use http::Request;
use http_body_util::BodyExt;
use support::{mock::millis, nowhere::BlackHole, reply::Reply, server::Server, tls::client};
use tower::{Layer, ServiceExt};

fn get(url: String) -> Request<Body> {
    Request::get(url).body(Body::empty()).expect("a URL")
}

fn reqwest() -> HttpService {
    HttpService::new(client().build().expect("a client"))
}

fn assert_about(took: Duration, expected: Duration) {
    assert!(
        took >= expected && took < expected + millis(400),
        "{took:?} for {expected:?}"
    );
}

// TMO-09 (grpc/grpc-rust#1619)
#[cfg(target_os = "linux")]
#[tokio::test]
async fn connecting_is_inside_every_limit() {
    let hole = BlackHole::new();
    let url = || format!("http://{}/", hole.address());

    let start = Instant::now();
    let service = DeadlineLayer::new(millis(300))
        .expect("above zero")
        .layer(reqwest());
    let error = service.oneshot(get(url())).await.map(drop).unwrap_err();
    assert_about(start.elapsed(), millis(300));
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);

    let start = Instant::now();
    let service = AttemptTimeoutLayer::new(millis(200))
        .expect("above zero")
        .layer(reqwest());
    let error = service.oneshot(get(url())).await.map(drop).unwrap_err();
    assert_about(start.elapsed(), millis(200));
    assert_eq!(error.kind(), ErrorKind::AttemptTimeout);

    // A connect timeout of the client's own ends it sooner, as a failure that was certainly not sent.
    let start = Instant::now();
    let hasty = client()
        .connect_timeout(millis(100))
        .build()
        .expect("a client");
    let service = DeadlineLayer::new(millis(900))
        .expect("above zero")
        .layer(HttpService::new(hasty));
    let error = service.oneshot(get(url())).await.map(drop).unwrap_err();
    assert_about(start.elapsed(), millis(100));
    assert_eq!(
        (error.kind(), error.disposition()),
        (ErrorKind::Upstream, Disposition::NotSent)
    );
}

// TMO-01 (browserbase/sdk-node#206, haskell/wreq#141, seanmonstar/reqwest#1380)
#[tokio::test]
async fn a_body_that_falls_silent_ends_at_the_deadline_and_its_connection_is_closed() {
    let server = Server::start([Reply::status(200).body("x").stall()]);
    let start = Instant::now();
    let service = DeadlineLayer::new(millis(300))
        .expect("above zero")
        .layer(reqwest());
    let response = service.oneshot(get(server.url())).await.expect("a head");
    let mut body = response.into_body();
    assert!(body.frame().await.expect("one byte").is_ok());
    let error = body.frame().await.expect("an error").unwrap_err();
    assert_about(start.elapsed(), millis(300));
    let error = error.downcast::<Error>().expect("an error of this crate");
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
    let source = error
        .source()
        .and_then(|source| source.downcast_ref::<io::Error>());
    assert_eq!(source.map(io::Error::kind), Some(io::ErrorKind::TimedOut));
    drop(body);
    let closed = async {
        while server.open_connections() > 0 {
            tokio::time::sleep(millis(5)).await;
        }
    };
    Deadline::from_now(Duration::from_secs(5))
        .run(closed)
        .await
        .expect("the connection is closed");
}

#[tokio::test]
async fn a_long_download_outlives_its_idle_limit_as_long_as_data_comes() {
    let reply = (0..4).fold(Reply::status(200), |reply, _| {
        reply.pause(millis(120)).body("part")
    });
    let server = Server::start([reply, Reply::status(200).body("part").stall()]);
    let layer = DeadlineLayer::new(Duration::MAX).and_then(|layer| layer.body_idle(millis(300)));
    let service = layer.expect("above zero").layer(reqwest());
    let whole = service
        .clone()
        .oneshot(get(server.url()))
        .await
        .expect("a head")
        .into_body();
    assert_eq!(
        whole.collect().await.expect("a body").to_bytes(),
        "part".repeat(4)
    );
    let silent = service
        .oneshot(get(server.url()))
        .await
        .expect("a head")
        .into_body();
    let error = silent.collect().await.map(drop).unwrap_err();
    let error = error.downcast::<Error>().expect("an error of this crate");
    assert_eq!(error.kind(), ErrorKind::BodyIdle);
}
