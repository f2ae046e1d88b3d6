use std::{
    net::SocketAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use http::HeaderValue;

use super::{
    http_service::{HttpService, Route},
    tls::{self, NoTls},
};
use crate::{
    client::{DEFAULT_CONNECT_TIMEOUT, prepared::NotItself},
    discover::{Endpoint, Origin, Scheme},
    error::{BoxError, InvalidSetting},
};

/// How long a call waits on an HTTP/2 connection on which nothing comes before the peer is asked whether it is there.
///
/// Below [`DEFAULT_DEADLINE`](crate::client::DEFAULT_DEADLINE), so that it is asked while the first call waits. Nobody asks while frames
/// come, nor while no call waits: a busy or an idle connection costs no ping.
const QUIET: Duration = Duration::from_secs(2);

/// How long the peer may take to say so; calls then get a connection of their own. Without it a connection whose
/// packets get lost, as behind a firewall that forgot it, would be kept for as long as calls are sent there.
///
/// Longer than a network takes to find another way: what was sent meanwhile is sent again after 0.2, 0.6, 1.4, 3 and
/// 6.2 s. The server's HTTP/2 answers by itself, so an application that is slow does not matter here.
const UNANSWERED: Duration = Duration::from_secs(8);

/// How the clients of all endpoints of one origin are built.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EndpointSettings {
    pub(crate) connect_timeout: Duration,
    /// Leaves the origin's port out of the authority where it differs from the endpoint's.
    pub(crate) authority_without_port: bool,
}

impl Default for EndpointSettings {
    fn default() -> Self {
        Self {
            connect_timeout: DEFAULT_CONNECT_TIMEOUT,
            authority_without_port: false,
        }
    }
}

