//! The edges: where the layers meet a real HTTP or gRPC client.
//!
//! Nothing else in the crate names one. An edge turns requests and responses into the client's own types,
//! and reads the client's errors into [`classify`](crate::classify)'s evidence.

#[cfg(any(feature = "reqwest", feature = "tonic", feature = "test-util"))]
mod builder;
#[cfg(any(feature = "reqwest", feature = "tonic"))]
mod evidence;
#[cfg(any(feature = "reqwest", feature = "tonic", feature = "test-util"))]
mod prepared;
#[cfg(any(feature = "reqwest", feature = "tonic", feature = "test-util"))]
mod revive;
#[cfg(feature = "test-util")]
pub(crate) mod seeded;
#[cfg(any(feature = "reqwest", feature = "tonic", feature = "test-util"))]
mod settings;
#[cfg(any(feature = "reqwest", feature = "tonic", feature = "test-util"))]
mod stamp;
#[cfg(any(feature = "reqwest", feature = "tonic", feature = "test-util"))]
mod view;

#[cfg(feature = "reqwest")]
pub mod reqwest;
#[cfg(feature = "tonic")]
pub mod tonic;

#[cfg(any(feature = "reqwest", feature = "tonic", feature = "test-util"))]
pub use self::{
    builder::{Balanced, ClientBuilder, DEFAULT_CONNECT_TIMEOUT},
    settings::DEFAULT_DEADLINE,
};
