use std::{fmt, net::IpAddr, str::FromStr};

use crate::{
    discover::{
        Endpoint,
        address::{self, Host},
    },
    error::InvalidSetting,
};

const FORM: &str = "scheme://host or scheme://host:port, as in https://payments.internal";
const SCHEME: &str = "an origin that starts with http:// or https://";
const NO_USER: &str = "an origin without user and password; use basic_auth or a header for them";
const NO_PATH: &str = "an origin without path, query and fragment; they belong to each call";
const NO_ZONE: &str =
    "an IPv6 address without a zone; name the service here and give the address as endpoint";

/// Whether an origin is called over TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Plain HTTP, port 80 unless another is named.
    Http,
    /// HTTP over TLS, port 443 unless another is named.
    Https,
}

impl Scheme {
    /// The scheme as it stands in a URL.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// The port that a URL of this scheme means when it names none (RFC 9110, section 4.2).
    #[must_use]
    pub fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// The name under which a service is called: scheme, host and port (RFC 6454).
///
/// It is what `Host`, `:authority`, the TLS server name and telemetry show, whichever endpoint answers. The default
/// port of the scheme counts as not named, as in every URL. `Display` writes what [`parse`](Self::parse) reads.
///
/// ```
/// use evenkeel::discover::Origin;
///
/// let origin = Origin::parse("https://Payments.internal:443/")?;
/// assert_eq!(origin.to_string(), "https://payments.internal");
/// assert_eq!((origin.port(), origin.port_or_default()), (None, 443));
///
/// let refused = Origin::parse("payments.internal").unwrap_err();
/// assert!(refused.to_string().contains("http:// or https://"));
/// # Ok::<(), evenkeel::InvalidSetting>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    scheme: Scheme,
    ip: Option<IpAddr>,
    /// Without brackets.
    host: Box<str>,
    port: Option<u16>,
}

impl Origin {
    /// Reads `scheme://host` or `scheme://host:port`; IPv6 stands in brackets, and one `/` may follow.
    ///
    /// # Errors
    ///
    /// If the scheme is missing or neither http nor https, if a user, path, query or fragment is there, if the host is
    /// neither a name nor an IP address, or the port is 0. The error shows no password and no query.
    pub fn parse(text: &str) -> Result<Self, InvalidSetting> {
        read(text).map_err(|allowed| InvalidSetting::new("origin", address::shown(text), allowed))
    }

    /// Joins the parts; IPv6 comes with or without brackets.
    ///
    /// # Errors
    ///
    /// If the host is neither a name nor an IP address without a zone, or the port is 0.
    pub fn from_parts(
        scheme: Scheme,
        host: &str,
        port: Option<u16>,
    ) -> Result<Self, InvalidSetting> {
        join(scheme, host, port).map_err(|allowed| {
            let port = port
                .map(|port| format!(" and port {port}"))
                .unwrap_or_default();
            InvalidSetting::new("origin", format!("{}{port}", address::shown(host)), allowed)
        })
    }

    /// Whether calls go over TLS.
    #[must_use]
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The name or the address, in lower case and without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The host as an address, if it is one. Such an origin has only itself as endpoint.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        self.ip
    }

    /// The port, unless it is the default one of the scheme.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// The port that calls go to.
    #[must_use]
    pub fn port_or_default(&self) -> u16 {
        self.port.unwrap_or_else(|| self.scheme.default_port())
    }

    /// Host and port as they stand in a `Host` header: IPv6 in brackets, no default port.
    #[must_use]
    pub fn authority(&self) -> String {
        match (self.ip, self.port) {
            (Some(IpAddr::V6(ip)), Some(port)) => format!("[{ip}]:{port}"),
            (Some(IpAddr::V6(ip)), None) => format!("[{ip}]"),
            (_, Some(port)) => format!("{}:{port}", self.host),
            (_, None) => self.host.to_string(),
        }
    }

    /// The one endpoint of an origin that is an IP address.
    #[must_use]
    pub fn endpoint(&self) -> Option<Endpoint> {
        self.ip
            .map(|ip| Endpoint::from((ip, self.port_or_default())))
    }
}

fn read(text: &str) -> Result<Origin, &'static str> {
    let (scheme, rest) = text.split_once("://").ok_or(SCHEME)?;
    let scheme = match scheme {
        _ if scheme.eq_ignore_ascii_case("http") => Scheme::Http,
        _ if scheme.eq_ignore_ascii_case("https") => Scheme::Https,
        _ => return Err(SCHEME),
    };
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    if authority.is_empty() {
        return Err(FORM);
    }
    if authority.contains(['/', '\\', '?', '#']) {
        return Err(NO_PATH);
    }
    if authority.contains('@') {
        return Err(NO_USER);
    }
    let (host, port) = address::split(authority)?;
    let bare_ipv6 = host.contains(':') && !host.starts_with('[');
    if bare_ipv6 {
        Err(address::HOST)
    } else {
        join(scheme, host, port)
    }
}

fn join(scheme: Scheme, host: &str, port: Option<u16>) -> Result<Origin, &'static str> {
    if port == Some(0) {
        return Err(address::PORT);
    }
    let (ip, host) = match address::host(host)? {
        Host::Name(name) => (None, name),
        Host::Ip(ip) => (Some(ip), ip.to_string().into()),
        Host::Zoned(..) => return Err(NO_ZONE),
    };
    Ok(Origin {
        scheme,
        ip,
        host,
        port: port.filter(|port| *port != scheme.default_port()),
    })
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.as_str(), self.authority())
    }
}

impl FromStr for Origin {
    type Err = InvalidSetting;

    fn from_str(text: &str) -> Result<Self, InvalidSetting> {
        Self::parse(text)
    }
}

impl TryFrom<&str> for Origin {
    type Error = InvalidSetting;

    fn try_from(text: &str) -> Result<Self, InvalidSetting> {
        Self::parse(text)
    }
}

impl TryFrom<String> for Origin {
    type Error = InvalidSetting;

    fn try_from(text: String) -> Result<Self, InvalidSetting> {
        Self::parse(&text)
    }
}

#[cfg(test)]
mod tests;
