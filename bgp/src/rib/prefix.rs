//! The prefixes that have paths, each with a dense number per family.
//!
//! No trie: the speaker only ever asks for a prefix it was told in full. 12 octets per IPv4 prefix
//! and 24 per IPv6 prefix, and an index slot each.

use std::hash::BuildHasher;

use foldhash::fast::FixedState;

use super::index::Index;
use super::slab::Slab;
use crate::wire::{Family, Prefix};

/// The number of a prefix in the table. The numbers of each family are dense by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PrefixId(u32);

const IPV6: u32 = 1 << 31;

impl PrefixId {
    pub(crate) const fn new(family: Family, row: u32) -> Self {
        match family {
            Family::Ipv4 => Self(row),
            Family::Ipv6 => Self(row | IPV6),
        }
    }

    pub(crate) const fn family(self) -> Family {
        if self.0 & IPV6 == 0 { Family::Ipv4 } else { Family::Ipv6 }
    }

    /// The number within the family.
    pub(crate) const fn row(self) -> u32 {
        self.0 & !IPV6
    }
}

/// No path, no record.
pub(crate) const NONE: u32 = u32::MAX;

#[derive(Debug, Clone, Copy)]
struct Record4 {
    bits: u32,
    head: u32,
    len: u8,
}

#[derive(Debug, Clone, Copy)]
struct Record6 {
    high: u32,
    bits: [u32; 3],
    head: u32,
    len: u8,
}

impl Default for Record4 {
    fn default() -> Self {
        Self { bits: 0, head: NONE, len: 0 }
    }
}

impl Default for Record6 {
    fn default() -> Self {
        Self { high: 0, bits: [0; 3], head: NONE, len: 0 }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "splits 128 bits into four quarters")]
const fn quarters(prefix: Prefix) -> [u32; 4] {
    let bits = prefix.bits();
    [(bits >> 96) as u32, (bits >> 64) as u32, (bits >> 32) as u32, bits as u32]
}

/// All prefixes of both families, and the first path of each.
#[derive(Debug)]
pub(crate) struct Prefixes {
    ipv4: Slab<Record4>,
    ipv6: Slab<Record6>,
    index: [Index; 2],
    hasher: FixedState,
}

impl Prefixes {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            ipv4: Slab::new(),
            ipv6: Slab::new(),
            index: Default::default(),
            hasher: FixedState::with_seed(seed),
        }
    }

    #[inline]
    fn hash(hasher: &FixedState, prefix: Prefix) -> u64 {
        hasher.hash_one((prefix.bits(), prefix.len()))
    }

    pub(crate) fn find(&self, prefix: Prefix) -> Option<PrefixId> {
        self.find_hashed(prefix, Self::hash(&self.hasher, prefix))
    }

    fn find_hashed(&self, prefix: Prefix, hash: u64) -> Option<PrefixId> {
        let family = prefix.family();
        let same = |row| self.prefix(PrefixId::new(family, row)) == prefix;
        let row = self.index[family.index()].find(hash, same)?;
        Some(PrefixId::new(family, row))
    }

    pub(crate) fn find_or_insert(&mut self, prefix: Prefix) -> PrefixId {
        let hash = Self::hash(&self.hasher, prefix);
        if let Some(id) = self.find_hashed(prefix, hash) {
            return id;
        }
        let [high, low @ ..] = quarters(prefix);
        let len = prefix.len();
        let family = prefix.family();
        let row = match family {
            Family::Ipv4 => self.ipv4.insert(Record4 { bits: high, head: NONE, len }),
            Family::Ipv6 => self.ipv6.insert(Record6 { high, bits: low, head: NONE, len }),
        };
        let mut index = std::mem::take(&mut self.index[family.index()]);
        index.insert(hash, row, |row| {
            Self::hash(&self.hasher, self.prefix(PrefixId::new(family, row)))
        });
        self.index[family.index()] = index;
        PrefixId::new(family, row)
    }

    /// Forgets a prefix without paths.
    pub(crate) fn remove(&mut self, id: PrefixId) {
        debug_assert_eq!(self.head(id), NONE, "paths still hang on the prefix");
        let family = id.family();
        let prefix = self.prefix(id);
        let mut index = std::mem::take(&mut self.index[family.index()]);
        index.remove(Self::hash(&self.hasher, prefix), id.row(), |row| {
            Self::hash(&self.hasher, self.prefix(PrefixId::new(family, row)))
        });
        self.index[family.index()] = index;
        match family {
            Family::Ipv4 => drop(self.ipv4.remove(id.row())),
            Family::Ipv6 => drop(self.ipv6.remove(id.row())),
        }
    }

    #[inline]
    pub(crate) fn prefix(&self, id: PrefixId) -> Prefix {
        match id.family() {
            Family::Ipv4 => {
                let record = self.ipv4.get(id.row());
                Prefix::from_bits(Family::Ipv4, u128::from(record.bits) << 96, record.len)
            }
            Family::Ipv6 => {
                let record = self.ipv6.get(id.row());
                let quarters = [record.high, record.bits[0], record.bits[1], record.bits[2]];
                let bits = quarters.into_iter().fold(0, |bits, q| bits << 32 | u128::from(q));
                Prefix::from_bits(Family::Ipv6, bits, record.len)
            }
        }
    }

    /// The first path, or [`NONE`].
    #[inline]
    pub(crate) fn head(&self, id: PrefixId) -> u32 {
        match id.family() {
            Family::Ipv4 => self.ipv4.get(id.row()).head,
            Family::Ipv6 => self.ipv6.get(id.row()).head,
        }
    }

    #[inline]
    pub(crate) fn set_head(&mut self, id: PrefixId, head: u32) {
        match id.family() {
            Family::Ipv4 => self.ipv4.get_mut(id.row()).head = head,
            Family::Ipv6 => self.ipv6.get_mut(id.row()).head = head,
        }
    }

    /// The numbers of a family from `from` on, vacant ones left out.
    pub(crate) fn ids(&self, family: Family, from: u32) -> impl Iterator<Item = PrefixId> {
        let bound = match family {
            Family::Ipv4 => self.ipv4.bound(),
            Family::Ipv6 => self.ipv6.bound(),
        };
        (from..bound).map(move |row| PrefixId::new(family, row)).filter(|id| self.head(*id) != NONE)
    }

    /// How many prefixes there are.
    pub(crate) fn len(&self, family: Family) -> usize {
        match family {
            Family::Ipv4 => self.ipv4.len(),
            Family::Ipv6 => self.ipv6.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_keeps_its_number_until_it_is_removed() {
        let mut table = Prefixes::new(1);
        let texts = ["10.0.0.0/8", "10.0.0.0/9", "2001:db8::/32", "::/0", "0.0.0.0/0"];
        let prefixes = texts.map(|text| text.parse::<Prefix>().unwrap());
        let ids = prefixes.map(|prefix| table.find_or_insert(prefix));
        for (id, prefix) in ids.into_iter().zip(prefixes) {
            assert_eq!(table.prefix(id), prefix);
            assert_eq!(table.find(prefix), Some(id));
            assert_eq!(table.find_or_insert(prefix), id);
        }
        table.remove(ids[2]);
        assert_eq!(table.find(prefixes[2]), None);
        assert_eq!((table.len(Family::Ipv4), table.len(Family::Ipv6)), (3, 1));
    }

    #[test]
    fn records_are_as_small_as_promised() {
        assert_eq!((size_of::<Record4>(), size_of::<Record6>()), (12, 24));
    }
}
