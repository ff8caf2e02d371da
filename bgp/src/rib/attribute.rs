//! Attribute sets, each stored once however many paths and adjacent routers share it.
//!
//! A set is a canonical block of bytes and a next hop; equal sets have equal numbers. Sets count
//! their users and go when the last one does. The decision reads only the summary.

use std::hash::BuildHasher;
use std::net::{Ipv4Addr, Ipv6Addr};

use foldhash::fast::FixedState;

use super::import::summarize;
use super::index::Index;
use super::slab::Slab;
use crate::wire::{Attributes, LargeCommunity, NextHop, Summary};

/// The number of an attribute set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct AttrId(pub(crate) u32);

/// An attribute set, looked at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Block<'a> {
    /// `None`: ourselves, whoever asks.
    pub(crate) next_hop: Option<NextHop>,
    pub(crate) summary: Summary,
    pub(crate) raw: &'a [u8],
}

impl<'a> Block<'a> {
    /// Attributes that we put together ourselves, in canonical form.
    pub(crate) fn made(next_hop: Option<NextHop>, raw: &'a [u8]) -> Self {
        Self { next_hop, summary: summarize(raw), raw }
    }

    pub(crate) const fn attributes(&self) -> Attributes<'a> {
        Attributes::new(self.raw)
    }

    pub(crate) fn has_community(&self, community: u32) -> bool {
        self.attributes().communities().any(|each| each == community)
    }

    pub(crate) fn has_large_community(&self, community: LargeCommunity) -> bool {
        self.attributes().large_communities().any(|each| each == community)
    }

    pub(crate) fn as_path_begins_with(&self, start: &[u32]) -> bool {
        start.is_empty() || {
            let mut path = self.attributes().as_path().asns();
            start.iter().all(|asn| path.next() == Some(*asn))
        }
    }
}

/// A set as it is stored. Some ten routes share one on the Internet, so each octet here is a tenth of one
/// for each route.
#[derive(Debug, Default)]
struct Set {
    uses: u32,
    /// Half of what the index is asked with; see [`widen`].
    hash: u32,
    hop: Hop,
    summary: Summary,
    raw: Box<[u8]>,
}

/// A next hop, or none, in 24 octets: a pair of addresses, which few peers send, stands elsewhere.
#[derive(Debug, Default)]
enum Hop {
    #[default]
    None,
    V4(Ipv4Addr),
    V6(Ipv6Addr),
    Pair(Box<(Ipv6Addr, Ipv6Addr)>),
}

impl Hop {
    fn new(next_hop: Option<NextHop>) -> Self {
        match next_hop {
            None => Self::None,
            Some(NextHop::V4(address)) => Self::V4(address),
            Some(NextHop::V6(address)) => Self::V6(address),
            Some(NextHop::V6WithLinkLocal { global, link_local }) => {
                Self::Pair(Box::new((global, link_local)))
            }
        }
    }

    #[inline]
    fn get(&self) -> Option<NextHop> {
        match self {
            Self::None => None,
            Self::V4(address) => Some(NextHop::V4(*address)),
            Self::V6(address) => Some(NextHop::V6(*address)),
            Self::Pair(both) => {
                let (global, link_local) = **both;
                Some(NextHop::V6WithLinkLocal { global, link_local })
            }
        }
    }
}

/// The hash of a set for the index, which looks at both ends of it.
const fn widen(hash: u32) -> u64 {
    (hash as u64) << 32 | hash as u64
}

/// All attribute sets in use.
#[derive(Debug)]
pub(crate) struct AttributeStore {
    sets: Slab<Set>,
    index: Index,
    hasher: FixedState,
}

impl AttributeStore {
    pub(crate) fn new(seed: u64) -> Self {
        Self { sets: Slab::new(), index: Index::default(), hasher: FixedState::with_seed(seed) }
    }

    /// The number of this set, with one use more.
    pub(crate) fn intern(&mut self, block: Block<'_>) -> AttrId {
        let hash = self.hash(block);
        let same = |id| {
            let set: &Set = self.sets.get(id);
            set.hash == hash && *set.raw == *block.raw && set.hop.get() == block.next_hop
        };
        if let Some(id) = self.index.find(widen(hash), same) {
            self.sets.get_mut(id).uses += 1;
            return AttrId(id);
        }
        let Block { next_hop, summary, raw } = block;
        let hop = Hop::new(next_hop);
        let id = self.sets.insert(Set { uses: 1, hash, hop, summary, raw: raw.into() });
        self.index.insert(widen(hash), id, |id| widen(self.sets.get(id).hash));
        AttrId(id)
    }

    #[expect(clippy::cast_possible_truncation, reason = "32 bits tell millions of sets apart")]
    fn hash(&self, block: Block<'_>) -> u32 {
        self.hasher.hash_one((block.raw, block.next_hop)) as u32
    }

    /// One use more.
    pub(crate) fn retain(&mut self, id: AttrId) -> AttrId {
        self.sets.get_mut(id.0).uses += 1;
        id
    }

    /// One use less.
    pub(crate) fn release(&mut self, id: AttrId) {
        let set = self.sets.get_mut(id.0);
        set.uses -= 1;
        if set.uses == 0 {
            let hash = widen(set.hash);
            self.index.remove(hash, id.0, |id| widen(self.sets.get(id).hash));
            self.sets.remove(id.0);
        }
    }

    #[inline]
    pub(crate) fn get(&self, id: AttrId) -> Block<'_> {
        let set = self.sets.get(id.0);
        Block { next_hop: set.hop.get(), summary: set.summary, raw: &set.raw }
    }

    /// How many different sets are in use.
    pub(crate) fn len(&self) -> usize {
        self.sets.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(raw: &[u8]) -> Block<'_> {
        Block { next_hop: None, summary: Summary::default(), raw }
    }

    #[test]
    fn a_set_is_small() {
        assert_eq!(size_of::<Set>(), 80);
    }

    #[test]
    fn each_next_hop_comes_back_as_it_was() {
        let mut store = AttributeStore::new(3);
        let [global, link_local] = ["2001:db8::1", "fe80::1"].map(|text| text.parse().unwrap());
        let hops = [
            None,
            Some(NextHop::V4([10, 0, 0, 1].into())),
            Some(NextHop::V6(global)),
            Some(NextHop::V6(link_local)),
            Some(NextHop::V6WithLinkLocal { global, link_local }),
            Some(NextHop::V6WithLinkLocal { global, link_local: global }),
        ];
        let sets = hops.map(|next_hop| store.intern(Block { next_hop, ..block(b"one") }));
        assert_eq!(sets.map(|id| store.get(id).next_hop), hops);
        assert_eq!(store.len(), hops.len());
    }

    #[test]
    fn equal_sets_share_a_number_until_the_last_user_goes() {
        let mut store = AttributeStore::new(3);
        let one = store.intern(block(b"one"));
        let two = store.intern(block(b"two"));
        assert_ne!(one, two);
        assert_eq!(store.intern(block(b"one")), one);
        let hop = Some(NextHop::V4([10, 0, 0, 1].into()));
        assert_ne!(store.intern(Block { next_hop: hop, ..block(b"one") }), one);
        store.release(one);
        assert_eq!(store.get(one).raw, b"one");
        store.release(one);
        assert_eq!(store.len(), 2);
    }
}
