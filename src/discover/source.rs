use std::sync::Arc;

use futures::stream::BoxStream;

use crate::{
    discover::Endpoint,
    error::{BoxError, InvalidSetting},
};

/// A source of endpoint sets.
///
/// Each item of a watch is the whole set as it is now. `Err` says that the set could not be learnt, and why; whoever
/// watches keeps the last set. The end of a watch says that the set will not change any more.
///
/// ```
/// use evenkeel::{BoxError, discover::{Discover, Endpoint}};
/// use futures::{StreamExt, stream::{self, BoxStream}};
///
/// /// Reads the set once, from a variable that the deployment sets.
/// struct FromVariable(&'static str);
///
/// impl Discover for FromVariable {
///     fn watch(&self) -> BoxStream<'static, Result<Vec<Endpoint>, BoxError>> {
///         let read = |name: &str| -> Result<Vec<Endpoint>, BoxError> {
///             Ok(std::env::var(name)?.split(',').map(Endpoint::parse).collect::<Result<_, _>>()?)
///         };
///         stream::iter([read(self.0)]).boxed()
///     }
/// }
/// ```
pub trait Discover: Send + Sync + 'static {
    /// Starts to watch the set. The first item is the set as it is found now.
    ///
    /// It is called on first use, and again if the runtime that drove the last watch is gone. It may be called outside
    /// a runtime and must not block; what needs a runtime belongs into the stream.
    fn watch(&self) -> BoxStream<'static, Result<Vec<Endpoint>, BoxError>>;

    /// The set, where it is known from the start and never changes; then nothing is watched. Default: `None`.
    fn fixed(&self) -> Option<Vec<Endpoint>> {
        None
    }

    /// Says whether the settings of the source can work at all. Builders ask before anything else. Default: they can.
    ///
    /// # Errors
    ///
    /// The first setting that is out of its range.
    fn check(&self) -> Result<(), InvalidSetting> {
        Ok(())
    }
}

impl<D: Discover + ?Sized> Discover for Arc<D> {
    fn watch(&self) -> BoxStream<'static, Result<Vec<Endpoint>, BoxError>> {
        (**self).watch()
    }

    fn fixed(&self) -> Option<Vec<Endpoint>> {
        (**self).fixed()
    }

    fn check(&self) -> Result<(), InvalidSetting> {
        (**self).check()
    }
}

impl<D: Discover + ?Sized> Discover for Box<D> {
    fn watch(&self) -> BoxStream<'static, Result<Vec<Endpoint>, BoxError>> {
        (**self).watch()
    }

    fn fixed(&self) -> Option<Vec<Endpoint>> {
        (**self).fixed()
    }

    fn check(&self) -> Result<(), InvalidSetting> {
        (**self).check()
    }
}
