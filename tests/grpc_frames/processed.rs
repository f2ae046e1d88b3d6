//! Streams that were processed, or not.

use super::*;

/// Answers that prove that nothing was processed.
const UNPROCESSED: [Act; 3] = [
    Act::REFUSE,
    Act::GoAwayBelow(NO_ERROR),
    Act::GoAwayBelow(ENHANCE_YOUR_CALM),
];

/// Ends after which it may have happened.
const DOUBTFUL: [Act; 8] = [
    Act::GoAwayAt(NO_ERROR),
    Act::GoAwayAt(INTERNAL_ERROR),
    Act::GoAwayAt(ENHANCE_YOUR_CALM),
    Act::GoAwayAbove(NO_ERROR),
    Act::GoAwayAbove(ENHANCE_YOUR_CALM),
    reset(CANCEL),
    reset(INTERNAL_ERROR),
    reset(ENHANCE_YOUR_CALM),
];

const fn reset(code: u32) -> Act {
    Act::Reset { messages: 0, code }
}

// RTY-03, JuliaWeb/HTTP.jl#1294, nodejs/undici#5598, HoneyryderChuck/httpx#149
#[tokio::test]
async fn a_stream_that_was_not_processed_is_sent_again_whatever_the_method() {
    for act in UNPROCESSED {
        let server = RawServer::start([act]);
        let reply = client(server.address(), Methods::Plain)
            .unary(message())
            .await;
        let reply = reply.unwrap_or_else(|status| panic!("{act:?}: {status}"));
        assert_eq!(server.seen().len(), 2, "{act:?}");
        let report = reply.extensions().get::<Report>().expect("it was retried");
        assert_eq!(report.attempts().len(), 2, "{report}");
        assert_eq!(report.attempts()[0].disposition(), Disposition::Refused);
    }
}

// RTY-03, for the other kinds of method
#[tokio::test]
async fn streams_that_were_not_processed_are_sent_again_in_every_direction() {
    for act in UNPROCESSED {
        let server = RawServer::start([act, Act::OK, act, Act::OK, act, Act::OK]);
        let mut echo = client(server.address(), Methods::Plain);
        let parts = stream::iter([message(), message()]);
        echo.collect(parts.clone())
            .await
            .unwrap_or_else(|status| panic!("{act:?}: {status}"));
        let replies = echo.repeat(message()).await.expect("a stream").into_inner();
        assert_eq!(replies.map(Result::unwrap).count().await, 1, "{act:?}");
        let replies = echo.chat(parts).await.expect("a stream").into_inner();
        assert_eq!(replies.map(Result::unwrap).count().await, 1, "{act:?}");
        assert_eq!(server.seen().len(), 6, "{act:?}");
    }
}

// RTY-03, the third: JuliaWeb/HTTP.jl#1294
#[tokio::test]
async fn a_stream_that_may_have_been_processed_is_sent_again_only_where_that_does_no_harm() {
    for act in DOUBTFUL {
        let server = RawServer::start([act]);
        let answer = client(server.address(), Methods::Plain)
            .unary(message())
            .await;
        let Err(status) = answer else {
            panic!("{act:?}: sent again");
        };
        let error = ours(&status);
        assert_eq!(error.disposition(), Disposition::Unknown, "{act:?} {error}");
        assert_eq!(error.report().attempts().len(), 1, "{act:?} {error}");
        assert_eq!(server.seen().len(), 1, "{act:?}");

        let server = RawServer::start([act]);
        let mut echo = client(server.address(), Methods::Idempotent);
        echo.unary(message())
            .await
            .unwrap_or_else(|status| panic!("{act:?}: {status}"));
        assert_eq!(server.seen().len(), 2, "{act:?}");
    }
}

#[tokio::test]
async fn an_answer_after_a_go_away_that_covers_it_is_the_answer() {
    let server = RawServer::start([Act::GoAwayThenAnswer]);
    let mut echo = client(server.address(), Methods::Plain);
    echo.unary(message()).await.expect("the answer");
    assert_eq!(server.seen().len(), 1);
    echo.unary(message()).await.expect("a new connection");
    assert_eq!((server.seen().len(), server.connections()), (2, 2));
}

