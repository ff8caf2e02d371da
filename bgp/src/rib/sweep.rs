//! Removing what a peer left behind, in slices: a session with 800,000 paths goes down without
//! the keepalives of the others being late.

use super::Rib;
use super::path::{PathId, PeerIndex};
use crate::wire::FamilySet;

/// Records looked at in one slice; some tenths of a millisecond.
const SLICE: u32 = 16_384;

/// A walk over all paths that removes those of one peer from before a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sweep {
    pub(crate) peer: PeerIndex,
    pub(crate) families: FamilySet,
    /// Paths of older generations go.
    pub(crate) keep: u8,
    at: u32,
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
    pub(crate) const fn new(peer: PeerIndex, families: FamilySet, keep: u8) -> Self {
        Self { peer, families, keep, at: 0 }
    }

    /// Does a slice.
    pub(crate) fn advance(&mut self, rib: &mut Rib) -> Progress {
        let bound = rib.paths.bound();
        let end = bound.min(self.at.saturating_add(SLICE));
        for id in (self.at..end).map(PathId) {
            let path = rib.paths.get(id);
            let leaves = path.peer == self.peer
                && path.prefix.is_some_and(|prefix| self.families.contains(prefix.family()))
                && is_older(path.generation, self.keep);
            if leaves {
                rib.remove(id);
            }
        }
        self.at = end;
        if end == bound { Progress::Done } else { Progress::More }
    }
}
