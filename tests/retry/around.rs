//! A retry around other layers, and in runtimes.

use super::*;

// BUD-04, HKUDS/nanobot#2760, BerriAI/litellm#34129, jina-ai/serve#4877
#[tokio::test(start_paused = true)]
async fn a_retry_inside_a_retry_passes_through() {
    let script = statuses([503]);
    let layer = RetryLayer::new(plain().build().expect("valid"));
    let service = ServiceBuilder::new()
        .layer(layer.clone())
        .layer(layer)
        .service(script.clone());
    let answer = service
        .oneshot(request(Method::GET, ""))
        .await
        .expect("a response");
    assert_eq!((answer.status().as_u16(), script.seen().len()), (503, 3));

    let script = statuses([503]);
    let layer = RetryLayer::new(plain().build().expect("valid"));
    let service = ServiceBuilder::new()
        .layer(layer.clone())
        .layer(layer)
        .service(script.clone());
    let plain_body = Request::get("/")
        .body(Full::new(Bytes::new()))
        .expect("a request");
    service.oneshot(plain_body).await.expect("a response");
    assert_eq!(
        script.seen().len(),
        3,
        "a body that does not carry the call"
    );
}

// TWR-01, tower-rs/tower#547; TWR-05, linkerd/linkerd2-proxy#506
#[tokio::test(start_paused = true)]
async fn every_attempt_calls_an_instance_that_was_polled_ready() {
    // The script panics if it is called otherwise; here readiness also takes its time.
    #[derive(Clone)]
    struct Slow(Script, u8);
    impl Service<Request<Body>> for Slow {
        type Response = <Script as Service<Request<Body>>>::Response;
        type Error = std::io::Error;
        type Future = <Script as Service<Request<Body>>>::Future;
        fn poll_ready(
            &mut self,
            cx: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Result<(), Self::Error>> {
            if self.1 < 2 {
                self.1 += 1;
                cx.waker().wake_by_ref();
                return std::task::Poll::Pending;
            }
            Service::<Request<Body>>::poll_ready(&mut self.0, cx)
        }
        fn call(&mut self, request: Request<Body>) -> Self::Future {
            self.1 = 0;
            self.0.call(request)
        }
    }
    let script = statuses([503, 503, 200]);
    let mut service =
        RetryLayer::new(plain().build().expect("valid")).layer(Slow(script.clone(), 0));
    let answer = service
        .ready()
        .await
        .expect("ready")
        .call(request(Method::GET, ""))
        .await;
    assert_eq!(answer.expect("a response").status(), 200);
    let unasked = service.call(request(Method::GET, "")).await;
    assert_eq!(unasked.expect("a response").status(), 200);
    assert_eq!(script.seen().len(), 4);
}

// TWR-02, TWR-04, joshrotenberg/tower-resilience#365, ZcashFoundation/zebra#1593
#[tokio::test(start_paused = true)]
async fn no_reservation_of_the_inner_service_is_held_over_a_wait() {
    let script = statuses([503, 200]);
    let limited = ServiceBuilder::new()
        .concurrency_limit(1)
        .service(script.clone());
    let service = RetryLayer::new(plain().build().expect("valid")).layer(limited);
    let waiting = tokio::spawn(service.clone().oneshot(request(Method::GET, "")));
    tokio::time::sleep(Duration::from_millis(50)).await;
    let other = service
        .clone()
        .oneshot(request(Method::GET, ""))
        .await
        .expect("a response");
    assert_eq!(other.status(), 200);
    assert_eq!(script.recorder().times(), [0, 50]);
    waiting.await.expect("no panic").expect("a response");
    assert_eq!(script.recorder().times(), [0, 50, 100]);

    let mut held = service.clone();
    ServiceExt::<Request<Body>>::ready(&mut held)
        .await
        .expect("ready");
    drop(held);
    service
        .oneshot(request(Method::GET, ""))
        .await
        .expect("a dropped handle frees its reservation");
}

#[tokio::test(start_paused = true)]
async fn calls_beyond_a_limit_below_wait_their_turn() {
    let script = Script::by(|_| answering(200).after(millis(1_000)));
    let limited = ServiceBuilder::new()
        .concurrency_limit(1)
        .service(script.clone());
    let service = RetryLayer::new(plain().build().expect("valid")).layer(limited);
    let calls = (0..3).map(|_| service.clone().oneshot(request(Method::GET, "")));
    futures::future::join_all(calls).await;
    assert_eq!(script.recorder().times(), [0, 1_000, 2_000]);
}

// TWR-03, joshrotenberg/tower-resilience#365
#[tokio::test(start_paused = true)]
async fn a_call_that_waits_is_polled_a_handful_of_times() {
    let script = Script::by(|_| answering(503).after(millis(10_000)));
    let service = retried(&script, plain());
    let mut polls = 0;
    let mut call = std::pin::pin!(service.oneshot(request(Method::GET, "")));
    std::future::poll_fn(|cx| {
        polls += 1;
        call.as_mut().poll(cx)
    })
    .await
    .expect("a response");
    assert!(polls <= 12, "{polls} polls");
}

#[tokio::test(start_paused = true)]
async fn a_call_dropped_during_the_wait_gives_its_token_back_and_sends_nothing() {
    let budget = Budget::new(0.1, 0.0, 3).expect("valid").starting_with(1);
    let script = statuses([503]);
    let service = retried(&script, plain().budget(budget.clone()));
    let call = service.oneshot(request(Method::GET, ""));
    assert!(
        tokio::time::timeout(Duration::from_millis(50), call)
            .await
            .is_err()
    );
    let now = Instant::now().into_std();
    assert!(
        (budget.balance(now) - 1.1).abs() < 1e-9,
        "{}",
        budget.balance(now)
    );
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(script.seen().len(), 1);
}

// RUN-02, tower-rs/tower#139, tokio-rs/tokio#1713
#[test]
fn a_layer_is_built_and_dropped_without_a_runtime() {
    let policy = Retry::default().build().expect("valid");
    drop(
        RetryLayer::new(policy).layer(tower::service_fn(|_: Request<Body>| async {
            Ok::<_, Error>(Response::new(Body::empty()))
        })),
    );
}

// RUN-03, seanmonstar/reqwest#1148
#[test]
fn a_service_outlives_the_runtime_that_used_it() {
    let policy = Retry::default().build().expect("valid");
    let service = RetryLayer::new(policy).layer(tower::service_fn(|_: Request<Body>| async {
        Ok::<_, Error>(
            Response::builder()
                .status(503)
                .body(Body::empty())
                .expect("a response"),
        )
    }));
    for _ in 0..2 {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime");
        let answer = runtime.block_on(service.clone().oneshot(request(Method::GET, "")));
        assert_eq!(answer.expect("a response").status(), 503);
    }
}

// RUN-04, hyperium/hyper#3950, kube-rs/kube#840
#[tokio::test(start_paused = true)]
async fn paused_time_drives_waits_and_budget() {
    let real = std::time::Instant::now();
    let budget = Budget::new(0.0, 0.001, 2).expect("valid");
    let backoff = Backoff::default()
        .initial(Duration::from_secs(3_600))
        .max(Duration::from_secs(3_600))
        .jitter(Jitter::None);
    let script = statuses([503]);
    let service = retried(&script, plain().backoff(backoff).budget(budget));
    let answer = service
        .clone()
        .oneshot(request(Method::GET, ""))
        .await
        .expect("a response");
    assert_eq!(stop(&answer), Some(Stop::BudgetEmpty));
    tokio::time::advance(Duration::from_secs(3_600)).await;
    service
        .oneshot(request(Method::GET, ""))
        .await
        .expect("a response");
    assert_eq!(
        script.recorder().times(),
        [0, 3_600_000, 7_200_000, 10_800_000]
    );
    assert!(real.elapsed() < Duration::from_secs(2));
}
