//! Payments over HTTP.

pub mod client;
pub mod naive;
pub mod service;
