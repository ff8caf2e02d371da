//! What changed, noted for those who watch the tables (BMP). Nothing is noted while nobody does.

use super::Rib;
use super::attribute::AttrId;
use super::best::Ineligible;
use super::path::{LOCAL, Path, PathId, PeerIndex};
use super::prefix::PrefixId;

/// A place in one of the tables where a path may stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Topic {
    pub(crate) prefix: PrefixId,
    pub(crate) side: Side,
    /// The path identifier (RFC 7911); 0 where there is none.
    pub(crate) identifier: u32,
}

/// Which table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Side {
    /// What a peer told, before and after policy.
    In(PeerIndex),
    /// What was chosen.
    Best,
    /// What a peer is told.
    Out(PeerIndex),
}

/// What happened to a topic since it was last looked at: what stood there before the first of the
/// changes, and which of both views changed. [`Side::Best`] and [`Side::Out`] count as post-policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Change(u8);

impl Change {
    /// A path stood there.
    pub(crate) const HAD_PRE: Self = Self(1);
    /// An eligible path stood there.
    pub(crate) const HAD_POST: Self = Self(2);
    /// The path as received is another one, or gone, or new.
    pub(crate) const PRE: Self = Self(4);
    /// The path after policy is.
    pub(crate) const POST: Self = Self(8);

    pub(crate) const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    #[must_use]
    pub(crate) const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    #[must_use]
    pub(crate) const fn and_if(self, condition: bool, other: Self) -> Self {
        if condition { self.and(other) } else { self }
    }

    /// What both are, one after the other: of what was before, the first knows.
    #[must_use]
    pub(crate) const fn then(self, later: Self) -> Self {
        Self(self.0 | later.0 & (Self::PRE.0 | Self::POST.0))
    }
}

/// What is noted.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// Changes of Adj-RIBs-In and the Loc-RIB are noted.
    pub(crate) paths: bool,
    /// Changes of Adj-RIBs-Out are noted.
    pub(crate) out: bool,
    noted: Vec<(Topic, Change)>,
}

impl Watch {
    pub(crate) fn note(&mut self, topic: Topic, change: Change) {
        self.noted.push((topic, change));
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.noted.is_empty()
    }

    /// Everything noted since the last time.
    pub(crate) fn take(&mut self) -> Vec<(Topic, Change)> {
        std::mem::take(&mut self.noted)
    }
}

impl Rib {
    /// Notes a path that is new.
    pub(super) fn note_new(&mut self, id: PathId) {
        let change = Change::PRE.and_if(self.paths.get(id).is_eligible(), Change::POST);
        self.note_path(id, change);
    }

    /// Notes that a path is about to get other attributes, or another judgement.
    pub(super) fn note_again(
        &mut self,
        id: PathId,
        received: AttrId,
        imported: Result<AttrId, Ineligible>,
    ) {
        let path = *self.paths.get(id);
        let before = path.is_eligible().then_some(path.attr);
        let change = Change::HAD_PRE
            .and_if(before.is_some(), Change::HAD_POST)
            .and_if(self.paths.received(id) != received, Change::PRE)
            .and_if(before != imported.ok(), Change::POST);
        self.note_path(id, change);
    }

    /// Notes a path that is about to go.
    pub(super) fn note_gone(&mut self, id: PathId) {
        let post = Change::HAD_POST.and(Change::POST);
        let change = Change::HAD_PRE.and(Change::PRE);
        self.note_path(id, change.and_if(self.paths.get(id).is_eligible(), post));
    }

    fn note_path(&mut self, id: PathId, change: Change) {
        let Path { prefix, peer, .. } = *self.paths.get(id);
        if let Some(prefix) = prefix.filter(|_| peer != LOCAL) {
            let identifier = self.paths.identifier(id);
            self.watch.note(Topic { prefix, side: Side::In(peer), identifier }, change);
        }
    }

    /// Counts the Loc-RIB after the best path to a prefix changed, and notes that it did.
    pub(super) fn note_best(&mut self, prefix: PrefixId, has: bool) {
        let had = !self.used_before.is_empty();
        let count = &mut self.loc_rib[prefix.family().index()];
        *count = *count + u32::from(has) - u32::from(had);
        if self.watch.paths {
            let change = Change::POST.and_if(had, Change::HAD_POST);
            self.watch.note(Topic { prefix, side: Side::Best, identifier: 0 }, change);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_small_and_remembers_what_stood_there_first() {
        assert_eq!(size_of::<Topic>(), 12);
        let new = Change::PRE.and(Change::POST);
        let gone = Change::HAD_PRE.and(Change::PRE);
        let both = new.then(gone);
        assert!(!both.has(Change::HAD_PRE) && both.has(Change::PRE) && both.has(Change::POST));
    }
}
