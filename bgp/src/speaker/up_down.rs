//! What the coming and going of a session means for the routes.

use std::net::IpAddr;
use std::num::NonZeroU8;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::cause::Cause;
use super::retain::retained;
use super::{
    AsOverride, LocalAs, LocalAsMode, OwnAs, PathFailure, PeerConfig, PeerName, Place, Reflection,
    RemovePrivate, Speaker, Timer,
};
use crate::bfd::Fate;
use crate::rib::Neighbor;
use crate::rib::export::{LongLived, Policy};
use crate::rib::filter::{Filter, Lookup};
use crate::rib::path::PeerIndex;
use crate::session::Peer;
use crate::session::negotiate::Terms;
use crate::session::state::{Event, State};
use crate::wire::iana::capability;
use crate::wire::{Cease, Codec, Family, FamilySet, NextHop, PeerKind, PrivateEdit};

impl Speaker {
    /// A session has come up: its routes count from now on, and it is told ours.
    pub(super) fn session_up(&mut self, now: Instant, at: Place) {
        let index = at.peer;
        for timer in [Timer::Retry(index), Timer::IdleHold(index), Timer::Restart(index)] {
            self.timers.cancel(timer);
        }
        let other = Place { direction: at.direction.other(), ..at };
        let cause = Cause::cease(Cease::CollisionResolution, "");
        self.event(now, other, Event::CollisionLost, Some(&cause));

        let own_address = self.local_address(at);
        let Some(peer) = self.peers.get_mut(&index) else { return };
        let Some(terms) = peer.line(at.direction).link.as_ref().and_then(|l| l.terms.clone())
        else {
            return;
        };
        peer.errors = 0;
        peer.failures = 0;
        peer.connect_error = None;
        peer.established_before = true;
        peer.end_of_rib = FamilySet::EMPTY;
        peer.end_of_rib_due = terms.codec.families;
        peer.disabled = FamilySet::EMPTY;
        peer.presumed_complete = false;
        if terms.restart.is_none() {
            let wait = self.config.graceful_restart.answer_within;
            self.timers.set(Timer::Presume(index), now + wait);
        }
        peer.refresh_wanted = FamilySet::EMPTY;
        peer.over_limit = FamilySet::EMPTY;
        let role = peer.config.role.map(|role| (role.role, terms.theirs.asn));
        let neighbor = self.rib.neighbor_mut(index);
        neighbor.kind = terms.codec.peer;
        neighbor.router_id = terms.theirs.router_id;
        neighbor.own_address = own_address;
        neighbor.role = role.filter(|_| terms.codec.peer == PeerKind::External);
        let has_paths = neighbor.paths != [0; 2];
        self.stations.session_up(index, has_paths);
        self.keep_preserved(now, index, &terms);
        if let Some(policy) = self.policy(at) {
            self.groups.join(&self.rib, index, policy);
        }
        self.rib.every_path_counts = self.groups.tell_several();
    }

    /// An Established session is over: its paths go, or are kept for a graceful restart.
    pub(super) fn session_down(&mut self, now: Instant, at: Place, cause: Option<&Cause>) {
        let index = at.peer;
        self.timers.cancel(Timer::Stale(index));
        self.timers.cancel(Timer::Presume(index));
        self.stations.session_down(index, cause);
        self.groups.leave(&mut self.rib, index);
        self.rib.every_path_counts = self.groups.tell_several();
        let Some(peer) = self.peers.get_mut(&index) else { return };
        peer.flaps += 1;
        peer.end_of_rib_due = FamilySet::EMPTY;
        peer.refresh_due = FamilySet::EMPTY;
        let refreshing = std::mem::take(&mut peer.refreshing);
        let link = peer.line(at.direction).link.as_ref();
        let terms = link.and_then(|link| link.terms.as_ref());
        let (kept, wait) = terms.map_or((FamilySet::EMPTY, Duration::ZERO), |terms| {
            let wait = terms.restart.as_ref().map_or(0, |restart| restart.restart_secs);
            (retained(peer, terms, cause), Duration::from_secs(wait.into()))
        });
        let restartable = terms.map_or(FamilySet::EMPTY, Terms::restartable);
        let most = peer.config.long_lived;
        peer.long_lived = Self::FAMILIES
            .map(|family| terms.map_or(Duration::ZERO, |terms| terms.long_lived(family, most)));
        peer.retained = kept;
        // RFC 9494 §4.2: a family without a restart time is long-lived stale at once.
        let at_once = |family: &Family| wait.is_zero() || !restartable.contains(*family);
        let at_once: FamilySet = kept.iter().filter(at_once).collect();
        self.forget_before(index, kept, refreshing);
        self.restart_time_over(now, index, at_once);
        if kept != at_once {
            self.timers.set(Timer::Restart(index), now + wait);
        }
    }

