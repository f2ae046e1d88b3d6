//! TMO: every limit at its edges.

use std::{error::Error as StdError, io, time::Duration};

use evenkeel::{
    AttemptTimeoutLayer, CallPolicy, Deadline, DeadlineLayer, ErrorKind, Retry, RetryLayer,
};
use http::Request;
use http_body_util::{BodyExt, Empty};
use tokio::time::{Instant, advance, sleep};
use tower::{Layer, ServiceBuilder, ServiceExt};

use crate::support::mock::{Act, Mock, Readiness, Step, millis};

const SECOND: Duration = Duration::from_secs(1);

fn get() -> Request<Empty<bytes::Bytes>> {
    Request::get("/").body(Empty::new()).unwrap()
}

fn deadline(length: Duration) -> DeadlineLayer {
    DeadlineLayer::new(length).unwrap()
}

#[tokio::test(start_paused = true)]
async fn the_shortest_deadline_there_is_ends_a_call_within_a_tick() {
    let start = Instant::now();
    let service = deadline(Duration::from_nanos(1)).layer(Mock::new([Act::hang()]));
    let error = service.oneshot(get()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
    assert!(start.elapsed() <= millis(2), "{:?}", start.elapsed());
    let error = AttemptTimeoutLayer::new(Duration::from_nanos(1))
        .unwrap()
        .layer(Mock::new([Act::hang()]))
        .oneshot(get())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AttemptTimeout);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_limit_above_the_deadline_ends_with_the_deadline() {
    let start = Instant::now();
    let service = ServiceBuilder::new()
        .layer(deadline(SECOND))
        .layer(RetryLayer::new(Retry::default().build().unwrap()))
        .layer(AttemptTimeoutLayer::new(Duration::MAX).unwrap())
        .service(Mock::new([Act::hang()]));
    let error = service.oneshot(get()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
    assert_eq!(start.elapsed(), SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_placed_inside_a_retry_by_hand_is_one_for_all_attempts() {
    let start = Instant::now();
    let mock = Mock::new((0..9).map(|_| Act::status(503).after(millis(400))));
    let service = ServiceBuilder::new()
        .layer(RetryLayer::new(
            Retry::default()
                .max_attempts(9)
                .without_budget()
                .build()
                .unwrap(),
        ))
        .layer(deadline(SECOND))
        .service(mock.clone());
    let outcome = service.oneshot(get()).await;
    assert!(start.elapsed() <= SECOND, "{:?}", start.elapsed());
    assert!(
        (2..=3).contains(&mock.calls()),
        "{} {outcome:?}",
        mock.calls()
    );
}

#[tokio::test(start_paused = true)]
async fn a_body_that_trickles_is_ended_by_the_deadline_and_not_by_idleness() {
    let steps = (0..100).flat_map(|_| [Step::pause(millis(90)), Step::data("x")]);
    let mock = Mock::new([Act::ok().body(steps)]);
    let start = Instant::now();
    let layer = deadline(SECOND).body_idle(millis(100)).unwrap();
    let answer = layer.layer(mock.clone()).oneshot(get()).await.unwrap();
    let error = answer.into_body().collect().await.unwrap_err();
    let error = error.downcast_ref::<evenkeel::Error>().unwrap();
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
    assert_eq!(start.elapsed(), SECOND);
    assert_eq!(mock.bodies(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_slow_consumer_gets_the_end_and_no_more_data_after_the_deadline() {
    let mock = Mock::new([
        Act::ok().body([Step::data("a"), Step::data("b"), Step::data("c")]),
        Act::ok().body([Step::data("a"), Step::data("b")]),
    ]);
    let service = deadline(SECOND).layer(mock);
    let mut late = service.clone().oneshot(get()).await.unwrap().into_body();
    late.frame().await.unwrap().unwrap();
    advance(2 * SECOND).await;
    let error = late.frame().await.unwrap().unwrap_err();
    assert!(
        error
            .downcast_ref::<evenkeel::Error>()
            .unwrap()
            .is_timeout()
    );
    assert!(late.frame().await.is_none(), "an error is the end");
    let mut last = service.oneshot(get()).await.unwrap().into_body();
    last.frame().await.unwrap().unwrap();
    advance(2 * SECOND).await;
    assert_eq!(
        last.frame().await.unwrap().unwrap().into_data().unwrap(),
        "b"
    );
}

#[tokio::test(start_paused = true)]
async fn every_limit_takes_the_longest_durations_there_are() {
    for endless in [
        Duration::MAX,
        Duration::from_secs(u64::MAX),
        Duration::from_secs(u64::MAX / 10),
    ] {
        let mock = Mock::new([Act::ok()
            .after(3_600 * SECOND)
            .body([Step::pause(3_600 * SECOND), Step::data("x")])])
        .readiness(Readiness::After(SECOND));
        let service = ServiceBuilder::new()
            .layer(deadline(endless).body_idle(endless).unwrap())
            .layer(RetryLayer::new(Retry::default().build().unwrap()))
            .layer(AttemptTimeoutLayer::new(endless).unwrap())
            .service(mock);
        let mut call = get();
        call.extensions_mut().insert(
            CallPolicy::new()
                .deadline(endless)
                .attempt_timeout(endless)
                .body_idle(endless),
        );
        let answer = service.oneshot(call).await.unwrap();
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "x");
        assert_eq!(
            Deadline::from_now(endless).run(async { 1 }).await.unwrap(),
            1
        );
        let waits = Deadline::from_now(endless).run(sleep(SECOND));
        waits.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn timeouts_are_found_by_kind_by_question_and_by_the_io_error_below() {
    let hang = || Mock::new([Act::hang()]);
    let errors = [
        deadline(SECOND)
            .layer(hang())
            .oneshot(get())
            .await
            .unwrap_err(),
        AttemptTimeoutLayer::new(SECOND)
            .unwrap()
            .layer(hang())
            .oneshot(get())
            .await
            .unwrap_err(),
        Deadline::from_now(SECOND)
            .run(std::future::pending::<()>())
            .await
            .unwrap_err(),
    ];
    for error in errors {
        assert!(error.is_timeout());
        let io = error.source().unwrap().downcast_ref::<io::Error>().unwrap();
        assert_eq!(io.kind(), io::ErrorKind::TimedOut);
        let line = error.to_string();
        assert!(line.contains("may have happened"), "{line}");
    }
}

/// Whichever layer of ours sees the call first, what the call asks for holds.
#[tokio::test(start_paused = true)]
async fn the_deadline_of_a_call_holds_without_a_deadline_layer() {
    let start = Instant::now();
    let mut call = get();
    call.extensions_mut()
        .insert(CallPolicy::new().deadline(millis(200)));
    let error = AttemptTimeoutLayer::new(SECOND)
        .unwrap()
        .layer(Mock::new([Act::hang()]))
        .oneshot(call)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
    assert_eq!(start.elapsed(), millis(200));
    let mut call = get();
    call.extensions_mut()
        .insert(CallPolicy::new().deadline(millis(200)));
    let service = ServiceBuilder::new()
        .layer(evenkeel::IdempotencyKeyLayer::default())
        .layer(RetryLayer::new(Retry::default().build().unwrap()))
        .service(Mock::new([Act::hang()]));
    let error = service.oneshot(call).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
    assert_eq!(start.elapsed(), millis(400));
}

/// The call's limit goes to the request's whole way: a template that is sent again has all of its time.
#[tokio::test(start_paused = true)]
async fn a_request_kept_from_a_finished_call_takes_none_of_its_clocks_along() {
    use std::sync::{Arc, Mutex};
    type Sent = Request<Empty<bytes::Bytes>>;
    let kept: Arc<Mutex<Option<Sent>>> = Arc::default();
    let keep = Arc::clone(&kept);
    let below = tower::service_fn(move |call: Sent| {
        *keep.lock().unwrap() = Some(call);
        async { Ok::<_, io::Error>(http::Response::new(Empty::<bytes::Bytes>::new())) }
    });
    let first = ServiceBuilder::new()
        .layer(RetryLayer::new(Retry::default().build().unwrap()))
        .service(below);
    first.oneshot(get()).await.unwrap();
    advance(10 * SECOND).await;
    let again = kept.lock().unwrap().take().unwrap();
    let start = Instant::now();
    let second = AttemptTimeoutLayer::new(SECOND)
        .unwrap()
        .layer(deadline(5 * SECOND).layer(Mock::new([Act::ok().after(millis(500))])));
    let mut call = again;
    call.extensions_mut().insert(CallPolicy::new());
    second.oneshot(call).await.unwrap();
    assert_eq!(start.elapsed(), millis(500));
}

#[test]
fn limits_are_built_in_a_plain_main_and_serve_any_runtime() {
    let layer = deadline(SECOND);
    let service = layer.layer(Mock::new([Act::ok(), Act::ok()]));
    for _ in 0..2 {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        runtime.block_on(service.clone().oneshot(get())).unwrap();
    }
}
