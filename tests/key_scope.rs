//! Where a keyed call goes again, over a balancer with endpoints in several regions, under paused time.

mod support;

use std::time::Duration;

use evenkeel::{
    AttemptTimeoutLayer, Backoff, Balancer, Body, CallPolicy, Ejection, Endpoint, Error, ErrorKind,
    IdempotencyKeyLayer, IdempotencyKeys, Jitter, KeyScope, Random, Retry, RetryLayer, call::Stop,
};
use http::{Method, Request, Response};
use support::fleet::{Fleet, Manner, Sets, address};
use tokio::time::{Instant, sleep};
use tower::{Layer, ServiceBuilder, ServiceExt, util::BoxCloneSyncService};

const MS: fn(u64) -> Duration = Duration::from_millis;

/// The limit of an attempt.
const LIMIT: Duration = Duration::from_millis(100);

/// Many seeds, so that every order of regions comes up.
const SEEDS: u64 = 24;

/// An endpoint in region `port / 100`, zone `port / 10`; region 0 and its zone have no names.
fn endpoint(port: u16) -> Endpoint {
    let endpoint = Endpoint::new(address(port));
    match port / 100 {
        0 => endpoint,
        region => endpoint
            .with_region(format!("region {region}"))
            .with_zone(format!("zone {}", port / 10)),
    }
}

fn endpoints(ports: &[u16]) -> Vec<Endpoint> {
    ports.iter().copied().map(endpoint).collect()
}

type Calls = BoxCloneSyncService<Request<Body>, Response<()>, Error>;

/// A balancer over a fleet, with retry and an attempt limit above it.
struct World {
    fleet: Fleet,
    sets: Sets,
    ports: Vec<u16>,
    retried: Calls,
}

impl World {
    fn new(ports: &[u16], seed: u64) -> Self {
        Self::with(ports, seed, Ejection::off())
    }

    fn with(ports: &[u16], seed: u64, ejection: Ejection) -> Self {
        let (fleet, sets) = (Fleet::default(), Sets::new());
        sets.answer(endpoints(ports));
        let balancer = Balancer::builder(sets.clone())
            .random(Random::seeded(seed))
            .ejection(ejection)
            .build(fleet.make())
            .expect("valid settings");
        let backoff = Backoff::default().initial(MS(100)).jitter(Jitter::None);
        let retry = Retry::default().backoff(backoff).without_budget();
        let service = ServiceBuilder::new()
            .map_response(|response: Response<_>| response.map(drop))
            .layer(RetryLayer::new(retry.build().expect("valid settings")))
            .layer(AttemptTimeoutLayer::new(LIMIT).expect("above zero"))
            .service(balancer);
        Self {
            fleet,
            sets,
            ports: ports.to_vec(),
            retried: BoxCloneSyncService::new(service),
        }
    }

    fn all(self, manner: Manner) -> Self {
        for port in &self.ports {
            self.fleet.set(*port, manner, Duration::ZERO);
        }
        self
    }

    fn region(self, region: u16, manner: Manner) -> Self {
        for port in self.ports.iter().filter(|port| **port / 100 == region) {
            self.fleet.set(*port, manner, Duration::ZERO);
        }
        self
    }

    /// With a key layer of this scope.
    fn keyed(&self, scope: KeyScope) -> Calls {
        let keys = IdempotencyKeys::default().scope(scope);
        let layer = IdempotencyKeyLayer::new(keys).expect("valid settings");
        BoxCloneSyncService::new(layer.layer(self.retried.clone()))
    }

    /// How many attempts came to a port, counted by what `place` makes of it.
    fn attempts(&self, place: impl Fn(u16) -> u16) -> Vec<usize> {
        let mut places: Vec<(u16, usize)> = Vec::new();
        for port in &self.ports {
            let calls = self.fleet.calls(*port);
            match places.iter_mut().find(|(known, _)| *known == place(*port)) {
                Some((_, sum)) => *sum += calls,
                None => places.push((place(*port), calls)),
            }
        }
        places.into_iter().map(|(_, calls)| calls).collect()
    }

    fn by_region(&self) -> Vec<usize> {
        self.attempts(|port| port / 100)
    }

    fn by_zone(&self) -> Vec<usize> {
        self.attempts(|port| port / 10)
    }
}

