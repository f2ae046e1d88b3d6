//! The test servers do what their scripts say: else no other test over real sockets means anything.

mod support;

use std::time::{Duration, Instant};

use futures::StreamExt;
use http::Version;
use support::{
    nowhere::{BlackHole, Refusing, Silent},
    reply::Reply,
    server::Server,
    tls::{Authority, client},
};

const SOON: Duration = Duration::from_secs(5);
const SHORT: Duration = Duration::from_millis(200);

fn plain() -> reqwest::Client {
    client().timeout(SOON).build().expect("settings that work")
}

fn prior_knowledge() -> reqwest::Client {
    client()
        .http2_prior_knowledge()
        .timeout(SOON)
        .build()
        .expect("settings that work")
}

#[tokio::test]
async fn a_script_is_followed_and_the_requests_are_recorded() {
    let server = Server::start([
        Reply::status(503).header("retry-after", "1"),
        Reply::ok("fine"),
    ]);
    let url = format!("{}/charges?id=7", server.url());
    let first = plain()
        .post(&url)
        .header("x-mark", "a")
        .body("charge")
        .send()
        .await
        .unwrap();
    assert_eq!(
        (first.status().as_u16(), &first.headers()["retry-after"]),
        (503, &"1".parse().unwrap())
    );
    assert_eq!(
        plain()
            .get(&url)
            .send()
            .await
            .unwrap()
            .text()
            .await
            .unwrap(),
        "fine"
    );
    assert_eq!(
        plain()
            .get(&url)
            .send()
            .await
            .unwrap()
            .text()
            .await
            .unwrap(),
        ""
    );

    let seen = server.received(3).await;
    assert_eq!(
        (seen[0].method.as_str(), seen[0].path.as_str()),
        ("POST", "/charges?id=7")
    );
    assert_eq!(
        (&seen[0].body[..], &seen[0].headers["x-mark"]),
        (&b"charge"[..], &"a".parse().unwrap())
    );
    assert_eq!(seen[0].host, Some(server.address().to_string()));
    assert_eq!((seen[0].connection, seen[1].connection), (0, 1));
    assert_eq!(server.connections(), 3);
}

#[tokio::test]
async fn both_versions_are_spoken_without_tls() {
    let server = Server::start([]);
    plain().get(server.url()).send().await.unwrap();
    prior_knowledge().get(server.url()).send().await.unwrap();
    let seen = server.seen();
    assert_eq!(
        (seen[0].version, seen[0].authority.as_deref()),
        (Version::HTTP_11, None)
    );
    assert_eq!(
        (seen[1].version, seen[1].authority.clone()),
        (Version::HTTP_2, Some(server.address().to_string()))
    );
}

#[tokio::test]
async fn over_tls_the_name_and_the_version_are_recorded() {
    let authority = Authority::new();
    for (alpn, version) in [("h2", Version::HTTP_2), ("http/1.1", Version::HTTP_11)] {
        let server = Server::settings()
            .tls(authority.server(&["api.example"]))
            .start();
        let client = authority
            .client(&[alpn])
            .resolve("api.example", server.address())
            .build()
            .unwrap();
        client.get("https://api.example/").send().await.unwrap();
        let seen = server.seen();
        assert_eq!(
            (seen[0].version, seen[0].sni.as_deref()),
            (version, Some("api.example"))
        );

        let elsewhere = authority
            .client(&[alpn])
            .resolve("other.example", server.address())
            .build()
            .unwrap();
        let refused = elsewhere
            .get("https://other.example/")
            .send()
            .await
            .unwrap_err();
        assert!(
            format!("{refused:?}").contains("NotValidForName"),
            "{refused:?}"
        );
    }
}

