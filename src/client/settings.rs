use std::{fmt, time::Duration};

use super::stamp::{BeforeAttempt, Stamp, StampLayer};
use crate::{
    breaker::{Breaker, BreakerConfig, CircuitBreakerLayer, CircuitBreakerService},
    call::DeadlineHeader,
    classify::Classifier,
    error::InvalidSetting,
    idempotency::{IdempotencyKeyLayer, IdempotencyKeyService, IdempotencyKeys},
    retry::{Budget, Retry, RetryLayer, RetryService},
    rng::Random,
    stack::Stack,
    timeout::{AttemptTimeoutLayer, DEFAULT_BODY_IDLE, DeadlineLayer, DeadlineService},
};

/// How long a whole call may take by default: 3 s.
///
/// Longer than any healthy call of one service to another, short enough that callers who wait for a dead
/// dependency do not pile up. Of gRPC calls that may stream it covers the time until the
/// [commit point](crate::commit).
pub const DEFAULT_DEADLINE: Duration = Duration::from_secs(3);

/// What the ready-made stacks are made of.
#[derive(Clone)]
pub(crate) struct Settings {
    /// `None`: as nobody chose it.
    pub(crate) deadline: Option<Duration>,
    /// `None`: as the transport has it.
    pub(crate) body_idle: Option<Duration>,
    pub(crate) attempt_timeout: Option<Duration>,
    /// Of HTTP: gRPC has its own.
    pub(crate) deadline_header: Option<String>,
    pub(crate) keys: Option<IdempotencyKeys>,
    pub(crate) retry: Retry,
    pub(crate) breaker: BreakerChoice,
    pub(crate) before_attempt: Option<BeforeAttempt>,
    pub(crate) classifier: Classifier,
    pub(crate) random: Random,
}

/// Which breaker stands before the whole destination.
#[derive(Clone, Debug)]
pub(crate) enum BreakerChoice {
    /// One of its own, by these rules.
    Rules(Box<BreakerConfig>),
    /// One that others see too.
    Shared(Breaker),
    /// None.
    Off,
}

type Stamped<S> = Stamp<CircuitBreakerService<S>>;
type Retried<S> = RetryService<Stamped<S>>;
type Keyed<S> = IdempotencyKeyService<Retried<S>>;
/// The whole stack over a service that makes single attempts.
pub(crate) type Deadlined<S> = DeadlineService<Keyed<S>>;

/// A stack, and the handles to what its layers share.
pub(crate) struct Composed<S> {
    pub(crate) service: S,
    pub(crate) breaker: Breaker,
    pub(crate) budget: Option<Budget>,
}

impl<S> Composed<S> {
    pub(crate) fn map<T>(self, service: impl FnOnce(S) -> T) -> Composed<T> {
        Composed {
            service: service(self.service),
            breaker: self.breaker,
            budget: self.budget,
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            deadline: None,
            body_idle: None,
            attempt_timeout: None,
            deadline_header: None,
            keys: None,
            retry: Retry::default(),
            breaker: BreakerChoice::Rules(Box::new(BreakerConfig::service_default())),
            before_attempt: None,
            classifier: Classifier::default(),
            random: Random::default(),
        }
    }
}

impl Settings {
    /// Checks what one layer alone cannot: limits that do not fit into one another.
    ///
    /// # Errors
    /// The first that does not fit.
    pub(crate) fn checked(self, connect_timeout: Option<Duration>) -> Result<Self, InvalidSetting> {
        let limit = self.attempt_limit();
        let limits = [
            ("ClientBuilder::deadline", self.deadline),
            ("ClientBuilder::attempt_timeout", self.attempt_timeout),
            ("ClientBuilder::body_idle", self.body_idle),
            ("ClientBuilder::connect_timeout", connect_timeout),
        ];
        if let Some((field, _)) = limits
            .iter()
            .find(|(_, limit)| *limit == Some(Duration::ZERO))
        {
            return Err(InvalidSetting::new(field, "0s", "above zero"));
        }
        if self.attempt_timeout.is_some() && limit > self.deadline() && limit != Duration::MAX {
            let value = format!("{limit:?}");
            let allowed = "at most the deadline";
            return Err(InvalidSetting::new(
                "ClientBuilder::attempt_timeout",
                value,
                allowed,
            ));
        }
        match connect_timeout {
            Some(connect) if connect >= limit => {
                let value = format!("{connect:?} with attempts of at most {limit:?}");
                let allowed = "below the attempt timeout";
                Err(InvalidSetting::new(
                    "ClientBuilder::connect_timeout",
                    value,
                    allowed,
                ))
            }
            _ => Ok(self),
        }
    }

