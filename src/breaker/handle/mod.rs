//! What users hold on to: the circuit, its permits, its transitions, a picture of it.

mod circuit;
mod permit;
mod snapshot;
mod transitions;

pub use self::{circuit::Breaker, permit::Permit, snapshot::Snapshot, transitions::Transitions};
