//! A virtual server under paused time: workers, a queue, service times and faults.

mod fault;
mod server;
mod service_time;

pub use self::{
    fault::Fault,
    server::{Upstream, UpstreamFuture},
    service_time::ServiceTime,
};
