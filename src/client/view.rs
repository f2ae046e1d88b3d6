use crate::{balance::EndpointStatus, breaker::Breaker, retry::Budget};

/// The handles to what the stack of an origin shares.
pub(super) struct View {
    pub(super) breaker: Breaker,
    pub(super) budget: Option<Budget>,
    pub(super) endpoints: Box<dyn Fn() -> Vec<EndpointStatus> + Send + Sync>,
}
