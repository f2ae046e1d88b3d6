//! Texts that name a host and a port. A refusal is the text of what is allowed instead.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6, ToSocketAddrs},
};

pub(super) const HOST: &str = "a host name such as payments.internal, an IPv4 address in four decimal parts, \
     or an IPv6 address, which stands in brackets where a port or a scheme is beside it";
pub(super) const PORT: &str = "a port from 1 to 65535";
const HOST_AND_PORT: &str =
    "host:port, as in payments.internal:8443, 10.0.0.1:8443 or [2001:db8::10]:8443";
const ZONE: &str =
    "an interface of this machine behind the %, by number or name, as in [fe80::1%2]:8443";

/// Longest name that DNS can carry, and longest part of one (RFC 1035, section 2.3.4).
const LONGEST_NAME: usize = 253;
const LONGEST_LABEL: usize = 63;

/// Where a call can be sent: a name to look up, or an address that never is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Host {
    Name(Box<str>),
    Ip(IpAddr),
    /// A link-local address with the interface that it is reached by.
    Zoned(Ipv6Addr, Box<str>),
}

/// What a host and a port come to: an address is never looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Address(SocketAddr),
    Name(Box<str>, u16),
}

/// Reads `host:port`.
pub(super) fn parse(text: &str) -> Result<Target, &'static str> {
    let (host, port) = split(text)?;
    target(host, port.ok_or(HOST_AND_PORT)?)
}

/// Joins a host, IPv6 with or without brackets, and a port.
pub(super) fn target(host: &str, port: u16) -> Result<Target, &'static str> {
    if port == 0 {
        return Err(PORT);
    }
    Ok(match self::host(host)? {
        Host::Name(name) => Target::Name(name, port),
        Host::Ip(ip) => Target::Address(SocketAddr::new(ip, port)),
        Host::Zoned(ip, zone) => Target::Address(zoned(ip, &zone, port)?),
    })
}

/// Cuts a text into its host and its port, if it has one; the host is not checked yet.
pub(super) fn split(text: &str) -> Result<(&str, Option<u16>), &'static str> {
    let (host, port) = match text.find(']') {
        Some(end) if text.starts_with('[') => match (&text[..=end], &text[end + 1..]) {
            (host, "") => (host, None),
            (host, rest) => (host, Some(rest.strip_prefix(':').ok_or(HOST_AND_PORT)?)),
        },
        _ => match text.split_once(':') {
            Some((_, rest)) if rest.contains(':') => return Err(HOST),
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    Ok((host, port.map(self::port).transpose()?))
}

fn port(text: &str) -> Result<u16, &'static str> {
    // `u16::from_str` would take "+80".
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(PORT);
    }
    match text.parse() {
        Ok(0) | Err(_) => Err(PORT),
        Ok(port) => Ok(port),
    }
}

/// Reads a host alone, IPv6 with or without brackets.
pub(super) fn host(text: &str) -> Result<Host, &'static str> {
    if let Some(inner) = text.strip_prefix('[') {
        return ipv6(inner.strip_suffix(']').ok_or(HOST)?);
    }
    if text.contains(':') {
        return ipv6(text);
    }
    match text.parse() {
        Ok(ip) => Ok(Host::Ip(IpAddr::V4(ip))),
        Err(_) => name(text),
    }
}

fn ipv6(text: &str) -> Result<Host, &'static str> {
    let (ip, zone) = match text.split_once('%') {
        Some((_, "")) => return Err(ZONE),
        Some((ip, zone)) => (ip, Some(zone)),
        None => (text, None),
    };
    let ip: Ipv6Addr = ip.parse().or(Err(HOST))?;
    Ok(match zone {
        Some(zone) => Host::Zoned(ip, zone.into()),
        None => Host::Ip(IpAddr::V6(ip)),
    })
}

/// Names go through IDNA, as in a URL: lower case, and ASCII on the wire.
fn name(text: &str) -> Result<Host, &'static str> {
    let stray = |ch: char| {
        ch.is_whitespace() || ch.is_control() || matches!(ch, '%' | '/' | '\\' | '@' | '?' | '#')
    };
    if text.contains(stray) {
        return Err(HOST);
    }
    // `Host::parse` also reads 1.2.3 and 0x7f.1 as addresses, which nobody means.
    match url::Host::parse(text) {
        Ok(url::Host::Domain(name)) if well_formed(&name) => Ok(Host::Name(name.into())),
        _ => Err(HOST),
    }
}

/// What a URI can hold (RFC 3986, section 3.2.2), and DNS can carry.
fn well_formed(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let of_uri = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(&byte);
    name.len() <= LONGEST_NAME
        && name.bytes().all(of_uri)
        && name
            .split('.')
            .all(|label| (1..=LONGEST_LABEL).contains(&label.len()))
}

/// The system turns an interface's name into its number; an address that was parsed is not looked up by it.
fn zoned(ip: Ipv6Addr, zone: &str, port: u16) -> Result<SocketAddr, &'static str> {
    if let Ok(number) = zone.parse() {
        return Ok(SocketAddrV6::new(ip, port, 0, number).into());
    }
    let found = (format!("{ip}%{zone}"), port).to_socket_addrs().ok();
    found.and_then(|mut found| found.next()).ok_or(ZONE)
}

