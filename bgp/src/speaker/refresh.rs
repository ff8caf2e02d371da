//! Route refresh: what a peer asks to be told again (RFC 2918), and where its own answers to us
//! begin and end (RFC 7313).

use std::time::{Duration, Instant};

use super::{PeerName, PeerRestart, Place, Speaker, Timer};
use crate::rib::path::PeerIndex;
use crate::session::Peer;
use crate::wire::iana::capability;
use crate::wire::{Family, FamilySet, Refresh, RouteRefresh};

/// How long a peer may take to tell everything again, unless a time for its restarts is set.
const REFRESH_TIMEOUT: Duration = Duration::from_secs(360);

impl Speaker {
    /// Asks a peer to tell all its routes again. Nothing here needs it, since rejected paths are
    /// kept; it is for an operator who doubts the peer's memory.
    pub fn ask_again(&mut self, now: Instant, peer: &PeerName) {
        self.clock = now;
        let peer = self.names.get(peer).and_then(|index| self.peers.get_mut(index));
        let terms = peer.as_ref().and_then(|peer| peer.terms());
        let able = terms.filter(|terms| terms.has(capability::ROUTE_REFRESH));
        let families = able.map_or(FamilySet::EMPTY, |terms| terms.codec.families);
        if let Some(peer) = peer {
            families.iter().for_each(|family| say(peer, family, Refresh::Request));
        }
        self.after(now);
    }

    pub(super) fn on_refresh(&mut self, now: Instant, at: Place, refresh: RouteRefresh) {
        let Some(peer) = self.peers.get_mut(&at.peer) else { return };
        let Some(terms) = peer.terms() else { return };
        let enhanced = terms.has(capability::ENHANCED_ROUTE_REFRESH);
        let gracefully = terms.restart.is_some();
        // A family that is not spoken is ignored (RFC 2918 §4).
        let spoken = |family: &Family| terms.codec.families.contains(*family);
        let Some(family) = refresh.family.family().filter(spoken) else { return };
        match refresh.refresh {
            Refresh::Request => {
                peer.refresh_wanted.insert(family);
                self.begin_refresh(at.peer);
            }
            // RFC 7313 §4: not before the peer has told everything for the first time.
            Refresh::BeginOfRoutes
                if enhanced && (!gracefully || peer.end_of_rib.contains(family)) =>
            {
                self.begin_of_routes(now, at.peer, family);
            }
            Refresh::EndOfRoutes => self.end_of_refresh(at.peer, [family].into_iter().collect()),
            Refresh::BeginOfRoutes | Refresh::Unknown(_) => {}
        }
    }

    /// Begins to tell a peer what it asked for, except for families of which it has not been told
    /// everything once (RFC 7313 §4).
    pub(super) fn begin_refresh(&mut self, index: PeerIndex) {
        let Some(peer) = self.peers.get_mut(&index) else { return };
        let untold = peer.end_of_rib_due;
        let wanted = peer.refresh_wanted.iter().filter(|family| !untold.contains(*family));
        let families: FamilySet = wanted.collect();
        if families.is_empty() {
            return;
        }
        families.iter().for_each(|family| peer.refresh_wanted.remove(family));
        let terms = peer.terms();
        if terms.is_some_and(|terms| terms.has(capability::ENHANCED_ROUTE_REFRESH)) {
            for family in families.iter() {
                say(peer, family, Refresh::BeginOfRoutes);
                peer.refresh_due.insert(family);
            }
        }
        self.groups.refresh(&mut self.rib, index, families);
    }

    /// What the peer told before counts as stale from here on, until it tells it again.
    fn begin_of_routes(&mut self, now: Instant, index: PeerIndex, family: Family) {
        let Some(peer) = self.peers.get_mut(&index) else { return };
        // Of two beginnings without an end between them the first counts: what was told since is
        // not stale, for the peer would have withdrawn it.
        if peer.refreshing.contains(family) {
            return;
        }
        peer.refreshing.insert(family);
        let generation = &mut self.rib.neighbor_mut(index).generation[family.index()];
        *generation = generation.wrapping_add(1);
        let wait = match peer.config.graceful_restart {
            PeerRestart::Enabled { stale, .. } => stale,
            PeerRestart::Disabled => REFRESH_TIMEOUT,
        };
        self.timers.set(Timer::Refresh(index), now + wait);
    }

    /// The peer has told some families again, or took too long: what it did not name is gone.
    pub(super) fn end_of_refresh(&mut self, index: PeerIndex, families: FamilySet) {
        let Some(peer) = self.peers.get_mut(&index) else { return };
        let told = peer.refreshing.intersection(families);
        told.iter().for_each(|family| peer.refreshing.remove(family));
        if peer.refreshing.is_empty() {
            self.timers.cancel(Timer::Refresh(index));
        }
        self.sweep(index, told);
    }
}

fn say(peer: &mut Peer, family: Family, refresh: Refresh) {
    let Some(direction) = peer.established() else { return };
    if let Some(link) = peer.link_mut(direction) {
        link.outbox.refresh(RouteRefresh { family: family.into(), refresh });
    }
}
