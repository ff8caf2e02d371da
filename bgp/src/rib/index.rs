//! A hash index of record numbers: open addressing, linear probing, five octets per slot. The
//! records themselves stay in their slab, so the caller says what is equal and how to hash.
//!
//! Seven bits of each hash stand apart from the numbers: a search passes over 64 neighbours in one
//! cache line, and looks at a record only when it is almost surely the one.

/// No number in this slot; every tag has its highest bit set.
const VACANT: u8 = 0;

/// Finds record numbers by the hash of their records.
#[derive(Debug, Default)]
pub(crate) struct Index {
    /// A power of two of them, or none.
    slots: Vec<u32>,
    /// For each slot, [`VACANT`] or the tag of its record.
    tags: Vec<u8>,
    used: usize,
}

impl Index {
    /// The number of the record with this hash for which `equal` holds.
    #[inline]
    pub(crate) fn find(&self, hash: u64, equal: impl Fn(u32) -> bool) -> Option<u32> {
        let mut at = self.home(hash)?;
        let wanted = tag(hash);
        loop {
            let found = self.tags[at];
            if found == wanted && equal(self.slots[at]) {
                return Some(self.slots[at]);
            }
            if found == VACANT {
                return None;
            }
            at = self.after(at);
        }
    }

    /// Adds a record that is not there yet.
    pub(crate) fn insert(&mut self, hash: u64, id: u32, hash_of: impl Fn(u32) -> u64) {
        // Grow at seven eighths.
        if (self.used + 1) * 8 > self.slots.len() * 7 {
            let size = (self.slots.len() * 2).max(16);
            let slots = std::mem::replace(&mut self.slots, vec![0; size]);
            let tags = std::mem::replace(&mut self.tags, vec![VACANT; size]);
            let used = slots.into_iter().zip(tags).filter(|(_, tag)| *tag != VACANT);
            used.for_each(|(id, _)| self.put(hash_of(id), id));
        }
        self.put(hash, id);
        self.used += 1;
    }

    /// Removes a record that is there.
    pub(crate) fn remove(&mut self, hash: u64, id: u32, hash_of: impl Fn(u32) -> u64) {
        let mut hole = self.home(hash).expect("the record is there");
        while self.slots[hole] != id || self.tags[hole] == VACANT {
            assert_ne!(self.tags[hole], VACANT, "the record is there");
            hole = self.after(hole);
        }
        // Close the gap: pull back each follower that may stand in the hole.
        let mut at = self.after(hole);
        while self.tags[at] != VACANT {
            let home = self.home(hash_of(self.slots[at])).expect("there are slots");
            let mask = self.slots.len() - 1;
            if at.wrapping_sub(home) & mask >= at.wrapping_sub(hole) & mask {
                self.slots[hole] = self.slots[at];
                self.tags[hole] = self.tags[at];
                hole = at;
            }
            at = self.after(at);
        }
        self.tags[hole] = VACANT;
        self.used -= 1;
    }

    fn put(&mut self, hash: u64, id: u32) {
        let mut at = self.home(hash).expect("it was grown before");
        while self.tags[at] != VACANT {
            at = self.after(at);
        }
        self.slots[at] = id;
        self.tags[at] = tag(hash);
    }

    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "only the low bits are wanted")]
    fn home(&self, hash: u64) -> Option<usize> {
        let mask = self.slots.len().checked_sub(1)?;
        Some(hash as usize & mask)
    }

    #[inline]
    fn after(&self, at: usize) -> usize {
        (at + 1) & (self.slots.len() - 1)
    }
}

/// The part of a hash that is not in the place of its record.
#[inline]
const fn tag(hash: u64) -> u8 {
    (hash >> 57) as u8 | 0x80
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Few different hashes, so that runs collide and wrap around.
        #[test]
        fn it_finds_exactly_what_was_put_in(ops in prop::collection::vec((any::<bool>(), 0u32..60), 0..300)) {
            let hash = |id: u32| u64::from(id % 7) * 5;
            let mut index = Index::default();
            let mut model = BTreeSet::new();
            for (add, id) in ops {
                if add && model.insert(id) {
                    index.insert(hash(id), id, hash);
                } else if !add && model.remove(&id) {
                    index.remove(hash(id), id, hash);
                }
                for id in 0..60 {
                    let found = index.find(hash(id), |other| other == id);
                    prop_assert_eq!(found.is_some(), model.contains(&id));
                }
            }
        }
    }
}
