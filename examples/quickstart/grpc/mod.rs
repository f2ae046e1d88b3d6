//! Payments over gRPC.

pub mod client;
pub mod naive;
pub mod service;

#[allow(
    clippy::all,
    clippy::allow_attributes_without_reason,
    clippy::use_self,
    dead_code,
    unused_qualifications,
    reason = "generated"
)]
pub mod payments;
