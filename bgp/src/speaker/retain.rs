//! What is kept of a peer that is away, and for how long (RFC 4724, 8538, 9494).

use std::time::Instant;

use super::cause::{Cause, Fault};
use super::{PeerRestart, Place, Speaker, Timer};
use crate::rib::path::PeerIndex;
use crate::rib::sweep::Sweep;
use crate::session::Peer;
use crate::session::negotiate::Terms;
use crate::wire::{Family, FamilySet};

/// How many sessions that end before their End-of-RIB long-lived stale paths outlast: a peer that flaps on
/// does not forward either.
const VISITS: u8 = 16;

impl Speaker {
    /// RFC 4724 §4.2: of the paths kept since the peer went away, those stay whose forwarding the
    /// peer has kept too.
    pub(super) fn keep_preserved(&mut self, now: Instant, index: PeerIndex, terms: &Terms) {
        let Some(peer) = self.peers.get_mut(&index) else { return };
        let long = self.rib.neighbor(index).long_lived;
        let (preserved, long_preserved) = (terms.preserved(), terms.long_preserved());
        let stays = |family: &Family| {
            preserved.contains(*family)
                || long.contains(*family) && long_preserved.contains(*family)
        };
        let lost: FamilySet = peer.retained.iter().filter(|family| !stays(family)).collect();
        peer.retained = peer.retained.iter().filter(stays).collect();
        match (peer.retained.is_empty(), peer.config.graceful_restart) {
            (true, _) | (_, PeerRestart::Disabled) => {}
            (false, PeerRestart::Enabled { stale, .. }) => {
                self.timers.set(Timer::Stale(index), now + stale);
            }
        }
        lost.iter().for_each(|family| self.no_longer_long_lived(index, family));
        self.sweep(index, lost);
    }

    /// RFC 4724 §4.2: what was stale before the session ended goes; of what it told, the families
    /// to be kept stay. RFC 9494 §4.2: what is long-lived stale stays until its time is over, though
    /// the peer comes and goes before its End-of-RIB.
    pub(super) fn forget_before(
        &mut self,
        index: PeerIndex,
        kept: FamilySet,
        refreshing: FamilySet,
    ) {
        self.timers.cancel(Timer::Refresh(index));
        let neighbor = self.rib.neighbor_mut(index);
        let ended = neighbor.generation;
        neighbor.generation = ended.map(|generation| generation.wrapping_add(1));
        // In the middle of a refresh, what is not told again yet is as good as what is.
        let told = Self::FAMILIES.map(|family| {
            let begun = u8::from(refreshing.contains(family));
            ended[family.index()].wrapping_sub(begun)
        });
        let aged = neighbor.long_lived.intersection(kept);
        let (kept, rest): (FamilySet, FamilySet) = (
            kept.iter().filter(|family| !aged.contains(*family)).collect(),
            Family::ALL.into_iter().filter(|family| !kept.contains(*family)).collect(),
        );
        self.sweeps.push_back(Sweep::new(index, kept, told));
        // Of what such visits told, and ages are counted modulo 256.
        if !aged.is_empty() {
            let oldest = ended.map(|generation| generation.wrapping_sub(VISITS));
            self.sweeps.push_back(Sweep::new(index, aged, oldest));
        }
        for family in kept.iter().chain(rest.iter()) {
            self.no_longer_long_lived(index, family);
        }
        self.sweep(index, rest);
    }