fn request(method: Method) -> Request<Body> {
    let request = Request::builder().method(method).uri("http://service/");
    request.body(Body::from("charge")).expect("a request")
}

fn post() -> Request<Body> {
    request(Method::POST)
}

fn bringing_a_key() -> Request<Body> {
    let mut request = post();
    let key = "order-42".parse().expect("a header value");
    request.headers_mut().insert("idempotency-key", key);
    request
}

fn with(mut request: Request<Body>, policy: CallPolicy) -> Request<Body> {
    request.extensions_mut().insert(policy);
    request
}

async fn error(service: Calls, request: Request<Body>) -> Error {
    service.oneshot(request).await.expect_err("no answer")
}

/// All three attempts in one place.
fn in_one(places: &[usize]) -> bool {
    places.iter().sum::<usize>() == 3 && places.contains(&3)
}

/// Whether the attempts of any seed come to more than one region.
async fn wander(
    ports: &[u16],
    manner: Manner,
    scope: Option<KeyScope>,
    request: impl Fn() -> Request<Body>,
) -> bool {
    let mut wandered = false;
    for seed in 0..SEEDS {
        let world = World::new(ports, seed).all(manner);
        let service = scope.map_or_else(|| world.retried.clone(), |scope| world.keyed(scope));
        let _ = service.oneshot(request()).await;
        let regions = world.by_region();
        assert_eq!(regions.iter().sum::<usize>(), 3, "{regions:?}");
        wandered |= !in_one(&regions);
    }
    wandered
}

const TWO_REGIONS: [u16; 6] = [101, 102, 111, 201, 202, 211];

#[tokio::test(start_paused = true)]
async fn after_a_timeout_a_keyed_post_stays_in_the_region_of_that_attempt() {
    for manner in [Manner::Hang, Manner::Reset] {
        assert!(!wander(&TWO_REGIONS, manner, Some(KeyScope::Region), post).await);
        assert!(wander(&TWO_REGIONS, manner, Some(KeyScope::Global), post).await);
    }
}

#[tokio::test(start_paused = true)]
async fn zone_means_the_same_zone_of_the_same_region() {
    for seed in 0..SEEDS {
        let world = World::new(&TWO_REGIONS, seed).all(Manner::Hang);
        error(world.keyed(KeyScope::Zone), post()).await;
        assert!(in_one(&world.by_zone()), "{:?}", world.by_zone());
    }
}

#[tokio::test(start_paused = true)]
async fn a_callers_own_header_key_has_the_default_scope_without_a_key_layer() {
    assert!(!wander(&TWO_REGIONS, Manner::Hang, None, bringing_a_key).await);
    let global = Some(KeyScope::Global);
    assert!(wander(&TWO_REGIONS, Manner::Hang, global, bringing_a_key).await);
}

