//! The deadline and attempt timeout layers over scripted services, under paused time.

mod attempts;
mod below_retry;
mod bodies;
mod deadlines;
mod given_back;
mod settings;
#[path = "../support/mod.rs"]
mod support;

use std::{error::Error as StdError, io, sync::Arc, time::Duration};

use bytes::Bytes;
use evenkeel::{
    AttemptTimeoutLayer, Backoff, BoxError, CallPolicy, Deadline, DeadlineLayer, Disposition,
    Error, ErrorKind, IdempotencyKeyLayer, Jitter, Report, Retry, RetryLayer,
};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use tokio::time::{Instant, advance, sleep};
use tower::{Layer, Service, ServiceBuilder, ServiceExt};

use support::mock::{Act, Counted, Mock, Readiness, Script, Step, millis};

fn deadline(length: Duration) -> DeadlineLayer {
    DeadlineLayer::new(length).expect("above zero")
}

fn attempt(limit: Duration) -> AttemptTimeoutLayer {
    AttemptTimeoutLayer::new(limit).expect("above zero")
}

fn get() -> Request<String> {
    Request::new(String::new())
}

fn with(policy: CallPolicy) -> Request<String> {
    let mut request = get();
    request.extensions_mut().insert(policy);
    request
}

/// Our layers are ready at the first poll, whatever is below them.
async fn be_ready<S: Service<Request<String>, Error = Error>>(service: &mut S) {
    let polled = std::future::poll_fn(|cx| std::task::Poll::Ready(service.poll_ready(cx))).await;
    assert!(
        matches!(polled, std::task::Poll::Ready(Ok(()))),
        "{polled:?}"
    );
}

/// Whether the source chain of an error holds an io timeout.
fn timeout_in_chain(error: &Error) -> bool {
    let mut source = error.source();
    while let Some(error) = source {
        if error
            .downcast_ref::<io::Error>()
            .is_some_and(|error| error.kind() == io::ErrorKind::TimedOut)
        {
            return true;
        }
        source = error.source();
    }
    false
}

fn ours(error: BoxError) -> Box<Error> {
    error.downcast().expect("an error of this crate")
}

/// Reads a body to its end or its error, with the time at which that came.
async fn read<B>(mut body: B, start: Instant) -> (String, Option<Box<Error>>, Duration)
where
    B: http_body::Body<Data = Bytes, Error = BoxError> + Unpin,
{
    let mut text = String::new();
    loop {
        match body.frame().await {
            Some(Ok(frame)) => {
                let data = frame.into_data().expect("data");
                text.push_str(std::str::from_utf8(&data).expect("text"));
            }
            Some(Err(error)) => return (text, Some(ours(error)), start.elapsed()),
            None => return (text, None, start.elapsed()),
        }
    }
}

fn request() -> Request<Full<Bytes>> {
    Request::new(Full::new(Bytes::from("again")))
}
