//! The contract suite finds what it is for: each layer here has one planted fault.
#![allow(clippy::unwrap_used, reason = "a step that fails, fails its test")]

use std::{
    convert::Infallible,
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::Bytes;
use evenkeel::{
    Body,
    testkit::{
        Scripted, ScriptedBody,
        contract::{self, Contract, Suite},
    },
};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::{BodyExt, combinators::UnsyncBoxBody};
use tokio::{sync::Semaphore, time::sleep};
use tower::{
    BoxError, Layer, Service, ServiceExt,
    buffer::Buffer,
    limit::ConcurrencyLimitLayer,
    load_shed::LoadShedLayer,
    timeout::TimeoutLayer,
    util::{BoxCloneSyncService, MapRequestLayer},
};

type AnyBody = UnsyncBoxBody<Bytes, BoxError>;
type Answer = Result<Response<AnyBody>, BoxError>;
type Answering = Pin<Box<dyn Future<Output = Answer> + Send>>;
type CallFn = Arc<dyn Fn(Scripted, Request<Body>) -> Answering + Send + Sync>;

const MILLI: Duration = Duration::from_millis(1);

/// A layer without a fault but that of the function which makes its calls.
#[derive(Clone)]
struct Plain {
    inner: Scripted,
    call: CallFn,
}

impl Plain {
    fn new<F>(
        call: impl Fn(Scripted, Request<Body>) -> F + Send + Sync + 'static,
    ) -> impl Fn(Scripted) -> Self + Send + Sync
    where
        F: Future<Output = Answer> + Send + 'static,
    {
        let call: CallFn = Arc::new(move |inner, request| Box::pin(call(inner, request)));
        move |inner| Self {
            inner,
            call: Arc::clone(&call),
        }
    }
}

impl Service<Request<Body>> for Plain {
    type Response = Response<AnyBody>;
    type Error = BoxError;
    type Future = Answering;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        poll_inner(&mut self.inner, cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<Body>) -> Answering {
        let clone = self.inner.clone();
        (self.call)(std::mem::replace(&mut self.inner, clone), request)
    }
}

fn poll_inner(inner: &mut Scripted, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    Service::<Request<Body>>::poll_ready(inner, cx)
}

/// Calls an instance that is ready.
async fn forward(mut inner: Scripted, request: Request<Body>) -> Answer {
    Ok(inner.call(request).await?.map(boxed))
}

fn boxed(body: ScriptedBody) -> AnyBody {
    body.map_err(Into::into).boxed_unsync()
}

#[track_caller]
fn assert_breaks<S, RB>(contract: Contract, suite: Suite<S>)
where
    S: Service<Request<Body>, Response = Response<RB>, Error: Into<BoxError>, Future: 'static>
        + Clone
        + 'static,
    RB: HttpBody<Data = Bytes, Error: Into<BoxError>> + 'static,
{
    let breaches = suite.breaches();
    let sentences: Vec<_> = breaches.iter().map(ToString::to_string).collect();
    let found = breaches.iter().find(|breach| breach.contract == contract);
    let found = found.unwrap_or_else(|| panic!("{contract} not among {sentences:?}"));
    assert!(found.to_string().starts_with(&format!("{contract:?} (")));
}

#[tokio::test]
async fn the_suite_may_be_asked_for_inside_of_a_runtime() {
    contract::check(Plain::new(forward));
}

#[test]
fn layers_without_a_fault_break_nothing() {
    Suite::new(Plain::new(forward)).check();
    contract::check(|inner| TimeoutLayer::new(Duration::from_secs(9)).layer(inner));
    contract::check(|inner| MapRequestLayer::new(|request| request).layer(inner));
    contract::check(|inner: Scripted| {
        let inner = ServiceExt::<Request<Body>>::map_err(inner, BoxError::from);
        BoxCloneSyncService::<Request<Body>, _, BoxError>::new(inner)
    });
    for slots in [1, 3] {
        Suite::new(move |inner| ConcurrencyLimitLayer::new(slots).layer(inner))
            .slots(slots)
            .check();
    }
    Suite::new(|inner| LoadShedLayer::new().layer(inner))
        .without(Contract::WaitsForReadiness)
        .without(Contract::WakesWaiters)
        .without(Contract::TakesLongDurations)
        .check();
}

/// Found by their names in this file.
#[test]
fn every_contract_has_a_fault_here() {
    let source: String = include_str!("contract_faults.rs")
        .split_whitespace()
        .collect();
    for contract in Contract::ALL {
        let planted = format!("assert_breaks(Contract::{contract:?},");
        assert!(source.contains(&planted), "{contract}");
    }
}

#[test]
fn a_clone_that_is_called_is_found() {
    let fault = Plain::new(|inner: Scripted, request| forward(inner.clone(), request));
    assert_breaks(Contract::CallsReadyInstance, Suite::new(fault));
}

/// Turns a call away where it should wait.
#[derive(Clone)]
struct Shedding(Plain, bool);

impl Service<Request<Body>> for Shedding {
    type Response = Response<AnyBody>;
    type Error = BoxError;
    type Future = Answering;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        let polled = self.0.poll_ready(cx);
        self.1 = polled.is_pending();
        match polled {
            Poll::Ready(ready) => Poll::Ready(ready),
            Poll::Pending => Poll::Ready(Ok(())),
        }
    }

    fn call(&mut self, request: Request<Body>) -> Answering {
        match self.1 {
            true => Box::pin(async { Err("overloaded".into()) }),
            false => self.0.call(request),
        }
    }
}

