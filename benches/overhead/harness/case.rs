use std::{
    hint,
    sync::atomic::{AtomicU8, Ordering::SeqCst},
    thread,
    time::{Duration, Instant},
};

/// Does this many operations and says how long they took, on the wall.
pub(crate) type Batch = Box<dyn FnMut(u64) -> Duration>;

/// One row of the report.
pub(crate) struct Case {
    pub(crate) name: String,
    /// The part of the report it stands in.
    pub(crate) part: &'static str,
    /// The row that it is compared with.
    pub(crate) over: Option<String>,
    /// Whether other threads do part of the work: then only its time is known.
    pub(crate) is_shared: bool,
    pub(crate) limits: Vec<Limit>,
    pub(crate) make: Box<dyn Fn() -> Batch>,
}

/// What a row has to keep within.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Limit {
    /// Nanoseconds over the row it is compared with, on a machine where raw takes [`REFERENCE_RAW`].
    Over(f64),
    /// Nanoseconds in all, on such a machine.
    Nanos(f64),
    /// Instructions in all.
    Instructions(f64),
    /// Instructions over the row it is compared with.
    InstructionsOver(f64),
    /// Allocations over the row it is compared with, else in all.
    Allocations(f64),
}

/// The row that tells how fast the machine is.
pub(crate) const RAW: &str = "raw / ready";

/// What a raw call took on the machine of the targets: times are scaled by it, so that they are ratios.
pub(crate) const REFERENCE_RAW: f64 = 99.0;

impl Case {
    pub(crate) fn new(
        part: &'static str,
        name: impl Into<String>,
        make: impl Fn() -> Batch + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            part,
            over: None,
            is_shared: false,
            limits: Vec::new(),
            make: Box::new(make),
        }
    }

    #[must_use]
    pub(crate) fn over(mut self, name: impl Into<String>) -> Self {
        self.over = Some(name.into());
        self
    }

    #[must_use]
    pub(crate) fn shared(mut self) -> Self {
        self.is_shared = true;
        self
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