/// Why an endpoint cannot be called under its origin.
#[derive(Debug, thiserror::Error)]
enum EndpointError {
    #[error(
        "origin {origin} names another port than its endpoint {endpoint}, and over https with HTTP/2 the authority \
         can show no other port than the one connected to: leave the port out of the origin, or call \
         authority_without_port()"
    )]
    PortDiffers {
        origin: Origin,
        endpoint: SocketAddr,
    },
    #[error(transparent)]
    NotItself(#[from] NotItself),
    #[error("the function that makes the endpoints' client builders panicked for {endpoint}")]
    Panicked { endpoint: SocketAddr },
    #[error(transparent)]
    NoTls(#[from] NoTls),
    #[error("the client for {endpoint} could not be built: {source}")]
    Build {
        endpoint: SocketAddr,
        source: reqwest::Error,
    },
}

/// The client of one endpoint: the user's builder, with the connection led to the endpoint's address while
/// URL, `Host` or `:authority`, and TLS server name stay the origin's.
///
/// Building one with TLS takes milliseconds: it belongs on a blocking thread.
///
/// # Errors
///
/// If the endpoint cannot be called under this origin, the factory panics, or the client does not build.
pub(crate) fn endpoint_client(
    origin: &Origin,
    endpoint: &Endpoint,
    settings: EndpointSettings,
    factory: &(dyn Fn(&Endpoint) -> reqwest::ClientBuilder + Send + Sync),
) -> Result<HttpService, BoxError> {
    Ok(built(origin, endpoint, settings, factory)?)
}

fn built(
    origin: &Origin,
    endpoint: &Endpoint,
    settings: EndpointSettings,
    factory: &(dyn Fn(&Endpoint) -> reqwest::ClientBuilder + Send + Sync),
) -> Result<HttpService, EndpointError> {
    let address = endpoint.address();
    let route = route(origin, address, settings.authority_without_port)?;
    tls::check(origin.scheme().as_str())?;
    let build = || builder(origin, address, settings, factory(endpoint)).build();
    // rustls without a provider makes `build` panic, beside what the factory may do.
    let client = catch_unwind(AssertUnwindSafe(build))
        .or(Err(EndpointError::Panicked { endpoint: address }))?
        .map_err(|source| EndpointError::Build {
            endpoint: address,
            source,
        })?;
    Ok(match route {
        Some(route) => HttpService::routed(client, route),
        None => HttpService::new(client),
    })
}

/// Overrides what would break the stack: a proxy chooses the address, redirects and retries hide attempts, a lost
/// connection is kept.
fn builder(
    origin: &Origin,
    address: SocketAddr,
    settings: EndpointSettings,
    builder: reqwest::ClientBuilder,
) -> reqwest::ClientBuilder {
    let builder = builder
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .connect_timeout(settings.connect_timeout)
        .http2_keep_alive_interval(QUIET)
        .http2_keep_alive_timeout(UNANSWERED);
    // An address is never looked up, so there is nothing to override.
    if origin.ip().is_some() {
        builder
    } else {
        builder.resolve(origin.host(), address)
    }
}

fn route(
    origin: &Origin,
    endpoint: SocketAddr,
    without_port: bool,
) -> Result<Option<Route>, EndpointError> {
    let same_port = origin.port_or_default() == endpoint.port();
    NotItself::check(origin, endpoint)?;
    let Some(port) = origin.port().filter(|_| !same_port) else {
        return Ok(None);
    };
    let host = match (without_port, origin.scheme()) {
        (true, _) => None,
        (false, Scheme::Http) => HeaderValue::try_from(origin.authority()).ok(),
        (false, Scheme::Https) => {
            return Err(EndpointError::PortDiffers {
                origin: origin.clone(),
                endpoint,
            });
        }
    };
    Ok(Some(Route { port, host }))
}

/// Refuses, when a client is built, an endpoint that cannot be called under its origin.
///
/// # Errors
///
/// With the port or the address that differs.
pub(crate) fn check_route(
    origin: &Origin,
    endpoint: &Endpoint,
    settings: EndpointSettings,
) -> Result<(), InvalidSetting> {
    let routed = route(origin, endpoint.address(), settings.authority_without_port);
    routed.map(drop).map_err(|error| {
        InvalidSetting::new(
            "endpoints",
            error,
            "endpoints that can be called under the origin's name",
        )
    })
}

/// Refuses, when a client is built, an `https` origin that reqwest was built without TLS for.
///
/// # Errors
///
/// With the Cargo line that is missing.
pub(crate) fn check_tls(origin: &Origin) -> Result<(), InvalidSetting> {
    tls::check(origin.scheme().as_str())
        .map_err(|NoTls| InvalidSetting::new("origin", origin, tls::REMEDY))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use http::Request;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };
    use tower::ServiceExt;

    use super::*;
    use crate::call::Body;

    fn origin(text: &str) -> Origin {
        Origin::parse(text).expect("an origin")
    }

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    fn user_builder(_: &Endpoint) -> reqwest::ClientBuilder {
        // Whoever was first has installed it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        reqwest::Client::builder()
    }

    /// Calls `origin` at a server of its own and returns the request head and the response.
    async fn called(origin: &Origin, settings: EndpointSettings) -> (String, reqwest::Response) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let endpoint = Endpoint::new(listener.local_addr().expect("bound"));
        let service =
            endpoint_client(origin, &endpoint, settings, &user_builder).expect("a client");
        let server = tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.expect("accepted");
            let mut head = vec![0; 1024];
            let length = socket.read(&mut head).await.expect("read");
            socket
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                .await
                .expect("written");
            String::from_utf8_lossy(&head[..length]).to_ascii_lowercase()
        });
        let request = Request::get(format!("{origin}/charges?page=2"))
            .body(Body::empty())
            .expect("a request");
        let response = service.oneshot(request).await.expect("answers");
        (server.await.expect("served"), response.into())
    }

    // ADR-03, nokia/restful#128
    #[tokio::test]
    async fn an_origin_without_a_port_keeps_its_host_at_an_endpoint_of_any_port() {
        let (head, response) = called(
            &origin("http://payments.internal"),
            EndpointSettings::default(),
        )
        .await;
        assert!(head.contains("\r\nhost: payments.internal\r\n"), "{head}");
        assert_eq!(
            response.url().as_str(),
            "http://payments.internal/charges?page=2"
        );
    }

    // ADR-03, nokia/restful#128
    #[tokio::test]
    async fn an_origin_with_another_port_keeps_it_in_host_and_url() {
        let (head, response) = called(
            &origin("http://payments.internal:1"),
            EndpointSettings::default(),
        )
        .await;
        assert!(head.contains("\r\nhost: payments.internal:1\r\n"), "{head}");
        assert_eq!(
            response.url().as_str(),
            "http://payments.internal:1/charges?page=2"
        );
    }

    #[tokio::test]
    async fn the_authority_shows_no_port_where_that_was_asked_for() {
        let settings = EndpointSettings {
            authority_without_port: true,
            ..EndpointSettings::default()
        };
        let (head, response) = called(&origin("http://payments.internal:1"), settings).await;
        assert!(head.contains("\r\nhost: payments.internal\r\n"), "{head}");
        assert_eq!(
            response.url().as_str(),
            "http://payments.internal:1/charges?page=2"
        );
    }

    #[test]
    fn the_port_leaves_the_url_only_where_it_differs() {
        let endpoint = address("10.0.0.1:8443");
        for same in [
            "https://payments.internal",
            "https://payments.internal:8443",
        ] {
            assert!(route(&origin(same), endpoint, false).expect(same).is_none());
        }
        let error = route(&origin("https://payments.internal:9443"), endpoint, false)
            .expect_err("h2 shows the port");
        let error = error.to_string();
        assert!(
            error.contains("authority_without_port()") && error.contains("10.0.0.1:8443"),
            "{error}"
        );
        let route =
            route(&origin("https://payments.internal:9443"), endpoint, true).expect("asked for");
        assert_eq!(
            route.map(|route| (route.port, route.host)),
            Some((9443, None))
        );
    }

    // ADR-03: nothing can stand in for an address.
    #[test]
    fn an_origin_that_is_an_address_has_only_itself_as_endpoint() {
        let ip = origin("http://[::1]:8080");
        assert!(
            route(&ip, address("[::1]:8080"), false)
                .expect("itself")
                .is_none()
        );
        for other in ["[::1]:8081", "127.0.0.1:8080"] {
            let error = route(&ip, address(other), true)
                .expect_err(other)
                .to_string();
            assert!(
                error.contains("http://[::1]:8080") && error.contains(other),
                "{error}"
            );
        }
    }

    #[test]
    fn a_factory_that_panics_is_an_error_and_harms_nothing() {
        let calls = AtomicU32::new(0);
        let factory = |endpoint: &Endpoint| {
            assert!(
                calls.fetch_add(1, Ordering::Relaxed) > 0,
                "the first call panics"
            );
            user_builder(endpoint)
        };
        let endpoint = Endpoint::new(address("10.0.0.1:80"));
        let origin = origin("http://payments.internal");
        let error = endpoint_client(&origin, &endpoint, EndpointSettings::default(), &factory)
            .expect_err("panics");
        assert!(error.to_string().contains("10.0.0.1:80"), "{error}");
        assert!(endpoint_client(&origin, &endpoint, EndpointSettings::default(), &factory).is_ok());
    }

    // RUN-02, tower-rs/tower#139
    #[test]
    fn clients_are_built_and_dropped_outside_of_a_runtime() {
        let endpoint = Endpoint::new(address("10.0.0.1:443"));
        let origin = origin("https://payments.internal");
        drop(
            endpoint_client(
                &origin,
                &endpoint,
                EndpointSettings::default(),
                &user_builder,
            )
            .expect("a client"),
        );
        assert!(check_tls(&origin).is_ok());
    }
}
