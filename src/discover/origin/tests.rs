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
