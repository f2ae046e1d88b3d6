//! Which rule opens it.

use super::*;

#[test]
fn throttled_results_count_for_the_failure_rate_and_no_other_rule() {
    let counted = BreakerConfig::new()
        .consecutive_failures(2)
        .failures_within(2, SECOND);
    let bench = Bench::new(counted);
    bench.calls(9, Outcome::Throttled);
    assert_eq!(bench.state(), State::Closed);
    let rated = BreakerConfig::new()
        .failure_rate_threshold(0.5)
        .min_requests(2);
    let bench = Bench::new(rated);
    bench.calls(2, Outcome::Throttled);
    assert_eq!(bench.state(), State::Open);
}

#[test]
fn a_rate_needs_enough_results() {
    let bench = Bench::new(
        BreakerConfig::new()
            .failure_rate_threshold(0.5)
            .min_requests(5),
    );
    bench.calls(4, Outcome::Failure);
    assert_eq!(bench.state(), State::Closed);
    bench.call(Outcome::Failure);
    assert_eq!(bench.state(), State::Open);
}

#[test]
fn a_count_window_forgets_by_number_and_not_by_time() {
    let config = BreakerConfig::new()
        .failure_rate_threshold(0.5)
        .count_window(4)
        .min_requests(4);
    let mut bench = Bench::new(config);
    bench.call(Outcome::Failure);
    bench.wait(3_600_000);
    for outcome in [Outcome::Success, Outcome::Success, Outcome::Failure] {
        assert_eq!(bench.state(), State::Closed);
        bench.call(outcome);
    }
    assert_eq!(bench.state(), State::Open);
}

#[test]
fn slow_calls_open_it_and_fail_its_probe_though_they_succeed() {
    let config = BreakerConfig::new()
        .slow_call_rate_threshold(0.5)
        .slow_call_duration(SECOND)
        .min_requests(2);
    let mut bench = Bench::new(config);
    let took = |millis| Finished {
        ran: Some(Duration::from_millis(millis)),
        ..Finished::new(Outcome::Success)
    };
    bench.end(bench.admitted(), took(999));
    bench.end(bench.admitted(), took(1_000));
    assert_eq!(bench.state(), State::Open);
    bench.wait(5_000);
    bench.end(bench.admitted(), took(1_000));
    assert_eq!(bench.state(), State::Open);
    bench.wait(5_000);
    bench.end(bench.admitted(), took(999));
    assert_eq!(bench.state(), State::Closed);
}

fn failure_on(serial: u64, of: usize) -> Finished {
    Finished {
        endpoint: Some(Seen { serial, of }),
        ..Finished::new(Outcome::Failure)
    }
}

#[test]
fn one_bad_endpoint_of_many_opens_by_no_rule() {
    let base = || BreakerConfig::new().min_endpoints(3).min_requests(5);
    for config in [
        base().consecutive_failures(5),
        base().failures_within(5, SECOND),
        base().failure_rate_threshold(0.5),
        base().failure_rate_threshold(0.5).count_window(10),
    ] {
        let bench = Bench::new(config.clone());
        for _ in 0..50 {
            bench.end(bench.admitted(), failure_on(1, 8));
        }
        bench.end(bench.admitted(), failure_on(65, 8));
        assert_eq!(bench.state(), State::Closed, "{config:?}");
        bench.end(bench.admitted(), failure_on(129, 8));
        assert_eq!(bench.state(), State::Open, "{config:?}");
    }
}

#[test]
fn a_small_set_opens_when_all_of_it_fails() {
    for of in [1, 2] {
        let bench = Bench::new(BreakerConfig::service_default());
        for index in 0..5 {
            assert_eq!(bench.state(), State::Closed);
            bench.end(bench.admitted(), failure_on(index % of, of as usize));
        }
        assert_eq!(bench.state(), State::Open);
    }
}

#[test]
fn without_a_balancer_the_endpoints_do_not_matter() {
    let bench = Bench::new(BreakerConfig::service_default());
    bench.calls(5, Outcome::Failure);
    assert_eq!(bench.state(), State::Open);
}
