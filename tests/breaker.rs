//! The circuit breaker: its handle, and its layer over scripted services, under paused time.

mod support;

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use evenkeel::{
    AttemptTimeoutLayer, Body, BoxError, Breaker, BreakerConfig, CallPolicy, CircuitBreakerLayer,
    DeadlineLayer, Disposition, Endpoint, Error, ErrorKind, Fixed, Random, Retry, RetryLayer,
    balance::{Balancer, Ejection, Pick},
    breaker::{Cause, CircuitBreakerService, CloseWhen, State, Trial},
    call::Stop,
    classify::{Class, Classifier, Evidence, Verdict},
};
use futures::{FutureExt, StreamExt, future::join_all};
use http::{Request, Response};
use http_body_util::BodyExt;
use support::mock::{Act, Mock, Readiness, Script, Step, millis};
use tokio::time::{advance, sleep, timeout};
use tower::{Layer, Service, ServiceBuilder, ServiceExt};

const SECOND: Duration = Duration::from_secs(1);

type Answer = Result<Response<evenkeel::Guarded<Script, Trial>>, Error>;

fn built(config: BreakerConfig) -> Breaker {
    config.build().expect("settings in range")
}

fn on_first_failure() -> BreakerConfig {
    Breaker::builder().consecutive_failures(1)
}

/// A breaker of these settings before a service that does this.
fn before(config: BreakerConfig, mock: &Mock) -> (Breaker, CircuitBreakerService<Mock>) {
    let breaker = built(config);
    let service = CircuitBreakerLayer::new(breaker.clone()).layer(mock.clone());
    (breaker, service)
}

fn get() -> Request<String> {
    Request::new(String::new())
}

/// One call with its body read to the end.
async fn call(service: &CircuitBreakerService<Mock>) -> Result<u16, ErrorKind> {
    let response = service.clone().oneshot(get()).await;
    let response = response.map_err(|error| error.kind())?;
    let status = response.status().as_u16();
    let _ = response.into_body().collect().await;
    Ok(status)
}

/// Our layers are always ready.
async fn be_ready(
    service: &mut CircuitBreakerService<Mock>,
) -> Result<&mut CircuitBreakerService<Mock>, Error> {
    ServiceExt::<Request<String>>::ready(service).await
}

/// One call polled once.
fn begin(
    service: &CircuitBreakerService<Mock>,
) -> tokio_test::task::Spawn<impl Future<Output = Answer>> {
    let mut call = tokio_test::task::spawn(service.clone().oneshot(get()));
    assert!(call.poll().is_pending());
    call
}

fn is_open(result: &Result<u16, ErrorKind>) -> bool {
    matches!(result, Err(ErrorKind::CircuitOpen { .. }))
}

fn reset() -> Act {
    Act::fail(io::ErrorKind::ConnectionReset)
}

/// Runs on the breaker alone: fails so many times.
fn fail(breaker: &Breaker, times: usize) {
    for _ in 0..times {
        breaker.try_acquire().expect("closed").failure();
    }
}

fn succeed(breaker: &Breaker) {
    breaker.try_acquire().expect("let through").success();
}

// ===== the state machine =====

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

/// BRK-08, sony/gobreaker#119
#[tokio::test(start_paused = true)]
async fn a_watcher_may_call_every_method_of_the_breaker() {
    let breaker = built(on_first_failure());
    let mut watch = breaker.watch();
    let watcher = tokio::spawn({
        let breaker = breaker.clone();
        async move {
            let moved = watch.next().await.expect("it opened");
            let (state, snapshot) = (breaker.state(), breaker.snapshot());
            breaker.reset();
            (moved.to, state, snapshot.opened, watch.next().await)
        }
    });
    tokio::task::yield_now().await;
    fail(&breaker, 1);
    let (to, state, opened, next) = timeout(SECOND, watcher)
        .await
        .expect("no deadlock")
        .unwrap();
    assert_eq!((to, state, opened), (State::Open, State::Open, 1));
    let next = next.expect("the reset");
    assert_eq!(
        (next.from, next.to, next.cause),
        (State::Open, State::Closed, Cause::Manual)
    );
}

