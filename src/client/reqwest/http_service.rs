use std::{
    fmt,
    future::Future,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header::HOST};
use http_body::Body as HttpBody;
use pin_project_lite::pin_project;
use reqwest::ResponseBuilderExt;
use tower::Service;

use super::{body, evidence, target, target::Known, tls};
use crate::{
    dispatch::polled_after_end,
    error::{BoxError, Error, ErrorKind, InvalidSetting},
};

/// A [`reqwest::Client`] as a service of `http` requests, to stand under layers built by hand.
///
/// Takes any body of `http_body` with `Data = Bytes` that is `Send`: [`evenkeel::Body`](crate::Body),
/// [`reqwest::Body`], `Full`, `Empty`, boxed ones. The URI is absolute. The response keeps its URL for
/// [`reqwest::Response::from`].
///
/// Errors are [`evenkeel::Error`](crate::Error) with the [`reqwest::Error`] as source and its evidence read
/// off: layers above know without a further setting whether a request was sent. The source's URL loses its
/// query and user, which may be secrets.
///
/// The client's own redirects and retries happen inside one call of this service, unseen by the layers, and
/// what an error proves is about the last of those hops alone: build the client with
/// `.redirect(reqwest::redirect::Policy::none())` and `.retry(reqwest::retry::never())`.
///
/// ```
/// use std::time::Duration;
///
/// use evenkeel::reqwest::HttpService;
/// use tower::ServiceBuilder;
///
/// # fn build(client: reqwest::Client) {
/// let service = ServiceBuilder::new()
///     .concurrency_limit(64)
///     .service(HttpService::new(client));
/// # let _: Box<dyn tower::Service<http::Request<evenkeel::Body>, Error = _, Response = _, Future = _>> = Box::new(service);
/// # }
/// ```
#[derive(Clone)]
pub struct HttpService {
    client: reqwest::Client,
    route: Option<Arc<Route>>,
}

/// How requests of an origin reach an endpoint at another port: the origin's port leaves the URL, since one
/// that stands there is always the port that is connected to.
#[derive(Debug)]
pub(super) struct Route {
    /// The port that callers see.
    pub(super) port: u16,
    /// The `Host` header that shows the port all the same.
    pub(super) host: Option<HeaderValue>,
}

impl HttpService {
    /// Wraps a client. One that was built without TLS answers `https` with an error that names the remedy.
    #[must_use]
    pub fn new(client: reqwest::Client) -> Self {
        Self {
            client,
            route: None,
        }
    }

    pub(super) fn routed(client: reqwest::Client, route: Route) -> Self {
        Self {
            client,
            route: Some(Arc::new(route)),
        }
    }

    /// The client within.
    #[must_use]
    pub fn get_ref(&self) -> &reqwest::Client {
        &self.client
    }

    fn prepare<B>(&self, request: Request<B>) -> Result<reqwest::Request, Error>
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let mut request = converted(request)?;
        tls::check(request.url().scheme())?;
        if let Some(route) = &self.route {
            route.apply(&mut request);
        }
        Ok(request)
    }
}

/// Moves a request over; its URL is parsed only if the client's edge did not send it along, or if a layer in
/// between changed the URI.
fn converted<B>(request: Request<B>) -> Result<reqwest::Request, Error>
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    absolute(request.uri())?;
    let Some(known) = Known::find(&request) else {
        let request = request.map(body::into_reqwest);
        return request.try_into().map_err(evidence::witness);
    };
    let unchanged = known.is_of(request.uri());
    let (parts, body) = request.into_parts();
    let url = if unchanged {
        known.url.clone()
    } else {
        parsed(&parts.uri)?
    };
    let mut request = reqwest::Request::new(parts.method, url);
    *request.version_mut() = parts.version;
    *request.headers_mut() = parts.headers;
    *request.body_mut() = Some(body::into_reqwest(body));
    // To ask for the place of a timeout makes it.
    if known.timeout.is_some() {
        *request.timeout_mut() = known.timeout;
    }
    Ok(request)
}

fn parsed(uri: &http::Uri) -> Result<url::Url, Error> {
    let text = uri.to_string();
    text.parse().map_err(|error| {
        let shown = format!("{} ({error})", target::shown(&text));
        invalid_uri(shown, "a URI that is a URL")
    })
}

fn invalid_uri(shown: String, allowed: &'static str) -> Error {
    Error::new(ErrorKind::InvalidCall).with_source(InvalidSetting::new("uri", shown, allowed))
}

fn absolute(uri: &http::Uri) -> Result<(), Error> {
    if uri.scheme().is_some() && uri.authority().is_some() {
        return Ok(());
    }
    let shown = target::shown(&uri.to_string());
    Err(invalid_uri(
        shown,
        "an absolute URI such as http://host/path: this service knows no origin",
    ))
}

impl Route {
    fn apply(&self, request: &mut reqwest::Request) {
        // A URL with a host takes any port.
        let _ = request.url_mut().set_port(None);
        if let Some(host) = &self.host {
            request
                .headers_mut()
                .entry(HOST)
                .or_insert_with(|| host.clone());
        }
    }
}

