//! Payments over gRPC.

pub mod client;
pub mod naive;
pub mod service;

#[allow(
    clippy::all,
    clippy::allow_attributes_without_reason,
    clippy::clone_on_ref_ptr,
    clippy::use_self,
    dead_code,
    unused_qualifications,
    reason = "generated"
)]
pub mod payments;
