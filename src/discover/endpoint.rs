use std::{
    borrow::Borrow,
    collections::HashSet,
    convert::Infallible,
    fmt,
    hash::{Hash, Hasher},
    net::{IpAddr, SocketAddr},
    ops::Range,
    str::FromStr,
    sync::Arc,
};

use crate::{
    discover::address::{self, Target},
    error::InvalidSetting,
};

const DEFAULT_WEIGHT: u32 = 1;

/// One place where a service answers: an address, and what a balancer may want to know about it.
///
/// Two endpoints are equal if their addresses are, whatever else differs: a source that changes a weight or a zone
/// changes an endpoint and does not replace it.
///
/// ```
/// use evenkeel::discover::Endpoint;
///
/// let endpoint = Endpoint::parse("[2001:db8::10]:8443")?.with_weight(3).with_zone("eu-1a").with_region("eu-1");
/// assert_eq!(endpoint.to_string(), "[2001:db8::10]:8443");
/// assert_eq!(endpoint, Endpoint::try_from(("2001:db8::10", 8443))?);
/// # Ok::<(), evenkeel::InvalidSetting>(())
/// ```
#[derive(Clone, Debug)]
pub struct Endpoint {
    address: SocketAddr,
    weight: u32,
    zone: Option<Arc<str>>,
    region: Option<Arc<str>>,
    name: Arc<str>,
}

impl Endpoint {
    /// Makes an endpoint of weight 1 in no zone, named after its address.
    ///
    /// Port 0 is refused by the source that the endpoint is given to.
    #[must_use]
    pub fn new(address: SocketAddr) -> Self {
        Self {
            address,
            weight: DEFAULT_WEIGHT,
            zone: None,
            region: None,
            name: address.to_string().into(),
        }
    }

    /// Reads an IP address and a port: `10.0.0.1:8443`, `[2001:db8::10]:8443` or `[fe80::1%eth0]:8443`.
    ///
    /// # Errors
    ///
    /// If the text is anything else, a host name included: names are for [`LookupHost`](super::LookupHost).
    pub fn parse(text: &str) -> Result<Self, InvalidSetting> {
        from_target(address::parse(text), || text.to_owned())
    }

    /// Sets the share of calls relative to the other endpoints. Default: 1.
    ///
    /// If all weights are 0 all endpoints are equal; 0 beside others receives no calls.
    #[must_use]
    pub fn with_weight(mut self, weight: u32) -> Self {
        self.weight = weight;
        self
    }

    /// Sets the failure domain that the endpoint shares with its neighbours. Default: none.
    #[must_use]
    pub fn with_zone(mut self, zone: impl Into<Arc<str>>) -> Self {
        self.zone = Some(zone.into());
        self
    }

    /// Sets the region that the zone lies in. Default: none.
    #[must_use]
    pub fn with_region(mut self, region: impl Into<Arc<str>>) -> Self {
        self.region = Some(region.into());
        self
    }

    /// Sets the name that reports and telemetry show. Default: the address.
    #[must_use]
    pub fn with_name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.name = name.into();
        self
    }

    /// The address to connect to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The share of calls relative to the other endpoints.
    #[must_use]
    pub fn weight(&self) -> u32 {
        self.weight
    }

    /// The failure domain that the endpoint shares with its neighbours, if it is known.
    #[must_use]
    pub fn zone(&self) -> Option<&Arc<str>> {
        self.zone.as_ref()
    }

    /// The region that the zone lies in, if it is known.
    #[must_use]
    pub fn region(&self) -> Option<&Arc<str>> {
        self.region.as_ref()
    }

    /// Whether nothing differs that a pick or a report shows.
    pub(crate) fn says_as(&self, other: &Self) -> bool {
        self.address == other.address
            && self.weight == other.weight
            && same(self.zone.as_ref(), other.zone.as_ref())
            && same(self.region.as_ref(), other.region.as_ref())
            && same(Some(&self.name), Some(&other.name))
    }

    /// The name that reports and telemetry show.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }
}

/// Where two sets, in their orders, differ: between what both begin with and what both end with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Difference {
    pub(crate) old: Range<usize>,
    pub(crate) new: Range<usize>,
}

impl Difference {
    pub(crate) fn between<E: Borrow<Endpoint>>(old: &[E], new: &[Endpoint]) -> Self {
        let alike = |(one, other): &(&E, &Endpoint)| Borrow::borrow(*one).says_as(other);
        let start = old.iter().zip(new).take_while(alike).count();
        let rest = old[start..].iter().rev().zip(new[start..].iter().rev());
        let end = rest.take_while(alike).count();
        Self {
            old: start..old.len() - end,
            new: start..new.len() - end,
        }
    }
}

