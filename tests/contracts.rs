//! Every layer of the crate, and all of them together, held to the contracts of the testkit.
#![allow(clippy::unwrap_used, reason = "a step that fails, fails its test")]

use std::{
    sync::Mutex,
    task::{Context, Poll},
    time::Duration,
};

use evenkeel::{
    AttemptTimeoutLayer, Balancer, Body, BoxError, Breaker, BreakerConfig, CallPolicy,
    CircuitBreakerLayer, CommitLayer, DeadlineLayer, Discover, Endpoint, Error, Fixed,
    IdempotencyKeyLayer, IdempotencyKeys, InboundLayer, Random, Retry, RetryLayer, RetryPolicy,
    Stack,
    breaker::CircuitBreakerService,
    classify::Classifier,
    testkit::{
        Scripted, ScriptedBody,
        contract::{Suite, Tripwire},
        seeded,
    },
};
use futures::{
    StreamExt,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use http::{HeaderValue, Request, Response, header::CONTENT_TYPE};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, util::MapResponse};

const MINUTE: Duration = Duration::from_secs(60);
const NEVER: Duration = Duration::MAX;
const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");

fn retry() -> Retry {
    Retry::default().random(Random::seeded(1))
}

fn policy() -> RetryPolicy {
    retry().build().unwrap()
}

fn breaker() -> BreakerConfig {
    Breaker::builder()
        .consecutive_failures(50)
        .random(Random::seeded(1))
}

/// Reads everything with a callback that may panic.
fn wired(wire: Tripwire) -> Classifier {
    let other = wire.clone();
    Classifier::default()
        .response(move |_, _| {
            wire.touch();
            None
        })
        .evidence(move |_| {
            other.touch();
            None
        })
}

#[test]
fn a_deadline_keeps_every_contract() {
    Suite::new(|inner| DeadlineLayer::new(MINUTE).unwrap().layer(inner))
        .always_ready()
        .longest(|inner| {
            let layer = DeadlineLayer::new(NEVER).unwrap();
            layer.body_idle(NEVER).unwrap().layer(inner)
        })
        .check();
}

#[test]
fn a_deadline_with_an_idle_limit_keeps_every_contract() {
    let layer = || DeadlineLayer::new(MINUTE).unwrap().body_idle(MINUTE / 2);
    Suite::new(move |inner| layer().unwrap().layer(inner))
        .always_ready()
        .check();
}

#[test]
fn an_attempt_timeout_keeps_every_contract() {
    let limit = Duration::from_secs(2);
    Suite::new(move |inner| AttemptTimeoutLayer::new(limit).unwrap().layer(inner))
        .always_ready()
        .longest(|inner| AttemptTimeoutLayer::new(NEVER).unwrap().layer(inner))
        .longest(|inner| AttemptTimeoutLayer::default().layer(inner))
        .check();
}

#[test]
fn an_idempotency_key_keeps_every_contract() {
    Suite::new(|inner| IdempotencyKeyLayer::default().layer(inner))
        .always_ready()
        .callback("natural key", |inner, wire| {
            let natural = move |_: &http::request::Parts| {
                wire.touch();
                Some("order-42".to_owned())
            };
            let keys = IdempotencyKeys::default().methods([http::Method::PUT]);
            IdempotencyKeyLayer::new(keys.natural_key(natural))
                .unwrap()
                .layer(inner)
        })
        .longest(|inner| {
            let keys = IdempotencyKeys::default().lifetime(NEVER);
            IdempotencyKeyLayer::new(keys).unwrap().layer(inner)
        })
        .check();
}

#[test]
fn retry_keeps_every_contract() {
    Suite::new(|inner| RetryLayer::new(policy()).layer(inner))
        .always_ready()
        .callback("classifier", |inner, wire| {
            let retry = retry().classifier(wired(wire));
            RetryLayer::new(retry.build().unwrap()).layer(inner)
        })
        .longest(|inner| {
            let retry = retry().max_pushback(NEVER);
            RetryLayer::new(retry.build().unwrap()).layer(inner)
        })
        .check();
}

#[test]
fn a_circuit_breaker_keeps_every_contract() {
    Suite::new(|inner| CircuitBreakerLayer::new(breaker().build().unwrap()).layer(inner))
        .always_ready()
        .counter("probes", |service| {
            service.breaker().snapshot().probes.into()
        })
        .callback("classifier", |inner, wire| {
            let layer = CircuitBreakerLayer::new(breaker().build().unwrap());
            layer.classifier(wired(wire)).layer(inner)
        })
        .longest(|inner| {
            let breaker = breaker().break_duration(NEVER).build().unwrap();
            CircuitBreakerLayer::new(breaker).layer(inner)
        })
        .check();
}

