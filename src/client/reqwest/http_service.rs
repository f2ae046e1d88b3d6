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
use crate::error::{BoxError, Error, ErrorKind, InvalidSetting};

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
/// The client's own redirects and retries happen inside one call of this service, unseen by the layers:
/// build it with `.redirect(reqwest::redirect::Policy::none())` and `.retry(reqwest::retry::never())`.
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
        let mut request = converted(request.map(body::into_reqwest))?;
        tls::check(request.url().scheme())?;
        if let Some(route) = &self.route {
            route.apply(&mut request);
        }
        Ok(request)
    }
}

/// Moves a request over; its URL is parsed only if the client's edge did not send one along.
fn converted(request: Request<reqwest::Body>) -> Result<reqwest::Request, Error> {
    let known = request
        .extensions()
        .get::<Arc<Known>>()
        .filter(|known| known.is_of(request.uri()));
    let Some(known) = known.cloned() else {
        absolute(request.uri())?;
        return request.try_into().map_err(evidence::witness);
    };
    let (parts, body) = request.into_parts();
    let mut request = reqwest::Request::new(parts.method, known.url.clone());
    *request.version_mut() = parts.version;
    *request.headers_mut() = parts.headers;
    *request.body_mut() = Some(body);
    *request.timeout_mut() = known.timeout;
    Ok(request)
}

fn absolute(uri: &http::Uri) -> Result<(), Error> {
    if uri.scheme().is_some() && uri.authority().is_some() {
        return Ok(());
    }
    let allowed = "an absolute URI such as http://host/path: this service knows no origin";
    let invalid = InvalidSetting::new("uri", target::shown(&uri.to_string()), allowed);
    Err(Error::new(ErrorKind::InvalidCall).with_source(invalid))
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
                None => Poll::Pending,
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
    let mut carrier = http::response::Builder::new().url(url);
    if let Some(extensions) = carrier.extensions_mut() {
        response.extensions_mut().extend(mem::take(extensions));
    }
    response
}
