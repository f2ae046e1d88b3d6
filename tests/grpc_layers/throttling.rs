//! Throttling of retries.

use super::*;

// gRFC A6, "Throttling Retry Attempts and Hedged RPCs"
#[tokio::test(start_paused = true)]
async fn throttling_counts_to_the_token() {
    let budget = Budget::grpc_throttling(10, 0.1).unwrap();
    let retried = Retried::new(Retry::default().budget(budget));
    let empty = Some(Stop::BudgetEmpty);
    let used_up = Some(Stop::AttemptsExhausted { max_attempts: 3 });
    assert_eq!(retried.status("14").await, (3, used_up));
    close(retried.tokens(), 7.0);
    // 6, 5: half of the tokens is not more than half.
    assert_eq!(retried.status("14").await, (2, empty));
    close(retried.tokens(), 5.0);
    assert_eq!(retried.status("0").await, (1, None));
    close(retried.tokens(), 5.1);
    assert_eq!(retried.status("14").await, (1, empty));
    close(retried.tokens(), 4.1);
    // 5.1 has to be passed before the failure, which takes one itself.
    for _ in 0..19 {
        assert_eq!(retried.trailers(Some("0")).await, (1, None));
    }
    close(retried.tokens(), 6.0);
    assert_eq!(retried.status("14").await, (1, empty));
    for _ in 0..11 {
        retried.status("0").await;
    }
    close(retried.tokens(), 6.1);
    assert_eq!(retried.status("14").await, (2, empty));
    close(retried.tokens(), 4.1);
}

#[tokio::test(start_paused = true)]
async fn throttling_counts_what_is_retried_what_may_not_be_and_no_caller_faults() {
    let throttled = || {
        let budget = Budget::grpc_throttling(10, 0.5).unwrap().starting_with(6);
        Retried::new(Retry::default().max_attempts(1).budget(budget))
    };
    for (status, tokens) in [
        ("0", 6.5),
        ("14", 5.0),
        ("5", 6.0),
        ("3", 6.0),
        ("1", 6.0),
        ("8", 6.0),
        ("13", 6.0),
        ("abc", 6.0),
    ] {
        let in_head = throttled();
        in_head.status(status).await;
        close(in_head.tokens(), tokens);
        let in_trailers = throttled();
        in_trailers.trailers(Some(status)).await;
        close(in_trailers.tokens(), tokens);
    }
    let unsaid = throttled();
    unsaid.trailers(None).await;
    close(unsaid.tokens(), 6.0);

    // A pushback that forbids counts whatever the status; one that asks for a time only with a retried one.
    for (status, pushback, tokens) in [
        ("5", "-1", 5.0),
        ("5", "250", 6.0),
        ("8", "250", 5.0),
        ("13", "abc", 5.0),
        ("0", "-1", 6.5),
    ] {
        let forbidden = throttled();
        let pairs = [
            ("grpc-status", status),
            ("grpc-retry-pushback-ms", pushback),
        ];
        let answer = move || Ok::<_, Infallible>(trailers_only(&pairs));
        forbidden.call(idempotent(), answer).await;
        close(forbidden.tokens(), tokens);
        let at_end = throttled();
        let answer = move || Ok::<_, Infallible>(message(Some(map(&pairs))));
        at_end.call(idempotent(), answer).await;
        close(at_end.tokens(), tokens);
    }

    for kind in [
        io::ErrorKind::ConnectionRefused,
        io::ErrorKind::ConnectionReset,
    ] {
        let broken = throttled();
        let answer = move || Err(io::Error::from(kind));
        broken.call(idempotent(), answer).await;
        close(broken.tokens(), 5.0);
    }
}

#[tokio::test(start_paused = true)]
async fn an_unsafe_call_counts_though_it_is_not_retried() {
    let budget = Budget::grpc_throttling(10, 0.1).unwrap();
    let retried = Retried::new(Retry::default().budget(budget));
    let unsafe_call = Request::post("/shop.Cart/Add").body(Full::default());
    let unavailable = || Ok::<_, Infallible>(trailers_only(&[("grpc-status", "14")]));
    let ended = retried.call(unsafe_call.unwrap(), unavailable).await;
    assert_eq!(ended, (1, Some(Stop::NotIdempotent)));
    close(retried.tokens(), 9.0);
}

#[tokio::test(start_paused = true)]
async fn a_response_that_is_dropped_before_its_end_counts_as_its_head_says() {
    for (head_says_ok, tokens) in [(false, 6.0), (true, 6.5)] {
        let budget = Budget::grpc_throttling(10, 0.5).unwrap().starting_with(6);
        let retried = Retried::new(Retry::default().budget(budget));
        let layer = RetryLayer::new(retried.policy.clone());
        let service = layer.layer(service_fn(move |_: Request<Full<Bytes>>| {
            let mut answer = message(Some(map(&[("grpc-status", "14")])));
            if head_says_ok {
                let ok = HeaderValue::from_static("0");
                answer.headers_mut().insert("grpc-status", ok);
            }
            std::future::ready(Ok::<_, Infallible>(answer))
        }));
        drop(service.oneshot(idempotent()).await.unwrap());
        close(retried.tokens(), tokens);
    }
}

#[tokio::test(start_paused = true)]
async fn one_throttle_serves_several_policies() {
    let budget = Budget::grpc_throttling(4, 0.1).unwrap();
    let policy = || Retried::new(Retry::default().budget(budget.clone()));
    let (one, other) = (policy(), policy());
    assert_eq!(one.status("14").await, (2, Some(Stop::BudgetEmpty)));
    assert_eq!(other.status("14").await, (1, Some(Stop::BudgetEmpty)));
    close(other.tokens(), 1.0);
}

#[tokio::test(start_paused = true)]
async fn operations_of_any_kind_are_throttled_by_the_same_rule() {
    let budget = Budget::grpc_throttling(4, 0.5).unwrap();
    let settings = Retry::default().budget(budget.clone());
    let policy = settings.max_attempts(9).build().unwrap();
    let attempts = AtomicUsize::new(0);
    let failing = |_| {
        attempts.fetch_add(1, Relaxed);
        std::future::ready(Err::<(), _>("no"))
    };
    assert_eq!(evenkeel::retry::run(&policy, failing).await, Err("no"));
    assert_eq!(attempts.load(Relaxed), 2);
    let working = |_| std::future::ready(Ok::<_, &str>(()));
    assert_eq!(evenkeel::retry::run(&policy, working).await, Ok(()));
    close(budget.balance(std::time::Instant::now()), 2.5);
}

fn close(tokens: f64, expected: f64) {
    assert!((tokens - expected).abs() < 1e-9, "{tokens}, not {expected}");
}
