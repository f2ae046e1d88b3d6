//! Keys that callers bring.

use super::*;

// IDK-02 (Modern-Treasury/modern-treasury-python#70)
#[tokio::test(start_paused = true)]
async fn the_callers_key_is_sent_unchanged_and_alone_on_every_attempt() {
    let deadline = DeadlineLayer::new(Duration::from_secs(9)).expect("above zero");
    for layer in [
        IdempotencyKeyLayer::default(),
        keyed(IdempotencyKeys::default().quoted()),
        keyed(IdempotencyKeys::default().trust_caller_keys(false)),
        keyed(IdempotencyKeys::default().natural_key(|_| Some("natural".to_owned()))),
    ] {
        let (outside, inside) = (failing_twice(), failing_twice());
        let above = layer.layer(Repeat(outside.clone()));
        let below = deadline.layer(Repeat(layer.layer(inside.clone())));
        above
            .oneshot(bringing("mykey123"))
            .await
            .expect("the third attempt");
        below
            .oneshot(bringing("mykey123"))
            .await
            .expect("the third attempt");
        for mock in [outside, inside] {
            assert_eq!(keys(&mock.seen(), HEADER), vec![vec!["mykey123"]; 3]);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_unusual_key_of_the_caller_is_left_as_it_is() {
    for key in [
        "",
        "\"quoted\"",
        "with space",
        "k\u{7f}",
        &"long".repeat(200),
    ] {
        let mut request = post();
        let value = http::HeaderValue::from_bytes(key.as_bytes());
        let Ok(value) = value else { continue };
        request.headers_mut().insert(HEADER, value.clone());
        let mock = Mock::new([]);
        let service = IdempotencyKeyLayer::default().layer(mock.clone());
        service.oneshot(request).await.expect("an answer");
        let values: Vec<_> = mock.seen()[0]
            .headers
            .get_all(HEADER)
            .iter()
            .cloned()
            .collect();
        assert_eq!(values, [value]);
    }
}

#[tokio::test(start_paused = true)]
async fn two_keys_in_one_request_are_refused() {
    let mut request = bringing("one");
    request
        .headers_mut()
        .append(HEADER, "two".parse().expect("a header value"));
    let error = refused(&IdempotencyKeyLayer::default(), request).await;
    let line = error.to_string();
    assert!(
        line.contains("2 values of the header idempotency-key"),
        "{line}"
    );
    assert!(
        !line.contains("one,") && !line.contains("two"),
        "no key in it: {line}"
    );
}

// IDK-03 (tryAGI/AutoSDK#238)
#[tokio::test(start_paused = true)]
async fn only_post_and_patch_get_a_key_by_default() {
    let layer = IdempotencyKeyLayer::default();
    let unkeyed = [
        "GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "PROPFIND",
    ];
    for method in unkeyed {
        let method = method.parse().expect("a method");
        assert_eq!(sent(&layer, request(method)).await, Vec::<String>::new());
    }
    for method in [Method::POST, Method::PATCH] {
        assert_eq!(sent(&layer, request(method)).await.len(), 1);
    }
}

// IDK-03 (tryAGI/AutoSDK#238)
#[tokio::test(start_paused = true)]
async fn methods_and_header_are_settings_and_a_call_can_do_without() {
    let puts = keyed(IdempotencyKeys::default().methods([Method::PUT]));
    assert_eq!(sent(&puts, request(Method::PUT)).await.len(), 1);
    assert!(sent(&puts, post()).await.is_empty());
    let none = keyed(IdempotencyKeys::default().methods([]));
    assert!(sent(&none, post()).await.is_empty());

    let without = with(post(), CallPolicy::new().no_idempotency_key());
    assert!(
        sent(&IdempotencyKeyLayer::default(), without)
            .await
            .is_empty()
    );

    let mock = Mock::new([]);
    let named = keyed(IdempotencyKeys::default().header("X-Request-Token"));
    named
        .layer(mock.clone())
        .oneshot(post())
        .await
        .expect("an answer");
    assert_eq!(keys(&mock.seen(), "x-request-token")[0].len(), 1);
    assert!(keys(&mock.seen(), HEADER)[0].is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_key_given_for_the_call_is_sent_whatever_its_method() {
    let layer = IdempotencyKeyLayer::default();
    let given = || CallPolicy::new().idempotency_key("order-42");
    assert_eq!(sent(&layer, with(post(), given())).await, ["order-42"]);
    assert_eq!(
        sent(&layer, with(request(Method::DELETE), given())).await,
        ["order-42"]
    );
    assert_eq!(
        sent(&layer, with(bringing("mine"), given())).await,
        ["mine"],
        "never touched"
    );
    let quoted = keyed(IdempotencyKeys::default().quoted());
    let tricky = CallPolicy::new().idempotency_key(r#"a "b" \c"#);
    assert_eq!(
        sent(&quoted, with(post(), tricky)).await,
        [r#""a \"b\" \\c""#]
    );
}

#[tokio::test(start_paused = true)]
async fn a_key_that_cannot_be_sent_fails_the_call_unsent() {
    for key in ["", "a\nb", "schlüssel", &"k".repeat(256)] {
        let given = with(post(), CallPolicy::new().idempotency_key(key));
        let error = refused(&IdempotencyKeyLayer::default(), given).await;
        assert!(
            error.to_string().contains("CallPolicy::idempotency_key"),
            "{error}"
        );

        let natural = key.to_owned();
        let keys = IdempotencyKeys::default().natural_key(move |_| Some(natural.clone()));
        let error = refused(&keyed(keys), post()).await;
        assert!(!error.to_string().contains("schl"), "no key in it: {error}");
    }
}
