//! What the tests share.
#![allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    missing_docs,
    missing_debug_implementations,
    reason = "each test binary uses a part, and nothing here is published"
)]

pub mod fleet;
pub mod mock;
pub mod network;
pub mod nowhere;
pub mod raw_h2;
pub mod reply;
pub mod script;
pub mod server;
pub mod tls;
