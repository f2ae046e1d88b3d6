//! gRPC through the layers by hand: the status in the head, in the trailers, or missing; pushback.
#![expect(
    clippy::unwrap_used,
    reason = "helpers outside of the test functions set up what cannot fail"
)]

use std::{
    convert::Infallible,
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use evenkeel::{
    Backoff, Breaker, Budget, CallPolicy, CircuitBreakerLayer, DeadlineLayer, Jitter, Report,
    Retry, RetryLayer, RetryPolicy,
    breaker::State,
    call::Stop,
    classify::{Classifier, Evidence, Verdict},
};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use tokio::time::Instant;
use tower::{Layer, Service, ServiceExt, service_fn};

type Body = UnsyncBoxBody<Bytes, Infallible>;

fn map(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let entry = |(name, value): &(&'static str, &str)| {
        (
            HeaderName::from_static(name),
            HeaderValue::from_str(value).unwrap(),
        )
    };
    pairs.iter().map(entry).collect()
}

/// One message, then these trailers.
fn message(trailers: Option<HeaderMap>) -> Response<Body> {
    let data = Full::new(Bytes::from_static(b"\0\0\0\0\x01x"));
    let body = match trailers {
        Some(trailers) => data
            .with_trailers(async move { Some(Ok(trailers)) })
            .boxed_unsync(),
        None => data.boxed_unsync(),
    };
    let response = Response::builder().header("content-type", "application/grpc");
    response.body(body).unwrap()
}

/// A head that is all there is.
fn trailers_only(pairs: &[(&'static str, &str)]) -> Response<Body> {
    let mut response = Response::new(Full::default().boxed_unsync());
    *response.headers_mut() = map(pairs);
    let grpc = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert("content-type", grpc);
    response
}

/// Calls a breaker over this answer until it has been read to its end, so many times.
async fn state_after(times: usize, answer: fn() -> Response<Body>) -> State {
    state_after_of(times, answer, Classifier::grpc()).await
}

async fn state_after_of(
    times: usize,
    answer: impl Fn() -> Response<Body> + Clone + Send + Sync + 'static,
    classifier: Classifier,
) -> State {
    let breaker = Breaker::count(3, Duration::from_secs(10)).unwrap();
    read(&breaker, times, answer, classifier).await;
    breaker.state()
}

async fn read(
    breaker: &Breaker,
    times: usize,
    answer: impl Fn() -> Response<Body> + Clone + Send + Sync + 'static,
    classifier: Classifier,
) {
    let layer = CircuitBreakerLayer::new(breaker.clone()).classifier(classifier);
    let service = layer.layer(service_fn(move |_: Request<Full<Bytes>>| {
        std::future::ready(Ok::<_, Infallible>(answer()))
    }));
    for _ in 0..times {
        let call = service.clone().oneshot(Request::new(Full::default()));
        if let Ok(reply) = call.await {
            let _ = reply.into_body().collect().await;
        }
    }
}

// CLS-01, linkerd/linkerd2#7701, linkerd/linkerd2-proxy#2410
#[tokio::test(start_paused = true)]
async fn a_status_in_trailers_after_a_body_trips_the_breaker() {
    let unavailable = || message(Some(map(&[("grpc-status", "14")])));
    assert_eq!(state_after(3, unavailable).await, State::Open);
    assert_eq!(
        state_after(9, || message(Some(map(&[("grpc-status", "0")])))).await,
        State::Closed
    );
    assert_eq!(
        state_after(9, || message(Some(map(&[("grpc-status", "5")])))).await,
        State::Closed
    );
}

/// Calls that may take a second, of a server that sends a message and then ends them as if it knew: what the breaker
/// makes of it, and whether the balancer blames the server.
async fn blame_after_streams_until(
    end: Duration,
    status: &'static str,
    policy: CallPolicy,
) -> (State, bool) {
    let breaker = Breaker::count(3, Duration::from_secs(60)).unwrap();
    let layer = CircuitBreakerLayer::new(breaker.clone()).classifier(Classifier::grpc());
    let server = service_fn(move |_: Request<Full<Bytes>>| async move {
        let data = Full::new(Bytes::from_static(b"\0\0\0\0\x01x"));
        let body = data.with_trailers(async move {
            tokio::time::sleep(end).await;
            Some(Ok(map(&[("grpc-status", status)])))
        });
        let response = Response::builder().header("content-type", "application/grpc");
        Ok::<_, Infallible>(response.body(body.boxed_unsync()).unwrap())
    });
    let balancer = evenkeel::Balancer::builder(evenkeel::Fixed::new(["10.0.0.1:80"]))
        .classifier(Classifier::grpc())
        .build(move |_| Ok(server))
        .unwrap();
    let service = DeadlineLayer::new(Duration::from_secs(1))
        .unwrap()
        .layer(layer.layer(balancer.clone()));
    for _ in 0..3 {
        let mut request = Request::new(Full::default());
        request.extensions_mut().insert(policy.clone());
        let reply = service.clone().oneshot(request).await.unwrap();
        let _ = reply.into_body().collect().await;
    }
    (breaker.state(), balancer.endpoints()[0].penalty > 1.0)
}

#[tokio::test(start_paused = true)]
async fn a_server_that_ends_a_stream_at_the_deadline_its_caller_gave_is_not_blamed() {
    let millis = Duration::from_millis;
    let short = || CallPolicy::new().deadline(millis(400));
    for (end, status, policy, state) in [
        (millis(399), "4", short(), State::Closed),
        (millis(390), "4", short(), State::Open),
        (millis(399), "14", short(), State::Open),
        // All the time that the client gives was not enough.
        (millis(999), "4", CallPolicy::new(), State::Open),
    ] {
        let found = blame_after_streams_until(end, status, policy).await;
        let blamed = state == State::Open;
        assert_eq!(found, (state, blamed), "{status} after {end:?}");
    }
}

// CLS-02, linkerd/linkerd#1567, line/armeria#4496
#[tokio::test(start_paused = true)]
async fn a_trailers_only_status_is_judged_and_an_ok_one_is_a_success() {
    assert_eq!(
        state_after(3, || trailers_only(&[("grpc-status", "14")])).await,
        State::Open
    );
    assert_eq!(
        state_after(9, || trailers_only(&[("grpc-status", "0")])).await,
        State::Closed
    );
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_ends_without_a_status_is_no_success() {
    assert_eq!(state_after(3, || message(None)).await, State::Open);
    assert_eq!(
        state_after(3, || message(Some(map(&[("other", "x")])))).await,
        State::Open
    );
}

#[tokio::test(start_paused = true)]
async fn a_page_of_a_proxy_is_no_success() {
    let page = || Response::new(Full::from("<html>").boxed_unsync());
    assert_eq!(state_after(3, page).await, State::Open);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_dropped_after_a_good_head_is_a_success() {
    let breaker = Breaker::count(3, Duration::from_secs(10)).unwrap();
    let layer = CircuitBreakerLayer::new(breaker.clone()).classifier(Classifier::grpc());
    let service = layer.layer(service_fn(|_: Request<Full<Bytes>>| async {
        Ok::<_, Infallible>(message(Some(map(&[("grpc-status", "14")]))))
    }));
    for _ in 0..9 {
        drop(
            service
                .clone()
                .oneshot(Request::new(Full::default()))
                .await
                .unwrap(),
        );
    }
    assert_eq!(breaker.state(), State::Closed);
}

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

fn idempotent() -> Request<Full<Bytes>> {
    let mut request = Request::post("/shop.Cart/List")
        .body(Full::default())
        .unwrap();
    request
        .extensions_mut()
        .insert(CallPolicy::new().idempotent(true));
    request
}

/// One policy over a server of which a test says what it answers, and which remembers what it was sent.
struct Retried {
    policy: RetryPolicy,
    sent: Arc<Mutex<Vec<HeaderMap>>>,
}

impl Retried {
    fn new(settings: Retry) -> Self {
        Self::reading(settings, Classifier::grpc())
    }

    fn reading(settings: Retry, classifier: Classifier) -> Self {
        let backoff = Backoff::default().jitter(Jitter::None);
        let settings = settings.classifier(classifier).backoff(backoff);
        Self {
            policy: settings.build().unwrap(),
            sent: Arc::default(),
        }
    }

    /// Makes one call of which every attempt is answered so; how often it went out, and why no further.
    async fn call<E>(
        &self,
        request: Request<Full<Bytes>>,
        answer: impl Fn() -> Result<Response<Body>, E> + Clone + Send + Sync + 'static,
    ) -> (usize, Option<Stop>)
    where
        E: std::error::Error + Send + Sync + 'static,
    {
        self.sent.lock().unwrap().clear();
        let sent = Arc::clone(&self.sent);
        let layer = RetryLayer::new(self.policy.clone());
        let service = layer.layer(service_fn(move |request: Request<Full<Bytes>>| {
            sent.lock().unwrap().push(request.headers().clone());
            std::future::ready(answer())
        }));
        let stop = match service.oneshot(request).await {
            Ok(reply) => {
                let stop = reply.extensions().get::<Report>().and_then(Report::stop);
                let _ = reply.into_body().collect().await;
                stop
            }
            Err(error) => error.report().stop(),
        };
        (self.sent.lock().unwrap().len(), stop)
    }

    async fn status(&self, status: &'static str) -> (usize, Option<Stop>) {
        let answer = move || Ok::<_, Infallible>(trailers_only(&[("grpc-status", status)]));
        self.call(idempotent(), answer).await
    }

    async fn trailers(&self, trailers: Option<&'static str>) -> (usize, Option<Stop>) {
        let answer = move || {
            let trailers = trailers.map(|status| map(&[("grpc-status", status)]));
            Ok::<_, Infallible>(message(trailers))
        };
        self.call(idempotent(), answer).await
    }

    fn tokens(&self) -> f64 {
        let budget = self.policy.budget().expect("one");
        budget.balance(std::time::Instant::now())
    }

    fn previous_attempts(&self) -> Vec<Option<String>> {
        let number = |headers: &HeaderMap| {
            let values: Vec<_> = headers
                .get_all("grpc-previous-rpc-attempts")
                .iter()
                .collect();
            assert!(values.len() < 2, "{values:?}");
            values
                .first()
                .map(|value| value.to_str().unwrap().to_owned())
        };
        self.sent.lock().unwrap().iter().map(number).collect()
    }
}

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

// gRFC A6, "Throttling Retry Attempts and Hedged RPCs"
#[tokio::test(start_paused = true)]
async fn throttling_counts_to_the_token() {
    let budget = Budget::grpc_throttling(10, 0.1).unwrap();
    let retried = Retried::new(Retry::default().budget(budget));
    let empty = Some(Stop::BudgetEmpty);
    let used_up = Some(Stop::AttemptsExhausted { max_attempts: 3 });
    assert_eq!(retried.status("14").await, (3, used_up));
    close(retried.tokens(), 7.0);
    // 6, 5: half of the tokens is not more than half.
    assert_eq!(retried.status("14").await, (2, empty));
    close(retried.tokens(), 5.0);
    assert_eq!(retried.status("0").await, (1, None));
    close(retried.tokens(), 5.1);
    assert_eq!(retried.status("14").await, (1, empty));
    close(retried.tokens(), 4.1);
    // 5.1 has to be passed before the failure, which takes one itself.
    for _ in 0..19 {
        assert_eq!(retried.trailers(Some("0")).await, (1, None));
    }
    close(retried.tokens(), 6.0);
    assert_eq!(retried.status("14").await, (1, empty));
    for _ in 0..11 {
        retried.status("0").await;
    }
    close(retried.tokens(), 6.1);
    assert_eq!(retried.status("14").await, (2, empty));
    close(retried.tokens(), 4.1);
}

#[tokio::test(start_paused = true)]
async fn throttling_counts_what_is_retried_what_may_not_be_and_no_caller_faults() {
    let throttled = || {
        let budget = Budget::grpc_throttling(10, 0.5).unwrap().starting_with(6);
        Retried::new(Retry::default().max_attempts(1).budget(budget))
    };
    for (status, tokens) in [
        ("0", 6.5),
        ("14", 5.0),
        ("5", 6.0),
        ("3", 6.0),
        ("1", 6.0),
        ("8", 6.0),
        ("13", 6.0),
        ("abc", 6.0),
    ] {
        let in_head = throttled();
        in_head.status(status).await;
        close(in_head.tokens(), tokens);
        let in_trailers = throttled();
        in_trailers.trailers(Some(status)).await;
        close(in_trailers.tokens(), tokens);
    }
    let unsaid = throttled();
    unsaid.trailers(None).await;
    close(unsaid.tokens(), 6.0);

    // A pushback that forbids counts whatever the status; one that asks for a time only with a retried one.
    for (status, pushback, tokens) in [
        ("5", "-1", 5.0),
        ("5", "250", 6.0),
        ("8", "250", 5.0),
        ("13", "abc", 5.0),
        ("0", "-1", 6.5),
    ] {
        let forbidden = throttled();
        let pairs = [
            ("grpc-status", status),
            ("grpc-retry-pushback-ms", pushback),
        ];
        let answer = move || Ok::<_, Infallible>(trailers_only(&pairs));
        forbidden.call(idempotent(), answer).await;
        close(forbidden.tokens(), tokens);
        let at_end = throttled();
        let answer = move || Ok::<_, Infallible>(message(Some(map(&pairs))));
        at_end.call(idempotent(), answer).await;
        close(at_end.tokens(), tokens);
    }

    for kind in [
        io::ErrorKind::ConnectionRefused,
        io::ErrorKind::ConnectionReset,
    ] {
        let broken = throttled();
        let answer = move || Err(io::Error::from(kind));
        broken.call(idempotent(), answer).await;
        close(broken.tokens(), 5.0);
    }
}

#[tokio::test(start_paused = true)]
async fn an_unsafe_call_counts_though_it_is_not_retried() {
    let budget = Budget::grpc_throttling(10, 0.1).unwrap();
    let retried = Retried::new(Retry::default().budget(budget));
    let unsafe_call = Request::post("/shop.Cart/Add").body(Full::default());
    let unavailable = || Ok::<_, Infallible>(trailers_only(&[("grpc-status", "14")]));
    let ended = retried.call(unsafe_call.unwrap(), unavailable).await;
    assert_eq!(ended, (1, Some(Stop::NotIdempotent)));
    close(retried.tokens(), 9.0);
}

#[tokio::test(start_paused = true)]
async fn a_response_that_is_dropped_before_its_end_counts_as_its_head_says() {
    for (head_says_ok, tokens) in [(false, 6.0), (true, 6.5)] {
        let budget = Budget::grpc_throttling(10, 0.5).unwrap().starting_with(6);
        let retried = Retried::new(Retry::default().budget(budget));
        let layer = RetryLayer::new(retried.policy.clone());
        let service = layer.layer(service_fn(move |_: Request<Full<Bytes>>| {
            let mut answer = message(Some(map(&[("grpc-status", "14")])));
            if head_says_ok {
                let ok = HeaderValue::from_static("0");
                answer.headers_mut().insert("grpc-status", ok);
            }
            std::future::ready(Ok::<_, Infallible>(answer))
        }));
        drop(service.oneshot(idempotent()).await.unwrap());
        close(retried.tokens(), tokens);
    }
}

#[tokio::test(start_paused = true)]
async fn one_throttle_serves_several_policies() {
    let budget = Budget::grpc_throttling(4, 0.1).unwrap();
    let policy = || Retried::new(Retry::default().budget(budget.clone()));
    let (one, other) = (policy(), policy());
    assert_eq!(one.status("14").await, (2, Some(Stop::BudgetEmpty)));
    assert_eq!(other.status("14").await, (1, Some(Stop::BudgetEmpty)));
    close(other.tokens(), 1.0);
}

#[tokio::test(start_paused = true)]
async fn operations_of_any_kind_are_throttled_by_the_same_rule() {
    let budget = Budget::grpc_throttling(4, 0.5).unwrap();
    let settings = Retry::default().budget(budget.clone());
    let policy = settings.max_attempts(9).build().unwrap();
    let attempts = AtomicUsize::new(0);
    let failing = |_| {
        attempts.fetch_add(1, Relaxed);
        std::future::ready(Err::<(), _>("no"))
    };
    assert_eq!(evenkeel::retry::run(&policy, failing).await, Err("no"));
    assert_eq!(attempts.load(Relaxed), 2);
    let working = |_| std::future::ready(Ok::<_, &str>(()));
    assert_eq!(evenkeel::retry::run(&policy, working).await, Ok(()));
    close(budget.balance(std::time::Instant::now()), 2.5);
}

fn close(tokens: f64, expected: f64) {
    assert!((tokens - expected).abs() < 1e-9, "{tokens}, not {expected}");
}
