//! Streams, recorded and live.

use super::*;

type AnyBody = UnsyncBoxBody<Bytes, Infallible>;

/// The data of a request, and its trailers.
type Read = (Bytes, Option<HeaderMap>);

/// A service that reads whole request streams and fails the first of them in its trailers.
#[derive(Clone, Default)]
struct Collecting {
    seen: Arc<Mutex<Vec<Read>>>,
    /// It answers before it has read.
    early: bool,
}

impl Collecting {
    async fn answer(self, request: Request<AnyBody>) -> Result<Response<AnyBody>, Infallible> {
        if self.early {
            self.seen.lock().unwrap().push((Bytes::new(), None));
        } else {
            let read = request.into_body().collect().await?;
            let trailers = read.trailers().cloned();
            self.seen.lock().unwrap().push((read.to_bytes(), trailers));
        }
        let first = self.seen.lock().unwrap().len() == 1;
        let code = HeaderValue::from(if first { 14 } else { 0 });
        let trailers = HeaderMap::from_iter([(HeaderName::from_static("grpc-status"), code)]);
        let message = (!first).then(|| Ok(Frame::data(Bytes::from_static(b"\0\0\0\0\x01x"))));
        let frames = message.into_iter().chain([Ok(Frame::trailers(trailers))]);
        let response = Response::builder().header("content-type", "application/grpc");
        let body = StreamBody::new(stream::iter(frames)).boxed_unsync();
        Ok(response.body(body).unwrap())
    }
}

async fn collected(early: bool) -> (Response<impl Body<Data = Bytes>>, Collecting) {
    let collecting = Collecting {
        early,
        ..Collecting::default()
    };
    let server = collecting.clone();
    let service = ServiceBuilder::new()
        .layer(RetryLayer::new(retry().build().unwrap()))
        .layer(CommitLayer::new())
        .service(service_fn(move |request| server.clone().answer(request)));
    let sum = HeaderMap::from_iter([(
        HeaderName::from_static("x-sum"),
        HeaderValue::from_static("3"),
    )]);
    let parts = ["one", "two"].map(|part| Ok(Frame::data(Bytes::from(part))));
    let frames = stream::iter(parts.into_iter().chain([Ok(Frame::trailers(sum))]));
    let (parts, _) = idempotent(Method::Streaming).into_parts();
    let body = StreamBody::new(frames).boxed_unsync();
    let request = Request::from_parts(parts, body);
    (service.oneshot(request).await.unwrap(), collecting)
}

#[tokio::test(start_paused = true)]
async fn a_recorded_request_stream_is_sent_again_with_its_trailers() {
    let (response, server) = collected(false).await;
    assert_eq!(
        outcomes(&response),
        ["UNAVAILABLE", "OK"].map(Outcome::Grpc)
    );
    let seen = server.seen.lock().unwrap();
    assert_eq!(seen.len(), 2);
    for (data, trailers) in &*seen {
        assert_eq!(data, "onetwo");
        assert_eq!(trailers.as_ref().unwrap()["x-sum"], "3");
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_before_the_request_stream_ended_is_final() {
    let (response, server) = collected(true).await;
    let stop = response.extensions().get::<Report>().and_then(Report::stop);
    assert_eq!(stop, Some(Stop::EarlyAnswer));
    assert_eq!(server.seen.lock().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_bidirectional_call_gets_its_head_before_it_sends_anything() {
    let service = service_fn(|request: Request<UnsyncBoxBody<Bytes, Infallible>>| {
        // Each message comes back.
        let response = Response::builder().header("content-type", "application/grpc");
        ready(Ok::<_, Infallible>(
            response.body(request.into_body()).unwrap(),
        ))
    });
    let breaker = Breaker::count(3, Duration::from_secs(10)).unwrap();
    let service = Stack::new()
        .deadline(DeadlineLayer::new(Duration::from_secs(3)).unwrap())
        .retry(RetryLayer::new(retry().build().unwrap()))
        .circuit_breaker(CircuitBreakerLayer::new(breaker).classifier(Classifier::grpc()))
        .attempt_timeout(AttemptTimeoutLayer::new(ATTEMPT).unwrap())
        .commit(CommitLayer::new())
        .service(service);
    let (mut questions, queue) = mpsc::channel::<Result<Frame<Bytes>, Infallible>>(4);
    let (parts, _) = idempotent(Method::Streaming).into_parts();
    let request = Request::from_parts(parts, StreamBody::new(queue).boxed_unsync());
    let mut call = tokio_test::task::spawn(service.oneshot(request));
    let Poll::Ready(Ok(response)) = call.poll() else {
        panic!("the head is held back");
    };
    let mut body = response.into_body();
    for text in ["one", "two", "three"] {
        let mut answer = tokio_test::task::spawn(body.frame());
        assert!(answer.poll().is_pending());
        questions
            .send(Ok(Frame::data(Bytes::from(text))))
            .await
            .unwrap();
        assert!(answer.is_woken(), "the wakeup was lost");
        let frame = answer.await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), text);
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_was_silent_when_it_was_looked_at_wakes_its_reader() {
    let mock = Mock::new([grpc([Step::pause(millis(50)), message(), good()])]);
    let response = call(&mock, idempotent(Method::Streaming)).await.unwrap();
    // Read by another task than the one that got the head.
    let reading = tokio::spawn(async move {
        let mut body: Pin<Box<_>> = Box::pin(response.into_body());
        body.frame().await.unwrap().unwrap().is_data()
    });
    assert!(reading.await.unwrap());
}
