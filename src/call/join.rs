use std::{any::Any, sync::Arc, time::Instant};

use http::Request;

use super::{
    attempt::forget_attempt, body::Body, context::Call, deadline::Deadline,
    inherited::InheritedDeadline, policy::CallPolicy, wire,
};
use crate::error::{Error, ErrorKind};

/// The call that a request belongs to, and whether this layer opened it.
#[derive(Debug)]
pub(crate) struct Joined {
    pub(crate) call: Arc<Call>,
    /// Kept by the opener in its future: the call is live as long as this.
    pub(crate) opened: Option<Opened>,
}

/// Ends the call for later finders when dropped.
#[derive(Debug)]
pub(crate) struct Opened(Arc<Call>);

impl Drop for Opened {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// The live call of this request; one that is over (a cloned request, say) is ignored.
pub(crate) fn find<B: 'static>(request: &Request<B>) -> Option<&Arc<Call>> {
    let carried = match (request.body() as &dyn Any).downcast_ref::<Body>() {
        Some(body) => body.call(),
        None => request.extensions().get(),
    };
    carried.filter(|call| call.is_live())
}

/// Joins the live call of this request, or opens one by the policy in its extensions.
///
/// The `grpc-timeout` of a gRPC request is its caller's word about the deadline like that in the policy; where both
/// are given the shorter one holds. What the incoming call that is being served leaves shortens either.
///
/// # Errors
/// If the layer opens the call and its policy or `grpc-timeout` is out of range; nothing was sent.
pub(crate) fn join<B: 'static>(
    request: &mut Request<B>,
    now: impl FnOnce() -> Instant,
) -> Result<Joined, Error> {
    match joined(request) {
        Some(joined) => Ok(joined),
        None => open(request, now),
    }
}

fn joined<B: 'static>(request: &Request<B>) -> Option<Joined> {
    find(request).map(|call| Joined {
        call: Arc::clone(call),
        opened: None,
    })
}

fn open<B: 'static>(
    request: &mut Request<B>,
    now: impl FnOnce() -> Instant,
) -> Result<Joined, Error> {
    let inherited = InheritedDeadline::of(request.extensions());
    let call = match given_policy(request)? {
        None => Arc::new(Call::within(CallPolicy::default(), now(), inherited)),
        Some(policy) => Arc::new(Call::within(policy, now(), inherited)),
    };
    forget_attempt(request);
    attach(request, &call);
    Ok(Joined {
        opened: Some(Opened(Arc::clone(&call))),
        call,
    })
}

/// Like [`join`], but opens no call for a request that has no wish and inherits nothing: for layers that have nothing
/// to tell.
pub(crate) fn join_if_any<B: 'static>(
    request: &mut Request<B>,
    now: impl FnOnce() -> Instant,
) -> Result<Option<Joined>, Error> {
    match joined(request) {
        Some(joined) => Ok(Some(joined)),
        None if has_wish(request) => open(request, now).map(Some),
        None => Ok(None),
    }
}

fn has_wish<B>(request: &Request<B>) -> bool {
    request.extensions().get::<CallPolicy>().is_some()
        || InheritedDeadline::of(request.extensions()) != Deadline::NEVER
        || wire::grpc_timeout(request.headers()) != Ok(None)
}

/// Puts the call where the layers below find it; for a request whose body was made anew.
pub(crate) fn attach<B: 'static>(request: &mut Request<B>, call: &Arc<Call>) {
    match (request.body_mut() as &mut dyn Any).downcast_mut::<Body>() {
        Some(body) => body.set_call(Arc::clone(call)),
        None => {
            request.extensions_mut().insert(Arc::clone(call));
        }
    }
}

