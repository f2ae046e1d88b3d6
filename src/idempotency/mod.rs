//! One idempotency key per unsafe call, the same on every attempt.
//!
//! A `POST` whose answer was lost may have been carried out: sending it again could charge twice. With a key
//! the server recognises the repetition, and the retry layer may repeat the call. Adding this layer is the
//! statement that the destination de-duplicates by the header: without that, a key protects nothing.
//!
//! - A key is drawn once per logical call and kept with the call, so that all attempts carry the same one,
//!   whether this layer stands above the retry layer or below it. Two calls never share a generated key, not
//!   even two clones of one request.
//! - A key that the caller put into the header is sent as it is, and counts as the same statement unless
//!   [`trust_caller_keys(false)`](IdempotencyKeys::trust_caller_keys) says otherwise. Before a key in the
//!   call's policy it has precedence. Two keys in one request are refused, since servers differ in which they
//!   take.
//! - [`CallPolicy::idempotency_key`](crate::CallPolicy::idempotency_key) gives a call its key, whatever its
//!   method; [`no_idempotency_key`](crate::CallPolicy::no_idempotency_key) sends it without a new one, and
//!   a key in its header then makes no retry safe.
//! - A key is known where it was sent. Once an attempt went unanswered (or was told that its key is running, 409),
//!   a call that only its key makes repeatable stays within the [`scope`](IdempotencyKeys::scope) around the
//!   endpoint of that attempt, by default its region, even if all endpoints there are ejected. If none is left the
//!   call ends, and its report says [`Stop::OutOfKeyScope`](crate::call::Stop::OutOfKeyScope). The first attempt
//!   that may have been acted on decides, and not the first attempt as such: one that was never sent left its key
//!   nowhere. Attempts that were not processed, and calls whose method makes them repeatable, may go anywhere. A
//!   key in a caller's header that no key layer saw has the default scope.
//! - A key has a lifetime, counted from the start of the call: for generated ones that of the
//!   [layer](IdempotencyKeys::lifetime), for a caller's what the caller
//!   [states](crate::CallPolicy::idempotency_key_lifetime), else it is taken to live for ever.
//! - Keys are marked sensitive: `Debug` of headers does not show them, and HTTP/2 does not index them.
//!
//! ```
//! use evenkeel::{IdempotencyKeyLayer, IdempotencyKeys, KeyScope};
//!
//! # fn main() -> Result<(), evenkeel::InvalidSetting> {
//! let uuids = IdempotencyKeyLayer::default();
//! let natural = IdempotencyKeyLayer::new(
//!     IdempotencyKeys::default()
//!         .natural_key(|parts| Some(parts.headers.get("order-id")?.to_str().ok()?.to_owned()))
//!         .scope(KeyScope::Global),
//! )?;
//! # let _ = (uuids, natural);
//! # Ok(())
//! # }
//! ```

mod config;
mod future;
mod layer;
mod policy;
mod service;

pub use self::{
    config::{DEFAULT_HEADER, DEFAULT_LIFETIME, IdempotencyKeys},
    future::KeyFuture,
    layer::IdempotencyKeyLayer,
    service::IdempotencyKeyService,
};
