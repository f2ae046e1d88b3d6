//! Faults of clones, instants, tasks and runtimes.

use super::*;

/// Refuses calls after three failures, which every instance counts for itself.
struct Counting {
    inner: Plain,
    failures: Arc<AtomicUsize>,
}

impl Clone for Counting {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            failures: Arc::default(),
        }
    }
}

impl Service<Request<Body>> for Counting {
    type Response = Response<AnyBody>;
    type Error = BoxError;
    type Future = Answering;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Answering {
        if self.failures.load(SeqCst) >= 3 {
            return Box::pin(async { Err("open".into()) });
        }
        let (answer, failures) = (self.inner.call(request), Arc::clone(&self.failures));
        Box::pin(async move {
            let answer = answer.await;
            let failed = |answer: &Response<AnyBody>| answer.status() >= StatusCode::BAD_REQUEST;
            if answer.as_ref().map_or(true, failed) {
                failures.fetch_add(1, SeqCst);
            }
            answer
        })
    }
}

#[test]
fn clones_that_count_for_themselves_are_found() {
    let fault = |inner| Counting {
        inner: Plain::new(forward)(inner),
        failures: Arc::default(),
    };
    assert_breaks(Contract::SharesState, Suite::new(fault));
}

#[test]
fn an_instant_that_overflows_is_found() {
    let longest = Plain::new(|inner, request| async {
        let end = tokio::time::Instant::now() + Duration::MAX;
        tokio::time::timeout_at(end, forward(inner, request)).await?
    });
    let suite = Suite::new(Plain::new(forward)).longest(longest);
    assert_breaks(Contract::TakesLongDurations, suite);
}

#[test]
fn a_limit_that_is_cut_in_silence_is_found() {
    let longest = Plain::new(|inner, request| async {
        let limit = Duration::MAX.min(Duration::from_secs(24 * 3600));
        tokio::time::timeout(limit, forward(inner, request)).await?
    });
    let suite = Suite::new(Plain::new(forward)).longest(longest);
    assert_breaks(Contract::TakesLongDurations, suite);
}

#[test]
fn a_task_that_is_spawned_where_a_layer_is_made_is_found() {
    let fault = |inner| Buffer::<Request<Body>, _>::new(inner, 4);
    assert_breaks(Contract::NeedsNoRuntime, Suite::new(fault));
}

#[test]
fn a_worker_that_ends_with_its_runtime_is_found() {
    let fault = |inner| Buffer::<Request<Body>, _>::new(inner, 4);
    assert_breaks(Contract::OutlivesRuntime, Suite::new(fault));
}
