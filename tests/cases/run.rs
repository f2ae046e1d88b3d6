//! RUN: what lives, what is counted, and when it ends.

use std::{net::SocketAddr, time::Duration};

use evenkeel::{
    Balancer, Body, ErrorKind,
    discover::from_stream,
    testkit::{Act, Scripted, seeded, story},
};
use futures::{StreamExt, future::join_all, stream};
use http::Request;
use tokio::time::timeout;
use tower::ServiceExt;

use crate::support::mock::millis;

fn get() -> Request<Body> {
    Request::get("/").body(Body::empty()).unwrap()
}

// RUN-06, linera-io/linera-protocol#6120
#[tokio::test(start_paused = true)]
async fn every_call_that_was_started_is_counted_by_how_it_ended() {
    let server = Scripted::by(|_| Act::ok().after(millis(20)));
    let instance = server.clone();
    let stack = seeded(1).build_over(move |_| Ok(instance.clone())).unwrap();
    let calls = (0..90).map(|number| {
        let patience = if number < 40 { 5 + number % 10 } else { 1000 };
        timeout(millis(patience), stack.send(get()))
    });
    let ended = join_all(calls).await;
    let answered = ended.iter().filter(|call| matches!(call, Ok(Ok(_))));
    assert_eq!(answered.count(), 50);
    stack.circuit_breaker().force_open();
    for _ in 0..10 {
        let refused = stack.send(get()).await;
        let open = ErrorKind::CircuitOpen { retry_in: None };
        story(&refused).error(open);
    }
    drop(ended);
    let seen = stack.circuit_breaker().snapshot();
    assert_eq!((seen.abandoned, seen.rejected), (40, 10), "{seen:?}");
    assert_eq!(
        (seen.failed, seen.throttled, seen.neutral, seen.late),
        (0, 0, 0, 0)
    );
    assert_eq!((server.calls(), server.dropped()), (90, 40));
    assert_eq!(
        (server.in_flight(), server.bodies(), server.reserved()),
        (0, 0, 0)
    );
    let endpoints = stack.endpoints();
    assert!(endpoints.iter().all(|endpoint| endpoint.in_flight == 0));
}

// RUN-05, EmbarkStudios/quilkin#263
#[tokio::test(start_paused = true)]
async fn endpoints_that_come_and_go_leave_nothing_behind() {
    const SETS: u32 = 300;
    const SIZE: u32 = 100;
    let addresses = |set: u32| {
        let first = 0x0a00_0000 + set * SIZE;
        let address = move |number: u32| SocketAddr::from(((first + number).to_be_bytes(), 80));
        (0..SIZE).map(address).collect::<Vec<_>>()
    };
    let sets = stream::iter(0..SETS).then(move |set| async move {
        tokio::time::sleep(Duration::from_secs(1)).await;
        addresses(set)
    });
    let server = Scripted::new([]);
    let instance = server.clone();
    let balancer = Balancer::builder(from_stream(sets.chain(stream::pending())))
        .build(move |_| Ok(instance.clone()))
        .unwrap();
    let mut most = 0;
    for _ in 0..SETS {
        for _ in 0..3 {
            balancer.clone().oneshot(get()).await.unwrap();
        }
        most = most.max(server.instances());
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let size = usize::try_from(SIZE).unwrap();
    assert_eq!(balancer.endpoints().len(), size);
    // One in the balancer's books and one for calls, of this set and for a moment of the one before.
    assert!(most <= 4 * size + 10, "{most} services live");
    drop(balancer);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(server.instances(), 1);
}
