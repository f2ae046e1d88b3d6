//! A chain of HTTP servers.

use super::*;

fn left_in(text: &str) -> Duration {
    Duration::from_millis(text.parse().expect("milliseconds"))
}

/// Answers with the time that was left, in milliseconds.
async fn tell(Extension(inherited): Extension<InheritedDeadline>, headers: HeaderMap) -> String {
    assert_eq!(inherited, InheritedDeadline::current());
    assert!(headers.contains_key(HEADER));
    left().map_or_else(|| "none".to_owned(), |left| left.as_millis().to_string())
}

#[tokio::test]
async fn a_chain_of_http_servers_hands_on_what_is_left_in_a_header_of_choice() {
    let layer = || InboundLayer::new().header(header());
    let c = serve(Router::new().route("/", routing::get(tell)).layer(layer()));
    let next = client(c.address);
    let relay = move || async move {
        let at_b = left().expect("a deadline");
        sleep(millis(200)).await;
        let reply = next.get("/").send().await.expect("an answer");
        let at_c = reply.text().await.expect("text");
        format!("{} {at_c}", at_b.as_millis())
    };
    let b = serve(Router::new().route("/", routing::get(relay)).layer(layer()));
    let call = client(b.address).get("/");
    let call = call.policy(CallPolicy::new().deadline(millis(5000)));
    let reply = call.send().await.expect("an answer");
    let told = reply.text().await.expect("text");
    let (at_b, at_c) = told.split_once(' ').expect("two numbers");
    let (at_b, at_c) = (left_in(at_b), left_in(at_c));
    assert!(at_b <= millis(5000), "{at_b:?}");
    assert!(at_c + millis(199) <= at_b, "{at_c:?} after {at_b:?}");
}

#[tokio::test]
async fn an_http_call_that_is_over_or_malformed_does_not_reach_the_handler() {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let count = move || async move { counted.fetch_add(1, Ordering::SeqCst).to_string() };
    let router = Router::new().route("/", routing::get(count));
    let server = serve(router.layer(InboundLayer::new().header(header())));
    let client = support::tls::client().build().expect("a client");
    for (left, status, text) in [
        ("0", 504, "no time was left"),
        (
            "1s",
            400,
            "x-timeout-ms is not one whole number of milliseconds",
        ),
        ("", 400, "x-timeout-ms"),
        ("250", 200, "0"),
    ] {
        let request = client.get(format!("http://{}/", server.address));
        let reply = request
            .header(HEADER, left)
            .send()
            .await
            .expect("an answer");
        assert_eq!(reply.status().as_u16(), status, "{left:?}");
        let said = reply.text().await.expect("text");
        assert!(said.contains(text), "{said}");
    }
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}
