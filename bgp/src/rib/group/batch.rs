//! Changes on their way into messages, in the order in which they pack best.

use crate::rib::attribute::AttrId;
use crate::rib::prefix::PrefixId;
use crate::rib::slab::Column;
use crate::wire::Family;

use super::ring::Audience;

/// What is said about a prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Say {
    Withdraw,
    Announce(AttrId),
}

/// What is said about one prefix to some members. In order, what fits one message stands together: the
/// number of a prefix begins with its family. A whole table of them may wait, so they are small.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Entry {
    pub(crate) audience: Audience,
    /// 0 for a withdrawal, else one more than the number of the attributes. Withdrawals go first: they are
    /// few and make room.
    said: u32,
    pub(crate) prefix: PrefixId,
    /// 0 where a prefix has one path only.
    pub(crate) identifier: u32,
}

impl Entry {
    pub(crate) const fn new(
        audience: Audience,
        say: Say,
        prefix: PrefixId,
        identifier: u32,
    ) -> Self {
        let said = match say {
            Say::Withdraw => 0,
            Say::Announce(AttrId(id)) => id + 1,
        };
        Self { audience, said, prefix, identifier }
    }

    pub(crate) const fn say(&self) -> Say {
        match self.said.checked_sub(1) {
            None => Say::Withdraw,
            Some(id) => Say::Announce(AttrId(id)),
        }
    }

    pub(crate) const fn family(&self) -> Family {
        self.prefix.family()
    }

    fn fits(&self, other: &Self) -> bool {
        let message = |entry: &Self| (entry.audience, entry.said, entry.family());
        message(self) == message(other)
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
            let waiting = &mut batch.waiting[entry.family().index()];
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
            let waiting = &mut self.waiting[entry.family().index()];
            let row = entry.prefix.row();
            waiting.replace(row, waiting.get(row) - 1);
        }
        self.at += count;
        if self.is_empty() {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rib::path::PeerIndex;

    #[test]
    fn an_entry_is_small() {
        assert_eq!(size_of::<Entry>(), 16);
    }

    #[test]
    fn what_fits_one_message_is_one_run() {
        let audience = Audience::Except(PeerIndex(1));
        let entry = |say, family, row| Entry::new(audience, say, PrefixId::new(family, row), 0);
        let (four, six) = (Family::Ipv4, Family::Ipv6);
        let [zero, one] = [0, 1].map(|id| Say::Announce(AttrId(id)));
        let runs = [
            vec![entry(Say::Withdraw, four, 9)],
            vec![entry(Say::Withdraw, six, 0)],
            vec![entry(zero, four, 2), entry(zero, four, 8)],
            vec![entry(zero, six, 1), entry(zero, six, 2)],
            vec![entry(one, four, 1)],
        ];
        let mut mixed = runs.concat();
        mixed.reverse();
        let mut batch = Batch::new(mixed);
        for run in runs {
            assert_eq!(batch.run(), run);
            batch.advance(run.len());
        }
        assert!(batch.is_empty());
    }
}
