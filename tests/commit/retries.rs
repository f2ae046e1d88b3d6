//! Retries of what failed after its head.

use super::*;

// CLS-01 with no message, linkerd/linkerd2#7701
#[tokio::test(start_paused = true)]
async fn a_failure_in_trailers_without_a_message_is_sent_again_if_that_does_no_harm() {
    for method in BOTH {
        let mock = Mock::new([grpc([unavailable()]), grpc([unavailable()]), answer()]);
        let response = call(&mock, idempotent(method)).await.unwrap();
        let named = ["UNAVAILABLE", "UNAVAILABLE", "OK"].map(Outcome::Grpc);
        assert_eq!(outcomes(&response), named);
        assert_eq!((mock.calls(), read(response).await.0.len()), (3, 6));

        let mock = Mock::new([grpc([unavailable()])]);
        let response = call(&mock, request(policy(method))).await.unwrap();
        assert_eq!(outcomes(&response), [Outcome::Grpc("UNAVAILABLE")]);
        assert_eq!(
            (mock.calls(), &response.headers()["grpc-status"]),
            (1, &HeaderValue::from(14))
        );

        let mock = Mock::new([grpc([not_found()])]);
        let response = call(&mock, idempotent(method)).await.unwrap();
        assert_eq!(
            (mock.calls(), &response.headers()["grpc-status"]),
            (1, &HeaderValue::from(5))
        );
    }
}

