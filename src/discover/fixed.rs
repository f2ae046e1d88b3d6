use futures::{
    StreamExt,
    stream::{self, BoxStream},
};

use crate::{
    discover::{Discover, Endpoint, distinct, endpoint},
    error::{BoxError, InvalidSetting},
};

/// Endpoints that are known beforehand and never change.
///
/// An address given twice counts once, with the settings of the first.
///
/// ```
/// use std::net::SocketAddr;
///
/// use evenkeel::discover::{Endpoint, Fixed};
///
/// let written = Fixed::new(["10.0.0.1:8443", "[2001:db8::10]:8443"]);
/// let known = Fixed::new([SocketAddr::from(([10, 0, 0, 1], 8443))]);
/// let weighted = Fixed::new([Endpoint::parse("10.0.0.1:8443")?.with_weight(2)]);
/// # Ok::<(), evenkeel::InvalidSetting>(())
/// ```
#[derive(Clone, Debug)]
pub struct Fixed {
    set: Result<Vec<Endpoint>, InvalidSetting>,
}

impl Fixed {
    /// Takes addresses as text, as `SocketAddr`, as IP and port, or as whole [`Endpoint`]s.
    ///
    /// What [`try_new`](Self::try_new) refuses at once is refused here when a client or a balancer is built from it.
    #[must_use]
    pub fn new<I>(addresses: I) -> Self
    where
        I: IntoIterator,
        I::Item: TryInto<Endpoint, Error: Into<InvalidSetting>>,
    {
        Self {
            set: collect(addresses),
        }
    }

    /// Takes addresses as [`new`](Self::new) does.
    ///
    /// # Errors
    ///
    /// If there is none, if one is not an IP address and a port, or has port 0.
    pub fn try_new<I>(addresses: I) -> Result<Self, InvalidSetting>
    where
        I: IntoIterator,
        I::Item: TryInto<Endpoint, Error: Into<InvalidSetting>>,
    {
        collect(addresses).map(|set| Self { set: Ok(set) })
    }
}

fn collect<I>(addresses: I) -> Result<Vec<Endpoint>, InvalidSetting>
where
    I: IntoIterator,
    I::Item: TryInto<Endpoint, Error: Into<InvalidSetting>>,
{
    let set: Vec<Endpoint> = addresses
        .into_iter()
        .map(|address| address.try_into().map_err(Into::into))
        .collect::<Result<_, _>>()?;
    if set.is_empty() {
        return Err(InvalidSetting::new(
            "endpoints",
            "an empty list",
            "at least one address",
        ));
    }
    // What is left out of a changing set without a word is refused in one that somebody wrote down.
    set.iter().try_for_each(endpoint::reachable)?;
    distinct(set)
}

impl Discover for Fixed {
    fn watch(&self) -> BoxStream<'static, Result<Vec<Endpoint>, BoxError>> {
        stream::iter([self.set.clone().map_err(BoxError::from)]).boxed()
    }

    fn fixed(&self) -> Option<Vec<Endpoint>> {
        self.set.as_ref().ok().cloned()
    }

    fn check(&self) -> Result<(), InvalidSetting> {
        self.set.as_ref().map(drop).map_err(Clone::clone)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv6Addr, SocketAddr};

    use super::Fixed;
    use crate::discover::{Discover, Endpoint};

    #[test]
    fn an_empty_list_is_refused() {
        let refused = Fixed::try_new(Vec::<SocketAddr>::new())
            .expect_err("no endpoint")
            .to_string();
        assert!(
            refused.contains("endpoints") && refused.contains("at least one"),
            "{refused}"
        );
        let unchecked = Fixed::new(Vec::<Endpoint>::new());
        assert!(unchecked.check().is_err());
        assert_eq!(unchecked.fixed(), None);
    }

    #[test]
    fn port_0_and_names_are_refused() {
        assert!(Fixed::try_new([SocketAddr::from(([10, 0, 0, 1], 0))]).is_err());
        assert!(Fixed::try_new(["10.0.0.1:80", "10.0.0.2:0"]).is_err());
        assert!(Fixed::try_new(["payments.internal:80"]).is_err());
    }

    // LB-12, envoyproxy/envoy#433
    #[test]
    fn an_address_given_twice_counts_once() {
        let source = Fixed::try_new(["10.0.0.1:80", "10.0.0.1:80", "[::1]:80"]).expect("addresses");
        assert_eq!(source.fixed().map(|set| set.len()), Some(2));
    }

    #[test]
    fn every_way_to_write_an_address_is_taken() {
        let ip = IpAddr::V6(Ipv6Addr::LOCALHOST);
        let expected = Fixed::new(["[::1]:80"]).fixed();
        assert_eq!(Fixed::new([(ip, 80)]).fixed(), expected);
        assert_eq!(Fixed::new([SocketAddr::new(ip, 80)]).fixed(), expected);
        assert_eq!(Fixed::new([("::1", 80)]).fixed(), expected);
        assert_eq!(Fixed::new([String::from("[::1]:80")]).fixed(), expected);
        assert!(expected.is_some());
    }
}
