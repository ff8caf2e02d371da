//! Prefixes that wait for something, each at most once, in order.

use std::collections::VecDeque;

use super::prefix::PrefixId;
use super::slab::Column;

/// A queue that holds a prefix once, however often it is pushed.
#[derive(Debug, Clone)]
pub(crate) struct PrefixQueue {
    order: VecDeque<PrefixId>,
    waiting: [Column<bool>; 2],
}

impl Default for PrefixQueue {
    fn default() -> Self {
        Self { order: VecDeque::new(), waiting: [Column::new(false), Column::new(false)] }
    }
}

impl PrefixQueue {
    pub(crate) fn push(&mut self, prefix: PrefixId) {
        if !self.waiting[prefix.family().index()].replace(prefix.row(), true) {
            self.order.push_back(prefix);
        }
    }

    pub(crate) fn pop(&mut self) -> Option<PrefixId> {
        let prefix = self.order.pop_front()?;
        self.waiting[prefix.family().index()].replace(prefix.row(), false);
        if self.order.is_empty() && self.order.capacity() > 4096 {
            self.order = VecDeque::new();
        }
        Some(prefix)
    }

    pub(crate) fn contains(&self, prefix: PrefixId) -> bool {
        self.waiting[prefix.family().index()].get(prefix.row())
    }

    pub(crate) fn len(&self) -> usize {
        self.order.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}
