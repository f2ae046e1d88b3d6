//! The atomics of what is shared without a lock: the standard library's, or loom's, which tries out every order in
//! which threads may meet. `RUSTFLAGS="--cfg evenkeel_loom" cargo test --lib loom_` runs those models.
//!
//! The cfg has a name of its own, since tokio drops its I/O where `loom` alone is set.

#[cfg(not(all(test, evenkeel_loom)))]
pub(crate) use std::sync::atomic;

#[cfg(all(test, evenkeel_loom))]
pub(crate) use loom::sync::atomic;
