//! The edges: where the layers meet a real HTTP client.
//!
//! Nothing else in the crate names one. An edge turns requests and responses into the client's own types,
//! and reads the client's errors into [`classify`](crate::classify)'s evidence.

mod stamp;

#[cfg(feature = "reqwest")]
pub mod reqwest;

pub(crate) use self::stamp::{BeforeAttempt, StampLayer};
