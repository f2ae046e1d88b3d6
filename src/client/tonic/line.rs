//! Whether anything is heard from an endpoint.

use std::{
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicU32, AtomicU64,
            Ordering::{AcqRel, Relaxed},
        },
    },
    time::{Duration, Instant},
};

use crate::clock;

/// How many calls in a row may be given up while nothing at all is heard.
///
/// What lies between may have forgotten the connection, or lost the server behind it, and acknowledge for ever what
/// nobody reads. Three, since a single call may be one that waits for something to happen; a new connection does no
/// harm to such, nor to streams on the old one, which goes when they end.
const MOST_UNHEARD: u32 = 3;

/// What is heard on the connections of one channel of tonic's.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// Counts what was read.
    heard: AtomicU64,
    /// Calls given up since, while nothing was heard.
    unheard: AtomicU32,
    dead: AtomicBool,
}

impl Line {
    /// Something was read.
    pub(super) fn hear(&self) {
        self.heard.fetch_add(1, Relaxed);
        if self.unheard.load(Relaxed) != 0 {
            self.unheard.store(0, Relaxed);
        }
    }

    /// Whether calls have to go another way.
    pub(super) fn is_dead(&self) -> bool {
        self.dead.load(Relaxed)
    }

    fn give_up(&self, heard_before: u64) {
        if self.heard.load(Relaxed) == heard_before
            && self.unheard.fetch_add(1, AcqRel) + 1 >= MOST_UNHEARD
        {
            self.dead.store(true, Relaxed);
        }
    }
}

/// A call that waits for its answer; dropped before that it was given up.
#[derive(Debug)]
pub(super) struct Waiting {
    /// `None` once it was answered.
    line: Option<Arc<Line>>,
    heard_before: u64,
    began: Instant,
    /// A caller that gave up sooner says nothing about the endpoint.
    patience: Duration,
}

impl Waiting {
    pub(super) fn on(line: Arc<Line>, patience: Duration) -> Self {
        Self {
            heard_before: line.heard.load(Relaxed),
            line: Some(line),
            began: clock::recent(),
            patience,
        }
    }

    pub(super) fn answered(&mut self) {
        self.line = None;
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(line) = &self.line
            && clock::recent().saturating_duration_since(self.began) >= self.patience
        {
            line.give_up(self.heard_before);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given_up(line: &Arc<Line>) {
        drop(Waiting::on(Arc::clone(line), Duration::ZERO));
    }

    #[test]
    fn three_calls_in_a_row_that_hear_nothing_end_it() {
        let line = Arc::default();
        given_up(&line);
        given_up(&line);
        assert!(!line.is_dead());
        given_up(&line);
        assert!(line.is_dead());
    }

    #[test]
    fn whatever_is_heard_in_between_begins_the_count_anew() {
        let line = Arc::default();
        for _ in 0..10 {
            given_up(&line);
            given_up(&line);
            line.hear();
        }
        let waiting = [(); 5].map(|()| Waiting::on(Arc::clone(&line), Duration::ZERO));
        line.hear();
        drop(waiting);
        assert!(!line.is_dead());
    }

    #[test]
    fn callers_that_have_an_answer_or_no_patience_say_nothing() {
        let line = Arc::default();
        for _ in 0..10 {
            Waiting::on(Arc::clone(&line), Duration::ZERO).answered();
            drop(Waiting::on(Arc::clone(&line), Duration::from_secs(9)));
        }
        assert!(!line.is_dead());
    }
}
