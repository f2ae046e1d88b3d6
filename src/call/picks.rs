use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// How many picked endpoints a call remembers as tried.
const REMEMBERED: usize = 8;

/// The endpoints that a call was sent to, by serial number.
#[derive(Debug, Default)]
pub(super) struct Picks {
    serials: [AtomicU64; REMEMBERED],
    count: AtomicU32,
}

impl Picks {
    pub(super) fn add(&self, serial: u64) {
        let count = self.count.load(Relaxed);
        self.serials[count as usize % REMEMBERED].store(serial, Relaxed);
        self.count.store(count.wrapping_add(1), Relaxed);
    }

    /// In no order; the last eight.
    pub(super) fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        let count = (self.count.load(Relaxed) as usize).min(REMEMBERED);
        self.serials[..count]
            .iter()
            .map(|serial| serial.load(Relaxed))
    }
}
