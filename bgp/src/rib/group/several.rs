//! The Adj-RIB-Out of peers that are told several paths for each prefix (RFC 7911).

use std::collections::BTreeMap;

use crate::rib::export::Advert;
use crate::rib::path::PeerIndex;
use crate::rib::prefix::PrefixId;
use crate::wire::Family;

/// Per prefix what was told, under which path identifier; no prefix has an empty list.
#[derive(Debug, Clone, Default)]
pub(super) struct Several {
    told: BTreeMap<PrefixId, Vec<(u32, Advert)>>,
    /// How many prefixes, by family.
    counts: [usize; 2],
}

impl Several {
    pub(super) fn get(&self, prefix: PrefixId) -> &[(u32, Advert)] {
        self.told.get(&prefix).map_or(&[], Vec::as_slice)
    }

    /// Gives back what was told before.
    pub(super) fn replace(
        &mut self,
        prefix: PrefixId,
        adverts: Vec<(u32, Advert)>,
    ) -> Vec<(u32, Advert)> {
        let count = &mut self.counts[prefix.family().index()];
        *count += usize::from(!adverts.is_empty());
        let before = if adverts.is_empty() {
            self.told.remove(&prefix)
        } else {
            self.told.insert(prefix, adverts)
        };
        *count -= usize::from(before.is_some());
        before.unwrap_or_default()
    }

    pub(super) fn iter(&self, family: Family) -> impl Iterator<Item = (PrefixId, Advert)> {
        let prefixes = self.told.iter().filter(move |(prefix, _)| prefix.family() == family);
        prefixes.flat_map(|(prefix, told)| told.iter().map(|(_, advert)| (*prefix, *advert)))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.told.is_empty()
    }

    /// How many prefixes of a family were told of.
    pub(super) const fn count(&self, family: Family) -> usize {
        self.counts[family.index()]
    }

    /// How many paths of a family a member was told: all but its own.
    pub(super) fn told_to(&self, peer: PeerIndex, family: Family) -> u64 {
        self.iter(family).map(|(_, advert)| u64::from(advert.source != peer)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rib::attribute::AttrId;

    #[test]
    fn the_prefixes_of_each_family_are_counted() {
        let [one, two] = [1, 2].map(|row| PrefixId::new(Family::Ipv4, row));
        let six = PrefixId::new(Family::Ipv6, 1);
        let advert = Advert { attr: AttrId(7), source: PeerIndex(3) };
        let several = vec![(1, advert), (2, advert)];
        let mut told = Several::default();
        for (prefix, adverts, expected) in [
            (one, several.clone(), [1, 0]),
            (one, vec![(1, advert)], [1, 0]),
            (six, several.clone(), [1, 1]),
            (two, vec![], [1, 1]),
            (two, several, [2, 1]),
            (one, vec![], [1, 1]),
            (six, vec![], [1, 0]),
        ] {
            told.replace(prefix, adverts);
            assert_eq!(Family::ALL.map(|family| told.count(family)), expected);
        }
    }
}
