//! The Adj-RIB-Out of peers that are told several paths for each prefix (RFC 7911).

use std::collections::BTreeMap;

use crate::rib::export::Advert;
use crate::rib::path::PeerIndex;
use crate::rib::prefix::PrefixId;
use crate::wire::Family;

/// Per prefix what was told, under which path identifier; no prefix has an empty list.
#[derive(Debug, Clone, Default)]
pub(super) struct Several(BTreeMap<PrefixId, Vec<(u32, Advert)>>);

impl Several {
    pub(super) fn get(&self, prefix: PrefixId) -> &[(u32, Advert)] {
        self.0.get(&prefix).map_or(&[], Vec::as_slice)
    }

    /// Gives back what was told before.
    pub(super) fn replace(
        &mut self,
        prefix: PrefixId,
        adverts: Vec<(u32, Advert)>,
    ) -> Vec<(u32, Advert)> {
        let before = if adverts.is_empty() {
            self.0.remove(&prefix)
        } else {
            self.0.insert(prefix, adverts)
        };
        before.unwrap_or_default()
    }

    pub(super) fn iter(&self, family: Family) -> impl Iterator<Item = (PrefixId, Advert)> {
        let prefixes = self.0.iter().filter(move |(prefix, _)| prefix.family() == family);
        prefixes.flat_map(|(prefix, told)| told.iter().map(|(_, advert)| (*prefix, *advert)))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many prefixes of a family were told of.
    pub(super) fn count(&self, family: Family) -> usize {
        self.0.keys().filter(|prefix| prefix.family() == family).count()
    }

    /// How many paths of a family a member was told: all but its own.
    pub(super) fn told_to(&self, peer: PeerIndex, family: Family) -> u64 {
        self.iter(family).map(|(_, advert)| u64::from(advert.source != peer)).sum()
    }
}
