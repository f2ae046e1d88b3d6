//! Discovery.

use super::*;

// LB-07, linkerd/linkerd2-proxy#240, tower-rs/tower#17
#[tokio::test]
async fn a_name_that_nobody_knows_ends_at_the_deadline_with_the_reason() {
    let client = Client::builder("http://no-such-name.invalid").deadline(SHORT * 3);
    let client = http1(client);
    let start = Instant::now();
    let error = client
        .post("/charges")
        .body("charge")
        .send()
        .await
        .unwrap_err();
    assert!(start.elapsed() < LATE);
    assert_eq!(error.disposition(), Disposition::NotSent, "{error}");
    let story = std::iter::successors(Some(&error as &dyn std::error::Error), |error| {
        error.source()
    });
    let story: Vec<String> = story.map(ToString::to_string).collect();
    assert!(
        story
            .iter()
            .any(|line| line.contains("no-such-name.invalid")),
        "{story:#?}"
    );
}

// LB-07, linkerd/linkerd2-proxy#240
#[tokio::test]
async fn a_call_waits_for_the_first_endpoints() {
    let server = Server::start([]);
    let (sets, changes) = mpsc::unbounded::<Vec<SocketAddr>>();
    let client = http1(over([server.address()]).discover(from_stream(changes)));
    let calling = tokio::spawn(client.post("/charges").body("charge").send());
    tokio::time::sleep(SHORT).await;
    assert!(server.seen().is_empty() && !calling.is_finished());
    sets.unbounded_send(vec![server.address()]).unwrap();
    assert_eq!(calling.await.unwrap().unwrap().status(), 200);
}

// DSC-01, cortexproject/cortex#7698; DSC-09, linkerd/linkerd2#573
#[tokio::test]
async fn a_new_set_replaces_the_old_one_and_a_failed_lookup_does_not() {
    let servers = [Server::start([]), Server::start([])];
    let (sets, changes) = mpsc::unbounded::<Result<Vec<SocketAddr>, std::io::Error>>();
    let client = http1(over([servers[0].address()]).discover(from_stream(changes)));
    sets.unbounded_send(Ok(vec![servers[0].address()])).unwrap();
    client.get("/").send().await.unwrap();
    sets.unbounded_send(Err(std::io::ErrorKind::TimedOut.into()))
        .unwrap();
    tokio::time::sleep(SHORT).await;
    client.get("/").send().await.unwrap();
    let [first, second] = &servers;
    assert_eq!(
        (first.seen().len(), first.connections(), second.seen().len()),
        (2, 1, 0)
    );

    sets.unbounded_send(Ok(vec![second.address()])).unwrap();
    tokio::time::sleep(SHORT).await;
    for _ in 0..5 {
        client.get("/").send().await.unwrap();
    }
    assert_eq!((first.seen().len(), second.seen().len()), (2, 5));
}

// RUN-07, linkerd/linkerd2-proxy#285
#[tokio::test]
async fn the_last_clone_takes_discovery_and_connections_with_it() {
    let server = Server::start([]);
    let (sets, changes) = mpsc::unbounded::<Vec<SocketAddr>>();
    let client = http1(over([server.address()]).discover(from_stream(changes)));
    sets.unbounded_send(vec![server.address()]).unwrap();
    client.clone().get("/").send().await.unwrap();
    assert!(!sets.is_closed());
    drop(client);
    let start = Instant::now();
    while !sets.is_closed() || server.open_connections() > 0 {
        assert!(
            start.elapsed() < LATE,
            "{} connections open",
            server.open_connections()
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
