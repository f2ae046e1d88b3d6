//! CLS: whose fault an outcome is.

use std::{error::Error as StdError, io, time::Duration};

use bytes::Bytes;
use evenkeel::{
    Body, BoxError, Breaker, CircuitBreakerLayer, Disposition, ErrorKind, Retry, RetryLayer,
    breaker::State, call::Stop, retry,
};
use futures::stream;
use http::{Method, Request};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody, combinators::UnsyncBoxBody};
use tower::{Layer, ServiceBuilder, ServiceExt};

use crate::support::{
    mock::{self, Mock, Readiness},
    script::{Act, Script, statuses},
};

fn on_first_failure() -> Breaker {
    Breaker::builder().consecutive_failures(1).build().unwrap()
}

/// An error of the user's own around whatever comes from below.
#[derive(Debug, thiserror::Error)]
#[error("the payment client failed")]
struct Wrapped(#[source] BoxError);

fn request(method: Method) -> Request<Body> {
    Request::builder()
        .method(method)
        .uri("/charges")
        .body(Body::from("x"))
        .unwrap()
}

/// connor4312/cockatiel#107: an open circuit is not tried again, whoever wraps its error on the way up.
#[tokio::test(start_paused = true)]
async fn an_open_circuit_below_a_layer_that_wraps_errors_is_not_retried() {
    let breaker = on_first_failure();
    breaker.force_open();
    let script = statuses([200]);
    let service = ServiceBuilder::new()
        .layer(RetryLayer::new(Retry::default().build().unwrap()))
        .map_err(|error: evenkeel::Error| Wrapped(error.into()))
        .layer(CircuitBreakerLayer::new(breaker.clone()))
        .service(script.clone());
    let error = service.oneshot(request(Method::GET)).await.unwrap_err();
    assert_eq!(breaker.snapshot().rejected, 1, "{error}");
    assert_eq!(error.report().stop(), Some(Stop::CircuitOpen));
    assert!(!error.may_have_happened(), "{error}");
    assert!(
        error.source().unwrap().downcast_ref::<Wrapped>().is_some(),
        "{error:?}"
    );
}

/// nodeshift/opossum#45: the rejection of one breaker is no failure to another, wrapped or not.
#[tokio::test(start_paused = true)]
async fn a_wrapped_rejection_does_not_open_the_circuit_above() {
    let (above, below) = (on_first_failure(), on_first_failure());
    below.force_open();
    let service = ServiceBuilder::new()
        .layer(CircuitBreakerLayer::new(above.clone()))
        .map_err(|error: evenkeel::Error| io::Error::other(Wrapped(error.into())))
        .layer(CircuitBreakerLayer::new(below))
        .service(statuses([200]));
    let error = service.oneshot(request(Method::GET)).await.unwrap_err();
    assert_eq!(above.state(), State::Closed);
    assert!(
        matches!(error.kind(), ErrorKind::CircuitOpen { .. }),
        "{error}"
    );
    assert!(
        error.to_string().contains("circuit breaker is open"),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_wrapped_attempt_timeout_is_a_timeout_still() {
    use evenkeel::AttemptTimeoutLayer;
    let breaker = on_first_failure();
    let service = ServiceBuilder::new()
        .layer(CircuitBreakerLayer::new(breaker.clone()))
        .map_err(|error: evenkeel::Error| Wrapped(error.into()))
        .layer(AttemptTimeoutLayer::new(Duration::from_secs(1)).unwrap())
        .service(Script::by(|_| Act::hang()));
    let error = service.oneshot(request(Method::GET)).await.unwrap_err();
    assert!(error.is_timeout() && error.may_have_happened(), "{error}");
    assert_eq!(breaker.state(), State::Open);
}

/// connor4312/cockatiel#107, for parts used alone: the circuit is asked once and says no.
#[tokio::test(start_paused = true)]
async fn an_operation_under_an_open_breaker_is_not_repeated() {
    let breaker = on_first_failure();
    breaker.force_open();
    let policy = Retry::default().build().unwrap();
    let error = retry::run(&policy, |_| breaker.run(async { Ok::<_, io::Error>(()) }))
        .await
        .unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::CircuitOpen { .. }));
    assert_eq!(breaker.snapshot().rejected, 1);
    let boxed = retry::run(&policy, |_| async {
        breaker.try_acquire().map(drop).map_err(BoxError::from)
    });
    boxed.await.unwrap_err();
    assert_eq!(breaker.snapshot().rejected, 2);
}

/// An operation whose deadline had passed before it began has no time for another try.
#[tokio::test(start_paused = true)]
async fn an_operation_whose_deadline_passed_is_not_repeated() {
    let start = tokio::time::Instant::now();
    let policy = Retry::default().build().unwrap();
    let deadline = evenkeel::Deadline::from_now(Duration::from_secs(1));
    let mut begun = 0;
    let error = retry::run(&policy, |_| {
        begun += 1;
        deadline.run(std::future::pending::<()>())
    })
    .await
    .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
    // It may have been the attempt's own deadline: one wait, and then it says that nothing was begun.
    assert_eq!(begun, 2, "{error}");
    assert!(
        start.elapsed() <= Duration::from_millis(1_050),
        "{:?}",
        start.elapsed()
    );
}

/// A deadline of each attempt's own is what `Deadline::run` inside the operation is for.
#[tokio::test(start_paused = true)]
async fn an_operation_may_give_every_attempt_a_deadline_of_its_own() {
    let policy = Retry::default().build().unwrap();
    let limit = Duration::from_millis(100);
    let answer = retry::run(&policy, |attempt| {
        let lasts = Duration::from_millis(250) / (attempt + 1);
        evenkeel::Deadline::from_now(limit).run(tokio::time::sleep(lasts))
    });
    answer.await.unwrap();
}

/// nperez0111/bookhive#196: what a load shedder of this process turns away says nothing about the server.
#[tokio::test(start_paused = true)]
async fn a_call_shed_on_this_side_is_unsent_and_blames_nobody() {
    let breaker = on_first_failure();
    let mock = Mock::new([]).readiness(Readiness::Never);
    let service = ServiceBuilder::new()
        .layer(RetryLayer::new(Retry::default().build().unwrap()))
        .layer(CircuitBreakerLayer::new(breaker.clone()))
        .load_shed()
        .service(mock.clone());
    let error = service.oneshot(request(Method::POST)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Overloaded, "{error}");
    assert_eq!(error.disposition(), Disposition::NotSent);
    assert_eq!(
        error.report().attempts().len(),
        1,
        "not tried again: {error}"
    );
    assert_eq!(breaker.state(), State::Closed);
}

fn broken_upload() -> StreamBody<impl futures::Stream<Item = io::Result<Frame<Bytes>>> + Send> {
    StreamBody::new(stream::iter([
        Ok(Frame::data(Bytes::from("ab"))),
        Err(io::Error::from(io::ErrorKind::ConnectionReset)),
    ]))
}

/// A transport that says what went wrong while it sent the request body.
fn transport()
-> impl tower::Service<Request<Body>, Response = http::Response<String>, Error = Wrapped, Future: Send>
+ Clone
+ Send
+ Sync
+ 'static {
    tower::service_fn(|request: Request<Body>| async move {
        match request.into_body().collect().await {
            Ok(_) => Ok(http::Response::new(String::new())),
            Err(error) => Err(Wrapped(error)),
        }
    })
}