/// What an error may show of a text that could hold a password or a token: neither a user nor a query, save that a
/// scheme stands before them.
pub(super) fn shown(text: &str) -> String {
    let text = text.split(['?', '#']).next().unwrap_or_default();
    let Some((before, host)) = text.rsplit_once('@') else {
        return text.to_owned();
    };
    let of_scheme = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    match before.split_once("://") {
        Some((scheme, _)) if scheme.bytes().all(of_scheme) => format!("{scheme}://..@{host}"),
        _ => format!("..@{host}"),
    }
}

/// As it stands in an authority: IPv6 in brackets.
impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Ip(IpAddr::V4(ip)) => ip.fmt(f),
            Self::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
            Self::Zoned(ip, zone) => write!(f, "[{ip}%{zone}]"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Host, PORT, Target, host, parse, shown, split, target};

    fn address(text: &str) -> Target {
        Target::Address(text.parse().expect("an address written in this test"))
    }

    #[test]
    fn a_name_and_a_port_are_told_apart() {
        assert_eq!(
            parse("payments.internal:8443"),
            Ok(Target::Name("payments.internal".into(), 8443))
        );
        assert_eq!(
            parse("Payments_1:80"),
            Ok(Target::Name("payments_1".into(), 80))
        );
        assert_eq!(
            parse("bücher.example:80"),
            Ok(Target::Name("xn--bcher-kva.example".into(), 80))
        );
        assert_eq!(
            parse("payments.internal.:80"),
            Ok(Target::Name("payments.internal.".into(), 80))
        );
    }

    // ADR-01, Netflix/ribbon#482: an IPv6 host and a port are joined with brackets.
    #[test]
    fn a_bare_ipv6_host_and_a_port_are_joined_with_brackets() {
        for ip in ["2001:db8::10", "::ffff:10.0.0.1", "::", "::1"] {
            let bracketed = format!("[{ip}]:1079");
            assert_eq!(target(ip, 1079), Ok(address(&bracketed)));
            assert_eq!(target(&format!("[{ip}]"), 1079), Ok(address(&bracketed)));
            assert_eq!(
                address(&bracketed),
                parse(&bracketed).expect("it has brackets")
            );
            assert_eq!(host(ip).expect("an address").to_string(), format!("[{ip}]"));
        }
    }

    // ADR-01: a zone by number needs no system; by name it is the system's word.
    #[test]
    fn a_zone_is_kept() {
        assert_eq!(target("fe80::1%7", 1079), Ok(address("[fe80::1%7]:1079")));
        assert_eq!(parse("[fe80::1%7]:1079"), Ok(address("[fe80::1%7]:1079")));
        if cfg!(target_os = "linux") {
            assert_eq!(target("fe80::1%lo", 1079), Ok(address("[fe80::1%1]:1079")));
        }
        for unknown in ["[fe80::1%]:80", "[fe80::1%no-such-interface]:80"] {
            assert!(
                parse(unknown).is_err_and(|allowed| allowed.contains("interface")),
                "{unknown}"
            );
        }
    }

    // ADR-02, cfal/shoes#155: what stands in brackets is an address or nothing.
    #[test]
    fn brackets_hold_an_address_or_are_refused() {
        assert_eq!(parse("[::1]:8080"), Ok(address("[::1]:8080")));
        assert_eq!(
            host("[::1]"),
            Ok(Host::Ip("::1".parse().expect("an address")))
        );
        for text in [
            "[example.com]:80",
            "[::1",
            "[::1:80",
            "::1]:80",
            "[]:80",
            "[10.0.0.1]:80",
            "[::1]80",
            "[[::1]]:80",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_not_host_and_port_is_refused() {
        let long = format!("{}:80", "a.".repeat(127) + "a");
        let label = format!("{}:80", "a".repeat(64));
        for text in [
            "",
            ":",
            ":80",
            "name",
            "name:",
            "[::1]",
            "10.0.0.1",
            "2001:db8::10",
            "2001:db8::10:80",
            "http://name:80",
            "name:80/",
            "user@name:80",
            "na me:80",
            " name:80",
            "name:80 ",
            "name\n:80",
            "a..b:80",
            ".a:80",
            "%61:80",
            "1.2.3:80",
            "0x7f.1:80",
            "300.0.0.1:80",
            "010.0.0.1:80",
            "a#b:80",
            "a?b:80",
            "a\"b:80",
            "a`b:80",
            "a{b}:80",
            &long,
            &label,
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn no_user_and_no_query_is_shown_wherever_they_stand() {
        for (text, may_be_shown) in [
            ("name:80", "name:80"),
            ("http://user:pa55@name:80/?token=pa55", "http://..@name:80/"),
            ("user:pa55@name:80#pa55", "..@name:80"),
            ("user:pa55@x://y@name", "..@name"),
            ("pa55/pa55://y@name", "..@name"),
        ] {
            assert_eq!(shown(text), may_be_shown);
        }
    }

    #[test]
    fn a_port_is_a_number_from_1_to_65535() {
        for port in [
            "0",
            "00",
            "65536",
            "99999999999",
            "+80",
            "-1",
            "8o",
            " 80",
            "٨٠",
        ] {
            assert_eq!(split(&format!("name:{port}")), Err(PORT), "{port:?}");
            assert_eq!(split(&format!("[::1]:{port}")), Err(PORT), "{port:?}");
        }
        assert_eq!(split("name:65535"), Ok(("name", Some(65535))));
        assert_eq!(target("name", 0), Err(PORT));
    }
}
