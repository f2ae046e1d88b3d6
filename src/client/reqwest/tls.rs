//! Whether the application built reqwest with TLS. Only reqwest knows, and it has no question for it; but
//! `ClientBuilder::tls_sni` is there exactly if it was, and an inherent method goes before one of a trait.

use reqwest::ClientBuilder;

use crate::error::{Error, ErrorKind};

struct Missing;

trait TlsSniOfNone: Sized {
    fn tls_sni(self, _: bool) -> Missing {
        Missing
    }
}

impl TlsSniOfNone for ClientBuilder {}

trait Answer {
    const AVAILABLE: bool;
}

impl Answer for Missing {
    const AVAILABLE: bool = false;
}

impl Answer for ClientBuilder {
    const AVAILABLE: bool = true;
}

const fn available<A: Answer>(_: fn(ClientBuilder, bool) -> A) -> bool {
    A::AVAILABLE
}

/// Whether reqwest can call `https` at all.
const AVAILABLE: bool = available(ClientBuilder::tls_sni);

// In use even where the inherent method hides it.
const _: fn(ClientBuilder, bool) -> Missing = <ClientBuilder as TlsSniOfNone>::tls_sni;

/// The range of an origin that is refused for it.
pub(super) const REMEDY: &str = "an http origin, or https with a TLS feature of reqwest, which this program was \
     built without: put reqwest = { version = \"0.13\", features = [\"rustls\"] } into its Cargo.toml";

/// `https` was asked for and reqwest was built without TLS.
#[derive(Debug, thiserror::Error)]
#[error(
    "https needs a TLS feature of reqwest, which this program was built without: put \
     reqwest = {{ version = \"0.13\", features = [\"rustls\"] }} into its Cargo.toml"
)]
pub(super) struct NoTls;

/// Fails for `https` without TLS: for good, and before anything is sent.
pub(super) fn check(scheme: &str) -> Result<(), NoTls> {
    if scheme == "https" && !AVAILABLE {
        Err(NoTls)
    } else {
        Ok(())
    }
}

impl From<NoTls> for Error {
    fn from(missing: NoTls) -> Self {
        Self::new(ErrorKind::InvalidCall).with_source(missing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn these_tests_are_built_with_tls_and_see_it() {
        assert!(check("https").is_ok());
    }

    #[test]
    fn the_error_names_the_cargo_line() {
        let error = Error::from(NoTls);
        assert!(
            error
                .to_string()
                .contains(r#"reqwest = { version = "0.13", features = ["rustls"] }"#),
            "{error}"
        );
        assert!(!error.may_have_happened());
    }
}
