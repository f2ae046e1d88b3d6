//! Pushback, mapped statuses and readers of one's own.

use super::*;

/// How often a call went out, how long it took, and why it ended, when every answer asks for this pushback.
async fn pushed_back(pushback: Option<&'static str>) -> (usize, Duration, Option<Stop>) {
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&sent);
    let policy = Retry::default()
        .classifier(Classifier::grpc())
        .backoff(
            Backoff::default()
                .initial(Duration::from_millis(100))
                .jitter(Jitter::None),
        )
        .without_budget()
        .build()
        .unwrap();
    let mut service = RetryLayer::new(policy).layer(service_fn(move |_: Request<Full<Bytes>>| {
        counted.fetch_add(1, Relaxed);
        let mut pairs = vec![("grpc-status", "14")];
        pairs.extend(pushback.map(|value| ("grpc-retry-pushback-ms", value)));
        let answer = trailers_only(&pairs);
        async move { Ok::<_, Infallible>(answer) }
    }));
    let mut request = Request::post("/shop.Cart/List")
        .body(Full::default())
        .unwrap();
    request
        .extensions_mut()
        .insert(CallPolicy::new().idempotent(true));
    let start = Instant::now();
    let reply = service.ready().await.unwrap().call(request).await.unwrap();
    let stop = reply.extensions().get::<Report>().and_then(Report::stop);
    (sent.load(Relaxed), start.elapsed(), stop)
}

