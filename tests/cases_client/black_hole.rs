//! One endpoint of several is bad, in every way in which one can be: how many calls it draws, and how many fail.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use evenkeel::{
    AttemptTimeoutLayer, Balancer, Body, BoxError, DeadlineLayer, Endpoint, Fixed, Pick, Random,
    Retry, RetryLayer,
};
use futures::{StreamExt, stream};
use http::{Request, Response};
use http_body_util::{BodyExt, StreamBody, combinators::UnsyncBoxBody};
use tokio::{task::JoinSet, time::sleep};
use tower::{Layer, ServiceBuilder, ServiceExt, util::BoxCloneSyncService};

use crate::support::fleet::address;

const MS: fn(u64) -> Duration = Duration::from_millis;
const S: fn(u64) -> Duration = Duration::from_secs;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    Refuses,
    Resets,
    Answers(u16),
    Hangs,
    Slow,
    CutsBodies,
    StallsBodies,
}

type Reply = UnsyncBoxBody<Bytes, io::Error>;

fn body(frames: Vec<io::Result<&'static str>>, stalls: bool) -> Reply {
    let frames = frames
        .into_iter()
        .map(|frame| frame.map(|data| http_body::Frame::data(Bytes::from(data))));
    let frames = stream::iter(frames);
    if stalls {
        StreamBody::new(frames.chain(stream::pending())).boxed_unsync()
    } else {
        StreamBody::new(frames).boxed_unsync()
    }
}

async fn act(fault: Option<Fault>, latency: Duration) -> io::Result<Response<Reply>> {
    let whole = || Ok(Response::new(body(vec![Ok("all")], false)));
    let Some(fault) = fault else {
        sleep(latency).await;
        return whole();
    };
    sleep(MS(1)).await;
    match fault {
        Fault::Refuses => Err(io::ErrorKind::ConnectionRefused.into()),
        Fault::Resets => Err(io::ErrorKind::ConnectionReset.into()),
        Fault::Answers(status) => {
            let mut response = Response::new(body(vec![], false));
            *response.status_mut() = status.try_into().unwrap();
            Ok(response)
        }
        Fault::Hangs => std::future::pending().await,
        Fault::Slow => {
            sleep(latency * 10).await;
            whole()
        }
        Fault::CutsBodies => Ok(Response::new(body(
            vec![Ok("a"), Err(io::ErrorKind::ConnectionReset.into())],
            false,
        ))),
        Fault::StallsBodies => Ok(Response::new(body(vec![Ok("a")], true))),
    }
}

struct Weather {
    endpoints: u16,
    fault: Fault,
    attempts: u32,
    pick: Pick,
}

#[derive(Debug)]
struct Outcome {
    share: f64,
    errors: f64,
}

/// 500 calls a second for 12 s after a start of 5 s, as they come, over healthy endpoints of 8 to 12 ms and one that is bad.
async fn run(weather: Weather) -> Outcome {
    let (all, bad) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let dice = Random::seeded(7);
    let (counted, drawn, fault) = (
        (Arc::clone(&all), Arc::clone(&bad)),
        dice.clone(),
        weather.fault,
    );
    let limit = AttemptTimeoutLayer::new(S(1)).unwrap();
    let make = move |endpoint: &Endpoint| {
        let is_bad = endpoint.address().port() == 1;
        let ((all, bad), dice) = (counted.clone(), drawn.clone());
        let node = tower::service_fn(move |_: Request<Body>| {
            all.fetch_add(1, Relaxed);
            bad.fetch_add(is_bad.into(), Relaxed);
            let latency = Duration::from_micros(8_000 + dice.next_u64() % 4_000);
            act(is_bad.then_some(fault), latency)
        });
        Ok::<_, BoxError>(limit.layer(BoxCloneSyncService::new(node)))
    };
    let set = (1..=weather.endpoints).map(|port| Endpoint::new(address(port)));
    let balancer = Balancer::builder(Fixed::new(set))
        .pick(weather.pick)
        .random(Random::seeded(3))
        .build(make)
        .unwrap();
    let retry = Retry::default()
        .max_attempts(weather.attempts)
        .random(Random::seeded(5));
    let service = ServiceBuilder::new()
        .layer(DeadlineLayer::new(S(3)).unwrap())
        .layer(RetryLayer::new(retry.build().unwrap()))
        .service(balancer);
    let mut calls = JoinSet::new();
    for call in 0..8_500 {
        sleep(Duration::from_secs_f64(-(1.0 - dice.unit()).ln() / 500.0)).await;
        if call == 2_500 {
            all.store(0, Relaxed);
            bad.store(0, Relaxed);
        }
        let service = service.clone();
        calls.spawn(async move {
            let ok = async {
                let request = Request::get("http://s/").body(Body::empty()).unwrap();
                let response = service.oneshot(request).await.ok()?;
                let good = response.status().is_success();
                response.into_body().collect().await.ok()?;
                good.then_some(())
            };
            (call >= 2_500, ok.await.is_some())
        });
    }
    let ends = calls.join_all().await;
    let late: Vec<_> = ends.into_iter().filter(|(late, _)| *late).collect();
    let failed = late.iter().filter(|(_, ok)| !ok).count();
    Outcome {
        share: bad.load(Relaxed) as f64 / all.load(Relaxed) as f64,
        errors: failed as f64 / late.len() as f64,
    }
}

const FAULTS: [Fault; 8] = [
    Fault::Refuses,
    Fault::Resets,
    Fault::Answers(503),
    Fault::Answers(429),
    Fault::Hangs,
    Fault::Slow,
    Fault::CutsBodies,
    Fault::StallsBodies,
];

/// Peers that pick by load give one that fails fast up to two thirds of the calls.
#[tokio::test(start_paused = true)]
async fn one_bad_endpoint_draws_next_to_nothing_however_it_is_bad() {
    for (endpoints, attempts) in [(3, 1), (3, 3), (10, 3)] {
        for fault in FAULTS {
            let weather = Weather {
                endpoints,
                fault,
                attempts,
                pick: Pick::default(),
            };
            let Outcome { share, errors } = run(weather).await;
            let case = format!("{endpoints} endpoints, {fault:?}, {attempts} attempts");
            assert!(share < 0.005, "{case}: a share of {share}");
            assert!(errors < 0.005, "{case}: {errors} failed");
            // A body that breaks is with the caller: nobody may ask again.
            let in_body = matches!(fault, Fault::CutsBodies | Fault::StallsBodies);
            if attempts == 3 && !in_body {
                assert!(errors < 0.000_5, "{case}: {errors} failed");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn ejection_helps_the_picks_that_look_at_no_load() {
    for pick in [Pick::round_robin(), Pick::random()] {
        for fault in FAULTS {
            if matches!(fault, Fault::Slow | Fault::Answers(429)) {
                continue; // Neither is a failure.
            }
            let weather = Weather {
                endpoints: 3,
                fault,
                attempts: 1,
                pick,
            };
            let Outcome { share, .. } = run(weather).await;
            assert!(share < 0.01, "{pick:?}, {fault:?}: a share of {share}");
        }
    }
}
