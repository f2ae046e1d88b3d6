use std::net::SocketAddr;

use super::{LookupHost, alternate};
use crate::discover::Discover;

fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
    texts
        .iter()
        .map(|text| text.parse().expect("an address written in this test"))
        .collect()
}

#[test]
fn families_take_turns() {
    let found = addresses(&["[::1]:1", "[::2]:1", "[::3]:1", "10.0.0.1:1"]);
    assert_eq!(
        alternate(found),
        addresses(&["[::1]:1", "10.0.0.1:1", "[::2]:1", "[::3]:1"])
    );
    let found = addresses(&["10.0.0.1:1", "[::1]:1", "[::2]:1"]);
    assert_eq!(
        alternate(found),
        addresses(&["10.0.0.1:1", "[::1]:1", "[::2]:1"])
    );
    assert_eq!(alternate(vec![]), vec![]);
}

#[test]
fn a_bad_name_is_refused_before_anything_is_looked_up() {
    for text in [
        "payments.internal",
        "payments.internal:0",
        "[example.com]:80",
        "[::1",
        "",
        "http://a:80",
    ] {
        let refused = LookupHost::try_new(text).expect_err(text).to_string();
        assert!(refused.contains("host and port"), "{refused}");
    }
    assert!(LookupHost::from(("payments.internal", 0)).check().is_err());
}
