use std::collections::VecDeque;
use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Instant;

use super::answer::{Cause, Change, State};

/// How many transitions a watcher may be behind before it misses some.
const KEPT: usize = 256;

/// One transition of a circuit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Transition {
    /// The state before.
    pub from: State,
    /// The state after.
    pub to: State,
    /// What brought it about.
    pub cause: Cause,
    /// When it was noted.
    pub at: Instant,
}

/// The last transitions, in the order in which they happened.
///
/// Threads note them a moment after the state has moved and may overtake one another there;
/// generations put them back in order: an entry that has not come yet is waited for. The lock is
/// taken for transitions and by watchers only, and nothing of the user's runs under it.
#[derive(Debug, Default)]
pub(crate) struct Journal(Mutex<Entries>);

#[derive(Debug, Default)]
struct Entries {
    /// `None`: not noted yet.
    entries: VecDeque<Option<Entry>>,
    /// The number of the first entry that is kept.
    first: u64,
    watchers: Vec<(u64, Waker)>,
    next_watcher: u64,
    closed: bool,
}

/// `None`: a generation that ended without a change of state.
type Entry = Option<Transition>;

/// What a watcher finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Transition(Transition),
    /// Nothing yet; the waker is kept.
    Wait,
    /// The circuit is gone.
    End,
}

/// A watcher's place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    watcher: u64,
    next: u64,
    /// Transitions that were forgotten before this watcher saw them.
    pub(crate) missed: u64,
}

impl Journal {
    /// Notes a change and wakes those who watch.
    pub(crate) fn note(&self, change: Change, at: Instant) {
        let woken = self.lock().insert(change, at);
        woken.into_iter().for_each(|(_, waker)| waker.wake());
    }

    /// A place at the end: only what happens from now on is seen.
    pub(crate) fn watch(&self) -> Place {
        let mut journal = self.lock();
        journal.next_watcher += 1;
        Place {
            watcher: journal.next_watcher,
            next: journal.end(),
            missed: 0,
        }
    }

    /// The next transition at this place; `waker` is woken when there may be more.
    pub(crate) fn next(&self, place: &mut Place, waker: &Waker) -> Next {
        // Cloned here, dropped there: wakers are not ours, and both happen outside of the lock.
        let waker = waker.clone();
        let (next, _replaced) = self.lock().next(place, waker);
        next
    }

    /// Forgets a watcher.
    pub(crate) fn leave(&self, place: Place) {
        let _left = self.lock().remove(place.watcher);
    }

