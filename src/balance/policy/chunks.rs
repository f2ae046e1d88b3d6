//! A list of which a changed copy shares all but the chunks that changed.

use std::sync::Arc;

/// Large enough that the list of chunks is short, small enough that copying one is nothing.
const CHUNK: usize = 64;

/// A list in chunks of 64; a clone copies pointers to chunks.
#[derive(Debug)]
pub(crate) struct Chunks<T>(Vec<Arc<[T]>>);

impl<T> Chunks<T> {
    pub(crate) fn len(&self) -> usize {
        match self.0.split_last() {
            Some((last, full)) => full.len() * CHUNK + last.len(),
            None => 0,
        }
    }

    pub(crate) fn get(&self, index: usize) -> Option<&T> {
        self.0.get(index / CHUNK)?.get(index % CHUNK)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> + Clone {
        self.0.iter().flat_map(|chunk| chunk.iter())
    }
}

impl<T: Clone> Chunks<T> {
    /// Replaces the item at an index that exists, or adds one at the end.
    pub(crate) fn put(&mut self, index: usize, item: T) {
        let chunk = self.0.get_mut(index / CHUNK);
        if let Some(slot) = chunk.and_then(|chunk| Arc::make_mut(chunk).get_mut(index % CHUNK)) {
            *slot = item;
            return;
        }
        match self.0.last_mut().filter(|last| last.len() < CHUNK) {
            Some(last) => *last = last.iter().cloned().chain([item]).collect(),
            None => self.0.push(Arc::new([item])),
        }
    }

    /// Takes the last item away.
    pub(crate) fn pop(&mut self) -> Option<T> {
        let last = self.0.pop()?;
        let (item, rest) = last.split_last()?;
        if !rest.is_empty() {
            self.0.push(rest.into());
        }
        Some(item.clone())
    }
}

impl<T> Clone for Chunks<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Default for Chunks<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop, prop_assert_eq, proptest};

    use super::*;

    #[test]
    fn a_change_copies_one_chunk() {
        let mut one = Chunks::default();
        (0..1000).for_each(|index| one.put(index, index));
        let mut two = one.clone();
        two.put(500, 0);
        let shared = one
            .0
            .iter()
            .zip(&two.0)
            .filter(|(a, b)| Arc::ptr_eq(a, b))
            .count();
        assert_eq!(shared, one.0.len() - 1);
        assert_eq!((one.get(500), two.get(500)), (Some(&500), Some(&0)));
    }

    proptest! {
        #[test]
        fn it_is_a_list(steps in prop::collection::vec((0usize..4, 0usize..300), 0..400)) {
            let (mut chunks, mut list) = (Chunks::default(), Vec::new());
            for (kind, value) in steps {
                match (kind, list.len()) {
                    (0, _) => { chunks.pop(); list.pop(); }
                    (1, len) if len > 0 => { chunks.put(value % len, value); list[value % len] = value; }
                    (_, len) => { chunks.put(len, value); list.push(value); }
                }
            }
            prop_assert_eq!(chunks.len(), list.len());
            prop_assert_eq!(chunks.iter().copied().collect::<Vec<_>>(), list.clone());
            prop_assert_eq!(chunks.get(list.len()), None);
        }
    }
}
