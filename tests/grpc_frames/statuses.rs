//! Where the status is, and pushback.

use super::*;

// RTY-09, grpc/grpc-java#7308, grpc/proposal#12
#[tokio::test]
async fn a_stream_that_fails_after_its_first_message_is_one_attempt() {
    let ends = [
        Act::Answer {
            messages: 1,
            status: 14,
        },
        Act::Reset {
            messages: 1,
            code: REFUSED_STREAM,
        },
        Act::Reset {
            messages: 1,
            code: INTERNAL_ERROR,
        },
    ];
    for act in ends {
        let server = RawServer::start([act]);
        let mut echo = client(server.address(), Methods::Idempotent);
        let mut replies = echo.repeat(message()).await.expect("a head").into_inner();
        let first = replies.message().await;
        assert!(matches!(first, Ok(Some(_))), "{act:?}: {first:?}");
        let status = replies.message().await.expect_err("then the failure");
        let expected = match act {
            Act::Reset {
                code: INTERNAL_ERROR,
                ..
            } => Code::Internal,
            _ => Code::Unavailable,
        };
        assert_eq!(status.code(), expected, "{act:?}: {status}");
        assert_eq!(server.seen().len(), 1, "{act:?}");
    }
}

/// A channel whose breaker opens at the third failure in a row.
fn guarded(server: SocketAddr) -> Channel {
    let breaker = BreakerConfig::new().consecutive_failures(3);
    Channel::builder(ORIGIN)
        .endpoints([Endpoint::new(server)])
        .deadline(Duration::from_secs(5))
        .circuit_breaker(breaker)
        .ejection(Ejection::off())
        .build_tonic(Ok)
        .expect("valid")
}

/// The state of the breaker after three calls, and by how much the endpoint is avoided.
async fn after_three(act: Act) -> (State, f32) {
    let server = RawServer::always(act);
    let channel = guarded(server.address());
    let mut echo = EchoClient::new(channel.clone());
    for _ in 0..3 {
        if let Ok(replies) = echo.repeat(message()).await {
            // Up to the first failure: tonic's decoder may go on failing.
            let mut replies = replies.into_inner();
            while let Ok(Some(_)) = replies.message().await {}
        }
    }
    assert_eq!(server.seen().len(), 3, "{act:?}");
    let penalty = channel.endpoints()[0].penalty;
    (channel.circuit_breaker().state(), penalty)
}

// CLS-01, linkerd/linkerd2#7701, linkerd/linkerd2-proxy#2410
// CLS-02, linkerd/linkerd#1567, line/armeria#4496
#[tokio::test]
async fn a_failure_is_one_for_breaker_and_balancer_wherever_the_server_puts_it() {
    let late = |messages, status| Act::Answer { messages, status };
    let failures = [
        late(1, 14),
        late(0, 14),
        late(3, 13),
        Act::TrailersOnly(14),
        Act::TrailersOnly(2),
        Act::NoStatus,
        Act::OnlyHead,
        Act::Page(502),
        Act::Reset {
            messages: 1,
            code: INTERNAL_ERROR,
        },
    ];
    for act in failures {
        let (state, penalty) = after_three(act).await;
        assert_eq!(state, State::Open, "{act:?}");
        assert!(penalty > 1.0, "{act:?}: the balancer did not see it");
    }
    let successes = [
        late(1, 0),
        late(0, 0),
        late(1, 5),
        Act::TrailersOnly(0),
        Act::TrailersOnly(3),
    ];
    for act in successes {
        let (state, penalty) = after_three(act).await;
        assert_eq!((state, penalty), (State::Closed, 1.0), "{act:?}");
    }
}

// CLS-02: judged at head time
#[tokio::test]
async fn a_failure_without_a_message_is_sent_again_and_one_that_blames_the_caller_is_not() {
    let server = RawServer::start([Act::TrailersOnly(14)]);
    let mut echo = client(server.address(), Methods::Idempotent);
    echo.unary(message()).await.expect("the second answers");
    assert_eq!(server.seen().len(), 2);
    let server = RawServer::start([Act::TrailersOnly(3)]);
    let mut echo = client(server.address(), Methods::Idempotent);
    let status = echo.unary(message()).await.expect_err("final");
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(server.seen().len(), 1);
}

// BKO-11, grpc/proposal#12, thomhurst/Kevlar#465
#[tokio::test]
async fn pushback_is_kept_to_exactly() {
    const BACKOFF: u64 = 700;
    let backoff = Backoff::default()
        .initial(millis(BACKOFF))
        .jitter(Jitter::None);
    let cases = [
        (Some("250"), Some(250)),
        (Some("0"), Some(0)),
        (Some("-1"), None),
        (Some("abc"), None),
        (Some("+5"), None),
        (Some("1.5"), None),
        (Some(""), None),
        (None, Some(BACKOFF)),
    ];
    for (wish, expected) in cases {
        let failed = Reply::grpc_status(14);
        let failed = match wish {
            Some(wish) => failed.header("grpc-retry-pushback-ms", wish),
            None => failed,
        };
        let server = Server::start([failed]);
        server.otherwise(Reply::grpc_message(b"").trailers([("grpc-status", "0")]));
        let channel = builder(server.address(), Methods::Idempotent)
            .retry(Retry::default().backoff(backoff))
            .build_tonic(Ok)
            .expect("valid");
        let answer = EchoClient::new(channel)
            .unary(Request::new(message()))
            .await;
        let times: Vec<_> = server.seen().iter().map(|seen| seen.at).collect();
        match (expected, &times[..]) {
            (Some(wait), [first, second]) => {
                let waited = *second - *first;
                let upper = millis(wait + 400);
                assert!(answer.is_ok(), "{wish:?}");
                assert!(
                    (millis(wait)..upper).contains(&waited),
                    "{wish:?}: {waited:?}"
                );
            }
            (None, [_]) => {
                let status = answer.expect_err("it forbids");
                assert_eq!(status.code(), Code::Unavailable, "{wish:?}");
            }
            (_, times) => panic!("{wish:?}: {} attempts", times.len()),
        }
    }
}

// BKO-11: still inside the deadline, the attempts and the budget
#[tokio::test]
async fn pushback_gives_no_leave_beyond_deadline_attempts_or_budget() {
    let pushed_back = |wish| Reply::grpc_status(14).header("grpc-retry-pushback-ms", wish);
    let call = async |wish, retry: Retry| {
        let server = Server::start([]);
        server.otherwise(pushed_back(wish));
        let channel = builder(server.address(), Methods::Idempotent)
            .deadline(Duration::from_secs(2))
            .retry(retry)
            .build_tonic(Ok)
            .expect("valid");
        let start = Instant::now();
        let answer = EchoClient::new(channel).unary(message()).await;
        assert_eq!(answer.expect_err("busy").code(), Code::Unavailable);
        (server.seen().len(), start.elapsed())
    };
    let (attempts, took) = call("10000", Retry::default()).await;
    assert!(attempts == 1 && took < millis(1000), "{attempts}, {took:?}");
    let (attempts, _) = call("0", Retry::default().max_attempts(4).without_budget()).await;
    assert_eq!(attempts, 4);
    let budget = Budget::new(0.0, 0.0, 2).expect("valid").starting_with(1);
    let (attempts, _) = call("0", Retry::default().max_attempts(4).budget(budget)).await;
    assert_eq!(attempts, 2);
}
