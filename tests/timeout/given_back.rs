//! What is given back, how often anything is woken, and a deadline of any future.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_dropped_call_gives_everything_back() {
    let mock = Mock::new([Act::hang(), Act::hang(), Act::ok().body([Step::stall()])]);
    let service = ServiceBuilder::new()
        .layer(deadline(millis(50)))
        .layer(attempt(millis(20)))
        .service(mock.clone());
    let mut before = tokio_test::task::spawn(service.clone().oneshot(get()));
    drop(tokio_test::task::spawn(service.clone().oneshot(get())));
    assert!(before.poll().is_pending());
    assert_eq!(mock.in_flight(), 1);
    drop(before);
    assert_eq!((mock.in_flight(), mock.dropped()), (0, 1));

    let mut timed = tokio_test::task::spawn(service.clone().oneshot(get()));
    assert!(timed.poll().is_pending());
    drop(timed);
    let response = service.clone().oneshot(get()).await.expect("a head");
    assert_eq!(mock.bodies(), 1);
    drop((response, service));
    assert_eq!(
        (
            mock.bodies(),
            mock.in_flight(),
            mock.reserved(),
            mock.instances()
        ),
        (0, 0, 0, 1)
    );
}

#[tokio::test(start_paused = true)]
async fn a_waiting_call_is_polled_a_handful_of_times() {
    let mock = Mock::new([Act::hang(), Act::ok().after(millis(9_000))]);
    let service = deadline(millis(10_000)).layer(attempt(millis(8_000)).layer(mock.clone()));
    let (answer, polls) = Counted::new(service.clone().oneshot(get())).await;
    assert!(answer.is_err());
    assert!(polls <= 3, "{polls} polls");

    let body = [Step::pause(millis(5_000)), Step::data("a")];
    let mock = Mock::new([Act::ok().body(body)]);
    let limits = deadline(millis(10_000))
        .body_idle(millis(6_000))
        .expect("above zero");
    let body = limits
        .layer(mock)
        .oneshot(get())
        .await
        .expect("a head")
        .into_body();
    let (body, polls) = Counted::new(body.collect()).await;
    assert!(body.is_ok());
    assert!(polls <= 3, "{polls} polls");
}

// TWR-02, TWR-03 (joshrotenberg/tower-resilience#365), TWR-04 (ZcashFoundation/zebra#1593)
#[tokio::test(start_paused = true)]
async fn a_limiter_below_admits_one_at_a_time_and_waiting_costs_a_handful_of_polls() {
    let mock = Mock::new((0..3).map(|_| Act::ok().after(millis(10_000))));
    let service = ServiceBuilder::new()
        .layer(deadline(millis(60_000)))
        .layer(IdempotencyKeyLayer::default())
        .layer(attempt(millis(50_000)))
        .concurrency_limit(1)
        .service(mock.clone());
    let (mut first, mut second) = (service.clone(), service.clone());
    be_ready(&mut first).await;
    be_ready(&mut second).await;
    let start = Instant::now();
    let calls = (
        Counted::new(first.call(get())),
        Counted::new(second.call(get())),
    );
    let ((one, _), (two, polls)) = tokio::join!(calls.0, calls.1);
    assert!(one.is_ok() && two.is_ok());
    assert_eq!(start.elapsed(), millis(20_000), "one after the other");
    assert!(polls <= 5, "{polls} polls");

    // A handle that was polled ready and never called gives its slot back when it is dropped.
    let mut idle = service.clone();
    be_ready(&mut idle).await;
    drop(idle);
    assert!(service.oneshot(get()).await.is_ok());
}

// RUN-02 (tower-rs/tower#139, tokio-rs/tokio#1713)
#[test]
fn layers_and_services_are_built_and_dropped_outside_a_runtime() {
    let mock = Mock::new([]);
    let service = deadline(millis(50)).layer(attempt(millis(20)).layer(mock.clone()));
    drop(service.clone());
    drop(service);
    assert_eq!(mock.instances(), 1);
}

