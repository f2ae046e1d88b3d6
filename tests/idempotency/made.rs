//! Keys that are made.

use super::*;

// IDK-05 (cartalyst/stripe#93, svix/svix-webhooks#1944)
#[tokio::test(start_paused = true)]
async fn a_template_sent_twice_gets_two_keys() {
    let mock = Mock::new([]);
    let service = IdempotencyKeyLayer::default().layer(mock.clone());
    let template = with(post(), CallPolicy::new());
    service
        .clone()
        .oneshot(template.clone())
        .await
        .expect("an answer");
    tokio::time::advance(millis(10)).await;
    service.oneshot(template).await.expect("an answer");
    let keys = keys(&mock.seen(), HEADER);
    assert_ne!(keys[0], keys[1]);
}

// IDK-05 (cartalyst/stripe#93, svix/svix-webhooks#1944)
#[test]
fn eight_threads_with_one_service_never_share_a_key() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(8)
        .enable_time()
        .build();
    let mock = Mock::new([]);
    runtime.expect("a runtime").block_on(async {
        let service = IdempotencyKeyLayer::default().layer(mock.clone());
        let tasks = (0..8).map(|_| {
            let service = service.clone();
            tokio::spawn(async move {
                for _ in 0..250 {
                    service.clone().oneshot(post()).await.expect("an answer");
                }
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.expect("no panic");
        }
    });
    let keys: HashSet<_> = keys(&mock.seen(), HEADER).into_iter().flatten().collect();
    assert_eq!(keys.len(), 2000);
    for key in keys {
        let parsed = uuid(&key);
        assert_eq!(
            (parsed.0, parsed.1),
            ('4', true),
            "a version 4 UUID of 122 random bits: {key}"
        );
    }
}

/// Version digit, and whether the variant is that of RFC 9562 and the form is right.
fn uuid(key: &str) -> (char, bool) {
    let groups: Vec<_> = key.split('-').collect();
    let lengths = groups.iter().map(|group| group.len()).collect::<Vec<_>>();
    let hex = key
        .chars()
        .all(|char| char == '-' || matches!(char, '0'..='9' | 'a'..='f'));
    let variant = groups[3].starts_with(['8', '9', 'a', 'b']);
    let version = groups[2].chars().next().expect("a digit");
    (version, variant && hex && lengths == [8, 4, 4, 4, 12])
}

#[tokio::test(start_paused = true)]
async fn a_natural_key_is_asked_for_once_per_call_and_may_decline() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let natural = move |parts: &http::request::Parts| {
        counted.fetch_add(1, Relaxed);
        Some(format!(
            "pay-{}",
            parts.headers.get("order")?.to_str().ok()?
        ))
    };
    let layer = keyed(IdempotencyKeys::default().natural_key(natural));
    let deadline = DeadlineLayer::new(Duration::from_secs(9)).expect("above zero");
    let mock = failing_twice();
    let service = deadline.layer(Repeat(layer.layer(mock.clone())));
    let mut order = post();
    order
        .headers_mut()
        .insert("order", "42".parse().expect("a header value"));
    service.oneshot(order).await.expect("the third attempt");
    assert_eq!(keys(&mock.seen(), HEADER), vec![vec!["pay-42"]; 3]);
    assert_eq!(asked.load(Relaxed), 1);

    let declined = sent(&layer, post()).await;
    assert_eq!(uuid(&declined[0]).0, '4');
}

#[tokio::test(start_paused = true)]
async fn settings_out_of_range_are_refused_by_name() {
    let keys = IdempotencyKeys::default;
    for (keys, field) in [
        (keys().header("no name"), "IdempotencyKeys::header"),
        (keys().header(""), "IdempotencyKeys::header"),
        (keys().lifetime(Duration::ZERO), "IdempotencyKeys::lifetime"),
    ] {
        assert_eq!(IdempotencyKeyLayer::new(keys).unwrap_err().field(), field);
    }
    let endless = keyed(keys().lifetime(Duration::MAX));
    assert_eq!(sent(&endless, post()).await.len(), 1);
}

// TWR-01 (tower-rs/tower#547), TWR-05 (linkerd/linkerd2-proxy#506)
#[tokio::test(start_paused = true)]
async fn the_instance_that_was_polled_ready_is_the_one_called() {
    for readiness in [
        Readiness::Always,
        Readiness::Polls(2),
        Readiness::After(millis(5)),
    ] {
        let mock = Mock::new([]).readiness(readiness);
        let mut service = IdempotencyKeyLayer::default().layer(mock.clone());
        for _ in 0..3 {
            let ready = ServiceExt::<Request<String>>::ready(&mut service).await;
            ready.expect("ready").call(post()).await.expect("an answer");
        }
        assert_eq!((mock.calls(), mock.reserved()), (3, 0), "{readiness:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_waits_below_the_layer_was_not_sent() {
    let mock = Mock::new([]).readiness(Readiness::Never);
    let deadline = DeadlineLayer::new(millis(50)).expect("above zero");
    let service = deadline.layer(IdempotencyKeyLayer::default().layer(mock.clone()));
    let error = service.oneshot(post()).await.map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
    assert_eq!(
        (error.disposition(), mock.calls()),
        (Disposition::NotSent, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn a_key_is_hidden_from_debug() {
    let mock = Mock::new([]);
    let service = IdempotencyKeyLayer::default().layer(mock.clone());
    let policy = CallPolicy::new().idempotency_key("topsecret-order");
    service
        .oneshot(with(post(), policy))
        .await
        .expect("an answer");
    let headers = &mock.seen()[0].headers;
    assert!(headers.contains_key(HEADER));
    assert!(!format!("{headers:?}").contains("topsecret"));
}

#[cfg(feature = "test-util")]
#[tokio::test(start_paused = true)]
async fn seeded_keys_repeat_for_tests_and_are_version_4_still() {
    let layer = |seed| keyed(IdempotencyKeys::default().seeded(seed));
    let (one, two, other) = (layer(7), layer(7), layer(8));
    let key = sent(&one, post()).await;
    assert_eq!(sent(&two, post()).await, key);
    assert_ne!(sent(&one, post()).await, key);
    assert_ne!(sent(&other, post()).await, key);
    assert_eq!(uuid(&key[0]), ('4', true));
}
