//! Policies of methods, keys and metadata.

use std::time::Duration;

use bytes::Bytes;
use evenkeel::{BoxError, Breaker, CallPolicy, Channel, IdempotencyKeys, InvalidSetting, Retry};
use http::HeaderName;
use tonic::{
    Code, Request, Status, metadata::MetadataValue, service::interceptor::InterceptedService,
};
use tower::{
    Service, ServiceBuilder,
    util::{BoxCloneService, BoxCloneSyncService},
};

use crate::{
    SERVICE, UNARY, builder, channel, client,
    echo::{Message, echo_client::EchoClient},
    good, message, ours,
    service::Told,
    support::{reply::Reply, server::Server},
    told,
};

/// A server that is unavailable for its first two calls.
fn unavailable_twice() -> Server {
    let server = Server::start([Reply::grpc_status(14), Reply::grpc_status(14)]);
    server.otherwise(good());
    server
}

#[tokio::test]
async fn the_policy_of_a_method_holds_under_an_origin_with_a_path() {
    for name in [UNARY, SERVICE] {
        let server = unavailable_twice();
        let channel = builder([server.address()]).method(name, CallPolicy::new().idempotent(true));
        let origin = "http://gateway.internal/grpc/v1".parse().unwrap();
        let mut echo = EchoClient::with_origin(channel.build_tonic(Ok).unwrap(), origin);
        echo.unary(message("x")).await.unwrap();
        let seen = server.seen();
        assert_eq!(seen.len(), 3);
        for attempt in seen {
            assert_eq!(attempt.path, format!("/grpc/v1/{UNARY}"));
            assert_eq!(attempt.authority.as_deref(), Some("echo.internal"));
        }
    }
}

#[tokio::test]
async fn the_call_goes_before_its_method_the_method_before_its_service_and_silence_before_none() {
    let yes = || CallPolicy::new().idempotent(true);
    let no = || CallPolicy::new().idempotent(false);
    let cases = [
        (None, None, None, 1),
        (None, None, Some(yes()), 3),
        (None, Some(no()), Some(yes()), 1),
        (None, Some(yes()), Some(no()), 3),
        (None, Some(CallPolicy::new()), Some(yes()), 3),
        (Some(no()), Some(yes()), Some(yes()), 1),
        (Some(yes()), Some(no()), None, 3),
        (Some(CallPolicy::new().no_retry()), Some(yes()), None, 1),
        (Some(CallPolicy::new()), Some(yes()), None, 3),
    ];
    for (call, method, service, attempts) in cases {
        let said = format!("{call:?} {method:?} {service:?}");
        let server = unavailable_twice();
        let mut builder = builder([server.address()]);
        for (name, policy) in [(UNARY, method), (SERVICE, service)] {
            if let Some(policy) = policy {
                builder = builder.method(name, policy);
            }
        }
        let mut request = Request::new(message("x"));
        if let Some(call) = call {
            request.extensions_mut().insert(call);
        }
        let mut echo = EchoClient::new(builder.build_tonic(Ok).unwrap());
        let answer = echo.unary(request).await;
        assert_eq!(answer.is_ok(), attempts == 3, "{said}");
        assert_eq!(server.seen().len(), attempts, "{said}");
    }
}

/// An interceptor that refuses some calls and says of the others that they may be repeated.
fn decide(mut request: Request<()>) -> Result<Request<()>, Status> {
    if request.metadata().contains_key("x-refuse") {
        return Err(Status::permission_denied("not today"));
    }
    let policy = CallPolicy::new().idempotent(true);
    request.extensions_mut().insert(policy);
    Ok(request)
}

#[tokio::test]
async fn an_interceptor_may_set_the_policy_of_a_call_and_refuse_it() {
    type Intercepted = InterceptedService<Channel, fn(Request<()>) -> Result<Request<()>, Status>>;
    let server = unavailable_twice();
    let channel = channel([server.address()]);
    let mut echo: EchoClient<Intercepted> =
        EchoClient::with_interceptor(channel.clone(), decide as _);
    let status = echo.unary(told("x-refuse", "1")).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    assert!(server.seen().is_empty());
    let call = async move { echo.unary(message("x")).await };
    assert!(tokio::spawn(call).await.unwrap().is_ok());
    assert_eq!(server.seen().len(), 3);
    assert_eq!(channel.endpoints()[0].in_flight, 0);
}

/// A call through this service and one more, once the breaker of the channel is open.
async fn through<S, B>(service: S, breaker: &Breaker)
where
    S: Service<http::Request<tonic::body::Body>, Response = http::Response<B>> + Clone,
    S::Error: Into<BoxError>,
    B: http_body::Body<Data = Bytes, Error: Into<BoxError> + Send> + Send + 'static,
{
    breaker.force_closed();
    let mut echo = EchoClient::new(service);
    echo.unary(message("x")).await.unwrap();
    breaker.force_open();
    let status = echo.unary(message("x")).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    assert!(status.to_string().contains("circuit breaker is open"));
}

