//! A walk over all prefixes of some families, in slices.

use super::Rib;
use super::prefix::PrefixId;
use crate::wire::FamilySet;

/// How far it has come.
#[derive(Debug, Clone, Default)]
pub(crate) struct PrefixWalk {
    /// Those that are still to be walked through.
    families: FamilySet,
    /// The next row of the first of them.
    at: u32,
}

impl PrefixWalk {
    pub(crate) const fn through(families: FamilySet) -> Self {
        Self { families, at: 0 }
    }

    /// Begins anew, with these besides.
    pub(crate) fn begin_again(&mut self, families: FamilySet) {
        families.iter().for_each(|family| self.families.insert(family));
        self.at = 0;
    }

    /// Families that are still to be walked through.
    pub(crate) const fn families(&self) -> FamilySet {
        self.families
    }

    pub(crate) fn is_over(&self) -> bool {
        self.families.is_empty()
    }

    /// The next prefixes, so many at most.
    pub(crate) fn slice(&mut self, rib: &Rib, most: usize) -> Vec<PrefixId> {
        let Some(family) = self.families.iter().next() else { return Vec::new() };
        let slice: Vec<PrefixId> = rib.prefixes.ids(family, self.at).take(most).collect();
        match slice.last() {
            Some(last) if slice.len() == most => self.at = last.row() + 1,
            Some(_) | None => {
                self.families.remove(family);
                self.at = 0;
            }
        }
        slice
    }
}