    fn deadline(&self) -> Duration {
        self.deadline.unwrap_or(DEFAULT_DEADLINE)
    }

    /// The longest that an attempt may take if another is to follow.
    pub(crate) fn attempt_limit(&self) -> Duration {
        self.attempt_timeout.unwrap_or_else(|| self.deadline() / 2)
    }

    /// Whether functions of the application's look at requests on their way.
    #[cfg(feature = "tonic")]
    pub(crate) fn shows_requests(&self) -> bool {
        self.before_attempt.is_some() || self.keys.is_some()
    }

    /// Adds what the edge knows of its transport's errors, below what the user said.
    pub(crate) fn reading(mut self, transport: &Classifier) -> Self {
        self.classifier = self.classifier.over(transport);
        self
    }

    /// The innermost layer: it ends each attempt at its own limit or at the call's deadline.
    ///
    /// # Errors
    /// If the limit is zero, or the deadline's header has no name that can be.
    pub(crate) fn attempt_layer(&self) -> Result<AttemptTimeoutLayer, InvalidSetting> {
        let layer = self.attempt_timeout.map_or_else(
            || Ok(AttemptTimeoutLayer::default()),
            AttemptTimeoutLayer::new,
        )?;
        let Some(name) = &self.deadline_header else {
            return Ok(layer);
        };
        let header = DeadlineHeader::millis(name).map_err(|invalid| {
            InvalidSetting::new(
                "ClientBuilder::deadline_header",
                invalid.value(),
                invalid.allowed(),
            )
        })?;
        Ok(layer.header(header))
    }

