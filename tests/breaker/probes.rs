//! What probes decide, and who gets their slots.

use super::*;

/// BRK-01, monix/monix#1080, svroonland/rezilience#521
#[tokio::test(start_paused = true)]
async fn a_dropped_probe_gives_its_slot_to_the_next_call() {
    let mock = Mock::new([reset(), Act::ok().after(2 * SECOND)]);
    let (breaker, service) = before(on_first_failure(), &mock);
    let _ = call(&service).await;
    advance(7 * SECOND).await;
    let probe = begin(&service);
    assert!(is_open(&call(&service).await));
    advance(SECOND).await;
    drop(probe);
    advance(SECOND).await;
    assert_eq!(call(&service).await, Ok(200));
    assert_eq!(breaker.state(), State::Closed);
}

/// BRK-01: a probe's future that was never polled, and one that waits for readiness, are dropped just so.
#[tokio::test(start_paused = true)]
async fn a_probe_dropped_before_it_was_sent_gives_its_slot_back() {
    let mock = Mock::new([]).readiness(Readiness::Never);
    let (breaker, mut service) = before(on_first_failure(), &mock);
    fail(&breaker, 1);
    advance(5 * SECOND).await;
    let unpolled = service.call(get());
    assert!(is_open(&call(&service).await));
    drop(unpolled);
    drop(begin(&service));
    breaker.try_acquire().expect("the slot is free").success();
    assert_eq!(breaker.state(), State::Closed);
}

/// BRK-01: a probe that nobody drops and that never answers gives its slot up in the end.
#[tokio::test(start_paused = true)]
async fn a_probe_that_hangs_gives_its_slot_up_after_a_bound() {
    let mock = Mock::new([reset(), Act::hang()]);
    let (breaker, service) = before(on_first_failure(), &mock);
    let _ = call(&service).await;
    advance(5 * SECOND).await;
    let hung = begin(&service);
    advance(millis(9_999)).await;
    assert!(is_open(&call(&service).await));
    advance(millis(1)).await;
    assert_eq!(call(&service).await, Ok(200));
    assert_eq!(breaker.state(), State::Closed);
    drop(hung);
    assert_eq!(breaker.state(), State::Closed);
}

/// BRK-01: a probe whose caller panics is a dropped one.
#[tokio::test(start_paused = true)]
async fn a_probe_that_panics_gives_its_slot_back() {
    let breaker = built(on_first_failure());
    fail(&breaker, 1);
    advance(5 * SECOND).await;
    let panics = breaker.run(async {
        if breaker.state() == State::HalfOpen {
            panic!("in the future");
        }
        Ok::<_, Error>(())
    });
    assert!(
        std::panic::AssertUnwindSafe(panics)
            .catch_unwind()
            .await
            .is_err()
    );
    let classify = |_: &Result<(), Error>| panic!("in the callback");
    let panics = breaker.run_with(async { Ok(()) }, classify);
    assert!(
        std::panic::AssertUnwindSafe(panics)
            .catch_unwind()
            .await
            .is_err()
    );
    succeed(&breaker);
    assert_eq!(breaker.state(), State::Closed);
}

/// BRK-02, resilience4j/resilience4j#544
#[tokio::test(start_paused = true)]
async fn a_neutral_outcome_gives_the_probe_slot_back() {
    for close_when in [CloseWhen::Successes(5), CloseWhen::FailureRateBelow(0.5)] {
        let breaker = built(on_first_failure().half_open(5, close_when));
        fail(&breaker, 1);
        advance(5 * SECOND).await;
        let permits = (0..5).map(|_| breaker.try_acquire().expect("a probe"));
        let mut permits = permits.collect::<Vec<_>>();
        assert!(breaker.try_acquire().is_err());
        permits.pop().expect("the fifth").finish(Class::Neutral);
        permits.into_iter().for_each(|permit| permit.success());
        assert_eq!(breaker.state(), State::HalfOpen);
        succeed(&breaker);
        assert_eq!(breaker.state(), State::Closed);
    }
}

/// BRK-02: an error that our own layers below cause is neutral.
#[tokio::test(start_paused = true)]
async fn a_rejection_below_gives_the_probe_slot_back() {
    let inner = built(on_first_failure());
    inner.force_open();
    let (outer, mock) = (built(on_first_failure()), Mock::new([]));
    let service = ServiceBuilder::new()
        .layer(CircuitBreakerLayer::new(outer.clone()))
        .layer(CircuitBreakerLayer::new(inner.clone()))
        .service(mock);
    fail(&outer, 1);
    advance(5 * SECOND).await;
    let error = service.clone().oneshot(get()).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::CircuitOpen { .. }));
    assert_eq!(outer.state(), State::HalfOpen);
    inner.reset();
    service.oneshot(get()).await.expect("both let it through");
    assert_eq!(outer.state(), State::Closed);
}

