use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

/// The most distinct endpoints that are told apart.
///
/// A spread of three is what a breaker over a balanced service asks for: more would not change
/// its answer.
const MOST: usize = 3;

/// Up to [`MOST`] distinct endpoint tags; exact, unlike one bit per endpoint in a mask, where the
/// serials 1, 65 and 129 of a set of three would look like one endpoint for ever.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Distinct {
    tags: [u16; MOST],
    len: usize,
}

impl Distinct {
    pub(super) fn insert(&mut self, tag: u16) {
        if self.len < MOST && !self.tags[..self.len].contains(&tag) {
            self.tags[self.len] = tag;
            self.len += 1;
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }
}

/// The short form of an endpoint's serial number, never 0.
///
/// Two endpoints share one only if 65 535 endpoints joined between them.
pub(super) fn tag(serial: u64) -> u16 {
    (serial % u64::from(u16::MAX)) as u16 + 1
}

/// The distinct endpoints of one bucket: `epoch:16 | tag:16 | tag:16 | tag:16`.
#[derive(Debug, Default)]
pub(crate) struct Tags(AtomicU64);

impl Tags {
    /// Adds the endpoint with this serial to those of this epoch, which replaces any other epoch.
    pub(crate) fn insert(&self, epoch: u32, serial: u64) {
        let tag = tag(serial);
        // A failed update means that the tag is there already, or that there is no room for it.
        let _ = self
            .0
            .fetch_update(Release, Relaxed, |word| with_tag(word, epoch as u16, tag));
    }

    /// How many there are: 3 means three or more.
    pub(crate) fn count(&self, epoch: u32) -> usize {
        let mut distinct = Distinct::default();
        self.collect(epoch, &mut distinct);
        distinct.len()
    }

    /// Adds those of this epoch to others.
    pub(super) fn collect(&self, epoch: u32, into: &mut Distinct) {
        let word = self.0.load(Acquire);
        if epoch_of(word) == epoch as u16 {
            (0..MOST)
                .map(|place| tag_at(word, place))
                .filter(|&tag| tag != 0)
                .for_each(|tag| into.insert(tag));
        }
    }
}

fn with_tag(word: u64, epoch: u16, tag: u16) -> Option<u64> {
    let word = if epoch_of(word) == epoch {
        word
    } else {
        u64::from(epoch) << 48
    };
    for place in 0..MOST {
        match tag_at(word, place) {
            0 => return Some(word | u64::from(tag) << (16 * place)),
            there if there == tag => return None,
            _ => {}
        }
    }
    None
}

fn epoch_of(word: u64) -> u16 {
    (word >> 48) as u16
}

fn tag_at(word: u64, place: usize) -> u16 {
    (word >> (16 * place)) as u16
}

#[cfg(test)]
mod tests {
    use super::Tags;

    #[test]
    fn serials_that_share_a_residue_of_64_are_three_endpoints() {
        let tags = Tags::default();
        for serial in [1, 65, 129, 1, 65] {
            tags.insert(7, serial);
        }
        assert_eq!(tags.count(7), 3);
    }

    #[test]
    fn a_new_epoch_starts_without_endpoints() {
        let tags = Tags::default();
        tags.insert(7, 1);
        assert_eq!(tags.count(8), 0);
        tags.insert(8, 2);
        assert_eq!(tags.count(8), 1);
    }

    #[test]
    fn serial_zero_is_an_endpoint() {
        let tags = Tags::default();
        tags.insert(0, 0);
        assert_eq!(tags.count(0), 1);
    }
}
