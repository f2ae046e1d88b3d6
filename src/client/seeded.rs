use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as HttpBody;
use http_body_util::{BodyExt, combinators::UnsyncBoxBody};
use tower::{Layer, Service, ServiceExt, util::BoxCloneSyncService};

use super::{
    builder::{Balanced, ClientBuilder},
    view::View,
};
use crate::{
    balance::EndpointStatus,
    breaker::Breaker,
    call::Body,
    classify::Classifier,
    discover::Endpoint,
    error::{BoxError, Error, InvalidSetting},
    retry::Budget,
    rng::Random,
};

/// The whole stack behind one type.
type Whole = BoxCloneSyncService<Request<Body>, Response<UnsyncBoxBody<Bytes, BoxError>>, Error>;

/// The ready-made stack over services of a test, every random number of it from one seed: made by [`seeded`].
#[derive(Clone)]
pub struct SeededStack {
    service: Whole,
    view: Arc<View>,
}

/// Settings of the ready-made stack, with the defaults of every client, for tests: its jitter, picks, open times of the
/// circuit and idempotency keys are drawn by this seed.
///
/// Its origin is `http://service.test`, and its endpoints are `10.0.0.1:80`, `10.0.0.2:80` and `10.0.0.3:80` unless
/// others are set. [`build_over`](ClientBuilder::build_over) puts it around services of yours.
///
/// ```
/// # tokio_test::block_on(async {
/// use evenkeel::testkit::{Act, Scripted, seeded, story};
/// use evenkeel::Body;
///
/// tokio::time::pause();
/// let server = Scripted::new([Act::refuse()]);
/// let instance = server.clone();
/// let stack = seeded(1).build_over(move |_endpoint| Ok(instance.clone())).unwrap();
/// let request = http::Request::get("/price").body(Body::empty()).unwrap();
/// let answer = stack.send(request).await;
/// story(&answer).status(200).attempts(["could not connect", "200"]);
/// server.recorder().assert_attempts(2);
/// # });
/// ```
pub fn seeded(seed: u64) -> ClientBuilder<Balanced> {
    ClientBuilder::balanced("http://service.test")
        .endpoints(["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"])
        .random(Random::seeded(seed))
}

impl ClientBuilder<Balanced> {
    /// Builds the stack around services of a test, one for each endpoint: see [`seeded`](crate::testkit::seeded).
    ///
    /// Settings of connections mean nothing here. Errors are read as those of layers by hand are: by their io kinds.
    ///
    /// # Errors
    /// The first setting that is out of range, with its value and what is allowed.
    pub fn build_over<S, RB, F>(mut self, make: F) -> Result<SeededStack, InvalidSetting>
    where
        S: Service<Request<Body>, Response = Response<RB>> + Clone + Send + Sync + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send,
        RB: HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
        F: Fn(&Endpoint) -> Result<S, BoxError> + Send + Sync + 'static,
    {
        let seed = self.settings.random.next_u64();
        let keys = self.settings.keys.take();
        self.settings.keys = keys.map(|keys| keys.seeded_unless_set(seed));
        let prepared = self.prepared(&Classifier::default(), |_, _| Ok(()))?;
        let attempt = prepared.attempt;
        let made = move |endpoint: &Endpoint| Ok(attempt.layer(make(endpoint)?));
        let (service, view) = prepared.settings.over(prepared.balancer.build(made)?)?;
        let boxed = service
            .map_response(|response| response.map(|body| body.map_err(Into::into).boxed_unsync()));
        Ok(SeededStack {
            service: BoxCloneSyncService::new(boxed),
            view: Arc::new(view),
        })
    }
}

impl SeededStack {
    /// Makes a call.
    ///
    /// # Errors
    /// If there is no response.
    pub async fn send(
        &self,
        request: Request<Body>,
    ) -> Result<Response<UnsyncBoxBody<Bytes, BoxError>>, Error> {
        self.service.clone().oneshot(request).await
    }

    /// The circuit breaker, to look at, to watch and to force.
    #[must_use]
    pub fn circuit_breaker(&self) -> &Breaker {
        &self.view.breaker
    }

    /// The retry budget; `None` without one.
    #[must_use]
    pub fn budget(&self) -> Option<&Budget> {
        self.view.budget.as_ref()
    }

    /// How each endpoint stands.
    #[must_use]
    pub fn endpoints(&self) -> Vec<EndpointStatus> {
        (self.view.endpoints)()
    }
}

impl Service<Request<Body>> for SeededStack {
    type Response = Response<UnsyncBoxBody<Bytes, BoxError>>;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        self.service.call(request)
    }
}

impl fmt::Debug for SeededStack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SeededStack")
            .field("circuit_breaker", &self.view.breaker)
            .finish_non_exhaustive()
    }
}