/// So many endpoints are looked for one by one in a set; for more of them its addresses are hashed.
const FEW: usize = 8;

/// As [`distinct`], for a set that is mostly one that is known to be so; and where it differs from that one.
///
/// # Errors
///
/// As for [`distinct`].
pub(crate) fn distinct_beside<E: Borrow<Endpoint>>(
    known: &[E],
    set: Vec<Endpoint>,
) -> Result<(Vec<Endpoint>, Difference), InvalidSetting> {
    let differs = Difference::between(known, &set);
    let new = differs.new.clone();
    let once = |index: &usize| {
        let (before, rest) = set.split_at(*index);
        reachable(&rest[0]).is_ok() && !before.contains(&rest[0]) && !rest[1..].contains(&rest[0])
    };
    if new.len() <= FEW && new.clone().all(|index| once(&index)) {
        return Ok((set, differs));
    }
    let set = distinct(set)?;
    let differs = Difference::between(known, &set);
    Ok((set, differs))
}

/// The set without repeated addresses, the first of them kept, and without those that no call can be sent to.
///
/// # Errors
///
/// If that leaves nothing of a set that held something.
pub(crate) fn distinct(mut set: Vec<Endpoint>) -> Result<Vec<Endpoint>, InvalidSetting> {
    let given = set.len();
    let mut seen = HashSet::with_capacity(given);
    set.retain(|endpoint| reachable(endpoint).is_ok() && seen.insert(endpoint.address));
    if set.is_empty() && given > 0 {
        Err(InvalidSetting::new("endpoint", "on port 0", address::PORT))
    } else {
        Ok(set)
    }
}

/// # Errors
///
/// If the port is 0, which nothing can be sent to.
pub(super) fn reachable(endpoint: &Endpoint) -> Result<(), InvalidSetting> {
    if endpoint.address.port() == 0 {
        return Err(InvalidSetting::new(
            "endpoint",
            endpoint.address,
            address::PORT,
        ));
    }
    Ok(())
}

/// Mostly the very same one.
fn same(one: Option<&Arc<str>>, other: Option<&Arc<str>>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other) || one == other,
        (one, other) => one.is_none() && other.is_none(),
    }
}

fn from_target(
    target: Result<Target, &'static str>,
    text: impl Fn() -> String,
) -> Result<Endpoint, InvalidSetting> {
    let shown = || address::shown(&text());
    match target {
        Ok(Target::Address(address)) => Ok(Endpoint::new(address)),
        Ok(Target::Name(..)) => Err(InvalidSetting::new("endpoint", shown(), ADDRESS)),
        Err(allowed) => Err(InvalidSetting::new("endpoint", shown(), allowed)),
    }
}

const ADDRESS: &str =
    "an IP address and a port, as in 10.0.0.1:8443 or [2001:db8::10]:8443; LookupHost takes names";

impl PartialEq for Endpoint {
    fn eq(&self, other: &Self) -> bool {
        self.address == other.address
    }
}

impl Eq for Endpoint {}

impl Hash for Endpoint {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.address.hash(state);
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name.fmt(f)
    }
}

impl From<SocketAddr> for Endpoint {
    fn from(address: SocketAddr) -> Self {
        Self::new(address)
    }
}

impl From<(IpAddr, u16)> for Endpoint {
    fn from(address: (IpAddr, u16)) -> Self {
        Self::new(address.into())
    }
}

/// A host, IPv6 with or without brackets, and a port.
impl TryFrom<(&str, u16)> for Endpoint {
    type Error = InvalidSetting;

    fn try_from((host, port): (&str, u16)) -> Result<Self, InvalidSetting> {
        from_target(address::target(host, port), || {
            format!("{host} and port {port}")
        })
    }
}

impl TryFrom<&str> for Endpoint {
    type Error = InvalidSetting;

    fn try_from(text: &str) -> Result<Self, InvalidSetting> {
        Self::parse(text)
    }
}

impl TryFrom<String> for Endpoint {
    type Error = InvalidSetting;

    fn try_from(text: String) -> Result<Self, InvalidSetting> {
        Self::parse(&text)
    }
}

impl FromStr for Endpoint {
    type Err = InvalidSetting;

    fn from_str(text: &str) -> Result<Self, InvalidSetting> {
        Self::parse(text)
    }
}

/// Lets [`Fixed`](super::Fixed) take what always is an endpoint and what may be one alike.
impl From<Infallible> for InvalidSetting {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

#[cfg(test)]
mod tests {
    use super::{Difference, Endpoint, InvalidSetting, distinct, distinct_beside};

    fn endpoint(text: &str) -> Endpoint {
        Endpoint::parse(text).expect("an endpoint written in this test")
    }

