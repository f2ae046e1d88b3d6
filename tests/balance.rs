//! The balancer over endpoints that a test scripts, under paused time.

mod support;

use std::{
    error::Error as _,
    io,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use evenkeel::{
    Balancer, Body, Breaker, CallPolicy, CircuitBreakerLayer, DeadlineLayer, Disposition, Ejection,
    Endpoint, Error, ErrorKind, Fixed, Pick, Random, Retry, RetryLayer, SlowStart,
    balance::{EndpointState, EndpointStatus},
};
use futures::{FutureExt, StreamExt, stream};
use http::{Request, Response};
use http_body_util::BodyExt;
use support::{
    fleet::{Fleet, Manner, Member, Ready, Sets, address, endpoints},
    mock::{Act, Mock, Readiness, Step},
};
use tokio::time::{Instant, advance, sleep, timeout};
use tower::{Layer, Service, ServiceBuilder, ServiceExt};

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

fn get() -> Request<Body> {
    Request::get("http://service/")
        .body(Body::empty())
        .expect("a request")
}

fn post() -> Request<Body> {
    Request::post("http://service/")
        .body(Body::empty())
        .expect("a request")
}

fn fixed<const N: usize>(ports: [u16; N]) -> Fixed {
    Fixed::new(endpoints(ports))
}

/// Lets tasks of the runtime run until they wait.
async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

/// One call to its end: the port that answered.
async fn port<S, RB>(service: &S) -> Result<u16, Error>
where
    S: Service<Request<Body>, Response = Response<RB>, Error = Error> + Clone,
    RB: http_body::Body<Data = Bytes>,
    RB::Error: std::fmt::Debug,
{
    let response = service.clone().oneshot(get()).await?;
    let body = response.into_body().collect().await.expect("a whole body");
    Ok(String::from_utf8_lossy(&body.to_bytes())
        .parse()
        .unwrap_or(0))
}

/// So many calls, some of them at once; their results do not matter.
async fn many<S, RB>(service: &S, calls: usize, at_once: usize)
where
    S: Service<Request<Body>, Response = Response<RB>, Error = Error> + Clone,
    RB: http_body::Body<Data = Bytes>,
    RB::Error: std::fmt::Debug,
{
    let calls = stream::iter(0..calls).map(|_| port(service).map(drop));
    calls.buffer_unordered(at_once).collect::<Vec<_>>().await;
}

fn status(balancer: &Balancer<Member>, port: u16) -> EndpointStatus {
    let mut all = balancer.endpoints().into_iter();
    all.find(|status| status.address == address(port))
        .expect("a known endpoint")
}

fn ejected(balancer: &Balancer<Member>) -> usize {
    let out = |status: &EndpointStatus| {
        matches!(
            status.state,
            EndpointState::Ejected { .. } | EndpointState::Probing
        )
    };
    balancer
        .endpoints()
        .iter()
        .filter(|status| out(status))
        .count()
}

// ===== picks =====

// LB-01, Netflix/astyanax#17, kubernetes/ingress-nginx#5540
#[tokio::test(start_paused = true)]
async fn an_endpoint_that_fails_fast_gets_less_than_its_share_and_ever_less() {
    for pick in [
        Pick::least_cost(),
        Pick::p2c_peak_ewma(),
        Pick::p2c_in_flight(),
        Pick::least_in_flight(),
    ] {
        for ejection in [Ejection::off(), Ejection::default()] {
            let fleet = Fleet::default();
            (1..4).for_each(|port| fleet.set(port, Manner::Answer(200), MS(50)));
            fleet.set(4, Manner::Refuse, MS(1));
            let builder = Balancer::builder(fixed([1, 2, 3, 4]))
                .pick(pick)
                .ejection(ejection);
            let balancer = builder
                .random(Random::seeded(1))
                .build(fleet.make())
                .unwrap();
            many(&balancer, 1_000, 12).await;
            let first = fleet.calls(4);
            fleet.forget_calls();
            many(&balancer, 9_000, 12).await;
            let later = fleet.calls(4);
            assert!(first < 250, "{pick:?}: {first} of 1000");
            assert!(
                later * 1_000 <= first.max(9) * 9_000 / 2 || later < 9_000 / 40,
                "{pick:?}: {first}, then {later} of 9000"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_503_or_a_429_at_once_is_no_lure_either() {
    for status in [503, 429] {
        let fleet = Fleet::default();
        (1..4).for_each(|port| fleet.set(port, Manner::Answer(200), MS(50)));
        fleet.set(4, Manner::Answer(status), MS(1));
        let balancer = Balancer::builder(fixed([1, 2, 3, 4]))
            .random(Random::seeded(1))
            .build(fleet.make())
            .unwrap();
        many(&balancer, 5_000, 12).await;
        assert!(fleet.calls(4) < 500, "{status}: {}", fleet.calls(4));
    }
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_whose_own_breaker_is_open_is_no_lure_either() {
    let fleet = Fleet::default();
    (1..5).for_each(|port| fleet.set(port, Manner::Answer(200), MS(50)));
    let make = fleet.make();
    let balancer = Balancer::builder(fixed([1, 2, 3, 4])).random(Random::seeded(1));
    let balancer = balancer.build(move |endpoint| {
        let breaker = Breaker::count(5, S(10))?;
        if endpoint.address().port() == 4 {
            breaker.force_open();
        }
        Ok(CircuitBreakerLayer::new(breaker).layer(make(endpoint)?))
    });
    let balancer = balancer.unwrap();
    let calls = stream::iter(0..2_000).map(|_| port(&balancer));
    let answers: Vec<_> = calls.buffer_unordered(12).collect().await;
    let refused = answers.iter().filter(|answer| answer.is_err()).count();
    assert!((1..100).contains(&refused), "{refused}");
    let mut all = balancer.endpoints().into_iter();
    assert!(all.all(|status| status.state == EndpointState::Ready));
}

#[tokio::test(start_paused = true)]
async fn the_age_of_a_call_that_hangs_keeps_others_away_before_it_has_failed() {
    let fleet = Fleet::default();
    (1..3).for_each(|port| fleet.set(port, Manner::Answer(200), MS(10)));
    let balancer = Balancer::builder(fixed([1, 2]))
        .build(fleet.make())
        .unwrap();
    many(&balancer, 100, 2).await;
    fleet.set(1, Manner::Hang, Duration::ZERO);
    let _hanging = loop {
        let mut call = Box::pin(balancer.clone().oneshot(get()));
        let _ = (&mut call).now_or_never();
        if fleet.in_flight(1) == 1 {
            break call;
        }
    };
    sleep(S(2)).await;
    let elsewhere = timeout(S(60), many(&balancer, 200, 8)).await;
    assert!(elsewhere.is_ok() && fleet.in_flight(1) == 1);
}

#[tokio::test(start_paused = true)]
async fn equal_endpoints_share_alike_and_a_slow_one_gets_less() {
    let fleet = Fleet::default();
    (1..6).for_each(|port| fleet.set(port, Manner::Answer(200), MS(10)));
    let balancer = Balancer::builder(fixed([1, 2, 3, 4, 5]))
        .random(Random::seeded(2))
        .build(fleet.make())
        .unwrap();
    many(&balancer, 10_000, 10).await;
    for port in 1..6 {
        assert!(
            (1_700..2_300).contains(&fleet.calls(port)),
            "{port}: {}",
            fleet.calls(port)
        );
    }
    fleet.set(5, Manner::Answer(200), MS(200));
    fleet.forget_calls();
    many(&balancer, 10_000, 10).await;
    assert!(fleet.calls(5) < 500, "{}", fleet.calls(5));
}

#[tokio::test(start_paused = true)]
async fn of_three_endpoints_a_black_hole_swallows_next_to_nothing() {
    let fleet = Fleet::default();
    (1..3).for_each(|port| fleet.set(port, Manner::Answer(200), MS(10)));
    fleet.set(3, Manner::Hang, Duration::ZERO);
    let balancer = Balancer::builder(fixed([1, 2, 3]))
        .random(Random::seeded(3))
        .build(fleet.make())
        .unwrap();
    let service = DeadlineLayer::new(S(1)).unwrap().layer(balancer);
    many(&service, 3_000, 4).await;
    assert!((1..60).contains(&fleet.calls(3)), "{}", fleet.calls(3));
    assert_eq!(fleet.in_flight(3), 0);
}

// LB-04, tower-rs/tower#134, linkerd/linkerd2-proxy#167
#[tokio::test(start_paused = true)]
async fn an_endpoint_that_joins_gets_its_share_within_seconds() {
    for (pick, slow_start) in [
        (Pick::least_cost(), SlowStart::default()),
        (Pick::p2c_peak_ewma(), SlowStart::default()),
        (Pick::least_cost(), SlowStart::off()),
    ] {
        let fleet = Fleet::default();
        (1..4).for_each(|port| fleet.set(port, Manner::Answer(200), MS(5)));
        let sets = Sets::of([1, 2]);
        let builder = Balancer::builder(sets.clone())
            .pick(pick)
            .slow_start(slow_start);
        let balancer = builder
            .random(Random::seeded(4))
            .build(fleet.make())
            .unwrap();
        let at_rate = async |seconds: u64| {
            for _ in 0..seconds * 100 {
                tokio::spawn({
                    let balancer = balancer.clone();
                    async move { port(&balancer).await.map(drop) }
                });
                sleep(MS(10)).await;
            }
        };
        at_rate(5).await;
        sets.answer(endpoints([1, 2, 3]));
        at_rate(10).await;
        assert!(fleet.calls(3) > 50, "{pick:?}: {}", fleet.calls(3));
        fleet.forget_calls();
        at_rate(10).await;
        assert!(
            (200..470).contains(&fleet.calls(3)),
            "{pick:?}: {}",
            fleet.calls(3)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_joining_endpoint_starts_with_a_tenth_and_says_so() {
    let fleet = Fleet::default();
    let sets = Sets::of([1]);
    let balancer = Balancer::builder(sets.clone())
        .pick(Pick::round_robin())
        .random(Random::seeded(5))
        .build(fleet.make())
        .unwrap();
    many(&balancer, 1, 1).await;
    sets.answer(endpoints([1, 2]));
    settle().await;
    many(&balancer, 1_000, 1).await;
    assert!((20..150).contains(&fleet.calls(2)), "{}", fleet.calls(2));
    assert_eq!(status(&balancer, 2).state, EndpointState::Joining);
    advance(S(10)).await;
    fleet.forget_calls();
    many(&balancer, 1_000, 1).await;
    assert_eq!(fleet.calls(2), 500);
    assert_eq!(status(&balancer, 2).state, EndpointState::Ready);
}

// LB-06, prisma-risk/tsoracle#395, #342
#[tokio::test(start_paused = true)]
async fn fresh_clients_start_anywhere_and_clones_take_turns() {
    for pick in PICKS {
        let fleet = Fleet::default();
        let make = || {
            Balancer::builder(fixed([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]))
                .pick(pick)
                .build(fleet.make())
                .unwrap()
        };
        for _ in 0..1000 {
            many(&make(), 1, 1).await;
        }
        for port in 1..=10 {
            assert!(
                (50..160).contains(&fleet.calls(port)),
                "{pick:?}: {}",
                fleet.calls(port)
            );
        }
    }
    let fleet = Fleet::default();
    let balancer = Balancer::builder(fixed([1, 2, 3, 4]))
        .pick(Pick::round_robin())
        .build(fleet.make())
        .unwrap();
    for _ in 0..400 {
        port(&balancer.clone()).await.unwrap();
    }
    assert_eq!([1, 2, 3, 4].map(|port| fleet.calls(port)), [100; 4]);
}

// LB-10, dotnet/yarp#2065, PostHog/posthog#64326
#[tokio::test(start_paused = true)]
async fn one_two_or_three_endpoints_and_a_list_of_duplicates_serve_every_pick() {
    for pick in PICKS {
        for ports in [&[1][..], &[1, 2], &[1, 2, 3], &[1, 1, 2, 2, 2, 1]] {
            let fleet = Fleet::default();
            let list = ports.iter().map(|port| Endpoint::new(address(*port)));
            let balancer = Balancer::builder(Fixed::new(list))
                .pick(pick)
                .build(fleet.make())
                .unwrap();
            many(&balancer, 1_000, 3).await;
            let n = ports.iter().max().copied().unwrap_or(1);
            assert_eq!(balancer.endpoints().len(), usize::from(n));
            let least = (1..=n).map(|port| fleet.calls(port)).min();
            assert!(
                least > Some(1_000 / usize::from(n) - 120),
                "{pick:?} {ports:?}: {least:?}"
            );
        }
    }
}

// LB-10: the lighter of two
#[tokio::test(start_paused = true)]
async fn of_two_the_one_with_fewer_calls_in_flight_is_always_taken() {
    for pick in [
        Pick::least_cost(),
        Pick::p2c_peak_ewma(),
        Pick::p2c_in_flight(),
        Pick::least_in_flight(),
    ] {
        let fleet = Fleet::default();
        fleet.set(1, Manner::Hang, Duration::ZERO);
        fleet.set(2, Manner::Hang, Duration::ZERO);
        let balancer = Balancer::builder(fixed([1, 2]))
            .pick(pick)
            .build(fleet.make())
            .unwrap();
        let mut running = Vec::new();
        for calls in 1..=20 {
            let mut call = Box::pin(balancer.clone().oneshot(get()));
            assert!((&mut call).now_or_never().is_none());
            running.push(call);
            assert!(
                fleet.in_flight(1).abs_diff(fleet.in_flight(2)) <= 1,
                "{pick:?} after {calls}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn traffic_follows_the_weights_and_a_weight_that_changes() {
    for pick in PICKS {
        let fleet = Fleet::default();
        let sets = Sets::new();
        let weighted = |one, two| {
            let endpoints = [(1, one), (2, two)];
            endpoints
                .map(|(port, weight)| Endpoint::new(address(port)).with_weight(weight))
                .to_vec()
        };
        sets.answer(weighted(1, 3));
        let balancer = Balancer::builder(sets.clone())
            .pick(pick)
            .random(Random::seeded(6))
            .build(fleet.make())
            .unwrap();
        many(&balancer, 4_000, 1).await;
        assert!(
            (850..1150).contains(&fleet.calls(1)),
            "{pick:?}: {}",
            fleet.calls(1)
        );
        sets.answer(weighted(1, 1));
        settle().await;
        fleet.forget_calls();
        many(&balancer, 4_000, 1).await;
        assert!(
            (1_850..2_150).contains(&fleet.calls(1)),
            "{pick:?}: {}",
            fleet.calls(1)
        );
        assert_eq!(fleet.made(1), 1, "a new weight makes no new service");
    }
}

// LB-03, cloudflare/pingora#891
#[tokio::test(start_paused = true)]
async fn weights_of_zero_are_equal_alone_and_nothing_beside_others() {
    let of = |weights: [u32; 2]| {
        let endpoints = [(1, weights[0]), (2, weights[1])];
        endpoints
            .map(|(port, weight)| Endpoint::new(address(port)).with_weight(weight))
            .to_vec()
    };
    for pick in PICKS {
        let (fleet, sets) = (Fleet::default(), Sets::new());
        let builder = Balancer::builder(sets.clone())
            .pick(pick)
            .slow_start(SlowStart::off());
        let balancer = builder.build(fleet.make()).unwrap();
        let calls = async |weights| {
            sets.answer(of(weights));
            settle().await;
            fleet.forget_calls();
            many(&balancer, 1_000, 1).await;
            [fleet.calls(1), fleet.calls(2)]
        };
        assert!(
            calls([0, 0]).await.iter().all(|calls| *calls > 400),
            "{pick:?}"
        );
        assert_eq!(calls([0, 5]).await, [0, 1_000], "{pick:?}");
        assert_eq!(status(&balancer, 1).state, EndpointState::Unweighted);
        assert_eq!(calls([5, 0]).await, [1_000, 0], "{pick:?}");
        assert!(
            calls([u32::MAX, u32::MAX])
                .await
                .iter()
                .all(|calls| *calls > 400),
            "{pick:?}"
        );
        let [light, heavy] = calls([1, u32::MAX]).await;
        assert!(light <= 1 && heavy >= 999, "{pick:?}");
    }
}

// LB-09, envoyproxy/envoy#2259, twitter/finagle#585
#[tokio::test(start_paused = true)]
async fn a_retry_goes_to_an_endpoint_that_was_not_tried() {
    for pick in PICKS {
        let fleet = Fleet::default();
        fleet.set(1, Manner::Reset, Duration::ZERO);
        let builder = Balancer::builder(fixed([1, 2]))
            .pick(pick)
            .ejection(Ejection::off());
        let balancer = builder.build(fleet.make()).unwrap();
        let retry = Retry::default()
            .max_attempts(2)
            .without_budget()
            .build()
            .unwrap();
        let service = ServiceBuilder::new()
            .layer(RetryLayer::new(retry))
            .service(balancer);
        for _ in 0..1_000 {
            assert!(service.clone().oneshot(get()).await.is_ok(), "{pick:?}");
        }
        assert!(fleet.calls(1) > 0, "{pick:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn with_one_endpoint_alone_it_is_tried_again() {
    let fleet = Fleet::default();
    fleet.set(1, Manner::Reset, Duration::ZERO);
    let balancer = Balancer::builder(fixed([1])).build(fleet.make()).unwrap();
    let retry = Retry::default()
        .max_attempts(3)
        .without_budget()
        .build()
        .unwrap();
    let service = ServiceBuilder::new()
        .layer(RetryLayer::new(retry))
        .service(balancer);
    let error = service.oneshot(get()).await.unwrap_err();
    assert_eq!(fleet.calls(1), 3);
    let report = error.report();
    assert_eq!(report.attempts().len(), 3);
    assert!(
        report
            .attempts()
            .iter()
            .all(|attempt| attempt.endpoint() == Some("10.0.0.1:1"))
    );
}

#[tokio::test(start_paused = true)]
async fn a_retry_leaves_the_zone_that_failed() {
    let fleet = Fleet::default();
    let list = [(1, "a"), (2, "a"), (3, "b")];
    let list = list.map(|(port, zone)| Endpoint::new(address(port)).with_zone(zone));
    (1..3).for_each(|port| fleet.set(port, Manner::Reset, Duration::ZERO));
    let balancer = Balancer::builder(Fixed::new(list))
        .ejection(Ejection::off())
        .build(fleet.make())
        .unwrap();
    let retry = Retry::default()
        .max_attempts(2)
        .without_budget()
        .build()
        .unwrap();
    let service = ServiceBuilder::new()
        .layer(RetryLayer::new(retry))
        .service(balancer);
    for _ in 0..300 {
        assert_eq!(port(&service).await.unwrap(), 3);
    }
}

// ===== the set =====

// LB-02, tower-rs/tower#856, #874
#[tokio::test(start_paused = true)]
async fn a_set_that_changes_between_readiness_and_call_is_picked_from_anew() {
    let (fleet, sets) = (Fleet::default(), Sets::of([1, 2, 3]));
    let mut balancer = Balancer::builder(sets.clone()).build(fleet.make()).unwrap();
    for gone in [2, 1] {
        port(&balancer).await.unwrap();
        fleet.forget_calls();
        let ready: &mut Balancer<Member> = ServiceExt::<Request<Body>>::ready(&mut balancer)
            .await
            .unwrap();
        let left = endpoints([1, 2, 3])
            .into_iter()
            .filter(|endpoint| endpoint.address() != address(gone));
        sets.answer(left.collect());
        settle().await;
        ready.call(get()).await.unwrap();
        many(&balancer, 100, 1).await;
        assert_eq!(fleet.calls(gone), 0);
        sets.answer(endpoints([1, 2, 3]));
        settle().await;
    }
}

// LB-05, linkerd/linkerd2#2550
#[tokio::test(start_paused = true)]
async fn a_parked_call_moves_when_discovery_replaces_its_endpoint() {
    let (fleet, sets) = (Fleet::default(), Sets::of([1]));
    fleet.set_ready(1, Ready::Never);
    let balancer = Balancer::builder(sets.clone()).build(fleet.make()).unwrap();
    let parked = tokio::spawn({
        let balancer = balancer.clone();
        async move { port(&balancer).await }
    });
    sleep(S(1)).await;
    sets.answer(endpoints([2]));
    let answered = timeout(S(1), parked).await.expect("moved").unwrap();
    assert_eq!(answered.unwrap(), 2);
    assert_eq!(fleet.instances(1), 0);
}

#[tokio::test(start_paused = true)]
async fn a_parked_call_ends_at_its_deadline_and_is_not_sent() {
    let fleet = Fleet::default();
    fleet.set_ready(1, Ready::Never);
    let balancer = Balancer::builder(fixed([1])).build(fleet.make()).unwrap();
    let start = Instant::now();
    let error = DeadlineLayer::new(MS(700))
        .unwrap()
        .layer(balancer.clone())
        .oneshot(get())
        .await
        .unwrap_err();
    assert_eq!(start.elapsed(), MS(700));
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
    assert_eq!(error.disposition(), Disposition::NotSent);
    assert_eq!(status(&balancer, 1).in_flight, 0);
}

// LB-05, tower-rs/tower#824
#[tokio::test(start_paused = true)]
async fn updates_apply_without_traffic() {
    let (fleet, sets) = (Fleet::default(), Sets::of([1]));
    let balancer = Balancer::builder(sets.clone()).build(fleet.make()).unwrap();
    port(&balancer).await.unwrap();
    sets.answer(endpoints([2, 3]));
    settle().await;
    let known: Vec<_> = balancer
        .endpoints()
        .iter()
        .map(|status| status.address)
        .collect();
    assert_eq!(known, [address(2), address(3)]);
    assert_eq!((fleet.made(2), fleet.instances(1)), (1, 0));
}

// LB-07, linkerd/linkerd2-proxy#240
#[tokio::test(start_paused = true)]
async fn before_the_first_answer_calls_wait_and_wake_when_it_comes() {
    let (fleet, sets) = (Fleet::default(), Sets::new());
    let balancer = Balancer::builder(sets.clone()).build(fleet.make()).unwrap();
    let start = Instant::now();
    let error = DeadlineLayer::new(S(1))
        .unwrap()
        .layer(balancer.clone())
        .oneshot(get())
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.disposition()),
        (ErrorKind::DeadlineExceeded, Disposition::NotSent)
    );
    assert_eq!(start.elapsed(), S(1));

    let waiting = tokio::spawn({
        let balancer = balancer.clone();
        async move { port(&balancer).await }
    });
    sleep(S(60)).await;
    sets.answer(endpoints([1]));
    assert_eq!(waiting.await.unwrap().unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_wait_for_endpoints_ends_at_the_deadline_of_the_call() {
    let balancer = Balancer::builder(Sets::new())
        .build(Fleet::default().make())
        .unwrap();
    let mut request = get();
    request
        .extensions_mut()
        .insert(CallPolicy::new().deadline(S(2)));
    let service = DeadlineLayer::new(S(9)).unwrap().layer(balancer);
    let start = Instant::now();
    assert!(service.oneshot(request).await.is_err());
    assert_eq!(start.elapsed(), S(2));
}

// LB-07, tower-rs/tower#17
#[tokio::test(start_paused = true)]
async fn an_empty_answer_is_an_error_at_once_if_there_never_was_a_set_or_it_is_trusted() {
    for trust in [false, true] {
        let (fleet, sets) = (Fleet::default(), Sets::of([]));
        let builder = Balancer::builder(sets.clone());
        let builder = if trust {
            builder.trust_empty()
        } else {
            builder
        };
        let balancer = builder.build(fleet.make()).unwrap();
        let start = Instant::now();
        let error = port(&balancer).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.disposition()),
            (ErrorKind::NoEndpoints, Disposition::NotSent)
        );
        assert_eq!(start.elapsed(), Duration::ZERO);
        assert!(error.to_string().contains("empty"), "{error}");

        sets.answer(endpoints([1]));
        settle().await;
        port(&balancer).await.unwrap();
        sets.answer(vec![]);
        settle().await;
        assert_eq!(port(&balancer).await.is_err(), trust);
        sets.answer(endpoints([2]));
        settle().await;
        assert_eq!(port(&balancer).await.unwrap(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn an_empty_answer_wakes_the_calls_that_wait() {
    let sets = Sets::new();
    let balancer = Balancer::builder(sets.clone())
        .build(Fleet::default().make())
        .unwrap();
    let waiting = tokio::spawn(async move { port(&balancer).await });
    sleep(S(1)).await;
    sets.answer(vec![]);
    assert_eq!(
        waiting.await.unwrap().unwrap_err().kind(),
        ErrorKind::NoEndpoints
    );
}

#[tokio::test(start_paused = true)]
async fn errors_of_discovery_never_shrink_the_set_and_tell_a_call_that_waited_in_vain() {
    let (fleet, sets) = (Fleet::default(), Sets::new());
    sets.fail("no such host");
    let balancer = Balancer::builder(sets.clone()).build(fleet.make()).unwrap();
    let service = DeadlineLayer::new(S(1)).unwrap().layer(balancer.clone());
    let error = service.oneshot(get()).await.unwrap_err();
    assert!(error.to_string().contains("no such host"), "{error}");

    sets.answer(endpoints([1, 2]));
    settle().await;
    port(&balancer).await.unwrap();
    for _ in 0..3 {
        sets.fail("timed out");
        settle().await;
        port(&balancer).await.unwrap();
        assert_eq!(balancer.endpoints().len(), 2);
    }
}

// LB-08, apple/servicetalk#1028
#[tokio::test(start_paused = true)]
async fn a_removed_endpoint_finishes_its_calls_gets_no_new_ones_and_is_freed() {
    let (fleet, sets) = (Fleet::default(), Sets::of([1]));
    fleet.set(1, Manner::Answer(200), S(2));
    let balancer = Balancer::builder(sets.clone()).build(fleet.make()).unwrap();
    let start = Instant::now();
    let long = tokio::spawn({
        let balancer = balancer.clone();
        async move { port(&balancer).await }
    });
    sleep(S(1)).await;
    sets.answer(endpoints([2]));
    settle().await;
    many(&balancer, 100, 1).await;
    assert_eq!(fleet.calls(1), 1);
    assert_eq!(long.await.unwrap().unwrap(), 1);
    assert_eq!(start.elapsed(), S(2));
    assert_eq!(fleet.instances(1), 0);
}

// LB-12, envoyproxy/envoy#433, grpc/grpc-java#11342
#[tokio::test(start_paused = true)]
async fn a_thousand_answers_with_duplicates_change_nothing() {
    let (fleet, sets) = (Fleet::default(), Sets::of([1, 1, 2]));
    let balancer = Balancer::builder(sets.clone()).build(fleet.make()).unwrap();
    for round in 0..1000 {
        sets.answer(endpoints([1, 1, 2]));
        settle().await;
        port(&balancer).await.unwrap();
        assert_eq!(balancer.endpoints().len(), 2, "round {round}");
    }
    sets.answer(endpoints([1, 2]));
    settle().await;
    assert_eq!([fleet.made(1), fleet.made(2)], [1, 1]);
    assert!(fleet.calls(1) > 400 && fleet.calls(2) > 400);
}

#[tokio::test(start_paused = true)]
async fn churn_leaves_no_service_behind_and_keeps_those_that_stay() {
    let (fleet, sets) = (Fleet::default(), Sets::new());
    let balancer = Balancer::builder(sets.clone()).build(fleet.make()).unwrap();
    for round in 0..1000u16 {
        let ports = [1, 2, 100 + round, 101 + round, 100 + round];
        sets.answer(endpoints(ports));
        settle().await;
        assert!(ports.contains(&port(&balancer).await.unwrap()));
    }
    assert_eq!(balancer.endpoints().len(), 4);
    assert_eq!([fleet.made(1), fleet.made(2), fleet.made(700)], [1, 1, 1]);
    let alive = (100..1098)
        .filter(|port| fleet.instances(*port) > 0)
        .count();
    assert_eq!(alive, 0);
}

// ===== services of endpoints =====

#[derive(Debug, thiserror::Error)]
#[error("no certificate")]
struct NoCertificate;

#[tokio::test(start_paused = true)]
async fn an_endpoint_whose_service_cannot_be_made_is_left_out_and_says_why() {
    let (fleet, sets) = (Fleet::default(), Sets::of([1, 2]));
    let (make, broken) = (fleet.make(), Arc::new(AtomicBool::new(true)));
    let fails = Arc::clone(&broken);
    let balancer = Balancer::builder(sets.clone());
    let balancer = balancer.build(move |endpoint| match endpoint.address().port() {
        1 if fails.load(Ordering::Relaxed) => Err(NoCertificate.into()),
        _ => make(endpoint),
    });
    let balancer = balancer.unwrap();
    many(&balancer, 50, 1).await;
    assert_eq!((fleet.calls(1), fleet.calls(2)), (0, 50));
    let EndpointState::Failed { reason } = status(&balancer, 1).state else {
        panic!("it has no service")
    };
    assert!(
        reason.contains("no certificate") && reason.contains("10.0.0.1:1"),
        "{reason}"
    );

    broken.store(false, Ordering::Relaxed);
    sets.answer(endpoints([1, 2]));
    settle().await;
    assert!(matches!(status(&balancer, 1).state, EndpointState::Joining));
}

#[tokio::test(start_paused = true)]
async fn if_no_service_can_be_made_calls_fail_at_once_with_the_reason() {
    let builders: [fn() -> evenkeel::BalancerConfig; 2] = [
        || Balancer::builder(fixed([1, 2])),
        || Balancer::builder(Sets::of([1, 2])),
    ];
    for builder in builders {
        let balancer: Balancer<Member> = builder().build(|_| Err(NoCertificate.into())).unwrap();
        let error = port(&balancer).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoEndpoints);
        let mut source = error.source();
        while source.is_some_and(|source| !source.is::<NoCertificate>()) {
            source = source.and_then(std::error::Error::source);
        }
        assert!(source.is_some(), "{error:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_while_a_service_is_made_leaves_the_others_in_service() {
    let (fleet, sets) = (Fleet::default(), Sets::of([1, 2]));
    let make = fleet.make();
    let balancer = Balancer::builder(sets.clone());
    let balancer = balancer.build(move |endpoint| {
        assert!(
            endpoint.address().port() != 1,
            "a fault of the user's function"
        );
        make(endpoint)
    });
    let balancer = balancer.unwrap();
    assert_eq!(port(&balancer).await.unwrap(), 2);
    assert!(matches!(
        status(&balancer, 1).state,
        EndpointState::Failed { .. }
    ));
    sets.answer(endpoints([2, 3]));
    settle().await;
    assert_eq!(balancer.endpoints().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn services_that_take_long_to_make_are_made_off_the_runtime() {
    let fleet = Fleet::default();
    let make = fleet.make();
    let caller = std::thread::current().id();
    let balancer = Balancer::builder(fixed([1, 2])).build_offloaded(move |endpoint| {
        assert_ne!(std::thread::current().id(), caller);
        std::thread::sleep(MS(50));
        make(endpoint)
    });
    let balancer = balancer.unwrap();
    assert_eq!(
        balancer.endpoints().len(),
        0,
        "nothing is made before the first call"
    );
    let other_work = async {
        let start = std::time::Instant::now();
        sleep(MS(5)).await;
        start.elapsed()
    };
    let (answered, held_up) = tokio::join!(port(&balancer), other_work);
    answered.unwrap();
    assert!(held_up < MS(45), "{held_up:?}");
}

// ===== ejection =====

fn failing(fleet: &Fleet, ports: impl IntoIterator<Item = u16>) {
    ports
        .into_iter()
        .for_each(|port| fleet.set(port, Manner::Answer(503), MS(1)));
}

// OUT-01, envoyproxy/envoy#26877, #27066
#[tokio::test(start_paused = true)]
async fn no_more_than_the_share_is_ejected() {
    for (share, most) in [(0.5, 1), (0.67, 2)] {
        let fleet = Fleet::default();
        failing(&fleet, 1..4);
        let builder =
            Balancer::builder(fixed([1, 2, 3])).ejection(Ejection::consecutive(2).max_share(share));
        let balancer = builder.build(fleet.make()).unwrap();
        for _ in 0..200 {
            many(&balancer, 1, 1).await;
            assert!(ejected(&balancer) <= most);
        }
        assert_eq!(ejected(&balancer), most);
    }
}

// OUT-02, envoyproxy/envoy#3263, #17504
#[tokio::test(start_paused = true)]
async fn a_share_below_one_endpoint_ejects_none_unless_one_is_allowed() {
    let tenth = Ejection::consecutive(1).max_share(0.1);
    let sets = [
        (fixed([1]), tenth, 0),
        (fixed([1, 2]), tenth, 0),
        (fixed([1]), tenth.at_least_one(true), 0),
        (fixed([1, 2]), tenth.at_least_one(true), 1),
        (fixed([1]), Ejection::default(), 0),
    ];
    for (source, ejection, out) in sets {
        let fleet = Fleet::default();
        failing(&fleet, 1..3);
        let balancer = Balancer::builder(source)
            .ejection(ejection)
            .build(fleet.make())
            .unwrap();
        many(&balancer, 100, 1).await;
        assert_eq!(ejected(&balancer), out);
        assert!(fleet.calls(1) > 0);
    }
}

// OUT-05, envoyproxy/envoy#2671, twitter/finagle#529
#[tokio::test(start_paused = true)]
async fn with_everything_ejected_all_are_used_and_come_back_without_a_restart() {
    let fleet = Fleet::default();
    let causes = [
        Manner::Answer(503),
        Manner::Refuse,
        Manner::Reset,
        Manner::Answer(500),
    ];
    (1..5)
        .zip(causes)
        .for_each(|(port, manner)| fleet.set(port, manner, MS(1)));
    let builder =
        Balancer::builder(fixed([1, 2, 3, 4])).ejection(Ejection::consecutive(1).max_share(1.0));
    let balancer = builder
        .random(Random::seeded(8))
        .build(fleet.make())
        .unwrap();
    many(&balancer, 200, 1).await;
    assert!(ejected(&balancer) >= 3);
    assert!(
        (1..5).all(|port| fleet.calls(port) >= 5),
        "{:?}",
        [1, 2, 3, 4].map(|port| fleet.calls(port))
    );
    (1..5).for_each(|port| fleet.set(port, Manner::Answer(200), MS(1)));
    for _ in 0..400 {
        many(&balancer, 1, 1).await;
        sleep(MS(100)).await;
    }
    assert_eq!(ejected(&balancer), 0);
}

// OUT-03, envoyproxy/envoy#6016
#[tokio::test(start_paused = true)]
async fn an_ejected_endpoint_is_probed_by_one_call_and_comes_back() {
    let fleet = Fleet::default();
    failing(&fleet, [1]);
    let builder = Balancer::builder(fixed([1, 2]))
        .ejection(Ejection::consecutive(2))
        .pick(Pick::round_robin());
    let balancer = builder.build(fleet.make()).unwrap();
    let retry = Retry::default().without_budget().build().unwrap();
    let service = ServiceBuilder::new()
        .layer(RetryLayer::new(retry))
        .service(balancer.clone());
    for day in 0..20 {
        failing(&fleet, [1]);
        while ejected(&balancer) == 0 {
            many(&service, 1, 1).await;
        }
        fleet.forget_calls();
        let start = Instant::now();
        fleet.set(1, Manner::Answer(200), MS(200));
        while fleet.calls(1) == 0 {
            many(&service, 1, 1).await;
            sleep(MS(10)).await;
        }
        let waited = start.elapsed();
        assert!((S(4)..MS(5_400)).contains(&waited), "day {day}: {waited:?}");
        assert_eq!(ejected(&balancer), 0, "day {day}");
        sleep(S(3600)).await;
    }
}

// Faults that wander from server to server fill the share with servers that recovered long ago.
#[tokio::test(start_paused = true)]
async fn recovered_endpoints_do_not_keep_a_failing_one_in_use() {
    let fleet = Fleet::default();
    (1..9).for_each(|port| fleet.set(port, Manner::Answer(200), MS(5)));
    let builder = Balancer::builder(fixed([1, 2, 3, 4, 5, 6, 7, 8]))
        .ejection(Ejection::consecutive(2))
        .pick(Pick::round_robin());
    let balancer = builder.build(fleet.make()).unwrap();
    let retry = Retry::default().without_budget().build().unwrap();
    let service = ServiceBuilder::new()
        .layer(RetryLayer::new(retry))
        .service(balancer.clone());
    failing(&fleet, 1..5);
    while ejected(&balancer) < 4 {
        many(&service, 1, 1).await;
    }
    (1..5).for_each(|port| fleet.set(port, Manner::Answer(200), MS(5)));
    sleep(S(2)).await;
    failing(&fleet, [5]);
    fleet.forget_calls();
    many(&service, 200, 1).await;
    assert!(fleet.calls(5) <= 4, "{} calls failed", fleet.calls(5));
    assert!(ejected(&balancer) <= 4);
}

#[tokio::test(start_paused = true)]
async fn one_call_at_a_time_probes_however_many_there_are() {
    let fleet = Fleet::default();
    failing(&fleet, [1]);
    let balancer = Balancer::builder(fixed([1, 2]))
        .ejection(Ejection::consecutive(1))
        .build(fleet.make())
        .unwrap();
    while ejected(&balancer) == 0 {
        many(&balancer, 1, 1).await;
    }
    fleet.set(1, Manner::Hang, Duration::ZERO);
    fleet.forget_calls();
    // Without a retry above any call may probe, after a second period.
    advance(S(10)).await;
    let mut calls: Vec<_> = (0..50)
        .map(|_| Box::pin(balancer.clone().oneshot(get())))
        .collect();
    for call in &mut calls {
        let _ = call.now_or_never();
    }
    assert_eq!(fleet.in_flight(1), 1);
    assert!(matches!(status(&balancer, 1).state, EndpointState::Probing));
    drop(calls);
    assert!(matches!(
        status(&balancer, 1).state,
        EndpointState::Ejected { .. }
    ));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_nobody_retries_is_no_probe_while_others_may_come() {
    let fleet = Fleet::default();
    failing(&fleet, [1]);
    let balancer = Balancer::builder(fixed([1, 2]))
        .ejection(Ejection::consecutive(1))
        .build(fleet.make())
        .unwrap();
    while ejected(&balancer) == 0 {
        many(&balancer, 1, 1).await;
    }
    fleet.forget_calls();
    let retry = Retry::default().without_budget().build().unwrap();
    let retrying = ServiceBuilder::new()
        .layer(RetryLayer::new(retry))
        .service(balancer.clone());
    advance(S(6)).await;
    for _ in 0..20 {
        balancer.clone().oneshot(get()).await.unwrap();
        retrying.clone().oneshot(post()).await.unwrap();
    }
    assert_eq!(fleet.calls(1), 0);
    assert_eq!(
        port(&retrying).await.unwrap(),
        2,
        "the probe failed and was retried elsewhere"
    );
    assert_eq!(fleet.calls(1), 1);
}

#[tokio::test(start_paused = true)]
async fn random_errors_everywhere_eject_nobody_for_long_with_the_adaptive_rule() {
    let fleet = Fleet::default();
    let balancer = Balancer::builder(fixed([1, 2, 3, 4]))
        .random(Random::seeded(9))
        .build(fleet.make())
        .unwrap();
    let (random, mut out) = (Random::seeded(10), 0);
    for _ in 0..3_000 {
        let bad = (1..5).filter(|_| random.unit() < 0.2);
        (1..5).for_each(|port| fleet.set(port, Manner::Answer(200), MS(5)));
        failing(&fleet, bad.collect::<Vec<_>>());
        many(&balancer, 1, 1).await;
        out += ejected(&balancer);
    }
    assert!(out < 3_000 / 10, "{out}");
}

#[tokio::test(start_paused = true)]
async fn cleared_ejections_are_gone_at_once() {
    let fleet = Fleet::default();
    failing(&fleet, 1..5);
    let balancer = Balancer::builder(fixed([1, 2, 3, 4]))
        .ejection(Ejection::consecutive(1))
        .build(fleet.make())
        .unwrap();
    many(&balancer, 50, 1).await;
    assert_eq!(ejected(&balancer), 2);
    balancer.clear_ejections();
    assert_eq!(ejected(&balancer), 0);
}

// CLS-03, microsoft/agent-governance-toolkit#2202
#[tokio::test(start_paused = true)]
async fn callers_that_give_up_eject_nobody() {
    let fleet = Fleet::default();
    fleet.set(1, Manner::Answer(200), S(1));
    fleet.set(2, Manner::Answer(200), S(1));
    let balancer = Balancer::builder(fixed([1, 2]))
        .ejection(Ejection::consecutive(1))
        .build(fleet.make())
        .unwrap();
    let service = DeadlineLayer::new(S(3)).unwrap().layer(balancer.clone());
    for _ in 0..50 {
        let _ = timeout(MS(50), port(&service)).await;
    }
    assert_eq!(ejected(&balancer), 0);
    assert!(
        balancer
            .endpoints()
            .iter()
            .all(|status| status.penalty == 1.0 && status.in_flight == 0)
    );
}

#[tokio::test(start_paused = true)]
async fn calls_that_reach_their_deadline_count_against_the_endpoint() {
    let fleet = Fleet::default();
    fleet.set(1, Manner::Hang, Duration::ZERO);
    let balancer = Balancer::builder(fixed([1, 2]))
        .ejection(Ejection::consecutive(2))
        .pick(Pick::round_robin())
        .build(fleet.make())
        .unwrap();
    let service = DeadlineLayer::new(S(1)).unwrap().layer(balancer.clone());
    many(&service, 4, 1).await;
    assert_eq!(ejected(&balancer), 1);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_breaks_counts_against_the_endpoint() {
    let broken = Act::ok().body([Step::data("x"), Step::fail(io::ErrorKind::ConnectionReset)]);
    let one = Mock::new(vec![broken; 4]);
    let (first, second) = (one.clone(), Mock::new([]));
    let builder = Balancer::builder(fixed([1, 2]))
        .ejection(Ejection::consecutive(2))
        .pick(Pick::round_robin());
    let balancer = builder.build(move |endpoint| match endpoint.address().port() {
        1 => Ok(first.clone()),
        _ => Ok(second.clone()),
    });
    let balancer = balancer.unwrap();
    for _ in 0..8 {
        let response = balancer.clone().oneshot(get()).await.unwrap();
        let _ = response.into_body().collect().await;
    }
    assert_eq!(one.calls(), 2);
    assert!(matches!(
        balancer.endpoints()[0].state,
        EndpointState::Ejected { .. }
    ));
}

// ===== calls in flight =====

#[tokio::test(start_paused = true)]
async fn a_full_endpoint_is_passed_over_and_when_all_are_full_a_call_is_refused_unsent() {
    for pick in PICKS {
        let fleet = Fleet::default();
        (1..3).for_each(|port| fleet.set(port, Manner::Hang, Duration::ZERO));
        let balancer = Balancer::builder(fixed([1, 2]))
            .pick(pick)
            .max_in_flight(3)
            .build(fleet.make())
            .unwrap();
        let mut calls: Vec<_> = (0..6)
            .map(|_| Box::pin(balancer.clone().oneshot(get())))
            .collect();
        for call in &mut calls {
            assert!(call.now_or_never().is_none());
        }
        assert_eq!((fleet.in_flight(1), fleet.in_flight(2)), (3, 3));
        let error = balancer.clone().oneshot(get()).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.disposition()),
            (ErrorKind::Overloaded, Disposition::NotSent)
        );
        assert_eq!(ejected(&balancer), 0);
        calls.pop();
        assert!(
            balancer.clone().oneshot(get()).now_or_never().is_none(),
            "a place came free"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn counters_are_back_at_zero_wherever_a_call_is_dropped() {
    let slow_body = || {
        Act::ok()
            .after(MS(10))
            .body([Step::data("a"), Step::pause(MS(10)), Step::data("b")])
    };
    for cut in 0..60 {
        let mock = Mock::new([slow_body(), slow_body()]).readiness(Readiness::After(MS(10)));
        let sets = Sets::new();
        let service = mock.clone();
        let balancer = Balancer::builder(sets.clone())
            .build(move |_| Ok(service.clone()))
            .unwrap();
        let call = async {
            let response = balancer.clone().oneshot(get()).await.unwrap();
            let mut body = pin!(response.into_body());
            while body.frame().await.is_some() {}
        };
        let answer = async {
            sleep(MS(10)).await;
            sets.answer(endpoints([1]));
            std::future::pending::<()>().await;
        };
        let _ = timeout(MS(cut), async {
            tokio::select! { () = call => {}, () = answer => {} }
        })
        .await;
        settle().await;
        assert!(
            balancer
                .endpoints()
                .iter()
                .all(|status| status.in_flight == 0),
            "cut at {cut} ms"
        );
        assert_eq!(
            (mock.in_flight(), mock.bodies(), mock.reserved()),
            (0, 0, 0),
            "cut at {cut} ms"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_is_in_flight_until_its_body_ends_or_is_dropped() {
    let steps = || [Step::data("a"), Step::pause(S(5)), Step::data("b")];
    let mock = Mock::new([Act::ok().body(steps()), Act::ok().body(steps())]);
    let balancer = Balancer::builder(fixed([1]))
        .build(move |_| Ok(mock.clone()))
        .unwrap();
    let in_flight = || balancer.endpoints()[0].in_flight;
    let read = balancer.clone().oneshot(get()).await.unwrap();
    let dropped = balancer.clone().oneshot(get()).await.unwrap();
    assert_eq!(in_flight(), 2);
    drop(dropped);
    assert_eq!(in_flight(), 1);
    read.into_body().collect().await.unwrap();
    assert_eq!(in_flight(), 0);
}

// ===== the service contract =====

// TWR-01, tower-rs/tower#547; TWR-05, linkerd/linkerd2-proxy#506
#[tokio::test(start_paused = true)]
async fn the_instance_that_was_polled_ready_is_the_one_called() {
    for readiness in [
        Readiness::Always,
        Readiness::Polls(2),
        Readiness::After(MS(30)),
    ] {
        let mock = Mock::new([]).readiness(readiness);
        let service = mock.clone();
        let mut balancer = Balancer::builder(fixed([1, 2]))
            .build(move |_| Ok(service.clone()))
            .unwrap();
        for _ in 0..20 {
            let ready: &mut Balancer<Mock> = ServiceExt::<Request<Body>>::ready(&mut balancer)
                .await
                .unwrap();
            ready.call(get()).await.unwrap();
        }
        assert_eq!((mock.calls(), mock.reserved()), (20, 0));
    }
}

// TWR-06, tower-rs/tower#303
#[tokio::test(start_paused = true)]
async fn an_endpoint_that_broke_since_it_was_ready_is_passed_over_and_no_call_is_lost() {
    for pick in PICKS {
        let fleet = Fleet::default();
        let mut balancer = Balancer::builder(fixed([1, 2]))
            .pick(pick)
            .build(fleet.make())
            .unwrap();
        for _ in 0..50 {
            let ready: &mut Balancer<Member> = ServiceExt::<Request<Body>>::ready(&mut balancer)
                .await
                .unwrap();
            fleet.set_ready(1, Ready::Broken);
            let response = ready.call(get()).await.unwrap();
            let body = response.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(&body[..], b"2");
            fleet.set_ready(1, Ready::Yes);
            advance(S(60)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn with_every_endpoint_broken_the_error_comes_out_as_not_sent() {
    let fleet = Fleet::default();
    (1..4).for_each(|port| fleet.set_ready(port, Ready::Broken));
    let balancer = Balancer::builder(fixed([1, 2, 3]))
        .build(fleet.make())
        .unwrap();
    let error = balancer.clone().oneshot(get()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Upstream);
    assert!(
        error
            .source()
            .is_some_and(|source| source.is::<io::Error>())
    );
    assert_eq!((1..4).map(|port| fleet.calls(port)).sum::<usize>(), 0);
    assert!(
        balancer
            .endpoints()
            .iter()
            .all(|status| status.in_flight == 0)
    );
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_is_not_ready_is_passed_over_for_one_that_is() {
    let fleet = Fleet::default();
    fleet.set_ready(1, Ready::Never);
    let balancer = Balancer::builder(fixed([1, 2]))
        .pick(Pick::round_robin())
        .build(fleet.make())
        .unwrap();
    many(&balancer, 100, 1).await;
    assert_eq!(fleet.calls(2), 100);
    assert_eq!(status(&balancer, 1).in_flight, 0);
}

#[tokio::test(start_paused = true)]
async fn a_call_waits_for_the_first_when_no_other_is_ready() {
    let fleet = Fleet::default();
    fleet.set_ready(1, Ready::Never);
    fleet.set_ready(2, Ready::Never);
    let balancer = Balancer::builder(fixed([1, 2]))
        .build(fleet.make())
        .unwrap();
    let waiting = tokio::spawn(async move { port(&balancer).await });
    sleep(S(5)).await;
    fleet.set_ready(1, Ready::Yes);
    fleet.set_ready(2, Ready::Yes);
    timeout(S(1), waiting)
        .await
        .expect("woken")
        .unwrap()
        .unwrap();
}

// TWR-03, joshrotenberg/tower-resilience#365
#[tokio::test(start_paused = true)]
async fn nobody_wakes_itself_while_a_call_waits() {
    let fleet = Fleet::default();
    fleet.set_ready(1, Ready::Never);
    let parked = Balancer::builder(fixed([1])).build(fleet.make()).unwrap();
    let awaiting = Balancer::builder(Sets::new()).build(fleet.make()).unwrap();
    for balancer in [parked, awaiting] {
        let service = DeadlineLayer::new(S(10)).unwrap().layer(balancer);
        let (answer, polls) = support::mock::Counted::new(service.oneshot(get())).await;
        assert!(answer.is_err());
        assert!(polls < 6, "{polls}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_says_where_the_attempt_went() {
    let fleet = Fleet::default();
    fleet.set(1, Manner::Refuse, MS(3));
    let named = Endpoint::new(address(1)).with_name("payments-1");
    let balancer = Balancer::builder(Fixed::new([named]))
        .build(fleet.make())
        .unwrap();
    let error = balancer.oneshot(get()).await.unwrap_err();
    assert_eq!(error.disposition(), Disposition::NotSent);
    let [attempt] = error.report().attempts() else {
        panic!("one attempt: {error}")
    };
    assert_eq!(
        (attempt.endpoint(), attempt.ran()),
        (Some("payments-1"), MS(3))
    );
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_cuts_an_attempt_off_says_where_it_was() {
    let fleet = Fleet::default();
    fleet.set(1, Manner::Hang, Duration::ZERO);
    let balancer = Balancer::builder(fixed([1])).build(fleet.make()).unwrap();
    let error = DeadlineLayer::new(S(1))
        .unwrap()
        .layer(balancer)
        .oneshot(get())
        .await
        .unwrap_err();
    assert_eq!(error.report().attempts()[0].endpoint(), Some("10.0.0.1:1"));
    assert!(error.may_have_happened());
}

// ===== life =====

// RUN-02, tower-rs/tower#139
#[test]
fn a_balancer_is_built_and_dropped_without_a_runtime() {
    let fleet = Fleet::default();
    drop(
        Balancer::builder(fixed([1, 2]))
            .build(fleet.make())
            .unwrap(),
    );
    drop(
        Balancer::builder(Sets::of([1]))
            .build(fleet.make())
            .unwrap(),
    );
    drop(
        Balancer::builder(fixed([1]))
            .build_offloaded(fleet.make())
            .unwrap(),
    );
}

#[test]
fn outside_a_runtime_a_fixed_set_works_and_discovery_fails_at_once() {
    let fleet = Fleet::default();
    let balancer = Balancer::builder(fixed([1])).build(fleet.make()).unwrap();
    assert_eq!(futures::executor::block_on(port(&balancer)).unwrap(), 1);
    let balancer = Balancer::builder(Sets::of([1]))
        .build(fleet.make())
        .unwrap();
    let error = futures::executor::block_on(port(&balancer)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoEndpoints);
}

// RUN-03, seanmonstar/reqwest#1148
#[test]
fn a_balancer_outlives_the_runtime_that_discovered_for_it() {
    let (fleet, sets) = (Fleet::default(), Sets::of([1]));
    let balancer = Balancer::builder(sets.clone()).build(fleet.make()).unwrap();
    for port_now in 1..4 {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            sets.answer(endpoints([port_now]));
            port(&balancer).await.unwrap();
            settle().await;
            assert_eq!(port(&balancer).await.unwrap(), port_now);
            assert_eq!(sets.watches(), 1);
        });
    }
}

#[test]
fn a_call_that_waits_starts_discovery_again_when_its_runtime_is_gone() {
    let (fleet, sets) = (Fleet::default(), Sets::new());
    let balancer = Balancer::builder(sets.clone()).build(fleet.make()).unwrap();
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(1).enable_all().build().unwrap()
    };
    let (first, second) = (runtime(), runtime());
    first.block_on(async { assert!(timeout(MS(20), port(&balancer)).await.is_err()) });
    let waiting = second.spawn({
        let balancer = balancer.clone();
        async move { port(&balancer).await }
    });
    second.block_on(async { sleep(MS(20)).await });
    drop(first);
    sets.answer(endpoints([1]));
    let answered = second
        .block_on(async { timeout(S(5), waiting).await })
        .expect("woken");
    assert_eq!(answered.unwrap().unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_panics_is_asked_again_by_the_next_call() {
    struct Panics(AtomicUsize);
    impl evenkeel::Discover for Panics {
        fn watch(&self) -> stream::BoxStream<'static, Result<Vec<Endpoint>, evenkeel::BoxError>> {
            let first = self.0.fetch_add(1, Ordering::Relaxed) == 0;
            let set = move || {
                assert!(!first, "a fault of the source");
                Ok(endpoints([1]))
            };
            stream::once(async move { set() }).boxed()
        }
    }
    let balancer = Balancer::builder(Panics(AtomicUsize::new(0)))
        .build(Fleet::default().make())
        .unwrap();
    assert!(timeout(S(1), port(&balancer)).await.is_err());
    assert_eq!(port(&balancer).await.unwrap(), 1);
}

// RUN-07, linkerd/linkerd2-proxy#285
#[tokio::test(start_paused = true)]
async fn discovery_ends_with_the_last_clone() {
    let before = tokio::runtime::Handle::current()
        .metrics()
        .num_alive_tasks();
    let sets = Sets::of([1]);
    for _ in 0..100 {
        let fleet = Fleet::default();
        let balancer = Balancer::builder(sets.clone()).build(fleet.make()).unwrap();
        let clone = balancer.clone();
        port(&balancer).await.unwrap();
        drop(balancer);
        settle().await;
        assert_eq!(sets.watches(), 1);
        drop(clone);
        settle().await;
        assert_eq!((sets.watches(), fleet.instances(1)), (0, 0));
    }
    assert_eq!(
        tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks(),
        before
    );
}

#[tokio::test(start_paused = true)]
async fn a_call_that_waits_keeps_discovery_going_after_the_last_clone() {
    let (fleet, sets) = (Fleet::default(), Sets::new());
    let call = Balancer::builder(sets.clone())
        .build(fleet.make())
        .unwrap()
        .oneshot(get());
    let call = tokio::spawn(call);
    sleep(S(1)).await;
    sets.answer(endpoints([1]));
    assert!(call.await.unwrap().is_ok());
    settle().await;
    assert_eq!(sets.watches(), 0);
}

#[tokio::test(start_paused = true)]
async fn discovery_starts_with_the_first_call() {
    let sets = Sets::of([1]);
    let balancer = Balancer::builder(sets.clone())
        .build(Fleet::default().make())
        .unwrap();
    settle().await;
    assert_eq!(sets.watches(), 0);
    port(&balancer).await.unwrap();
    assert_eq!(sets.watches(), 1);
}

// RUN-01, SergejJurecko/mio_httpc#9; TMO-08, tokio-rs/tokio#3551
#[tokio::test(start_paused = true)]
async fn endless_settings_are_never_and_overflow_nothing() {
    let fleet = Fleet::default();
    failing(&fleet, [1]);
    for endless in [Duration::MAX, S(u64::MAX / 10)] {
        let builder = Balancer::builder(fixed([1, 2])).pick(Pick::least_cost().decay(endless));
        let ejection = Ejection::consecutive(1).time(endless).max_time(endless);
        let builder = builder
            .ejection(ejection)
            .slow_start(SlowStart::over(endless));
        let balancer = builder.build(fleet.make()).unwrap();
        while ejected(&balancer) == 0 {
            many(&balancer, 1, 1).await;
        }
        advance(S(365 * 24 * 3600)).await;
        fleet.forget_calls();
        many(&balancer, 100, 1).await;
        assert_eq!(fleet.calls(1), 0, "out for ever");
    }
}

// RUN-04, hyperium/hyper#3950, kube-rs/kube#840
#[tokio::test(start_paused = true)]
async fn an_hour_of_paused_time_ends_ejection_penalty_and_slow_start() {
    let (fleet, sets) = (Fleet::default(), Sets::of([1, 2]));
    failing(&fleet, [1]);
    let balancer = Balancer::builder(sets.clone())
        .ejection(Ejection::consecutive(1))
        .build(fleet.make())
        .unwrap();
    while status_if_known(&balancer, 1).is_none_or(|status| status.penalty == 1.0) {
        many(&balancer, 1, 1).await;
    }
    sets.answer(endpoints([1, 2, 3]));
    settle().await;
    assert_eq!(status(&balancer, 3).state, EndpointState::Joining);
    let started = std::time::Instant::now();
    advance(S(3600)).await;
    assert_eq!(status(&balancer, 1).penalty, 1.0);
    assert_eq!(status(&balancer, 3).state, EndpointState::Ready);
    fleet.set(1, Manner::Answer(200), MS(1));
    many(&balancer, 10, 1).await;
    assert_eq!(ejected(&balancer), 0);
    assert!(started.elapsed() < S(2), "nobody really slept");
}

fn status_if_known(balancer: &Balancer<Member>, port: u16) -> Option<EndpointStatus> {
    balancer
        .endpoints()
        .into_iter()
        .find(|status| status.address == address(port))
}

#[test]
fn bad_settings_are_refused_where_they_are_built() {
    let built = |builder: evenkeel::BalancerConfig| {
        let result = builder.build(Fleet::default().make());
        result.map(drop).map_err(|refused| refused.field())
    };
    let builder = || Balancer::builder(fixed([1]));
    assert_eq!(built(builder()), Ok(()));
    assert_eq!(
        built(builder().max_in_flight(0)),
        Err("BalancerConfig::max_in_flight")
    );
    assert_eq!(
        built(builder().pick(Pick::choices(0))),
        Err("Pick::candidates")
    );
    assert_eq!(
        built(builder().pick(Pick::least_cost().tolerance(f64::NAN))),
        Err("Pick::tolerance")
    );
    assert_eq!(
        built(builder().ejection(Ejection::consecutive(0))),
        Err("Ejection::consecutive")
    );
    assert_eq!(
        built(builder().slow_start(SlowStart::over(Duration::ZERO))),
        Err("SlowStart::over")
    );
    assert_eq!(
        built(Balancer::builder(Fixed::new(Vec::<Endpoint>::new()))),
        Err("endpoints")
    );
}

#[test]
fn the_balancer_and_its_futures_fit_into_an_applications_state() {
    fn fits<T: Send + Sync + Clone + 'static>(_: &T) {}
    fn sends<T: Send + 'static>(_: &T) {}
    let mut balancer = Balancer::builder(fixed([1]))
        .build(Fleet::default().make())
        .unwrap();
    fits(&balancer);
    sends(&balancer.call(get()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_threads_lose_no_count() {
    let (fleet, sets) = (Fleet::default(), Sets::of([1, 2, 3]));
    fleet.set(2, Manner::Answer(503), Duration::ZERO);
    let balancer = Balancer::builder(sets.clone()).build(fleet.make()).unwrap();
    let done = Arc::new(AtomicUsize::new(0));
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let (balancer, done) = (balancer.clone(), Arc::clone(&done));
            tokio::spawn(async move {
                for _ in 0..500 {
                    port(&balancer).await.unwrap();
                    done.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let mut flip = 0;
    while done.load(Ordering::Relaxed) < 4_000 {
        flip += 1;
        sets.answer(if flip % 2 == 0 {
            endpoints([1, 2, 3])
        } else {
            endpoints([2, 3, 4])
        });
        tokio::task::yield_now().await;
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert!(
        balancer
            .endpoints()
            .iter()
            .all(|status| status.in_flight == 0)
    );
    assert_eq!((1..5).map(|port| fleet.calls(port)).sum::<usize>(), 4_000);
}
