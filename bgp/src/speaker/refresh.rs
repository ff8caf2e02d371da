//! Route refresh: what a peer asks to be told again (RFC 2918), and where its own answers to us
//! begin and end (RFC 7313).

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{PeerName, PeerRestart, Place, Speaker, State, Timer};
use crate::rib::path::PeerIndex;
use crate::session::Peer;
use crate::wire::iana::capability;
use crate::wire::{Family, FamilySet, Refresh, RouteRefresh};

/// How long a peer may take to tell everything again, unless a time for its restarts is set.
const REFRESH_TIMEOUT: Duration = Duration::from_secs(360);

/// How many walks over the table a peer may have us owe. Each end of a refresh is one, and whoever
/// sends marks without end would have those of all others wait; beyond, its marks mean nothing.
const MOST_SWEEPS: usize = 8;

/// What [`Speaker::ask_again`] asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// The families that the peer tells again.
    pub families: FamilySet,
    /// Whether it marks where that begins and ends (RFC 7313): what it does not name in between is
    /// taken out.
    pub enhanced: bool,
}

/// Why [`Speaker::ask_again`] asked nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAsked {
    /// No peer has this name.
    #[error("there is no peer {0}")]
    Unknown(PeerName),
    /// There is no session to ask on.
    #[error("the session with {0} is {1}, not {established}", established = State::Established)]
    NotEstablished(PeerName, State),
    /// The session is without the capability (RFC 2918 §2).
    #[error("{0} does not speak route refresh (RFC 2918)")]
    NotAble(PeerName),
    /// The session does not carry these families.
    #[error("the session with {0} does not carry {families}", families = names(*.1))]
    NotSpoken(PeerName, FamilySet),
}

fn names(families: FamilySet) -> String {
    families.iter().map(|one| one.to_string()).collect::<Vec<_>>().join(" and ")
}

impl Speaker {
    /// Asks a peer to tell all its routes of some families again; of those that the session does
    /// not carry only the others are asked for. Nothing here needs it, since rejected paths are
    /// kept; it is for an operator who doubts the peer's memory.
    ///
    /// # Errors
    /// When nothing was asked.
    pub fn ask_again(
        &mut self,
        now: Instant,
        name: &PeerName,
        families: FamilySet,
    ) -> Result<Asked, NotAsked> {
        self.clock = now;
        let index = self.names.get(name);
        let peer = index.and_then(|index| self.peers.get_mut(index));
        let peer = peer.ok_or_else(|| NotAsked::Unknown(name.clone()))?;
        let state = peer.state();
        let no_session = || NotAsked::NotEstablished(name.clone(), state);
        let terms = peer.terms().ok_or_else(no_session)?;
        if !terms.has(capability::ROUTE_REFRESH) {
            return Err(NotAsked::NotAble(name.clone()));
        }
        let enhanced = terms.has(capability::ENHANCED_ROUTE_REFRESH);
        let spoken = families.intersection(terms.codec.families);
        if spoken.is_empty() {
            return Err(NotAsked::NotSpoken(name.clone(), families));
        }
        spoken.iter().for_each(|family| say(peer, family, Refresh::Request));
        self.after(now);
        Ok(Asked { families: spoken, enhanced })
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
    /// everything once (RFC 7313 §4), once it has been told what it asked for before: whoever asks a
    /// thousand times before it has read an answer gets one more.
    pub(super) fn begin_refresh(&mut self, index: PeerIndex) {
        let Some(peer) = self.peers.get_mut(&index) else { return };
        if !peer.refresh_due.is_empty() {
            return;
        }
        let untold = peer.end_of_rib_due;
        let ready = |family: &Family| !untold.contains(*family);
        let families: FamilySet = peer.refresh_wanted.iter().filter(ready).collect();
        if families.is_empty() {
            return;
        }
        let marks = marks(peer);
        for family in families.iter() {
            peer.refresh_wanted.remove(family);
            peer.refresh_due.insert(family);
            if marks {
                say(peer, family, Refresh::BeginOfRoutes);
            }
        }
        self.groups.refresh(&mut self.rib, index, families);
    }

    /// Ends an answer of which everything was told, and says so to who wants to know; `None`: there is
    /// none. What was asked meanwhile begins.
    pub(super) fn finish_refresh(&mut self, index: PeerIndex) -> Option<Option<Bytes>> {
        let peer = self.peers.get_mut(&index)?;
        let family = peer.refresh_due.iter().next()?;
        peer.refresh_due.remove(family);
        let end = marks(peer).then(|| peer.end_of_refresh(family));
        self.begin_refresh(index);
        Some(end)
    }

    /// What the peer told before counts as stale from here on, until it tells it again.
    fn begin_of_routes(&mut self, now: Instant, index: PeerIndex, family: Family) {
        let Some(peer) = self.peers.get_mut(&index) else { return };
        // Of two beginnings without an end between them the first counts: what was told since is
        // not stale, for the peer would have withdrawn it.
        if peer.refreshing.contains(family) {
            return;
        }
        if self.sweeps.iter().filter(|sweep| sweep.peer() == index).count() >= MOST_SWEEPS {
            peer.faults += 1;
            let text = "it tells its routes again faster than they can be compared";
            peer.last_fault = Some(text.to_owned());
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

/// Whether the beginning and the end of an answer are marked (RFC 7313).
fn marks(peer: &Peer) -> bool {
    peer.terms().is_some_and(|terms| terms.has(capability::ENHANCED_ROUTE_REFRESH))
}

fn say(peer: &mut Peer, family: Family, refresh: Refresh) {
    let Some(direction) = peer.established() else { return };
    if let Some(link) = peer.link_mut(direction) {
        link.outbox.refresh(RouteRefresh { family: family.into(), refresh });
    }
}