    /// The peer has not come back within its restart time: what may be kept for longer is marked,
    /// the rest goes (RFC 9494 §4.2).
    pub(super) fn restart_time_over(
        &mut self,
        now: Instant,
        index: PeerIndex,
        families: FamilySet,
    ) {
        let Some(peer) = self.peers.get_mut(&index) else { return };
        let stale = peer.long_lived;
        let over = peer.retained.intersection(families);
        let is_long = |family: &Family| !stale[family.index()].is_zero();
        let long: FamilySet = over.iter().filter(is_long).collect();
        let gone: FamilySet = over.iter().filter(|family| !is_long(family)).collect();
        gone.iter().for_each(|family| peer.retained.remove(family));
        gone.iter().for_each(|family| self.no_longer_long_lived(index, family));
        self.sweep(index, gone);
        if long.is_empty() {
            return;
        }
        let neighbor = self.rib.neighbor_mut(index);
        long.iter().for_each(|family| neighbor.long_lived.insert(family));
        let generation = neighbor.generation;
        self.sweeps.push_back(Sweep::new(index, long, generation).mark_long_lived());
        for family in long.iter() {
            let timer = Timer::LongLived(index, family);
            // RFC 9494 §4.2: one that runs is not updated before the End-of-RIB.
            if !self.timers.is_set(timer) {
                self.timers.set(timer, now + stale[family.index()]);
            }
        }
    }

    /// The peer has been away, or silent, for longer than even long-lived stale paths are kept.
    pub(super) fn drop_long_lived(&mut self, index: PeerIndex, family: Family) {
        let Some(peer) = self.peers.get_mut(&index) else { return };
        peer.retained.remove(family);
        self.no_longer_long_lived(index, family);
        self.sweep(index, [family].into_iter().collect());
    }

    fn no_longer_long_lived(&mut self, index: PeerIndex, family: Family) {
        self.timers.cancel(Timer::LongLived(index, family));
        self.rib.neighbor_mut(index).long_lived.remove(family);
    }

    /// Of a peer's stale paths some are gone for good: whether it has told too many counts from now on.
    pub(super) fn swept(&mut self, now: Instant, index: PeerIndex) {
        let session = self.peers.get(&index).and_then(|peer| peer.established());
        if let Some(direction) = session {
            self.limit_paths(now, Place { peer: index, direction });
        }
    }

    /// Removes the paths from before the current session.
    pub(super) fn sweep(&mut self, index: PeerIndex, families: FamilySet) {
        if !families.is_empty() {
            let keep = self.rib.neighbor(index).generation;
            self.sweeps.push_back(Sweep::new(index, families, keep));
        }
    }

    /// The peer took too long to tell its routes again, or is not waited for any longer.
    pub(super) fn drop_retained(&mut self, index: PeerIndex) {
        let Some(peer) = self.peers.get_mut(&index) else { return };
        let retained = std::mem::take(&mut peer.retained);
        retained.iter().for_each(|family| self.no_longer_long_lived(index, family));
        self.sweep(index, retained);
    }

    /// RFC 4724 §4.2: the peer has told all its routes of a family.
    pub(super) fn end_of_rib(&mut self, index: PeerIndex, family: Family) {
        let Some(peer) = self.peers.get_mut(&index) else { return };
        peer.end_of_rib.insert(family);
        self.stations.stir();
        if peer.retained.contains(family) {
            peer.retained.remove(family);
            if peer.retained.is_empty() {
                self.timers.cancel(Timer::Stale(index));
            }
            self.no_longer_long_lived(index, family);
            self.sweep(index, [family].into_iter().collect());
        }
    }
}

/// The families whose paths outlive the session (RFC 4724 §4.2, RFC 8538 §4).
pub(super) fn retained(peer: &Peer, terms: &Terms, cause: Option<&Cause>) -> FamilySet {
    let graceful = match cause.map_or(Fault::Error, |cause| cause.fault) {
        Fault::Transport => true,
        Fault::Error | Fault::Cease => terms.survives_notification(),
        Fault::HardReset | Fault::Flood => false,
    };
    if !graceful {
        return FamilySet::EMPTY;
    }
    let restartable = terms.restartable();
    let most = peer.config.long_lived;
    let outlives = |family: &Family| {
        let long = !terms.long_lived(*family, most).is_zero();
        (restartable.contains(*family) || long) && !peer.disabled.contains(*family)
    };
    Family::ALL.into_iter().filter(outlives).collect()
}
