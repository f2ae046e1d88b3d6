//! The one ledger that all servers write to. It outlives their restarts, and it de-duplicates by
//! idempotency key whichever server the charge comes through: that is what makes a retry on
//! another server safe.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

/// What a caller asks for: money for an order.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Charge {
    pub order: u64,
    pub cents: u64,
}

/// What the caller gets back for it.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub struct Receipt {
    pub number: u64,
    pub order: u64,
}

/// The key was used before, for a different charge.
#[derive(Debug)]
pub struct KeyTaken;

#[derive(Default)]
pub struct Ledger {
    book: Mutex<Book>,
}

#[derive(Default)]
struct Book {
    charges: Vec<Charge>,
    by_key: HashMap<String, (Charge, Receipt)>,
}

impl Ledger {
    /// Charges, or gives the first receipt again if a charge with this key is in the book already.
    /// A charge without a key is always made.
    pub fn charge(&self, charge: Charge, key: Option<&str>) -> Result<Receipt, KeyTaken> {
        let mut book = self.book();
        if let Some((first, receipt)) = key.and_then(|key| book.by_key.get(key)) {
            return if *first == charge {
                Ok(*receipt)
            } else {
                Err(KeyTaken)
            };
        }
        book.charges.push(charge);
        let receipt = Receipt {
            number: book.charges.len() as u64,
            order: charge.order,
        };
        if let Some(key) = key {
            book.by_key.insert(key.to_owned(), (charge, receipt));
        }
        Ok(receipt)
    }

    /// How often each order was charged. An order that was never charged is not in the map.
    pub fn times_charged(&self) -> HashMap<u64, u32> {
        let mut times = HashMap::new();
        for charge in &self.book().charges {
            *times.entry(charge.order).or_default() += 1;
        }
        times
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
