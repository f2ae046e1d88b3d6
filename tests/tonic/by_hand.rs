//! Layers by hand around a channel of tonic's own.

use super::*;

#[tokio::test]
async fn layers_by_hand_around_a_channel_of_tonics_own() {
    let (nobody, server) = (Refusing::new(), EchoServer::start([]));
    let classifier = Classifier::default().evidence(evenkeel::tonic::evidence);
    let build = |address: SocketAddr| {
        let uri = format!("http://{address}");
        let endpoint = tonic::transport::Endpoint::from_shared(uri).expect("a URI");
        let retry = Retry::default()
            .classifier(classifier.clone())
            .build()
            .expect("valid");
        let service = ServiceBuilder::new()
            .map_err(Status::from)
            .layer(DeadlineLayer::new(Duration::from_secs(3)).expect("valid"))
            .layer(RetryLayer::new(retry))
            .service(endpoint.connect_lazy());
        EchoClient::new(service)
    };
    let reply = build(server.address())
        .unary(message("x"))
        .await
        .expect("an answer");
    assert_eq!(reply.into_inner().text, "x");
    let parts = ["a", "b"].map(message);
    let reply = build(server.address())
        .collect(stream::iter(parts))
        .await
        .expect("an answer");
    assert_eq!(reply.into_inner().text, "ab");

    let status = build(nobody.address())
        .unary(message("x"))
        .await
        .expect_err("nobody there");
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    assert_eq!(ours(&status).report().attempts().len(), 3, "{status}");
    assert_eq!(ours(&status).disposition(), Disposition::NotSent);
}

#[tokio::test]
async fn by_hand_a_repeated_request_is_sent_as_tonic_sends_the_first() {
    let server = Server::start([Reply::grpc_status(14)]);
    server.otherwise(Reply::grpc_message(b"").trailers([("grpc-status", "0")]));
    let uri = format!("http://{}", server.address());
    let endpoint = tonic::transport::Endpoint::from_shared(uri).expect("a URI");
    let retry = Retry::default().classifier(Classifier::grpc());
    let service = ServiceBuilder::new()
        .map_err(Status::from)
        .layer(RetryLayer::new(retry.build().expect("valid")))
        .service(endpoint.connect_lazy());
    let mut request = Request::new(message("x"));
    let idempotent = CallPolicy::new().idempotent(true);
    request.extensions_mut().insert(idempotent);
    EchoClient::new(service)
        .unary(request)
        .await
        .expect("an answer");
    let [first, second] = &*server.seen() else {
        panic!("two attempts");
    };
    assert_eq!(first.body, second.body);
    for name in first.headers.keys().chain(second.headers.keys()) {
        let counts = name == "grpc-previous-rpc-attempts";
        assert!(
            counts || first.headers.get(name) == second.headers.get(name),
            "{name}"
        );
    }
}
