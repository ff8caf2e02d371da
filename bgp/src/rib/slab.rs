//! Storage in chunks, addressed by dense numbers. A vector that doubles would need half as much
//! memory again at the moment it grows, and the peak is what a node has to have free.

use std::mem;

const CHUNK: usize = 4096;

const fn place(id: u32) -> (usize, usize) {
    (id as usize / CHUNK, id as usize % CHUNK)
}

/// Records that come and go. A number is used again after [`Self::remove`].
#[derive(Debug)]
pub(crate) struct Slab<T> {
    chunks: Vec<Vec<T>>,
    free: Vec<u32>,
}

impl<T: Default> Slab<T> {
    pub(crate) const fn new() -> Self {
        Self { chunks: Vec::new(), free: Vec::new() }
    }

    pub(crate) fn insert(&mut self, record: T) -> u32 {
        if let Some(id) = self.free.pop() {
            *self.get_mut(id) = record;
            return id;
        }
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        let full = (self.chunks.len() - 1) * CHUNK;
        let last = self.chunks.last_mut().expect("one was just pushed if there was none");
        last.push(record);
        u32::try_from(full + last.len() - 1).expect("fewer than 2^32 records fit in memory")
    }

    /// The record; its number may be given out again.
    pub(crate) fn remove(&mut self, id: u32) -> T {
        self.free.push(id);
        mem::take(self.get_mut(id))
    }

    #[inline]
    pub(crate) fn get(&self, id: u32) -> &T {
        let (chunk, at) = place(id);
        &self.chunks[chunk][at]
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, id: u32) -> &mut T {
        let (chunk, at) = place(id);
        &mut self.chunks[chunk][at]
    }

    /// One more than the largest number ever given out. Numbers below may be vacant: such a
    /// record is the default one.
    pub(crate) fn bound(&self) -> u32 {
        let full = self.chunks.len().saturating_sub(1) * CHUNK;
        u32::try_from(full + self.chunks.last().map_or(0, Vec::len)).expect("ids are 32 bits")
    }

    /// How many records are in use.
    pub(crate) fn len(&self) -> usize {
        self.bound() as usize - self.free.len()
    }
}

/// One value per number, the default one where none was set.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Column<T> {
    chunks: Vec<Option<Box<[T]>>>,
    default: T,
}

impl<T: Copy + PartialEq> Column<T> {
    pub(crate) const fn new(default: T) -> Self {
        Self { chunks: Vec::new(), default }
    }

    #[inline]
    pub(crate) fn get(&self, id: u32) -> T {
        let (chunk, at) = place(id);
        match self.chunks.get(chunk) {
            Some(Some(chunk)) => chunk[at],
            Some(None) | None => self.default,
        }
    }

    /// The value that stood there before.
    #[inline]
    pub(crate) fn replace(&mut self, id: u32, value: T) -> T {
        let (chunk, at) = place(id);
        if value == self.default && self.chunks.get(chunk).is_none_or(Option::is_none) {
            return value;
        }
        if self.chunks.len() <= chunk {
            self.chunks.resize(chunk + 1, None);
        }
        let default = self.default;
        let slots = self.chunks[chunk].get_or_insert_with(|| vec![default; CHUNK].into());
        mem::replace(&mut slots[at], value)
    }

    /// How many values there is room for: what a copy costs.
    pub(crate) fn rows(&self) -> usize {
        self.chunks.iter().flatten().count() * CHUNK
    }

    /// Numbers and values that are not the default one, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, T)> {
        let full = self.chunks.iter().enumerate();
        let chunks = full.filter_map(|(number, chunk)| Some((number, chunk.as_deref()?)));
        chunks.flat_map(move |(number, chunk)| {
            let ids = (number * CHUNK..).map(|id| u32::try_from(id).expect("ids are 32 bits"));
            ids.zip(chunk.iter().copied()).filter(|(_, value)| *value != self.default)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_dense_and_used_again() {
        let mut slab = Slab::new();
        let ids: Vec<u32> = (0..10_000).map(|n| slab.insert(n)).collect();
        assert_eq!(ids, (0..10_000).collect::<Vec<_>>());
        assert_eq!(slab.remove(4_096), 4_096);
        assert_eq!((slab.len(), slab.bound()), (9_999, 10_000));
        assert_eq!(slab.insert(7), 4_096);
    }

    #[test]
    fn a_column_holds_only_what_was_set() {
        let mut column = Column::new(0u32);
        assert_eq!(column.replace(9_000, 0), 0);
        assert!(column.chunks.is_empty());
        assert_eq!(column.replace(9_000, 5), 0);
        assert_eq!(column.replace(9_000, 6), 5);
        assert_eq!((column.get(9_000), column.get(8_999), column.get(99_999)), (6, 0, 0));
        assert_eq!(column.iter().collect::<Vec<_>>(), [(9_000, 6)]);
    }
}
