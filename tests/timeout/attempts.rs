//! The limit of an attempt.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_hanging_attempt_ends_at_its_limit() {
    let start = Instant::now();
    let mock = Mock::new([Act::hang()]);
    let error = attempt(millis(20))
        .layer(mock.clone())
        .oneshot(get())
        .await
        .map(drop)
        .unwrap_err();
    assert_eq!(
        (start.elapsed(), error.kind()),
        (millis(20), ErrorKind::AttemptTimeout)
    );
    assert!(error.may_have_happened() && timeout_in_chain(&error));
    assert_eq!((mock.in_flight(), mock.dropped()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn the_limit_of_an_attempt_ends_with_the_head() {
    let body = [Step::pause(millis(500)), Step::data("slow")];
    let mock = Mock::new([Act::ok().after(millis(10)).body(body)]);
    let response = attempt(millis(20))
        .layer(mock)
        .oneshot(get())
        .await
        .expect("a head");
    let text = response
        .into_body()
        .collect()
        .await
        .expect("a body")
        .to_bytes();
    assert_eq!(text, "slow");
}

// TMO-03 (softonic/axios-retry#21)
#[tokio::test(start_paused = true)]
async fn an_attempt_gets_no_more_time_than_the_call_has_left() {
    let start = Instant::now();
    let service = deadline(millis(30)).layer(attempt(millis(80)).layer(Mock::new([Act::hang()])));
    let error = service.oneshot(get()).await.map(drop).unwrap_err();
    assert_eq!(
        (start.elapsed(), error.kind()),
        (millis(30), ErrorKind::DeadlineExceeded)
    );

    let start = Instant::now();
    let service = deadline(millis(80)).layer(attempt(millis(30)).layer(Mock::new([Act::hang()])));
    let error = service.oneshot(get()).await.map(drop).unwrap_err();
    assert_eq!(
        (start.elapsed(), error.kind()),
        (millis(30), ErrorKind::AttemptTimeout)
    );
    assert!(error.may_have_happened());
}

/// Sleeps before it hands a request on, as a queue does.
#[derive(Clone)]
struct Queue<S>(S, Duration);

impl<S, R> Service<R> for Queue<S>
where
    S: Service<R, Future: Send> + Clone + Send + 'static,
    R: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = futures::future::BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(
        &mut self,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let clone = self.0.clone();
        let mut inner = std::mem::replace(&mut self.0, clone);
        let wait = self.1;
        Box::pin(async move {
            sleep(wait).await;
            inner.call(request).await
        })
    }
}

// TMO-03 (softonic/axios-retry#21)
#[tokio::test(start_paused = true)]
async fn with_nothing_left_no_attempt_starts() {
    // The queue does not give up at the deadline by itself; what it hands on too late must not be sent.
    let mock = Mock::new([]);
    let late = Queue(attempt(millis(500)).layer(mock.clone()), millis(60));
    let mut service = deadline(millis(50)).layer(late);
    be_ready(&mut service).await;
    let mut call = tokio_test::task::spawn(service.call(get()));
    assert!(call.poll().is_pending());
    advance(millis(70)).await;
    let std::task::Poll::Ready(Err(error)) = call.poll() else {
        panic!("still pending")
    };
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
    assert_eq!(mock.calls(), 0);
    assert_eq!(error.disposition(), Disposition::NotSent);
}

// TMO-02 (JustinBeckwith/retry-axios#138)
#[tokio::test(start_paused = true)]
async fn a_deadline_placed_below_a_repetition_does_not_start_anew() {
    let start = Instant::now();
    let mock = Mock::new([Act::hang(), Act::hang(), Act::hang()]);
    let inner = deadline(millis(50)).layer(mock.clone());
    // Repeats within one call, as a foreign retry between two layers of this crate would.
    let repeated = tower::service_fn(move |request: Request<String>| {
        let inner = inner.clone();
        async move {
            let _ = inner.clone().oneshot(request.clone()).await;
            inner.oneshot(request).await
        }
    });
    let service = deadline(millis(500)).layer(repeated);
    let error = service.oneshot(get()).await.map(drop).unwrap_err();
    assert_eq!(
        (start.elapsed(), error.kind()),
        (millis(50), ErrorKind::DeadlineExceeded)
    );
    assert_eq!(mock.calls(), 1, "the second attempt had no time left");
}
