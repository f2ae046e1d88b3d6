//! Endless limits, zero, and policies out of range.

use super::*;

// TMO-08 (tokio-rs/tokio#3551, #5183, #6634)
#[tokio::test(start_paused = true)]
async fn endless_limits_mean_never_and_panic_nowhere() {
    for endless in [
        Duration::MAX,
        Duration::from_secs(u64::MAX / 10),
        Duration::from_secs(1 << 40),
    ] {
        let limits = deadline(endless).body_idle(endless).expect("above zero");
        let body = [Step::pause(Duration::from_secs(3600)), Step::data("late")];
        let mock = Mock::new([Act::ok().after(Duration::from_secs(3600)).body(body)]);
        let start = Instant::now();
        let service = limits.layer(attempt(endless).layer(mock));
        let policy = CallPolicy::new()
            .deadline(endless)
            .attempt_timeout(endless)
            .body_idle(endless);
        let response = service.oneshot(with(policy)).await.expect("an answer");
        let (text, error, _) = read(response.into_body(), start).await;
        assert_eq!((text.as_str(), error.is_none()), ("late", true));
        assert!(
            Deadline::from_now(endless)
                .run(sleep(millis(9)))
                .await
                .is_ok()
        );
    }
}

#[tokio::test(start_paused = true)]
async fn zero_is_refused_where_it_is_set_and_never_means_no_limit() {
    assert_eq!(
        DeadlineLayer::new(Duration::ZERO).unwrap_err().field(),
        "DeadlineLayer::new"
    );
    let idle = deadline(millis(1)).body_idle(Duration::ZERO).unwrap_err();
    assert_eq!(idle.field(), "DeadlineLayer::body_idle");
    let error = AttemptTimeoutLayer::new(Duration::ZERO).unwrap_err();
    assert_eq!(error.field(), "AttemptTimeoutLayer::new");
    assert!(error.to_string().contains("0s"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_bad_policy_fails_the_call_unsent_and_frees_the_ready_instance() {
    for policy in [
        CallPolicy::new().deadline(Duration::ZERO),
        CallPolicy::new().attempt_timeout(Duration::ZERO),
        CallPolicy::new().body_idle(Duration::ZERO),
        CallPolicy::new().max_attempts(0),
    ] {
        let mock = Mock::new([]);
        let mut outer = deadline(millis(50)).layer(mock.clone());
        let mut alone = attempt(millis(50)).layer(mock.clone());
        be_ready(&mut outer).await;
        be_ready(&mut alone).await;
        let errors = [
            outer
                .call(with(policy.clone()))
                .await
                .map(drop)
                .unwrap_err(),
            alone.call(with(policy)).await.map(drop).unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.kind(), ErrorKind::InvalidCall);
            assert_eq!(error.disposition(), Disposition::NotSent);
            assert!(error.to_string().contains("CallPolicy::"), "{error}");
        }
        assert_eq!((mock.calls(), mock.reserved()), (0, 0));
    }
}