    /// What decides what we tell the peer of this session.
    pub(super) fn policy(&mut self, at: Place) -> Option<Policy> {
        let own = self.local_address(at)?;
        let default_route = self.peers.get(&at.peer)?.config.default_route;
        if default_route.is_originated() {
            self.prepare_default_routes();
        }
        let peer = self.peers.get(&at.peer)?;
        let terms = peer.line(at.direction).link.as_ref()?.terms.as_ref()?;
        let (codec, theirs) = (terms.codec, terms.theirs.asn);
        let config = &peer.config;
        let own_numbers = self.config.own_as();
        let shown = own_numbers.shown_to(config.remote_as, config.local_as);
        Some(Policy {
            codec,
            own_as: own_as(own_numbers, codec.peer, config),
            replace_as: match config.as_override {
                AsOverride::Keep => None,
                AsOverride::Replace => Some((theirs, shown)),
            },
            private: match config.remove_private {
                RemovePrivate::Keep => PrivateEdit::Keep,
                RemovePrivate::WhenAll => PrivateEdit::RemoveWhenAll { but: theirs },
                RemovePrivate::Remove => PrivateEdit::Remove { but: theirs },
                RemovePrivate::Replace => PrivateEdit::Replace { with: shown, but: theirs },
            },
            max_advertised: config.max_advertised,
            paths: config.add_path.send.unwrap_or(NonZeroU8::MIN),
            long_lived: if terms.has(capability::LONG_LIVED_GRACEFUL_RESTART) {
                LongLived::Known
            } else {
                LongLived::Unknown
            },
            own_next_hop: Self::FAMILIES.map(|family| self.own_next_hop(own, codec, family)),
            next_hop: config.next_hop,
            reflection: self.reflection(peer),
            cluster_id: self.config.cluster_id,
            filter: self.rib.neighbor(at.peer).export.clone(),
            role: self.rib.neighbor(at.peer).role.map(|(role, _)| role),
            summaries: match codec.peer {
                PeerKind::External => self.summaries(),
                PeerKind::Internal | PeerKind::Confederation => Arc::default(),
            },
            default_route,
        })
    }

    /// Ourselves as a next hop: our end of the session, or the address configured for families
    /// that the session is not of.
    fn own_next_hop(&self, own: IpAddr, codec: Codec, family: Family) -> Option<NextHop> {
        match (family, own) {
            (Family::Ipv4, IpAddr::V4(own)) => Some(NextHop::V4(own)),
            (Family::Ipv4, IpAddr::V6(_)) if !codec.extended_next_hop.contains(family) => {
                self.config.own_ipv4.map(NextHop::V4)
            }
            (_, IpAddr::V6(link_local)) if link_local.is_unicast_link_local() => {
                Some(self.config.own_ipv6.map_or(NextHop::V6(link_local), |global| {
                    NextHop::V6WithLinkLocal { global, link_local }
                }))
            }
            (_, IpAddr::V6(own)) => Some(NextHop::V6(own)),
            (Family::Ipv6, IpAddr::V4(_)) => self.config.own_ipv6.map(NextHop::V6),
        }
    }

    /// A client is one only of a reflector.
    pub(super) fn reflection(&self, peer: &Peer) -> Reflection {
        match self.config.cluster_id {
            Some(_) => peer.config.reflection,
            None => Reflection::NonClient,
        }
    }

