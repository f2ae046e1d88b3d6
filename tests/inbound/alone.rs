//! The layer alone.

use super::*;

fn asking(name: &'static str, value: &'static str) -> Request<Empty<Bytes>> {
    let request = Request::get("/").header(name, value);
    request.body(Empty::new()).expect("a request")
}

/// Answers with what is left in its head's extensions, when it was called and when it was polled, and in its body.
fn telling() -> impl Service<
    Request<Empty<Bytes>>,
    Response = Response<impl http_body::Body<Data = Bytes, Error = Infallible>>,
    Error = Infallible,
> + Clone {
    service_fn(|_: Request<Empty<Bytes>>| {
        let called = left();
        async move {
            let told = stream::once(async {
                let text = format!("{:?}", left().is_some());
                Ok(http_body::Frame::data(Bytes::from(text)))
            });
            let mut response = Response::new(StreamBody::new(told));
            response.extensions_mut().insert([called, left()]);
            Ok(response)
        }
    })
}

#[tokio::test(start_paused = true)]
async fn the_handler_inherits_when_it_is_called_when_it_is_polled_and_in_its_body() {
    let layer = InboundLayer::new().header(header());
    let request = asking(HEADER, "500");
    let reply = layer
        .layer(telling())
        .oneshot(request)
        .await
        .expect("infallible");
    let half = Some(millis(500));
    assert_eq!(reply.extensions().get(), Some(&[half, half]));
    assert_eq!(left(), None, "not left behind");
    let body = Box::pin(reply.into_body())
        .collect()
        .await
        .expect("infallible");
    assert_eq!(body.to_bytes(), "true");
}

#[tokio::test(start_paused = true)]
async fn the_header_of_choice_is_none_unless_set_and_grpcs_means_nothing_elsewhere() {
    for (layer, request) in [
        (InboundLayer::new(), asking(HEADER, "500")),
        (InboundLayer::new(), asking(HEADER, "soon")),
        (
            InboundLayer::new().header(header()),
            asking("grpc-timeout", "1x"),
        ),
    ] {
        let reply = layer
            .layer(telling())
            .oneshot(request)
            .await
            .expect("infallible");
        assert_eq!(reply.extensions().get(), Some(&[None::<Duration>; 2]));
    }
}

#[tokio::test(start_paused = true)]
async fn of_two_layers_the_sooner_deadline_holds() {
    for (outer, inner) in [("x-outer", HEADER), (HEADER, "x-outer")] {
        let layer = |name| {
            let header = DeadlineHeader::millis(name).expect("a header name");
            InboundLayer::new().header(header)
        };
        let mut request = asking("x-outer", "700");
        let less = http::HeaderValue::from_static("500");
        request.headers_mut().insert(HEADER, less);
        let service = layer(outer).layer(layer(inner).layer(telling()));
        let reply = service.oneshot(request).await.expect("infallible");
        let half = Some(millis(500));
        assert_eq!(reply.extensions().get(), Some(&[half, half]));
    }
}

#[tokio::test(start_paused = true)]
async fn time_that_the_handler_spends_is_not_left_for_its_calls() {
    let late = service_fn(|_: Request<Empty<Bytes>>| async {
        sleep(millis(600)).await;
        let deadline = InheritedDeadline::current().deadline();
        let error = deadline.run(async { "sent" }).await.expect_err("over");
        Ok::<_, Infallible>(Response::new(Full::from(error.to_string())))
    });
    let layer = InboundLayer::new().header(header());
    let reply = layer.layer(late).oneshot(asking(HEADER, "500")).await;
    let said = reply.expect("infallible").collect().await.expect("a body");
    assert_eq!(said.to_bytes(), "deadline exceeded; it was not sent");
}

#[tokio::test]
async fn a_body_keeps_its_length_and_its_end() {
    let answer = |body: &'static str| {
        let body = Full::<Bytes>::from(body);
        service_fn(move |_: Request<Empty<Bytes>>| {
            let body = body.clone();
            async move { Ok::<_, Infallible>(Response::new(body)) }
        })
    };
    for (body, over) in [("hello", false), ("", true)] {
        let service = InboundLayer::new().layer(answer(body));
        let reply = service.oneshot(asking("x", "y")).await.expect("infallible");
        let size = http_body::Body::size_hint(reply.body()).exact();
        assert_eq!(size, Some(body.len() as u64));
        assert_eq!(http_body::Body::is_end_stream(reply.body()), over);
    }
}
