//! What adds up within a window.

use super::*;

/// BRK-05, Shopify/semian#24
#[tokio::test(start_paused = true)]
async fn sparse_failures_do_not_add_up() {
    let breaker = built(Breaker::builder().failures_within(3, 5 * SECOND));
    for wait in [0, 5, 1] {
        advance(wait * SECOND).await;
        fail(&breaker, 1);
    }
    assert_eq!(breaker.state(), State::Closed);
    assert_eq!(breaker.snapshot().failures_within, 2);
}

/// BRK-05: the window slides with every failure and rounds nothing, wherever it starts.
#[tokio::test(start_paused = true)]
async fn failures_just_within_the_window_add_up_at_any_offset() {
    for offset in (0..5_000).step_by(331) {
        for (span, state) in [(4_999, State::Open), (5_000, State::Closed)] {
            let breaker = built(Breaker::builder().failures_within(3, 5 * SECOND));
            advance(millis(offset)).await;
            fail(&breaker, 2);
            advance(millis(span)).await;
            fail(&breaker, 1);
            assert_eq!(breaker.state(), state, "{span} ms apart after {offset} ms");
        }
    }
}

/// BRK-06, line/armeria#2761
#[tokio::test(start_paused = true)]
async fn the_failure_that_opens_a_new_bucket_is_part_of_its_own_verdict() {
    let config = Breaker::builder()
        .failure_rate_threshold(0.1)
        .min_requests(2);
    let breaker = built(config.window(10 * SECOND));
    succeed(&breaker);
    succeed(&breaker);
    advance(SECOND).await;
    fail(&breaker, 1);
    assert_eq!(breaker.state(), State::Open);
}

/// BRK-06: the failure that completes the minimum is counted in it, and one after a long silence is alone.
#[tokio::test(start_paused = true)]
async fn a_rate_is_of_the_window_that_ends_with_the_failure() {
    let config = Breaker::builder()
        .failure_rate_threshold(0.5)
        .min_requests(4);
    let breaker = built(config.window(10 * SECOND));
    fail(&breaker, 3);
    assert_eq!(breaker.state(), State::Closed);
    advance(3_600 * SECOND).await;
    fail(&breaker, 3);
    assert_eq!(breaker.state(), State::Closed);
    fail(&breaker, 1);
    assert_eq!(breaker.state(), State::Open);
}

/// A window of results that never slides would need as many failures as there were successes.
#[tokio::test(start_paused = true)]
async fn old_successes_do_not_hide_an_outage() {
    let rate = || {
        Breaker::builder()
            .failure_rate_threshold(0.5)
            .min_requests(10)
    };
    for config in [rate().window(10 * SECOND), rate().count_window(20)] {
        let breaker = built(config);
        for _ in 0..1_000 {
            succeed(&breaker);
            advance(millis(10)).await;
        }
        advance(11 * SECOND).await;
        fail(&breaker, 10);
        assert_eq!(breaker.state(), State::Open);
    }
}

/// BRK-07, resilience4j/resilience4j#547
#[tokio::test(start_paused = true)]
async fn results_of_probes_are_none_of_the_closed_period() {
    let config = Breaker::builder()
        .failure_rate_threshold(0.5)
        .min_requests(5)
        .half_open(25, CloseWhen::FailureRateBelow(0.5));
    let breaker = built(config);
    fail(&breaker, 5);
    advance(5 * SECOND).await;
    for index in 0..25 {
        let permit = breaker.try_acquire().expect("a probe");
        if index % 5 == 4 {
            permit.failure()
        } else {
            permit.success()
        }
    }
    assert_eq!(breaker.state(), State::Closed);
    let snapshot = breaker.snapshot();
    assert_eq!((snapshot.window_results, snapshot.window_failures), (0, 0));
    fail(&breaker, 4);
    assert_eq!(breaker.state(), State::Closed, "fresh evidence is needed");
    fail(&breaker, 1);
    assert_eq!(breaker.state(), State::Open);
}

/// BRK-07: nor do failures from before the break, under any rule.
#[tokio::test(start_paused = true)]
async fn what_opened_it_does_not_count_again_after_it_closed() {
    let day = 86_400 * SECOND;
    for config in [
        Breaker::builder().consecutive_failures(3),
        Breaker::builder().failures_within(3, day),
        Breaker::builder()
            .failure_rate_threshold(0.5)
            .min_requests(3)
            .window(day),
        Breaker::builder()
            .failure_rate_threshold(0.5)
            .min_requests(3)
            .count_window(100),
    ] {
        let breaker = built(config.break_duration(SECOND));
        fail(&breaker, 3);
        advance(SECOND).await;
        succeed(&breaker);
        fail(&breaker, 2);
        assert_eq!(breaker.state(), State::Closed);
        fail(&breaker, 1);
        assert_eq!(breaker.state(), State::Open);
    }
}