#[test]
fn a_call_that_is_turned_away_instead_of_waiting_is_found() {
    let fault = |inner| Shedding(Plain::new(forward)(inner), false);
    assert_breaks(Contract::WaitsForReadiness, Suite::new(fault));
}

/// Answers by itself where the service failed to get ready.
#[derive(Clone)]
struct Hiding(Plain, bool);

impl Service<Request<Body>> for Hiding {
    type Response = Response<AnyBody>;
    type Error = BoxError;
    type Future = Answering;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.1 = ready!(self.0.poll_ready(cx)).is_err();
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Answering {
        if !self.1 {
            return self.0.call(request);
        }
        let empty = http_body_util::Empty::new();
        let empty = empty.map_err(|never: Infallible| match never {});
        Box::pin(async move { Ok(Response::new(empty.boxed_unsync())) })
    }
}

#[test]
fn an_error_of_readiness_that_gets_lost_is_found() {
    let fault = |inner| Hiding(Plain::new(forward)(inner), false);
    assert_breaks(Contract::KeepsReadinessErrors, Suite::new(fault));
}

#[test]
fn a_layer_that_is_only_as_ready_as_its_service_is_found() {
    let fault = Suite::new(Plain::new(forward)).always_ready();
    assert_breaks(Contract::AlwaysReady, fault);
}

#[test]
fn a_place_that_is_held_over_a_pause_is_found() {
    let fault = Plain::new(|inner, request| async {
        sleep(MILLI).await;
        forward(inner, request).await
    });
    assert_breaks(Contract::HoldsNoPlace, Suite::new(fault));
}

#[test]
fn a_call_that_goes_on_after_it_was_dropped_is_found() {
    let fault = Plain::new(|inner, request| async { tokio::spawn(forward(inner, request)).await? });
    assert_breaks(Contract::GivesBack, Suite::new(fault));
}

#[test]
fn a_task_that_outlives_the_last_clone_is_found() {
    let fault = Plain::new(|inner, request| {
        tokio::spawn(std::future::pending::<()>());
        forward(inner, request)
    });
    assert_breaks(Contract::GivesBack, Suite::new(fault));
}

/// Notes that a call went away before its answer.
struct Gone(Arc<AtomicUsize>, bool);

impl Drop for Gone {
    fn drop(&mut self) {
        if !self.1 {
            self.0.fetch_add(1, SeqCst);
        }
    }
}

