//! What the server is told of the time that is left.

use super::*;

/// What each attempt was told in this header.
fn told(server: &Server, name: &str) -> Vec<Option<u64>> {
    let told = |seen: &Seen| Some(seen.headers.get(name)?.to_str().ok()?.parse().unwrap());
    server.seen().iter().map(told).collect()
}

#[tokio::test]
async fn every_attempt_tells_the_time_that_is_left_in_the_header_that_was_asked_for() {
    let failing = || Reply::status(503).after(Duration::from_millis(100));
    let server = Server::start([failing(), failing(), Reply::ok("balanced")]);
    let named = over([server.address()]).deadline_header("x-timeout-ms");
    let second = CallPolicy::new().deadline(LONG * 2);
    let response = http1(named).get("/").policy(second).send().await.unwrap();
    assert_eq!(response.text().await.unwrap(), "balanced");
    let [Some(first), Some(second), Some(third)] = told(&server, "x-timeout-ms")[..] else {
        panic!("three attempts")
    };
    // The attempt limit that retry decides on is half of the call's time.
    assert!(first <= 20_000 && first > 10_000, "{first}");
    assert!(second <= 20_000 && third <= 40_000, "{second}, {third}");
    assert!(third + 200 <= 40_000, "{third}");

    let server = Server::start([failing(), Reply::ok("wrapped")]);
    let client = Client::wrap_reqwest(client().build().unwrap())
        .deadline(LONG)
        .attempt_timeout(LONG)
        .retry(quick_retry())
        .deadline_header("X-Timeout-Ms");
    let response = client.build().unwrap().get(server.url()).send();
    assert_eq!(response.await.unwrap().text().await.unwrap(), "wrapped");
    let [Some(first), Some(second)] = told(&server, "x-timeout-ms")[..] else {
        panic!("two attempts")
    };
    assert!(
        first <= 20_000 && second + 100 <= first,
        "{first}, {second}"
    );
}

#[tokio::test]
async fn no_deadline_is_told_unless_it_is_asked_for_or_where_there_is_none() {
    let server = Server::start([]);
    server.otherwise(Reply::ok(""));
    http1(over([server.address()]))
        .get("/")
        .send()
        .await
        .unwrap();
    let headers = server.seen().pop().unwrap().headers;
    let known = ["host", "accept", "user-agent"];
    assert!(headers.keys().all(|name| known.contains(&name.as_str())));
    let named = over([server.address()]).deadline_header("x-timeout-ms");
    let unlimited = CallPolicy::new().no_deadline();
    let call = http1(named).get("/").policy(unlimited).send();
    call.await.unwrap();
    assert_eq!(told(&server, "x-timeout-ms"), [None, None]);
}

#[test]
fn a_deadline_header_that_is_none_is_refused_with_its_name() {
    for name in [
        "",
        "x timeout",
        "x-timeout:",
        "z\u{e4}hler",
        "grpc-timeout",
        "GRPC-other",
    ] {
        let address = SocketAddr::from(([127, 0, 0, 1], 80));
        let balanced = over([address]).deadline_header(name);
        let error = balanced.build_reqwest(|_| client()).map(drop).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("ClientBuilder::deadline_header is"),
            "{error}"
        );
        assert!(error.to_string().contains(&format!("{name:?}")), "{error}");
        let wrapped = Client::wrap_reqwest(client().build().unwrap());
        assert!(wrapped.deadline_header(name).build().is_err());
    }
}
