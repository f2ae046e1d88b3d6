//! Whether a call is sent again.

use super::*;

// RTY-01, KittyCAD/kittycad.rs#1042, softonic/axios-retry#66, traefik/traefik#8990
#[tokio::test(start_paused = true)]
async fn an_unsafe_call_is_sent_once_even_if_its_body_can_be_copied() {
    for method in [Method::POST, Method::PATCH, Method::CONNECT] {
        for status in [408, 429, 500, 502, 503, 504] {
            let script = statuses([status, 200]);
            let answer = retried(&script, plain())
                .oneshot(request(method.clone(), "x"))
                .await;
            let answer = answer.expect("a response");
            assert_eq!(answer.status(), status);
            assert_eq!(stop(&answer), Some(Stop::NotIdempotent));
            assert_eq!(script.seen().len(), 1, "{method} {status}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn safe_and_idempotent_methods_are_sent_again() {
    for method in ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"] {
        for status in [408, 429, 500, 502, 503, 504, 425] {
            let script = statuses([status, 200]);
            let method: Method = method.parse().expect("a method");
            let answer = retried(&script, plain())
                .oneshot(request(method.clone(), "x"))
                .await;
            assert_eq!(
                answer.expect("a response").status(),
                200,
                "{method} {status}"
            );
            assert_eq!(script.seen().len(), 2);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_opt_in_or_a_key_makes_an_unsafe_call_retryable() {
    let keyed = || {
        let mut keyed = request(Method::POST, "x");
        keyed
            .headers_mut()
            .insert("idempotency-key", "k-1".parse().expect("a value"));
        keyed
    };
    let opted_in = with_policy(
        request(Method::POST, "x"),
        CallPolicy::new().idempotent(true),
    );
    for call in [keyed(), opted_in] {
        let script = statuses([502, 200]);
        let answer = retried(&script, plain())
            .oneshot(call)
            .await
            .expect("a response");
        assert_eq!(answer.status(), 200);
        let sent = script.seen();
        assert_eq!(sent[0].headers, sent[1].headers);
    }
    let script = statuses([502, 200]);
    let untrusting = plain().trust_caller_keys(false);
    let answer = retried(&script, untrusting)
        .oneshot(keyed())
        .await
        .expect("a response");
    assert_eq!(stop(&answer), Some(Stop::NotIdempotent));

    let script = statuses([502, 200]);
    let other_name = plain().key_header("x-request-key".parse().expect("a name"));
    let mut named = request(Method::PATCH, "x");
    named
        .headers_mut()
        .insert("X-Request-Key", "k-1".parse().expect("a value"));
    let answer = retried(&script, other_name)
        .oneshot(named)
        .await
        .expect("a response");
    assert_eq!(answer.status(), 200);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_says_it_is_not_idempotent_is_sent_once() {
    let script = statuses([503, 200]);
    let call = with_policy(
        request(Method::GET, ""),
        CallPolicy::new().idempotent(false),
    );
    let answer = retried(&script, plain())
        .oneshot(call)
        .await
        .expect("a response");
    assert_eq!(
        (answer.status().as_u16(), stop(&answer)),
        (503, Some(Stop::NotIdempotent))
    );
}

// RTY-02, oven-sh/bun#28708, nahi/httpclient#142
#[tokio::test(start_paused = true)]
async fn a_reset_connection_does_not_send_an_unsafe_call_again() {
    for kind in [
        Io::ConnectionReset,
        Io::ConnectionAborted,
        Io::BrokenPipe,
        Io::UnexpectedEof,
        Io::TimedOut,
        Io::Other,
    ] {
        let script = Script::by(move |_| Act::fail(kind));
        let error = retried(&script, plain())
            .oneshot(request(Method::POST, "x"))
            .await;
        let error = error.expect_err("it failed");
        assert!(error.may_have_happened(), "{kind:?}");
        assert_eq!(error.report().stop(), Some(Stop::NotIdempotent));
        assert_eq!(script.seen().len(), 1);

        let script = Script::by(move |attempt| {
            if attempt == 1 {
                Act::fail(kind)
            } else {
                answering(200)
            }
        });
        let answer = retried(&script, plain())
            .oneshot(request(Method::GET, ""))
            .await;
        assert_eq!(answer.expect("a response").status(), 200);
    }
}

#[tokio::test(start_paused = true)]
async fn what_never_reached_a_server_is_sent_again_whatever_its_method() {
    for body in [|| Body::from("whole"), || chunks(&["wh", "ole"])] {
        let script = Script::by(|attempt| {
            if attempt < 3 {
                Act::refuse()
            } else {
                answering(201)
            }
        });
        let answer = retried(&script, plain())
            .oneshot(request(Method::POST, body()))
            .await;
        let answer = answer.expect("a response");
        assert_eq!(answer.status(), 201);
        assert_eq!(script.seen()[2].body, "whole");
        assert_eq!(
            answer
                .extensions()
                .get::<Report>()
                .expect("it was retried")
                .attempts()
                .len(),
            3
        );
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_repetition_does_not_change_is_sent_once() {
    for status in [200, 204, 301, 400, 401, 404, 409, 422, 501, 505, 599] {
        let script = statuses([status, 200]);
        let answer = retried(&script, plain())
            .oneshot(request(Method::PUT, "x"))
            .await;
        assert_eq!(answer.expect("a response").status(), status);
        assert_eq!(script.seen().len(), 1, "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn too_early_is_repeated_once() {
    let script = statuses([425, 425, 200]);
    let answer = retried(&script, plain())
        .oneshot(request(Method::GET, ""))
        .await
        .expect("a response");
    assert_eq!((answer.status().as_u16(), script.seen().len()), (425, 2));
}

#[tokio::test(start_paused = true)]
async fn a_conflict_is_repeated_only_while_the_key_may_be_running() {
    let keyed = |key: &str| {
        let mut call = request(Method::POST, "x");
        call.headers_mut()
            .insert("idempotency-key", key.parse().expect("a value"));
        call
    };
    let script = statuses([409, 200]);
    let answer = retried(&script, plain())
        .oneshot(keyed("mine"))
        .await
        .expect("a response");
    assert_eq!(
        answer.status(),
        200,
        "the caller's key may be running from an earlier call"
    );

    let keys = IdempotencyKeyLayer::new(IdempotencyKeys::default()).expect("valid");
    let generated = |script: &Script| {
        let policy = plain().build().expect("valid");
        ServiceBuilder::new()
            .layer(RetryLayer::new(policy))
            .layer(keys.clone())
            .service(script.clone())
    };
    let script = statuses([409, 200]);
    let answer = generated(&script)
        .oneshot(request(Method::POST, "x"))
        .await
        .expect("a response");
    assert_eq!(answer.status(), 409, "a fresh key runs nowhere");

    let script = Script::by(|attempt| match attempt {
        1 => Act::fail(Io::ConnectionReset),
        2 => answering(409),
        _ => answering(200),
    });
    let answer = generated(&script)
        .oneshot(request(Method::POST, "x"))
        .await
        .expect("a response");
    assert_eq!(answer.status(), 200, "attempt 1 may be running");
    let key = |at: usize| script.seen()[at].headers["idempotency-key"].clone();
    assert!(
        key(0) == key(1) && key(1) == key(2),
        "one key for all attempts"
    );
}

#[tokio::test(start_paused = true)]
async fn throttling_declared_as_unprocessed_lets_unsafe_calls_be_repeated() {
    let declared = || plain().throttled_means_unprocessed(true);
    let acts: [fn() -> Act; 2] = [
        || answering(429),
        || answering(503).header("retry-after", "1"),
    ];
    for throttled in acts {
        let script = Script::by(move |attempt| {
            if attempt == 1 {
                throttled()
            } else {
                answering(200)
            }
        });
        let answer = retried(&script, declared())
            .oneshot(request(Method::POST, "x"))
            .await;
        assert_eq!(answer.expect("a response").status(), 200);
    }
    let script = statuses([503, 200]);
    let answer = retried(&script, declared())
        .oneshot(request(Method::POST, "x"))
        .await;
    assert_eq!(
        stop(&answer.expect("a response")),
        Some(Stop::NotIdempotent)
    );
}

#[tokio::test(start_paused = true)]
async fn a_classifier_of_the_user_decides_first() {
    let classifier = Classifier::default()
        .response(|status, _| (status == 404).then_some(Verdict::FAILURE))
        .response(|status, _| {
            (status == 503).then(|| Verdict::FAILURE.retryable(Retryable::Never))
        });
    for (status, attempts) in [(404, 3), (503, 1), (500, 3)] {
        let script = statuses([status]);
        let settings = plain().classifier(classifier.clone());
        let answer = retried(&script, settings)
            .oneshot(request(Method::GET, ""))
            .await;
        assert_eq!(answer.expect("a response").status(), status);
        assert_eq!(script.seen().len(), attempts);
    }
}

// RTY-11, adorsys/didcomm-mediator-rs#336
#[tokio::test(start_paused = true)]
async fn attempts_count_the_first_and_retries_do_not() {
    for (settings, sends) in [
        (plain().max_retries(3), 4),
        (plain().max_attempts(3), 3),
        (plain().max_retries(0), 1),
        (plain().max_attempts(1), 1),
    ] {
        let script = statuses([503]);
        let answer = retried(&script, settings)
            .oneshot(request(Method::GET, ""))
            .await;
        let answer = answer.expect("a response");
        assert_eq!(script.seen().len(), sends);
        let max_attempts = u32::try_from(sends).expect("few");
        assert_eq!(
            stop(&answer),
            Some(Stop::AttemptsExhausted { max_attempts })
        );
    }
    assert!(plain().max_attempts(0).build().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_call_may_have_limits_of_its_own() {
    for (policy, sends) in [
        (CallPolicy::new().no_retry(), 1),
        (CallPolicy::new().max_attempts(2), 2),
        (CallPolicy::new().max_attempts(7), 7),
        (CallPolicy::new(), 3),
    ] {
        let script = statuses([503]);
        let call = with_policy(request(Method::GET, ""), policy);
        retried(&script, plain())
            .oneshot(call)
            .await
            .expect("a response");
        assert_eq!(script.seen().len(), sends);
    }
    let script = statuses([200]);
    let call = with_policy(request(Method::GET, ""), CallPolicy::new().max_attempts(0));
    let error = retried(&script, plain())
        .oneshot(call)
        .await
        .expect_err("zero attempts");
    assert_eq!(
        (error.kind(), script.seen().len()),
        (ErrorKind::InvalidCall, 0)
    );
}