#[test]
fn a_call_that_takes_others_with_it_is_found() {
    let fault = |inner| {
        let gone = Arc::new(AtomicUsize::new(0));
        Plain::new(move |inner, request| {
            let (gone, before) = (Arc::clone(&gone), gone.load(SeqCst));
            async move {
                let mut mine = Gone(Arc::clone(&gone), false);
                let answer = forward(inner, request).await;
                mine.1 = true;
                match gone.load(SeqCst) == before {
                    true => answer,
                    false => Err("the connection went with another call".into()),
                }
            }
        })(inner)
    };
    assert_breaks(Contract::LeavesOthersAlone, Suite::new(fault));
}

#[test]
fn a_permit_that_comes_back_only_with_the_answer_is_found() {
    let fault = |inner| {
        let permits = Arc::new(Semaphore::new(3));
        Plain::new(move |inner: Scripted, request| {
            let permits = Arc::clone(&permits);
            drop(inner.clone());
            async move {
                permits.acquire().await?.forget();
                let answer = inner.oneshot(request).await;
                permits.add_permits(1);
                Ok(answer?.map(boxed))
            }
        })(inner)
    };
    assert_breaks(Contract::GivesBack, Suite::new(fault).slots(3));
}

#[test]
fn a_counter_that_a_dropped_body_does_not_lower_is_found() {
    let running = Arc::new(AtomicUsize::new(0));
    let shown = Arc::clone(&running);
    let fault = Plain::new(move |inner, request| {
        let running = Arc::clone(&running);
        async move {
            let answer = forward(inner, request).await?;
            running.fetch_add(1, SeqCst);
            Ok(answer.map(|body| {
                let ended = CountedBody { body, running };
                ended.boxed_unsync()
            }))
        }
    });
    let suite = Suite::new(fault).counter("bodies", move |_| shown.load(SeqCst));
    assert_breaks(Contract::GivesBack, suite);
}

/// Lowers its counter at the end of the body alone.
struct CountedBody {
    body: AnyBody,
    running: Arc<AtomicUsize>,
}

impl HttpBody for CountedBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if !matches!(frame, Some(Ok(_))) {
            self.running.fetch_sub(1, SeqCst);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[test]
fn a_lock_that_a_panic_of_the_service_poisons_is_found() {
    let fault = |inner| {
        let lock = Arc::new(Mutex::new(()));
        Plain::new(move |mut inner: Scripted, request| {
            let _guard = lock.lock().expect("nobody panicked");
            let answer = inner.call(request);
            async { Ok(answer.await?.map(boxed)) }
        })(inner)
    };
    assert_breaks(Contract::SurvivesPanics, Suite::new(fault));
}

#[test]
fn a_lock_that_a_panic_of_a_callback_poisons_is_found() {
    let suite = Suite::new(Plain::new(forward)).callback("on answer", |inner, wire| {
        let seen = Arc::new(Mutex::new(0));
        Plain::new(move |inner, request| {
            let (wire, seen) = (wire.clone(), Arc::clone(&seen));
            async move {
                let answer = forward(inner, request).await;
                let mut seen = seen.lock().expect("nobody panicked");
                wire.touch();
                *seen += 1;
                answer
            }
        })(inner)
    });
    assert_breaks(Contract::SurvivesPanics, suite);
}

#[test]
fn a_callback_that_is_never_called_is_found() {
    let suite = Suite::new(Plain::new(forward))
        .callback("on answer", |inner, _wire| Plain::new(forward)(inner));
    assert_breaks(Contract::SurvivesPanics, suite);
}

#[test]
fn a_call_that_wakes_itself_is_found() {
    let fault = Plain::new(|inner, request| {
        let mut answer = Box::pin(forward(inner, request));
        std::future::poll_fn(move |cx| {
            let polled = answer.as_mut().poll(cx);
            if polled.is_pending() {
                cx.waker().wake_by_ref();
            }
            polled
        })
    });
    assert_breaks(Contract::DoesNotSpin, Suite::new(fault));
}

#[test]
fn a_call_that_looks_again_every_few_milliseconds_is_found() {
    let fault = Plain::new(|inner, request| async {
        let mut answer = Box::pin(forward(inner, request));
        loop {
            if let Ok(answer) = tokio::time::timeout(MILLI * 20, &mut answer).await {
                return answer;
            }
        }
    });
    assert_breaks(Contract::DoesNotSpin, Suite::new(fault));
}

#[test]
fn a_call_that_remembers_its_first_waker_is_found() {
    let fault = Plain::new(|inner, request| {
        let mut answer = Box::pin(forward(inner, request));
        let mut first: Option<Waker> = None;
        std::future::poll_fn(move |cx| {
            let waker = first.get_or_insert_with(|| cx.waker().clone());
            answer.as_mut().poll(&mut Context::from_waker(waker))
        })
    });
    assert_breaks(Contract::WakesWaiters, Suite::new(fault));
}

/// Hands a free slot to the first who waits, who may be gone.
#[derive(Clone, Default)]
struct Forgetful(Arc<Mutex<(usize, Vec<Waker>)>>);

impl Forgetful {
    const SLOTS: usize = 2;

