//! One key on all attempts of a call.

use super::*;

// IDK-01 (square/square-mcp-server#31, svix/svix-webhooks#2401)
#[tokio::test(start_paused = true)]
async fn every_attempt_carries_the_same_key_wherever_the_layer_stands() {
    let deadline = DeadlineLayer::new(Duration::from_secs(9)).expect("above zero");
    let key = IdempotencyKeyLayer::default();
    let (outside, inside) = (failing_twice(), failing_twice());
    let above = ServiceBuilder::new()
        .layer(&key)
        .layer(layer_fn(Repeat))
        .service(outside.clone());
    let below = ServiceBuilder::new()
        .layer(deadline)
        .layer(layer_fn(Repeat))
        .layer(&key)
        .service(inside.clone());
    above.oneshot(post()).await.expect("the third attempt");
    below.oneshot(post()).await.expect("the third attempt");
    for mock in [outside, inside] {
        let keys = keys(&mock.seen(), HEADER);
        assert_eq!(keys.len(), 3);
        assert_eq!(keys[0].len(), 1, "exactly one header");
        assert!(keys.iter().all(|key| *key == keys[0]), "{keys:?}");
    }
}

fn retry() -> RetryLayer {
    let retry = Retry::default().max_attempts(3).without_budget();
    RetryLayer::new(retry.build().expect("valid settings"))
}

fn body(request: Request<String>) -> Request<Full<Bytes>> {
    request.map(|_| Full::new(Bytes::from("charge")))
}

// IDK-01 (square/square-mcp-server#31, svix/svix-webhooks#2401)
#[tokio::test(start_paused = true)]
async fn a_post_that_times_out_twice_is_repeated_with_one_key_in_both_layer_orders() {
    let key = IdempotencyKeyLayer::default();
    let limit = AttemptTimeoutLayer::new(millis(50)).expect("above zero");
    let script = || Mock::new([Act::hang(), Act::hang(), Act::ok()]);
    let (outside, inside) = (script(), script());
    let above = key.layer(retry().layer(limit.layer(outside.clone())));
    let below = retry().layer(key.layer(limit.layer(inside.clone())));
    above
        .oneshot(body(post()))
        .await
        .expect("the third attempt");
    below
        .oneshot(body(post()))
        .await
        .expect("the third attempt");
    for mock in [outside, inside] {
        let keys = keys(&mock.seen(), HEADER);
        assert_eq!((keys.len(), keys[0].len()), (3, 1));
        assert!(keys.iter().all(|key| *key == keys[0]), "{keys:?}");
    }
}

// IDK-04 (http4s/http4s#4614)
#[tokio::test(start_paused = true)]
async fn a_key_of_whatever_origin_makes_a_post_retryable_and_distrust_undoes_it() {
    let default = IdempotencyKeyLayer::default;
    let distrusting = || keyed(IdempotencyKeys::default().trust_caller_keys(false));
    let callers_only = || keyed(IdempotencyKeys::default().methods([]));
    let given = || with(post(), CallPolicy::new().idempotency_key("order-42"));
    let without = |request| with(request, CallPolicy::new().no_idempotency_key());
    for (layer, request, calls) in [
        (default(), post(), 3),
        (default(), bringing("mykey123"), 3),
        (default(), given(), 3),
        (callers_only(), bringing("mykey123"), 3),
        (callers_only(), post(), 1),
        (distrusting(), bringing("mykey123"), 1),
        (distrusting(), given(), 3),
        (default(), without(post()), 1),
        (default(), without(bringing("mykey123")), 1),
        (default(), bringing(""), 1),
    ] {
        let (outside, inside) = (failing_twice(), failing_twice());
        let above = layer.layer(retry().layer(outside.clone()));
        let below = retry().layer(layer.layer(inside.clone()));
        let answers = [
            above.oneshot(body(request.clone())).await.map(drop),
            below.oneshot(body(request.clone())).await.map(drop),
        ];
        assert_eq!(
            (outside.calls(), inside.calls()),
            (calls, calls),
            "{request:?}"
        );
        assert!(answers.iter().all(|answer| answer.is_ok() == (calls == 3)));
    }
}

#[tokio::test(start_paused = true)]
async fn no_attempt_is_made_when_the_destination_may_have_forgotten_the_key() {
    let forgetful = keyed(IdempotencyKeys::default().lifetime(millis(10)));
    let mock = failing_twice();
    let service = forgetful.layer(retry().layer(mock.clone()));
    let error = service.oneshot(body(post())).await.map(drop).unwrap_err();
    assert_eq!(mock.calls(), 1, "{error}");
    assert!(error.may_have_happened());
}

#[tokio::test(start_paused = true)]
async fn a_call_is_not_repeated_beyond_the_lifetime_that_its_caller_states() {
    let stating = |lifetime: Duration| CallPolicy::new().idempotency_key_lifetime(lifetime);
    let day = Duration::from_secs(86_400);
    let short = || keyed(IdempotencyKeys::default().lifetime(millis(10)));
    for (layer, request, calls) in [
        (None, with(bringing("k"), stating(millis(10))), 1),
        (None, with(bringing("k"), stating(day)), 3),
        (None, with(bringing("k"), stating(Duration::MAX)), 3),
        (None, bringing("k"), 3),
        (Some(short()), with(bringing("k"), stating(day)), 3),
        (Some(short()), bringing("k"), 3),
        (Some(short()), with(post(), stating(day)), 3),
        (Some(short()), post(), 1),
        (
            Some(IdempotencyKeyLayer::default()),
            with(post(), stating(millis(10)).idempotency_key("order-42")),
            1,
        ),
        (
            Some(IdempotencyKeyLayer::default()),
            with(bringing("k"), stating(millis(10))),
            1,
        ),
    ] {
        let (mock, case) = (failing_twice(), format!("{layer:?} {request:?}"));
        let retried = retry().layer(mock.clone());
        let answer = match layer {
            Some(layer) => layer.layer(retried).oneshot(body(request)).await.map(drop),
            None => retried.oneshot(body(request)).await.map(drop),
        };
        assert_eq!(mock.calls(), calls, "{case}");
        if let Err(error) = answer {
            assert_eq!(error.report().stop(), Some(Stop::KeyExpired), "{case}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_stated_lifetime_of_zero_fails_the_call_unsent() {
    let policy = CallPolicy::new().idempotency_key_lifetime(Duration::ZERO);
    let error = refused(&IdempotencyKeyLayer::default(), with(post(), policy)).await;
    let line = error.to_string();
    assert!(
        line.contains("CallPolicy::idempotency_key_lifetime"),
        "{line}"
    );
}
