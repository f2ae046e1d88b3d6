//! Where endpoint sets come from.
//!
//! A [`Discover`] source answers with whole sets: each answer replaces the one before it, and the balancer compares
//! the two, so an endpoint that stays keeps its connections and its statistics. A failed lookup is an answer of its
//! own and takes nothing away.
//!
//! | source | for |
//! | --- | --- |
//! | [`Fixed`] | addresses known beforehand |
//! | [`LookupHost`] | a name that the operating system resolves, asked again every 30 s |
//! | [`from_stream`] | anything else that can be written as a stream of endpoint sets |
//!
//! An [`Origin`] is the other half: the name under which a service is called. It stays in `Host`, `:authority` and the
//! TLS server name whichever [`Endpoint`] a call is sent to.
//!
//! ```
//! use evenkeel::discover::{Discover, Endpoint, Fixed, Origin};
//!
//! let origin = Origin::parse("https://payments.internal:8443")?;
//! assert_eq!((origin.host(), origin.port()), ("payments.internal", Some(8443)));
//!
//! let near = Endpoint::parse("[2001:db8::10]:8443")?.with_zone("a");
//! let far = Endpoint::parse("10.2.0.7:8443")?.with_zone("b");
//! let source = Fixed::try_new([near, far])?;
//! assert_eq!(source.fixed().map(|set| set.len()), Some(2));
//! # Ok::<(), evenkeel::InvalidSetting>(())
//! ```

mod address;
mod endpoint;
mod fixed;
mod lookup_host;
mod origin;
mod schedule;
mod source;
mod stream;

pub(crate) use self::endpoint::{Difference, distinct, distinct_beside};
pub use self::{
    endpoint::Endpoint,
    fixed::Fixed,
    lookup_host::{DEFAULT_REFRESH, LookupHost},
    origin::{Origin, Scheme},
    source::Discover,
    stream::{FromStream, Snapshot, from_stream},
};
