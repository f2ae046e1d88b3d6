//! tower's own layers, as a user would put them together: retry under a `TpsBudget` over a timeout over a balancer
//! that a `Buffer` makes shareable.

use std::{convert::Infallible, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use http::{Request, Response};
use http_body_util::Empty;
use tower::{
    BoxError, Service, ServiceBuilder, ServiceExt,
    balance::p2c::Balance,
    buffer::Buffer,
    discover::Change,
    load::{CompleteOnResponse, Load, PeakEwmaDiscover, PendingRequestsDiscover},
    retry::{
        Policy as RetryPolicy,
        backoff::{Backoff, ExponentialBackoff, ExponentialBackoffMaker, MakeBackoff},
        budget::{Budget, TpsBudget},
    },
    util::{BoxCloneService, rng::Rng},
};

use super::{
    Policy, Surroundings, ended,
    node::{self, Node},
};
use crate::{
    arrivals::Arrival,
    draws::{For, Sequence},
};

type Call = Request<Empty<Bytes>>;
type Answer = Response<Empty<Bytes>>;
type Stack = BoxCloneService<Call, Answer, BoxError>;

pub(crate) struct Tower {
    around: Surroundings,
    stacks: Vec<Stack>,
}

impl Tower {
    /// Timeout, retry with backoff and budget, peak EWMA.
    pub(crate) fn full(around: &Surroundings) -> Self {
        Self::of(around, |client| {
            let draws = Draws(Sequence::new(
                around.seed,
                For::Policy,
                u64::from(client) << 1 | 1,
            ));
            let limit = Duration::from_nanos(around.scenario.deadline());
            let service = ServiceBuilder::new()
                .retry(Budgeted::new(draws))
                .timeout(limit)
                .service(shared(around, client, ewma(around)));
            BoxCloneService::new(service)
        })
    }

    /// Two choices by calls in flight, and nothing else.
    pub(crate) fn in_flight(around: &Surroundings) -> Self {
        Self::of(around, |client| {
            let counted = PendingRequestsDiscover::new::<Call>(
                joining(around),
                CompleteOnResponse::default(),
            );
            timed(around, shared(around, client, counted))
        })
    }

    /// Two choices by peak EWMA, and nothing else.
    pub(crate) fn peak_ewma(around: &Surroundings) -> Self {
        Self::of(around, |client| {
            timed(around, shared(around, client, ewma(around)))
        })
    }

    fn of(around: &Surroundings, stack: impl Fn(u32) -> Stack) -> Self {
        Self {
            stacks: (0..around.clients).map(stack).collect(),
            around: around.clone(),
        }
    }
}

fn timed<S>(around: &Surroundings, service: S) -> Stack
where
    S: Service<Call, Response = Answer, Error = BoxError> + Clone + Send + 'static,
    S::Future: Send,
{
    let limit = Duration::from_nanos(around.scenario.deadline());
    match around.scenario.cancel {
        true => BoxCloneService::new(ServiceBuilder::new().timeout(limit).service(service)),
        false => BoxCloneService::new(service),
    }
}

type Joins = Pin<Box<dyn Stream<Item = Result<Change<u32, Node>, Infallible>> + Send>>;

/// Linkerd's values for the first estimate and the decay.
fn ewma(around: &Surroundings) -> PeakEwmaDiscover<Joins, CompleteOnResponse> {
    let (first, decay) = (Duration::from_millis(30), Duration::from_secs(10));
    PeakEwmaDiscover::new::<Call>(joining(around), first, decay, CompleteOnResponse::default())
}

fn joining(around: &Surroundings) -> Joins {
    let start = tokio::time::Instant::now();
    let mut known = around.scenario.servers;
    let mut servers: Vec<(f64, u32)> = (0..known).map(|server| (0.0, server)).collect();
    for join in &around.scenario.join {
        servers.extend((known..known + join.servers).map(|server| (join.at_s, server)));
        known += join.servers;
    }
    let world = around.world.clone();
    Box::pin(
        stream::iter(servers)
            .then(move |(at, server)| {
                let world = world.clone();
                async move {
                    if at > 0.0 {
                        tokio::time::sleep_until(start + Duration::from_secs_f64(at)).await;
                    }
                    Ok(Change::Insert(server, Node { world, server }))
                }
            })
            .chain(stream::pending()),
    )
}

/// The balancer of one client behind its worker.
fn shared<D, S>(
    around: &Surroundings,
    client: u32,
    discover: D,
) -> Buffer<Call, <Balance<D, Call> as Service<Call>>::Future>
where
    D: Stream<Item = Result<Change<u32, S>, Infallible>> + Unpin + Send + 'static,
    S: Service<Call, Response = Answer, Error = std::io::Error> + Load + Send + 'static,
    S::Metric: std::fmt::Debug,
    S::Future: Send + 'static,
{
    let draws = Draws(Sequence::new(
        around.seed,
        For::Policy,
        u64::from(client) << 1,
    ));
    Buffer::new(Balance::from_rng(discover, draws), 1024)
}

/// Three attempts, exponential waits, one retry per five calls and ten a second.
#[derive(Clone)]
struct Budgeted {
    left: u32,
    budget: Arc<TpsBudget>,
    backoff: ExponentialBackoff<Draws>,
}

impl Budgeted {
    fn new(draws: Draws) -> Self {
        let (least, most) = (Duration::from_millis(50), Duration::from_secs(2));
        let mut maker =
            ExponentialBackoffMaker::new(least, most, 0.5, draws).expect("the waits are in order");
        Self {
            left: 2,
            budget: Arc::new(TpsBudget::new(Duration::from_secs(10), 10, 0.2)),
            backoff: maker.make_backoff(),
        }
    }
}

impl<E> RetryPolicy<Call, Answer, E> for Budgeted {
    type Future = <ExponentialBackoff<Draws> as Backoff>::Future;

    fn retry(&mut self, _: &mut Call, result: &mut Result<Answer, E>) -> Option<Self::Future> {
        if result
            .as_ref()
            .is_ok_and(|response| response.status().is_success())
        {
            self.budget.deposit();
            return None;
        }
        let allowed = self.left > 0 && self.budget.withdraw();
        self.left = self.left.saturating_sub(1);
        allowed.then(|| self.backoff.next_backoff())
    }

    fn clone_request(&mut self, request: &Call) -> Option<Call> {
        Some(request.clone())
    }
}

/// Seeded numbers for tower.
#[derive(Clone, Debug)]
struct Draws(Sequence);

impl Rng for Draws {
    fn next_u64(&mut self) -> u64 {
        self.0.bits()
    }
}

impl Policy for Tower {
    fn start(&mut self, arrival: Arrival) {
        let stack = self.stacks[arrival.client as usize].clone();
        let world = self.around.world.clone();
        tokio::spawn(async move {
            let answer = stack
                .oneshot(node::request(arrival.call, Empty::new()))
                .await;
            let good = answer.is_ok_and(|response| response.status().is_success());
            ended(&world, arrival.call, good);
        });
    }
}
