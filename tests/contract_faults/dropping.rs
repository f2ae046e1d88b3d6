//! Faults of calls that are dropped.

use super::*;

#[test]
fn a_place_that_is_held_over_a_pause_is_found() {
    let fault = Plain::new(|inner, request| async {
        sleep(MILLI).await;
        forward(inner, request).await
    });
    assert_breaks(Contract::HoldsNoPlace, Suite::new(fault));
}

#[test]
fn a_call_that_goes_on_after_it_was_dropped_is_found() {
    let fault = Plain::new(|inner, request| async { tokio::spawn(forward(inner, request)).await? });
    assert_breaks(Contract::GivesBack, Suite::new(fault));
}

#[test]
fn a_task_that_outlives_the_last_clone_is_found() {
    let fault = Plain::new(|inner, request| {
        tokio::spawn(std::future::pending::<()>());
        forward(inner, request)
    });
    assert_breaks(Contract::GivesBack, Suite::new(fault));
}

/// Notes that a call went away before its answer.
struct Gone(Arc<AtomicUsize>, bool);

impl Drop for Gone {
    fn drop(&mut self) {
        if !self.1 {
            self.0.fetch_add(1, SeqCst);
        }
    }
}

#[test]
fn a_call_that_takes_others_with_it_is_found() {
    let fault = |inner| {
        let gone = Arc::new(AtomicUsize::new(0));
        Plain::new(move |inner, request| {
            let (gone, before) = (Arc::clone(&gone), gone.load(SeqCst));
            async move {
                let mut mine = Gone(Arc::clone(&gone), false);
                let answer = forward(inner, request).await;
                mine.1 = true;
                match gone.load(SeqCst) == before {
                    true => answer,
                    false => Err("the connection went with another call".into()),
                }
            }
        })(inner)
    };
    assert_breaks(Contract::LeavesOthersAlone, Suite::new(fault));
}

#[test]
fn a_permit_that_comes_back_only_with_the_answer_is_found() {
    let fault = |inner| {
        let permits = Arc::new(Semaphore::new(3));
        Plain::new(move |inner: Scripted, request| {
            let permits = Arc::clone(&permits);
            drop(inner.clone());
            async move {
                permits.acquire().await?.forget();
                let answer = inner.oneshot(request).await;
                permits.add_permits(1);
                Ok(answer?.map(boxed))
            }
        })(inner)
    };
    assert_breaks(Contract::GivesBack, Suite::new(fault).slots(3));
}

#[test]
fn a_counter_that_a_dropped_body_does_not_lower_is_found() {
    let running = Arc::new(AtomicUsize::new(0));
    let shown = Arc::clone(&running);
    let fault = Plain::new(move |inner, request| {
        let running = Arc::clone(&running);
        async move {
            let answer = forward(inner, request).await?;
            running.fetch_add(1, SeqCst);
            Ok(answer.map(|body| {
                let ended = CountedBody { body, running };
                ended.boxed_unsync()
            }))
        }
    });
    let suite = Suite::new(fault).counter("bodies", move |_| shown.load(SeqCst));
    assert_breaks(Contract::GivesBack, suite);
}

/// Lowers its counter at the end of the body alone.
struct CountedBody {
    body: AnyBody,
    running: Arc<AtomicUsize>,
}

impl HttpBody for CountedBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if !matches!(frame, Some(Ok(_))) {
            self.running.fetch_sub(1, SeqCst);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
