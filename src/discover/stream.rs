use std::{
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
};

use futures::{
    Stream, StreamExt,
    stream::{self, BoxStream},
};

use crate::{
    discover::{Difference, Discover, Endpoint, distinct_beside},
    error::BoxError,
};

/// What a stream given to [`from_stream`] may yield: the addresses as they are now, or why they could not be learnt.
pub trait Snapshot: Send + 'static {
    /// The whole set, or the error.
    ///
    /// # Errors
    ///
    /// What the stream yielded in place of a set.
    fn into_set(self) -> Result<Vec<Endpoint>, BoxError>;
}

impl<A: Into<Endpoint> + Send + 'static> Snapshot for Vec<A> {
    fn into_set(self) -> Result<Vec<Endpoint>, BoxError> {
        Ok(self.into_iter().map(Into::into).collect())
    }
}

impl<A, E> Snapshot for Result<Vec<A>, E>
where
    A: Into<Endpoint> + Send + 'static,
    E: Into<BoxError> + Send + 'static,
{
    fn into_set(self) -> Result<Vec<Endpoint>, BoxError> {
        self.map_err(Into::into)?.into_set()
    }
}

/// Takes endpoint sets from any stream of `Vec<Endpoint>`, `Vec<SocketAddr>` or `Result`s of them.
///
/// The stream is polled by one watch at a time. If the runtime that drove it ends, the next watch begins with the last
/// set and goes on with the same stream. A repeated address counts once; one with port 0 is left out.
///
/// ```
/// use std::net::SocketAddr;
///
/// use evenkeel::discover::from_stream;
/// use futures::channel::mpsc;
///
/// let (sets, changes) = mpsc::unbounded::<Vec<SocketAddr>>();
/// let source = from_stream(changes);
/// sets.unbounded_send(vec![([10, 0, 0, 1], 8443).into()])?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn from_stream<S>(stream: S) -> FromStream
where
    S: Stream<Item: Snapshot> + Send + 'static,
{
    let sets = stream.map(Snapshot::into_set);
    FromStream {
        shared: Arc::new(Mutex::new(Shared {
            idle: Some(sets.boxed()),
            last: None,
        })),
    }
}

/// The source that [`from_stream`] makes. Clones share the stream.
#[derive(Clone)]
pub struct FromStream {
    shared: Arc<Mutex<Shared>>,
}

struct Shared {
    /// The stream, while no watch holds it.
    idle: Option<BoxStream<'static, Result<Vec<Endpoint>, BoxError>>>,
    last: Option<Vec<Endpoint>>,
}

impl Shared {
    /// Keeps a set for the next watch: what differs from the one before.
    fn keep(&mut self, set: Vec<Endpoint>) -> Result<Vec<Endpoint>, BoxError> {
        let known = self.last.as_deref().unwrap_or_default();
        let (set, Difference { old, new }) = distinct_beside(known, set)?;
        let last = self.last.get_or_insert_default();
        last.splice(old, set[new].iter().cloned());
        Ok(set)
    }
}

/// Two watches at once; the first keeps the stream.
#[derive(Debug, thiserror::Error)]
#[error("the stream of endpoint sets is already watched; give each client a stream of its own")]
struct AlreadyWatched;

impl Discover for FromStream {
    fn watch(&self) -> BoxStream<'static, Result<Vec<Endpoint>, BoxError>> {
        let (stream, last) = {
            let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
            (shared.idle.take(), shared.last.clone())
        };
        match stream {
            Some(stream) => {
                let watch = Watch {
                    stream: Some(stream),
                    shared: Arc::clone(&self.shared),
                };
                stream::iter(last.map(Ok)).chain(watch).boxed()
            }
            None => stream::iter([Err(AlreadyWatched.into())]).boxed(),
        }
    }
}

impl fmt::Debug for FromStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FromStream").finish_non_exhaustive()
    }
}

/// Holds the stream and puts it back when dropped. The lock is never held while the stream, which is the user's, runs.
struct Watch {
    stream: Option<BoxStream<'static, Result<Vec<Endpoint>, BoxError>>>,
    shared: Arc<Mutex<Shared>>,
}

impl Stream for Watch {
    type Item = Result<Vec<Endpoint>, BoxError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Self { stream, shared } = self.get_mut();
        let Some(running) = stream else {
            return Poll::Ready(None);
        };
        let item = ready!(running.poll_next_unpin(cx));
        if item.is_none() {
            *stream = None;
        }
        let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
        Poll::Ready(item.map(|set| shared.keep(set?)))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // A stream that ended goes back as one that has nothing more to say: polled again it might panic.
        let stream = self
            .stream
            .take()
            .unwrap_or_else(|| stream::empty().boxed());
        self.shared
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .idle = Some(stream);
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use futures::{FutureExt, StreamExt, channel::mpsc};

    use super::from_stream;
    use crate::discover::Discover;

    fn at(last: u8) -> SocketAddr {
        ([10, 0, 0, last], 80).into()
    }

    #[test]
    fn a_second_watch_goes_on_where_a_dropped_one_stopped() {
        let (sets, changes) = mpsc::unbounded();
        let source = from_stream(changes);
        sets.unbounded_send(vec![at(1)])
            .expect("the source listens");
        let mut first = source.watch();
        assert_eq!(next(&mut first), Some(1));
        drop(first);

        sets.unbounded_send(vec![at(1), at(2)])
            .expect("the source listens");
        let mut second = source.watch();
        assert_eq!(next(&mut second), Some(1));
        assert_eq!(next(&mut second), Some(2));
        assert_eq!(
            second.next().now_or_never().map(|item| item.is_none()),
            None
        );
    }

    #[test]
    fn two_watches_at_once_are_an_error_of_the_second() {
        let source = from_stream(futures::stream::pending::<Vec<SocketAddr>>());
        let _first = source.watch();
        let refused = source
            .watch()
            .next()
            .now_or_never()
            .flatten()
            .expect("an answer at once");
        assert!(
            refused
                .expect_err("already watched")
                .to_string()
                .contains("already watched")
        );
    }

    #[test]
    fn a_stream_that_ended_is_not_polled_again() {
        let source = from_stream(futures::stream::once(async { vec![at(1)] }));
        for _ in 0..2 {
            let all: Vec<_> = source
                .watch()
                .collect::<Vec<_>>()
                .now_or_never()
                .expect("nothing to wait for");
            assert_eq!(all.len(), 1);
            assert!(all[0].as_ref().is_ok_and(|set| set.len() == 1));
        }
    }

    fn next<S>(watch: &mut S) -> Option<usize>
    where
        S: futures::Stream<Item = Result<Vec<crate::discover::Endpoint>, crate::error::BoxError>>
            + Unpin,
    {
        watch.next().now_or_never()??.ok().map(|set| set.len())
    }
}
