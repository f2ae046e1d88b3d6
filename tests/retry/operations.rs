//! A retry of any future.

use super::*;

#[tokio::test(start_paused = true)]
async fn any_operation_is_run_by_the_same_policy() {
    let policy = plain().build().expect("valid");
    let start = Instant::now();
    let mut numbers = Vec::new();
    let answer: Result<(), &str> = retry::run(&policy, |attempt| {
        numbers.push(attempt);
        async { Err("locked") }
    })
    .await;
    assert_eq!(answer, Err("locked"));
    assert_eq!(numbers, [1, 2, 3]);
    assert_eq!(start.elapsed(), Duration::from_millis(300));
}

#[tokio::test(start_paused = true)]
async fn an_operation_may_say_what_is_worth_a_repetition() {
    let policy = plain().build().expect("valid");
    let sends = AtomicUsize::new(0);
    let judged = |answer: fn() -> Result<u8, &'static str>| {
        sends.store(0, SeqCst);
        let run = retry::run(&policy, move |_| async move { answer() });
        run.classify(|outcome: &Result<u8, &str>| match outcome {
            Ok(0) => Verdict::FAILURE,
            Err("syntax") => Verdict::FAILURE.retryable(Retryable::Never),
            Err(_) => Verdict::FAILURE,
            Ok(_) => Verdict::SUCCESS,
        })
    };
    let start = Instant::now();
    assert_eq!(judged(|| Err("syntax")).await, Err("syntax"));
    assert_eq!(judged(|| Ok(1)).await, Ok(1));
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert_eq!(judged(|| Ok(0)).await, Ok(0));
    assert_eq!(start.elapsed(), Duration::from_millis(300));
}

#[tokio::test(start_paused = true)]
async fn an_operation_keeps_to_its_deadline_and_the_budget() {
    let policy: RetryPolicy = plain().build().expect("valid");
    let start = Instant::now();
    let deadline = Deadline::from_now(Duration::from_millis(150));
    let failed: Result<(), ()> = retry::run(&policy, |_| async { Err(()) })
        .deadline(deadline)
        .await;
    assert!(failed.is_err());
    assert_eq!(
        start.elapsed(),
        Duration::from_millis(100),
        "the second wait would pass it"
    );

    let budget = Budget::new(0.0, 0.0, 1).expect("valid");
    let policy = policy.with_budget(budget.starting_with(1));
    let attempts = AtomicUsize::new(0);
    let failed: Result<(), ()> = retry::run(&policy, |_| {
        attempts.fetch_add(1, SeqCst);
        async { Err(()) }
    })
    .await;
    assert!(failed.is_err());
    assert_eq!(attempts.load(SeqCst), 2);
}
