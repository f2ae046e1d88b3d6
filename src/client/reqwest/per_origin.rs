//! One stack for each origin that a wrapped client calls: one breaker, one budget.

use std::{
    collections::HashMap,
    fmt,
    hash::{Hash, Hasher},
    sync::{
        Arc, Mutex, Once, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwap;
use http::{Request, uri::Authority};

use super::client::ClientService;
use crate::{
    breaker::State,
    call::Body,
    client::settings::Composed,
    clock,
    discover::Origin,
    error::{Error, ErrorKind, InvalidSetting},
};

/// How many origins have a stack of their own; further ones share one.
///
/// Enough for every service that one program calls, and a bound for one that calls what its users name.
const MAX_ORIGINS: usize = 1024;

type Make =
    dyn Fn(Option<&Origin>) -> Result<Composed<ClientService>, InvalidSetting> + Send + Sync;

/// Finds for each call the stack of its origin.
#[derive(Clone)]
pub(super) struct PerOrigin(Arc<Shared>);

struct Shared {
    make: Box<Make>,
    stacks: ArcSwap<HashMap<Key, Arc<Entry>>>,
    writing: Mutex<()>,
    overflow: Arc<Entry>,
    /// The overflow is logged once: whoever calls that many origins calls them often.
    logged: Once,
    calls: AtomicU64,
}

/// Scheme and authority, as the URL has them: lower case, without a default port.
#[derive(Clone)]
struct Key {
    https: bool,
    authority: Authority,
}

impl Key {
    /// As it stands: an authority by itself is compared letter by letter, whatever their case.
    fn parts(&self) -> (bool, &str) {
        (self.https, self.authority.as_str())
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.parts().hash(state);
    }
}

/// One origin's stack.
pub(super) struct Entry {
    stack: Composed<ClientService>,
    /// The number of the last call, so that the entry unused for longest goes first.
    last_call: AtomicU64,
}

impl Entry {
    fn new(stack: Composed<ClientService>) -> Arc<Self> {
        Arc::new(Self {
            stack,
            last_call: AtomicU64::new(0),
        })
    }

    pub(super) fn stack(&self) -> &ClientService {
        &self.stack.service
    }

    /// Nothing is lost with it: no call runs, the breaker is closed, the budget is what a new one has.
    fn is_idle(self: &Arc<Self>) -> bool {
        let now = clock::now();
        // One of the map that is being read, one of its copy.
        let unused = Arc::strong_count(self) <= 2;
        let closed = self.stack.breaker.state() == State::Closed;
        unused
            && closed
            && self
                .stack
                .budget
                .as_ref()
                .is_none_or(|budget| budget.is_full(now))
    }
}

impl PerOrigin {
    /// Checks that a stack can be made, so that none fails later.
    pub(super) fn new<F>(make: F) -> Result<Self, InvalidSetting>
    where
        F: Fn(Option<&Origin>) -> Result<Composed<ClientService>, InvalidSetting>
            + Send
            + Sync
            + 'static,
    {
        let overflow = Entry::new(make(None)?);
        Ok(Self(Arc::new(Shared {
            make: Box::new(make),
            stacks: ArcSwap::default(),
            writing: Mutex::new(()),
            overflow,
            logged: Once::new(),
            calls: AtomicU64::new(0),
        })))
    }

    /// The stack of the request's origin; whoever keeps it keeps it from being evicted.
    ///
    /// # Errors
    /// If the request has no origin; it is not sent.
    pub(super) fn entry(&self, request: &Request<Body>) -> Result<Arc<Entry>, Error> {
        self.known_or_made(request)
            .map_err(|invalid| Error::new(ErrorKind::InvalidCall).with_source(invalid))
    }

    fn known_or_made(&self, request: &Request<Body>) -> Result<Arc<Entry>, InvalidSetting> {
        let shared = &*self.0;
        let uri = request.uri();
        let Some(authority) = uri.authority().cloned() else {
            return Err(InvalidSetting::new("url", uri.path(), "an absolute URL"));
        };
        let key = Key {
            https: uri.scheme_str() == Some("https"),
            authority,
        };
        let known = shared.stacks.load().get(&key).cloned();
        let entry = known.map_or_else(|| shared.insert(key), Ok)?;
        entry.last_call.store(
            shared.calls.fetch_add(1, Ordering::Relaxed),
            Ordering::Relaxed,
        );
        Ok(entry)
    }
}

impl Shared {
    /// Adds the origin's stack; two that race for one origin share what the first of them made.
    fn insert(&self, key: Key) -> Result<Arc<Entry>, InvalidSetting> {
        let scheme = if key.https { "https" } else { "http" };
        let origin = Origin::parse(&format!("{scheme}://{}", key.authority))?;
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut stacks = HashMap::clone(&self.stacks.load());
        if let Some(entry) = stacks.get(&key) {
            return Ok(Arc::clone(entry));
        }
        if stacks.len() >= MAX_ORIGINS && !evict(&mut stacks) {
            self.logged.call_once(|| {
                tracing::warn!(
                    limit = MAX_ORIGINS,
                    "every origin is in use: further ones share one breaker and budget"
                );
            });
            return Ok(Arc::clone(&self.overflow));
        }
        let entry = Entry::new((self.make)(Some(&origin))?);
        stacks.insert(key, Arc::clone(&entry));
        self.stacks.store(Arc::new(stacks));
        Ok(entry)
    }
}

/// Removes the idle origin that was unused for longest.
fn evict(stacks: &mut HashMap<Key, Arc<Entry>>) -> bool {
    let idle = stacks.iter().filter(|(_, entry)| entry.is_idle());
    let oldest = idle.min_by_key(|(_, entry)| entry.last_call.load(Ordering::Relaxed));
    let Some(key) = oldest.map(|(key, _)| key.clone()) else {
        return false;
    };
    stacks.remove(&key).is_some()
}

impl fmt::Debug for PerOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PerOrigin({} origins)", self.0.stacks.load().len())
    }
}
