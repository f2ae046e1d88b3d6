//! A breaker around any future.

use super::*;

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