    /// Tells the table what is configured of a peer.
    pub(super) fn update_neighbor(&mut self, index: PeerIndex) {
        let Some(peer) = self.peers.get(&index) else { return };
        let config = &peer.config;
        let own = self.config.own_as();
        let row = usize::from(index.0);
        let before = self.rib.neighbors.get(row);
        let neighbor = Neighbor {
            // With a session the peer has told its number, and what counts is that.
            kind: peer.terms().map_or(own.expected_kind(config), |terms| terms.codec.peer),
            router_id: before.map_or(std::net::Ipv4Addr::UNSPECIFIED, |before| before.router_id),
            address: peer.address().unwrap_or(config.address),
            own_address: before.and_then(|before| before.own_address),
            local_as: own.shown_to(config.remote_as, config.local_as),
            prepend: match config.local_as {
                Some(LocalAs { number, mode: LocalAsMode::Prepend }) => Some(number.get()),
                Some(LocalAs { mode: LocalAsMode::Replace | LocalAsMode::NoPrepend, .. })
                | None => None,
            },
            allow_own_as: config.allow_own_as,
            role: before.and_then(|before| before.role),
            origin_validation: config.origin_validation,
            reflection: self.reflection(peer),
            interface: config.interface.clone(),
            import: ready(before.map(|before| &before.import), &config.import),
            export: ready(before.map(|before| &before.export), &config.export),
            generation: before.map_or([0; 2], |before| before.generation),
            long_lived: before.map_or(FamilySet::EMPTY, |before| before.long_lived),
            paths: before.map_or([0; 2], |before| before.paths),
        };
        if row == self.rib.neighbors.len() {
            self.rib.neighbors.push(neighbor);
        } else {
            self.rib.neighbors[row] = neighbor;
        }
    }

    /// BFD says that the path to the peer has failed; the table of [`crate::bfd`].
    pub(super) fn unreachable(&mut self, now: Instant, name: &PeerName, failure: &PathFailure) {
        let Some(index) = self.names.get(name).copied() else { return };
        let Some(peer) = self.peers.get(&index) else { return };
        let direction = match (peer.established(), failure.fate) {
            // RFC 5882 §4.3.2: the restart that is waited for has taken BFD along.
            (None, Fate::Shared) => return,
            // RFC 5882 §4.3.1: whom we wait for does not forward.
            (None, Fate::Independent) => {
                self.timers.cancel(Timer::Restart(index));
                return self.drop_retained(index);
            }
            (Some(_), Fate::Shared) if is_back_since(peer, failure.last_heard) => return,
            (Some(direction), Fate::Shared | Fate::Independent) => direction,
        };
        let survives = peer.terms().is_some_and(Terms::survives_notification);
        // RFC 8538 §3.1: a peer that would keep our routes through a NOTIFICATION must not.
        let cause = Cause::cease(Cease::BfdDown, &failure.text).for_good(survives);
        self.event(now, Place { peer: index, direction }, Event::Stop, Some(&cause));
        debug_assert_ne!(
            self.peers.get(&index).map(|peer| peer.line(direction).state),
            Some(State::Established)
        );
    }
}

/// What we put before the paths that leave for another AS, or another Member-AS.
fn own_as(own: OwnAs<'_>, kind: PeerKind, config: &PeerConfig) -> Vec<u32> {
    if kind == PeerKind::Confederation {
        return vec![own.number.get()];
    }
    match config.local_as {
        None => vec![own.public()],
        Some(LocalAs { number, mode: LocalAsMode::Replace }) => vec![number.get()],
        Some(LocalAs { number, mode: LocalAsMode::NoPrepend | LocalAsMode::Prepend }) => {
            vec![number.get(), own.public()]
        }
    }
}

/// A filter made ready, unless it is the one that was ready before.
fn ready(before: Option<&Lookup>, filter: &Filter) -> Lookup {
    before.filter(|before| before.is_of(filter)).cloned().unwrap_or_else(|| filter.into())
}

/// Whether the session stands since the peer restarted, and BFD speaks of the daemon before that: a
/// talk over TCP that is younger than the last packet says more than the silence since.
fn is_back_since(peer: &Peer, last_heard: Instant) -> bool {
    let helps = peer.terms().is_some_and(|terms| terms.restart.is_some());
    helps && peer.flaps > 0 && peer.since > last_heard
}
