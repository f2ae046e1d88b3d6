use std::{io, time::Duration};

/// How the instances of a scripted service become ready; each begins anew after every call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Readiness {
    /// At the first poll.
    #[default]
    Always,
    /// Pending for so many polls, waking at once.
    Polls(u32),
    /// This long after the first poll.
    After(Duration),
    /// Never; wakes nobody until it is set to something else.
    Never,
    /// Fails with an error of this kind.
    Fail(io::ErrorKind),
    /// Ready while fewer instances than this are called or hold a place, as a concurrency limit is.
    Slots(usize),
    /// Panics when asked.
    Panic,
}
