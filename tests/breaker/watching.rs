//! Those who watch the breaker, and calls that it refuses.

use super::*;

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
