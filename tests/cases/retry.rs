//! RTY and BKO: what is sent again, and after which wait.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use evenkeel::{
    Backoff, Body, CallPolicy, DeadlineLayer, Jitter, Report, Retry, RetryLayer, RetryPolicy,
    call::Stop,
};
use futures::{FutureExt, StreamExt, stream};
use http::{Method, Request};
use http_body::Frame;
use http_body_util::StreamBody;
use tower::{Layer, ServiceBuilder, ServiceExt};

use crate::support::script::{Act, Script, answering, statuses};

const MS: Duration = Duration::from_millis(1);

fn plain() -> Retry {
    let backoff = Backoff::default()
        .initial(100 * MS)
        .max(800 * MS)
        .jitter(Jitter::None);
    Retry::default().backoff(backoff).without_budget()
}

fn policy() -> RetryPolicy {
    plain().build().unwrap()
}

fn request(method: Method) -> Request<Body> {
    Request::builder()
        .method(method)
        .uri("/x")
        .body(Body::empty())
        .unwrap()
}

async fn attempts(script: &Script, policy: RetryPolicy, call: Request<Body>) -> usize {
    let service = RetryLayer::new(policy).layer(script.clone());
    let _ = service.oneshot(call).await;
    script.seen().len()
}

#[tokio::test(start_paused = true)]
async fn methods_of_other_standards_are_unsafe_until_the_call_says_otherwise() {
    for name in ["PROPFIND", "PURGE", "CONNECT", "get", "LOCK"] {
        let method = Method::from_bytes(name.as_bytes()).unwrap();
        let script = statuses([503, 200]);
        assert_eq!(
            attempts(&script, policy(), request(method.clone())).await,
            1,
            "{name}"
        );
        let mut said = request(method);
        said.extensions_mut()
            .insert(CallPolicy::new().idempotent(true));
        let script = statuses([503, 200]);
        assert_eq!(attempts(&script, policy(), said).await, 2, "{name}");
    }
    for method in [Method::HEAD, Method::OPTIONS, Method::TRACE] {
        let script = statuses([503, 200]);
        assert_eq!(attempts(&script, policy(), request(method)).await, 2);
    }
}

