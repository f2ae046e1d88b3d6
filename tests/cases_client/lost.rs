//! Connections that are lost without a word to either side.

use std::time::{Duration, Instant};

use evenkeel::{CallPolicy, Client, Disposition, Retry};

use crate::support::{
    network::Network,
    reply::Reply,
    server::Server,
    tls::{Authority, client},
};

const S: fn(u64) -> Duration = Duration::from_secs;

#[tokio::test]
async fn a_lost_connection_of_http2_is_left_for_a_new_one() {
    let authority = Authority::new();
    let tls = authority.server(&["api.example"]);
    let server = Server::settings().tls(tls).start();
    let network = Network::before(server.address());
    let client = Client::builder("https://api.example")
        .endpoints([network.address()])
        .deadline(Duration::from_millis(500))
        .retry(Retry::default().without_budget())
        .no_circuit_breaker()
        .build_reqwest(move |_| client().tls_backend_preconfigured(authority.trust(&["h2"])))
        .unwrap();
    client.get("/").send().await.unwrap();
    server.script([Reply::hang()]);
    let patient = client.post("/").policy(CallPolicy::new().deadline(S(60)));
    let patient = tokio::spawn(patient.send());
    server.received(2).await;
    network.lose(1);
    let lost = Instant::now();
    while let Err(error) = client.get("/").send().await {
        assert!(lost.elapsed() < S(20), "{error}");
    }
    let error = patient.await.unwrap().unwrap_err();
    assert_eq!(error.disposition(), Disposition::Unknown, "{error}");
    assert!(error.report().elapsed() < S(20), "{error}");
    assert!(server.connections() > 1);
}
