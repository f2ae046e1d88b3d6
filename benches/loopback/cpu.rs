//! The processor time of one thread.

#![expect(
    unsafe_code,
    reason = "the standard library does not tell it; one call of the system does"
)]

use std::time::Duration;

/// What this thread has used so far.
#[cfg(unix)]
pub(super) fn used() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the pointer is to a value of the right type that outlives the call.
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(failed, 0, "a thread has a clock of its own");
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
