use std::time::Duration;

use crate::error::InvalidSetting;

/// How long a response body of the ready-made HTTP client may be silent: 30 s.
///
/// Longer than any pause of a working server between two frames, and short enough to free the connection
/// of one that died. A deadline alone cannot do this for long downloads.
pub const DEFAULT_BODY_IDLE: Duration = Duration::from_secs(30);

/// What a deadline layer was set to beside its deadline; each call takes it along.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Nobody chose the deadline: of a call with a commit point it ends there.
    pub(crate) preset: bool,
    pub(crate) body_idle: Option<Duration>,
    /// Everything below ends itself at the call's deadline.
    pub(crate) covered: bool,
}

/// Refuses a limit that nothing could keep.
pub(crate) fn above_zero(field: &'static str, limit: Duration) -> Result<Duration, InvalidSetting> {
    if limit.is_zero() {
        return Err(InvalidSetting::new(
            field,
            "0s",
            "above zero; Duration::MAX means no limit",
        ));
    }
    Ok(limit)
}
