//! Endpoint sets and their sources in bad moods, under paused time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use evenkeel::{
    Balancer, Body, BoxError, DeadlineLayer, Discover, Ejection, Endpoint, Error, ErrorKind, Fixed,
    Pick, Random, SlowStart,
    balance::{EndpointState, ResponseFuture},
    discover::from_stream,
    timeout::DeadlineService,
};
use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use http::{Request, Response};
use http_body_util::BodyExt;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};
use tower::{Layer, Service, ServiceExt};

use crate::support::fleet::{Fleet, Manner, Member, Sets, address, endpoints};

const MS: fn(u64) -> Duration = Duration::from_millis;
const S: fn(u64) -> Duration = Duration::from_secs;

const PICKS: [Pick; 7] = [
    Pick::least_cost(),
    Pick::p2c_peak_ewma(),
    Pick::p2c_in_flight(),
    Pick::choices(3),
    Pick::least_in_flight(),
    Pick::round_robin(),
    Pick::random(),
];

type Stack = DeadlineService<Balancer<Member>>;

fn within(limit: Duration, balancer: &Balancer<Member>) -> Stack {
    DeadlineLayer::new(limit).unwrap().layer(balancer.clone())
}

/// The port that answered, if its answer was good.
async fn ask<S, RB>(service: &S) -> Result<u16, Error>
where
    S: Service<Request<Body>, Response = Response<RB>, Error = Error> + Clone,
    RB: http_body::Body<Error = BoxError>,
    RB::Data: std::fmt::Debug,
{
    let request = Request::get("http://s/").body(Body::empty()).unwrap();
    let response = service.clone().oneshot(request).await?;
    let good = response.status().is_success();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let port = std::str::from_utf8(&body).unwrap().parse().unwrap();
    Ok(if good { port } else { 0 })
}

/// Calls at a steady pace, each on its own; how many were answered well.
async fn steadily(service: &Stack, calls: usize, pace: Duration) -> usize {
    let mut running = JoinSet::new();
    for _ in 0..calls {
        let service = service.clone();
        running.spawn(async move { ask(&service).await.is_ok_and(|port| port > 0) });
        sleep(pace).await;
    }
    running
        .join_all()
        .await
        .into_iter()
        .filter(|ok| *ok)
        .count()
}

