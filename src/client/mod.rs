//! The edges: where the layers meet a real HTTP client.
//!
//! Nothing else in the crate names one. An edge turns requests and responses into the client's own types,
//! and reads the client's errors into [`classify`](crate::classify)'s evidence.

#[cfg(feature = "reqwest")]
mod builder;
#[cfg(feature = "reqwest")]
mod revive;
#[cfg(feature = "reqwest")]
mod settings;
#[cfg(feature = "reqwest")]
mod stamp;

#[cfg(feature = "reqwest")]
pub mod reqwest;

#[cfg(feature = "reqwest")]
pub(crate) use self::revive::Reviving;
#[cfg(feature = "reqwest")]
pub use self::{
    builder::{Balanced, CONNECT_TIMEOUT, ClientBuilder},
    settings::DEADLINE,
};