    fn poll(&self, cx: &Context<'_>) -> Poll<Held> {
        let mut state = self.0.lock().unwrap();
        if state.0 < Self::SLOTS {
            state.0 += 1;
            return Poll::Ready(Held(self.clone()));
        }
        if !state.1.iter().any(|waker| waker.will_wake(cx.waker())) {
            state.1.push(cx.waker().clone());
        }
        Poll::Pending
    }
}

struct Held(Forgetful);

impl Drop for Held {
    fn drop(&mut self) {
        let mut state = self.0.0.lock().unwrap();
        state.0 -= 1;
        if !state.1.is_empty() {
            state.1.remove(0).wake();
        }
    }
}

#[test]
fn a_wake_that_is_lost_with_a_waiter_who_went_away_is_found() {
    let fault = |inner| {
        let slots = Forgetful::default();
        Plain::new(move |inner: Scripted, request| {
            let slots = slots.clone();
            let fresh = inner.clone();
            drop(inner);
            async move {
                let _held = std::future::poll_fn(|cx| slots.poll(cx)).await;
                Ok(fresh.oneshot(request).await?.map(boxed))
            }
        })(inner)
    };
    assert_breaks(
        Contract::WakesWaiters,
        Suite::new(fault).slots(Forgetful::SLOTS),
    );
}

#[test]
fn a_call_that_is_silent_after_its_end_is_found() {
    let fault = Plain::new(|inner, request| {
        let mut answer = Some(Box::pin(forward(inner, request)));
        std::future::poll_fn(move |cx| {
            let Some(running) = &mut answer else {
                return Poll::Pending;
            };
            let polled = ready!(running.as_mut().poll(cx));
            answer = None;
            Poll::Ready(polled)
        })
    });
    assert_breaks(Contract::EndsOnce, Suite::new(fault));
}

/// Refuses calls after three failures, which every instance counts for itself.
struct Counting {
    inner: Plain,
    failures: Arc<AtomicUsize>,
}

impl Clone for Counting {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            failures: Arc::default(),
        }
    }
}

impl Service<Request<Body>> for Counting {
    type Response = Response<AnyBody>;
    type Error = BoxError;
    type Future = Answering;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Answering {
        if self.failures.load(SeqCst) >= 3 {
            return Box::pin(async { Err("open".into()) });
        }
        let (answer, failures) = (self.inner.call(request), Arc::clone(&self.failures));
        Box::pin(async move {
            let answer = answer.await;
            let failed = |answer: &Response<AnyBody>| answer.status() >= StatusCode::BAD_REQUEST;
            if answer.as_ref().map_or(true, failed) {
                failures.fetch_add(1, SeqCst);
            }
            answer
        })
    }
}