// RTY-09, grpc/grpc-java#7308, grpc/proposal#12
#[tokio::test(start_paused = true)]
async fn after_a_message_nothing_is_sent_again() {
    for method in BOTH {
        for (end, breaks) in [(unavailable(), false), (broken(), true)] {
            let mock = Mock::new([grpc([message(), end])]);
            let response = call(&mock, idempotent(method)).await.unwrap();
            let mut body = Box::pin(response.into_body());
            assert!(body.frame().await.unwrap().unwrap().is_data());
            let last = body.frame().await.unwrap();
            assert_eq!(last.is_err(), breaks);
            assert_eq!(mock.calls(), 1);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn only_a_unary_method_waits_for_what_comes_later() {
    let late = || grpc([Step::pause(millis(100)), unavailable()]);
    let mock = Mock::new([late(), answer()]);
    let start = Instant::now();
    let response = call(&mock, idempotent(Method::Unary)).await.unwrap();
    assert_eq!((mock.calls(), start.elapsed()), (2, millis(110)));
    assert_eq!(read(response).await.0.len(), 6);

    let mock = Mock::new([late(), answer()]);
    let start = Instant::now();
    let response = call(&mock, idempotent(Method::Streaming)).await.unwrap();
    assert_eq!(start.elapsed(), Duration::ZERO, "the head is not held back");
    let (_, trailers) = read(response).await;
    assert_eq!(status(trailers.as_ref()), Some("14"));
    assert_eq!((mock.calls(), start.elapsed()), (1, millis(100)));
}

#[tokio::test(start_paused = true)]
async fn a_unary_call_that_hangs_after_its_head_ends_with_its_attempt_and_is_sent_again() {
    let mock = Mock::new([grpc([Step::stall()]), answer()]);
    let start = Instant::now();
    let response = call(&mock, idempotent(Method::Unary)).await.unwrap();
    assert_eq!(start.elapsed(), ATTEMPT + millis(10));
    assert_eq!(
        outcomes(&response),
        [Outcome::Failed("attempt timed out"), Outcome::Grpc("OK")]
    );
    assert_eq!(mock.bodies(), 1, "the stream that hung is gone");

    let mock = Mock::new([grpc([Step::stall()])]);
    let error = call(&mock, request(policy(Method::Unary)))
        .await
        .err()
        .unwrap();
    assert_eq!((error.kind(), mock.calls()), (ErrorKind::AttemptTimeout, 1));
    assert!(error.may_have_happened());
    assert_eq!(mock.bodies(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_deadline_ends_the_wait_too_and_a_caller_that_goes_away_ends_the_stream() {
    let mock = Mock::new([grpc([Step::stall()]), grpc([Step::stall()])]);
    let hurried = policy(Method::Unary).deadline(millis(200));
    let error = call(&mock, request(hurried)).await.err().unwrap();
    assert_eq!(
        (error.kind(), mock.bodies()),
        (ErrorKind::DeadlineExceeded, 0)
    );
    let mut given_up = tokio_test::task::spawn(call(&mock, request(policy(Method::Unary))));
    assert!(given_up.poll().is_pending());
    assert_eq!((mock.calls(), mock.bodies()), (2, 1));
    drop(given_up);
    assert_eq!(mock.bodies(), 0);
}

// RTY-03, after the head: JuliaWeb/HTTP.jl#1294
#[tokio::test(start_paused = true)]
async fn a_stream_that_breaks_before_its_first_message_is_a_failed_attempt() {
    for method in BOTH {
        let mock = Mock::new([grpc([broken()]), answer()]);
        let response = call(&mock, idempotent(method)).await.unwrap();
        assert_eq!((mock.calls(), outcomes(&response).len()), (2, 2));

        let mock = Mock::new([grpc([broken()])]);
        let error = call(&mock, request(policy(method))).await.err().unwrap();
        assert_eq!((error.kind(), mock.calls()), (ErrorKind::Upstream, 1));
        assert!(error.may_have_happened());
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_had_begun_to_answer_cannot_claim_that_it_did_nothing() {
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&sent);
    let refused = || Err::<Frame<Bytes>, _>(io::Error::from(io::ErrorKind::ConnectionRefused));
    let classifier = Classifier::grpc().evidence(|_| Some(Evidence::Refused));
    let patient = retry().classifier(classifier).build().unwrap();
    let service = RetryLayer::new(patient).layer(CommitLayer::new().layer(service_fn(
        move |_: Request<Full<Bytes>>| {
            counted.fetch_add(1, SeqCst);
            let response = Response::builder().header("content-type", "application/grpc");
            let body = StreamBody::new(stream::iter([refused()]));
            ready(Ok::<_, Infallible>(response.body(body).unwrap()))
        },
    )));
    let error = service
        .oneshot(request(policy(Method::Unary)))
        .await
        .err()
        .unwrap();
    assert_eq!(sent.load(SeqCst), 1);
    assert!(error.may_have_happened());
    assert_eq!(error.report().stop(), Some(Stop::NotIdempotent));
}

// BKO-11, grpc/proposal#12, thomhurst/Kevlar#465
#[tokio::test(start_paused = true)]
async fn pushback_in_the_trailers_is_kept_to() {
    const ASKED: &str = "grpc-retry-pushback-ms";
    let busy = |step| grpc([step]);
    let wait = Step::trailers([("grpc-status", "14"), (ASKED, "250")]);
    let exhausted = Step::trailers([("grpc-status", "8"), (ASKED, "0")]);
    let silent = Step::trailers([("grpc-status", "8")]);
    let never = Step::trailers([("grpc-status", "14"), (ASKED, "-1")]);
    for (step, calls, took) in [
        (wait, 2, millis(250)),
        (exhausted, 2, Duration::ZERO),
        (silent, 1, Duration::ZERO),
        (never, 1, Duration::ZERO),
    ] {
        let mock = Mock::new([busy(step), answer()]);
        let start = Instant::now();
        let response = call(&mock, idempotent(Method::Streaming)).await.unwrap();
        assert_eq!((mock.calls(), start.elapsed()), (calls, took));
        assert_eq!(response.headers().contains_key("grpc-status"), calls == 1);
    }
}

// gRFC A6
#[tokio::test(start_paused = true)]
async fn throttling_counts_what_came_after_the_head_once() {
    let budget = Budget::grpc_throttling(10, 0.5).unwrap().starting_with(8);
    let policy = retry().budget(budget.clone()).build().unwrap();
    let mock = Mock::new([grpc([unavailable()]), answer()]);
    let service = RetryLayer::new(policy).layer(CommitLayer::new().layer(mock));
    let response = service.oneshot(idempotent(Method::Unary)).await.unwrap();
    let tokens = || budget.balance(std::time::Instant::now());
    assert!((tokens() - 7.0).abs() < 1e-9, "{}", tokens());
    read(response).await;
    assert!((tokens() - 7.5).abs() < 1e-9, "{}", tokens());
}
