//! A breaker above a balancer, runtimes and clocks.

use super::*;

/// Calls until it opens, over three endpoints of these weights that all answer with this.
async fn opens_over(weights: [u32; 3], act: Act) -> bool {
    let breaker = built(BreakerConfig::service_default());
    let endpoints = weights.into_iter().enumerate().map(|(index, weight)| {
        let endpoint = Endpoint::parse(&format!("10.0.0.{}:80", index + 1));
        endpoint.expect("an address").with_weight(weight)
    });
    let mock = Mock::new(std::iter::repeat_n(act, 60));
    let made = mock.clone();
    let balancer = Balancer::builder(Fixed::new(endpoints))
        .ejection(Ejection::off())
        .pick(Pick::random())
        .random(Random::seeded(1))
        .build(move |_| Ok(made.clone()))
        .expect("in range");
    let stack = CircuitBreakerLayer::new(breaker.clone()).layer(balancer);
    for _ in 0..60 {
        let answer = stack.clone().oneshot(get()).await;
        if let Ok(response) = answer {
            let _ = response.into_body().collect().await;
        }
        advance(millis(10)).await;
    }
    breaker.opened() > 0
}

#[tokio::test(start_paused = true)]
async fn failures_of_one_endpoint_alone_do_not_open_the_circuit_of_its_service() {
    let acts = [
        Act::status(503),
        reset(),
        body([Step::data("a"), Step::fail(io::ErrorKind::ConnectionReset)]),
    ];
    for act in acts {
        assert!(!opens_over([1_000_000, 1, 1], act.clone()).await);
        assert!(opens_over([1, 1, 1], act).await);
    }
}

#[tokio::test(start_paused = true)]
async fn a_breaker_on_top_tells_what_happened() {
    let breaker = built(BreakerConfig::service_default());
    let balancer = Balancer::builder(Fixed::new(["10.0.0.1:80"]))
        .build(|_| Ok(Mock::new([Act::fail(io::ErrorKind::ConnectionRefused)])))
        .expect("in range");
    let stack = CircuitBreakerLayer::new(breaker).layer(balancer);
    let error = stack.oneshot(get()).await.expect_err("refused");
    let attempts = error.report().attempts();
    assert_eq!(attempts.len(), 1, "{error}");
    assert_eq!(attempts[0].endpoint(), Some("10.0.0.1:80"));
    assert_eq!(error.disposition(), Disposition::NotSent);
}

/// RUN-02, tower-rs/tower#139, tokio-rs/tokio#1713
#[test]
fn everything_is_built_and_used_by_hand_without_a_runtime() {
    let breaker = built(BreakerConfig::service_default());
    let _service = CircuitBreakerLayer::new(breaker.clone()).layer(Mock::new([]));
    let _watch = breaker.watch();
    fail(&breaker, 5);
    assert_eq!(breaker.state(), State::Open);
    breaker.reset();
    succeed(&breaker);
}

/// RUN-04, hyperium/hyper#3950, kube-rs/kube#840
#[tokio::test(start_paused = true)]
async fn paused_time_moves_windows_breaks_and_probe_bounds() {
    let started = std::time::Instant::now();
    let breaker = built(
        Breaker::builder()
            .failures_within(2, 3_000 * SECOND)
            .break_duration(3_600 * SECOND),
    );
    fail(&breaker, 1);
    advance(3_600 * SECOND).await;
    fail(&breaker, 1);
    assert_eq!(breaker.state(), State::Closed);
    fail(&breaker, 1);
    advance(3_600 * SECOND).await;
    let _hung = breaker.try_acquire().expect("a probe");
    advance(10 * SECOND).await;
    succeed(&breaker);
    assert_eq!(breaker.state(), State::Closed);
    assert!(started.elapsed() < SECOND, "no real sleeping");
}

/// RUN-01, SergejJurecko/mio_httpc#9, WithAutonomi/ant-node#167, graphprotocol/graph-node#1805
#[tokio::test(start_paused = true)]
async fn windows_longer_than_the_clock_has_run_do_not_panic() {
    let config = Breaker::builder()
        .failures_within(2, Duration::MAX)
        .failure_rate_threshold(1.0)
        .window(Duration::MAX)
        .break_duration(Duration::MAX)
        .healthy_period(Duration::MAX)
        .probe_timeout(Duration::MAX);
    let breaker = built(config.max_break_duration(Duration::MAX));
    fail(&breaker, 2);
    assert_eq!(breaker.state(), State::Open);
    assert!(breaker.try_acquire().is_err());
}