    /// Ends it: the circuit is gone.
    pub(crate) fn close(&self) {
        let woken = {
            let mut journal = self.lock();
            journal.closed = true;
            mem::take(&mut journal.watchers)
        };
        woken.into_iter().for_each(|(_, waker)| waker.wake());
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        // Nothing that runs under the lock can leave it half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entries {
    fn end(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    fn insert(&mut self, change: Change, at: Instant) -> Vec<(u64, Waker)> {
        let Change {
            generation,
            from,
            to,
            cause,
        } = change;
        let entry = (from != to).then_some(Transition {
            from,
            to,
            cause,
            at,
        });
        if let Some(index) = self.index_of(generation) {
            while self.entries.len() <= index {
                self.entries.push_back(None);
            }
            self.entries[index] = Some(entry);
        }
        while self.entries.len() > KEPT {
            self.entries.pop_front();
            self.first += 1;
        }
        mem::take(&mut self.watchers)
    }

    /// Where the change into this generation belongs. The first is 1, and the entries' numbers are
    /// generations that do not go round.
    fn index_of(&self, generation: u16) -> Option<usize> {
        let ahead = generation.wrapping_sub(1).wrapping_sub(self.end() as u16) as i16;
        let number = self.end().checked_add_signed(i64::from(ahead))?;
        usize::try_from(number.checked_sub(self.first)?).ok()
    }

    fn next(&mut self, place: &mut Place, waker: Waker) -> (Next, Option<Waker>) {
        while place.next < self.end() {
            if place.next < self.first {
                place.missed += self.first - place.next;
                place.next = self.first;
            }
            let index = (place.next - self.first) as usize;
            let Some(noted) = self.entries.get(index).copied().flatten() else {
                break;
            };
            place.next += 1;
            if let Some(transition) = noted {
                return (Next::Transition(transition), Some(waker));
            }
        }
        if self.closed && place.next >= self.end() {
            return (Next::End, Some(waker));
        }
        let replaced = self.remove(place.watcher);
        self.watchers.push((place.watcher, waker));
        (Next::Wait, replaced)
    }

    fn remove(&mut self, watcher: u64) -> Option<Waker> {
        let index = self.watchers.iter().position(|(id, _)| *id == watcher)?;
        Some(self.watchers.swap_remove(index).1)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;
    use std::time::Instant;

    use super::{Cause, Change, Journal, KEPT, Next, State};

    fn change(generation: u16, from: State, to: State) -> Change {
        Change {
            generation,
            from,
            to,
            cause: Cause::Manual,
        }
    }

    fn states(journal: &Journal, place: &mut super::Place) -> Vec<State> {
        let mut states = Vec::new();
        while let Next::Transition(transition) = journal.next(place, Waker::noop()) {
            states.push(transition.to);
        }
        states
    }

    #[test]
    fn transitions_noted_out_of_order_are_seen_in_order() {
        let (journal, now) = (Journal::default(), Instant::now());
        let mut place = journal.watch();
        journal.note(change(2, State::Open, State::HalfOpen), now);
        assert_eq!(states(&journal, &mut place), []);
        journal.note(change(1, State::Closed, State::Open), now);
        assert_eq!(states(&journal, &mut place), [State::Open, State::HalfOpen]);
    }

    #[test]
    fn a_generation_without_a_change_of_state_is_passed_over() {
        let (journal, now) = (Journal::default(), Instant::now());
        let mut place = journal.watch();
        journal.note(change(1, State::HalfOpen, State::HalfOpen), now);
        journal.note(change(2, State::HalfOpen, State::Closed), now);
        assert_eq!(states(&journal, &mut place), [State::Closed]);
    }

    #[test]
    fn generations_go_round_in_order() {
        let (journal, now) = (Journal::default(), Instant::now());
        let mut place = journal.watch();
        for number in 1..=70_000_u32 {
            journal.note(change(number as u16, State::Closed, State::Open), now);
            assert_eq!(states(&journal, &mut place), [State::Open], "{number}");
        }
        assert_eq!(place.missed, 0);
    }

    #[test]
    fn a_watcher_far_behind_is_told_how_many_it_missed() {
        let (journal, now) = (Journal::default(), Instant::now());
        let mut place = journal.watch();
        for number in 1..=KEPT as u16 + 10 {
            journal.note(change(number, State::Closed, State::Open), now);
        }
        assert_eq!(states(&journal, &mut place).len(), KEPT);
        assert_eq!(place.missed, 10);
    }

    #[test]
    fn the_end_comes_after_the_last_transition() {
        let (journal, now) = (Journal::default(), Instant::now());
        let mut place = journal.watch();
        journal.note(change(1, State::Closed, State::Open), now);
        journal.close();
        assert!(matches!(
            journal.next(&mut place, Waker::noop()),
            Next::Transition(_)
        ));
        assert_eq!(journal.next(&mut place, Waker::noop()), Next::End);
    }

    #[test]
    fn watchers_that_left_keep_no_waker() {
        let journal = Journal::default();
        let mut place = journal.watch();
        assert_eq!(journal.next(&mut place, Waker::noop()), Next::Wait);
        assert_eq!(journal.lock().watchers.len(), 1);
        journal.leave(place);
        assert!(journal.lock().watchers.is_empty());
    }
}
