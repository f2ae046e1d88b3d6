use std::fmt;

/// What is known of an attempt's effect on the other side, from harmless to worst.
///
/// A call's disposition is the worst over all its attempts, so that it answers the one question a caller
/// has after a failed payment: may it have happened?
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Disposition {
    /// It never left this process, or never reached a server: it has not happened.
    NotSent,
    /// The server says that it did not process it: it has not happened.
    Refused,
    /// The server answered; the answer says what happened.
    Answered,
    /// It was sent and no answer came: it may have happened.
    Unknown,
}

impl Disposition {
    /// Whether the other side may have acted on the call without our having its answer.
    #[must_use]
    pub const fn may_have_happened(self) -> bool {
        matches!(self, Self::Unknown)
    }

    pub(crate) const fn from_index(index: u8) -> Self {
        match index {
            0 => Self::NotSent,
            1 => Self::Refused,
            2 => Self::Answered,
            _ => Self::Unknown,
        }
    }
}

impl fmt::Display for Disposition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotSent => "not sent",
            Self::Refused => "not processed by the server",
            Self::Answered => "answered by the server",
            Self::Unknown => "sent, no answer",
        })
    }
}