#[test]
fn eight_threads_share_a_service_and_nothing_is_left_over() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(8)
        .enable_time()
        .build();
    runtime.expect("a runtime").block_on(async {
        let acts = (0..400).map(|n| if n % 2 == 0 { Act::hang() } else { Act::ok() });
        let mock = Mock::new(acts);
        let service =
            deadline(Duration::from_secs(20)).layer(attempt(millis(30)).layer(mock.clone()));
        let calls = (0..400).map(|_| tokio::spawn(service.clone().oneshot(get())));
        let mut counts = (0, 0);
        for call in calls.collect::<Vec<_>>() {
            match call.await.expect("no panic") {
                Ok(_) => counts.0 += 1,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::AttemptTimeout);
                    counts.1 += 1;
                }
            }
        }
        assert_eq!(counts, (200, 200));
        drop(service);
        assert_eq!(
            (mock.in_flight(), mock.reserved(), mock.instances()),
            (0, 0, 1)
        );
    });
}

#[tokio::test(start_paused = true)]
async fn an_error_of_this_crate_passes_through_both_layers_unwrapped() {
    let innermost = attempt(millis(10)).layer(Mock::new([Act::hang()]));
    let service = deadline(millis(500)).layer(attempt(millis(100)).layer(innermost));
    let error = service.oneshot(get()).await.map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AttemptTimeout);
    assert!(
        error
            .source()
            .is_some_and(|source| source.is::<io::Error>())
    );
}

#[tokio::test(start_paused = true)]
async fn a_foreign_error_stays_reachable() {
    let mock = Mock::new([Act::fail(io::ErrorKind::BrokenPipe)]);
    let service = deadline(millis(500)).layer(attempt(millis(100)).layer(mock));
    let error = service.oneshot(get()).await.map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Upstream);
    let source = error
        .source()
        .and_then(|source| source.downcast_ref::<io::Error>());
    assert_eq!(source.map(io::Error::kind), Some(io::ErrorKind::BrokenPipe));
}

#[tokio::test(start_paused = true)]
async fn a_request_sent_again_gets_its_whole_time_again() {
    let service = deadline(millis(50)).layer(Mock::new([Act::hang(), Act::hang()]));
    let template = with(CallPolicy::new().deadline(millis(30)));
    for _ in 0..2 {
        let start = Instant::now();
        let answer = service.clone().oneshot(template.clone()).await;
        assert!(answer.is_err());
        assert_eq!(start.elapsed(), millis(30));
    }
}

#[tokio::test(start_paused = true)]
async fn a_future_is_cut_at_the_deadline_and_dropped() {
    let start = Instant::now();
    let held = Arc::new(());
    let inner = Arc::clone(&held);
    let run = Deadline::from_now(millis(40)).run(async move {
        sleep(millis(500)).await;
        drop(inner);
    });
    let mut run = tokio_test::task::spawn(run);
    assert!(run.poll().is_pending());
    advance(millis(41)).await;
    let std::task::Poll::Ready(Err(error)) = run.poll() else {
        panic!("still pending")
    };
    assert_eq!(
        Arc::strong_count(&held),
        1,
        "the future is gone before its error is seen"
    );
    assert!(start.elapsed() >= millis(40));
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
    assert!(error.may_have_happened() && timeout_in_chain(&error));
}

#[tokio::test(start_paused = true)]
async fn a_future_is_not_begun_after_its_deadline() {
    let deadline = Deadline::from_now(millis(10));
    sleep(millis(10)).await;
    let error = deadline
        .run(async { panic!("begun") })
        .await
        .map(drop)
        .unwrap_err();
    assert_eq!(error.disposition(), Disposition::NotSent);
}

/// Both services are what an application's state needs.
#[test]
fn services_and_futures_are_send_and_services_are_sync() {
    fn shared<T: Clone + Send + Sync + 'static>(_: &T) {}
    fn sent<T: Send + 'static>(_: T) {}
    let mock = Mock::new([]);
    let service = deadline(millis(50)).layer(attempt(millis(20)).layer(mock));
    shared(&service);
    sent(service.oneshot(get()));
    let _: fn(Response<Script>) = drop;
}
