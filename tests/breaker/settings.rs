//! Settings, and the edges of their rules.

use super::*;

/// BRK-11, vllm-project/semantic-router#3740
#[test]
fn settings_that_could_never_recover_or_never_trip_are_refused() {
    let rate = Breaker::builder;
    for (config, field) in [
        (
            on_first_failure().half_open(0, CloseWhen::Successes(1)),
            "probes",
        ),
        (
            on_first_failure().half_open(256, CloseWhen::Successes(1)),
            "probes",
        ),
        (
            on_first_failure().half_open(1, CloseWhen::Successes(0)),
            "Successes",
        ),
        (
            on_first_failure().half_open(1, CloseWhen::FailureRateBelow(f64::NAN)),
            "FailureRateBelow",
        ),
        (
            on_first_failure().break_duration(Duration::ZERO),
            "break_duration",
        ),
        (on_first_failure().break_jitter(f64::NAN), "break_jitter"),
        (
            on_first_failure().max_break_duration(SECOND),
            "max_break_duration",
        ),
        (
            on_first_failure().probe_timeout(Duration::ZERO),
            "probe_timeout",
        ),
        (
            Breaker::builder().consecutive_failures(0),
            "consecutive_failures",
        ),
        (rate().failure_rate_threshold(0.0), "failure_rate_threshold"),
        (
            rate().failure_rate_threshold(f64::NAN),
            "failure_rate_threshold",
        ),
        (
            rate().failure_rate_threshold(100.1),
            "failure_rate_threshold",
        ),
        (
            rate().failure_rate_threshold(0.5).window(Duration::ZERO),
            "window",
        ),
        (
            rate().failure_rate_threshold(0.5).count_window(0),
            "count_window",
        ),
        (
            rate().failure_rate_threshold(0.5).min_requests(0),
            "min_requests",
        ),
        (BreakerConfig::count(5, Duration::ZERO), "failures_within"),
        (BreakerConfig::count(0, SECOND), "failures_within"),
        (Breaker::builder(), "without a rule"),
    ] {
        let error = config.build().expect_err(field);
        assert!(error.to_string().contains(field), "{error}");
    }
    assert!(Breaker::count(0, SECOND).is_err());
}

/// BRK-12, rohitg00/agentmemory#1350
#[tokio::test(start_paused = true)]
async fn a_success_ends_a_run_of_failures() {
    let breaker = built(Breaker::builder().consecutive_failures(5));
    for _ in 0..60 {
        fail(&breaker, 1);
        for _ in 0..19 {
            advance(millis(500)).await;
            succeed(&breaker);
        }
        advance(millis(500)).await;
    }
    assert_eq!(breaker.state(), State::Closed);
    fail(&breaker, 4);
    succeed(&breaker);
    fail(&breaker, 4);
    assert_eq!(breaker.snapshot().consecutive_failures, 4);
    assert_eq!(breaker.state(), State::Closed);
}

/// BRK-13, smallrye/smallrye-fault-tolerance#729, failsafe-go/failsafe-go#97
#[tokio::test(start_paused = true)]
async fn an_idle_breaker_reads_half_open_once_its_break_is_over() {
    let breaker = built(on_first_failure());
    fail(&breaker, 1);
    advance(15 * SECOND).await;
    assert_eq!(breaker.state(), State::HalfOpen);
    assert_eq!(breaker.snapshot().state, State::HalfOpen);
    let second = built(on_first_failure());
    fail(&second, 1);
    assert_eq!(second.snapshot().next_probe_in, Some(5 * SECOND));
    advance(5 * SECOND).await;
    assert!(second.try_acquire().expect("at the boundary").is_probe());
}

/// BRK-14, sony/gobreaker#91
#[tokio::test(start_paused = true)]
async fn failures_of_calls_begun_before_it_opened_change_nothing_more() {
    let mock = Mock::new(std::iter::repeat_n(reset().after(30 * SECOND), 500));
    let (breaker, service) = before(BreakerConfig::count(5, 10 * SECOND), &mock);
    let mut watch = breaker.watch();
    let calls = join_all((0..500).map(|index| {
        let service = &service;
        async move {
            sleep(millis(index / 5)).await;
            call(service).await
        }
    }));
    calls.await;
    let snapshot = breaker.snapshot();
    assert_eq!(
        (snapshot.failed, snapshot.late, snapshot.opened),
        (5, 495, 1)
    );
    // Opened by the first five of them, 99 ms before the last.
    assert_eq!(snapshot.next_probe_in, Some(30 * SECOND - millis(99)));
    assert_eq!(watch.next().await.map(|moved| moved.to), Some(State::Open));
    assert!(watch.next().now_or_never().is_none());
}
