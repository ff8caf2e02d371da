//! Removing what a peer left behind, in slices: a session with 800,000 paths goes down without
//! the keepalives of the others being late.

use super::path::{Path, PathId, PeerIndex};
use super::{Rib, import};
use crate::wire::{Family, FamilySet};

/// Records looked at in one slice; some tenths of a millisecond.
const SLICE: u32 = 16_384;

/// A walk over all paths that removes those that a peer has told before it began anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sweep {
    peer: PeerIndex,
    /// Per family: paths of older generations are meant.
    keep: [Option<u8>; 2],
    work: Work,
    at: u32,
}

/// What is done to the paths that are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    Remove,
    /// RFC 9494 §4.2: they become long-lived stale, except those that must not.
    MarkLongLived,
}

/// Whether a walk is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    More,
    Done,
}

/// Whether a generation came before another, in arithmetic modulo 256.
pub(crate) const fn is_older(generation: u8, than: u8) -> bool {
    let age = than.wrapping_sub(generation);
    age > 0 && age < 128
}

impl Sweep {
    /// Removes the paths of `families` that are older than the generations of `keep`.
    pub(crate) fn new(peer: PeerIndex, families: FamilySet, keep: [u8; 2]) -> Self {
        let keep =
            Family::ALL.map(|family| families.contains(family).then_some(keep[family.index()]));
        Self { peer, keep, work: Work::Remove, at: 0 }
    }

    /// Makes the same paths long-lived stale.
    pub(crate) fn mark_long_lived(self) -> Self {
        Self { work: Work::MarkLongLived, ..self }
    }

    /// Whose paths it removes.
    pub(crate) const fn peer(&self) -> PeerIndex {
        self.peer
    }

    fn means(&self, path: &Path) -> bool {
        path.peer == self.peer
            && path.prefix.is_some_and(|prefix| {
                let keep = self.keep[prefix.family().index()];
                keep.is_some_and(|keep| is_older(path.generation, keep))
            })
    }

    /// Does a slice.
    pub(crate) fn advance(&mut self, rib: &mut Rib) -> Progress {
        let bound = rib.paths.bound();
        let end = bound.min(self.at.saturating_add(SLICE));
        for id in (self.at..end).map(PathId) {
            if !self.means(rib.paths.get(id)) {
                continue;
            }
            match self.work {
                Work::Remove => rib.remove(id),
                Work::MarkLongLived => import::mark_long_lived(rib, id),
            }
        }
        self.at = end;
        if end == bound { Progress::Done } else { Progress::More }
    }
}
