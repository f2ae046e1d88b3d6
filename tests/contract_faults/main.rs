//! The contract suite finds what it is for: each layer here has one planted fault.
#![allow(clippy::unwrap_used, reason = "a step that fails, fails its test")]

mod building;
mod dropping;
mod readiness;
mod requests;
mod suite;
mod waking;

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
