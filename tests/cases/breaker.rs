//! BRK: what opens and closes a circuit, at its edges.

use std::{sync::Arc, time::Duration};

use evenkeel::{
    Breaker, BreakerConfig, CircuitBreakerLayer,
    breaker::{CloseWhen, State},
    classify::Class,
};
use http::Request;
use http_body_util::BodyExt;
use tokio::time::advance;
use tower::{Layer, ServiceExt};

use crate::support::mock::{Act, Mock, Step, millis};

const SECOND: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_nanos(1);

fn first_failure() -> BreakerConfig {
    Breaker::builder()
        .consecutive_failures(1)
        .break_duration(SECOND)
}

fn fail(breaker: &Breaker) {
    breaker.try_acquire().unwrap().failure();
}

fn succeed(breaker: &Breaker) {
    breaker.try_acquire().unwrap().success();
}

#[tokio::test(start_paused = true)]
async fn a_break_ends_at_its_instant_and_not_a_nanosecond_before() {
    for offset in [0, 1, 999] {
        let breaker = first_failure().build().unwrap();
        advance(millis(offset)).await;
        fail(&breaker);
        advance(SECOND - TICK).await;
        assert_eq!(breaker.state(), State::Open, "offset {offset}");
        assert!(breaker.try_acquire().is_err());
        advance(TICK).await;
        assert_eq!(breaker.state(), State::HalfOpen, "offset {offset}");
        assert!(breaker.try_acquire().unwrap().is_probe());
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_exactly_a_window_ago_is_out_of_it() {
    for (gap, state) in [(SECOND - TICK, State::Open), (SECOND, State::Closed)] {
        let breaker = Breaker::builder()
            .failures_within(2, SECOND)
            .build()
            .unwrap();
        fail(&breaker);
        advance(gap).await;
        fail(&breaker);
        assert_eq!(breaker.state(), state, "{gap:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_count_window_that_holds_just_the_minimum_opens_with_its_last_result() {
    let breaker = Breaker::builder()
        .failure_rate_threshold(0.5)
        .count_window(4)
        .min_requests(4)
        .build()
        .unwrap();
    succeed(&breaker);
    succeed(&breaker);
    fail(&breaker);
    assert_eq!(breaker.state(), State::Closed, "three of four");
    fail(&breaker);
    assert_eq!(breaker.state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn a_count_window_forgets_the_oldest_result_only() {
    let breaker = Breaker::builder()
        .failure_rate_threshold(0.75)
        .count_window(4)
        .min_requests(4)
        .build()
        .unwrap();
    for _ in 0..50 {
        succeed(&breaker);
    }
    fail(&breaker);
    fail(&breaker);
    assert_eq!(breaker.state(), State::Closed);
    fail(&breaker);
    assert_eq!(breaker.state(), State::Open);
}

/// A success ends a run, and takes nothing out of a stretch of time or of a rate.
#[tokio::test(start_paused = true)]
async fn a_success_in_between_means_something_else_to_each_rule() {
    let rules = [
        (Breaker::builder().consecutive_failures(3), State::Closed),
        (
            Breaker::builder().failures_within(3, 10 * SECOND),
            State::Open,
        ),
        (
            Breaker::builder()
                .failure_rate_threshold(0.6)
                .min_requests(5),
            State::Open,
        ),
        (
            Breaker::builder()
                .failure_rate_threshold(0.61)
                .min_requests(5),
            State::Closed,
        ),
    ];
    for (rule, state) in rules {
        let breaker = rule.clone().build().unwrap();
        for failed in [true, false, true, false, true] {
            if failed {
                fail(&breaker)
            } else {
                succeed(&breaker)
            }
        }
        assert_eq!(breaker.state(), state, "{rule:?}");
    }
}

/// sony/gobreaker#53: several probes, of which none is enough to close it alone.
#[tokio::test(start_paused = true)]
async fn several_probes_with_mixed_results_and_drops_decide_by_their_rate() {
    for (failures, state) in [(1, State::Closed), (2, State::Open), (3, State::Open)] {
        let breaker = first_failure()
            .half_open(4, CloseWhen::FailureRateBelow(0.5))
            .build()
            .unwrap();
        fail(&breaker);
        advance(SECOND).await;
        let probes: Vec<_> = (0..4).map(|_| breaker.try_acquire().unwrap()).collect();
        assert!(breaker.try_acquire().is_err(), "all four are under way");
        let mut probes = probes.into_iter();
        drop(probes.next());
        probes.next().unwrap().finish(Class::Neutral);
        // Those two decided nothing: their slots go to others.
        let more = [
            breaker.try_acquire().unwrap(),
            breaker.try_acquire().unwrap(),
        ];
        for (at, probe) in probes.chain(more).enumerate() {
            if breaker.state() != State::HalfOpen {
                break;
            }
            if at < failures {
                probe.failure()
            } else {
                probe.success()
            }
        }
        assert_eq!(breaker.state(), state, "{failures} of 4 failed");
    }
}

#[tokio::test(start_paused = true)]
async fn more_successes_than_probes_may_be_asked_for_one_after_another() {
    let breaker = first_failure()
        .half_open(2, CloseWhen::Successes(5))
        .build()
        .unwrap();
    fail(&breaker);
    advance(SECOND).await;
    for done in 0..5 {
        assert_eq!(breaker.state(), State::HalfOpen, "{done}");
        succeed(&breaker);
    }
    assert_eq!(breaker.state(), State::Closed);
    fail(&breaker);
    advance(SECOND).await;
    for _ in 0..4 {
        succeed(&breaker);
    }
    fail(&breaker);
    assert_eq!(
        breaker.state(),
        State::Open,
        "the first failure opens it again"
    );
}

#[test]
fn probes_dropped_on_other_threads_give_their_slots_back() {
    let breaker = first_failure()
        .break_duration(millis(1))
        .half_open(8, CloseWhen::Successes(1))
        .build()
        .unwrap();
    fail(&breaker);
    std::thread::sleep(millis(5));
    for _ in 0..200 {
        let permits: Vec<_> = (0..8).map(|_| breaker.try_acquire().unwrap()).collect();
        assert!(breaker.try_acquire().is_err());
        std::thread::scope(|scope| {
            for permit in permits {
                scope.spawn(move || drop(permit));
            }
        });
        assert_eq!(breaker.snapshot().probes, 0);
    }
    assert_eq!(breaker.state(), State::HalfOpen);
}

#[tokio::test(start_paused = true)]
async fn two_services_with_one_breaker_open_and_close_together() {
    let breaker = Breaker::builder()
        .consecutive_failures(2)
        .break_duration(SECOND)
        .build()
        .unwrap();
    let layer = CircuitBreakerLayer::new(breaker.clone());
    let (one, other) = (
        Mock::new([Act::status(500)]),
        Mock::new([Act::status(502), Act::ok()]),
    );
    let services = [layer.layer(one.clone()), layer.layer(other.clone())];
    for service in &services {
        service
            .clone()
            .oneshot(Request::new(String::new()))
            .await
            .unwrap();
    }
    for service in &services {
        service
            .clone()
            .oneshot(Request::new(String::new()))
            .await
            .unwrap_err();
    }
    advance(SECOND).await;
    services[1]
        .clone()
        .oneshot(Request::new(String::new()))
        .await
        .unwrap();
    assert_eq!(breaker.state(), State::Closed);
    services[0]
        .clone()
        .oneshot(Request::new(String::new()))
        .await
        .unwrap();
    assert_eq!((one.calls(), other.calls()), (2, 2));
}

/// A probe whose body breaks off after a good head has failed.
#[tokio::test(start_paused = true)]
async fn a_probe_whose_body_breaks_off_opens_it_again() {
    let breaker = first_failure().build().unwrap();
    let mock = Mock::new([
        Act::status(500),
        Act::ok().body([
            Step::data("half"),
            Step::fail(std::io::ErrorKind::ConnectionReset),
        ]),
    ]);
    let service = CircuitBreakerLayer::new(breaker.clone()).layer(mock.clone());
    service
        .clone()
        .oneshot(Request::new(String::new()))
        .await
        .unwrap();
    advance(SECOND).await;
    let answer = service
        .clone()
        .oneshot(Request::new(String::new()))
        .await
        .unwrap();
    assert!(
        service
            .clone()
            .oneshot(Request::new(String::new()))
            .await
            .is_err(),
        "one probe at a time"
    );
    answer.into_body().collect().await.unwrap_err();
    assert_eq!(breaker.state(), State::Open);
    assert_eq!(mock.calls(), 2);
}

/// A user's closure that panics while it reads a head or an error leaves nothing stuck.
#[tokio::test(start_paused = true)]
async fn a_classifier_that_panics_gives_the_probe_slot_back() {
    use evenkeel::classify::Classifier;
    use futures::FutureExt;
    let breaker = first_failure().build().unwrap();
    let classifier = Classifier::default().response(|status, _| {
        assert_ne!(status, 418, "a panic of the user's");
        None
    });
    let mock = Mock::new([Act::status(418), Act::ok()]);
    let service = CircuitBreakerLayer::new(breaker.clone())
        .classifier(classifier)
        .layer(mock);
    fail(&breaker);
    advance(SECOND).await;
    let call = service.clone().oneshot(Request::new(String::new()));
    assert!(
        std::panic::AssertUnwindSafe(call)
            .catch_unwind()
            .await
            .is_err()
    );
    assert_eq!(breaker.snapshot().probes, 0);
    service.oneshot(Request::new(String::new())).await.unwrap();
    assert_eq!(breaker.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn endless_durations_are_taken_by_every_setting() {
    for endless in [Duration::MAX, Duration::from_secs(u64::MAX / 10)] {
        let breaker = Breaker::builder()
            .consecutive_failures(1)
            .break_duration(endless)
            .probe_timeout(endless)
            .healthy_period(endless)
            .build()
            .unwrap();
        fail(&breaker);
        advance(1_000_000 * SECOND).await;
        assert_eq!(breaker.state(), State::Open);
        assert!(
            breaker
                .try_acquire()
                .unwrap_err()
                .to_string()
                .contains("circuit breaker is open")
        );
        breaker.reset();
        succeed(&breaker);
        let slow = Breaker::builder()
            .failures_within(2, endless)
            .slow_call_rate_threshold(0.5)
            .slow_call_duration(endless)
            .window(endless)
            .build();
        if let Ok(slow) = slow {
            fail(&slow);
            fail(&slow);
            assert_eq!(slow.state(), State::Open);
        }
    }
}

/// App-vNext/Polly#311, smallrye/smallrye-fault-tolerance#320: what is nobody's fault is that while half-open, too.
#[tokio::test(start_paused = true)]
async fn an_outcome_that_is_excused_does_not_fail_a_probe() {
    use evenkeel::classify::{Classifier, Verdict};
    let breaker = first_failure().build().unwrap();
    let excuse = Classifier::default()
        .response(|status, _| (status == 503).then(|| Verdict::FAILURE.class(Class::Neutral)));
    let mock = Mock::new([Act::status(503), Act::status(500)]);
    let service = CircuitBreakerLayer::new(breaker.clone())
        .classifier(excuse)
        .layer(mock);
    fail(&breaker);
    advance(SECOND).await;
    service
        .clone()
        .oneshot(Request::new(String::new()))
        .await
        .unwrap();
    assert_eq!(breaker.state(), State::HalfOpen);
    service.oneshot(Request::new(String::new())).await.unwrap();
    assert_eq!(breaker.state(), State::Open);
}

#[test]
fn handles_permits_and_futures_go_where_they_are_needed() {
    fn shared<T: Clone + Send + Sync + 'static>(_: &T) {}
    fn sent<T: Send + 'static>(_: &T) {}
    let breaker = first_failure().build().unwrap();
    shared(&breaker);
    sent(&breaker.try_acquire().unwrap());
    sent(&breaker.run(async { Ok::<_, std::io::Error>(Arc::new(())) }));
    sent(&breaker.watch());
    let service = CircuitBreakerLayer::new(breaker).layer(Mock::new([]));
    shared(&service);
    sent(&service.oneshot(Request::new(String::new())));
}
