use std::fmt;

/// What a layer is held to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Contract {
    /// The instance that is called is the one that was polled ready, at every attempt.
    CallsReadyInstance,
    /// A service that is not ready yet is waited for, and called then.
    WaitsForReadiness,
    /// An error of readiness comes out, of `poll_ready` or of the call, and nothing is called.
    KeepsReadinessErrors,
    /// Where [asked for](super::Suite::always_ready): `poll_ready` is always ready, and what the service's said comes
    /// out of the call, once.
    AlwaysReady,
    /// No place that `poll_ready` took is held while the call waits for something else.
    HoldsNoPlace,
    /// A call that is dropped at any poll, of its head or of its body, gives everything back, and the last clone ends
    /// what the layer has running.
    GivesBack,
    /// A call that is dropped, or panics, does nothing to another one that runs.
    LeavesOthersAlone,
    /// A panic of the service, of the request body or of a callback leaves the layer usable.
    SurvivesPanics,
    /// Who waits is polled when there is news and not all the time.
    DoesNotSpin,
    /// Who waits is woken, by the waker of its last poll.
    WakesWaiters,
    /// Calls that have ended are not silently pending when they are polled again.
    EndsOnce,
    /// Clones share state.
    SharesState,
    /// [`Duration::MAX`](std::time::Duration::MAX) means never, and panics nowhere.
    TakesLongDurations,
    /// Outside of a runtime it can be made, cloned, polled ready and dropped.
    NeedsNoRuntime,
    /// It works in another runtime once its first is gone.
    OutlivesRuntime,
    /// Method, URI, headers and body of the request reach the service; status and headers of the response come back.
    PassesCalls,
    /// Data, trailers and errors of the response body come through, and its end is told truly.
    PassesBodies,
}

impl Contract {
    /// All of them, in the order in which they are checked.
    pub const ALL: [Self; 17] = [
        Self::CallsReadyInstance,
        Self::WaitsForReadiness,
        Self::KeepsReadinessErrors,
        Self::AlwaysReady,
        Self::HoldsNoPlace,
        Self::GivesBack,
        Self::LeavesOthersAlone,
        Self::SurvivesPanics,
        Self::DoesNotSpin,
        Self::WakesWaiters,
        Self::EndsOnce,
        Self::SharesState,
        Self::TakesLongDurations,
        Self::NeedsNoRuntime,
        Self::OutlivesRuntime,
        Self::PassesCalls,
        Self::PassesBodies,
    ];

    const fn claim(self) -> &'static str {
        match self {
            Self::CallsReadyInstance => "the instance that is called is the one that was ready",
            Self::WaitsForReadiness => "a service that is not ready yet is waited for",
            Self::KeepsReadinessErrors => "an error of readiness comes out and nothing is called",
            Self::AlwaysReady => "poll_ready is always ready, its errors come out of the call",
            Self::HoldsNoPlace => "no place of the service is held while the call waits",
            Self::GivesBack => "a call dropped at any point gives everything back",
            Self::LeavesOthersAlone => "a call that goes away does nothing to others",
            Self::SurvivesPanics => "a panic of others leaves the layer usable",
            Self::DoesNotSpin => "who waits is not polled all the time",
            Self::WakesWaiters => "who waits is woken, by the last waker",
            Self::EndsOnce => "a call that has ended is not pending when polled again",
            Self::SharesState => "clones share state",
            Self::TakesLongDurations => "Duration::MAX means never and panics nowhere",
            Self::NeedsNoRuntime => "it can be made and asked outside of a runtime",
            Self::OutlivesRuntime => "it works in another runtime once its first is gone",
            Self::PassesCalls => "request and response come through",
            Self::PassesBodies => "data, trailers and errors of the body come through",
        }
    }
}

impl fmt::Display for Contract {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?} ({})", self.claim())
    }
}

/// A contract that a layer broke, and how.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Breach {
    /// Which one.
    pub contract: Contract,
    /// What was found, as a sentence.
    pub found: String,
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.contract, self.found)
    }
}
