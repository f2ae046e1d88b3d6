//! When a call is sent again.

use super::*;

#[tokio::test(start_paused = true)]
async fn waits_start_at_initial_and_double() {
    let script = statuses([503]);
    retried(&script, plain().max_attempts(6))
        .oneshot(request(Method::GET, ""))
        .await
        .expect("a response");
    assert_eq!(script.recorder().times(), [0, 100, 300, 700, 1_500, 3_100]);
}

// BKO-02, dragonflyoss/dragonfly#4852
#[tokio::test(start_paused = true)]
async fn no_two_sends_of_a_thousand_come_without_a_wait() {
    for jitter in [
        Jitter::Full,
        Jitter::Equal,
        Jitter::Decorrelated,
        Jitter::Proportional,
        Jitter::None,
    ] {
        let script = Script::by(|_| Act::refuse());
        let backoff = Backoff::default()
            .initial(Duration::from_millis(30))
            .max(Duration::from_secs(1));
        let settings = plain()
            .backoff(backoff.jitter(jitter))
            .max_attempts(1_000)
            .random(Random::seeded(1));
        retried(&script, settings)
            .oneshot(request(Method::GET, ""))
            .await
            .expect_err("refused");
        let sent = script.seen();
        let waits: Vec<_> = sent
            .windows(2)
            .map(|pair| pair[1].at - pair[0].at)
            .collect();
        assert_eq!(waits.len(), 999);
        assert!(
            waits
                .iter()
                .all(|wait| !wait.is_zero() && *wait <= Duration::from_millis(1_001)),
            "{jitter:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn one_seed_makes_the_waits_the_same() {
    let mut runs = Vec::new();
    for seed in [7, 7, 8] {
        let script = statuses([503]);
        let settings = Retry::default()
            .without_budget()
            .max_attempts(5)
            .random(Random::seeded(seed));
        retried(&script, settings)
            .oneshot(request(Method::GET, ""))
            .await
            .expect("a response");
        runs.push(script.recorder().times());
    }
    assert_eq!(runs[0], runs[1]);
    assert_ne!(runs[0], runs[2]);
}

// BKO-07, openai/openai-java#853, pydantic/pydantic-ai#7073; BKO-09, urllib3/urllib3#2861
#[tokio::test(start_paused = true)]
async fn a_useless_retry_after_leaves_the_backoff() {
    let past = "Sun, 06 Nov 1994 08:49:37 GMT";
    for value in [
        "-1",
        "0",
        past,
        "nan",
        "inf",
        "1e10000",
        "",
        "2,5",
        "soon",
        "-Infinity",
        "9.9.9",
    ] {
        let script = Script::by(move |_| answering(503).header("retry-after", value));
        retried(&script, plain())
            .oneshot(request(Method::GET, ""))
            .await
            .expect("a response");
        assert_eq!(script.recorder().times(), [0, 100, 300], "{value:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_waited_for_and_stretched_by_a_quarter_at_most() {
    for (value, least, most) in [
        ("2", 2_000, 2_500),
        ("0.503", 503, 630),
        ("1.5", 1_500, 1_876),
        (" 2 ", 2_000, 2_500),
        ("20", 20_000, 21_000),
    ] {
        for status in [429, 503, 500] {
            let script = Script::by(move |_| answering(status).header("retry-after", value));
            retried(&script, plain().max_attempts(2))
                .oneshot(request(Method::GET, ""))
                .await
                .expect("a response");
            let waited = script.recorder().times()[1];
            assert!((least..=most).contains(&waited), "{value:?}: {waited} ms");
        }
    }
}

// BKO-08, urllib3/urllib3#3743, #5220
#[tokio::test(start_paused = true)]
async fn a_retry_after_that_is_too_long_returns_the_response_at_once_and_shows_it() {
    let deadline = || Some(Duration::from_secs(2));
    for (value, deadline) in [
        ("31", None),
        ("3600", None),
        ("9999999999", None),
        ("18446744073709551616", None),
        ("2", deadline()),
        ("3600", deadline()),
        ("Fri, 31 Dec 9999 23:59:59 GMT", None),
    ] {
        let script = Script::by(move |_| answering(503).header("retry-after", value));
        let policy = deadline.map_or_else(CallPolicy::new, |deadline| {
            CallPolicy::new().deadline(deadline)
        });
        let start = Instant::now();
        let answer = retried(&script, plain())
            .oneshot(with_policy(request(Method::GET, ""), policy))
            .await;
        let answer = answer.expect("a response");
        assert_eq!(start.elapsed(), Duration::ZERO);
        assert_eq!(answer.status(), 503);
        assert!(
            matches!(stop(&answer), Some(Stop::PushbackTooLong { asked }) if asked >= Duration::from_secs(2)),
            "{value}"
        );
        assert_eq!(text(answer).await, "status 503");
    }
    let script = Script::by(|_| answering(503).header("retry-after", "60"));
    let patient = plain()
        .max_pushback(Duration::from_secs(60))
        .max_attempts(2);
    retried(&script, patient)
        .oneshot(request(Method::GET, ""))
        .await
        .expect("a response");
    assert!(
        script.recorder().times()[1] >= 60_000,
        "the cap is a setting"
    );
}

// BKO-10, AstroVela/vane#170, rybalkinsd/kohttp#151
#[tokio::test(start_paused = true)]
async fn a_date_is_waited_for() {
    let script = Script::by(|_| {
        let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(8));
        answering(503).header("retry-after", &date)
    });
    retried(&script, plain().max_attempts(2))
        .oneshot(request(Method::GET, ""))
        .await
        .expect("a response");
    assert!(
        (7_000..=10_000).contains(&script.recorder().times()[1]),
        "{:?}",
        script.recorder().times()
    );
}
