//! Changes on their way into messages, in the order in which they pack best.

use crate::rib::attribute::AttrId;
use crate::rib::prefix::PrefixId;
use crate::rib::slab::Column;
use crate::wire::Family;

use super::ring::Audience;

/// What is said about a prefix. Withdrawals go first: they are few and make room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Say {
    Withdraw,
    Announce(AttrId),
}

/// What is said about one prefix to some members. In order, what fits one message stands together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Entry {
    pub(crate) audience: Audience,
    pub(crate) family: Family,
    pub(crate) say: Say,
    pub(crate) prefix: PrefixId,
    /// 0 where a prefix has one path only.
    pub(crate) identifier: u32,
}

impl Entry {
    fn fits(&self, other: &Self) -> bool {
        (self.audience, self.family, self.say) == (other.audience, other.family, other.say)
    }
}

/// Sorted entries, taken from the front in runs that share messages.
#[derive(Debug, Clone)]
pub(crate) struct Batch {
    entries: Vec<Entry>,
    at: usize,
    /// How many entries of each prefix wait; with several paths there may be some.
    waiting: [Column<u16>; 2],
}

impl Default for Batch {
    fn default() -> Self {
        Self { entries: Vec::new(), at: 0, waiting: [Column::new(0), Column::new(0)] }
    }
}

impl Batch {
    pub(crate) fn new(mut entries: Vec<Entry>) -> Self {
        entries.sort_unstable();
        let mut batch = Self { entries, ..Self::default() };
        for entry in &batch.entries {
            let waiting = &mut batch.waiting[entry.family.index()];
            let row = entry.prefix.row();
            waiting.replace(row, waiting.get(row) + 1);
        }
        batch
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.at == self.entries.len()
    }

    pub(crate) fn contains(&self, prefix: PrefixId) -> bool {
        self.waiting[prefix.family().index()].get(prefix.row()) > 0
    }

    /// The entries at the front that say the same to the same members.
    pub(crate) fn run(&self) -> &[Entry] {
        let rest = &self.entries[self.at..];
        let Some(first) = rest.first() else { return &[] };
        &rest[..rest.partition_point(|entry| entry.fits(first))]
    }

    /// Forgets entries at the front.
    pub(crate) fn advance(&mut self, count: usize) {
        for entry in &self.entries[self.at..self.at + count] {
            let waiting = &mut self.waiting[entry.family.index()];
            let row = entry.prefix.row();
            waiting.replace(row, waiting.get(row) - 1);
        }
        self.at += count;
        if self.is_empty() {
            *self = Self::default();
        }
    }
}
