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
mod tests {
    use proptest::prelude::{any, prop_assert_eq, proptest};

    use super::{Origin, Scheme};

    fn origin(text: &str) -> Origin {
        Origin::parse(text).expect("an origin written in this test")
    }

    fn refusal(text: &str) -> String {
        Origin::parse(text).expect_err(text).to_string()
    }

    #[test]
    fn scheme_host_and_port_are_read() {
        let read = origin("https://api.example:8443/");
        assert_eq!(
            (read.scheme(), read.host(), read.port()),
            (Scheme::Https, "api.example", Some(8443))
        );
        assert_eq!((read.ip(), read.endpoint()), (None, None));
        assert_eq!(
            origin("HTTP://Api.Example").to_string(),
            "http://api.example"
        );
        assert_eq!(
            origin("http://bücher.example").host(),
            "xn--bcher-kva.example"
        );
    }

    #[test]
    fn a_default_port_counts_as_not_named() {
        assert_eq!(origin("https://a:443"), origin("https://a"));
        assert_eq!(origin("http://a:80"), origin("http://a"));
        assert_eq!(origin("http://a:443").port(), Some(443));
        assert_eq!(origin("https://a").port_or_default(), 443);
    }

    // ADR-01, Netflix/ribbon#482: authority and endpoint of an IPv6 host carry brackets.
    #[test]
    fn an_address_as_host_is_its_own_endpoint() {
        for (host, shown) in [
            ("2001:db8::10", "[2001:db8::10]"),
            ("::ffff:10.0.0.1", "[::ffff:10.0.0.1]"),
            ("10.0.0.1", "10.0.0.1"),
        ] {
            let joined = Origin::from_parts(Scheme::Http, host, Some(1079)).expect("an address");
            assert_eq!(joined.authority(), format!("{shown}:1079"));
            assert_eq!(joined.host(), host);
            assert_eq!(
                joined.endpoint().expect("itself").to_string(),
                joined.authority()
            );
            assert_eq!(origin(&joined.to_string()), joined);
        }
        assert_eq!(
            origin("https://[::1]")
                .endpoint()
                .expect("itself")
                .to_string(),
            "[::1]:443"
        );
    }

    #[test]
    fn a_zone_is_refused_with_a_way_out() {
        for text in ["http://[fe80::1%eth0]:80", "http://[fe80::1%25eth0]"] {
            assert!(refusal(text).contains("zone"), "{text}");
        }
        assert!(Origin::from_parts(Scheme::Http, "fe80::1%eth0", None).is_err());
    }

    // ADR-02, cfal/shoes#155
    #[test]
    fn brackets_hold_an_address_or_are_refused() {
        assert!(origin("http://[::1]:8080").ip().is_some());
        assert!(origin("http://[::1]").ip().is_some());
        for text in [
            "http://[example.com]:80",
            "http://[::1",
            "http://[]",
            "http://2001:db8::10",
            "http://::1",
            "http://[::1]80",
        ] {
            refusal(text);
        }
    }

    #[test]
    fn what_is_no_origin_is_refused_with_what_is_allowed() {
        for text in [
            "",
            "payments.internal",
            "payments.internal:80",
            "//payments.internal",
            "ftp://a",
            "unix://a",
            "://a",
            " https://a",
        ] {
            assert!(refusal(text).contains("http:// or https://"), "{text:?}");
        }
        for text in [
            "https://a/v1",
            "https://a//",
            "https://a?b",
            "https://a/?b",
            "https://a#b",
            "https:///a",
            "https://a\\b",
        ] {
            assert!(refusal(text).contains("without path"), "{text:?}");
        }
        assert!(refusal("https://user:word@a").contains("without user"));
        for text in [
            "https://a:0",
            "https://a:",
            "https://a:65536",
            "https://a:+80",
            "https://a:b",
        ] {
            assert!(refusal(text).contains("1 to 65535"), "{text:?}");
        }
        for text in [
            "https://",
            "https://:80",
            "https://a b",
            "https://a\n",
            "https://a ",
            "https://1.2.3",
            "https://a..b",
            "https://%61",
        ] {
            refusal(text);
        }
        assert!(Origin::from_parts(Scheme::Http, "a", Some(0)).is_err());
        assert!(Origin::from_parts(Scheme::Http, "a:80", None).is_err());
    }

    #[test]
    fn a_refusal_shows_no_password_and_no_query() {
        for text in [
            "https://user:hidden@a",
            "https://a/?key=hidden",
            "https://a@hidden@a",
            "user:hidden@a",
            "https://a#hidden",
        ] {
            assert!(!refusal(text).contains("hidden"), "{text}");
        }
        assert!(refusal("https://user:hidden@api.example").contains("api.example"));
    }

    proptest! {
        #[test]
        fn an_origin_reads_back_what_it_shows(secure in any::<bool>(), host in "[a-z0-9_]([a-z0-9-]{0,8}[a-z])?(\\.[a-z]{1,5}){0,3}", port in 1u16..) {
            let scheme = if secure { Scheme::Https } else { Scheme::Http };
            if let Ok(made) = Origin::from_parts(scheme, &host, Some(port)) {
                prop_assert_eq!(origin(&made.to_string()), made);
            }
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,40}", inner in "[\\[\\]:%.a-z0-9/@?#]{0,20}") {
            let _ = Origin::parse(&text);
            let _ = Origin::parse(&format!("http://{inner}"));
        }
    }
}
