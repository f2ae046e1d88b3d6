//! Client-side resilience for services that call other services.
#![forbid(unsafe_code)]
