use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, request::Parts};
use tower::{Layer, Service};

use crate::call;

/// What the user does to the head of each attempt: a signature, a fresh token, a date.
pub(crate) type BeforeAttempt = Arc<dyn Fn(&mut Parts, u32) + Send + Sync>;

/// Runs the user's function on every attempt just before it goes to the breaker.
///
/// It stands below retry, so that each attempt gets its own stamp and none sees that of another. It holds
/// nothing while the function runs: a panic in it ends that call alone.
#[derive(Clone)]
pub(crate) struct StampLayer(Option<BeforeAttempt>);

impl StampLayer {
    pub(crate) fn new(before_attempt: Option<BeforeAttempt>) -> Self {
        Self(before_attempt)
    }
}

impl<S> Layer<S> for StampLayer {
    type Service = Stamp<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Stamp {
            inner,
            before_attempt: self.0.clone(),
        }
    }
}

impl fmt::Debug for StampLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StampLayer")
    }
}

#[derive(Clone)]
pub(crate) struct Stamp<S> {
    inner: S,
    before_attempt: Option<BeforeAttempt>,
}

impl<S, B> Service<Request<B>> for Stamp<S>
where
    S: Service<Request<B>>,
    B: 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline(always)]
    fn call(&mut self, request: Request<B>) -> S::Future {
        let Some(before_attempt) = &self.before_attempt else {
            return self.inner.call(request);
        };
        let number = call::attempt(&request).map_or(1, |attempt| attempt.number);
        let (mut parts, body) = request.into_parts();
        before_attempt(&mut parts, number);
        self.inner.call(Request::from_parts(parts, body))
    }
}

impl<S: fmt::Debug> fmt::Debug for Stamp<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stamp")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, panic, time::Instant};

    use http::Response;
    use tower::{ServiceExt, service_fn};

    use super::*;
    use crate::call::{Attempt, Body, Call, CallPolicy, attach, set_attempt};

    fn stamped()
    -> impl Service<Request<Body>, Response = Response<String>, Error = Infallible> + Clone {
        let layer = StampLayer::new(Some(Arc::new(|parts, attempt| {
            assert!(attempt < 3, "the third stamp fails");
            parts.headers.insert("x-attempt", attempt.into());
        })));
        layer.layer(service_fn(async |request: Request<Body>| {
            let stamp = request.headers().get("x-attempt").expect("stamped");
            Ok(Response::new(stamp.to_str().expect("a number").to_owned()))
        }))
    }

    fn attempt(number: u32) -> Request<Body> {
        let mut request = Request::new(Body::empty());
        let call = Arc::new(Call::new(CallPolicy::new(), Instant::now()));
        attach(&mut request, &call);
        set_attempt(
            &mut request,
            Attempt {
                number,
                started: Instant::now(),
                limit: None,
            },
        );
        request
    }

    #[tokio::test]
    async fn each_attempt_is_stamped_with_its_number_and_a_bare_call_is_the_first() {
        for (request, stamp) in [(attempt(2), "2"), (Request::new(Body::empty()), "1")] {
            let response = stamped().oneshot(request).await.expect("answers");
            assert_eq!(response.into_body(), stamp);
        }
    }

    #[tokio::test]
    async fn a_panic_in_the_stamp_leaves_the_service_usable() {
        let mut service = stamped();
        let panicked =
            panic::catch_unwind(panic::AssertUnwindSafe(|| drop(service.call(attempt(3)))));
        assert!(panicked.is_err());
        let response = service.oneshot(attempt(1)).await.expect("answers");
        assert_eq!(response.into_body(), "1");
    }
}