/// A wish to come back later is none to send again what succeeded, moved or is wrong.
#[tokio::test(start_paused = true)]
async fn a_retry_after_alone_makes_no_answer_retryable() {
    for status in [200, 202, 204, 301, 302, 307, 400, 403, 404, 413, 422, 501] {
        let script = Script::by(move |_| answering(status).header("retry-after", "1"));
        assert_eq!(
            attempts(&script, policy(), request(Method::GET)).await,
            1,
            "{status}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_throttled_call_with_a_date_in_the_past_waits_its_own_backoff() {
    let past = httpdate(SystemTime::now() - Duration::from_secs(3600));
    let script = Script::by(move |attempt| match attempt {
        1 => answering(429).header("retry-after", &past),
        _ => answering(200),
    });
    assert_eq!(attempts(&script, policy(), request(Method::GET)).await, 2);
    assert_eq!(script.recorder().times(), [0, 100]);
}

/// Of two wishes in one head the longer one is kept, in whichever form it comes.
#[tokio::test(start_paused = true)]
async fn of_two_wishes_in_one_head_the_longer_is_waited_for() {
    let script = Script::by(|attempt| match attempt {
        1 => answering(503)
            .header("retry-after", "1")
            .header("retry-after", "3"),
        _ => answering(200),
    });
    assert_eq!(attempts(&script, policy(), request(Method::GET)).await, 2);
    let waited = script.recorder().times()[1];
    assert!((3_000..=3_750).contains(&waited), "{waited}");
}

fn httpdate(at: SystemTime) -> String {
    httpdate::fmt_http_date(at)
}

#[tokio::test(start_paused = true)]
async fn too_early_twice_is_the_answer_even_with_other_faults_in_between() {
    let script = statuses([425, 503, 425, 200]);
    let policy = plain().max_attempts(9).build().unwrap();
    assert_eq!(attempts(&script, policy, request(Method::GET)).await, 3);
}

#[tokio::test(start_paused = true)]
async fn a_keyed_post_that_conflicts_is_repeated_after_a_timeout_and_not_before() {
    use evenkeel::IdempotencyKeyLayer;
    for (first, sent) in [
        (answering(409), 1),
        (Act::fail(std::io::ErrorKind::ConnectionReset), 3),
    ] {
        let mut first = Some(first);
        let script = Script::by(move |attempt| match attempt {
            1 => first.take().unwrap(),
            2 => answering(409),
            _ => answering(201),
        });
        let service = ServiceBuilder::new()
            .layer(IdempotencyKeyLayer::default())
            .layer(RetryLayer::new(policy()))
            .service(script.clone());
        service.oneshot(request(Method::POST)).await.unwrap();
        assert_eq!(script.seen().len(), sent);
    }
}

#[tokio::test(start_paused = true)]
async fn a_retry_below_others_of_another_policy_changes_neither_number_nor_wait() {
    let inner = plain()
        .max_attempts(5)
        .backoff(Backoff::default().initial(MS).max(MS).jitter(Jitter::None))
        .build()
        .unwrap();
    let script = statuses([503]);
    let service = ServiceBuilder::new()
        .layer(RetryLayer::new(policy()))
        .layer(RetryLayer::new(inner.clone()))
        .layer(RetryLayer::new(inner))
        .service(script.clone());
    service.oneshot(request(Method::GET)).await.unwrap();
    assert_eq!(script.recorder().times(), [0, 100, 300]);
}

/// A streamed upload of which more was taken than the limit keeps is not sent again, whenever it failed.
#[tokio::test(start_paused = true)]
async fn a_large_upload_is_sent_again_only_if_it_failed_below_the_limit() {
    for (chunks, sent) in [(10_usize, 2), (11, 1)] {
        let policy = plain().replay_limit(10 * 1024).build().unwrap();
        let script = Script::by(|attempt| match attempt {
            1 => Act::fail(std::io::ErrorKind::ConnectionReset),
            _ => answering(200),
        });
        let frames =
            (0..chunks).map(|_| Ok::<_, std::io::Error>(Frame::data(Bytes::from(vec![7; 1024]))));
        let body = Body::stream(StreamBody::new(stream::iter(frames)));
        let call = Request::put("/x").body(body).unwrap();
        assert_eq!(attempts(&script, policy, call).await, sent, "{chunks}");
        let seen = script.seen();
        assert!(seen.iter().all(|sent| sent.body.len() == chunks * 1024));
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_of_no_bytes_is_sent_again_as_such() {
    let empty = stream::iter(Vec::<Result<Frame<Bytes>, std::io::Error>>::new());
    let zeroes = stream::iter([Ok::<_, std::io::Error>(Frame::data(Bytes::new()))]);
    for body in [
        Body::empty(),
        Body::from(""),
        Body::stream(StreamBody::new(empty)),
        Body::stream(StreamBody::new(zeroes)),
    ] {
        let script = statuses([503, 200]);
        let call = Request::put("/x").body(body).unwrap();
        assert_eq!(attempts(&script, policy(), call).await, 2);
        assert!(script.seen().iter().all(|sent| sent.body.is_empty()));
    }
}

/// A stream that has ended is not asked again: some panic when they are.
#[tokio::test(start_paused = true)]
async fn a_stream_that_panics_after_its_end_is_replayed_all_the_same() {
    let mut left = 2;
    let strict = stream::poll_fn(move |_| {
        assert!(left >= 0, "polled after its end");
        left -= 1;
        std::task::Poll::Ready(
            (left >= 0).then(|| Ok::<_, std::io::Error>(Frame::data(Bytes::from("ab")))),
        )
    });
    let script = statuses([503, 503, 200]);
    let call = Request::put("/x")
        .body(Body::stream(StreamBody::new(strict)))
        .unwrap();
    assert_eq!(attempts(&script, policy(), call).await, 3);
    assert!(script.seen().iter().all(|sent| sent.body == "abab"));
}

#[tokio::test(start_paused = true)]
async fn a_call_without_attempts_left_says_so_and_one_attempt_means_one() {
    let script = statuses([503]);
    let service = RetryLayer::new(plain().max_retries(0).build().unwrap()).layer(script.clone());
    let answer = service.oneshot(request(Method::GET)).await.unwrap();
    let report = answer.extensions().get::<Report>().unwrap();
    assert_eq!(
        report.stop(),
        Some(Stop::AttemptsExhausted { max_attempts: 1 })
    );
    assert_eq!(script.seen().len(), 1);
}

/// Dropped at any moment, a call leaves no attempt, no body and no token behind.
#[tokio::test(start_paused = true)]
async fn a_call_may_be_dropped_at_every_poll() {
    use crate::support::mock::{self, Mock, Readiness};
    use evenkeel::{Breaker, Budget, CircuitBreakerLayer};
    let budget = Budget::new(0.0, 0.0, 10).unwrap().starting_with(10);
    for cut in 0..12 {
        let mock = Mock::new([
            Act::status(503).after(10 * MS),
            Act::ok()
                .after(10 * MS)
                .body([mock::Step::pause(MS), mock::Step::data("x")]),
        ])
        .readiness(Readiness::Polls(1));
        let breaker = Breaker::count(9, Duration::from_secs(9)).unwrap();
        let retry = plain().budget(budget.clone()).build().unwrap();
        let service = ServiceBuilder::new()
            .layer(DeadlineLayer::new(Duration::from_secs(3)).unwrap())
            .layer(RetryLayer::new(retry))
            .layer(CircuitBreakerLayer::new(breaker.clone()))
            .service(mock.clone());
        let before = budget.balance(std::time::Instant::now());
        let mut call = Box::pin(service.oneshot(request(Method::GET)));
        for step in 0..cut {
            if call.as_mut().now_or_never().is_some() {
                break;
            }
            tokio::time::advance(if step % 2 == 0 { 10 * MS } else { 100 * MS }).await;
        }
        let sent = mock.calls();
        drop(call);
        assert_eq!(
            (mock.in_flight(), mock.reserved(), mock.bodies()),
            (0, 0, 0),
            "cut {cut}"
        );
        assert_eq!(mock.instances(), 1, "cut {cut}");
        let spent = before - budget.balance(std::time::Instant::now());
        assert!(
            (spent - f64::from(u32::from(sent > 1))).abs() < 1e-9,
            "cut {cut}: {spent}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_user_closure_that_panics_does_not_stop_later_calls() {
    use evenkeel::classify::Classifier;
    let times = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&times);
    let classifier = Classifier::default().response(move |_, _| {
        assert_ne!(counted.fetch_add(1, SeqCst), 0, "a panic of the user's");
        None
    });
    let script = statuses([503, 503, 200]);
    let service =
        RetryLayer::new(plain().classifier(classifier).build().unwrap()).layer(script.clone());
    let call = service.clone().oneshot(request(Method::GET));
    assert!(
        std::panic::AssertUnwindSafe(call)
            .catch_unwind()
            .await
            .is_err()
    );
    let answer = service.oneshot(request(Method::GET)).await.unwrap();
    assert_eq!((answer.status().as_u16(), times.load(SeqCst)), (200, 3));
}

#[tokio::test(start_paused = true)]
async fn waits_of_an_endless_backoff_end_with_the_deadline() {
    for endless in [Duration::MAX, Duration::from_secs(u64::MAX / 10)] {
        let backoff = Backoff::default().initial(endless).max(endless);
        let retry = Retry::default()
            .backoff(backoff)
            .max_pushback(endless)
            .build()
            .unwrap();
        let script = statuses([503]);
        let service = ServiceBuilder::new()
            .layer(DeadlineLayer::new(Duration::from_secs(3)).unwrap())
            .layer(RetryLayer::new(retry))
            .service(script.clone());
        let start = tokio::time::Instant::now();
        let answer = service.oneshot(request(Method::GET)).await.unwrap();
        assert_eq!(
            (answer.status().as_u16(), start.elapsed()),
            (503, Duration::ZERO)
        );
    }
}

/// At the cap a thousand clients are spread as before it, and none of them waits for nothing.
#[tokio::test(start_paused = true)]
async fn at_the_cap_waits_stay_spread() {
    for jitter in [
        Jitter::Full,
        Jitter::Equal,
        Jitter::Decorrelated,
        Jitter::Proportional,
    ] {
        let backoff = Backoff::default()
            .initial(100 * MS)
            .max(1_000 * MS)
            .jitter(jitter);
        let mut previous = Some(1_000 * MS);
        let waits: Vec<_> = (0..1_000_u32)
            .map(|draw| {
                let unit = f64::from(draw) / 1_000.0;
                let wait = backoff.delay(40, previous, unit);
                previous = Some(wait.max(900 * MS));
                wait
            })
            .collect();
        let (least, most) = (waits.iter().min().unwrap(), waits.iter().max().unwrap());
        assert!(!least.is_zero() && *most <= 1_000 * MS, "{jitter:?}");
        assert!(
            *most - *least >= 300 * MS,
            "{jitter:?}: {least:?} to {most:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn eight_concurrent_calls_of_one_service_keep_their_stories_apart() {
    let script = Script::by(|attempt| answering(if attempt <= 8 { 503 } else { 200 }));
    let service = RetryLayer::new(policy()).layer(script.clone());
    let calls = (0..8).map(|_| service.clone().oneshot(request(Method::GET)));
    let answers: Vec<_> = stream::iter(calls).buffer_unordered(8).collect().await;
    for answer in answers {
        let answer = answer.unwrap();
        let report = answer.extensions().get::<Report>().unwrap();
        assert_eq!(report.attempts().len(), 2, "{report}");
    }
}

#[test]
fn a_retry_is_built_cloned_and_dropped_in_a_plain_main() {
    fn shared<T: Clone + Send + Sync + 'static>(_: &T) {}
    fn sent<T: Send + 'static>(_: &T) {}
    let service = RetryLayer::new(policy()).layer(crate::support::mock::Mock::new([]));
    shared(&service);
    let call: Request<Body> = request(Method::GET);
    sent(&service.oneshot(call));
    sent(&evenkeel::retry::run(&policy(), |_| async {
        Ok::<_, String>(1)
    }));
}