// RTY-10, curl/curl#5119
#[tokio::test]
async fn a_server_that_asks_for_calm_on_every_connection_gets_a_bounded_number_of_spaced_requests()
{
    let attempts = 3;
    let backoff = Backoff::default().initial(millis(60)).jitter(Jitter::None);
    let retry = Retry::default()
        .max_attempts(attempts)
        .backoff(backoff)
        .without_budget();
    for methods in [Methods::Plain, Methods::Idempotent] {
        let server = RawServer::always(Act::GoAwayBelow(ENHANCE_YOUR_CALM));
        let channel = builder(server.address(), methods)
            .retry(retry.clone())
            .build_tonic(Ok)
            .expect("valid");
        let (mut one, mut two) = (EchoClient::new(channel.clone()), EchoClient::new(channel));
        let start = Instant::now();
        let (first, second) = join(one.unary(message()), two.unary(message())).await;
        assert!(start.elapsed() >= millis(60 + 120), "no calm: {methods:?}");
        let mut told = 0;
        for status in [first, second].map(|answer| answer.expect_err("never answered")) {
            let error = ours(&status);
            assert_eq!(status.code(), Code::Unavailable, "{status}");
            assert!(error.disposition() <= Disposition::Refused, "{error}");
            let made = error.report().attempts().len();
            assert_eq!(made, attempts as usize, "{error}");
            told += made;
        }
        let seen = server.seen().len();
        assert!(
            (attempts as usize..=told).contains(&seen),
            "{seen} streams for {told} attempts"
        );
        assert!(server.connections() <= told, "{}", server.connections());
    }
}

// RTY-10, before any stream is begun
#[tokio::test]
async fn a_server_that_greets_with_a_request_for_calm_is_not_called_without_end() {
    let backoff = Backoff::default().initial(millis(60)).jitter(Jitter::None);
    let server = RawServer::unwelcoming(ENHANCE_YOUR_CALM);
    let channel = builder(server.address(), Methods::Plain)
        .retry(Retry::default().backoff(backoff).without_budget())
        .build_tonic(Ok)
        .expect("valid");
    let (mut one, mut two) = (EchoClient::new(channel.clone()), EchoClient::new(channel));
    let start = Instant::now();
    let answers = join(one.unary(message()), two.unary(message())).await;
    let attempts: usize = [answers.0, answers.1]
        .map(|answer| answer.expect_err("never answered"))
        .iter()
        .map(|status| ours(status).report().attempts().len())
        .sum();
    assert!(attempts <= 6, "{attempts} attempts");
    assert!(
        start.elapsed() < Duration::from_secs(4),
        "until the deadline"
    );
    // A connection may be opened and lost between two attempts.
    let connections = server.connections();
    assert!(connections <= 2 * attempts, "{connections} connections");
}

// RTY-10, whatever the limit of attempts
#[tokio::test]
async fn refusals_use_the_budget_like_every_other_retry() {
    for act in [Act::REFUSE, Act::GoAwayBelow(ENHANCE_YOUR_CALM)] {
        let server = RawServer::always(act);
        let budget = Budget::new(0.0, 0.0, 4).expect("valid").starting_with(4);
        let backoff = Backoff::default().initial(millis(1)).max(millis(2));
        let retry = Retry::default()
            .max_attempts(1000)
            .backoff(backoff)
            .budget(budget);
        let channel = builder(server.address(), Methods::Plain)
            .retry(retry)
            .build_tonic(Ok)
            .expect("valid");
        let answer = EchoClient::new(channel).unary(message()).await;
        let status = answer.expect_err("refused for ever");
        let attempts = ours(&status).report().attempts().len();
        assert_eq!((attempts, server.seen().len()), (5, 5), "{act:?}");
    }
}
