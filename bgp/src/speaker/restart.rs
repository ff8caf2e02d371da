//! Our own start: which families have heard all that the peers can tell (RFC 4724 §4.1).
//!
//! After a restart the choice among the peers' routes waits for that, so that nothing is chosen,
//! told or taken out of the kernel on half the knowledge. A peer that cannot answer is not waited
//! for: one that has no End-of-RIB to send, and after a while one that is not there, or one that
//! says that it restarts itself.
//!
//! RFC 4724 §4.1 leaves the latter out from the beginning, lest two wait for each other. But FRR says
//! so for two minutes after each start of its own, and tells its table a second after the session
//! stands: for that second its routes would be gone. Both ends of such a pair tell their own
//! prefixes at once, so what waits is only what they heard from others.

use std::collections::VecDeque;
use std::time::Instant;

use super::{Config, Speaker, Start, Timer};
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
        let limits = self.config.graceful_restart;
        self.timers.set(Timer::Answer, now + limits.answer_within.min(limits.deferral));
        self.timers.set(Timer::Deferral, now + limits.deferral);
    }

    /// Looks whether a family is complete now.
    pub(super) fn check_synced(&mut self, now: Instant) {
        if self.restart.synced == FamilySet::ALL {
            return;
        }
        let waited = now.duration_since(self.restart.began);
        let limits = self.config.graceful_restart;
        for family in Self::FAMILIES {
            let complete = waited >= limits.deferral
                || self.peers.values().all(|peer| {
                    has_answered(peer, family)
                        || !can_answer(peer) && waited >= limits.answer_within
                });
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
    if peer.is_barred().is_some() || !peer.config.families.contains(family) {
        return true;
    }
    let Some(terms) = peer.terms() else { return false };
    !terms.codec.families.contains(family)
        || peer.end_of_rib.contains(family)
        || peer.presumed_complete
}