/// BRK-08: a waker that calls back into the breaker at once, as some executors poll in `wake`.
#[test]
fn a_waker_that_reads_the_breaker_does_not_deadlock() {
    struct Reads(Breaker, AtomicUsize);
    impl std::task::Wake for Reads {
        fn wake(self: Arc<Self>) {
            self.0.reset();
            let _ = (self.0.state(), self.0.snapshot(), self.0.watch());
            self.1.fetch_add(1, Ordering::Relaxed);
        }
    }
    let breaker = built(on_first_failure());
    let reads = Arc::new(Reads(breaker.clone(), AtomicUsize::new(0)));
    let waker = Arc::clone(&reads).into();
    let mut watch = breaker.watch();
    let polled = watch.poll_next_unpin(&mut std::task::Context::from_waker(&waker));
    assert!(polled.is_pending());
    fail(&breaker, 1);
    assert_eq!(reads.1.load(Ordering::Relaxed), 1);
    assert_eq!(breaker.state(), State::Closed);
}

/// A watcher sees each transition, in order, with its cause; the stream ends with the breaker.
#[tokio::test(start_paused = true)]
async fn a_watch_tells_every_transition_in_order() {
    let breaker = built(on_first_failure());
    let watch = breaker.watch();
    for _ in 0..40 {
        fail(&breaker, 1);
        advance(5 * SECOND).await;
        succeed(&breaker);
    }
    assert_eq!(watch.missed(), 0);
    drop(breaker);
    let moves = watch
        .map(|moved| (moved.from, moved.to, moved.cause))
        .collect::<Vec<_>>()
        .await;
    let round = [
        (State::Closed, State::Open, Cause::ConsecutiveFailures),
        (State::Open, State::HalfOpen, Cause::BreakOver),
        (State::HalfOpen, State::Closed, Cause::ProbeSucceeded),
    ];
    assert_eq!(moves, round.repeat(40));
}

/// BRK-08: threads that move it at once cannot make a watcher see the moves out of order.
#[test]
fn a_watch_keeps_the_order_of_moves_made_by_many_threads() {
    let breaker = built(on_first_failure().break_duration(millis(1)));
    let mut watch = breaker.watch();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..10 {
                    if let Ok(permit) = breaker.try_acquire() {
                        permit.failure();
                    }
                    breaker.reset();
                }
            });
        }
    });
    let mut state = State::Closed;
    while let Some(Some(moved)) = watch.next().now_or_never() {
        assert_eq!(moved.from, state);
        state = moved.to;
    }
    assert_eq!(watch.missed(), 0);
    assert_eq!(state, breaker.state());
}

/// BRK-09, joshrotenberg/tower-resilience#381
#[tokio::test(start_paused = true)]
async fn an_open_breaker_does_not_touch_the_service_below() {
    let mock = Mock::new([]).readiness(Readiness::Never);
    let (breaker, mut service) = before(on_first_failure(), &mock);
    breaker.force_open();
    let ready = be_ready(&mut service)
        .now_or_never()
        .expect("ready at once");
    let error = ready
        .expect("always ready")
        .call(get())
        .now_or_never()
        .expect("rejected at once");
    let error = error.expect_err("open");
    assert_eq!(error.kind(), ErrorKind::CircuitOpen { retry_in: None });
    assert_eq!(error.disposition(), Disposition::NotSent);
    assert_eq!(mock.ready_polls(), 0);
}

/// BRK-09: tripped instead of forced, and half-open with its probe under way.
#[tokio::test(start_paused = true)]
async fn a_rejected_call_polls_and_reserves_nothing_below() {
    let mock = Mock::new([Act::hang()]);
    let (breaker, mut service) = before(on_first_failure(), &mock);
    fail(&breaker, 1);
    for _ in 0..10 {
        let ready = be_ready(&mut service).await.expect("always ready");
        let error = ready.call(get()).await.expect_err("open");
        let retry_in = Some(5 * SECOND);
        assert_eq!(error.kind(), ErrorKind::CircuitOpen { retry_in });
    }
    assert_eq!(mock.ready_polls(), 0);
    advance(5 * SECOND).await;
    let _probe = begin(&service);
    let polls = mock.ready_polls();
    assert!(is_open(&call(&service).await));
    assert_eq!((mock.ready_polls(), mock.calls()), (polls, 1));
}

