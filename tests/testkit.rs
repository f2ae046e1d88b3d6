//! The testkit does what its users rely on.
#![allow(clippy::unwrap_used, reason = "a step that fails, fails its test")]

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use evenkeel::{
    Body, DeadlineLayer, ErrorKind, IdempotencyKeys, Retry, RetryLayer,
    call::{Disposition, Stop},
    testkit::{
        Act, Ending, Fault, Readiness, Recorder, Scripted, ServiceTime, Step, Upstream, seeded,
        story,
    },
};
use futures::{FutureExt, future::join_all};
use http::Request;
use http_body_util::BodyExt;
use tokio::time::{Instant, advance, sleep};
use tower::{Layer, Service, ServiceBuilder, ServiceExt};

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn get() -> Request<Body> {
    Request::get("/").body(Body::empty()).unwrap()
}

fn post(body: &'static str) -> Request<Body> {
    Request::post("/charges").body(Body::from(body)).unwrap()
}

/// What an assertion said, if it failed.
fn complaint(assertion: impl FnOnce()) -> Option<String> {
    let panic = catch_unwind(AssertUnwindSafe(assertion)).err()?;
    Some(*panic.downcast::<String>().unwrap())
}

// ===== scripted services =====

#[tokio::test(start_paused = true)]
async fn a_script_is_followed_call_by_call() {
    let body = [
        Step::data("one"),
        Step::pause(millis(20)),
        Step::data("two"),
        Step::trailers([("x-sum", "2")]),
    ];
    let server = Scripted::new([
        Act::status(503).after(millis(5)).header("retry-after", "1"),
        Act::fail(io::ErrorKind::ConnectionReset),
        Act::ok().body(body),
    ]);
    let busy = server.clone().oneshot(get()).await.unwrap();
    assert_eq!(
        (busy.status().as_u16(), &busy.headers()["retry-after"]),
        (503, &"1".parse().unwrap())
    );
    let lost = server.clone().oneshot(get()).await.unwrap_err();
    assert_eq!(lost.kind(), io::ErrorKind::ConnectionReset);
    let start = Instant::now();
    let whole = server
        .clone()
        .oneshot(get())
        .await
        .unwrap()
        .into_body()
        .collect()
        .await
        .unwrap();
    assert_eq!(whole.trailers().unwrap()["x-sum"], "2");
    assert_eq!(
        (whole.to_bytes().as_ref(), start.elapsed()),
        (&b"onetwo"[..], millis(20))
    );
    assert_eq!(
        server.clone().oneshot(get()).await.unwrap().status(),
        200,
        "what comes after the last"
    );
    server.recorder().assert_attempts(4);
    server.recorder().assert_times([0, 5, 5, 25]);
}

