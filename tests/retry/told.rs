//! What is told of a retried call.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_success_at_once_carries_no_report_and_a_retried_one_tells_its_story() {
    let script = statuses([200]);
    let answer = retried(&script, plain())
        .oneshot(request(Method::GET, ""))
        .await
        .expect("a response");
    assert!(answer.extensions().get::<Report>().is_none());

    let script = Script::by(|attempt| {
        if attempt == 1 {
            Act::fail(Io::ConnectionReset).after(millis(5))
        } else {
            answering(200)
        }
    });
    let answer = retried(&script, plain())
        .oneshot(request(Method::GET, ""))
        .await
        .expect("a response");
    let report = answer.extensions().get::<Report>().expect("it was retried");
    assert_eq!((report.attempts().len(), report.stop()), (2, None));
    assert_eq!(
        report.attempts()[0].backoff(),
        Some(Duration::from_millis(100))
    );
    assert_eq!(report.elapsed(), Duration::from_millis(105));
    assert!(report.may_have_happened(), "attempt 1 went unanswered");
    assert_eq!(
        report.attempts()[1].outcome(),
        Outcome::Status(http::StatusCode::OK)
    );
}

#[tokio::test(start_paused = true)]
async fn the_worst_attempt_decides_whether_it_may_have_happened() {
    let script = Script::by(|attempt| {
        if attempt == 1 {
            Act::fail(Io::ConnectionReset)
        } else {
            Act::refuse()
        }
    });
    let error = retried(&script, plain())
        .oneshot(request(Method::PUT, "x"))
        .await
        .expect_err("refused");
    assert!(error.may_have_happened());
    let script = Script::by(|_| Act::refuse());
    let error = retried(&script, plain())
        .oneshot(request(Method::PUT, "x"))
        .await
        .expect_err("refused");
    assert!(!error.may_have_happened());
    assert!(error.to_string().contains("max_attempts = 3"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn what_is_told_holds_no_secret() {
    let script = Script::by(|_| answering(503).header("x-token", "topsecret"));
    let mut call = Request::put("/pay?card=topsecret")
        .body(Body::from("topsecret"))
        .expect("a request");
    call.headers_mut()
        .insert("idempotency-key", "topsecret-1".parse().expect("a value"));
    let service = retried(&script, plain());
    let debug = format!("{:?}", plain());
    let answer = service.oneshot(call).await.expect("a response");
    let report = answer.extensions().get::<Report>().expect("it failed");
    assert!(
        !format!("{report} {report:?} {debug}").contains("secret"),
        "{report:?}"
    );
}
