//! Paths: who told us what about which prefix, 16 octets each, chained per prefix with the best
//! one first. This is the Adj-RIB-In of all peers and the Loc-RIB at once.

use std::collections::HashMap;

use foldhash::fast::FixedState;

use super::attribute::AttrId;
use super::best::Ineligible;
use super::prefix::{NONE, PrefixId, Prefixes};
use super::slab::Slab;

/// The number of a peer within the RIB; 0 is ourselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PeerIndex(pub(crate) u16);

/// Ourselves, as the source of what we originate.
pub(crate) const LOCAL: PeerIndex = PeerIndex(0);

/// The number of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PathId(pub(crate) u32);

/// What became of a path in the last selection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Not judged yet, or lost.
    Unused,
    /// Used beside the best one.
    Multipath,
    /// The best one.
    Best,
    /// May not be chosen.
    Ineligible(Ineligible),
}

/// One path. Vacant records of the slab have no prefix.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Path {
    pub(crate) prefix: Option<PrefixId>,
    next: u32,
    /// After import.
    pub(crate) attr: AttrId,
    pub(crate) peer: PeerIndex,
    /// Which of the peer's sessions told it, modulo 256.
    pub(crate) generation: u8,
    pub(crate) standing: Standing,
}

impl Default for Path {
    fn default() -> Self {
        Self {
            prefix: None,
            next: NONE,
            attr: AttrId::default(),
            peer: LOCAL,
            generation: 0,
            standing: Standing::Unused,
        }
    }
}

impl Path {
    pub(crate) const fn new(
        prefix: PrefixId,
        attr: AttrId,
        peer: PeerIndex,
        generation: u8,
        standing: Standing,
    ) -> Self {
        Self { prefix: Some(prefix), next: NONE, attr, peer, generation, standing }
    }

    /// Whether it may be chosen.
    pub(crate) const fn is_eligible(&self) -> bool {
        !matches!(self.standing, Standing::Ineligible(_))
    }
}

/// All paths.
#[derive(Debug)]
pub(crate) struct Paths {
    slab: Slab<Path>,
    /// Path identifiers other than 0 (RFC 7911).
    identifiers: HashMap<PathId, u32, FixedState>,
    /// The attributes as received, where import changed them.
    received: HashMap<PathId, AttrId, FixedState>,
}

impl Paths {
    pub(crate) fn new(seed: u64) -> Self {
        let hasher = FixedState::with_seed(seed);
        Self {
            slab: Slab::new(),
            identifiers: HashMap::with_hasher(hasher.clone()),
            received: HashMap::with_hasher(hasher),
        }
    }

    #[inline]
    pub(crate) fn get(&self, id: PathId) -> &Path {
        self.slab.get(id.0)
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, id: PathId) -> &mut Path {
        self.slab.get_mut(id.0)
    }

    pub(crate) fn identifier(&self, id: PathId) -> u32 {
        self.identifiers.get(&id).copied().unwrap_or(0)
    }

    /// The attributes as received.
    pub(crate) fn received(&self, id: PathId) -> AttrId {
        self.received.get(&id).copied().unwrap_or(self.get(id).attr)
    }

    /// Notes the attributes as received, if they are not those in the path; gives back what was
    /// noted before.
    pub(crate) fn set_received(&mut self, id: PathId, attr: Option<AttrId>) -> Option<AttrId> {
        match attr {
            Some(attr) => self.received.insert(id, attr),
            None if self.received.is_empty() => None,
            None => self.received.remove(&id),
        }
    }

    /// The paths of a prefix, the best first.
    pub(crate) fn chain(
        &self,
        prefixes: &Prefixes,
        prefix: PrefixId,
    ) -> impl Iterator<Item = PathId> {
        let mut at = prefixes.head(prefix);
        std::iter::from_fn(move || {
            let id = (at != NONE).then_some(PathId(at))?;
            at = self.get(id).next;
            Some(id)
        })
    }

    /// Whether no other path follows in the chain.
    #[inline]
    pub(crate) fn is_last(&self, id: PathId) -> bool {
        self.get(id).next == NONE
    }

    /// Puts the paths of a prefix into this order.
    pub(crate) fn relink(&mut self, prefixes: &mut Prefixes, prefix: PrefixId, order: &[PathId]) {
        let mut next = NONE;
        for id in order.iter().rev() {
            self.get_mut(*id).next = next;
            next = id.0;
        }
        prefixes.set_head(prefix, next);
    }

    pub(crate) fn find(
        &self,
        prefixes: &Prefixes,
        prefix: PrefixId,
        peer: PeerIndex,
        identifier: u32,
    ) -> Option<PathId> {
        self.chain(prefixes, prefix)
            .find(|id| self.get(*id).peer == peer && self.identifier(*id) == identifier)
    }

    /// Adds a path behind the head of its chain, whatever its rank: mostly it stays there.
    pub(crate) fn insert(
        &mut self,
        prefixes: &mut Prefixes,
        path: Path,
        identifier: u32,
    ) -> PathId {
        let prefix = path.prefix.expect("only vacant records have no prefix");
        let head = prefixes.head(prefix);
        let next = if head == NONE { NONE } else { self.get(PathId(head)).next };
        let id = PathId(self.slab.insert(Path { next, ..path }));
        if head == NONE {
            prefixes.set_head(prefix, id.0);
        } else {
            self.get_mut(PathId(head)).next = id.0;
        }
        if identifier != 0 {
            self.identifiers.insert(id, identifier);
        }
        id
    }

    /// Takes a path out of its chain; gives back the path, and the attributes as received if they
    /// were noted apart.
    pub(crate) fn remove(&mut self, prefixes: &mut Prefixes, id: PathId) -> (Path, Option<AttrId>) {
        let path = *self.get(id);
        let prefix = path.prefix.expect("only vacant records have no prefix");
        let before = self.chain(prefixes, prefix).find(|other| self.get(*other).next == id.0);
        match before {
            Some(before) => self.get_mut(before).next = path.next,
            None => prefixes.set_head(prefix, path.next),
        }
        self.identifiers.remove(&id);
        let received = self.received.remove(&id);
        (self.slab.remove(id.0), received)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.slab.len()
    }

    /// One more than the largest number of a path.
    pub(crate) fn bound(&self) -> u32 {
        self.slab.bound()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_takes_sixteen_octets_and_four_for_its_chain() {
        assert!(size_of::<Path>() <= 20, "{}", size_of::<Path>());
    }
}
