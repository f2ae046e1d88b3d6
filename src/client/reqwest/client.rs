use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::TryFutureExt;
use http::{Method, Request, Response};
use tower::{Service, ServiceExt};

use super::{
    per_origin::{Entry, PerOrigin},
    request::{self, RequestBuilder},
    response::into_response,
    target::Home,
};
use crate::{
    balance::EndpointStatus,
    breaker::Breaker,
    call::{Body, CallPolicy},
    client::view::View,
    discover::Origin,
    error::{BoxError, Error, InvalidSetting},
    retry::Budget,
};

/// The answer of a call, behind one type.
type Answer = Pin<Box<dyn Future<Output = Result<reqwest::Response, Error>> + Send>>;

/// The whole stack behind one type; a clone costs a reference count.
#[derive(Clone)]
pub(crate) struct ClientService(Arc<dyn Calls>);

trait Calls: Send + Sync {
    fn call(&self, request: Request<Body>) -> Answer;
}

impl ClientService {
    pub(super) fn new<S, B>(service: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<B>, Error = Error>
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        Self(Arc::new(service))
    }
}

/// Each call takes a clone of the stack.
impl<S, B> Calls for S
where
    S: Service<Request<Body>, Response = Response<B>, Error = Error>
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    fn call(&self, request: Request<Body>) -> Answer {
        Box::pin(self.clone().oneshot(request).map_ok(into_response))
    }
}

/// An HTTP client that keeps calls on an even keel: the ready-made stack of all layers around reqwest.
///
/// A clone is cheap and shares everything. Requests are written as with reqwest, and
/// [`send`](RequestBuilder::send) answers with a [`reqwest::Response`]: one of any status is a response, as it
/// is with reqwest, and what the stack did about it is the [`Report`](crate::Report) in its extensions.
///
/// A client of one origin takes paths and URLs of that origin; one around an existing reqwest client takes
/// absolute URLs.
#[derive(Clone)]
pub struct Client {
    /// One for all clones: one more costs a reference count.
    shared: Arc<Shared>,
}

struct Shared {
    stacks: Stacks,
    home: Option<Home>,
    view: Option<View>,
}

/// The stack of the client's origin, or of each.
pub(super) enum Stacks {
    One(ClientService),
    PerOrigin(PerOrigin),
}

impl Client {
    /// Puts the edge on a composed stack.
    ///
    /// # Errors
    ///
    /// If the origin's host cannot stand in a URL.
    pub(super) fn over(
        stacks: Stacks,
        origin: Option<Origin>,
        view: Option<View>,
    ) -> Result<Self, InvalidSetting> {
        let shared = Shared {
            stacks,
            home: origin.map(Home::new).transpose()?,
            view,
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// The origin that all calls go to; `None` around an existing reqwest client.
    #[must_use]
    pub fn origin(&self) -> Option<&Origin> {
        self.home().map(Home::origin)
    }

    /// The circuit breaker of the origin, to look at, to watch and to force; `None` around an existing reqwest
    /// client, which has one for each origin.
    #[must_use]
    pub fn circuit_breaker(&self) -> Option<&Breaker> {
        self.view().map(|view| &view.breaker)
    }

    /// The retry budget of the origin; `None` without one, and around an existing reqwest client.
    #[must_use]
    pub fn budget(&self) -> Option<&Budget> {
        self.view().and_then(|view| view.budget.as_ref())
    }

    /// How each endpoint of the origin stands, those that are left out included with the reason; empty around
    /// an existing reqwest client, and before the first call.
    #[must_use]
    pub fn endpoints(&self) -> Vec<EndpointStatus> {
        self.view()
            .map(|view| (view.endpoints)())
            .unwrap_or_default()
    }

    /// Starts a `GET` of a path, or of a URL.
    pub fn get(&self, url: impl AsRef<str>) -> RequestBuilder {
        self.request(Method::GET, url)
    }

    /// Starts a `POST`. It is retried only if it was not processed, or carries an idempotency key.
    pub fn post(&self, url: impl AsRef<str>) -> RequestBuilder {
        self.request(Method::POST, url)
    }

    /// Starts a `PUT`.
    pub fn put(&self, url: impl AsRef<str>) -> RequestBuilder {
        self.request(Method::PUT, url)
    }

    /// Starts a `PATCH`. It is retried only if it was not processed, or carries an idempotency key.
    pub fn patch(&self, url: impl AsRef<str>) -> RequestBuilder {
        self.request(Method::PATCH, url)
    }

    /// Starts a `DELETE`.
    pub fn delete(&self, url: impl AsRef<str>) -> RequestBuilder {
        self.request(Method::DELETE, url)
    }

    /// Starts a `HEAD`.
    pub fn head(&self, url: impl AsRef<str>) -> RequestBuilder {
        self.request(Method::HEAD, url)
    }

    /// Starts a request of any method to a path or a URL.
    ///
    /// One that this client does not go to (of another origin, relative where there is none) is reported by
    /// [`send`](RequestBuilder::send), before anything is sent.
    pub fn request(&self, method: Method, url: impl AsRef<str>) -> RequestBuilder {
        RequestBuilder::new(self.clone(), method, url.as_ref())
    }

    /// Sends a request that was built with reqwest.
    ///
    /// A timeout set on the request itself stays reqwest's: it holds for each attempt, its body included.
    ///
    /// # Errors
    ///
    /// As [`send`](RequestBuilder::send).
    pub async fn execute(&self, request: reqwest::Request) -> Result<reqwest::Response, Error> {
        self.execute_with(request, CallPolicy::new()).await
    }

    /// Sends a request that was built with reqwest, under a policy of its own.
    ///
    /// # Errors
    ///
    /// As [`send`](RequestBuilder::send).
    pub async fn execute_with(
        &self,
        request: reqwest::Request,
        policy: CallPolicy,
    ) -> Result<reqwest::Response, Error> {
        let request = request::taken_over(self.home(), request, policy)?;
        self.call(request)?.await
    }

    /// Begins a call.
    ///
    /// # Errors
    ///
    /// If the request has no origin.
    pub(super) fn call(&self, request: Request<Body>) -> Result<Calling, Error> {
        Ok(match &self.shared.stacks {
            Stacks::One(stack) => Calling {
                answer: stack.0.call(request),
                _origin: None,
            },
            Stacks::PerOrigin(stacks) => {
                let entry = stacks.entry(&request)?;
                Calling {
                    answer: entry.stack().0.call(request),
                    _origin: Some(entry),
                }
            }
        })
    }

    pub(super) fn home(&self) -> Option<&Home> {
        self.shared.home.as_ref()
    }

    fn view(&self) -> Option<&View> {
        self.shared.view.as_ref()
    }
}

/// A call on its way.
pub(super) struct Calling {
    answer: Answer,
    /// Not idle as long as the call runs.
    _origin: Option<Arc<Entry>>,
}

impl Future for Calling {
    type Output = Result<reqwest::Response, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.answer.as_mut().poll(cx)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let origin = self.origin().map(ToString::to_string);
        f.debug_struct("Client")
            .field("origin", &origin)
            .finish_non_exhaustive()
    }
}
