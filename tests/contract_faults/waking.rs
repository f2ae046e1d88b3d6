//! Faults of locks, callbacks and wakers.

use super::*;

#[test]
fn a_lock_that_a_panic_of_the_service_poisons_is_found() {
    let fault = |inner| {
        let lock = Arc::new(Mutex::new(()));
        Plain::new(move |mut inner: Scripted, request| {
            let _guard = lock.lock().expect("nobody panicked");
            let answer = inner.call(request);
            async { Ok(answer.await?.map(boxed)) }
        })(inner)
    };
    assert_breaks(Contract::SurvivesPanics, Suite::new(fault));
}

#[test]
fn a_lock_that_a_panic_of_a_callback_poisons_is_found() {
    let suite = Suite::new(Plain::new(forward)).callback("on answer", |inner, wire| {
        let seen = Arc::new(Mutex::new(0));
        Plain::new(move |inner, request| {
            let (wire, seen) = (wire.clone(), Arc::clone(&seen));
            async move {
                let answer = forward(inner, request).await;
                let mut seen = seen.lock().expect("nobody panicked");
                wire.touch();
                *seen += 1;
                answer
            }
        })(inner)
    });
    assert_breaks(Contract::SurvivesPanics, suite);
}

#[test]
fn a_callback_that_is_never_called_is_found() {
    let suite = Suite::new(Plain::new(forward))
        .callback("on answer", |inner, _wire| Plain::new(forward)(inner));
    assert_breaks(Contract::SurvivesPanics, suite);
}

#[test]
fn a_call_that_wakes_itself_is_found() {
    let fault = Plain::new(|inner, request| {
        let mut answer = Box::pin(forward(inner, request));
        std::future::poll_fn(move |cx| {
            let polled = answer.as_mut().poll(cx);
            if polled.is_pending() {
                cx.waker().wake_by_ref();
            }
            polled
        })
    });
    assert_breaks(Contract::DoesNotSpin, Suite::new(fault));
}

#[test]
fn a_call_that_looks_again_every_few_milliseconds_is_found() {
    let fault = Plain::new(|inner, request| async {
        let mut answer = Box::pin(forward(inner, request));
        loop {
            if let Ok(answer) = tokio::time::timeout(MILLI * 20, &mut answer).await {
                return answer;
            }
        }
    });
    assert_breaks(Contract::DoesNotSpin, Suite::new(fault));
}

#[test]
fn a_call_that_remembers_its_first_waker_is_found() {
    let fault = Plain::new(|inner, request| {
        let mut answer = Box::pin(forward(inner, request));
        let mut first: Option<Waker> = None;
        std::future::poll_fn(move |cx| {
            let waker = first.get_or_insert_with(|| cx.waker().clone());
            answer.as_mut().poll(&mut Context::from_waker(waker))
        })
    });
    assert_breaks(Contract::WakesWaiters, Suite::new(fault));
}

/// Hands a free slot to the first who waits, who may be gone.
#[derive(Clone, Default)]
struct Forgetful(Arc<Mutex<(usize, Vec<Waker>)>>);

impl Forgetful {
    const SLOTS: usize = 2;

    fn poll(&self, cx: &Context<'_>) -> Poll<Held> {
        let mut state = self.0.lock().unwrap();
        if state.0 < Self::SLOTS {
            state.0 += 1;
            return Poll::Ready(Held(self.clone()));
        }
        if !state.1.iter().any(|waker| waker.will_wake(cx.waker())) {
            state.1.push(cx.waker().clone());
        }
        Poll::Pending
    }
}

struct Held(Forgetful);

impl Drop for Held {
    fn drop(&mut self) {
        let mut state = self.0.0.lock().unwrap();
        state.0 -= 1;
        if !state.1.is_empty() {
            state.1.remove(0).wake();
        }
    }
}

#[test]
fn a_wake_that_is_lost_with_a_waiter_who_went_away_is_found() {
    let fault = |inner| {
        let slots = Forgetful::default();
        Plain::new(move |inner: Scripted, request| {
            let slots = slots.clone();
            let fresh = inner.clone();
            drop(inner);
            async move {
                let _held = std::future::poll_fn(|cx| slots.poll(cx)).await;
                Ok(fresh.oneshot(request).await?.map(boxed))
            }
        })(inner)
    };
    assert_breaks(
        Contract::WakesWaiters,
        Suite::new(fault).slots(Forgetful::SLOTS),
    );
}

#[test]
fn a_call_that_is_silent_after_its_end_is_found() {
    let fault = Plain::new(|inner, request| {
        let mut answer = Some(Box::pin(forward(inner, request)));
        std::future::poll_fn(move |cx| {
            let Some(running) = &mut answer else {
                return Poll::Pending;
            };
            let polled = ready!(running.as_mut().poll(cx));
            answer = None;
            Poll::Ready(polled)
        })
    });
    assert_breaks(Contract::EndsOnce, Suite::new(fault));
}