/// Calls a moment later, so that the circuit, which is open when it is made, is half-open.
#[derive(Clone)]
struct Later(CircuitBreakerService<Scripted>);

impl Service<Request<Body>> for Later {
    type Response = <CircuitBreakerService<Scripted> as Service<Request<Body>>>::Response;
    type Error = Error;
    type Future = BoxFuture<'static, Result<Self::Response, Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let service = self.0.clone();
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(5)).await;
            service.oneshot(request).await
        })
    }
}

#[test]
fn a_circuit_breaker_keeps_every_contract_where_each_call_is_a_probe() {
    let half_open = |inner: Scripted| {
        let breaker = breaker().consecutive_failures(1);
        let breaker = breaker.break_duration(Duration::from_millis(1)).build();
        let breaker = breaker.unwrap();
        breaker.try_acquire().unwrap().failure();
        Later(CircuitBreakerLayer::new(breaker).layer(inner))
    };
    Suite::new(half_open)
        .counter("probes", |late| late.0.breaker().snapshot().probes.into())
        .check();
}

#[test]
fn the_commit_point_keeps_every_contract() {
    Suite::new(|inner| CommitLayer::new().layer(inner)).check();
    for unary in [true, false] {
        let grpc = move |inner| {
            ServiceBuilder::new()
                .map_request(asks_grpc(unary))
                .layer(CommitLayer::new())
                .map_response(answers_grpc)
                .service(inner)
        };
        Suite::new(grpc).check();
    }
}

/// Makes a request one of gRPC's.
fn asks_grpc(unary: bool) -> impl Fn(Request<Body>) -> Request<Body> + Clone + Send + Sync {
    move |mut request| {
        request.headers_mut().insert(CONTENT_TYPE, GRPC);
        let policy = request.extensions_mut().remove::<CallPolicy>();
        let policy = policy.unwrap_or_default().unary(unary).idempotent(true);
        request.extensions_mut().insert(policy);
        request
    }
}

fn answers_grpc(mut response: Response<ScriptedBody>) -> Response<ScriptedBody> {
    response.headers_mut().insert(CONTENT_TYPE, GRPC);
    response
}

/// With verdicts that wait for the trailers.
#[test]
fn the_whole_stack_keeps_every_contract_over_grpc() {
    for unary in [true, false] {
        let grpc = move |inner| {
            let classifier = Classifier::grpc();
            let retry = retry().classifier(classifier.clone()).build().unwrap();
            let breaker = CircuitBreakerLayer::new(breaker().build().unwrap());
            let inner = CommitLayer::new().layer(MapResponse::new(inner, answers_grpc));
            let balancer = Balancer::builder(Fixed::new(["10.0.0.1:80", "10.0.0.2:80"]))
                .random(Random::seeded(1))
                .classifier(classifier.clone())
                .build(move |_| Ok(inner.clone()))
                .unwrap();
            ServiceBuilder::new()
                .map_request(asks_grpc(unary))
                .layer(DeadlineLayer::new(MINUTE).unwrap())
                .layer(RetryLayer::new(retry))
                .layer(breaker.classifier(classifier))
                .layer(AttemptTimeoutLayer::new(Duration::from_secs(2)).unwrap())
                .service(balancer)
        };
        Suite::new(grpc).check();
    }
}

#[test]
fn the_inbound_layer_keeps_every_contract() {
    let grpc_timeout = |value: &'static str| {
        move || {
            let mut request = Request::post("/shop.Cart/Add").body(Body::empty()).unwrap();
            let headers = request.headers_mut();
            headers.insert("content-type", "application/grpc".parse().unwrap());
            headers.insert("grpc-timeout", value.parse().unwrap());
            request
        }
    };
    Suite::new(|inner| InboundLayer::new().layer(inner))
        .refuses(grpc_timeout("0m"))
        .refuses(grpc_timeout("soon"))
        .check();
}

/// Finds its endpoint only after a while, and the panic of a callback of ours each time it is asked for a watch.
#[derive(Clone, Default)]
struct Late(Option<Tripwire>);

impl Discover for Late {
    fn watch(&self) -> BoxStream<'static, Result<Vec<Endpoint>, BoxError>> {
        self.0.iter().for_each(Tripwire::touch);
        let found = async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            Ok(vec![Endpoint::new(([10, 0, 0, 1], 80).into())])
        };
        stream::once(found).chain(stream::pending()).boxed()
    }
}

