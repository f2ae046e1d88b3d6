use std::sync::Arc;

use super::key::Confinement;

/// What the balancer knows of an attempt that failed.
#[derive(Clone, Debug)]
pub(crate) struct EndpointFacts {
    /// Serial number of the endpoint, never reused.
    pub(crate) serial: u64,
    /// Its name in reports.
    pub(crate) name: Arc<str>,
    /// How many endpoints there are.
    pub(crate) set_size: usize,
    /// How many usable ones this call has not tried.
    pub(crate) untried: usize,
    /// What is left where the call's key is known; `None` if that is everywhere.
    pub(crate) reach: Option<Reach>,
}

/// What of a set lies where a key is known.
#[derive(Clone, Debug)]
pub(crate) struct Reach {
    pub(crate) place: Confinement,
    /// An endpoint does.
    pub(crate) inhabited: bool,
    /// A usable one that this call has not tried does.
    pub(crate) untried: bool,
}