#[tokio::test(start_paused = true)]
async fn the_only_endpoint_is_used_however_it_fails_and_at_once_when_it_recovers() {
    for pick in PICKS {
        for manner in [
            Manner::Refuse,
            Manner::Answer(503),
            Manner::Hang,
            Manner::Reset,
        ] {
            let fleet = Fleet::default();
            fleet.set(1, manner, MS(1));
            let balancer = Balancer::builder(Fixed::new(endpoints([1]))).pick(pick);
            let balancer = balancer.build(fleet.make()).unwrap();
            let service = within(MS(100), &balancer);
            assert_eq!(steadily(&service, 200, MS(10)).await, 0);
            assert_eq!(fleet.calls(1), 200, "{pick:?}, {manner:?}");
            fleet.set(1, Manner::Answer(200), MS(1));
            assert_eq!(
                steadily(&service, 50, MS(10)).await,
                50,
                "{pick:?}, {manner:?}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn when_all_endpoints_recover_all_get_calls_again_within_seconds() {
    for pick in PICKS {
        for n in [2, 3, 10] {
            for manner in [Manner::Refuse, Manner::Answer(503), Manner::Hang] {
                let fleet = Fleet::default();
                let all = (1..=n).map(|port| Endpoint::new(address(port)));
                let balancer = Balancer::builder(Fixed::new(all))
                    .pick(pick)
                    .random(Random::seeded(4));
                let balancer = balancer.build(fleet.make()).unwrap();
                let service = within(MS(100), &balancer);
                (1..=n).for_each(|port| fleet.set(port, manner, MS(1)));
                assert_eq!(steadily(&service, 2_000, MS(5)).await, 0);
                (1..=n).for_each(|port| fleet.set(port, Manner::Answer(200), MS(1)));
                let case = format!("{pick:?}, {n} endpoints, {manner:?}");
                let good = steadily(&service, 200, MS(5)).await;
                assert!(good >= 199, "{case}: {good} of 200");
                steadily(&service, 3_000, MS(5)).await;
                fleet.forget_calls();
                steadily(&service, 2_000, MS(5)).await;
                for port in 1..=n {
                    let (calls, fair) = (fleet.calls(port), 2_000 / usize::from(n));
                    assert!(
                        (fair / 4..fair * 4).contains(&calls),
                        "{case}: {port} has {calls}"
                    );
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_set_that_is_replaced_or_shrinks_under_load_loses_no_call() {
    for pick in PICKS {
        let fleet = Fleet::default();
        (1..=9).for_each(|port| fleet.set(port, Manner::Answer(200), MS(50)));
        let sets = Sets::of([1, 2, 3]);
        let balancer = Balancer::builder(sets.clone()).pick(pick);
        let balancer = balancer.build(fleet.make()).unwrap();
        let service = within(S(1), &balancer);
        let load = tokio::spawn(async move { steadily(&service, 1_000, MS(2)).await });
        for set in [
            endpoints([4, 5, 6]).to_vec(),
            endpoints([6]).to_vec(),
            endpoints([1, 2, 3, 4, 5, 6, 7, 8, 9]).to_vec(),
            endpoints([2]).to_vec(),
        ] {
            sleep(MS(300)).await;
            sets.answer(set);
        }
        sleep(MS(100)).await;
        fleet.forget_calls();
        assert_eq!(load.await.unwrap(), 1_000, "{pick:?}");
        let others: usize = (1..=9).filter(|p| *p != 2).map(|p| fleet.calls(p)).sum();
        assert_eq!(others, 0, "{pick:?}: calls to endpoints that are gone");
        let kept = (1..=9).filter(|port| fleet.instances(*port) > 0);
        assert_eq!(
            kept.collect::<Vec<_>>(),
            [2],
            "{pick:?}: services that live"
        );
        drop(balancer);
        sleep(MS(1)).await;
        assert_eq!(fleet.instances(2), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn every_pick_keeps_to_weights() {
    for pick in PICKS {
        let fleet = Fleet::default();
        (1..=3).for_each(|port| fleet.set(port, Manner::Answer(200), MS(20)));
        let set = [(1, 1), (2, 2), (3, 0)]
            .map(|(port, weight)| Endpoint::new(address(port)).with_weight(weight));
        let balancer = Balancer::builder(Fixed::new(set))
            .pick(pick)
            .random(Random::seeded(6));
        let balancer = balancer.build(fleet.make()).unwrap();
        steadily(&within(S(1), &balancer), 3_000, MS(2)).await;
        let shares = [1, 2, 3].map(|port| fleet.calls(port));
        assert!((800..1_200).contains(&shares[0]), "{pick:?}: {shares:?}");
        assert!((1_800..2_200).contains(&shares[1]), "{pick:?}: {shares:?}");
        assert_eq!(shares[2], 0, "{pick:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn of_one_address_with_two_weights_the_first_counts_in_every_answer() {
    for pick in PICKS {
        let fleet = Fleet::default();
        (1..=2).for_each(|port| fleet.set(port, Manner::Answer(200), MS(20)));
        let sets = Sets::new();
        let set = || {
            [(1, 3), (2, 1), (1, 50)]
                .map(|(port, weight)| Endpoint::new(address(port)).with_weight(weight))
                .to_vec()
        };
        sets.answer(set());
        let balancer = Balancer::builder(sets.clone())
            .pick(pick)
            .random(Random::seeded(6));
        let balancer = balancer.build(fleet.make()).unwrap();
        let service = within(S(1), &balancer);
        for _ in 0..10 {
            steadily(&service, 400, MS(2)).await;
            sets.answer(set());
        }
        assert_eq!(balancer.endpoints().len(), 2);
        assert_eq!((fleet.made(1), fleet.made(2)), (1, 1));
        let first = fleet.calls(1);
        assert!((2_700..3_300).contains(&first), "{pick:?}: {first} of 4000");
    }
}

// ===== sources =====

fn over(source: impl Discover, fleet: &Fleet) -> Balancer<Member> {
    Balancer::builder(source)
        .slow_start(SlowStart::off())
        .build(fleet.make())
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_ends_leaves_its_last_set() {
    let fleet = Fleet::default();
    let balancer = over(from_stream(stream::iter([endpoints([1, 2])])), &fleet);
    let service = within(S(1), &balancer);
    for _ in 0..3 {
        assert_eq!(steadily(&service, 100, MS(10)).await, 100);
        sleep(S(3_600)).await;
    }
    assert_eq!((fleet.made(1), fleet.made(2)), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_ends_without_a_set_fails_calls_at_once() {
    let fleet = Fleet::default();
    for stream in [
        stream::iter(vec![]).boxed(),
        stream::iter(vec![Ok(vec![])]).boxed(),
        stream::iter(vec![Err(BoxError::from("registry is down"))]).boxed(),
    ] {
        let stream: BoxStream<'static, Result<Vec<Endpoint>, BoxError>> = stream;
        let balancer = over(from_stream(stream), &fleet);
        for _ in 0..3 {
            let start = Instant::now();
            let error = ask(&within(S(5), &balancer)).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NoEndpoints, "{error}");
            assert!(!error.may_have_happened());
            assert!(
                start.elapsed() < S(1),
                "{error}: after {:?}",
                start.elapsed()
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn errors_between_sets_change_nothing_and_an_empty_first_answer_is_no_end() {
    let fleet = Fleet::default();
    let sets = Sets::new();
    sets.answer(Vec::new());
    let balancer = over(sets.clone(), &fleet);
    let service = within(S(1), &balancer);
    let error = ask(&service).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoEndpoints);
    sets.answer(endpoints([1]));
    sleep(MS(1)).await;
    assert_eq!(ask(&service).await.unwrap(), 1);
    for trouble in ["timed out", "servfail", "refused"] {
        sets.fail(trouble);
        sleep(S(30)).await;
        assert_eq!(ask(&service).await.unwrap(), 1);
    }
    sets.answer(Vec::new());
    sleep(S(30)).await;
    assert_eq!(ask(&service).await.unwrap(), 1);
    sets.answer(endpoints([2]));
    sleep(MS(1)).await;
    assert_eq!(ask(&service).await.unwrap(), 2);
}

/// Panics in its watch, or in the stream, the first times; then it has a set.
struct Panicking {
    left: Arc<AtomicUsize>,
    in_stream: bool,
}

impl Discover for Panicking {
    fn watch(&self) -> BoxStream<'static, Result<Vec<Endpoint>, BoxError>> {
        let again = || {
            self.left
                .fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1))
        };
        let panics = again().is_ok();
        assert!(!panics || self.in_stream, "a source that panics");
        let first = stream::once(async move {
            assert!(!panics, "a stream that panics");
            Ok(endpoints([1]))
        });
        first.chain(stream::pending()).boxed()
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_that_panics_fails_calls_and_is_asked_again() {
    for in_stream in [true, false] {
        let fleet = Fleet::default();
        let left = Arc::new(AtomicUsize::new(2));
        let balancer = over(Panicking { left, in_stream }, &fleet);
        let service = within(S(1), &balancer);
        let mut answers = Vec::new();
        for _ in 0..6 {
            answers.push(ask(&service).await);
            sleep(S(2)).await;
        }
        let last = answers.last().unwrap();
        assert_eq!(*last.as_ref().unwrap(), 1, "in stream: {in_stream}");
        for error in answers.iter().filter_map(|answer| answer.as_ref().err()) {
            assert!(
                matches!(
                    error.kind(),
                    ErrorKind::NoEndpoints | ErrorKind::DeadlineExceeded
                ),
                "{error}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_whose_service_cannot_be_made_is_left_out_and_tried_again() {
    for panics in [false, true] {
        let fleet = Fleet::default();
        let broken = Arc::new(AtomicUsize::new(1));
        let (make, still) = (fleet.make(), Arc::clone(&broken));
        let sets = Sets::of([1, 2, 3]);
        let balancer = Balancer::builder(sets.clone())
            .build(move |endpoint| {
                let bad = endpoint.address().port() < 3 && still.load(Relaxed) > 0;
                assert!(!bad || !panics, "a factory that panics");
                if bad {
                    Err(BoxError::from("no certificate"))
                } else {
                    make(endpoint)
                }
            })
            .unwrap();
        let service = within(S(1), &balancer);
        assert_eq!(steadily(&service, 100, MS(1)).await, 100);
        assert_eq!(fleet.calls(3), 100);
        let out = balancer
            .endpoints()
            .into_iter()
            .filter(|status| matches!(&status.state, EndpointState::Failed { .. }));
        assert_eq!(out.count(), 2);
        broken.store(0, Relaxed);
        sets.answer(endpoints([1, 2, 3]));
        sleep(S(20)).await;
        assert_eq!(steadily(&service, 300, MS(10)).await, 300);
        assert!(fleet.calls(1) > 30 && fleet.calls(2) > 30);
    }
}

#[tokio::test(start_paused = true)]
async fn when_no_service_can_be_made_calls_say_why() {
    for panics in [false, true] {
        let balancer: Balancer<Member> = Balancer::builder(Sets::of([1, 2]))
            .build(move |_| {
                assert!(!panics, "a factory that panics");
                Err("no certificate".into())
            })
            .unwrap();
        let start = Instant::now();
        let error = ask(&within(S(5), &balancer)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoEndpoints);
        let why = if panics { "panic" } else { "no certificate" };
        assert!(error.to_string().contains(why), "{error}");
        assert!(start.elapsed() < S(1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_dropped_before_the_first_answer_leaves_no_watch() {
    let sets = Sets::new();
    let balancer = over(sets.clone(), &Fleet::default());
    let service = within(S(60), &balancer);
    let call = tokio::spawn(async move { ask(&service).await });
    sleep(S(1)).await;
    assert_eq!(sets.watches(), 1);
    drop(balancer);
    call.abort();
    sleep(S(1)).await;
    assert_eq!(sets.watches(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_body_dropped_half_way_gives_its_place_back() {
    for pick in PICKS {
        let fleet = Fleet::default();
        let balancer = Balancer::builder(Fixed::new(endpoints([1])))
            .pick(pick)
            .max_in_flight(1);
        let balancer = balancer
            .ejection(Ejection::off())
            .build(fleet.make())
            .unwrap();
        for _ in 0..5 {
            let request = Request::get("http://s/").body(Body::empty()).unwrap();
            let call: ResponseFuture<Member, Body> = balancer.clone().call(request);
            let response = call.await.unwrap();
            let full = ask(&balancer).await.unwrap_err();
            assert_eq!(full.kind(), ErrorKind::Overloaded);
            drop(response);
            assert_eq!(balancer.endpoints()[0].in_flight, 0);
        }
    }
}