#[tokio::test]
async fn a_client_of_another_authority_is_not_served() {
    let server = Server::settings()
        .tls(Authority::new().server(&["api.example"]))
        .start();
    let stranger = Authority::new()
        .client(&["h2"])
        .resolve("api.example", server.address())
        .build()
        .unwrap();
    assert!(stranger.get("https://api.example/").send().await.is_err());
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn a_reset_and_a_close_reach_the_client_as_such() {
    let server = Server::start([Reply::reset(), Reply::close()]);
    let reset = plain()
        .post(server.url())
        .body("a")
        .send()
        .await
        .unwrap_err();
    assert!(
        format!("{reset:?}").contains("ConnectionReset"),
        "{reset:?}"
    );
    let closed = plain()
        .post(server.url())
        .body("a")
        .send()
        .await
        .unwrap_err();
    assert!(
        format!("{closed:?}").contains("IncompleteMessage"),
        "{closed:?}"
    );
    assert_eq!(server.seen().len(), 2);
}

#[tokio::test]
async fn a_refused_stream_reaches_the_client_as_such() {
    let server = Server::start([Reply::refuse_stream()]);
    let refused = prior_knowledge()
        .get(server.url())
        .send()
        .await
        .unwrap_err();
    assert!(
        format!("{refused:?}").contains("REFUSED_STREAM"),
        "{refused:?}"
    );
    assert_eq!(
        prior_knowledge()
            .get(server.url())
            .send()
            .await
            .unwrap()
            .status(),
        200
    );
}

#[tokio::test]
async fn a_body_is_cut_or_stalls_where_the_script_says() {
    for client in [plain(), prior_knowledge()] {
        let server = Server::start([
            Reply::ok("H").cut(),
            Reply::ok("H").stall(),
            Reply::ok("H").pause(SHORT).body("ello"),
        ]);
        let mut cut = client.get(server.url()).send().await.unwrap();
        assert_eq!(cut.chunk().await.unwrap().unwrap(), "H");
        assert!(cut.chunk().await.is_err());

        let mut stalled = client.get(server.url()).send().await.unwrap();
        assert_eq!(stalled.chunk().await.unwrap().unwrap(), "H");
        assert!(tokio::time::timeout(SHORT, stalled.chunk()).await.is_err());

        let whole = client.get(server.url()).send().await.unwrap();
        assert_eq!(whole.text().await.unwrap(), "Hello");
    }
}

#[tokio::test]
async fn a_hang_and_a_delay_hold_the_head_back() {
    let server = Server::start([Reply::hang(), Reply::status(204).after(SHORT)]);
    let hanging = client()
        .timeout(SHORT)
        .build()
        .unwrap()
        .get(server.url())
        .send()
        .await;
    assert!(hanging.unwrap_err().is_timeout());
    let start = Instant::now();
    assert_eq!(
        plain().get(server.url()).send().await.unwrap().status(),
        204
    );
    assert!(start.elapsed() >= SHORT);
}

#[tokio::test]
async fn an_early_answer_leaves_the_body_unread() {
    let server = Server::start([Reply::status(413).early()]);
    let endless =
        futures::stream::iter([Ok::<_, std::io::Error>("a")]).chain(futures::stream::pending());
    let body = reqwest::Body::wrap_stream(endless);
    assert_eq!(
        plain()
            .post(server.url())
            .body(body)
            .send()
            .await
            .unwrap()
            .status(),
        413
    );
}

#[tokio::test]
async fn a_second_connection_waits_for_the_first_to_close() {
    let server = Server::settings().connections(1).start();
    server.script([Reply::ok("H").stall()]);
    let first = plain().get(server.url()).send().await.unwrap();
    let second = tokio::spawn(plain().get(server.url()).send());
    tokio::time::sleep(SHORT).await;
    assert_eq!((server.connections(), server.open_connections()), (1, 1));
    drop(first);
    assert_eq!(second.await.unwrap().unwrap().status(), 200);
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn a_stopped_server_breaks_off_and_its_port_is_free() {
    let server = Server::start([Reply::hang()]);
    let address = server.address();
    let hanging = tokio::spawn(plain().get(server.url()).send());
    server.received(1).await;
    server.stop().await;
    assert!(hanging.await.unwrap().is_err());
    let refused = plain()
        .get(format!("http://{address}"))
        .send()
        .await
        .unwrap_err();
    assert!(refused.is_connect());
    let again = Server::settings().port(address.port()).start();
    assert_eq!(plain().get(again.url()).send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn addresses_without_a_server_refuse_stay_silent_or_swallow() {
    let refusing = Refusing::new();
    let refused = plain()
        .get(format!("http://{}", refusing.address()))
        .send()
        .await
        .unwrap_err();
    assert!(refused.is_connect() && !refused.is_timeout());

    let silent = Silent::new();
    let hasty = client()
        .connect_timeout(SOON)
        .timeout(SHORT)
        .build()
        .unwrap();
    let unanswered = hasty
        .get(format!("http://{}", silent.address()))
        .send()
        .await
        .unwrap_err();
    assert!(unanswered.is_timeout() && !unanswered.is_connect());

    if cfg!(target_os = "linux") {
        let hole = BlackHole::new();
        let hasty = client()
            .connect_timeout(SHORT)
            .timeout(SOON)
            .build()
            .unwrap();
        let swallowed = hasty
            .get(format!("http://{}", hole.address()))
            .send()
            .await
            .unwrap_err();
        assert!(
            swallowed.is_timeout() && swallowed.is_connect(),
            "{swallowed:?}"
        );
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn several_servers_share_a_port_on_addresses_of_their_own() {
    let servers: [Server; 3] = Server::settings().start_on_one_port();
    for server in &servers {
        assert_eq!(server.address().port(), servers[0].address().port());
        plain().get(server.url()).send().await.unwrap();
        assert_eq!(server.seen().len(), 1);
    }
}
