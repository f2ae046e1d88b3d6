use std::{
    hint,
    sync::atomic::{AtomicU8, Ordering::SeqCst},
    thread,
    time::{Duration, Instant},
};

use super::upstream::Upstream;

/// Does this many operations and says how long they took, on the wall.
pub(crate) type Batch = Box<dyn FnMut(u64) -> Duration>;

/// One row of the report.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) work: Work,
    /// The part of the report it stands in.
    pub(crate) part: &'static str,
    pub(crate) limits: Vec<Limit>,
    pub(crate) make: Box<dyn Fn() -> Batch>,
}

/// What one operation of a case is, and so what it can be compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// The call of nothing but the service at the bottom: what the others are compared with.
    Raw(Upstream),
    /// A call through layers.
    Call(Upstream),
    /// A decision alone.
    Decision,
    /// A decision alone, on two threads at once: time only.
    Shared,
}

impl Work {
    /// Whether all of the work is done by the thread that asks for it.
    pub(super) fn is_counted(self) -> bool {
        self != Self::Shared
    }
}

/// What a row has to keep within.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Limit {
    /// Nanoseconds over raw, on a machine where raw takes [`REFERENCE_RAW`].
    OverRaw(f64),
    /// Nanoseconds in all, on such a machine.
    Nanos(f64),
    /// Instructions in all.
    Instructions(f64),
    /// Instructions over raw.
    InstructionsOverRaw(f64),
    /// Allocations over raw; those of a decision are all over raw.
    Allocations(f64),
}

/// What a raw call took on the machine of the targets: times are scaled by it, so that they are ratios.
pub(crate) const REFERENCE_RAW: f64 = 99.0;

impl Case {
    pub(crate) fn new(
        part: &'static str,
        name: impl Into<String>,
        work: Work,
        make: impl Fn() -> Batch + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            work,
            part,
            limits: Vec::new(),
            make: Box::new(make),
        }
    }

    #[must_use]
    pub(crate) fn within(mut self, limits: impl IntoIterator<Item = Limit>) -> Self {
        self.limits.extend(limits);
        self
    }
}

/// A batch of something that is done over and over.
pub(crate) fn repeat(mut operation: impl FnMut() + 'static) -> Batch {
    Box::new(move |count| {
        let start = Instant::now();
        for _ in 0..count {
            operation();
        }
        start.elapsed()
    })
}

/// A batch of something that two threads do at once, half of the count each.
///
/// The time is that from the first one's start to the last one's end.
pub(crate) fn on_two_threads(operation: impl Fn() + Sync + 'static) -> Batch {
    Box::new(move |count| {
        let half = count.div_ceil(2);
        let arrived = AtomicU8::new(0);
        let work = || {
            // Spins, since a thread that has to be woken would start when the other is half done.
            arrived.fetch_add(1, SeqCst);
            while arrived.load(SeqCst) < 2 {
                hint::spin_loop();
            }
            let start = Instant::now();
            for _ in 0..half {
                operation();
            }
            (start, Instant::now())
        };
        let (one, two) = thread::scope(|scope| {
            let other = scope.spawn(work);
            (work(), other.join().expect("the operation does not panic"))
        });
        one.1.max(two.1).saturating_duration_since(one.0.min(two.0))
    })
}
