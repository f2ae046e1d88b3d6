//! The edges: where the layers meet a real HTTP or gRPC client.
//!
//! Nothing else in the crate names one. An edge turns requests and responses into the client's own types,
//! and reads the client's errors into [`classify`](crate::classify)'s evidence.

#[cfg(any(feature = "reqwest", feature = "tonic"))]
mod builder;
#[cfg(any(feature = "reqwest", feature = "tonic"))]
mod evidence;
#[cfg(any(feature = "reqwest", feature = "tonic"))]
mod prepared;
#[cfg(any(feature = "reqwest", feature = "tonic"))]
mod revive;
#[cfg(any(feature = "reqwest", feature = "tonic"))]
mod settings;
#[cfg(any(feature = "reqwest", feature = "tonic"))]
mod stamp;
#[cfg(any(feature = "reqwest", feature = "tonic"))]
mod view;

#[cfg(feature = "reqwest")]
pub mod reqwest;
#[cfg(feature = "tonic")]
pub mod tonic;

#[cfg(any(feature = "reqwest", feature = "tonic"))]
pub use self::{
    builder::{Balanced, CONNECT_TIMEOUT, ClientBuilder},
    settings::DEADLINE,
};