/// BRK-09: it opens between the readiness that was granted and the call.
#[tokio::test(start_paused = true)]
async fn a_reservation_below_is_given_up_when_the_call_is_refused() {
    let mock = Mock::new([]);
    let (breaker, mut service) = before(on_first_failure(), &mock);
    be_ready(&mut service).await.expect("always ready");
    assert_eq!(mock.reserved(), 1);
    fail(&breaker, 1);
    service.call(get()).await.expect_err("open");
    assert_eq!(mock.reserved(), 0);
}

/// BRK-10, fabfuel/circuitbreaker#31, exaring/hoglet#25: nothing but the monotonic clock is read, which this
/// moves while the wall clock stands still.
#[tokio::test(start_paused = true)]
async fn only_monotonic_time_ends_a_break() {
    let breaker = Breaker::count(5, 10 * SECOND).expect("in range");
    fail(&breaker, 5);
    advance(millis(29_999)).await;
    assert_eq!(breaker.state(), State::Open);
    assert!(breaker.try_acquire().is_err());
    advance(millis(1)).await;
    assert_eq!(breaker.state(), State::HalfOpen);
}

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

// ===== what counts =====

/// CLS-03, microsoft/agent-governance-toolkit#2202, MCKRUZ/microsoft-agentic-harness#353
#[tokio::test(start_paused = true)]
async fn callers_that_give_up_do_not_open_it() {
    let mock = Mock::new(std::iter::repeat_n(Act::ok().after(SECOND), 50));
    let (breaker, service) = before(on_first_failure(), &mock);
    for _ in 0..50 {
        assert!(timeout(millis(50), call(&service)).await.is_err());
    }
    let snapshot = breaker.snapshot();
    assert_eq!(
        (snapshot.state, snapshot.abandoned, snapshot.failed),
        (State::Closed, 50, 0)
    );
}

/// CLS-03: a caller in a hurry who says so by a deadline of his own.
#[tokio::test(start_paused = true)]
async fn a_short_deadline_of_one_call_does_not_blame_the_service() {
    let breaker = built(on_first_failure());
    let mock = Mock::new(std::iter::repeat_n(Act::ok().after(SECOND), 9));
    let stack = ServiceBuilder::new()
        .layer(DeadlineLayer::new(3 * SECOND).expect("above zero"))
        .layer(CircuitBreakerLayer::new(breaker.clone()))
        .layer(AttemptTimeoutLayer::default())
        .service(mock);
    for policy in [
        CallPolicy::new().deadline(millis(50)),
        CallPolicy::new().attempt_timeout(millis(50)),
    ] {
        let mut request = get();
        request.extensions_mut().insert(policy);
        let error = stack
            .clone()
            .oneshot(request)
            .await
            .expect_err("too slow for it");
        assert!(error.is_timeout());
        assert_eq!(breaker.state(), State::Closed, "{error}");
    }
    assert_eq!(breaker.snapshot().neutral, 2);
}

/// CLS-04: twice the usual time is enough, however short the deadline that the call brought.
#[tokio::test(start_paused = true)]
async fn a_deadline_of_one_call_counts_once_it_leaves_twice_the_usual_time() {
    for (given, failed) in [(19, 0), (20, 1)] {
        let breaker = built(on_first_failure());
        let usual = std::iter::repeat_n(Act::ok().after(millis(10)), 20);
        let stack = ServiceBuilder::new()
            .layer(DeadlineLayer::new(3 * SECOND).expect("above zero"))
            .layer(CircuitBreakerLayer::new(breaker.clone()))
            .service(Mock::new(usual.chain([Act::hang()])));
        for _ in 0..20 {
            stack.clone().oneshot(get()).await.expect("a response");
        }
        let mut request = get();
        request
            .extensions_mut()
            .insert(CallPolicy::new().deadline(millis(given)));
        stack.oneshot(request).await.expect_err("it hangs");
        let snapshot = breaker.snapshot();
        assert_eq!((snapshot.failed, snapshot.neutral), (failed, 1 - failed));
    }
}

/// CLS-04: the client's own deadline, above the breaker, drops the future: a timeout all the same.
#[tokio::test(start_paused = true)]
async fn a_hung_service_opens_it_where_only_a_deadline_above_ends_the_calls() {
    let breaker = built(Breaker::builder().consecutive_failures(3));
    let mock = Mock::new(std::iter::repeat_n(Act::hang(), 9));
    let stack = ServiceBuilder::new()
        .layer(DeadlineLayer::new(3 * SECOND).expect("above zero"))
        .layer(CircuitBreakerLayer::new(breaker.clone()))
        .service(mock);
    for _ in 0..3 {
        assert_eq!(breaker.state(), State::Closed);
        stack.clone().oneshot(get()).await.expect_err("it hangs");
    }
    assert_eq!(breaker.state(), State::Open);
    assert_eq!(breaker.snapshot().failed, 3);
}

