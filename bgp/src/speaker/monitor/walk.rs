//! Telling what stands in the tables already, in slices.

use std::collections::BTreeMap;

use super::compose::Entries;
use super::feed::Told;
use super::source::Source;
use crate::rib::path::PeerIndex;
use crate::rib::prefix::PrefixId;
use crate::wire::Family;

/// Rows of the table looked at in one slice.
const ROWS: usize = 4096;

/// A walk over all prefixes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Walk {
    family: Family,
    row: u32,
    /// Only what this peer has told.
    only: Option<PeerIndex>,
}

/// Whether a walk is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    More,
    Done,
}

impl Walk {
    /// All that a station wants to know.
    pub(super) const fn of_all() -> Self {
        Self { family: Family::Ipv4, row: 0, only: None }
    }

    /// What one peer has told.
    pub(super) const fn of_peer(peer: PeerIndex) -> Self {
        Self { family: Family::Ipv4, row: 0, only: Some(peer) }
    }

    /// Whether only what this peer has told is told.
    pub(super) fn is_only_of(&self, peer: PeerIndex) -> bool {
        self.only == Some(peer)
    }

    /// Whether everything about a prefix is still to be told by this walk.
    pub(super) fn will_tell(&self, prefix: PrefixId) -> bool {
        self.only.is_none() && (prefix.family(), prefix.row()) >= (self.family, self.row)
    }

    /// Adds what stands in the next rows, until there are `enough` entries.
    pub(super) fn advance(
        &mut self,
        source: &Source<'_>,
        told: &BTreeMap<PeerIndex, Told>,
        entries: &mut Entries,
        enough: usize,
    ) -> Progress {
        let mut ids = source.rib.prefixes.ids(self.family, self.row);
        for _ in 0..ROWS {
            let Some(prefix) = ids.next() else {
                return match self.family {
                    Family::Ipv4 => {
                        (self.family, self.row) = (Family::Ipv6, 0);
                        Progress::More
                    }
                    Family::Ipv6 => Progress::Done,
                };
            };
            self.row = prefix.row() + 1;
            self.tell(source, told, entries, prefix);
            if entries.len() >= enough {
                break;
            }
        }
        Progress::More
    }

    fn tell(
        &self,
        source: &Source<'_>,
        told: &BTreeMap<PeerIndex, Told>,
        entries: &mut Entries,
        prefix: PrefixId,
    ) {
        let rib = source.rib;
        for id in rib.paths.chain(&rib.prefixes, prefix) {
            let peer = rib.paths.get(id).peer;
            if told.contains_key(&peer) && self.only.is_none_or(|only| only == peer) {
                entries.add_heard(source, prefix, id);
            }
        }
        if self.only.is_none() {
            entries.add_best(source, prefix);
            told.keys().for_each(|peer| entries.add_told(source, prefix, *peer));
        }
    }
}
