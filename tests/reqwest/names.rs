//! What reaches the server: name, authority, address.

use super::*;

#[tokio::test]
async fn a_call_reaches_the_endpoint_under_the_origins_name() {
    let server = Server::start([Reply::ok("one"), Reply::ok("two")]);
    for (client, expected) in [
        (http1(over([server.address()])), "one"),
        (http2(over([server.address()])), "two"),
    ] {
        let response = client
            .post("/charges?id=7")
            .header("x-mark", "a")
            .body("charge")
            .send()
            .await
            .unwrap();
        assert_eq!(
            response.url().as_str(),
            "http://payments.internal/charges?id=7"
        );
        assert_eq!(response.text().await.unwrap(), expected);
    }
    let seen = server.seen();
    for seen in &seen {
        assert_eq!(
            (seen.method.as_str(), seen.path.as_str()),
            ("POST", "/charges?id=7")
        );
        assert_eq!(
            (&seen.body[..], &seen.headers["x-mark"]),
            (&b"charge"[..], &"a".parse().unwrap())
        );
    }
    assert_eq!(
        (seen[0].version, seen[0].host.as_deref()),
        (Version::HTTP_11, Some("payments.internal"))
    );
    assert_eq!(
        (seen[1].version, seen[1].authority.as_deref()),
        (Version::HTTP_2, Some("payments.internal"))
    );
}

#[tokio::test]
async fn an_origin_that_resolves_needs_no_endpoints() {
    let server = Server::start([]);
    for origin in ["localhost", "127.0.0.1"] {
        let origin = format!("http://{origin}:{}", server.address().port());
        let client = Client::builder(&origin)
            .build_reqwest(|_| client())
            .unwrap();
        assert_eq!(client.get("/").send().await.unwrap().status(), 200);
    }
    let discovered = LookupHost::new(format!("localhost:{}", server.address().port()));
    let client = Client::builder(ORIGIN)
        .discover(discovered)
        .build_reqwest(|_| client())
        .unwrap();
    assert_eq!(client.get("/").send().await.unwrap().status(), 200);
    assert_eq!(
        server.seen().last().unwrap().host.as_deref(),
        Some("payments.internal")
    );
}

// ADR-01, Netflix/ribbon#482
#[tokio::test]
async fn an_ipv6_origin_connects_and_keeps_its_brackets() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        return; // this machine has no IPv6
    }
    let server = Server::settings().ip(std::net::Ipv6Addr::LOCALHOST).start();
    let client = Client::builder(format!("http://{}", server.address()))
        .build_reqwest(|_| client())
        .unwrap();
    assert_eq!(client.get("/").send().await.unwrap().status(), 200);
    assert_eq!(
        server.seen()[0].host,
        Some(format!("[::1]:{}", server.address().port()))
    );
}

// ADR-03, nokia/restful#128
#[cfg(target_os = "linux")]
#[tokio::test]
async fn over_tls_name_and_authority_stay_the_origins_on_every_address() {
    let authority = Authority::new();
    for (alpn, version) in [("http/1.1", Version::HTTP_11), ("h2", Version::HTTP_2)] {
        let servers: [Server; 2] = Server::settings()
            .tls(authority.server(&["api.example"]))
            .start_on_one_port();
        servers
            .iter()
            .for_each(|server| server.script([Reply::status(503)]));
        let port = servers[0].address().port();
        let tls = authority.trust(&[alpn]);
        let client = Client::builder(format!("https://api.example:{port}/"))
            .endpoints(servers.iter().map(Server::address))
            .deadline(LONG)
            .retry(quick_retry())
            .no_circuit_breaker()
            .build_reqwest(move |_| client().tls_backend_preconfigured(tls.clone()))
            .unwrap();
        let response = client.get("/x").send().await.unwrap();
        assert_eq!(
            (response.status().as_u16(), response.version()),
            (200, version)
        );
        assert_eq!(
            response.url().as_str(),
            format!("https://api.example:{port}/x")
        );
        assert_eq!(
            report(&response).attempts().len(),
            3,
            "{}",
            report(&response)
        );

        let expected = format!("api.example:{port}");
        let seen: Vec<Seen> = servers.iter().flat_map(Server::seen).collect();
        assert_eq!(seen.len(), 3);
        assert!(
            servers.iter().all(|server| !server.seen().is_empty()),
            "both addresses were called"
        );
        for seen in seen {
            let shown = if version == Version::HTTP_2 {
                &seen.authority
            } else {
                &seen.host
            };
            assert_eq!(
                (shown.as_deref(), seen.sni.as_deref()),
                (Some(expected.as_str()), Some("api.example"))
            );
            assert!(
                version == Version::HTTP_11 || seen.host.is_none(),
                "no Host beside :authority"
            );
        }
    }
}

// ADR-03, nokia/restful#128
#[tokio::test]
async fn an_origin_without_a_port_has_endpoints_on_any_port() {
    let authority = Authority::new();
    for alpn in ["http/1.1", "h2"] {
        let servers = [(); 2].map(|()| {
            Server::settings()
                .tls(authority.server(&["api.example"]))
                .start()
        });
        let tls = authority.trust(&[alpn]);
        let client = Client::builder("https://api.example")
            .endpoints(servers.iter().map(Server::address))
            .build_reqwest(move |_| client().tls_backend_preconfigured(tls.clone()))
            .unwrap();
        for _ in 0..20 {
            client.get("https://api.example/x").send().await.unwrap();
        }
        for server in &servers {
            let seen = server.seen();
            assert!(!seen.is_empty(), "20 calls use both");
            assert!(
                seen.iter()
                    .all(|seen| seen.sni.as_deref() == Some("api.example"))
            );
            let shown = seen[0].authority.as_deref().or(seen[0].host.as_deref());
            assert_eq!(shown, Some("api.example"));
        }
    }
}

#[tokio::test]
async fn a_certificate_for_another_name_is_an_error_that_nothing_was_sent_for() {
    let authority = Authority::new();
    let server = Server::settings()
        .tls(authority.server(&["other.example"]))
        .start();
    let tls = authority.trust(&["h2"]);
    let client = Client::builder("https://api.example")
        .endpoints([server.address()])
        .retry(quick_retry())
        .build_reqwest(move |_| client().tls_backend_preconfigured(tls.clone()))
        .unwrap();
    let error = client.get("/").send().await.unwrap_err();
    assert!(!error.may_have_happened());
    assert_eq!(error.report().attempts().len(), 1, "{error}");
    assert_eq!(server.connections(), 1, "a certificate does not get better");
}

#[tokio::test]
async fn a_redirect_is_returned_and_not_followed() {
    let server = Server::start([Reply::status(302).header("location", "/elsewhere")]);
    let response = http1(over([server.address()]))
        .get("/")
        .send()
        .await
        .unwrap();
    assert_eq!((response.status().as_u16(), server.seen().len()), (302, 1));
}
