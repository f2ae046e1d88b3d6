//! HTTP/2.

use super::*;

// RTY-03, JuliaWeb/HTTP.jl#1294
#[tokio::test]
async fn a_refused_stream_was_not_processed() {
    let (service, url) = resetting(h2::Reason::REFUSED_STREAM).await;
    let error = failed(service, request(Method::POST, url)).await;
    assert_eq!(
        (read(&error), error.disposition()),
        (Some(Evidence::Refused), Disposition::Refused)
    );
}

#[tokio::test]
async fn a_stream_reset_for_another_reason_may_have_happened() {
    let (service, url) = resetting(h2::Reason::INTERNAL_ERROR).await;
    let error = failed(service, request(Method::POST, url)).await;
    assert_eq!(
        (read(&error), error.disposition()),
        (Some(Evidence::Unknown), Disposition::Unknown)
    );
}

/// How often a server that refuses every stream sees one request of this client.
async fn seen_by_a_refusing_server(client: reqwest::ClientBuilder) -> u32 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let seen = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&seen);
    tokio::spawn(async move {
        let (socket, _) = listener.accept().await.unwrap();
        let mut connection = h2::server::handshake(socket).await.unwrap();
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            count.fetch_add(1, Ordering::Relaxed);
            respond.send_reset(h2::Reason::REFUSED_STREAM);
        }
    });
    let client = client.http2_prior_knowledge().build().unwrap();
    let error = failed(HttpService::new(client), request(Method::POST, url)).await;
    assert_eq!(read(&error), Some(Evidence::Refused));
    seen.load(Ordering::Relaxed)
}

#[tokio::test]
async fn a_client_that_retries_by_itself_triples_an_attempt_and_one_that_never_does_sends_it_once()
{
    assert_eq!(seen_by_a_refusing_server(retrying_builder()).await, 3);
    assert_eq!(seen_by_a_refusing_server(builder()).await, 1);
}

/// A frame by hand: `GOAWAY` with this last stream.
fn go_away(last_stream: u32) -> Vec<u8> {
    let mut frame = vec![0, 0, 8, 7, 0, 0, 0, 0, 0];
    frame.extend(last_stream.to_be_bytes());
    frame.extend(0_u32.to_be_bytes());
    frame
}

/// Sends settings, awaits the request on stream 1, says `GOAWAY`, and closes.
async fn goes_away(last_stream: u32) -> (HttpService, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        socket
            .write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0])
            .await
            .unwrap();
        let mut seen = Vec::<u8>::new();
        while !seen.windows(6).any(|window| window == b"charge") {
            let mut buffer = [0; 1024];
            let length = socket.read(&mut buffer).await.unwrap();
            seen.extend(&buffer[..length]);
        }
        socket.write_all(&go_away(last_stream)).await.unwrap();
    });
    (prior_knowledge(), url)
}

// RTY-03, nodejs/undici#5598
#[tokio::test]
async fn a_stream_above_the_last_of_a_goaway_was_not_processed() {
    let (service, url) = goes_away(0).await;
    let error = failed(service, request(Method::POST, url)).await;
    assert_eq!(
        (read(&error), error.disposition()),
        (Some(Evidence::Refused), Disposition::Refused)
    );
}

// RTY-03, HoneyryderChuck/httpx#149
#[tokio::test]
async fn a_stream_that_a_goaway_covers_may_have_happened() {
    let (service, url) = goes_away(1).await;
    let error = failed(service, request(Method::POST, url)).await;
    assert_eq!(
        (read(&error), error.disposition()),
        (Some(Evidence::Unknown), Disposition::Unknown)
    );
}