/// CLS-04: a caller who waits longer than half of the client's deadline and then goes has seen it hang.
#[tokio::test(start_paused = true)]
async fn a_drop_counts_once_the_attempt_was_slow() {
    for (patience, failed) in [(1_499, 0), (1_500, 1)] {
        let breaker = built(on_first_failure());
        let mock = Mock::new([Act::hang()]);
        let stack = ServiceBuilder::new()
            .layer(DeadlineLayer::new(3 * SECOND).expect("above zero"))
            .layer(CircuitBreakerLayer::new(breaker.clone()))
            .service(mock);
        assert!(
            timeout(millis(patience), stack.oneshot(get()))
                .await
                .is_err()
        );
        let snapshot = breaker.snapshot();
        assert_eq!((snapshot.failed, snapshot.abandoned), (failed, 1 - failed));
    }
}

/// CLS-04, resilience4j/resilience4j#2013, #902
#[tokio::test(start_paused = true)]
async fn timeouts_of_attempts_below_open_it_whatever_hides_them_above() {
    let breaker = built(Breaker::builder().consecutive_failures(5));
    let mock = Mock::new(std::iter::repeat_n(Act::hang(), 20));
    let stack = ServiceBuilder::new()
        .layer(CircuitBreakerLayer::new(breaker.clone()))
        .layer(AttemptTimeoutLayer::new(SECOND).expect("above zero"))
        .service(mock.clone());
    let hide = |_| async { Ok::<_, Error>("fallback") };
    let hidden = ServiceExt::<Request<String>>::then(stack, hide);
    for _ in 0..20 {
        assert_eq!(hidden.clone().oneshot(get()).await.unwrap(), "fallback");
    }
    let snapshot = breaker.snapshot();
    assert_eq!((snapshot.failed, snapshot.rejected), (5, 15));
    assert_eq!((snapshot.opened, mock.calls()), (1, 5));
}

/// CLS-05, nodeshift/opossum#45
#[tokio::test(start_paused = true)]
async fn rejections_are_counted_as_rejections_alone() {
    let mock = Mock::new([reset()]);
    let config = Breaker::builder()
        .failure_rate_threshold(0.5)
        .min_requests(1);
    let (breaker, service) = before(config, &mock);
    let _ = call(&service).await;
    for _ in 0..1_000 {
        assert!(is_open(&call(&service).await));
    }
    advance(5 * SECOND).await;
    assert_eq!(call(&service).await, Ok(200));
    let snapshot = breaker.snapshot();
    assert_eq!(
        (snapshot.rejected, snapshot.failed, snapshot.neutral),
        (1_000, 1, 0)
    );
    assert_eq!((snapshot.window_results, snapshot.window_failures), (0, 0));
    assert_eq!(mock.calls(), 2);
}