#[tokio::test(start_paused = true)]
async fn what_a_scripted_service_was_sent_is_kept_with_how_it_ended() {
    let server = Scripted::new([Act::ok().after(millis(5)), Act::refuse(), Act::hang()]);
    server.clone().oneshot(post("1 EUR")).await.unwrap();
    server.clone().oneshot(post("2 EUR")).await.unwrap_err();
    assert!(
        server
            .clone()
            .oneshot(post("3 EUR"))
            .now_or_never()
            .is_none()
    );
    let seen = server.seen();
    let bodies = seen.iter().map(|seen| seen.body.as_ref());
    assert_eq!(
        bodies.collect::<Vec<_>>(),
        [&b"1 EUR"[..], b"", b"3 EUR"],
        "a refusal reads nothing"
    );
    let endings = seen.iter().map(|seen| seen.ended.unwrap().1);
    let ok = Ending::Head(http::StatusCode::OK);
    assert_eq!(
        endings.collect::<Vec<_>>(),
        [ok, Ending::Failed, Ending::Dropped]
    );
    assert_eq!(
        (server.in_flight(), server.dropped(), server.bodies()),
        (0, 1, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn a_scripted_limit_lets_one_call_in_after_the_other() {
    let server = Scripted::by(|_| Act::ok().after(millis(10))).readiness(Readiness::Slots(1));
    join_all((0..3).map(|_| server.clone().oneshot(get()))).await;
    assert_eq!(server.most_in_flight(), 1);
    server.recorder().assert_times([0, 10, 20]);
    let mut held = server.clone();
    Service::<Request<Body>>::poll_ready(
        &mut held,
        &mut std::task::Context::from_waker(std::task::Waker::noop()),
    )
    .is_ready()
    .then_some(())
    .unwrap();
    assert_eq!(server.reserved(), 1);
    let mut waits = Box::pin(server.clone().oneshot(get()));
    assert!(waits.as_mut().now_or_never().is_none());
    drop(held);
    assert!(waits.await.is_ok(), "who goes away makes place");
}

#[tokio::test(start_paused = true)]
async fn a_call_without_readiness_panics() {
    let mut server = Scripted::new([]);
    let call = catch_unwind(AssertUnwindSafe(|| drop(server.call(get()))));
    assert!(call.is_err());
    assert_eq!((server.unready_calls(), server.calls()), (1, 0));
}

// ===== assertions =====

#[tokio::test(start_paused = true)]
async fn assertions_on_attempts_hold_and_fail_with_the_attempts() {
    let attempts = Recorder::new();
    let server = Scripted::by(|_| Act::ok());
    let service = attempts.layer(server);
    for value in ["a", "b"] {
        let mut request = post(value);
        request
            .headers_mut()
            .insert("x-key", value.parse().unwrap());
        service.clone().oneshot(request).await.unwrap();
        advance(millis(30)).await;
    }
    attempts.assert_attempts(2);
    attempts.assert_times([0, 30]);
    attempts.assert_gaps(millis(30)..=millis(30));
    let complaints = [
        complaint(|| attempts.assert_attempts(3)),
        complaint(|| attempts.assert_times([0, 31])),
        complaint(|| attempts.assert_gaps(..millis(30))),
        complaint(|| attempts.assert_same_header("x-key")),
        complaint(|| attempts.assert_same_header("x-none")),
    ];
    for complaint in complaints {
        let complaint = complaint.expect("it holds");
        assert!(
            complaint.contains("expected") || complaint.contains("is not in"),
            "{complaint}"
        );
    }
    let told = complaint(|| attempts.assert_attempts(3)).unwrap();
    assert!(
        told.contains("#2 POST /charges at 30ms: Head(200) at 30ms"),
        "{told}"
    );
}

#[tokio::test(start_paused = true)]
async fn bodies_that_differ_are_found() {
    let server = Scripted::new([]);
    for body in ["a", "a"] {
        server.clone().oneshot(post(body)).await.unwrap();
    }
    server.recorder().assert_same_body();
    server.clone().oneshot(post("b")).await.unwrap();
    assert!(complaint(|| server.recorder().assert_same_body()).is_some());
}

#[tokio::test(start_paused = true)]
async fn assertions_on_the_story_of_a_call_hold_and_fail() {
    let retry = Retry::default().max_attempts(2).build().unwrap();
    let service = ServiceBuilder::new()
        .layer(DeadlineLayer::new(millis(500)).unwrap())
        .layer(RetryLayer::new(retry))
        .service(Scripted::new([
            Act::status(503),
            Act::fail(io::ErrorKind::ConnectionReset),
        ]));
    let answer = service.clone().oneshot(get()).await;
    let stop = Stop::AttemptsExhausted { max_attempts: 2 };
    story(&answer)
        .error(ErrorKind::Upstream)
        .attempts(["503", "failed without an answer"])
        .stopped(stop)
        .disposition(Disposition::Unknown)
        .took(..=millis(50));
    let complaints = [
        complaint(|| {
            story(&answer).status(503);
        }),
        complaint(|| {
            story(&answer).error(ErrorKind::NoEndpoints);
        }),
        complaint(|| {
            story(&answer).attempts(["503"]);
        }),
        complaint(|| {
            story(&answer).endpoints(["10.0.0.1:80", "10.0.0.2:80"]);
        }),
        complaint(|| {
            story(&answer).stopped(Stop::BudgetEmpty);
        }),
        complaint(|| {
            story(&answer).disposition(Disposition::NotSent);
        }),
        complaint(|| {
            story(&answer).took(millis(400)..);
        }),
    ];
    assert!(complaints.iter().all(Option::is_some), "{complaints:?}");
    let plain = service.oneshot(get()).await;
    story(&plain)
        .status(200)
        .attempts(["200"])
        .disposition(Disposition::Answered);
}

// ===== the upstream =====

#[tokio::test(start_paused = true)]
async fn workers_take_calls_in_the_order_of_their_coming() {
    let server = Upstream::new(2).service_time(ServiceTime::constant(millis(10)));
    let ended = |number: u64| {
        let server = server.clone();
        async move {
            sleep(millis(number)).await;
            server.oneshot(get()).await.unwrap();
            Instant::now()
        }
    };
    let start = Instant::now();
    let ends = join_all((0..5).map(ended)).await;
    let ends: Vec<_> = ends.iter().map(|end| (*end - start).as_millis()).collect();
    assert_eq!(ends, [10, 11, 20, 21, 30]);
    assert_eq!(
        (server.worked(), server.wasted(), server.waiting()),
        (5, 0, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_answers_503_and_the_way_takes_its_time() {
    let server = Upstream::new(1).queue(1).distance(millis(3));
    let start = Instant::now();
    let answers = join_all((0..3).map(|_| server.clone().oneshot(get()))).await;
    let statuses: Vec<_> = answers
        .iter()
        .map(|answer| answer.as_ref().unwrap().status().as_u16())
        .collect();
    assert_eq!(
        (statuses, start.elapsed()),
        (vec![200, 200, 503], millis(26))
    );
}

#[tokio::test(start_paused = true)]
async fn work_for_callers_who_left_is_wasted_unless_it_is_noticed() {
    for notices in [false, true] {
        let server = Upstream::new(1);
        let server = if notices {
            server.notices_cancelled_calls()
        } else {
            server
        };
        let left = tokio::time::timeout(millis(4), server.clone().oneshot(get())).await;
        assert!(left.is_err());
        let start = Instant::now();
        server.clone().oneshot(get()).await.unwrap();
        let (waited, wasted) = if notices { (10, 0) } else { (16, 1) };
        assert_eq!((start.elapsed(), server.wasted()), (millis(waited), wasted));
    }
}

#[tokio::test(start_paused = true)]
async fn faults_hold_for_their_time() {
    let server = Upstream::new(1)
        .fault(Fault::refuse(millis(10)..millis(20)))
        .fault(Fault::slow(millis(20)..millis(30), 3.0))
        .fault(Fault::freeze(millis(55)..millis(75)))
        .fault(Fault::fail(millis(100)..millis(110), 503, 1.0))
        .fault(Fault::reset(millis(110)..millis(120), 1.0))
        .fault(Fault::hang(millis(130)..millis(140)));
    let call = || server.clone().oneshot(get());
    let start = Instant::now();
    let at = |time| tokio::time::sleep_until(start + millis(time));
    assert!(call().await.is_ok());
    at(10).await;
    assert_eq!(
        call().await.unwrap_err().kind(),
        io::ErrorKind::ConnectionRefused
    );
    at(20).await;
    assert!(call().await.is_ok());
    assert_eq!(start.elapsed(), millis(50), "three times as long");
    assert!(call().await.is_ok());
    assert_eq!(start.elapsed(), millis(80), "20 ms of them frozen");
    at(100).await;
    assert_eq!(call().await.unwrap().status(), 503);
    at(110).await;
    assert_eq!(
        call().await.unwrap_err().kind(),
        io::ErrorKind::ConnectionReset
    );
    at(130).await;
    assert!(
        tokio::time::timeout(Duration::from_secs(9), call())
            .await
            .is_err()
    );
    assert!(call().await.is_ok());
}

/// One worker at 70 % load with exponential times waits as queueing theory says: mean time in the system 1 / (mu - lambda).
#[tokio::test(start_paused = true)]
async fn a_loaded_upstream_is_as_slow_as_theory_says() {
    let random = evenkeel::Random::seeded(3);
    let server = Upstream::new(1)
        .service_time(ServiceTime::exponential(millis(10)))
        .seed(4);
    let gap = ServiceTime::exponential(Duration::from_secs_f64(0.010 / 0.7));
    let mut calls = Vec::new();
    for _ in 0..20_000 {
        sleep(gap.draw(&random)).await;
        let call = server.clone().oneshot(get());
        calls.push(tokio::spawn(async move {
            let start = Instant::now();
            call.await.unwrap();
            start.elapsed().as_secs_f64()
        }));
    }
    let took = join_all(calls).await;
    let mean = took.into_iter().map(Result::unwrap).sum::<f64>() / 2e4;
    // Timers are exact to a millisecond, which adds half of one to each wait.
    assert!((0.030..0.038).contains(&mean), "mean {mean} s");
}

// ===== the seeded stack =====

/// The attempts of a hundred calls over three servers of which one is broken, as text.
async fn history(seed: u64) -> String {
    let recorder = Recorder::new();
    let (log, start) = (recorder.clone(), Instant::now());
    let stack = seeded(seed)
        .idempotency_keys(IdempotencyKeys::default())
        .build_over(move |endpoint| {
            let good = endpoint.address().ip().to_string() != "10.0.0.2";
            let act = move |_| match good {
                true => Act::ok().after(millis(5)),
                false => Act::status(503).after(millis(1)),
            };
            Ok(log.layer(Scripted::by(act)))
        })
        .unwrap();
    for number in 0..100 {
        let request = if number % 2 == 0 { get() } else { post("x") };
        let answer = stack.send(request).await;
        story(&answer).status(200);
    }
    let keys = recorder
        .seen()
        .into_iter()
        .map(|seen| seen.headers.get("idempotency-key").cloned());
    format!(
        "{recorder:?} {:?} {:?}",
        keys.collect::<Vec<_>>(),
        start.elapsed()
    )
}

#[tokio::test(start_paused = true)]
async fn one_seed_gives_one_history_and_another_seed_another_one() {
    let first = history(1).await;
    assert_eq!(history(1).await, first);
    assert_ne!(history(2).await, first);
}

#[tokio::test(start_paused = true)]
async fn the_seeded_stack_is_the_whole_of_a_client() {
    let server = Scripted::by(|_| Act::status(503));
    let instance = server.clone();
    let stack = seeded(1)
        .endpoints(["10.0.0.7:80"])
        .build_over(move |_| Ok(instance.clone()))
        .unwrap();
    for _ in 0..20 {
        let _ = stack.send(get()).await;
    }
    assert_eq!(
        stack.circuit_breaker().state(),
        evenkeel::breaker::State::Open
    );
    assert_eq!(stack.endpoints().len(), 1);
    assert!(stack.budget().is_some());
    let refused = stack.send(get()).await;
    assert!(matches!(
        refused.unwrap_err().kind(),
        ErrorKind::CircuitOpen { .. }
    ));
    let none = seeded(1)
        .deadline(Duration::ZERO)
        .build_over(move |_| Ok(server.clone()));
    assert!(none.unwrap_err().to_string().contains("deadline"));
}
