//! Limits around and below a retry.

use super::*;

fn retry(attempts: u32) -> RetryLayer {
    let retry = Retry::default().max_attempts(attempts).without_budget();
    RetryLayer::new(retry.build().expect("valid settings"))
}

// TMO-02 (JustinBeckwith/retry-axios#138)
#[tokio::test(start_paused = true)]
async fn the_whole_call_ends_at_its_deadline_however_often_it_is_tried() {
    let hang = || (0..6).map(|_| Act::hang());
    let deadline = deadline(Duration::from_secs(12));
    let limit = attempt(Duration::from_secs(5));
    let (outside, inside) = (Mock::new(hang()), Mock::new(hang()));

    let start = Instant::now();
    let service = deadline.layer(retry(6).layer(limit.layer(outside.clone())));
    let error = service.oneshot(request()).await.map(drop).unwrap_err();
    assert_eq!(
        (start.elapsed(), error.kind()),
        (Duration::from_secs(12), ErrorKind::DeadlineExceeded)
    );
    assert_eq!((outside.calls(), error.report().attempts().len()), (3, 3));
    assert!(error.may_have_happened(), "{error}");

    // The wrong order does no harm: the deadline is still that of the whole call.
    let start = Instant::now();
    let service = retry(6).layer(deadline.layer(limit.layer(inside.clone())));
    let error = service.oneshot(request()).await.map(drop).unwrap_err();
    assert_eq!(
        (start.elapsed(), error.kind()),
        (Duration::from_secs(12), ErrorKind::DeadlineExceeded)
    );
    assert_eq!(inside.calls(), 3);
}

// TMO-03 (softonic/axios-retry#21)
#[tokio::test(start_paused = true)]
async fn the_last_attempt_gets_what_is_left_and_none_starts_with_nothing() {
    for first in [millis(60), millis(95), millis(99), millis(100)] {
        let start = Instant::now();
        let fail = Act::fail(io::ErrorKind::ConnectionReset).after(first);
        let mock = Mock::new([fail, Act::hang(), Act::hang()]);
        let layers = ServiceBuilder::new()
            .layer(deadline(millis(100)))
            .layer(retry(4));
        let service = layers.layer(attempt(millis(98))).service(mock.clone());
        let error = service.oneshot(request()).await.map(drop).unwrap_err();
        assert!(
            start.elapsed() <= millis(100),
            "{first:?}: {:?}",
            start.elapsed()
        );
        assert!(
            error.is_timeout() || start.elapsed() < millis(100),
            "{error}"
        );
        for seen in mock.seen() {
            assert!(seen.at < millis(100), "{first:?}: started at {:?}", seen.at);
        }
        assert_eq!((mock.in_flight(), mock.reserved()), (0, 0));
    }
}

// TMO-04 (hashicorp/go-retryablehttp#272, temporalio/temporal#4403)
#[tokio::test(start_paused = true)]
async fn a_retry_that_cannot_happen_is_not_waited_for() {
    let start = Instant::now();
    let mock = Mock::new([Act::status(503).header("retry-after", "10")]);
    let service = deadline(Duration::from_secs(5)).layer(retry(3).layer(mock.clone()));
    let response = service
        .oneshot(request())
        .await
        .expect("the last real outcome");
    assert_eq!(
        (start.elapsed(), response.status().as_u16()),
        (Duration::ZERO, 503)
    );
    let report = response.extensions().get::<Report>().expect("a report");
    assert!(
        report.stop().is_some(),
        "it says why there was no further attempt: {report}"
    );
    assert_eq!(mock.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_timed_out_is_tried_again_and_its_story_told() {
    let mock = Mock::new([Act::hang(), Act::ok().after(millis(5))]);
    let layers = ServiceBuilder::new()
        .layer(deadline(Duration::from_secs(9)))
        .layer(retry(3));
    let service = layers.layer(attempt(millis(50))).service(mock.clone());
    let response = service
        .oneshot(request())
        .await
        .expect("the second attempt");
    let report = response.extensions().get::<Report>().expect("a report");
    assert_eq!(report.attempts().len(), 2);
    assert!(
        report.may_have_happened(),
        "the first attempt may have: {report}"
    );
    assert_eq!((mock.calls(), mock.dropped()), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn what_a_passed_through_retry_waited_for_and_then_sent_may_have_happened() {
    let mock = Mock::new([Act::hang()]).readiness(Readiness::After(millis(5)));
    let service = deadline(millis(50)).layer(retry(3).layer(retry(3).layer(mock.clone())));
    let error = service.oneshot(request()).await.map(drop).unwrap_err();
    assert_eq!(
        (error.kind(), mock.calls()),
        (ErrorKind::DeadlineExceeded, 1)
    );
    assert!(error.may_have_happened(), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_passes_in_a_pause_ends_the_call_then() {
    let mock = Mock::new((0..9).map(|_| Act::status(503)));
    let policy = Retry::default().max_attempts(9).without_budget();
    let policy = policy.backoff(Backoff::default().initial(millis(400)).jitter(Jitter::None));
    let retry = RetryLayer::new(policy.build().expect("valid settings"));
    let start = Instant::now();
    let service = deadline(millis(500)).layer(retry.layer(mock.clone()));
    let response = service
        .oneshot(request())
        .await
        .expect("the last real outcome");
    assert_eq!((response.status().as_u16(), mock.calls()), (503, 2));
    assert_eq!(start.elapsed(), millis(400), "800 ms more would not fit");
}
