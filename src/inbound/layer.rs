use tower::Layer;

use super::service::InboundService;
use crate::call::DeadlineHeader;

/// Makes the deadline of each incoming call the one that outbound calls inherit; for servers.
///
/// See the [module](crate::inbound) for what counts and what is answered.
#[derive(Clone, Debug, Default)]
pub struct InboundLayer {
    header: Option<DeadlineHeader>,
}

impl InboundLayer {
    /// Reads `grpc-timeout` on gRPC requests.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads this header on requests that are not gRPC's.
    ///
    /// **Default**: none, since anybody who may send a request may then say how soon it fails.
    #[must_use]
    pub fn header(mut self, header: DeadlineHeader) -> Self {
        self.header = Some(header);
        self
    }
}

impl<S> Layer<S> for InboundLayer {
    type Service = InboundService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        InboundService::new(inner, self.header.clone())
    }
}