#[tokio::test]
async fn layers_of_others_around_the_channel_keep_its_answers_and_its_errors() {
    let server = Server::start([]);
    server.otherwise(good());
    let channel = channel([server.address()]);
    let breaker = channel.circuit_breaker().clone();
    let limit = Duration::from_secs(5);
    let layers = ServiceBuilder::new().concurrency_limit(3).timeout(limit);
    through(layers.service(channel.clone()), &breaker).await;
    let layers = ServiceBuilder::new().buffer(3).load_shed();
    through(layers.service(channel.clone()), &breaker).await;
    through(BoxCloneService::new(channel.clone()), &breaker).await;
    through(BoxCloneSyncService::new(channel), &breaker).await;
}

#[tokio::test]
async fn a_method_that_the_server_does_not_know_is_unimplemented_and_no_failure() {
    let server = Told::start();
    let channel = builder([server.address()]).build_tonic(Ok).unwrap();
    let mut grpc = tonic::client::Grpc::new(channel.clone());
    grpc.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<Message, Message>::default();
    let path = http::uri::PathAndQuery::from_static("/no.such.Service/Method");
    let answer = grpc.unary(Request::new(message("x")), path, codec).await;
    assert_eq!(answer.unwrap_err().code(), Code::Unimplemented);
    assert_eq!(channel.endpoints()[0].penalty, 1.0);
}

#[tokio::test]
async fn metadata_of_both_kinds_goes_both_ways_and_on_every_attempt() {
    let server = Told::start();
    let mut request = told("x-back", "once");
    let metadata = request.metadata_mut();
    metadata.append("x-back", "twice".parse().unwrap());
    metadata.insert_bin("x-back-bin", MetadataValue::from_bytes(&[0, 255, 10, 13]));
    let reply = client([server.address()]).unary(request).await.unwrap();
    let back: Vec<_> = reply.metadata().get_all("x-back").iter().collect();
    assert_eq!(back, ["once", "twice"]);
    let bytes = reply.metadata().get_bin("x-back-bin").unwrap().to_bytes();
    assert_eq!(bytes.unwrap().as_ref(), [0, 255, 10, 13]);

    let server = unavailable_twice();
    let channel = builder([server.address()]).method(UNARY, CallPolicy::new().safe(true));
    let mut echo = EchoClient::new(channel.build_tonic(Ok).unwrap());
    echo.unary(told("x-tenant", "blue")).await.unwrap();
    assert_eq!(server.seen().len(), 3);
    for attempt in server.seen() {
        assert_eq!(attempt.headers["x-tenant"], "blue");
        assert_eq!(attempt.headers.get_all("te").iter().count(), 1);
        assert_eq!(attempt.headers.get_all("user-agent").iter().count(), 1);
    }
}

fn keyed(header: &str) -> Result<Channel, InvalidSetting> {
    builder(["127.0.0.1:1".parse().unwrap()])
        .idempotency_keys(IdempotencyKeys::default().header(header))
        .build_tonic(Ok)
}

#[test]
fn a_key_under_a_name_that_is_grpcs_own_or_of_bytes_is_refused_when_the_channel_is_built() {
    for name in [
        "content-type",
        "TE",
        "user-agent",
        "grpc-timeout",
        "grpc-key",
        "Idempotency-Key-Bin",
    ] {
        let refused = keyed(name).map(drop).unwrap_err();
        assert_eq!(refused.field(), "IdempotencyKeys::header");
        assert_eq!(refused.value(), name);
        let callers = Retry::default().key_header(HeaderName::try_from(name).unwrap());
        let channel = builder(["127.0.0.1:1".parse().unwrap()]).retry(callers);
        let refused = channel.build_tonic(Ok).map(drop).unwrap_err();
        assert_eq!(refused.field(), "Retry::key_header", "{name}");
    }
    assert!(keyed("x-request-token").is_ok());
}

#[tokio::test]
async fn a_key_that_metadata_cannot_hold_is_refused_before_anything_is_sent() {
    let server = Server::start([]);
    server.otherwise(good());
    let mut echo = client([server.address()]);
    let long = "k".repeat(256);
    for key in [
        "",
        "my\nsecret",
        "cl\u{e9}",
        "my\0secret",
        " my secret",
        "my\tsecret",
        &long,
    ] {
        let mut request = Request::new(message("x"));
        request
            .extensions_mut()
            .insert(CallPolicy::new().idempotency_key(key));
        let status = echo.unary(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{key:?}: {status}");
        assert!(!ours(&status).may_have_happened());
        assert!(
            key.is_empty() || !status.to_string().contains(key),
            "{status}"
        );
    }
    assert!(server.seen().is_empty());
}

// IDK-02, IDK-04
#[tokio::test]
async fn a_callers_key_in_metadata_is_sent_as_it_is_and_counts_only_where_callers_are_trusted() {
    for (trusted, attempts) in [(true, 3), (false, 1)] {
        let server = unavailable_twice();
        let channel =
            builder([server.address()]).retry(Retry::default().trust_caller_keys(trusted));
        let mut echo = EchoClient::new(channel.build_tonic(Ok).unwrap());
        let answer = echo.unary(told("idempotency-key", "mykey123")).await;
        assert_eq!(answer.is_ok(), trusted);
        let keys: Vec<_> = server
            .seen()
            .iter()
            .map(|seen| seen.headers["idempotency-key"].clone())
            .collect();
        assert_eq!(keys, vec!["mykey123"; attempts]);
    }
}