    #[test]
    fn identity_is_the_address() {
        assert_eq!(
            endpoint("10.0.0.1:80"),
            endpoint("10.0.0.1:80")
                .with_weight(7)
                .with_zone("a")
                .with_name("one")
        );
        assert_ne!(endpoint("10.0.0.1:80"), endpoint("10.0.0.1:81"));
    }

    #[test]
    fn the_first_of_equal_addresses_is_kept() {
        let set = distinct(vec![
            endpoint("10.0.0.1:80").with_weight(3),
            endpoint("10.0.0.1:80"),
            endpoint("10.0.0.2:80"),
        ]);
        let set = set.expect("both can be reached");
        assert_eq!(set, [endpoint("10.0.0.1:80"), endpoint("10.0.0.2:80")]);
        assert_eq!(set[0].weight(), 3);
    }

    fn numbered(numbers: &[u16]) -> Vec<Endpoint> {
        let endpoint = |number: &u16| Endpoint::new(([10, 0, 0, 1], *number).into());
        numbers.iter().map(endpoint).collect()
    }

    #[test]
    fn sets_differ_between_what_both_begin_and_end_with() {
        let between = |old: &[u16], new: &[u16]| {
            let Difference { old, new } = Difference::between(&numbered(old), &numbered(new));
            (old, new)
        };
        assert_eq!(between(&[1, 2, 3], &[1, 2, 3]), (3..3, 3..3));
        assert_eq!(between(&[1, 2, 3], &[1, 7, 3]), (1..2, 1..2));
        assert_eq!(between(&[1, 2, 3], &[1, 2, 7, 8, 3]), (2..2, 2..4));
        assert_eq!(between(&[1, 2, 3], &[3]), (0..2, 0..0));
        assert_eq!(between(&[], &[1]), (0..0, 0..1));
        let mut heavier = numbered(&[1, 2]);
        heavier[0] = heavier[0].clone().with_weight(2);
        assert_eq!(Difference::between(&numbered(&[1, 2]), &heavier).new, 0..1);
    }

    #[test]
    fn a_set_beside_another_one_is_as_distinct_as_alone() {
        let known = numbered(&[1, 2, 3]);
        let all = |numbers: &[u16]| {
            let (set, differs) = distinct_beside(&known, numbered(numbers))?;
            assert_eq!(differs, Difference::between(&known, &set));
            Ok::<_, InvalidSetting>(set)
        };
        for set in [
            &[1, 2, 3][..],
            &[1, 9, 3],
            &[9, 8, 7],
            &[],
            &[1, 2, 3, 4, 5, 6, 7, 8, 9],
        ] {
            assert_eq!(all(set).expect("each can be reached"), numbered(set));
        }
        for repeated in [
            &[1, 2, 1, 3][..],
            &[1, 2, 3, 3],
            &[1, 9, 9, 3],
            &[0, 1, 2, 0, 3],
        ] {
            let found = all(repeated).expect("some can be reached");
            assert_eq!(
                found,
                distinct(numbered(repeated)).expect("some can be reached")
            );
        }
        assert!(all(&[0]).is_err());
    }

    #[test]
    fn port_0_is_left_out_and_never_empties_a_set() {
        let nowhere = || Endpoint::new(([10, 0, 0, 1], 0).into());
        assert_eq!(
            distinct(vec![nowhere(), endpoint("10.0.0.2:80")]).expect("one is left"),
            [endpoint("10.0.0.2:80")]
        );
        assert!(
            distinct(vec![nowhere()])
                .is_err_and(|refused| refused.to_string().contains("1 to 65535"))
        );
        assert!(distinct(vec![]).is_ok_and(|set| set.is_empty()));
    }

    // ADR-01, dsx-ai-factory/infra-controller#6399
    #[test]
    fn an_endpoint_reads_back_what_it_shows() {
        for (host, port) in [
            ("2001:db8::10", 1079),
            ("::ffff:10.0.0.1", 1079),
            ("fe80::1%3", 1079),
            ("10.0.0.1", 1),
        ] {
            let made = Endpoint::try_from((host, port)).expect("an address");
            assert_eq!(endpoint(&made.to_string()), made);
        }
    }

    #[test]
    fn a_refusal_says_what_was_given_and_what_is_allowed() {
        let refused = Endpoint::parse("payments.internal:80")
            .expect_err("a name")
            .to_string();
        assert!(
            refused.contains("payments.internal:80") && refused.contains("LookupHost"),
            "{refused}"
        );
        let refused = Endpoint::try_from(("10.0.0.1", 0))
            .expect_err("port 0")
            .to_string();
        assert!(
            refused.contains("10.0.0.1") && refused.contains("1 to 65535"),
            "{refused}"
        );
    }
}
