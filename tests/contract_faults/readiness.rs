//! Faults of readiness.

use super::*;

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
