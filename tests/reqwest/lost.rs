//! Connections that are refused, reset or closed.

use super::*;

#[tokio::test]
async fn a_refused_connection_is_tried_elsewhere_whatever_the_method() {
    let (refusing, server) = (Refusing::new(), Server::start([]));
    let client = http1(over([refusing.address(), server.address()]));
    for _ in 0..20 {
        assert_eq!(
            client
                .post("/charges")
                .body("charge")
                .send()
                .await
                .unwrap()
                .status(),
            200
        );
    }
    assert_eq!(server.seen().len(), 20, "each charge once");
}

#[tokio::test]
async fn when_every_endpoint_refuses_nothing_can_have_happened() {
    let refusing = [Refusing::new(), Refusing::new()];
    let client = http1(over(refusing.iter().map(Refusing::address)));
    let error = client
        .post("/charges?token=hidden")
        .body("hidden")
        .send()
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.disposition()),
        (ErrorKind::Upstream, Disposition::NotSent)
    );
    assert!(!error.may_have_happened());
    assert_eq!(error.report().attempts().len(), 3, "{error}");
    assert!(
        !format!("{error} {error:?}").contains("hidden"),
        "{error:?}"
    );
}

// RTY-02, oven-sh/bun#28708, nahi/httpclient#142
#[tokio::test]
async fn a_post_that_a_reused_connection_lost_is_not_sent_again() {
    for lost in [Reply::close(), Reply::reset()] {
        let server = Server::start([Reply::ok("first"), lost]);
        let client = http1(over([server.address()]));
        client
            .post("/charges")
            .body("one")
            .send()
            .await
            .unwrap()
            .bytes()
            .await
            .unwrap();
        let error = client
            .post("/charges")
            .body("two")
            .send()
            .await
            .unwrap_err();
        assert!(error.may_have_happened(), "{error}");
        let seen = server.seen();
        assert_eq!(bodies(&seen), [b"one", b"two"]);
        assert_eq!(
            seen[0].connection, seen[1].connection,
            "the connection was reused"
        );
    }
}

#[tokio::test]
async fn what_may_be_repeated_is_repeated_after_a_reset() {
    let server = Server::start([Reply::reset()]);
    let response = http1(over([server.address()]))
        .put("/charges/7")
        .body("charge")
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 200);
    // RTY-04, XAMPPRocky/octocrab#835: the second attempt has the whole body.
    assert_eq!(bodies(&server.seen()), [b"charge", b"charge"]);
    assert!(
        report(&response).may_have_happened()
            || report(&response).disposition() == Disposition::Answered
    );
}

#[tokio::test]
async fn a_key_makes_a_lost_post_repeatable_under_the_same_key() {
    let server = Server::start([Reply::reset(), Reply::ok(""), Reply::close()]);
    let client = http1(over([server.address()]).idempotency_keys(IdempotencyKeys::default()));
    client.post("/charges").body("one").send().await.unwrap();
    let named = CallPolicy::new().idempotency_key("order-42");
    client
        .post("/charges")
        .body("two")
        .policy(named)
        .send()
        .await
        .unwrap();
    let seen = server.seen();
    assert_eq!(bodies(&seen), [b"one", b"one", b"two", b"two"]);
    let keys = keys(&seen);
    assert!(keys[0].is_some() && keys[0] == keys[1], "{keys:?}");
    assert_eq!(keys[2..], [Some("order-42"); 2]);
}

// RTY-03, JuliaWeb/HTTP.jl#1294, nodejs/undici#5598
#[tokio::test]
async fn a_stream_that_was_refused_is_sent_again_whatever_the_method() {
    let server = Server::start([Reply::refuse_stream(), Reply::refuse_stream()]);
    let response = http2(over([server.address()]))
        .post("/charges")
        .body("charge")
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(bodies(&server.seen()), [b"charge"; 3]);
}