/// CLS-06, resilience4j/resilience4j#568, #1568
#[tokio::test(start_paused = true)]
async fn client_faults_neither_open_it_nor_keep_it_half_open() {
    let faults = [400, 401, 404, 409, 422];
    let script = faults.into_iter().cycle().take(100).map(Act::status);
    let mock = Mock::new(script.chain([reset(), Act::status(404)]));
    let (breaker, service) = before(on_first_failure(), &mock);
    for _ in 0..100 {
        assert!(call(&service).await.is_ok());
    }
    assert_eq!(breaker.state(), State::Closed);
    let _ = call(&service).await;
    advance(5 * SECOND).await;
    assert_eq!(call(&service).await, Ok(404));
    assert_eq!(breaker.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn server_faults_and_broken_connections_count_and_throttling_counts_for_rates() {
    let rates = || {
        Breaker::builder()
            .failure_rate_threshold(1.0)
            .min_requests(1)
    };
    for (act, by_run, by_rate) in [
        (Act::status(500), State::Open, State::Open),
        (Act::status(503), State::Open, State::Open),
        (reset(), State::Open, State::Open),
        (
            Act::fail(io::ErrorKind::ConnectionRefused),
            State::Open,
            State::Open,
        ),
        (Act::status(429), State::Closed, State::Open),
        (Act::status(301), State::Closed, State::Closed),
    ] {
        for (config, state) in [(on_first_failure(), by_run), (rates(), by_rate)] {
            let (breaker, service) = before(config, &Mock::new([act.clone()]));
            let _ = call(&service).await;
            assert_eq!(breaker.state(), state);
        }
    }
}

/// CLS-06: one documented rule for a throttled probe: a service that still throttles has not recovered.
#[tokio::test(start_paused = true)]
async fn a_throttled_probe_opens_it_again() {
    let (breaker, service) = before(on_first_failure(), &Mock::new([reset(), Act::status(429)]));
    let _ = call(&service).await;
    advance(5 * SECOND).await;
    let _ = call(&service).await;
    assert_eq!(breaker.state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn a_classifier_of_the_users_own_is_asked() {
    let breaker = built(on_first_failure());
    let classifier = Classifier::default()
        .response(|status, _| (status == 404).then_some(Verdict::FAILURE))
        .evidence(|error| error.is::<io::Error>().then_some(Evidence::Unsendable));
    let service = CircuitBreakerLayer::new(breaker.clone())
        .classifier(classifier)
        .layer(Mock::new([reset(), Act::status(404)]));
    assert!(service.clone().oneshot(get()).await.is_err());
    assert_eq!(breaker.state(), State::Closed, "nobody's fault, it says");
    service.oneshot(get()).await.expect("a response");
    assert_eq!(breaker.state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn pushback_lengthens_the_break_to_a_minute_at_most() {
    for (asked, seconds) in [("2", 5), ("20", 20), ("3600", 60)] {
        let busy = Act::status(503).header("retry-after", asked);
        let (breaker, service) = before(on_first_failure(), &Mock::new([busy]));
        let _ = call(&service).await;
        assert_eq!(breaker.snapshot().next_probe_in, Some(seconds * SECOND));
    }
}

/// CLS-05: an open breaker is not retried against.
#[tokio::test(start_paused = true)]
async fn a_retry_above_does_not_try_again_against_an_open_breaker() {
    let (breaker, mock) = (built(on_first_failure()), Mock::new([reset()]));
    let retry = Retry::default().max_attempts(3);
    let stack = ServiceBuilder::new()
        .layer(RetryLayer::new(retry.build().expect("in range")))
        .layer(CircuitBreakerLayer::new(breaker.clone()))
        .service(mock.clone());
    let request = || Request::new(Body::empty());
    let error = stack
        .clone()
        .oneshot(request())
        .await
        .expect_err("reset, then open");
    assert!(
        matches!(error.kind(), ErrorKind::CircuitOpen { .. }),
        "{error}"
    );
    assert_eq!((mock.calls(), breaker.snapshot().rejected), (1, 1));
    assert!(error.may_have_happened(), "the first attempt may have");
    let error = stack.oneshot(request()).await.expect_err("open");
    assert_eq!(error.report().stop(), Some(Stop::CircuitOpen));
    assert_eq!((mock.calls(), breaker.snapshot().rejected), (1, 2));
    assert_eq!(error.disposition(), Disposition::NotSent);
}

/// CLS-04: the default attempt limit, half of the client's deadline, is the client's; half of a shorter one that
/// a call brought is not. The second attempt has less than half of the deadline left and is excused.
#[tokio::test(start_paused = true)]
async fn limits_that_retry_decides_count_unless_the_call_was_in_a_hurry() {
    for (given, failed, neutral) in [(None, 1, 1), (Some(millis(300)), 0, 2)] {
        let config = Breaker::builder().consecutive_failures(9);
        let breaker = built(config);
        let stack = ServiceBuilder::new()
            .layer(DeadlineLayer::new(3 * SECOND).expect("above zero"))
            .layer(RetryLayer::new(
                Retry::default().max_attempts(2).build().expect("in range"),
            ))
            .layer(CircuitBreakerLayer::new(breaker.clone()))
            .layer(AttemptTimeoutLayer::default())
            .service(Mock::new([Act::hang(), Act::hang()]));
        let mut request = Request::new(Body::empty());
        if let Some(given) = given {
            request
                .extensions_mut()
                .insert(CallPolicy::new().deadline(given));
        }
        assert!(
            stack
                .oneshot(request)
                .await
                .expect_err("it hangs")
                .is_timeout()
        );
        let snapshot = breaker.snapshot();
        assert_eq!((snapshot.failed, snapshot.neutral), (failed, neutral));
    }
}

// ===== the body =====

async fn answer(
    service: &CircuitBreakerService<Mock>,
) -> Response<evenkeel::Guarded<Script, Trial>> {
    service.clone().oneshot(get()).await.expect("a head")
}

/// A good head and a body of these steps.
fn body(steps: impl IntoIterator<Item = Step>) -> Act {
    Act::ok().body(steps)
}

#[tokio::test(start_paused = true)]
async fn a_body_that_breaks_off_makes_a_failure_of_a_good_head() {
    let mock = Mock::new([body([
        Step::data("a"),
        Step::fail(io::ErrorKind::ConnectionReset),
    ])]);
    let (breaker, service) = before(on_first_failure(), &mock);
    let response = answer(&service).await;
    assert_eq!(breaker.state(), State::Closed);
    let error = response
        .into_body()
        .collect()
        .await
        .expect_err("it breaks off");
    assert!(error.is::<io::Error>(), "the error is not hidden");
    assert_eq!(breaker.state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn a_bad_head_settles_before_its_body() {
    let mock = Mock::new([Act::status(500).body([Step::stall()])]);
    let (breaker, service) = before(on_first_failure(), &mock);
    let _body = answer(&service).await;
    assert_eq!(breaker.state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn a_probe_is_decided_by_the_end_of_its_body() {
    for (last, state) in [
        (Step::data("b"), State::Closed),
        (Step::fail(io::ErrorKind::ConnectionReset), State::Open),
    ] {
        let mock = Mock::new([
            reset(),
            body([Step::data("a"), Step::pause(millis(500)), last]),
        ]);
        let (breaker, service) = before(on_first_failure(), &mock);
        let _ = call(&service).await;
        advance(5 * SECOND).await;
        let response = answer(&service).await;
        assert_eq!(breaker.state(), State::HalfOpen);
        assert!(breaker.try_acquire().is_err(), "its slot is taken");
        let _ = response.into_body().collect().await;
        assert_eq!(breaker.state(), state);
    }
}

#[tokio::test(start_paused = true)]
async fn a_good_head_stands_when_its_body_is_dropped_or_empty() {
    for steps in [vec![Step::stall()], vec![]] {
        let (breaker, service) = before(on_first_failure(), &Mock::new([reset(), body(steps)]));
        let _ = call(&service).await;
        advance(5 * SECOND).await;
        drop(answer(&service).await);
        assert_eq!(breaker.state(), State::Closed);
    }
}

#[tokio::test(start_paused = true)]
async fn a_long_stream_closes_it_after_a_second_and_may_still_fail() {
    let steps = [
        Step::data("a"),
        Step::pause(millis(1_001)),
        Step::data("b"),
        Step::pause(SECOND),
        Step::fail(io::ErrorKind::ConnectionReset),
    ];
    let mock = Mock::new([reset(), body(steps.clone()), body(steps)]);
    let (breaker, service) = before(on_first_failure(), &mock);
    let _ = call(&service).await;
    advance(5 * SECOND).await;
    let mut stream = answer(&service).await.into_body();
    let _ = stream.frame().await;
    assert_eq!(breaker.state(), State::HalfOpen);
    let _ = stream.frame().await;
    assert_eq!(
        breaker.state(),
        State::Closed,
        "it has been read for over a second"
    );
    let _ = stream.frame().await;
    assert_eq!(
        breaker.state(),
        State::Closed,
        "what the probe says now is late"
    );

    let mut stream = answer(&service).await.into_body();
    let _ = (stream.frame().await, stream.frame().await);
    assert_eq!(breaker.state(), State::Closed);
    let _ = stream.frame().await;
    assert_eq!(
        breaker.state(),
        State::Open,
        "one failure more of the same period"
    );
}

#[tokio::test(start_paused = true)]
async fn a_slow_head_is_slow_and_a_long_body_is_not() {
    let config = || {
        Breaker::builder()
            .slow_call_rate_threshold(1.0)
            .slow_call_duration(SECOND)
            .min_requests(1)
    };
    for (act, state) in [
        (Act::ok().after(SECOND), State::Open),
        (
            body([Step::pause(9 * SECOND), Step::data("a")]),
            State::Closed,
        ),
    ] {
        let (breaker, service) = before(config(), &Mock::new([act]));
        let _ = call(&service).await;
        assert_eq!(breaker.state(), state);
    }
}

// ===== the service contract =====

/// TWR-01, tower-rs/tower#547, joshrotenberg/tower-resilience#286, tower-rs/tower-http#561: the mock panics
/// otherwise.
#[tokio::test(start_paused = true)]
async fn the_instance_that_was_polled_ready_is_the_one_that_is_called() {
    let mock = Mock::new([reset()]).readiness(Readiness::After(millis(10)));
    let (breaker, mut service) = before(on_first_failure(), &mock);
    let instances = mock.instances();
    let ready = be_ready(&mut service).await.expect("always ready");
    sleep(millis(10)).await;
    let ready = be_ready(ready).await.expect("always ready");
    assert_eq!(mock.reserved(), 1);
    let _ = ready.call(get()).await;
    assert_eq!(mock.instances(), instances, "no clone was called");
    assert_eq!(breaker.state(), State::Open);
    advance(5 * SECOND).await;
    let probe = service.call(get()).await;
    assert!(probe.is_ok(), "a probe makes its instance ready inside");
}

/// TWR-05, linkerd/linkerd2-proxy#506
#[tokio::test(start_paused = true)]
async fn the_service_below_is_called_only_once_it_is_ready() {
    let mock = Mock::new([]).readiness(Readiness::Polls(2));
    let (_breaker, service) = before(on_first_failure(), &mock);
    assert_eq!(call(&service).await, Ok(200));
    assert_eq!(mock.ready_polls(), 3);
}

#[tokio::test(start_paused = true)]
async fn an_error_of_readiness_comes_out_of_the_call_and_counts() {
    let mock = Mock::new([]).readiness(Readiness::Fail(io::ErrorKind::ConnectionRefused));
    let (breaker, mut service) = before(on_first_failure(), &mock);
    let ready = be_ready(&mut service).await.expect("always ready");
    let error = ready.call(get()).await.expect_err("the inner error");
    assert_eq!(error.disposition(), Disposition::NotSent);
    assert_eq!(breaker.state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn a_bad_policy_is_refused_and_blames_nobody() {
    let mock = Mock::new([]);
    let (breaker, service) = before(on_first_failure(), &mock);
    fail(&breaker, 1);
    advance(5 * SECOND).await;
    let mut request = get();
    request
        .extensions_mut()
        .insert(CallPolicy::new().max_attempts(0));
    let error = service
        .clone()
        .oneshot(request)
        .await
        .expect_err("zero attempts");
    assert_eq!((error.kind(), mock.calls()), (ErrorKind::InvalidCall, 0));
    assert_eq!(call(&service).await, Ok(200), "the probe's slot is free");
}

// ===== around any future =====

#[tokio::test(start_paused = true)]
async fn any_future_runs_under_a_breaker() {
    let breaker = built(Breaker::builder().consecutive_failures(2));
    assert_eq!(
        breaker.run(async { Ok::<_, io::Error>(7) }).await.unwrap(),
        7
    );
    for _ in 0..2 {
        let broken = async { Err::<(), _>(io::Error::from(io::ErrorKind::BrokenPipe)) };
        let error = breaker.run(broken).await.expect_err("it failed");
        assert_eq!(error.kind(), ErrorKind::Upstream);
    }
    let ran = Arc::new(AtomicUsize::new(0));
    let counted = async {
        ran.fetch_add(1, Ordering::Relaxed);
        Ok::<_, BoxError>(())
    };
    let error = breaker.run(counted).await.expect_err("open");
    assert!(matches!(error.kind(), ErrorKind::CircuitOpen { .. }));
    assert!(!error.may_have_happened());
    assert_eq!(ran.load(Ordering::Relaxed), 0, "it was not even started");
}

#[tokio::test(start_paused = true)]
async fn a_future_dropped_under_a_breaker_is_abandoned() {
    let breaker = built(on_first_failure());
    let hung = breaker.run(std::future::pending::<Result<(), BoxError>>());
    assert!(timeout(SECOND, hung).await.is_err());
    drop(breaker.run(async { Ok::<_, BoxError>(()) }));
    let snapshot = breaker.snapshot();
    assert_eq!((snapshot.state, snapshot.abandoned), (State::Closed, 1));
}

#[tokio::test(start_paused = true)]
async fn the_result_of_a_future_means_what_its_classifier_says() {
    let breaker = built(on_first_failure());
    let absent = |result: &Result<u8, &'static str>| match result {
        Err("no such row") => Class::Success,
        Ok(0) | Err(_) => Class::Failure,
        Ok(_) => Class::Success,
    };
    let missing = breaker.run_with(async { Err("no such row") }, absent).await;
    assert_eq!(missing.expect_err("passed on").kind(), ErrorKind::Upstream);
    assert_eq!(breaker.state(), State::Closed);
    assert_eq!(breaker.run_with(async { Ok(0) }, absent).await.unwrap(), 0);
    assert_eq!(breaker.state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn a_future_under_a_breaker_can_be_spawned() {
    let breaker = built(on_first_failure());
    let spawned = tokio::spawn(breaker.run(async { Ok::<_, BoxError>(1) }));
    assert_eq!(spawned.await.unwrap().unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn slow_permits_are_timed_where_a_rule_asks_for_it() {
    let config = Breaker::builder()
        .slow_call_rate_threshold(1.0)
        .slow_call_duration(SECOND);
    let breaker = built(config.min_requests(1));
    let permit = breaker.try_acquire().expect("closed");
    advance(SECOND).await;
    permit.success();
    assert_eq!(breaker.state(), State::Open);
}

// ===== by hand, and presets =====

#[tokio::test(start_paused = true)]
async fn forced_states_hold_until_they_are_taken_back() {
    let breaker = built(on_first_failure());
    breaker.force_open();
    advance(86_400 * SECOND).await;
    assert_eq!(breaker.state(), State::Open);
    assert!(breaker.snapshot().forced);
    breaker.force_closed();
    fail(&breaker, 100);
    assert_eq!(breaker.state(), State::Closed);
    breaker.reset();
    assert!(!breaker.snapshot().forced);
    fail(&breaker, 1);
    assert_eq!(breaker.state(), State::Open);
    assert_eq!(breaker.opened(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_textbook_breaker_opens_at_five_in_ten_seconds_for_thirty() {
    let breaker = Breaker::count(5, 10 * SECOND).expect("in range");
    for _ in 0..4 {
        fail(&breaker, 1);
        succeed(&breaker);
        advance(millis(2_499)).await;
    }
    assert_eq!(breaker.state(), State::Closed);
    fail(&breaker, 1);
    assert_eq!(breaker.state(), State::Open);
    advance(30 * SECOND).await;
    let probe = breaker.try_acquire().expect("a probe");
    assert!(breaker.try_acquire().is_err());
    probe.success();
    assert_eq!(breaker.state(), State::Closed);
}

/// Random errors of a service that works must not make an outage.
#[tokio::test(start_paused = true)]
async fn the_clients_default_stays_closed_at_twenty_percent_errors() {
    let breaker = built(BreakerConfig::service_default());
    let random = Random::seeded(11);
    for _ in 0..20_000 {
        let permit = breaker.try_acquire().expect("closed");
        if random.unit() < 0.2 {
            permit.failure()
        } else {
            permit.success()
        }
        advance(millis(10)).await;
    }
    assert_eq!(breaker.opened(), 0);
}

#[tokio::test(start_paused = true)]
async fn breaks_of_the_clients_default_are_spread_between_half_a_second_and_one() {
    let config = BreakerConfig::service_default().random(Random::seeded(3));
    let breaker = built(config);
    let mut breaks = Vec::new();
    for _ in 0..50 {
        fail(&breaker, 5);
        breaks.push(breaker.snapshot().next_probe_in.expect("open"));
        breaker.reset();
    }
    assert!(
        breaks
            .iter()
            .all(|length| (millis(500)..=SECOND).contains(length))
    );
    let spread = *breaks.iter().max().unwrap() - *breaks.iter().min().unwrap();
    assert!(spread > millis(400), "{spread:?}");
}

/// One seed makes it deterministic.
#[tokio::test(start_paused = true)]
async fn breakers_of_one_seed_break_equally_long() {
    let lengths = || {
        let breaker = built(BreakerConfig::service_default().random(Random::seeded(5)));
        fail(&breaker, 5);
        breaker.snapshot().next_probe_in
    };
    assert_eq!(lengths(), lengths());
}

// ===== above a balancer =====

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

// ===== runtimes and clocks =====

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
