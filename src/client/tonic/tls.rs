//! Whether the application built tonic with TLS. Only tonic knows; but `Endpoint::tls_config` is there exactly if it
//! was, and an inherent method goes before one of a trait.

use tonic::transport::Endpoint;

use crate::{
    discover::{Origin, Scheme},
    error::InvalidSetting,
};

struct Missing;

trait TlsConfigOfNone: Sized {
    fn tls_config(self, (): ()) -> Missing {
        Missing
    }
}

impl TlsConfigOfNone for Endpoint {}

trait Answer {
    const AVAILABLE: bool;
}

impl Answer for Missing {
    const AVAILABLE: bool = false;
}

impl<T, E> Answer for Result<T, E> {
    const AVAILABLE: bool = true;
}

const fn available<C, A: Answer>(_: fn(Endpoint, C) -> A) -> bool {
    A::AVAILABLE
}

/// Whether tonic can speak TLS at all.
const AVAILABLE: bool = available(Endpoint::tls_config);

// In use even where the inherent method hides it.
const _: fn(Endpoint, ()) -> Missing = <Endpoint as TlsConfigOfNone>::tls_config;

const REMEDY: &str = "an http origin, or https with a TLS feature of tonic, which this program was built without: put \
     tonic = { version = \"0.14\", features = [\"tls-ring\", \"tls-native-roots\"] } into its Cargo.toml";

/// tonic can speak TLS and was not told how.
#[derive(Debug, thiserror::Error)]
#[error(
    "an https origin needs TLS settings, which the function given to build_tonic did not set: \
     build_tonic(|endpoint| endpoint.tls_config(ClientTlsConfig::new().with_enabled_roots()))"
)]
pub(super) struct NoTlsConfig;

/// Refuses an `https` origin that tonic was built without TLS for: it would be called in plain text.
///
/// # Errors
/// With the Cargo line that is missing.
pub(super) fn check(origin: &Origin) -> Result<(), InvalidSetting> {
    if origin.scheme() == Scheme::Https && !AVAILABLE {
        return Err(InvalidSetting::new("origin", origin, REMEDY));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn these_tests_are_built_with_tls_and_see_it() {
        let origin = Origin::parse("https://greeter.internal").expect("an origin");
        assert!(check(&origin).is_ok());
    }
}