/// What the caller says, in the extensions and in a `grpc-timeout`.
fn given_policy<B>(request: &Request<B>) -> Result<Option<CallPolicy>, Error> {
    let timeout = wire::grpc_timeout(request.headers())
        .map_err(|malformed| Error::new(ErrorKind::InvalidCall).with_source(malformed))?;
    if timeout.is_none() && request.extensions().is_empty() {
        return Ok(None);
    }
    let Some(policy) = request.extensions().get::<CallPolicy>() else {
        return Ok(timeout.map(|timeout| CallPolicy::default().within(timeout)));
    };
    policy
        .check()
        .map_err(|invalid| Error::new(ErrorKind::InvalidCall).with_source(invalid))?;
    let policy = policy.clone();
    Ok(Some(match timeout {
        Some(timeout) => policy.within(timeout),
        None => policy,
    }))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn joined<B: 'static>(request: &mut Request<B>) -> Joined {
        join(request, Instant::now).expect("a valid policy")
    }

    #[test]
    fn the_outermost_layer_opens_and_those_below_join() {
        let mut plain = Request::new(());
        let outer = joined(&mut plain);
        let inner = joined(&mut plain);
        assert!(outer.opened.is_some() && inner.opened.is_none());
        assert!(Arc::ptr_eq(&outer.call, &inner.call));

        let mut ours = Request::new(Body::from("x"));
        let outer = joined(&mut ours);
        assert!(Arc::ptr_eq(&outer.call, &joined(&mut ours).call));
        assert!(ours.extensions().is_empty(), "carried by the body");
    }

    #[test]
    fn a_call_that_is_over_is_not_joined_by_a_cloned_request() {
        let mut request = Request::new(());
        let first = joined(&mut request).call;
        let mut again = request.clone();
        let second = joined(&mut again).call;
        assert!(!Arc::ptr_eq(&first, &second));
    }

    #[test]
    fn the_policy_in_the_extensions_is_read_by_the_opener() {
        let mut request = Request::new(());
        request
            .extensions_mut()
            .insert(CallPolicy::new().deadline(Duration::from_secs(9)));
        assert_eq!(
            joined(&mut request).call.policy().deadline_given(),
            Some(Duration::from_secs(9))
        );
    }

    fn grpc(timeout: &str) -> Request<()> {
        let request = Request::post("/a.B/C").header("content-type", "application/grpc");
        let request = request.header("grpc-timeout", timeout);
        request.body(()).expect("a request")
    }

    fn left(joined: &Joined) -> Option<Duration> {
        joined.call.deadline().remaining(joined.call.started())
    }

    #[test]
    fn a_grpc_timeout_counts_as_the_calls_own_deadline() {
        let seconds = Duration::from_secs;
        for (policy, timeout, deadline) in [
            (CallPolicy::new(), "2S", 2),
            (CallPolicy::new().deadline(seconds(3)), "2S", 2),
            (CallPolicy::new().deadline(seconds(1)), "2S", 1),
            (CallPolicy::new().no_deadline(), "2S", 2),
            (CallPolicy::new(), "0n", 0),
        ] {
            let mut request = grpc(timeout);
            request.extensions_mut().insert(policy);
            let joined = joined(&mut request);
            assert_eq!(left(&joined), Some(seconds(deadline)));
            assert!(joined.call.is_hurried());
            assert_eq!(joined.call.policy().deadline_given(), left(&joined));
        }
        let mut http = grpc("2S");
        http.headers_mut().remove("content-type");
        assert_eq!(left(&joined(&mut http)), None);
    }

    #[test]
    fn a_malformed_grpc_timeout_fails_the_call_before_it_is_sent() {
        for error in [
            join(&mut grpc("2s"), Instant::now).expect_err("no unit of this name"),
            join_if_any(&mut grpc("2s"), Instant::now).expect_err("a wish, though a bad one"),
        ] {
            assert!(matches!(error.kind(), ErrorKind::InvalidCall));
            assert!(!error.may_have_happened());
            assert!(error.to_string().contains("grpc-timeout"), "{error}");
        }
    }

    #[test]
    fn what_is_inherited_shortens_a_call_and_never_extends_it() {
        let now = Instant::now();
        let in_seconds = |seconds| Deadline::after(now, Duration::from_secs(seconds));
        for (given, inherited, deadline) in [
            (None, Some(1), Some(1)),
            (Some(9), Some(1), Some(1)),
            (Some(1), Some(9), Some(1)),
            (Some(1), None, Some(1)),
            (None, None, None),
        ] {
            let mut request = Request::new(());
            if let Some(given) = given {
                let policy = CallPolicy::new().deadline(Duration::from_secs(given));
                request.extensions_mut().insert(policy);
            }
            let inherited = inherited.map_or(Deadline::NEVER, in_seconds);
            let _entered = InheritedDeadline::new(inherited).enter();
            let joined = join(&mut request, || now).expect("valid");
            assert_eq!(
                joined.call.deadline(),
                deadline.map_or(Deadline::NEVER, in_seconds)
            );
            assert_eq!(joined.call.is_hurried(), deadline.is_some());
        }
    }

    #[test]
    fn a_layer_with_nothing_to_tell_opens_a_call_for_what_is_inherited() {
        let mut request = Request::new(());
        let open = |request: &mut Request<()>| join_if_any(request, Instant::now).expect("valid");
        assert!(open(&mut request).is_none());
        let now = Instant::now();
        let inherited = InheritedDeadline::new(Deadline::after(now, Duration::from_secs(1)));
        request.extensions_mut().insert(inherited);
        assert!(open(&mut request).is_some());
    }

    #[test]
    fn a_policy_out_of_range_fails_the_call_before_it_is_sent() {
        let mut request = Request::new(());
        request
            .extensions_mut()
            .insert(CallPolicy::new().max_attempts(0));
        let error = join(&mut request, Instant::now).expect_err("zero attempts");
        assert!(matches!(error.kind(), ErrorKind::InvalidCall));
        assert!(!error.may_have_happened());
    }
}
