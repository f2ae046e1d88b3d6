//! What breaker and balancer make of it.

use super::*;

#[tokio::test(start_paused = true)]
async fn the_breaker_counts_each_attempt_once() {
    let cases = [
        (grpc([unavailable()]), State::Open),
        (grpc([broken()]), State::Open),
        (grpc([message(), unavailable()]), State::Open),
        (grpc([]), State::Open),
        (grpc([not_found()]), State::Closed),
        (grpc([good()]), State::Closed),
        (answer(), State::Closed),
    ];
    for (number, (act, state)) in cases.into_iter().enumerate() {
        for method in BOTH {
            let breaker = BreakerConfig::new()
                .consecutive_failures(3)
                .build()
                .unwrap();
            let layer = CircuitBreakerLayer::new(breaker.clone()).classifier(Classifier::grpc());
            let mock = Mock::new(vec![act.clone(); 3]);
            let service = layer.layer(CommitLayer::new().layer(mock));
            for made in 0..3 {
                assert_eq!(
                    breaker.state(),
                    State::Closed,
                    "{number}, after {made} calls"
                );
                let call = service.clone().oneshot(request(policy(method)));
                if let Ok(response) = call.await {
                    let _ = response.into_body().collect().await;
                }
            }
            assert_eq!(breaker.state(), state, "{number} {method:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_balancer_holds_a_failure_against_its_endpoint_and_nothing_stays_in_flight() {
    let bad: std::net::SocketAddr = "10.0.0.1:80".parse().unwrap();
    for failure in [unavailable(), broken()] {
        let balancer = Balancer::builder(Fixed::new(["10.0.0.1:80", "10.0.0.2:80"]))
            .classifier(Classifier::grpc())
            .random(evenkeel::Random::seeded(1))
            .build(move |endpoint| {
                let act = match endpoint.address() == bad {
                    true => grpc([failure.clone()]),
                    false => answer(),
                };
                Ok(CommitLayer::new().layer(Mock::new(vec![act; 100])))
            })
            .unwrap();
        let service = RetryLayer::new(retry().build().unwrap()).layer(balancer.clone());
        for _ in 0..20 {
            let call = service.clone().oneshot(idempotent(Method::Unary));
            let response = call.await.expect("answered elsewhere");
            assert_eq!(
                response
                    .into_body()
                    .collect()
                    .await
                    .unwrap()
                    .to_bytes()
                    .len(),
                6
            );
        }
        for endpoint in balancer.endpoints() {
            assert_eq!(endpoint.in_flight, 0);
            assert_eq!(
                endpoint.penalty > 1.0,
                endpoint.address == bad,
                "{endpoint:?}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_first_message_is_part_of_a_unary_attempt() {
    let slow = grpc([Step::pause(ATTEMPT - millis(1)), message(), good()]);
    let mock = Mock::new([slow]);
    let start = Instant::now();
    let response = call(&mock, idempotent(Method::Unary)).await.unwrap();
    assert_eq!((mock.calls(), start.elapsed()), (1, ATTEMPT - millis(1)));
    assert_eq!(read(response).await.0.len(), 6);
}
