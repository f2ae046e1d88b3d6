use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use evenkeel::{
    Fixed,
    balance::{Balancer, Pick},
};

/// The limit of a call in every row that has one.
pub(crate) const DEADLINE: Duration = Duration::from_secs(3);

/// A balancer over so many endpoints, each with a service of its own.
pub(crate) fn balanced<S>(
    size: u32,
    pick: Pick,
    make: impl Fn() -> S + Send + Sync + 'static,
) -> Balancer<S>
where
    S: Clone + Send + Sync + 'static,
{
    Balancer::builder(Fixed::new((0..size).map(address)))
        .pick(pick)
        .build(move |_| Ok(make()))
        .expect("addresses and defaults are in range")
}

/// The address of an endpoint by its number.
pub(crate) fn address(number: u32) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::from_bits(0x0a00_0001 + number), 8080))
}