/// BRK-03, App-vNext/Polly#217, #223
#[tokio::test(start_paused = true)]
async fn a_late_result_of_the_closed_period_does_not_decide_half_open() {
    for late in [Act::ok(), reset()] {
        let probe = Act::ok().after(5 * SECOND);
        let script = [late.after(12 * SECOND)]
            .into_iter()
            .chain(std::iter::repeat_n(reset(), 5));
        let mock = Mock::new(script.chain([probe]));
        let config = BreakerConfig::count(5, 10 * SECOND).break_duration(10 * SECOND);
        let (breaker, service) = before(config, &mock);
        let mut a = begin(&service);
        advance(SECOND).await;
        for _ in 0..5 {
            let _ = call(&service).await;
        }
        assert_eq!(breaker.state(), State::Open);
        advance(10 * SECOND).await;
        let mut probe = begin(&service);
        advance(SECOND).await;
        assert!(a.poll().is_ready());
        drop(a);
        assert_eq!(breaker.state(), State::HalfOpen);
        assert!(is_open(&call(&service).await), "the probe keeps its slot");
        advance(4 * SECOND).await;
        assert!(probe.poll().is_ready());
        assert_eq!(breaker.state(), State::Closed);
    }
}

/// BRK-03: a late probe does not decide a later half-open, nor the closed period after a reset.
#[tokio::test(start_paused = true)]
async fn a_late_probe_decides_nothing() {
    let breaker = built(on_first_failure());
    fail(&breaker, 1);
    advance(5 * SECOND).await;
    let late = breaker.try_acquire().expect("a probe");
    breaker.reset();
    late.failure();
    assert_eq!(breaker.state(), State::Closed);
    assert_eq!(breaker.snapshot().late, 1);
    fail(&breaker, 1);
    advance(5 * SECOND).await;
    let late = breaker.try_acquire().expect("a probe");
    breaker.force_open();
    late.success();
    assert_eq!(breaker.state(), State::Open);
}

/// BRK-04, antflydb/termite#27, OpenLiberty/open-liberty#7080
#[tokio::test(start_paused = true)]
async fn one_of_a_hundred_waiting_calls_is_the_probe() {
    let mock = Mock::new([reset(), Act::ok().after(SECOND)]);
    let (breaker, service) = before(on_first_failure(), &mock);
    let _ = call(&service).await;
    let mut watch = breaker.watch();
    advance(5 * SECOND).await;
    let started = tokio::time::Instant::now();
    let calls = join_all((0..100).map(|_| async {
        let result = call(&service).await;
        (result, started.elapsed())
    }));
    let results = calls.await;
    assert_eq!(mock.calls(), 2);
    let rejected = results.iter().filter(|(result, _)| is_open(result));
    assert_eq!(rejected.clone().count(), 99);
    assert!(rejected.clone().all(|(_, after)| after.is_zero()));
    assert_eq!(
        watch.next().await.map(|moved| moved.to),
        Some(State::HalfOpen)
    );
    assert_eq!(
        watch.next().await.map(|moved| moved.to),
        Some(State::Closed)
    );
    assert!(watch.next().now_or_never().is_none());
}

/// BRK-04: threads, not tasks.
#[test]
fn many_threads_get_no_more_permits_than_there_are_probes() {
    for probes in [1, 3] {
        let config = on_first_failure()
            .break_duration(millis(1))
            .half_open(probes, CloseWhen::Successes(probes));
        let breaker = built(config);
        for _ in 0..20 {
            fail(&breaker, 1);
            std::thread::sleep(millis(3));
            let barrier = std::sync::Barrier::new(16);
            let permits = std::thread::scope(|scope| {
                let race = || {
                    barrier.wait();
                    breaker.try_acquire().ok()
                };
                let threads = (0..16).map(|_| scope.spawn(race)).collect::<Vec<_>>();
                let joined = threads
                    .into_iter()
                    .map(|thread| thread.join().expect("no panic"));
                joined.flatten().collect::<Vec<_>>()
            });
            assert_eq!(permits.len(), probes as usize);
            permits.into_iter().for_each(|permit| permit.success());
            assert_eq!(breaker.state(), State::Closed);
        }
    }
}

/// BRK-04: many threads that fail at once open it once.
#[test]
fn many_threads_that_fail_open_it_once() {
    let breaker = built(Breaker::builder().consecutive_failures(5));
    let permits = (0..64).map(|_| breaker.try_acquire().expect("closed"));
    let permits = permits.collect::<Vec<_>>();
    std::thread::scope(|scope| {
        for permit in permits {
            scope.spawn(move || permit.failure());
        }
    });
    assert_eq!(breaker.state(), State::Open);
    let snapshot = breaker.snapshot();
    assert_eq!(snapshot.opened, 1);
    assert_eq!(snapshot.failed + snapshot.late, 64);
}
