//! What attempts tell, and when they go again.

use super::*;

// gRFC A6
#[tokio::test(start_paused = true)]
async fn every_attempt_after_the_first_says_how_many_there_were() {
    let retried = Retried::new(Retry::default().max_attempts(4).without_budget());
    let counted = [None, Some("1"), Some("2"), Some("3")];
    let counted = counted.map(|number| number.map(str::to_owned));
    retried.status("14").await;
    assert_eq!(retried.previous_attempts(), counted);
    let forwarded = || {
        let mut request = idempotent();
        let headers = request.headers_mut();
        headers.append("grpc-previous-rpc-attempts", HeaderValue::from_static("7"));
        headers.append("grpc-previous-rpc-attempts", HeaderValue::from_static("8"));
        request
    };
    let unavailable = || Ok::<_, Infallible>(trailers_only(&[("grpc-status", "14")]));
    retried.call(forwarded(), unavailable).await;
    assert_eq!(
        retried.previous_attempts(),
        counted,
        "not what a caller forwards"
    );
    let refused = || Err(io::Error::from(io::ErrorKind::ConnectionRefused));
    retried.call(idempotent(), refused).await;
    assert_eq!(retried.previous_attempts(), counted);
}

#[tokio::test(start_paused = true)]
async fn http_servers_are_not_told_of_attempts_in_words_of_grpc() {
    let sent = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&sent);
    let policy = Retry::default().without_budget().build().unwrap();
    let service =
        RetryLayer::new(policy).layer(service_fn(move |request: Request<Full<Bytes>>| {
            seen.lock().unwrap().push(request.headers().clone());
            let mut answer = Response::new(Full::<Bytes>::default());
            *answer.status_mut() = http::StatusCode::BAD_GATEWAY;
            std::future::ready(Ok::<_, Infallible>(answer))
        }));
    service.oneshot(idempotent()).await.unwrap();
    let sent = sent.lock().unwrap();
    assert_eq!(sent.len(), 3);
    assert!(sent.iter().all(HeaderMap::is_empty), "{sent:?}");
}

// RTY-10, curl/curl#5119
#[tokio::test(start_paused = true)]
async fn calls_that_were_not_processed_go_again_a_bounded_number_of_times_and_after_a_wait() {
    for evidence in [Evidence::NotSent, Evidence::Refused] {
        let classifier = Classifier::grpc().evidence(move |_| Some(evidence));
        let settings = Retry::default().max_attempts(5).without_budget();
        let retried = Retried::reading(settings, classifier);
        let start = Instant::now();
        let unsafe_call = Request::post("/shop.Cart/Add").body(Full::default());
        let answer = || Err(io::Error::other("GOAWAY, enhance your calm"));
        let (sent, stop) = retried.call(unsafe_call.unwrap(), answer).await;
        assert_eq!(sent, 5);
        assert_eq!(stop, Some(Stop::AttemptsExhausted { max_attempts: 5 }));
        let waits = Duration::from_millis(50 + 100 + 200 + 400);
        assert_eq!(start.elapsed(), waits, "no attempt follows at once");
    }
}

#[tokio::test(start_paused = true)]
async fn after_an_exact_pushback_every_kind_of_backoff_starts_anew() {
    let answers = Arc::new(AtomicUsize::new(0));
    let policy = Retry::default()
        .classifier(Classifier::grpc())
        .backoff(
            Backoff::default()
                .initial(Duration::from_millis(10))
                .jitter(Jitter::Decorrelated),
        )
        .without_budget()
        .build()
        .unwrap();
    let service = RetryLayer::new(policy).layer(service_fn(move |_: Request<Full<Bytes>>| {
        let first = answers.fetch_add(1, Relaxed) == 0;
        let answer = match first {
            true => trailers_only(&[("grpc-status", "14"), ("grpc-retry-pushback-ms", "1500")]),
            false => trailers_only(&[("grpc-status", "14")]),
        };
        std::future::ready(Ok::<_, Infallible>(answer))
    }));
    let start = Instant::now();
    service.oneshot(idempotent()).await.unwrap();
    let after_pushback = start.elapsed() - Duration::from_millis(1_500);
    assert!(
        after_pushback <= Duration::from_millis(30),
        "{after_pushback:?}: not three times the pushback"
    );
}
