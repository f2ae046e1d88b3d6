//! How code that calls other services is tested with the testkit: `cargo run --example testing`.
//!
//! The code under test is `Prices`, a client of a price service. It is tested without a socket and without waiting:
//! under paused time a minute of retries takes no time. In your crate each of the three functions below is a
//! `#[tokio::test(start_paused = true)]`.

use std::time::Duration;

use bytes::Bytes;
use evenkeel::{
    Body, Error,
    testkit::{Act, Fault, Scripted, SeededStack, ServiceTime, Step, Upstream, seeded, story},
};
use http::{Request, Response};
use http_body_util::{BodyExt, combinators::UnsyncBoxBody};

type Answer = Result<Response<UnsyncBoxBody<Bytes, evenkeel::BoxError>>, Error>;

/// The code under test: in production over a client, here over the same stack around services of the test.
struct Prices {
    stack: SeededStack,
}

impl Prices {
    async fn ask(&self, article: u32) -> Answer {
        let request = Request::get(format!("/price/{article}")).body(Body::empty());
        self.stack.send(request.expect("a path")).await
    }

    async fn price(&self, article: u32) -> Option<u64> {
        let body = self.ask(article).await.ok()?.into_body();
        let text = body.collect().await.ok()?.to_bytes();
        std::str::from_utf8(&text).ok()?.parse().ok()
    }
}

fn over(server: &Scripted) -> Prices {
    let server = server.clone();
    let stack = seeded(1).build_over(move |_endpoint| Ok(server.clone()));
    Prices {
        stack: stack.expect("settings in their ranges"),
    }
}

/// A server that refuses once: the caller sees the price, and the test what it took.
async fn a_refused_connection_is_tried_elsewhere() {
    let server = Scripted::new([Act::refuse(), Act::ok().body([Step::data("1999")])]);
    assert_eq!(over(&server).price(42).await, Some(1999));
    server.recorder().assert_attempts(2);
    server.recorder().assert_gaps(..Duration::from_millis(1));
}

/// A server that never answers: the call ends at its deadline and leaves nothing behind.
async fn a_silent_server_costs_no_more_than_the_deadline() {
    let server = Scripted::by(|_| Act::hang());
    let answer = over(&server).ask(42).await;
    story(&answer)
        .error(evenkeel::ErrorKind::DeadlineExceeded)
        .took(..=Duration::from_secs(3));
    assert_eq!(server.in_flight(), 0);
}

/// Half a second in which one of three servers fails every call: no caller notices, and the servers are not flooded.
async fn a_short_outage_of_one_server_of_three_is_not_felt() {
    let broken = Duration::from_secs(1)..Duration::from_millis(1500);
    let server = |number: u64| {
        let server = Upstream::new(4)
            .service_time(ServiceTime::exponential(Duration::from_millis(10)))
            .seed(number);
        match number {
            2 => server.fault(Fault::fail(broken.clone(), 503, 1.0)),
            _ => server,
        }
    };
    let servers = [1, 2, 3].map(server);
    let made = servers.clone();
    let stack = seeded(1)
        .endpoints(["10.0.0.1:8000", "10.0.0.1:8001", "10.0.0.1:8002"])
        .build_over(move |endpoint| {
            let number = usize::from(endpoint.address().port() - 8000);
            Ok(made[number].clone())
        });
    let prices = Prices {
        stack: stack.expect("settings in their ranges"),
    };
    let mut answered = 0;
    for article in 0..300 {
        let answer = prices.ask(article).await;
        answered += usize::from(answer.is_ok_and(|answer| answer.status().is_success()));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let attempts: usize = servers.iter().map(|server| server.recorder().len()).sum();
    assert_eq!(answered, 300);
    assert!((301..330).contains(&attempts), "{attempts} attempts");
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() {
    a_refused_connection_is_tried_elsewhere().await;
    a_silent_server_costs_no_more_than_the_deadline().await;
    a_short_outage_of_one_server_of_three_is_not_felt().await;
    println!("all as it should be, in no time");
}
