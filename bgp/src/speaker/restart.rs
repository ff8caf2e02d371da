//! Our own start: which families have heard all that the peers can tell (RFC 4724 §4.1).
//!
//! After a restart the choice among the peers' routes waits for that, so that nothing is chosen,
//! told or taken out of the kernel on half the knowledge. A peer that cannot answer is not waited
//! for: one that has no End-of-RIB to send, and after a while one that is not there, or one that
//! says that it restarts itself. Guests of a range, whom we cannot dial, are waited for as long as for
//! those who are there.
//!
//! RFC 4724 §4.1 leaves the latter out from the beginning, lest two wait for each other. But FRR says
//! so for two minutes after each start of its own, and tells its table a second after the session
//! stands: for that second its routes would be gone. Both ends of such a pair tell their own
//! prefixes at once, so what waits is only what they heard from others.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use super::{Admin, Config, Speaker, Start, Timer};
use crate::session::Peer;
use crate::wire::{Family, FamilySet};

/// The progress of a start.
#[derive(Debug)]
pub(super) struct Restart {
    start: Start,
    began: Instant,
    synced: FamilySet,
    /// To be said once all routes before it have been.
    unsaid: VecDeque<Family>,
    /// How many orphaned prefixes may gather before it is worth looking at them.
    pub(super) orphans_allowed: usize,
}

impl Restart {
    pub(super) const fn new(config: &Config, now: Instant) -> Self {
        Self {
            start: config.graceful_restart.start,
            began: now,
            synced: FamilySet::EMPTY,
            unsaid: VecDeque::new(),
            orphans_allowed: 1024,
        }
    }

    /// Whether our OPENs say that we have restarted.
    pub(super) fn is_restarting(&self) -> bool {
        self.start == Start::Restarting && self.synced != FamilySet::ALL
    }

    /// Whether forwarding went on from an earlier life to this one.
    pub(super) fn kept_forwarding(&self) -> bool {
        self.start == Start::Restarting
    }

    pub(super) fn announce(&mut self) -> Option<Family> {
        self.unsaid.pop_front()
    }
}

impl Speaker {
    pub(super) fn begin_restart(&mut self, now: Instant) {
        match self.restart.start {
            Start::Cold => {}
            Start::Restarting => self.rib.deferred = FamilySet::ALL,
        }
        let (answer, deferral) = self.patience();
        self.timers.set(Timer::Answer, now + answer.min(deferral));
        self.timers.set(Timer::Deferral, now + deferral);
    }

    /// How long is waited for those who are not there, and for all.
    fn patience(&self) -> (Duration, Duration) {
        (self.config.graceful_restart.answer_within, self.config.graceful_restart.deferral)
    }

    /// Whether a guest may still come who has told routes in an earlier life. Guests are no peers before
    /// they have dialled.
    fn awaits_guests(&self, waited: Duration) -> bool {
        if self.restart.start == Start::Cold || self.config.ranges.is_empty() {
            return false;
        }
        if waited < self.patience().0 {
            return true;
        }
        // A guest that has dialled has not told anything yet.
        let has_come = |peer: &Peer| peer.range.is_none() || peer.established().is_some();
        let come = self.peers.values().filter(|peer| has_come(peer));
        let there: BTreeSet<_> = come.filter_map(|peer| peer.address()).collect();
        let ranges = || self.config.ranges.values();
        let mut guests = self.config.graceful_restart.guests.iter();
        guests.any(|guest| !there.contains(guest) && ranges().any(|range| range.admits(*guest)))
    }

    /// Looks whether a family is complete now.
    pub(super) fn check_synced(&mut self, now: Instant) {
        if self.restart.synced == FamilySet::ALL {
            return;
        }
        let waited = now.duration_since(self.restart.began);
        let (answer, deferral) = self.patience();
        let guests = self.awaits_guests(waited);
        for family in Self::FAMILIES {
            let answered =
                |peer: &Peer| has_answered(peer, family) || !can_answer(peer) && waited >= answer;
            let complete =
                waited >= deferral || !guests && self.peers.values().all(|peer| answered(peer));
            if complete && !self.restart.synced.contains(family) {
                self.restart.synced.insert(family);
                self.restart.unsaid.push_back(family);
                if self.rib.deferred.contains(family) {
                    self.rib.deferred.remove(family);
                    self.rib.select_all(family);
                }
            }
        }
        if self.restart.synced == FamilySet::ALL {
            self.timers.cancel(Timer::Answer);
            self.timers.cancel(Timer::Deferral);
        }
    }
}

/// Whether a peer is there, and has not to wait for others as we do.
fn can_answer(peer: &Peer) -> bool {
    peer.established().is_some() && peer.terms().is_some_and(|terms| !terms.peer_restarted())
}

/// Whether there is nothing more to wait for from a peer.
fn has_answered(peer: &Peer, family: Family) -> bool {
    // A password that is missing may be on its way.
    if peer.config.admin == Admin::Down || !peer.config.families.contains(family) {
        return true;
    }
    let Some(terms) = peer.terms() else { return false };
    !terms.codec.families.contains(family)
        || peer.end_of_rib.contains(family)
        || peer.presumed_complete
}
