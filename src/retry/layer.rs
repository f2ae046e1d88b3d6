use tower::Layer;

use super::{policy::RetryPolicy, service::RetryService};

/// Sends a call again where that helps and does no harm: see the [module](crate::retry).
///
/// ```
/// use evenkeel::{Body, Error, Retry, RetryLayer};
/// use http::{Request, Response};
/// use tower::{ServiceBuilder, service_fn};
///
/// let policy = Retry::default().max_attempts(3).build()?;
/// let service = ServiceBuilder::new()
///     .layer(RetryLayer::new(policy))
///     .service(service_fn(|_: Request<Body>| async { Ok::<_, Error>(Response::new(Body::empty())) }));
/// # let _ = service;
/// # Ok::<(), evenkeel::InvalidSetting>(())
/// ```
#[derive(Clone, Debug)]
pub struct RetryLayer {
    policy: RetryPolicy,
    covered: bool,
}

impl RetryLayer {
    /// By this policy; services that one layer makes share its budget.
    #[must_use]
    pub const fn new(policy: RetryPolicy) -> Self {
        let covered = false;
        Self { policy, covered }
    }

    /// The layers below end every attempt at the call's deadline: no timer of our own while one runs.
    #[must_use]
    pub(crate) const fn covered(mut self) -> Self {
        self.covered = true;
        self
    }
}

impl<S: Clone + Send + Sync + 'static> Layer<S> for RetryLayer {
    type Service = RetryService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        RetryService::new(inner, self.policy.clone(), self.covered)
    }
}
