//! Runtimes, and settings that cannot work.

use super::*;

// RUN-02, tower-rs/tower#139
#[test]
fn clients_are_built_and_dropped_without_a_runtime() {
    let server = Server::start([]);
    drop(http1(over([server.address()])));
    drop(
        Client::builder("http://localhost:1")
            .build_reqwest(|_| client())
            .unwrap(),
    );
    drop(
        Client::wrap_reqwest(client().build().unwrap())
            .build()
            .unwrap(),
    );
}

// RUN-03, seanmonstar/reqwest#1148, rust-lang/rustup#3852
#[test]
fn a_client_outlives_the_runtime_that_used_it_first() {
    let server = Server::start([]);
    let origin = format!("http://localhost:{}", server.address().port());
    let clients = [
        http1(over([server.address()])),
        Client::builder(origin)
            .retry(quick_retry())
            .build_reqwest(|_| client())
            .unwrap(),
    ];
    for _ in 0..3 {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        for client in &clients {
            let status = runtime.block_on(async { client.get("/").send().await.unwrap().status() });
            assert_eq!(status, 200);
        }
    }
}

#[test]
fn what_cannot_work_is_refused_when_the_client_is_built() {
    let built = |builder: ClientBuilder<Balanced>| builder.build_reqwest(|_: &Endpoint| client());
    let address: SocketAddr = ([10, 0, 0, 1], 80).into();
    let no_port: SocketAddr = ([10, 0, 0, 1], 0).into();
    let zero = Duration::ZERO;
    for (builder, field) in [
        (Client::builder("payments.internal"), "origin"),
        (Client::builder("http://payments.internal/v1"), "origin"),
        (Client::builder("http://payments.internal:0"), "origin"),
        (Client::builder("http://[example.com]:80"), "origin"),
        (Client::builder("http://[::1"), "origin"),
        (
            Client::builder(ORIGIN).endpoints(Vec::<SocketAddr>::new()),
            "endpoints",
        ),
        (Client::builder(ORIGIN).endpoints([no_port]), "endpoint"),
        (
            Client::builder(ORIGIN).endpoints(["2001:db8::10:80"]),
            "endpoint",
        ),
        (
            Client::builder(ORIGIN).discover(LookupHost::new("payments.internal:0")),
            "host and port",
        ),
        (
            Client::builder(ORIGIN).discover(LookupHost::new("a:80").refresh_every(zero)),
            "refresh_every",
        ),
        (over([address]).deadline(zero), "deadline"),
        (over([address]).attempt_timeout(zero), "attempt_timeout"),
        (over([address]).attempt_timeout(LONG * 2), "attempt_timeout"),
        (over([address]).connect_timeout(zero), "connect_timeout"),
        (over([address]).body_idle(zero), "body_idle"),
        (
            over([address]).retry(Retry::default().max_attempts(0)),
            "max_attempts",
        ),
        (
            over([address])
                .retry(Retry::default().backoff(Backoff::default().multiplier(f64::NAN))),
            "multiplier",
        ),
    ] {
        let refused = built(builder).expect_err(field);
        assert!(refused.field().ends_with(field), "{refused}");
    }
}

// TMO-08, tokio-rs/tokio#3551, #5183, #6634
#[tokio::test]
async fn the_longest_durations_mean_never_and_overflow_nothing() {
    let server = Server::start([]);
    for long in [
        Duration::MAX,
        Duration::MAX - Duration::from_nanos(1),
        Duration::from_secs(u64::MAX / 10),
    ] {
        let discovered =
            LookupHost::new(format!("localhost:{}", server.address().port())).refresh_every(long);
        let client = Client::builder(ORIGIN)
            .discover(discovered)
            .deadline(long)
            .attempt_timeout(long)
            .body_idle(long);
        let client = http1(client);
        let policy = CallPolicy::new()
            .deadline(long)
            .attempt_timeout(long)
            .body_idle(long);
        for policy in [CallPolicy::new(), policy] {
            let response = client.get("/").policy(policy).send().await.unwrap();
            assert_eq!(response.text().await.unwrap(), "");
        }
    }
}

#[tokio::test]
async fn a_short_deadline_needs_no_other_setting() {
    let server = Server::start([]);
    for deadline in [Duration::from_millis(400), SHORT] {
        let client = http1(over([server.address()]).deadline(deadline));
        assert_eq!(client.get("/").send().await.unwrap().status(), 200);
    }
    let client = http1(over([server.address()]).attempt_timeout(SHORT));
    assert_eq!(client.get("/").send().await.unwrap().status(), 200);
    let named = over([server.address()])
        .attempt_timeout(SHORT)
        .connect_timeout(SHORT);
    assert_eq!(
        named
            .build_reqwest(|_| support::tls::client())
            .unwrap_err()
            .field(),
        "ClientBuilder::connect_timeout"
    );
}
