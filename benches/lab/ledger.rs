//! What servers have charged, and under which keys.

use std::collections::BTreeMap;

/// Charges of a run. Servers share it, as they would a database, and commit at the end of their work.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    /// Charges of each call that nothing stopped.
    charged: BTreeMap<u32, u32>,
    /// The keys under which each call came.
    keys: BTreeMap<u32, Vec<String>>,
    /// Whose a key is.
    owners: BTreeMap<String, u32>,
    /// Calls whose key was another's.
    misused: u32,
}

impl Ledger {
    /// Takes what an attempt comes to. A key that was charged is not charged again.
    pub(crate) fn take(&mut self, call: u32, key: Option<&str>, commits: bool) {
        if let Some(key) = key {
            self.note_key(call, key);
        }
        if !commits {
            return;
        }
        let charges = self.charged.entry(call).or_default();
        match key {
            Some(_) => *charges = 1,
            None => *charges += 1,
        }
    }

    fn note_key(&mut self, call: u32, key: &str) {
        let keys = self.keys.entry(call).or_default();
        if !keys.iter().any(|known| known == key) {
            keys.push(key.to_owned());
        }
        let owner = *self.owners.entry(key.to_owned()).or_insert(call);
        self.misused += u32::from(owner != call);
    }

    /// Charges beyond the first of a call.
    pub(crate) fn doubles(&self) -> u32 {
        self.charged
            .values()
            .map(|charges| charges.saturating_sub(1))
            .sum()
    }

    pub(crate) fn has(&self, call: u32) -> bool {
        self.charged.get(&call).is_some_and(|charges| *charges > 0)
    }

    /// Calls with several keys, and keys of several calls.
    pub(crate) fn misused(&self) -> u32 {
        let several = self.keys.values().filter(|keys| keys.len() > 1).count();
        self.misused + several as u32
    }
}
