//! Request bodies that are sent again, and responses that are let go.

use super::*;

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
