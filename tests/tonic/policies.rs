//! Policies and keys.

use super::*;

#[tokio::test]
async fn a_key_is_metadata_and_the_same_on_every_attempt() {
    let (breaks, server) = (Server::settings().start(), EchoServer::start([]));
    breaks.otherwise(Reply::reset());
    let channel = builder([breaks.address(), server.address()])
        .ejection(Ejection::off())
        .no_circuit_breaker()
        .idempotency_keys(IdempotencyKeys::default())
        .method(REPEAT, CallPolicy::new().safe(true))
        .build_tonic(Ok)
        .expect("valid");
    let mut echo = EchoClient::new(channel);
    for _ in 0..8 {
        echo.unary(message("x"))
            .await
            .expect("retried, since it is keyed");
    }
    let keys = |metadata: &http::HeaderMap| metadata["idempotency-key"].clone();
    let tried: Vec<_> = breaks
        .seen()
        .iter()
        .map(|seen| keys(&seen.headers))
        .collect();
    let answered: Vec<_> = server
        .seen()
        .iter()
        .map(|seen| keys(&seen.metadata))
        .collect();
    assert!(!tried.is_empty() && tried.iter().all(|key| answered.contains(key)));

    echo.repeat(message("x")).await.expect("a stream");
    let seen = server.seen().pop().expect("a call");
    assert_eq!(seen.method, "Repeat");
    assert!(
        !seen.metadata.contains_key("idempotency-key"),
        "it only reads"
    );
}

#[tokio::test]
async fn what_a_call_says_goes_before_what_its_method_says() {
    let silent = Silent::new();
    let channel = builder([silent.address()])
        .method(UNARY, CallPolicy::new().deadline(millis(200)))
        .build_tonic(Ok)
        .expect("valid");
    let mut echo = EchoClient::new(channel);
    for (own, limit) in [(None, 200), (Some(millis(500)), 500)] {
        let mut request = Request::new(message("x"));
        if let Some(own) = own {
            request
                .extensions_mut()
                .insert(CallPolicy::new().deadline(own));
        }
        let started = Instant::now();
        let status = echo.unary(request).await.expect_err("silence");
        assert_eq!(status.code(), Code::DeadlineExceeded);
        let took = started.elapsed();
        assert!(
            took >= millis(limit) && took < millis(limit + 250),
            "{took:?}"
        );
    }
}