/// getsentry/relay#6149: an upload that breaks on this side is not the server's fault, and is not sent again.
#[tokio::test(start_paused = true)]
async fn an_upload_that_fails_on_this_side_blames_nobody() {
    let breaker = on_first_failure();
    let service = ServiceBuilder::new()
        .layer(RetryLayer::new(Retry::default().build().unwrap()))
        .layer(CircuitBreakerLayer::new(breaker.clone()))
        .service(transport());
    let call = Request::put("/upload")
        .body(Body::stream(broken_upload()))
        .unwrap();
    let error = service.oneshot(call).await.unwrap_err();
    assert_eq!(breaker.state(), State::Closed, "{error}");
    assert_eq!(breaker.snapshot().neutral, 1);
    assert_eq!(error.report().attempts().len(), 1);
    assert!(error.may_have_happened(), "a part of it was sent: {error}");
    assert!(error.to_string().contains("request body"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_probe_whose_upload_fails_on_this_side_gives_its_slot_back() {
    let breaker = Breaker::builder()
        .consecutive_failures(1)
        .break_duration(Duration::from_secs(1))
        .build()
        .unwrap();
    breaker.try_acquire().unwrap().failure();
    tokio::time::advance(Duration::from_secs(1)).await;
    let service = CircuitBreakerLayer::new(breaker.clone()).layer(transport());
    let call = Request::put("/upload")
        .body(Body::stream(broken_upload()))
        .unwrap();
    service.clone().oneshot(call).await.unwrap_err();
    assert_eq!(breaker.state(), State::HalfOpen);
    service.oneshot(request(Method::PUT)).await.unwrap();
    assert_eq!(breaker.state(), State::Closed);
}

/// The same of a body that only retry looks at, which wraps nothing.
#[tokio::test(start_paused = true)]
async fn a_foreign_upload_that_fails_is_not_sent_again() {
    let script = statuses([200]);
    let service = RetryLayer::new(Retry::default().build().unwrap()).layer(script.clone());
    let body: UnsyncBoxBody<Bytes, io::Error> = broken_upload().boxed_unsync();
    let error = service
        .oneshot(Request::put("/").body(body).unwrap())
        .await
        .unwrap_err();
    assert_eq!(error.report().stop(), Some(Stop::BodyNotReplayable));
    assert_eq!(script.seen().len(), 1);
}

/// Whatever a service says when it is not ready, nothing was sent to it.
#[tokio::test(start_paused = true)]
async fn an_error_of_readiness_is_unsent_whatever_its_kind() {
    for kind in [
        io::ErrorKind::ConnectionReset,
        io::ErrorKind::TimedOut,
        io::ErrorKind::BrokenPipe,
        io::ErrorKind::Other,
        io::ErrorKind::ConnectionRefused,
    ] {
        let mock = Mock::new([]).readiness(Readiness::Fail(kind));
        let retry = Retry::default().max_attempts(2).build().unwrap();
        let service = ServiceBuilder::new()
            .layer(RetryLayer::new(retry))
            .layer(CircuitBreakerLayer::new(
                Breaker::count(9, Duration::from_secs(9)).unwrap(),
            ))
            .service(mock);
        let error = service.oneshot(request(Method::POST)).await.unwrap_err();
        assert_eq!(
            error.disposition(),
            Disposition::NotSent,
            "{kind:?}: {error}"
        );
        assert_eq!(error.report().attempts().len(), 2, "{kind:?}: {error}");
    }
}

/// A service that is not ready once is asked again for the next attempt.
#[tokio::test(start_paused = true)]
async fn a_service_that_fails_to_be_ready_once_is_tried_again() {
    #[derive(Clone)]
    struct Once(std::sync::Arc<std::sync::atomic::AtomicBool>, Script);
    impl tower::Service<Request<Body>> for Once {
        type Response = <Script as tower::Service<Request<Body>>>::Response;
        type Error = io::Error;
        type Future = <Script as tower::Service<Request<Body>>>::Future;
        fn poll_ready(
            &mut self,
            cx: &mut std::task::Context<'_>,
        ) -> std::task::Poll<io::Result<()>> {
            if !self.0.swap(true, std::sync::atomic::Ordering::SeqCst) {
                return std::task::Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
            }
            tower::Service::<Request<Body>>::poll_ready(&mut self.1, cx)
        }
        fn call(&mut self, request: Request<Body>) -> Self::Future {
            self.1.call(request)
        }
    }
    let script = statuses([200]);
    let once = Once(std::sync::Arc::default(), script.clone());
    let service = RetryLayer::new(Retry::default().build().unwrap()).layer(once);
    let answer = service.oneshot(request(Method::POST)).await.unwrap();
    assert_eq!((answer.status().as_u16(), script.seen().len()), (200, 1));
}

#[tokio::test(start_paused = true)]
async fn the_body_of_a_response_that_breaks_off_is_told_with_its_source() {
    let breaker = on_first_failure();
    let mock = Mock::new([Act::ok().body([
        mock::Step::data("x"),
        mock::Step::fail(io::ErrorKind::ConnectionReset),
    ])]);
    let service = CircuitBreakerLayer::new(breaker.clone()).layer(mock);
    let answer = service.oneshot(Request::new(String::new())).await.unwrap();
    let error = answer.into_body().collect().await.unwrap_err();
    assert_eq!(
        error.downcast_ref::<io::Error>().unwrap().kind(),
        io::ErrorKind::ConnectionReset
    );
    assert_eq!(breaker.state(), State::Open);
}

/// getsentry/relay#6149, over sockets: the transport's own error hides the cause deep below.
#[tokio::test]
async fn an_upload_that_fails_blames_nobody_through_a_real_client() {
    use crate::support::{reply::Reply, server::Server, tls::client};
    use evenkeel::reqwest::HttpService;
    let server = Server::start([Reply::ok("never"), Reply::ok("never")]);
    for http2 in [false, true] {
        let breaker = on_first_failure();
        let client = if http2 {
            client().http2_prior_knowledge()
        } else {
            client()
        };
        let service = ServiceBuilder::new()
            .layer(RetryLayer::new(Retry::default().build().unwrap()))
            .layer(CircuitBreakerLayer::new(breaker.clone()))
            .service(HttpService::new(client.build().unwrap()));
        let late = futures::StreamExt::then(
            stream::iter([
                Ok(Frame::data(Bytes::from("ab"))),
                Err(io::Error::other("the disk is gone")),
            ]),
            |frame| async {
                tokio::time::sleep(Duration::from_millis(30)).await;
                frame
            },
        );
        let call = Request::put(format!("http://{}/upload", server.address()))
            .body(StreamBody::new(late).boxed_unsync())
            .unwrap();
        let error = service.oneshot(call).await.unwrap_err();
        assert_eq!(breaker.state(), State::Closed, "http2: {http2}, {error}");
        // HTTP/2 stacks keep the body's own error to themselves.
        assert!(
            http2 || error.to_string().contains("the disk is gone"),
            "{error}"
        );
        assert_eq!(error.report().attempts().len(), 1);
    }
}

/// What an io error proves is known to each layer alone, not only where a classifier looks at it.
#[tokio::test(start_paused = true)]
async fn a_refused_connection_is_unsent_under_any_single_layer() {
    use evenkeel::{AttemptTimeoutLayer, DeadlineLayer, IdempotencyKeyLayer};
    let refused = || Script::by(|_| Act::refuse());
    let second = Duration::from_secs(1);
    let breaker = Breaker::count(9, second).unwrap();
    let errors = [
        DeadlineLayer::new(second)
            .unwrap()
            .layer(refused())
            .oneshot(request(Method::POST))
            .await
            .unwrap_err(),
        AttemptTimeoutLayer::new(second)
            .unwrap()
            .layer(refused())
            .oneshot(request(Method::POST))
            .await
            .unwrap_err(),
        IdempotencyKeyLayer::default()
            .layer(refused())
            .oneshot(request(Method::POST))
            .await
            .unwrap_err(),
        CircuitBreakerLayer::new(breaker.clone())
            .layer(refused())
            .oneshot(request(Method::POST))
            .await
            .unwrap_err(),
        breaker
            .run(async { Err::<(), _>(io::Error::from(io::ErrorKind::ConnectionRefused)) })
            .await
            .unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.disposition(), Disposition::NotSent, "{error}");
        assert!(error.to_string().ends_with("it was not sent"), "{error}");
    }
}

/// Whoever knows the transport better has the last word, in both directions.
#[tokio::test(start_paused = true)]
async fn a_reader_of_errors_is_believed_before_the_io_kind() {
    use evenkeel::classify::{Classifier, Evidence};
    let doubts = Classifier::default().evidence(|_| Some(Evidence::Unknown));
    let script = Script::by(|_| Act::refuse());
    let service =
        RetryLayer::new(Retry::default().classifier(doubts).build().unwrap()).layer(script.clone());
    let error = service.oneshot(request(Method::POST)).await.unwrap_err();
    assert!(error.may_have_happened(), "{error}");
    assert_eq!(script.seen().len(), 1);
    let knows = Classifier::default().evidence(|_| Some(Evidence::Refused));
    let script = Script::by(|_| Act::fail(io::ErrorKind::ConnectionReset));
    let retry = Retry::default()
        .classifier(knows)
        .max_attempts(2)
        .build()
        .unwrap();
    let service = RetryLayer::new(retry).layer(script.clone());
    let error = service.oneshot(request(Method::POST)).await.unwrap_err();
    assert_eq!(
        (error.disposition(), script.seen().len()),
        (Disposition::Refused, 2)
    );
}

/// resilience4j/resilience4j#280: what only the breaker below knows of an error is not forgotten above it.
#[tokio::test(start_paused = true)]
async fn what_a_layer_below_knows_of_an_error_holds_above_it() {
    use evenkeel::classify::{Classifier, Evidence};
    #[derive(Debug, thiserror::Error)]
    #[error("stream refused")]
    struct Refused;
    let knows =
        Classifier::default().evidence(|error| error.is::<Refused>().then_some(Evidence::Refused));
    let retry = Retry::default().max_attempts(2).build().unwrap();
    let service = ServiceBuilder::new()
        .layer(RetryLayer::new(retry))
        .layer(
            CircuitBreakerLayer::new(Breaker::count(9, Duration::from_secs(9)).unwrap())
                .classifier(knows),
        )
        .map_err(|_: io::Error| Refused)
        .service(Script::by(|_| Act::fail(io::ErrorKind::Other)));
    let error = service.oneshot(request(Method::POST)).await.unwrap_err();
    assert_eq!(error.disposition(), Disposition::Refused, "{error}");
    assert_eq!(error.report().attempts().len(), 2);
}
