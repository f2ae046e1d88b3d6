use std::{any::Any, sync::Arc, time::Instant};

use http::Request;

use super::{
    attempt::forget_attempt, body::Body, context::Call, deadline::Deadline, policy::CallPolicy,
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
/// # Errors
/// If the layer opens the call and its policy is out of range; nothing was sent.
pub(crate) fn join<B: 'static>(
    request: &mut Request<B>,
    now: impl FnOnce() -> Instant,
) -> Result<Joined, Error> {
    if let Some(call) = find(request) {
        return Ok(Joined {
            call: Arc::clone(call),
            opened: None,
        });
    }
    let policy = given_policy(request);
    policy
        .check()
        .map_err(|invalid| Error::new(ErrorKind::InvalidCall).with_source(invalid))?;
    let call = Arc::new(Call::new(policy, now()));
    if let Some(given) = call.policy().deadline_given() {
        call.set_deadline(Deadline::after(call.started(), given));
    }
    forget_attempt(request);
    attach(request, &call);
    Ok(Joined {
        opened: Some(Opened(Arc::clone(&call))),
        call,
    })
}

/// Like [`join`], but opens no call for a request without a policy: for layers that have nothing to tell.
pub(crate) fn join_if_any<B: 'static>(
    request: &mut Request<B>,
    now: impl FnOnce() -> Instant,
) -> Result<Option<Joined>, Error> {
    if find(request).is_none() && request.extensions().get::<CallPolicy>().is_none() {
        return Ok(None);
    }
    join(request, now).map(Some)
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

fn given_policy<B>(request: &Request<B>) -> CallPolicy {
    let extensions = request.extensions();
    if extensions.is_empty() {
        return CallPolicy::default();
    }
    extensions.get().cloned().unwrap_or_default()
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