fn in_flight<S: Clone + Send + Sync + 'static>(balancer: &Balancer<S>) -> usize {
    let endpoints = balancer.endpoints();
    endpoints
        .iter()
        .map(|endpoint| endpoint.in_flight as usize)
        .sum()
}

#[test]
fn a_balancer_keeps_every_contract() {
    let balancer = |endpoints: &'static [&'static str]| {
        move |inner: Scripted| {
            Balancer::builder(Fixed::new(endpoints.iter().copied()))
                .random(Random::seeded(1))
                .build(move |_| Ok(inner.clone()))
                .unwrap()
        }
    };
    for endpoints in [
        &["10.0.0.1:80"][..],
        &["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"],
    ] {
        Suite::new(balancer(endpoints))
            .always_ready()
            .counter("calls in flight", in_flight)
            .callback("classifier", |inner, wire| {
                Balancer::builder(Fixed::new(["10.0.0.1:80", "10.0.0.2:80"]))
                    .classifier(wired(wire))
                    .build(move |_| Ok(inner.clone()))
                    .unwrap()
            })
            .check();
    }
}

#[test]
fn a_balancer_whose_endpoints_are_found_later_keeps_every_contract() {
    // Not a clone: a function that panics leaves its endpoint out until the next answer of discovery.
    let late = |inner: Scripted| {
        let once = Mutex::new(Some(inner));
        let builder = Balancer::builder(Late::default()).random(Random::seeded(1));
        let made = move |_: &Endpoint| {
            once.lock()
                .unwrap()
                .take()
                .ok_or_else(|| "made twice".into())
        };
        builder.build(made).unwrap()
    };
    Suite::new(late)
        .counter("calls in flight", in_flight)
        .callback("the function that makes services", |inner, wire| {
            let make = move |_: &Endpoint| {
                wire.touch();
                Ok(inner.clone())
            };
            Balancer::builder(Fixed::new(["10.0.0.1:80", "10.0.0.2:80"]))
                .build(make)
                .unwrap()
        })
        .callback("the watch of a source", |inner, wire| {
            let builder = Balancer::builder(Late(Some(wire)));
            builder.build(move |_| Ok(inner.clone())).unwrap()
        })
        .check();
}

#[test]
fn the_whole_stack_keeps_every_contract() {
    Suite::new(|inner| {
        let attempt = AttemptTimeoutLayer::new(Duration::from_secs(2)).unwrap();
        let balancer = Balancer::builder(Fixed::new(["10.0.0.1:80", "10.0.0.2:80"]))
            .random(Random::seeded(1))
            .build(move |_| Ok(attempt.layer(CommitLayer::new().layer(inner.clone()))))
            .unwrap();
        Stack::new()
            .deadline(DeadlineLayer::new(MINUTE).unwrap())
            .idempotency_key(IdempotencyKeyLayer::default())
            .retry(RetryLayer::new(policy()))
            .circuit_breaker(CircuitBreakerLayer::new(breaker().build().unwrap()))
            .service(balancer)
    })
    .always_ready()
    .check();
}

/// The one of every client, whose layers arm no timers that another one of them has.
#[test]
fn the_ready_made_stack_keeps_every_contract() {
    Suite::new(|inner| {
        seeded(1)
            .deadline(MINUTE)
            .circuit_breaker(breaker())
            .idempotency_keys(IdempotencyKeys::default())
            .build_over(move |_| Ok(inner.clone()))
            .unwrap()
    })
    .always_ready()
    .counter("probes", |stack| {
        stack.circuit_breaker().snapshot().probes.into()
    })
    .counter("calls in flight", |stack| {
        let endpoints = stack.endpoints();
        endpoints
            .iter()
            .map(|endpoint| endpoint.in_flight as usize)
            .sum()
    })
    .callback("before_attempt", |inner, wire| {
        seeded(1)
            .before_attempt(move |_, _| wire.touch())
            .build_over(move |_| Ok(inner.clone()))
            .unwrap()
    })
    .callback("classifier", |inner, wire| {
        seeded(1)
            .classifier(wired(wire))
            .build_over(move |_| Ok(inner.clone()))
            .unwrap()
    })
    .longest(|inner| {
        seeded(1)
            .deadline(NEVER)
            .attempt_timeout(NEVER)
            .body_idle(NEVER)
            .build_over(move |_| Ok(inner.clone()))
            .unwrap()
    })
    .check();
}
