use tower::Layer;

use super::service::CommitService;

/// Looks at the first frame of a gRPC answer, so that a failure which comes right after a good head can be repeated.
///
/// Place it below the attempt timeout, around the service that makes the call; see the [module](crate::commit) for
/// what becomes of each first frame. Bodies of responses have to be `Unpin`, as boxed ones and those of tonic and
/// hyper are: they are looked at before they are handed on.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct CommitLayer;

impl CommitLayer {
    /// There is nothing to set: [`CallPolicy::unary`](crate::CallPolicy::unary) says which calls are waited for.
    #[must_use]
    pub const fn new() -> Self {
        Self
    }
}

impl<S: Clone + Send + Sync + 'static> Layer<S> for CommitLayer {
    type Service = CommitService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        CommitService::new(inner)
    }
}