#[test]
fn clones_that_count_for_themselves_are_found() {
    let fault = |inner| Counting {
        inner: Plain::new(forward)(inner),
        failures: Arc::default(),
    };
    assert_breaks(Contract::SharesState, Suite::new(fault));
}

#[test]
fn an_instant_that_overflows_is_found() {
    let longest = Plain::new(|inner, request| async {
        let end = tokio::time::Instant::now() + Duration::MAX;
        tokio::time::timeout_at(end, forward(inner, request)).await?
    });
    let suite = Suite::new(Plain::new(forward)).longest(longest);
    assert_breaks(Contract::TakesLongDurations, suite);
}

#[test]
fn a_limit_that_is_cut_in_silence_is_found() {
    let longest = Plain::new(|inner, request| async {
        let limit = Duration::MAX.min(Duration::from_secs(24 * 3600));
        tokio::time::timeout(limit, forward(inner, request)).await?
    });
    let suite = Suite::new(Plain::new(forward)).longest(longest);
    assert_breaks(Contract::TakesLongDurations, suite);
}

#[test]
fn a_task_that_is_spawned_where_a_layer_is_made_is_found() {
    let fault = |inner| Buffer::<Request<Body>, _>::new(inner, 4);
    assert_breaks(Contract::NeedsNoRuntime, Suite::new(fault));
}

#[test]
fn a_worker_that_ends_with_its_runtime_is_found() {
    let fault = |inner| Buffer::<Request<Body>, _>::new(inner, 4);
    assert_breaks(Contract::OutlivesRuntime, Suite::new(fault));
}

#[test]
fn what_a_layer_does_to_a_request_or_a_response_is_found() {
    let headers = Plain::new(|inner, mut request: Request<Body>| {
        *request.headers_mut() = HeaderMap::new();
        forward(inner, request)
    });
    assert_breaks(Contract::PassesCalls, Suite::new(headers));
    let body =
        Plain::new(|inner, request: Request<Body>| forward(inner, request.map(|_| Body::empty())));
    assert_breaks(Contract::PassesCalls, Suite::new(body));
    let collected = Plain::new(|inner, request: Request<Body>| async {
        let (parts, body) = request.into_parts();
        let whole = Body::from(body.collect().await?.to_bytes());
        forward(inner, Request::from_parts(parts, whole)).await
    });
    assert_breaks(Contract::PassesCalls, Suite::new(collected));
    let status = Plain::new(|inner, request| async {
        let mut answer = forward(inner, request).await?;
        *answer.status_mut() = StatusCode::OK;
        Ok(answer)
    });
    assert_breaks(Contract::PassesCalls, Suite::new(status));
}

/// What a layer may do to a body.
#[derive(Clone, Copy)]
enum Harm {
    NoTrailers,
    NoErrors,
    WrongEnd,
    WrongLength,
}

struct Harmed(ScriptedBody, Harm);

impl HttpBody for Harmed {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(Pin::new(&mut self.0).poll_frame(cx));
        Poll::Ready(match (frame, self.1) {
            (Some(Ok(frame)), Harm::NoTrailers) if frame.is_trailers() => None,
            (Some(Err(_)), Harm::NoErrors) => None,
            (frame, _) => frame.map(|frame| frame.map_err(Into::into)),
        })
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.1, Harm::WrongEnd) || self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match self.1 {
            Harm::WrongLength => SizeHint::with_exact(1),
            _ => self.0.size_hint(),
        }
    }
}

#[test]
fn what_a_layer_does_to_a_body_is_found() {
    for harm in [
        Harm::NoTrailers,
        Harm::NoErrors,
        Harm::WrongEnd,
        Harm::WrongLength,
    ] {
        let fault = Plain::new(move |mut inner: Scripted, request| async move {
            let answer = inner.call(request).await?;
            Ok(answer.map(|body| Harmed(body, harm).boxed_unsync()))
        });
        assert_breaks(Contract::PassesBodies, Suite::new(fault));
    }
}
