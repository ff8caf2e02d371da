//! Prefixes that wait for something, each at most once, in order.

use std::collections::VecDeque;

use super::prefix::PrefixId;
use super::slab::Column;

/// A set of prefixes, an octet for each of those that stand near one in it.
#[derive(Debug, Clone)]
pub(crate) struct PrefixSet([Column<bool>; 2]);

impl Default for PrefixSet {
    fn default() -> Self {
        Self([Column::new(false), Column::new(false)])
    }
}

impl PrefixSet {
    /// Whether it is new.
    pub(crate) fn insert(&mut self, prefix: PrefixId) -> bool {
        !self.0[prefix.family().index()].replace(prefix.row(), true)
    }

    /// Whether it was there.
    pub(crate) fn remove(&mut self, prefix: PrefixId) -> bool {
        self.0[prefix.family().index()].replace(prefix.row(), false)
    }

    pub(crate) fn contains(&self, prefix: PrefixId) -> bool {
        self.0[prefix.family().index()].get(prefix.row())
    }
}

/// A queue that holds a prefix once, however often it is pushed.
#[derive(Debug, Clone, Default)]
pub(crate) struct PrefixQueue {
    order: VecDeque<PrefixId>,
    waiting: PrefixSet,
}

impl PrefixQueue {
    pub(crate) fn push(&mut self, prefix: PrefixId) {
        if self.waiting.insert(prefix) {
            self.order.push_back(prefix);
        }
    }

    pub(crate) fn pop(&mut self) -> Option<PrefixId> {
        let prefix = self.order.pop_front()?;
        self.waiting.remove(prefix);
        if self.order.is_empty() && self.order.capacity() > 4096 {
            self.order = VecDeque::new();
        }
        Some(prefix)
    }

    pub(crate) fn contains(&self, prefix: PrefixId) -> bool {
        self.waiting.contains(prefix)
    }

    pub(crate) fn len(&self) -> usize {
        self.order.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}
