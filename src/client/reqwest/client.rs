use std::{fmt, sync::Arc};

use http::{Method, Request, Response};
use tower::{ServiceExt, util::BoxCloneSyncService};

use super::{
    request::{self, RequestBuilder},
    response::ClientBody,
    target::Home,
};
use crate::{
    call::{Body, CallPolicy},
    discover::Origin,
    error::{Error, InvalidSetting},
};

/// The whole stack behind one type.
pub(crate) type ClientService = BoxCloneSyncService<Request<Body>, Response<ClientBody>, Error>;

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
    service: ClientService,
    home: Option<Arc<Home>>,
}

impl Client {
    /// Puts the edge on a composed stack.
    ///
    /// # Errors
    ///
    /// If the origin's host cannot stand in a URL.
    pub(crate) fn over(
        service: ClientService,
        origin: Option<Origin>,
    ) -> Result<Self, InvalidSetting> {
        let home = origin.map(Home::new).transpose()?.map(Arc::new);
        Ok(Self { service, home })
    }

    /// The origin that all calls go to; `None` around an existing reqwest client.
    #[must_use]
    pub fn origin(&self) -> Option<&Origin> {
        self.home().map(Home::origin)
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
    pub async fn execute(
        &self,
        request: reqwest::Request,
        policy: CallPolicy,
    ) -> Result<reqwest::Response, Error> {
        self.call(request::taken_over(self.home(), request, policy)?)
            .await
    }

    pub(super) async fn call(&self, request: Request<Body>) -> Result<reqwest::Response, Error> {
        let response = self.service.clone().oneshot(request).await?;
        Ok(response.into())
    }

    pub(super) fn home(&self) -> Option<&Home> {
        self.home.as_deref()
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
