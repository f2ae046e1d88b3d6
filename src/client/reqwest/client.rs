use std::{fmt, sync::Arc};

use bytes::Bytes;
use http::{Method, Request, Response};
use tower::{Service, ServiceExt, util::BoxCloneSyncService};

use super::{
    per_origin::PerOrigin,
    request::{self, RequestBuilder},
    response::{self, ClientBody},
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

/// The whole stack behind one type.
pub(crate) type ClientService = BoxCloneSyncService<Request<Body>, Response<ClientBody>, Error>;

/// The one box of the ready-made stack.
pub(super) fn boxed<S, B>(service: S) -> ClientService
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
    BoxCloneSyncService::new(service.map_response(response::boxed))
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
    stacks: Arc<Stacks>,
    home: Option<Arc<Home>>,
    view: Option<Arc<View>>,
}

/// What clones of a client share. Each call takes a clone of its stack, so that one of the client costs a reference
/// count.
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
        let home = origin.map(Home::new).transpose()?.map(Arc::new);
        Ok(Self {
            stacks: Arc::new(stacks),
            home,
            view: view.map(Arc::new),
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
        self.view.as_ref().map(|view| &view.breaker)
    }

    /// The retry budget of the origin; `None` without one, and around an existing reqwest client.
    #[must_use]
    pub fn budget(&self) -> Option<&Budget> {
        self.view.as_ref().and_then(|view| view.budget.as_ref())
    }

    /// How each endpoint of the origin stands, those that are left out included with the reason; empty around
    /// an existing reqwest client, and before the first call.
    #[must_use]
    pub fn endpoints(&self) -> Vec<EndpointStatus> {
        self.view
            .as_ref()
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
        self.call(request).await
    }

    pub(super) async fn call(&self, request: Request<Body>) -> Result<reqwest::Response, Error> {
        let response = match &*self.stacks {
            Stacks::One(stack) => called(stack, request).await,
            Stacks::PerOrigin(stacks) => {
                // Kept while the call runs: so its origin is not idle.
                let entry = stacks.entry(&request)?;
                called(entry.stack(), request).await
            }
        };
        Ok(response?.into())
    }

    pub(super) fn home(&self) -> Option<&Home> {
        self.home.as_deref()
    }
}

async fn called(
    stack: &ClientService,
    request: Request<Body>,
) -> Result<Response<ClientBody>, Error> {
    stack.clone().ready().await?.call(request).await
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let origin = self.origin().map(ToString::to_string);
        f.debug_struct("Client")
            .field("origin", &origin)
            .finish_non_exhaustive()
    }
}
