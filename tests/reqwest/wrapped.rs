//! A client around one of reqwest's that exists.

use super::*;

fn retrying_by_itself() -> reqwest::ClientBuilder {
    let policy = reqwest::retry::for_host("127.0.0.1")
        .no_budget()
        .max_retries_per_request(2);
    let policy = policy.classify_fn(|attempt| match attempt.status() {
        Some(status) if status.is_server_error() => attempt.retryable(),
        _ => attempt.success(),
    });
    client().retry(policy)
}

async fn attempts_on_a_failing_server(wrapped: reqwest::ClientBuilder) -> usize {
    let server = Server::start([]);
    server.otherwise(Reply::status(503));
    let wrapped = wrapped.build().unwrap();
    let client = Client::wrap_reqwest(wrapped)
        .retry(quick_retry())
        .no_circuit_breaker()
        .build()
        .unwrap();
    let response = client.get(server.url()).send().await.unwrap();
    assert_eq!(report(&response).attempts().len(), 3);
    server.seen().len()
}

#[tokio::test]
async fn retries_of_a_wrapped_client_multiply_ours() {
    assert_eq!(attempts_on_a_failing_server(client()).await, 3);
    assert_eq!(attempts_on_a_failing_server(retrying_by_itself()).await, 9);
}

#[tokio::test]
async fn a_balanced_client_switches_the_retries_of_its_endpoints_clients_off() {
    let server = Server::start([]);
    server.otherwise(Reply::status(503));
    let client = over([server.address()])
        .build_reqwest(|_| retrying_by_itself())
        .unwrap();
    assert_eq!(client.get("/").send().await.unwrap().status(), 503);
    assert_eq!(server.seen().len(), 3);
}

#[tokio::test]
async fn a_wrapped_client_goes_to_any_origin_and_says_where_from_the_answer_came() {
    let servers = [
        Server::start([Reply::ok("a")]),
        Server::start([Reply::reset(), Reply::ok("b")]),
    ];
    let client = Client::wrap_reqwest(client().build().unwrap())
        .retry(quick_retry())
        .build()
        .unwrap();
    for (server, expected) in servers.iter().zip(["a", "b"]) {
        let url = format!("{}/x?y=z", server.url());
        let response = client.get(&url).send().await.unwrap();
        assert_eq!(response.url().as_str(), url);
        assert_eq!(response.text().await.unwrap(), expected);
    }
    let error = client.get("/x").send().await.unwrap_err();
    assert_eq!(
        (error.kind(), error.disposition()),
        (ErrorKind::InvalidCall, Disposition::NotSent)
    );
}
