//! What becomes of the first frame.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_failure_right_after_the_head_is_one_of_the_head() {
    for method in BOTH {
        let act = grpc([unavailable()]).header("x-tenant", "blue");
        let response = opened(act, request(policy(method))).await.unwrap();
        let head = response.headers();
        assert_eq!(head["grpc-status"], "14");
        assert_eq!(head["grpc-message"], "draining");
        assert_eq!(head["x-tenant"], "blue");
        assert!(response.body().is_end_stream());
        assert_eq!(response.body().size_hint().exact(), Some(0));
        assert_eq!(read(response).await, (Bytes::new(), None));
    }
}

#[tokio::test(start_paused = true)]
async fn a_good_end_and_one_without_a_status_are_handed_out_as_they_came() {
    let other = || Step::trailers([("x", "y")]);
    for method in BOTH {
        for (end, expected) in [
            (Some(good()), Some("0")),
            (Some(other()), None),
            (None, None),
        ] {
            let ends = end.is_some();
            let act = grpc(end);
            let response = opened(act, request(policy(method))).await.unwrap();
            assert!(!response.headers().contains_key("grpc-status"));
            let (data, trailers) = read(response).await;
            assert_eq!(trailers.is_some(), ends);
            assert_eq!((data.len(), status(trailers.as_ref())), (0, expected));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_was_looked_at_is_the_first_of_the_body() {
    for method in BOTH {
        let act = grpc([message(), Step::data("more"), unavailable()]);
        let response = opened(act, request(policy(method))).await.unwrap();
        assert!(!response.headers().contains_key("grpc-status"));
        assert!(!response.body().is_end_stream());
        assert!(response.body().size_hint().lower() >= 6);
        let (data, trailers) = read(response).await;
        assert_eq!(data, &b"\0\0\0\0\x01xmore"[..]);
        assert_eq!(status(trailers.as_ref()), Some("14"));
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_message_does_not_look_like_the_end_before_it_is_read() {
    let known = || Full::new(Bytes::from_static(b"\0\0\0\0\x01x"));
    let service = service_fn(move |_: Request<Full<Bytes>>| {
        let response = Response::builder().header("content-type", "application/grpc");
        ready(Ok::<_, Infallible>(response.body(known()).unwrap()))
    });
    let service = CommitLayer::new().layer(service);
    let response = service.oneshot(request(policy(Method::Unary))).await;
    let mut body = response.unwrap().into_body();
    assert!(!body.is_end_stream());
    assert_eq!(body.size_hint().exact(), Some(6));
    assert!(body.frame().await.unwrap().is_ok());
    assert!(body.is_end_stream());
    assert_eq!(body.size_hint().exact(), Some(0));
    assert!(body.frame().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn an_empty_frame_is_no_message() {
    for method in BOTH {
        let empty = vec![Step::data(""); 3];
        let failing = grpc(empty.into_iter().chain([unavailable()]));
        let mock = Mock::new([failing, answer()]);
        let response = call(&mock, idempotent(method)).await.unwrap();
        assert_eq!((mock.calls(), read(response).await.0.len()), (2, 6));
    }
    let flood = grpc(vec![Step::data(""); 100_000]);
    let response = opened(flood, request(policy(Method::Unary))).await.unwrap();
    assert!(
        !response.body().is_end_stream(),
        "not all of it is looked at"
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_not_grpc_or_has_a_status_is_not_looked_at() {
    let poisoned = || Act::ok().body([broken()]);
    let http = Request::post("/").body(Full::default()).unwrap();
    let looks_grpc = grpc([broken()]);
    assert!(
        opened(looks_grpc, http).await.is_ok(),
        "the request is HTTP's"
    );
    for act in [
        poisoned(),
        poisoned().header("content-type", "text/html"),
        grpc([broken()]).header("grpc-status", "0"),
        grpc([broken()]).header("grpc-status", "14"),
        Act::status(503)
            .header("content-type", "application/grpc")
            .body([broken()]),
    ] {
        for method in BOTH {
            let response = opened(act.clone(), request(policy(method))).await;
            let body = response.expect("not looked at").into_body();
            assert!(body.collect().await.is_err(), "as it came");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn trailers_that_no_head_can_hold_are_no_panic_and_stay_trailers() {
    let numbered = |prefix: &str, count: usize| -> HeaderMap {
        let name = |number| HeaderName::try_from(format!("{prefix}-{number}")).unwrap();
        (0..count)
            .map(|number| (name(number), HeaderValue::from(number)))
            .collect()
    };
    let (head, mut end) = (numbered("head", 20_000), numbered("end", 20_000));
    end.insert("grpc-status", HeaderValue::from_static("14"));
    let service = service_fn(move |_: Request<Full<Bytes>>| {
        let frames = stream::iter([Ok::<_, Infallible>(Frame::<Bytes>::trailers(end.clone()))]);
        let mut response = Response::new(StreamBody::new(frames));
        *response.headers_mut() = head.clone();
        let grpc = HeaderValue::from_static("application/grpc");
        response.headers_mut().insert("content-type", grpc);
        ready(Ok::<_, Infallible>(response))
    });
    let service = CommitLayer::new().layer(service);
    let response = service.oneshot(request(policy(Method::Unary))).await;
    let (_, trailers) = read(response.unwrap()).await;
    assert_eq!(status(trailers.as_ref()), Some("14"));
}

#[tokio::test(start_paused = true)]
async fn readiness_is_that_of_the_inner_service_and_its_error_was_not_sent() {
    let failing = Mock::new([]).readiness(Readiness::Fail(io::ErrorKind::ConnectionReset));
    let mut service = CommitLayer::new().layer(failing);
    let error = poll_fn(|cx| Service::<Request<Full<Bytes>>>::poll_ready(&mut service, cx)).await;
    assert!(!error.unwrap_err().may_have_happened());
    let waiting = Mock::new([]).readiness(Readiness::Never);
    let mut service = CommitLayer::new().layer(waiting);
    let polled = poll_fn(|cx| {
        Poll::Ready(Service::<Request<Full<Bytes>>>::poll_ready(&mut service, cx).is_pending())
    });
    assert!(polled.await);
}
