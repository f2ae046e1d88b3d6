//! Retry over scripted services in paused time.

mod support;

use std::{
    io::ErrorKind as Io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use evenkeel::{
    AttemptTimeoutLayer, Backoff, Body, Budget, CallPolicy, Deadline, DeadlineLayer, Error,
    ErrorKind, IdempotencyKeyLayer, IdempotencyKeys, Jitter, Random, Replay, Report, Retry,
    RetryLayer, RetryPolicy,
    call::{Outcome, Stop},
    classify::{Classifier, Retryable, Verdict},
    retry::{self, RetryService},
};
use futures::{StreamExt, stream};
use http::{HeaderMap, Method, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Empty, Full, StreamBody, combinators::UnsyncBoxBody};
use support::script::{Act, Script, answering, millis, statuses};
use tokio::time::Instant;
use tower::{Layer, Service, ServiceBuilder, ServiceExt};

/// 100 ms, doubling, no jitter, no budget: times that a test can name.
fn plain() -> Retry {
    let backoff = Backoff::default()
        .initial(Duration::from_millis(100))
        .jitter(Jitter::None);
    Retry::default().backoff(backoff).without_budget()
}

fn retried(script: &Script, settings: Retry) -> RetryService<Script> {
    RetryLayer::new(settings.build().expect("valid")).layer(script.clone())
}

fn request(method: Method, body: impl Into<Body>) -> Request<Body> {
    let builder = Request::builder().method(method).uri("/charges?n=1");
    builder
        .header("x-user", "one")
        .body(body.into())
        .expect("a request")
}

fn with_policy<B>(mut request: Request<B>, policy: CallPolicy) -> Request<B> {
    request.extensions_mut().insert(policy);
    request
}

/// A chunked stream of unknown length, with trailers.
fn chunks(parts: &[&'static str]) -> Body {
    Body::stream(StreamBody::new(frames(parts)))
}

fn frames(
    parts: &[&'static str],
) -> impl futures::Stream<Item = Result<Frame<Bytes>, std::convert::Infallible>> + Send + use<> {
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", "7".parse().expect("a value"));
    let data: Vec<_> = parts
        .iter()
        .map(|part| Frame::data(Bytes::from_static(part.as_bytes())))
        .collect();
    stream::iter(data.into_iter().chain([Frame::trailers(trailers)]).map(Ok))
}

fn stop<B>(response: &Response<B>) -> Option<Stop> {
    response.extensions().get::<Report>().and_then(Report::stop)
}

async fn text<B>(response: Response<B>) -> String
where
    B: http_body::Body<Data = Bytes>,
    B::Error: std::fmt::Debug,
{
    let body = response
        .into_body()
        .collect()
        .await
        .expect("a body")
        .to_bytes();
    String::from_utf8(body.to_vec()).expect("text")
}

// ===== whether =====

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

// ===== bodies =====

// RTY-04, XAMPPRocky/octocrab#835, linkerd/linkerd#599
#[tokio::test(start_paused = true)]
async fn the_second_attempt_carries_the_same_bytes_length_and_trailers() {
    let patch = |body| {
        with_policy(
            request(Method::PATCH, body),
            CallPolicy::new().idempotent(true),
        )
    };
    let whole = "0123456789abcdef0123456789abcdef";
    for (call, announced, trailers) in [
        (patch(Body::from(whole)), Some(32), None),
        (
            patch(chunks(&["0123456789abcdef", "", "0123456789abcdef"])),
            None,
            Some("7"),
        ),
    ] {
        let script = statuses([500, 502, 200]);
        retried(&script, plain())
            .oneshot(call)
            .await
            .expect("a response");
        let sent = script.seen();
        assert_eq!(sent.len(), 3);
        for attempt in sent {
            assert_eq!(attempt.body, whole);
            let sum = attempt
                .trailers
                .as_ref()
                .and_then(|trailers| trailers.get("x-sum"));
            assert_eq!(sum.map(|sum| sum.to_str().expect("text")), trailers);
            assert_eq!(attempt.method, Method::PATCH);
            assert_eq!(attempt.uri, "/charges?n=1");
            assert_eq!(attempt.headers["x-user"], "one");
            // What was a stream of unknown length is, once it is on record, of a known one.
            assert!(attempt.announced == announced || attempt.announced == Some(32));
        }
    }
}

async fn is_sent_twice<B: Replay + Send + 'static>(body: B, content: &str) {
    let script = statuses([503, 200]);
    let service = RetryLayer::new(plain().build().expect("valid")).layer(script.clone());
    let call = Request::put("/")
        .header("content-length", "3")
        .body(body)
        .expect("a request");
    let answer = service.oneshot(call).await.expect("a response");
    assert_eq!(answer.status(), 200);
    assert!(
        script.seen().iter().all(|sent| sent.body == content),
        "{:?}",
        script.seen()
    );
    assert_eq!(script.seen().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn bodies_of_every_kind_are_replayed() {
    is_sent_twice(Full::new(Bytes::from("abc")), "abc").await;
    is_sent_twice(String::from("abc"), "abc").await;
    is_sent_twice(Empty::<Bytes>::new(), "").await;
    is_sent_twice(Body::empty(), "").await;
    is_sent_twice(chunks(&[]), "").await;
    is_sent_twice(
        UnsyncBoxBody::new(StreamBody::new(frames(&["a", "bc"]))),
        "abc",
    )
    .await;
    is_sent_twice(Full::new(Bytes::from("abc")).boxed(), "abc").await;
    let large: String = "x".repeat(10 * 1024 * 1024);
    is_sent_twice(Body::from(large.clone()), &large).await;
}

#[tokio::test(start_paused = true)]
async fn the_second_attempt_is_the_request_as_it_was() {
    #[derive(Clone, Debug, PartialEq)]
    struct Tenant(u8);
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let record = Arc::clone(&seen);
    let transport = tower::service_fn(move |request: Request<Full<Bytes>>| {
        let (parts, _) = request.into_parts();
        let tenant = parts.extensions.get::<Tenant>().cloned();
        let mut seen = record.lock().expect("no panic");
        seen.push((
            parts.method,
            parts.uri,
            parts.version,
            parts.headers,
            tenant,
        ));
        let status = if seen.len() == 1 { 503 } else { 200 };
        let response = Response::builder()
            .status(status)
            .body(Full::new(Bytes::new()));
        async move { response }
    });
    let call = Request::put("https://user@pay.internal:8443/a%20b?q=1&q=2")
        .version(http::Version::HTTP_2)
        .header("accept", "a/1")
        .header("x-many", "one")
        .header("accept", "b/2")
        .header("x-many", "two")
        .extension(Tenant(7))
        .body(Full::new(Bytes::from("x")))
        .expect("a request");
    let service = RetryLayer::new(plain().build().expect("valid")).layer(transport);
    service.oneshot(call).await.expect("a response");
    let seen = seen.lock().expect("no panic");
    assert_eq!(seen.len(), 2);
    assert_eq!(seen[0], seen[1]);
    let many: Vec<_> = seen[1].3.get_all("x-many").iter().collect();
    assert_eq!(many, ["one", "two"]);
    assert_eq!(seen[1].4, Some(Tenant(7)));
}

/// A body that can be sent once only, and is kept by nobody.
struct Once(Option<Bytes>);

impl http_body::Body for Once {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        std::task::Poll::Ready(self.0.take().map(|bytes| Ok(Frame::data(bytes))))
    }
}

impl Replay for Once {
    fn try_clone(&self) -> Option<Self> {
        None
    }
}

// RTY-05, TrueLayer/reqwest-middleware#44, #214
#[tokio::test(start_paused = true)]
async fn a_body_that_cannot_be_sent_again_is_sent_once_and_says_so() {
    let put = || {
        Request::put("/")
            .body(Once(Some(Bytes::from("abc"))))
            .expect("a request")
    };
    let over =
        |script: &Script| RetryLayer::new(plain().build().expect("valid")).layer(script.clone());

    let script = statuses([200]);
    let answer = over(&script).oneshot(put()).await.expect("a response");
    assert_eq!(
        (answer.status().as_u16(), &script.seen()[0].body[..]),
        (200, &b"abc"[..])
    );

    let script = statuses([503]);
    let answer = over(&script).oneshot(put()).await.expect("a response");
    assert_eq!(
        (answer.status().as_u16(), stop(&answer)),
        (503, Some(Stop::BodyNotReplayable))
    );

    let script = Script::by(|_| Act::fail(Io::ConnectionReset));
    let error = over(&script).oneshot(put()).await.expect_err("it failed");
    let source = std::error::Error::source(&error)
        .and_then(|source| source.downcast_ref::<std::io::Error>());
    assert_eq!(
        source.map(std::io::Error::kind),
        Some(Io::ConnectionReset),
        "the real error"
    );
    assert_eq!(error.report().stop(), Some(Stop::BodyNotReplayable));
    assert_eq!(script.seen().len(), 1);
}

/// Chunks that count how many of them are alive.
fn counted_upload(count: usize, alive: Arc<AtomicUsize>, most: Arc<AtomicUsize>) -> Body {
    struct Chunk(Vec<u8>, Arc<AtomicUsize>);
    impl AsRef<[u8]> for Chunk {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }
    impl Drop for Chunk {
        fn drop(&mut self) {
            self.1.fetch_sub(1, SeqCst);
        }
    }
    let chunks = stream::iter(0..count).map(move |_| {
        most.fetch_max(alive.fetch_add(1, SeqCst) + 1, SeqCst);
        let chunk = Bytes::from_owner(Chunk(vec![0; 16 * 1024], Arc::clone(&alive)));
        Ok::<_, std::convert::Infallible>(Frame::data(chunk))
    });
    Body::stream(StreamBody::new(chunks))
}

// RTY-06, linkerd/linkerd2-proxy#1039, #1043
#[tokio::test(start_paused = true)]
async fn an_upload_above_the_replay_limit_is_not_kept_and_sent_once() {
    for (chunks, sends, reason) in [
        (4, 2, None),
        (5, 1, Some(Stop::BodyNotReplayable)),
        (2_000, 1, Some(Stop::BodyNotReplayable)),
    ] {
        let (alive, most) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let uploads = Arc::<AtomicUsize>::default();
        let counting = Arc::clone(&uploads);
        // Reads frame by frame and keeps nothing, as a connection does.
        let transport = tower::service_fn(move |request: Request<Body>| {
            let uploads = Arc::clone(&counting);
            async move {
                let mut body = request.into_body();
                while let Some(frame) = body.frame().await {
                    drop(frame?);
                }
                let status = if uploads.fetch_add(1, SeqCst) == 0 {
                    503
                } else {
                    200
                };
                Ok::<_, evenkeel::BoxError>(
                    Response::builder()
                        .status(status)
                        .body(Full::new(Bytes::new()))?,
                )
            }
        });
        let body = counted_upload(chunks, Arc::clone(&alive), Arc::clone(&most));
        let service = RetryLayer::new(plain().build().expect("valid")).layer(transport);
        let answer = service
            .oneshot(request(Method::PUT, body))
            .await
            .expect("a response");
        assert_eq!(stop(&answer), reason, "{chunks} chunks of 16 KiB");
        assert_eq!(uploads.load(SeqCst), sends);
        assert!(most.load(SeqCst) <= 2, "{most:?} chunks alive at once");
    }
}

#[tokio::test(start_paused = true)]
async fn the_replay_limit_is_a_setting() {
    for (limit, sends) in [(0, 1), (3, 1), (4, 2)] {
        let script = statuses([503, 200]);
        let settings = plain().replay_limit(limit);
        retried(&script, settings)
            .oneshot(request(Method::PUT, chunks(&["ab", "cd"])))
            .await
            .expect("a response");
        assert_eq!(script.seen().len(), sends, "{limit}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_before_the_end_of_a_streamed_body_is_not_retried() {
    let script = Script::by(|attempt| {
        if attempt == 1 {
            answering(503).unread()
        } else {
            answering(200)
        }
    });
    let answer = retried(&script, plain())
        .oneshot(request(Method::PUT, chunks(&["ab"])))
        .await;
    assert_eq!(stop(&answer.expect("a response")), Some(Stop::EarlyAnswer));
    assert_eq!(script.seen().len(), 1);
    let script = Script::by(|attempt| {
        if attempt == 1 {
            answering(503).unread()
        } else {
            answering(200)
        }
    });
    let answer = retried(&script, plain())
        .oneshot(request(Method::PUT, "in memory"))
        .await;
    assert_eq!(answer.expect("a response").status(), 200);
}

#[tokio::test(start_paused = true)]
async fn a_request_body_that_fails_by_itself_is_not_repeated() {
    let script = statuses([200]);
    let broken = stream::iter([
        Ok(Frame::data(Bytes::from("ab"))),
        Err(std::io::Error::other("disk")),
    ]);
    let call = request(Method::PUT, Body::stream(StreamBody::new(broken)));
    let error = retried(&script, plain())
        .oneshot(call)
        .await
        .expect_err("no body");
    assert_eq!(error.report().stop(), Some(Stop::BodyNotReplayable));
    assert_eq!(script.seen().len(), 1);
}

// RTY-07, openai/openai-go#495, alexfalkowski/go-service#2521
#[tokio::test(start_paused = true)]
async fn a_discarded_response_frees_its_connection_before_the_wait() {
    struct Pinned(
        Full<Bytes>,
        #[expect(dead_code, reason = "held")] tokio::sync::OwnedSemaphorePermit,
    );
    impl http_body::Body for Pinned {
        type Data = Bytes;
        type Error = std::convert::Infallible;
        fn poll_frame(
            mut self: std::pin::Pin<&mut Self>,
            cx: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
            std::pin::Pin::new(&mut self.0).poll_frame(cx)
        }
    }
    let connections = Arc::new(tokio::sync::Semaphore::new(1));
    let calls = Arc::new(AtomicUsize::new(0));
    let (pool, counted) = (Arc::clone(&connections), Arc::clone(&calls));
    let transport = tower::service_fn(move |_: Request<Body>| {
        let (pool, calls) = (Arc::clone(&pool), Arc::clone(&counted));
        async move {
            let connection = pool.acquire_owned().await?;
            let number = calls.fetch_add(1, SeqCst) + 1;
            let mut response = Response::new(Pinned(
                Full::new(Bytes::from(format!("body {number}"))),
                connection,
            ));
            *response.status_mut() = if number < 3 {
                http::StatusCode::SERVICE_UNAVAILABLE
            } else {
                http::StatusCode::OK
            };
            Ok::<_, tokio::sync::AcquireError>(response)
        }
    });
    let service = RetryLayer::new(plain().max_attempts(2).build().expect("valid")).layer(transport);
    let call = tokio::spawn(service.clone().oneshot(request(Method::GET, "")));
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(connections.available_permits(), 1, "free during the wait");
    let answer = call.await.expect("no panic").expect("a response");
    assert_eq!(connections.available_permits(), 0);
    assert_eq!(text(answer).await, "body 2", "the last response is unread");
    assert_eq!(connections.available_permits(), 1);
}

// RTY-08, nodejs/undici#3356, #5724
#[tokio::test(start_paused = true)]
async fn nothing_is_retried_once_the_head_is_handed_over() {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let transport = tower::service_fn(move |_: Request<Body>| {
        let first = counted.fetch_add(1, SeqCst) == 0;
        async move {
            let frames = if first {
                vec![
                    Ok(Frame::data(Bytes::from("H"))),
                    Err(std::io::Error::from(Io::ConnectionReset)),
                ]
            } else {
                vec![Ok(Frame::data(Bytes::from("Hello World")))]
            };
            Ok::<_, std::io::Error>(Response::new(StreamBody::new(stream::iter(frames))))
        }
    });
    let service = RetryLayer::new(plain().build().expect("valid")).layer(transport);
    let mut body = service
        .oneshot(request(Method::GET, ""))
        .await
        .expect("a head")
        .into_body();
    assert_eq!(
        body.frame()
            .await
            .expect("a frame")
            .expect("data")
            .into_data()
            .unwrap_or_default(),
        "H"
    );
    assert!(body.frame().await.expect("a frame").is_err());
    assert!(body.frame().await.is_none());
    assert_eq!(calls.load(SeqCst), 1);
}

// ===== when =====

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

// TMO-02, JustinBeckwith/retry-axios#138
#[tokio::test(start_paused = true)]
async fn all_attempts_share_one_deadline() {
    let script = Script::by(|_| Act::hang());
    let service = ServiceBuilder::new()
        .layer(DeadlineLayer::new(Duration::from_secs(12)).expect("valid"))
        .layer(RetryLayer::new(
            plain().max_retries(5).build().expect("valid"),
        ))
        .layer(AttemptTimeoutLayer::new(Duration::from_secs(5)).expect("valid"))
        .service(script.clone());
    let start = Instant::now();
    let error = service
        .oneshot(request(Method::GET, ""))
        .await
        .expect_err("it hangs");
    assert_eq!(start.elapsed(), Duration::from_secs(12));
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
    assert_eq!(script.recorder().times(), [0, 5_100, 10_300]);
    assert_eq!(error.report().attempts().len(), 3);
    assert!(error.may_have_happened());
}

#[tokio::test(start_paused = true)]
async fn a_deadline_of_the_call_alone_ends_attempts_and_waits() {
    let deadline = CallPolicy::new().deadline(Duration::from_millis(1_000));
    let script = Script::by(|attempt| {
        if attempt == 1 {
            answering(503)
        } else {
            Act::hang()
        }
    });
    let start = Instant::now();
    let call = with_policy(request(Method::GET, ""), deadline);
    let error = retried(&script, plain())
        .oneshot(call)
        .await
        .expect_err("it hangs");
    assert_eq!(start.elapsed(), Duration::from_millis(1_000));
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
    let outcomes: Vec<_> = error
        .report()
        .attempts()
        .iter()
        .map(|attempt| attempt.outcome())
        .collect();
    assert_eq!(
        outcomes,
        [
            Outcome::Status(http::StatusCode::SERVICE_UNAVAILABLE),
            Outcome::Unanswered
        ]
    );
}

// TMO-03, softonic/axios-retry#21
#[tokio::test(start_paused = true)]
async fn an_attempt_gets_what_is_left_and_with_nothing_left_none_starts() {
    let ends = |took: u64| {
        let script = Script::by(move |_| answering(503).after(millis(took)));
        let backoff = Backoff::default()
            .initial(Duration::from_millis(1))
            .jitter(Jitter::None);
        let service = ServiceBuilder::new()
            .layer(DeadlineLayer::new(Duration::from_millis(100)).expect("valid"))
            .layer(RetryLayer::new(
                plain()
                    .backoff(backoff)
                    .max_retries(3)
                    .build()
                    .expect("valid"),
            ))
            .layer(AttemptTimeoutLayer::default())
            .service(script.clone());
        (script, service)
    };
    let start = Instant::now();
    let (script, service) = ends(40);
    let error = service.oneshot(request(Method::POST, "")).await;
    assert_eq!(stop(&error.expect("a response")), Some(Stop::NotIdempotent));
    assert_eq!(script.seen().len(), 1);

    let (script, service) = ends(45);
    let error = service
        .oneshot(request(Method::GET, ""))
        .await
        .expect_err("out of time");
    assert_eq!(
        (error.kind(), script.recorder().times()),
        (ErrorKind::DeadlineExceeded, vec![0, 46, 93])
    );
    assert_eq!(start.elapsed(), Duration::from_millis(140));

    let (script, service) = ends(49);
    let answer = service.oneshot(request(Method::GET, "")).await;
    assert_eq!(script.recorder().times(), [0, 50]);
    assert_eq!(
        stop(&answer.expect("a response")),
        Some(Stop::DeadlineInfeasible),
        "99 ms are gone"
    );
}

// TMO-04, hashicorp/go-retryablehttp#272, temporalio/temporal#4403
#[tokio::test(start_paused = true)]
async fn a_retry_that_cannot_end_in_time_is_not_waited_for() {
    let script = statuses([503]);
    let backoff = Backoff::default()
        .initial(Duration::from_secs(10))
        .max(Duration::from_secs(10))
        .jitter(Jitter::None);
    let service = ServiceBuilder::new()
        .layer(DeadlineLayer::new(Duration::from_secs(5)).expect("valid"))
        .layer(RetryLayer::new(
            plain().backoff(backoff).build().expect("valid"),
        ))
        .service(script.clone());
    let start = Instant::now();
    let answer = service
        .oneshot(request(Method::GET, ""))
        .await
        .expect("the last real outcome");
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert_eq!(
        (answer.status().as_u16(), stop(&answer)),
        (503, Some(Stop::DeadlineInfeasible))
    );
}

#[tokio::test(start_paused = true)]
async fn a_retry_shorter_than_recent_successes_does_not_start() {
    let fail = Arc::new(AtomicBool::new(false));
    let failing = Arc::clone(&fail);
    let script = Script::by(move |_| {
        answering(if failing.load(SeqCst) { 503 } else { 200 }).after(millis(40))
    });
    let service = ServiceBuilder::new()
        .layer(DeadlineLayer::new(Duration::from_millis(170)).expect("valid"))
        .layer(RetryLayer::new(plain().build().expect("valid")))
        .service(script.clone());
    for _ in 0..20 {
        service
            .clone()
            .oneshot(request(Method::GET, ""))
            .await
            .expect("a response");
    }
    fail.store(true, SeqCst);
    let answer = service
        .clone()
        .oneshot(request(Method::GET, ""))
        .await
        .expect("a response");
    assert_eq!(
        stop(&answer),
        Some(Stop::DeadlineInfeasible),
        "30 ms are left after the wait, 40 are needed"
    );
    assert_eq!(script.seen().len(), 21);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_may_take_half_of_the_call_only_if_another_may_follow() {
    let hang_once = || {
        Script::by(|attempt| {
            if attempt == 1 {
                Act::hang()
            } else {
                answering(200)
            }
        })
    };
    let over = |script: &Script, settings: Retry| {
        ServiceBuilder::new()
            .layer(DeadlineLayer::new(Duration::from_secs(3)).expect("valid"))
            .layer(RetryLayer::new(settings.build().expect("valid")))
            .layer(AttemptTimeoutLayer::default())
            .service(script.clone())
    };
    let script = hang_once();
    let answer = over(&script, plain())
        .oneshot(request(Method::GET, ""))
        .await
        .expect("a response");
    assert_eq!(
        (answer.status().as_u16(), script.recorder().times()),
        (200, vec![0, 1_600])
    );
    let empty = Budget::new(0.1, 0.0, 1).expect("valid");
    for (settings, method) in [
        (plain(), Method::POST),
        (plain().max_attempts(1), Method::GET),
        (plain().budget(empty), Method::GET),
    ] {
        let script = hang_once();
        let start = Instant::now();
        let error = over(&script, settings)
            .oneshot(request(method, ""))
            .await
            .expect_err("it hangs");
        assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
        assert_eq!(start.elapsed(), Duration::from_secs(3));
    }
}

// ===== around others =====

// BUD-04, HKUDS/nanobot#2760, BerriAI/litellm#34129, jina-ai/serve#4877
#[tokio::test(start_paused = true)]
async fn a_retry_inside_a_retry_passes_through() {
    let script = statuses([503]);
    let layer = RetryLayer::new(plain().build().expect("valid"));
    let service = ServiceBuilder::new()
        .layer(layer.clone())
        .layer(layer)
        .service(script.clone());
    let answer = service
        .oneshot(request(Method::GET, ""))
        .await
        .expect("a response");
    assert_eq!((answer.status().as_u16(), script.seen().len()), (503, 3));

    let script = statuses([503]);
    let layer = RetryLayer::new(plain().build().expect("valid"));
    let service = ServiceBuilder::new()
        .layer(layer.clone())
        .layer(layer)
        .service(script.clone());
    let plain_body = Request::get("/")
        .body(Full::new(Bytes::new()))
        .expect("a request");
    service.oneshot(plain_body).await.expect("a response");
    assert_eq!(
        script.seen().len(),
        3,
        "a body that does not carry the call"
    );
}

// TWR-01, tower-rs/tower#547; TWR-05, linkerd/linkerd2-proxy#506
#[tokio::test(start_paused = true)]
async fn every_attempt_calls_an_instance_that_was_polled_ready() {
    // The script panics if it is called otherwise; here readiness also takes its time.
    #[derive(Clone)]
    struct Slow(Script, u8);
    impl Service<Request<Body>> for Slow {
        type Response = <Script as Service<Request<Body>>>::Response;
        type Error = std::io::Error;
        type Future = <Script as Service<Request<Body>>>::Future;
        fn poll_ready(
            &mut self,
            cx: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Result<(), Self::Error>> {
            if self.1 < 2 {
                self.1 += 1;
                cx.waker().wake_by_ref();
                return std::task::Poll::Pending;
            }
            Service::<Request<Body>>::poll_ready(&mut self.0, cx)
        }
        fn call(&mut self, request: Request<Body>) -> Self::Future {
            self.1 = 0;
            self.0.call(request)
        }
    }
    let script = statuses([503, 503, 200]);
    let mut service =
        RetryLayer::new(plain().build().expect("valid")).layer(Slow(script.clone(), 0));
    let answer = service
        .ready()
        .await
        .expect("ready")
        .call(request(Method::GET, ""))
        .await;
    assert_eq!(answer.expect("a response").status(), 200);
    let unasked = service.call(request(Method::GET, "")).await;
    assert_eq!(unasked.expect("a response").status(), 200);
    assert_eq!(script.seen().len(), 4);
}

// TWR-02, TWR-04, joshrotenberg/tower-resilience#365, ZcashFoundation/zebra#1593
#[tokio::test(start_paused = true)]
async fn no_reservation_of_the_inner_service_is_held_over_a_wait() {
    let script = statuses([503, 200]);
    let limited = ServiceBuilder::new()
        .concurrency_limit(1)
        .service(script.clone());
    let service = RetryLayer::new(plain().build().expect("valid")).layer(limited);
    let waiting = tokio::spawn(service.clone().oneshot(request(Method::GET, "")));
    tokio::time::sleep(Duration::from_millis(50)).await;
    let other = service
        .clone()
        .oneshot(request(Method::GET, ""))
        .await
        .expect("a response");
    assert_eq!(other.status(), 200);
    assert_eq!(script.recorder().times(), [0, 50]);
    waiting.await.expect("no panic").expect("a response");
    assert_eq!(script.recorder().times(), [0, 50, 100]);

    let mut held = service.clone();
    ServiceExt::<Request<Body>>::ready(&mut held)
        .await
        .expect("ready");
    drop(held);
    service
        .oneshot(request(Method::GET, ""))
        .await
        .expect("a dropped handle frees its reservation");
}

#[tokio::test(start_paused = true)]
async fn calls_beyond_a_limit_below_wait_their_turn() {
    let script = Script::by(|_| answering(200).after(millis(1_000)));
    let limited = ServiceBuilder::new()
        .concurrency_limit(1)
        .service(script.clone());
    let service = RetryLayer::new(plain().build().expect("valid")).layer(limited);
    let calls = (0..3).map(|_| service.clone().oneshot(request(Method::GET, "")));
    futures::future::join_all(calls).await;
    assert_eq!(script.recorder().times(), [0, 1_000, 2_000]);
}

// TWR-03, joshrotenberg/tower-resilience#365
#[tokio::test(start_paused = true)]
async fn a_call_that_waits_is_polled_a_handful_of_times() {
    let script = Script::by(|_| answering(503).after(millis(10_000)));
    let service = retried(&script, plain());
    let mut polls = 0;
    let mut call = std::pin::pin!(service.oneshot(request(Method::GET, "")));
    std::future::poll_fn(|cx| {
        polls += 1;
        call.as_mut().poll(cx)
    })
    .await
    .expect("a response");
    assert!(polls <= 12, "{polls} polls");
}

#[tokio::test(start_paused = true)]
async fn a_call_dropped_during_the_wait_gives_its_token_back_and_sends_nothing() {
    let budget = Budget::new(0.1, 0.0, 3).expect("valid").starting_with(1);
    let script = statuses([503]);
    let service = retried(&script, plain().budget(budget.clone()));
    let call = service.oneshot(request(Method::GET, ""));
    assert!(
        tokio::time::timeout(Duration::from_millis(50), call)
            .await
            .is_err()
    );
    let now = Instant::now().into_std();
    assert!(
        (budget.balance(now) - 1.1).abs() < 1e-9,
        "{}",
        budget.balance(now)
    );
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(script.seen().len(), 1);
}

// RUN-02, tower-rs/tower#139, tokio-rs/tokio#1713
#[test]
fn a_layer_is_built_and_dropped_without_a_runtime() {
    let policy = Retry::default().build().expect("valid");
    drop(
        RetryLayer::new(policy).layer(tower::service_fn(|_: Request<Body>| async {
            Ok::<_, Error>(Response::new(Body::empty()))
        })),
    );
}

// RUN-03, seanmonstar/reqwest#1148
#[test]
fn a_service_outlives_the_runtime_that_used_it() {
    let policy = Retry::default().build().expect("valid");
    let service = RetryLayer::new(policy).layer(tower::service_fn(|_: Request<Body>| async {
        Ok::<_, Error>(
            Response::builder()
                .status(503)
                .body(Body::empty())
                .expect("a response"),
        )
    }));
    for _ in 0..2 {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime");
        let answer = runtime.block_on(service.clone().oneshot(request(Method::GET, "")));
        assert_eq!(answer.expect("a response").status(), 503);
    }
}

// RUN-04, hyperium/hyper#3950, kube-rs/kube#840
#[tokio::test(start_paused = true)]
async fn paused_time_drives_waits_and_budget() {
    let real = std::time::Instant::now();
    let budget = Budget::new(0.0, 0.001, 2).expect("valid");
    let backoff = Backoff::default()
        .initial(Duration::from_secs(3_600))
        .max(Duration::from_secs(3_600))
        .jitter(Jitter::None);
    let script = statuses([503]);
    let service = retried(&script, plain().backoff(backoff).budget(budget));
    let answer = service
        .clone()
        .oneshot(request(Method::GET, ""))
        .await
        .expect("a response");
    assert_eq!(stop(&answer), Some(Stop::BudgetEmpty));
    tokio::time::advance(Duration::from_secs(3_600)).await;
    service
        .oneshot(request(Method::GET, ""))
        .await
        .expect("a response");
    assert_eq!(
        script.recorder().times(),
        [0, 3_600_000, 7_200_000, 10_800_000]
    );
    assert!(real.elapsed() < Duration::from_secs(2));
}

// ===== what is told =====

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

// ===== any future =====

#[tokio::test(start_paused = true)]
async fn any_operation_is_run_by_the_same_policy() {
    let policy = plain().build().expect("valid");
    let start = Instant::now();
    let mut numbers = Vec::new();
    let answer: Result<(), &str> = retry::run(&policy, |attempt| {
        numbers.push(attempt);
        async { Err("locked") }
    })
    .await;
    assert_eq!(answer, Err("locked"));
    assert_eq!(numbers, [1, 2, 3]);
    assert_eq!(start.elapsed(), Duration::from_millis(300));
}

#[tokio::test(start_paused = true)]
async fn an_operation_may_say_what_is_worth_a_repetition() {
    let policy = plain().build().expect("valid");
    let sends = AtomicUsize::new(0);
    let judged = |answer: fn() -> Result<u8, &'static str>| {
        sends.store(0, SeqCst);
        let run = retry::run(&policy, move |_| async move { answer() });
        run.classify(|outcome: &Result<u8, &str>| match outcome {
            Ok(0) => Verdict::FAILURE,
            Err("syntax") => Verdict::FAILURE.retryable(Retryable::Never),
            Err(_) => Verdict::FAILURE,
            Ok(_) => Verdict::SUCCESS,
        })
    };
    let start = Instant::now();
    assert_eq!(judged(|| Err("syntax")).await, Err("syntax"));
    assert_eq!(judged(|| Ok(1)).await, Ok(1));
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert_eq!(judged(|| Ok(0)).await, Ok(0));
    assert_eq!(start.elapsed(), Duration::from_millis(300));
}

#[tokio::test(start_paused = true)]
async fn an_operation_keeps_to_its_deadline_and_the_budget() {
    let policy: RetryPolicy = plain().build().expect("valid");
    let start = Instant::now();
    let deadline = Deadline::from_now(Duration::from_millis(150));
    let failed: Result<(), ()> = retry::run(&policy, |_| async { Err(()) })
        .deadline(deadline)
        .await;
    assert!(failed.is_err());
    assert_eq!(
        start.elapsed(),
        Duration::from_millis(100),
        "the second wait would pass it"
    );

    let budget = Budget::new(0.0, 0.0, 1).expect("valid");
    let policy = policy.with_budget(budget.starting_with(1));
    let attempts = AtomicUsize::new(0);
    let failed: Result<(), ()> = retry::run(&policy, |_| {
        attempts.fetch_add(1, SeqCst);
        async { Err(()) }
    })
    .await;
    assert!(failed.is_err());
    assert_eq!(attempts.load(SeqCst), 2);
}
