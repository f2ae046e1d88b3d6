//! How breaker and balancer judge a status.

use super::*;

// CLS-01, linkerd/linkerd2#7701, linkerd/linkerd2-proxy#2410
#[tokio::test(start_paused = true)]
async fn a_status_in_trailers_after_a_body_trips_the_breaker() {
    let unavailable = || message(Some(map(&[("grpc-status", "14")])));
    assert_eq!(state_after(3, unavailable).await, State::Open);
    assert_eq!(
        state_after(9, || message(Some(map(&[("grpc-status", "0")])))).await,
        State::Closed
    );
    assert_eq!(
        state_after(9, || message(Some(map(&[("grpc-status", "5")])))).await,
        State::Closed
    );
}

/// Calls that may take a second, of a server that sends a message and then ends them as if it knew: what the breaker
/// makes of it, and whether the balancer blames the server.
async fn blame_after_streams_until(
    end: Duration,
    status: &'static str,
    policy: CallPolicy,
) -> (State, bool) {
    let breaker = Breaker::count(3, Duration::from_secs(60)).unwrap();
    let layer = CircuitBreakerLayer::new(breaker.clone()).classifier(Classifier::grpc());
    let server = service_fn(move |_: Request<Full<Bytes>>| async move {
        let data = Full::new(Bytes::from_static(b"\0\0\0\0\x01x"));
        let body = data.with_trailers(async move {
            tokio::time::sleep(end).await;
            Some(Ok(map(&[("grpc-status", status)])))
        });
        let response = Response::builder().header("content-type", "application/grpc");
        Ok::<_, Infallible>(response.body(body.boxed_unsync()).unwrap())
    });
    let balancer = evenkeel::Balancer::builder(evenkeel::Fixed::new(["10.0.0.1:80"]))
        .classifier(Classifier::grpc())
        .build(move |_| Ok(server))
        .unwrap();
    let service = DeadlineLayer::new(Duration::from_secs(1))
        .unwrap()
        .layer(layer.layer(balancer.clone()));
    for _ in 0..3 {
        let mut request = Request::new(Full::default());
        request.extensions_mut().insert(policy.clone());
        let reply = service.clone().oneshot(request).await.unwrap();
        let _ = reply.into_body().collect().await;
    }
    (breaker.state(), balancer.endpoints()[0].penalty > 1.0)
}

#[tokio::test(start_paused = true)]
async fn a_server_that_ends_a_stream_at_the_deadline_its_caller_gave_is_not_blamed() {
    let millis = Duration::from_millis;
    let short = || CallPolicy::new().deadline(millis(400));
    for (end, status, policy, state) in [
        (millis(399), "4", short(), State::Closed),
        (millis(390), "4", short(), State::Open),
        (millis(399), "14", short(), State::Open),
        // All the time that the client gives was not enough.
        (millis(999), "4", CallPolicy::new(), State::Open),
    ] {
        let found = blame_after_streams_until(end, status, policy).await;
        let blamed = state == State::Open;
        assert_eq!(found, (state, blamed), "{status} after {end:?}");
    }
}

// CLS-02, linkerd/linkerd#1567, line/armeria#4496
#[tokio::test(start_paused = true)]
async fn a_trailers_only_status_is_judged_and_an_ok_one_is_a_success() {
    assert_eq!(
        state_after(3, || trailers_only(&[("grpc-status", "14")])).await,
        State::Open
    );
    assert_eq!(
        state_after(9, || trailers_only(&[("grpc-status", "0")])).await,
        State::Closed
    );
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_ends_without_a_status_is_no_success() {
    assert_eq!(state_after(3, || message(None)).await, State::Open);
    assert_eq!(
        state_after(3, || message(Some(map(&[("other", "x")])))).await,
        State::Open
    );
}

#[tokio::test(start_paused = true)]
async fn a_page_of_a_proxy_is_no_success() {
    let page = || Response::new(Full::from("<html>").boxed_unsync());
    assert_eq!(state_after(3, page).await, State::Open);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_dropped_after_a_good_head_is_a_success() {
    let breaker = Breaker::count(3, Duration::from_secs(10)).unwrap();
    let layer = CircuitBreakerLayer::new(breaker.clone()).classifier(Classifier::grpc());
    let service = layer.layer(service_fn(|_: Request<Full<Bytes>>| async {
        Ok::<_, Infallible>(message(Some(map(&[("grpc-status", "14")]))))
    }));
    for _ in 0..9 {
        drop(
            service
                .clone()
                .oneshot(Request::new(Full::default()))
                .await
                .unwrap(),
        );
    }
    assert_eq!(breaker.state(), State::Closed);
}