    /// Puts the layers around the service that makes single attempts, which is the last to end at the
    /// deadline: so one timer serves them all.
    ///
    /// # Errors
    /// The first setting that is out of range.
    pub(crate) fn compose<S: Clone + Send + Sync + 'static>(
        &self,
        attempts: impl FnOnce(&Breaker) -> S,
    ) -> Result<Composed<Deadlined<S>>, InvalidSetting> {
        let classifier = || self.classifier.clone();
        let retry = self
            .retry
            .clone()
            .classifier(classifier())
            .random(self.random.clone())
            .build()?;
        let breaker = self.breaker()?;
        let keys = self.keys.clone().unwrap_or_else(|| self.callers_keys());
        let stamp = StampLayer::new(self.before_attempt.clone());
        let deadline = DeadlineLayer::new(self.deadline())?
            .body_idle(self.body_idle.unwrap_or(DEFAULT_BODY_IDLE))?;
        let deadline = match self.deadline {
            Some(_chosen) => deadline,
            None => deadline.preset(),
        };
        let service = Stack::new()
            .deadline(deadline.covered())
            .idempotency_key(IdempotencyKeyLayer::new(keys)?)
            .retry(RetryLayer::new(retry.clone()).covered())
            .layer(stamp)
            .circuit_breaker(CircuitBreakerLayer::new(breaker.clone()).classifier(classifier()))
            .service(attempts(&breaker));
        Ok(Composed {
            service,
            breaker,
            budget: retry.budget().cloned(),
        })
    }

    /// Without keys of ours: those that callers give their calls are sent and count all the same.
    fn callers_keys(&self) -> IdempotencyKeys {
        let (header, trusted) = self.retry.caller_keys();
        IdempotencyKeys::default()
            .methods([])
            .header(header.as_str())
            .trust_caller_keys(trusted)
    }

    fn breaker(&self) -> Result<Breaker, InvalidSetting> {
        match &self.breaker {
            BreakerChoice::Rules(config) => {
                let config = (**config).clone().random_unless_set(&self.random);
                config.build()
            }
            BreakerChoice::Shared(breaker) => Ok(breaker.clone()),
            BreakerChoice::Off => {
                let breaker = BreakerConfig::service_default().build()?;
                breaker.force_closed();
                Ok(breaker)
            }
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("deadline", &self.deadline)
            .field("body_idle", &self.body_idle)
            .field("attempt_timeout", &self.attempt_timeout)
            .field("deadline_header", &self.deadline_header)
            .field("keys", &self.keys)
            .field("retry", &self.retry)
            .field("breaker", &self.breaker)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::pending,
        io,
        sync::{
            Arc,
            atomic::{AtomicU32, Ordering::Relaxed},
        },
        task::Poll,
    };

    use bytes::Bytes;
    use futures::stream;
    use http::{Request, Response, StatusCode};
    use http_body::Frame;
    use http_body_util::{BodyExt, StreamBody};
    use tower::{Layer, ServiceExt, service_fn};

    use super::*;
    use crate::{
        breaker::State,
        call::{Body, CallPolicy, Deadline, InheritedDeadline},
        clock,
        commit::CommitLayer,
    };

    /// Polls a call once.
    async fn poll_once<F: Future>(call: std::pin::Pin<&mut F>) -> Poll<F::Output> {
        let mut call = Some(call);
        std::future::poll_fn(|cx| Poll::Ready(call.take().expect("polled once").poll(cx))).await
    }

    #[tokio::test(start_paused = true)]
    async fn at_most_one_timer_is_armed_at_any_moment_of_a_call() {
        let attempts = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&attempts);
        let settings = Settings {
            attempt_timeout: Some(Duration::from_millis(100)),
            ..Settings::default()
        };
        let settings = settings.checked(None).expect("limits that fit");
        let limited = settings.attempt_layer().expect("above zero");
        let hanging_then_bad = service_fn(move |_: Request<Body>| {
            let number = counted.fetch_add(1, Relaxed);
            async move {
                if number == 0 {
                    return pending().await;
                }
                let mut response = Response::new(Body::empty());
                *response.status_mut() = StatusCode::BAD_GATEWAY;
                Ok::<_, io::Error>(response)
            }
        });
        let composed = settings
            .compose(|_| limited.layer(hanging_then_bad))
            .expect("valid");
        let request = Request::get("http://a.internal/")
            .body(Body::empty())
            .expect("a request");
        let mut call = std::pin::pin!(composed.service.oneshot(request));
        let mut most = 0;
        while poll_once(call.as_mut()).await.is_pending() {
            most = most.max(clock::armed_timers());
            tokio::time::advance(Duration::from_millis(5)).await;
        }
        assert_eq!(
            (most, attempts.load(Relaxed)),
            (1, 3),
            "one timer, three attempts"
        );
        assert_eq!(clock::armed_timers(), 0);
    }

    /// How long a gRPC answer may stream that would never end, in seconds; `None`: it was not cut off in an hour. And
    /// whether that was held against the server, at the first time.
    async fn streams_for(
        every: Duration,
        chosen: Option<u64>,
        policy: CallPolicy,
        inherited: Option<u64>,
    ) -> (Option<u64>, State) {
        let breaker = BreakerConfig::new().consecutive_failures(1);
        let settings = Settings {
            deadline: chosen.map(Duration::from_secs),
            body_idle: Some(Duration::MAX),
            breaker: BreakerChoice::Rules(Box::new(breaker)),
            classifier: Classifier::grpc(),
            ..Settings::default()
        };
        let limited = settings.attempt_layer().expect("none");
        let endless = service_fn(move |_: Request<Body>| async move {
            let messages = stream::unfold((), move |()| async move {
                tokio::time::sleep(every).await;
                let message = Frame::data(Bytes::from("message"));
                Some((Ok::<_, io::Error>(message), ()))
            });
            let body = StreamBody::new(Box::pin(messages));
            let head = Response::builder().header("content-type", "application/grpc");
            Ok::<_, io::Error>(head.body(body).expect("a head"))
        });
        let composed = settings
            .compose(|_| limited.layer(CommitLayer::new().layer(endless)))
            .expect("valid");
        let request = Request::post("/shop.Cart/Watch").header("content-type", "application/grpc");
        let mut request = request.body(Body::empty()).expect("a request");
        request.extensions_mut().insert(policy);
        let start = clock::now();
        if let Some(inherited) = inherited {
            let until = Deadline::after(start, Duration::from_secs(inherited));
            let inherited = InheritedDeadline::new(until);
            request.extensions_mut().insert(inherited);
        }
        let response = composed.service.oneshot(request).await.expect("a head");
        let mut body = Box::pin(response.into_body());
        let hour = Duration::from_secs(3_600);
        let cut_off = async { while let Some(Ok(_)) = body.frame().await {} };
        let cut_off = tokio::time::timeout(hour, cut_off).await;
        drop(body);
        let lasted = cut_off.is_ok().then(|| (clock::now() - start).as_secs());
        (lasted, composed.breaker.state())
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_outlives_the_deadline_that_nobody_chose_and_no_other() {
        let (may_stream, unary) = (CallPolicy::new(), CallPolicy::new().unary(true));
        let given = may_stream.clone().deadline(Duration::from_secs(9));
        let preset = DEFAULT_DEADLINE.as_secs();
        for (chosen, policy, inherited, cut_off) in [
            (None, &may_stream, None, None),
            (None, &unary, None, Some(preset)),
            (Some(preset), &may_stream, None, Some(preset)),
            (Some(20), &may_stream, None, Some(20)),
            (None, &given, None, Some(9)),
            (Some(1), &given, None, Some(9)),
            (None, &may_stream, Some(7), Some(7)),
            (None, &unary, Some(7), Some(preset)),
            (None, &given, Some(7), Some(7)),
            (Some(20), &may_stream, Some(7), Some(7)),
        ] {
            let case = format!("{chosen:?} {policy:?} {inherited:?}");
            let often = Duration::from_millis(100);
            let (lasted, state) = streams_for(often, chosen, policy.clone(), inherited).await;
            assert_eq!((lasted, state), (cut_off, State::Closed), "{case}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn silence_of_a_stream_is_held_against_the_server_only_under_a_deadline_of_its_client() {
        for (chosen, state) in [(None, State::Closed), (Some(3), State::Open)] {
            let (never, inherited) = (Duration::from_secs(7_200), Some(60));
            let given = CallPolicy::new().deadline(Duration::from_secs(20));
            let ended = streams_for(never, chosen, given, inherited).await;
            assert_eq!(ended, (Some(20), state), "{chosen:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_seed_decides_how_long_the_circuit_stays_open() {
        let broken = || {
            let settings = Settings {
                random: Random::seeded(7),
                breaker: BreakerChoice::Rules(Box::new(
                    BreakerConfig::service_default().consecutive_failures(1),
                )),
                ..Settings::default()
            };
            let breaker = settings.breaker().expect("valid");
            breaker.try_acquire().expect("closed").failure();
            breaker.try_acquire().expect_err("open").kind()
        };
        let first = broken();
        assert!((0..9).all(|_| broken() == first));
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_is_answered_at_once_arms_no_timer() {
        let settings = Settings::default().checked(None).expect("the defaults fit");
        let limited = settings.attempt_layer().expect("none");
        let ready = service_fn(|_: Request<Body>| async {
            assert_eq!(clock::armed_timers(), 0);
            Ok::<_, io::Error>(Response::new(Body::empty()))
        });
        let composed = settings.compose(|_| limited.layer(ready)).expect("valid");
        let request = Request::get("http://a.internal/")
            .body(Body::empty())
            .expect("a request");
        assert!(composed.service.oneshot(request).await.is_ok());
        assert_eq!(clock::armed_timers(), 0);
    }
}
