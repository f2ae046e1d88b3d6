use std::sync::Arc;

use tower::Layer;

use super::body::Watched;
use super::handle::Breaker;
use super::service::CircuitBreakerService;
use crate::classify::Classifier;

/// Puts a circuit breaker before a service.
///
/// Place it below the retry layer and above the balancer and the attempt timeout; see the
/// [module](crate::breaker) for what counts. Services made by one layer, and by layers of one
/// [`Breaker`], share its circuit.
///
/// ```
/// use std::time::Duration;
/// use evenkeel::{AttemptTimeoutLayer, Body, Breaker, CircuitBreakerLayer, Error};
/// use http::{Request, Response};
/// use tower::{ServiceBuilder, service_fn};
///
/// let breaker = Breaker::count(5, Duration::from_secs(10))?;
/// let service = ServiceBuilder::new()
///     .layer(CircuitBreakerLayer::new(breaker.clone()))
///     .layer(AttemptTimeoutLayer::new(Duration::from_millis(800))?)
///     .service(service_fn(|_: Request<Body>| async { Ok::<_, Error>(Response::new(Body::empty())) }));
/// # let _ = service;
/// # Ok::<(), evenkeel::InvalidSetting>(())
/// ```
#[derive(Clone, Debug)]
pub struct CircuitBreakerLayer {
    watched: Arc<Watched>,
}

impl CircuitBreakerLayer {
    /// Before the circuit of this breaker.
    #[must_use]
    pub fn new(breaker: Breaker) -> Self {
        let classifier = Classifier::default();
        Self {
            watched: Arc::new(Watched {
                breaker,
                classifier,
            }),
        }
    }

    /// Reads responses and errors by this classifier; the one of the retry layer, best.
    ///
    /// **Default**: by HTTP status and io error kinds.
    #[must_use]
    pub fn classifier(self, classifier: Classifier) -> Self {
        let breaker = self.watched.breaker.clone();
        Self {
            watched: Arc::new(Watched {
                breaker,
                classifier,
            }),
        }
    }
}

impl<S: Clone + Send + Sync + 'static> Layer<S> for CircuitBreakerLayer {
    type Service = CircuitBreakerService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        CircuitBreakerService::new(inner, Arc::clone(&self.watched))
    }
}