#[tokio::test(start_paused = true)]
async fn the_key_layer_may_stand_below_the_retry_layer() {
    for seed in 0..SEEDS {
        let world = World::new(&TWO_REGIONS, seed).all(Manner::Hang);
        let retry = Retry::default().without_budget();
        let retry = RetryLayer::new(retry.build().expect("valid settings"));
        // The retry layer in there passes on what this one owns.
        let service = retry.layer(world.keyed(KeyScope::Region));
        service.oneshot(post()).await.expect_err("no answer");
        assert!(in_one(&world.by_region()), "{:?}", world.by_region());
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_not_processed_or_may_be_repeated_goes_anywhere() {
    let region = Some(KeyScope::Region);
    assert!(wander(&TWO_REGIONS, Manner::Refuse, region, post).await);
    assert!(wander(&TWO_REGIONS, Manner::Answer(503), region, post).await);
    for method in [Method::GET, Method::PUT] {
        let given = || {
            let key = CallPolicy::new().idempotency_key("order-42");
            with(request(method.clone()), key)
        };
        assert!(wander(&TWO_REGIONS, Manner::Hang, region, given).await);
    }
    let harmless = || with(post(), CallPolicy::new().idempotent(true));
    assert!(wander(&TWO_REGIONS, Manner::Hang, region, harmless).await);
    let harmful = || {
        let policy = CallPolicy::new().idempotent(false).idempotency_key("k");
        with(request(Method::GET), policy)
    };
    assert!(!wander(&TWO_REGIONS, Manner::Hang, region, harmful).await);
}

#[tokio::test(start_paused = true)]
async fn endpoints_without_a_region_are_one_place_of_their_own() {
    let region = Some(KeyScope::Region);
    for seed in 0..SEEDS {
        let world = World::new(&[1, 2, 3], seed).all(Manner::Hang);
        error(world.keyed(KeyScope::Zone), post()).await;
        assert_eq!(
            world.attempts(|port| port),
            [1, 1, 1],
            "nothing is known, so nothing is out of bounds"
        );
    }
    assert!(!wander(&[1, 2, 101, 102], Manner::Hang, region, post).await);
}

#[tokio::test(start_paused = true)]
async fn the_first_attempt_that_may_have_been_acted_on_decides_where_the_call_stays() {
    let mut seen = 0;
    for seed in 0..SEEDS {
        let world = World::new(&TWO_REGIONS, seed)
            .region(1, Manner::Refuse)
            .region(2, Manner::Reset);
        error(world.keyed(KeyScope::Region), post()).await;
        let report = |regions: &[usize]| regions[0] == 1 && regions[1] == 2;
        let regions = world.by_region();
        // Refused in 1, reset in 2: a third attempt in 1 could be a second charge.
        seen += usize::from(report(&regions));
        assert!(regions[0] != 2 || regions[1] == 1, "{regions:?}");
        assert!(
            regions[0] != 1 || report(&regions),
            "left region 2: {regions:?}"
        );
    }
    assert!(seen > 0, "no seed began in region 1");
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_said_to_be_running_is_asked_for_where_it_runs() {
    let region = Some(KeyScope::Region);
    assert!(!wander(&TWO_REGIONS, Manner::Answer(409), region, bringing_a_key).await);
}

#[tokio::test(start_paused = true)]
async fn only_untried_endpoints_in_scope_make_the_first_retry_start_at_once() {
    for (ports, waits) in [
        (&[101, 102, 201, 202][..], [0, 200]),
        (&[101, 201][..], [100, 200]),
    ] {
        let world = World::new(ports, 7).all(Manner::Hang);
        let start = Instant::now();
        error(world.keyed(KeyScope::Region), post()).await;
        let waited = start.elapsed() - LIMIT * 3;
        assert_eq!(waited, MS(waits.iter().sum()), "{ports:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn ejected_endpoints_are_used_rather_than_leaving_the_scope() {
    for seed in 0..SEEDS {
        let ejection = Ejection::consecutive(1).panic_below(0.1);
        let world = World::with(&[101, 201, 301, 401], seed, ejection).all(Manner::Reset);
        let error = error(world.keyed(KeyScope::Region), post()).await;
        assert_eq!(error.kind(), ErrorKind::Upstream);
        assert!(in_one(&world.by_region()), "{:?}", world.by_region());
    }
}

/// A call whose first attempt hangs in region 1 while the set becomes another one, in which everybody answers.
async fn while_the_set_becomes(ports: &[u16]) -> (World, Result<Response<()>, Error>, Duration) {
    let world = World::new(&[101], 1).all(Manner::Hang);
    let (service, start) = (world.keyed(KeyScope::Region), Instant::now());
    let sets = world.sets.clone();
    let change = async {
        sleep(MS(50)).await;
        assert_eq!(world.fleet.calls(101), 1);
        sets.answer(endpoints(ports));
    };
    let (answer, ()) = tokio::join!(service.oneshot(post()), change);
    let took = start.elapsed();
    (world, answer, took)
}

#[tokio::test(start_paused = true)]
async fn without_an_endpoint_left_in_scope_the_last_outcome_comes_back_at_once_with_the_reason() {
    let (world, answer, took) = while_the_set_becomes(&[201, 202]).await;
    let error = answer.expect_err("nowhere to go");
    assert_eq!(error.kind(), ErrorKind::AttemptTimeout, "{error}");
    assert_eq!(error.report().stop(), Some(Stop::OutOfKeyScope), "{error}");
    assert!(error.may_have_happened());
    assert_eq!(took, LIMIT, "it did not wait first");
    assert_eq!((world.fleet.calls(201), world.fleet.calls(202)), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_joins_the_scope_in_time_takes_the_call_over() {
    let (world, answer, took) = while_the_set_becomes(&[102, 201, 202]).await;
    assert!(answer.is_ok());
    assert_eq!(took, LIMIT, "it is untried, so nothing is waited for");
    assert_eq!(world.fleet.calls(102), 1);
}