impl<B> Service<Request<B>> for HttpService
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<reqwest::Body>;
    type Error = Error;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Service::<reqwest::Request>::poll_ready(&mut self.client, cx).map_err(evidence::witness)
    }

    fn call(&mut self, request: Request<B>) -> ResponseFuture {
        let state = match self.prepare(request) {
            Ok(request) => State::Sending {
                pending: self.client.call(request),
            },
            Err(error) => State::Unsent { error: Some(error) },
        };
        ResponseFuture {
            state,
            port: self.route.as_ref().map(|route| route.port),
        }
    }
}

impl fmt::Debug for HttpService {
    /// Says nothing of the client's default headers, which may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpService")
            .field("route", &self.route)
            .finish_non_exhaustive()
    }
}

pin_project! {
    /// The answer of an [`HttpService`] on its way.
    ///
    /// # Panics
    /// If it is polled again after its end.
    pub struct ResponseFuture {
        #[pin]
        state: State,
        port: Option<u16>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State {
        Sending { #[pin] pending: <reqwest::Client as Service<reqwest::Request>>::Future },
        Unsent { error: Option<Error> },
    }
}

impl Future for ResponseFuture {
    type Output = Result<Response<reqwest::Body>, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        match this.state.project() {
            StateProj::Sending { pending } => Poll::Ready(
                ready!(pending.poll(cx))
                    .map(|response| received(response, *this.port))
                    .map_err(evidence::witness),
            ),
            StateProj::Unsent { error } => match error.take() {
                Some(error) => Poll::Ready(Err(error)),
                None => polled_after_end(),
            },
        }
    }
}

impl fmt::Debug for ResponseFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResponseFuture")
    }
}

/// Moves a response over and keeps its URL, as the caller knows it, where reqwest looks for it.
fn received(response: reqwest::Response, port: Option<u16>) -> Response<reqwest::Body> {
    let mut url = response.url().clone();
    if port.is_some() {
        // A URL with a host takes any port.
        let _ = url.set_port(port);
    }
    let mut response = Response::from(response);
    // Only a builder takes the URL: it is lent the extensions for that.
    let mut carrier = http::response::Builder::new();
    if let Some(extensions) = carrier.extensions_mut() {
        mem::swap(extensions, response.extensions_mut());
    }
    if let Some(extensions) = carrier.url(url).extensions_mut() {
        mem::swap(extensions, response.extensions_mut());
    }
    response
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::call::Body;

    fn known(uri: &str, timeout: Option<Duration>) -> Request<reqwest::Body> {
        let url = "http://payments.internal/charges?page=2"
            .parse()
            .expect("a URL");
        let mut request = Request::get(uri)
            .body(reqwest::Body::from(""))
            .expect("a request");
        request
            .extensions_mut()
            .insert(Arc::new(Known { url, timeout }));
        request
            .headers_mut()
            .insert("x-one", HeaderValue::from_static("1"));
        request
    }

    #[test]
    fn a_known_url_and_its_timeout_are_taken_as_they_are() {
        let timeout = Some(Duration::from_secs(7));
        let request =
            converted(known("http://payments.internal/charges?page=2", timeout)).expect("valid");
        assert_eq!(
            request.url().as_str(),
            "http://payments.internal/charges?page=2"
        );
        assert_eq!(request.timeout().copied(), timeout);
        assert_eq!(request.headers()["x-one"], "1");
    }

    #[test]
    fn a_uri_that_a_layer_changed_goes_before_the_known_url() {
        let timeout = Some(Duration::from_secs(7));
        let request =
            converted(known("http://payments.internal/charges?signed=1", timeout)).expect("valid");
        assert_eq!(
            request.url().as_str(),
            "http://payments.internal/charges?signed=1"
        );
        assert_eq!(request.timeout().copied(), timeout);
        assert!(converted(known("/charges", timeout)).is_err());
    }

    #[test]
    fn a_request_of_reqwest_keeps_its_timeout_on_the_way_through_http() {
        let mut theirs = reqwest::Request::new(
            http::Method::GET,
            "http://api.example/".parse().expect("a URL"),
        );
        *theirs.timeout_mut() = Some(Duration::from_secs(7));
        let request: Request<reqwest::Body> = theirs.try_into().expect("a URI");
        let request = converted(request).expect("valid");
        assert_eq!(request.timeout().copied(), Some(Duration::from_secs(7)));
    }

    #[test]
    fn the_service_takes_any_body_and_shows_no_default_header() {
        fn takes<B>(_: &HttpService)
        where
            HttpService: Service<Request<B>>,
        {
        }
        // Whoever was first has installed it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut headers = http::HeaderMap::new();
        headers.insert("x-key", HeaderValue::from_static("hunter2"));
        let client = reqwest::Client::builder()
            .default_headers(headers)
            .build()
            .expect("a client");
        let service = HttpService::new(client);
        takes::<Body>(&service);
        takes::<reqwest::Body>(&service);
        takes::<String>(&service);
        takes::<http_body_util::Full<Bytes>>(&service);
        takes::<http_body_util::combinators::UnsyncBoxBody<Bytes, BoxError>>(&service);
        assert!(!format!("{service:?}").contains("hunter2"));
    }
}