// BKO-11, grpc/proposal#12, thomhurst/Kevlar#465
#[tokio::test(start_paused = true)]
async fn pushback_is_exact_zero_is_at_once_and_negative_or_malformed_stops() {
    let used_up = Some(Stop::AttemptsExhausted { max_attempts: 3 });
    let ms = Duration::from_millis;
    assert_eq!(pushed_back(Some("250")).await, (3, ms(500), used_up));
    assert_eq!(pushed_back(Some("0")).await, (3, ms(0), used_up));
    assert_eq!(pushed_back(None).await, (3, ms(300), used_up));
    for stop in ["-1", "abc", "+5", "", "1.5", "99999999999"] {
        assert_eq!(
            pushed_back(Some(stop)).await,
            (1, ms(0), Some(Stop::ServerForbids)),
            "{stop}"
        );
    }
    let (sent, _, stop) = pushed_back(Some("30001")).await;
    assert_eq!(sent, 1);
    assert!(
        matches!(stop, Some(Stop::PushbackTooLong { .. })),
        "{stop:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_status_in_trailers_is_held_against_the_endpoint() {
    let fixed = evenkeel::Fixed::new(["10.0.0.1:80", "10.0.0.2:80"]);
    let bad: std::net::SocketAddr = "10.0.0.1:80".parse().unwrap();
    let balancer = evenkeel::Balancer::builder(fixed)
        .classifier(Classifier::grpc())
        .random(evenkeel::Random::seeded(1))
        .build(move |endpoint| {
            let status = if endpoint.address() == bad { "14" } else { "0" };
            Ok(service_fn(move |_: Request<Full<Bytes>>| async move {
                Ok::<_, Infallible>(message(Some(map(&[("grpc-status", status)]))))
            }))
        })
        .unwrap();
    for _ in 0..20 {
        let reply = balancer
            .clone()
            .oneshot(Request::new(Full::default()))
            .await
            .unwrap();
        let _ = reply.into_body().collect().await;
    }
    for endpoint in balancer.endpoints() {
        assert_eq!(endpoint.in_flight, 0);
        assert_eq!(
            endpoint.penalty > 1.0,
            endpoint.address == bad,
            "{endpoint:?}"
        );
    }
}

// Neighbours of CLS-02: whoever wrote the head said OK, and the end of the body knows better.
#[tokio::test(start_paused = true)]
async fn trailers_after_a_head_that_says_ok_have_the_last_word() {
    fn with_head(trailers: Option<&str>) -> Response<Body> {
        let mut reply = message(trailers.map(|status| map(&[("grpc-status", status)])));
        let ok = HeaderValue::from_static("0");
        reply.headers_mut().insert("grpc-status", ok);
        reply
    }
    assert_eq!(state_after(3, || with_head(Some("14"))).await, State::Open);
    assert_eq!(state_after(9, || with_head(Some("0"))).await, State::Closed);
    assert_eq!(state_after(9, || with_head(None)).await, State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_status_that_is_no_code_is_a_failure_in_head_and_trailers() {
    for garbage in ["", "-1", "99", "abc", "0x0", "00000000000000000000014"] {
        let judged = |answer: fn(&'static str) -> Response<Body>| {
            state_after_of(3, move || answer(garbage), Classifier::grpc())
        };
        let head = judged(|status| trailers_only(&[("grpc-status", status)]));
        assert_eq!(head.await, State::Open, "{garbage:?} in the head");
        let trailers = judged(|status| message(Some(map(&[("grpc-status", status)]))));
        assert_eq!(trailers.await, State::Open, "{garbage:?} in the trailers");
    }
}

#[tokio::test(start_paused = true)]
async fn an_http_status_without_one_of_grpc_is_mapped() {
    for (status, state) in [
        (503, State::Open),
        (502, State::Open),
        (500, State::Open),
        (302, State::Open),
        (400, State::Open),
        (401, State::Closed),
        (403, State::Closed),
        (404, State::Closed),
    ] {
        let answer = move || {
            let mut page = Response::new(Full::from("<html>").boxed_unsync());
            *page.status_mut() = http::StatusCode::from_u16(status).unwrap();
            page
        };
        let judged = state_after_of(3, answer, Classifier::grpc()).await;
        assert_eq!(judged, state, "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_of_heads_is_asked_about_trailers_too() {
    let aborted = Classifier::grpc().response(|_, headers| {
        let code = headers.get("grpc-status")?;
        (code == "10").then_some(Verdict::FAILURE)
    });
    let judged = |answer: fn() -> Response<Body>, classifier: &Classifier| {
        state_after_of(3, answer, classifier.clone())
    };
    let in_trailers = || message(Some(map(&[("grpc-status", "10")])));
    let in_head = || trailers_only(&[("grpc-status", "10")]);
    for answer in [in_trailers as fn() -> Response<Body>, in_head] {
        assert_eq!(judged(answer, &aborted).await, State::Open);
        assert_eq!(judged(answer, &Classifier::grpc()).await, State::Closed);
    }
}

#[tokio::test(start_paused = true)]
async fn trailers_are_not_read_where_http_is_spoken() {
    let answer = || message(Some(map(&[("grpc-status", "14")])));
    let judged = state_after_of(9, answer, Classifier::default()).await;
    assert_eq!(judged, State::Closed);
}

/// A stream that breaks no earlier than `millis` after its head.
fn slow_failure(millis: u64) -> Response<Body> {
    let frames = futures::stream::unfold(0, move |sent| async move {
        let frame = match sent {
            0 => Frame::data(Bytes::from_static(b"\0\0\0\0\x01x")),
            1 => {
                tokio::time::sleep(Duration::from_millis(millis)).await;
                Frame::data(Bytes::from_static(b"\0\0\0\0\x01y"))
            }
            2 => Frame::trailers(map(&[("grpc-status", "14")])),
            _ => return None,
        };
        Some((Ok(frame), sent + 1))
    });
    let response = Response::builder().header("content-type", "application/grpc");
    response
        .body(StreamBody::new(frames).boxed_unsync())
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_stood_for_a_second_is_a_success_and_its_bad_end_one_failure_more() {
    // The success of the next stream stands between two failures: never three in a row.
    let consecutive = |answer: fn() -> Response<Body>| async move {
        let breaker = Breaker::builder().consecutive_failures(2).build().unwrap();
        read(&breaker, 6, answer, Classifier::grpc()).await;
        breaker.state()
    };
    assert_eq!(consecutive(|| slow_failure(900)).await, State::Open);
    assert_eq!(consecutive(|| slow_failure(1_100)).await, State::Closed);
    let within = state_after(3, || slow_failure(1_100)).await;
    assert_eq!(within, State::Open, "the failures are counted all the same");
}

#[tokio::test(start_paused = true)]
async fn what_a_status_says_reaches_the_caller_as_it_was_sent() {
    let said = "100%25 of \u{2713} %E2%9C%93 %zz %";
    let answer = move || {
        message(Some(
            [("grpc-status", "14"), ("grpc-message", said)]
                .into_iter()
                .map(|(name, value)| {
                    let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
                    (HeaderName::from_static(name), value)
                })
                .collect(),
        ))
    };
    let policy = Retry::default().classifier(Classifier::grpc());
    let breaker = Breaker::count(3, Duration::from_secs(10)).unwrap();
    let service = tower::ServiceBuilder::new()
        .layer(RetryLayer::new(policy.build().unwrap()))
        .layer(CircuitBreakerLayer::new(breaker).classifier(Classifier::grpc()))
        .service(service_fn(move |_: Request<Full<Bytes>>| async move {
            Ok::<_, Infallible>(answer())
        }));
    let reply = service.oneshot(idempotent()).await.unwrap();
    let read = reply.into_body().collect().await.unwrap();
    let trailers = read.trailers().expect("trailers");
    assert_eq!(trailers["grpc-message"].as_bytes(), said.as_bytes());
    assert_eq!(read.to_bytes(), &b"\0\0\0\0\x01x"[..]);
}
