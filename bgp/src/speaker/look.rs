//! Snapshots for those who look: made in one pass, owning all they show.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{
    AttributeSnapshot, FamilySnapshot, NegotiatedSnapshot, NextHopVia, PathSnapshot, PeerSnapshot,
    Route, RouteSnapshot, Speaker, Timer, Verdict,
};
use crate::rib::attribute::Block;
use crate::rib::best::{DEFAULT_LOCAL_PREF, Ineligible, Outcome};
use crate::rib::filter::Condition;
use crate::rib::import;
use crate::rib::path::{LOCAL, PathId, PeerIndex, Standing};
use crate::rib::prefix::PrefixId;
use crate::session::Peer;
use crate::session::collision::Direction;
use crate::session::negotiate::Terms;
use crate::wire::iana::capability;
use crate::wire::{AsnWidth, Community, Family, Origin, Prefix};

/// Paths of a peer in one family: heard, eligible, stale.
#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    received: u64,
    accepted: u64,
    stale: u64,
}

impl Speaker {
    /// Every peer as it is now.
    pub fn peers(&self, now: Instant) -> Vec<PeerSnapshot> {
        let tallies = self.tally();
        self.peers.values().map(|peer| self.peer(peer, now, &tallies)).collect()
    }

    /// Up to `limit` prefixes of a family with all their paths, from the row `from` on; the number
    /// with them is the row to go on with. Rows are in no special order.
    pub fn routes(
        &self,
        family: Family,
        from: u32,
        limit: usize,
    ) -> (Vec<RouteSnapshot>, Option<u32>) {
        let ids: Vec<_> = self.rib.prefixes.ids(family, from).take(limit).collect();
        let next = ids.last().filter(|_| ids.len() == limit).map(|last| last.row() + 1);
        (ids.into_iter().map(|id| self.snapshot(id)).collect(), next)
    }

    /// One prefix with all its paths.
    pub fn route(&self, prefix: Prefix) -> Option<RouteSnapshot> {
        let id = self.rib.prefixes.find(prefix)?;
        Some(self.snapshot(id)).filter(|route| !route.paths.is_empty())
    }

    /// How many prefixes have paths, and how many different attribute sets there are.
    pub fn table_size(&self, family: Family) -> (usize, usize) {
        (self.rib.prefixes.len(family), self.rib.attributes.len())
    }

    /// What a peer has been told, or is about to be: prefix and attributes.
    pub fn advertised(
        &self,
        peer: &super::PeerName,
        family: Family,
    ) -> Vec<(Prefix, AttributeSnapshot)> {
        let Some(index) = self.names.get(peer) else { return Vec::new() };
        let terms = self.peers.get(index).and_then(|peer| peer.terms());
        let width = terms.map_or(AsnWidth::Four, |terms| terms.codec.asn_width);
        let told = self.groups.advertised(*index, family);
        told.map(|(id, attr)| {
            let block = self.rib.attributes.get(attr);
            let as_path = block.attributes().as_path().in_width(width).to_string();
            let prefix = self.rib.prefixes.prefix(id);
            (prefix, AttributeSnapshot { as_path, ..attributes(block) })
        })
        .collect()
    }

    /// The connection that carries the session with a peer.
    pub fn connection(&self, peer: &super::PeerName) -> Option<super::ConnId> {
        let peer = self.peers.get(self.names.get(peer)?)?;
        peer.line(peer.established()?).link.as_ref().map(|link| link.conn)
    }

    /// Octets of encoded messages that wait for slow peers; a measure of memory.
    pub fn waiting_octets(&self) -> usize {
        self.groups.waiting_octets()
    }

    /// How many groups of peers there are that are told the same at the same pace.
    #[cfg(test)]
    pub(crate) fn groups(&self) -> usize {
        self.groups.len()
    }

    fn tally(&self) -> HashMap<(PeerIndex, Family), Tally> {
        let mut tallies: HashMap<_, Tally> = HashMap::new();
        for id in (0..self.rib.paths.bound()).map(PathId) {
            let path = self.rib.paths.get(id);
            let Some(prefix) = path.prefix else { continue };
            let tally = tallies.entry((path.peer, prefix.family())).or_default();
            let stale = self.rib.is_stale(path);
            let barred = matches!(path.standing, Standing::Ineligible(_));
            tally.received += 1;
            tally.accepted += u64::from(!barred);
            tally.stale += u64::from(stale && !barred);
        }
        tallies
    }

    fn peer(
        &self,
        peer: &Peer,
        now: Instant,
        tallies: &HashMap<(PeerIndex, Family), Tally>,
    ) -> PeerSnapshot {
        let families = peer.config.families.iter().map(|family| {
            let tally = tallies.get(&(peer.index, family)).copied().unwrap_or_default();
            FamilySnapshot {
                family,
                received: tally.received,
                accepted: tally.accepted,
                stale: tally.stale,
                advertised: self.groups.advertised_count(peer.index, family),
                end_of_rib: peer.end_of_rib.contains(family) && peer.established().is_some(),
            }
        });
        PeerSnapshot {
            name: peer.name.clone(),
            address: peer.address().unwrap_or(peer.config.address),
            interface: peer.config.interface.clone(),
            remote_as: peer.remote_as(),
            kind: self.rib.neighbor(peer.index).kind,
            state: peer.state(),
            since: now.duration_since(peer.since),
            flaps: peer.flaps,
            last_error: peer.last_error.clone(),
            connect_error: peer.connect_error.clone(),
            negotiated: peer.terms().map(negotiated),
            families: families.collect(),
            conditions: self.conditions_of(peer.index),
            faults: peer.faults,
            last_fault: peer.last_fault.clone(),
            received: peer.received,
            sent: peer.sent,
            timers: self.timers_of(peer.index, now),
        }
    }

    fn conditions_of(&self, peer: PeerIndex) -> Vec<(Arc<Condition>, bool)> {
        let all = self.rib.neighbor(peer).export.conditions().iter();
        all.map(|each| (Arc::clone(&each.condition), each.condition.holds(&self.rib))).collect()
    }

    fn timers_of(&self, peer: PeerIndex, now: Instant) -> Vec<(&'static str, Duration)> {
        let mut names = vec![
            (Timer::Retry(peer), "connect retry"),
            (Timer::IdleHold(peer), "idle hold"),
            (Timer::Restart(peer), "restart of the peer"),
            (Timer::Stale(peer), "stale routes"),
            (Timer::Refresh(peer), "answer to a route refresh"),
        ];
        names.extend(
            Self::FAMILIES
                .map(|family| (Timer::LongLived(peer, family), "long-lived stale routes")),
        );
        for direction in Direction::BOTH {
            names.push((Timer::DelayOpen(peer, direction), "delay open"));
            names.push((Timer::Hold(peer, direction), "hold"));
            names.push((Timer::Keepalive(peer, direction), "keepalive"));
            names.push((Timer::SendHold(peer, direction), "send hold, next look"));
        }
        let left = |timer| Some(self.timers.at(timer)?.saturating_duration_since(now));
        names.into_iter().filter_map(|(timer, name)| Some((name, left(timer)?))).collect()
    }

    fn snapshot(&self, id: PrefixId) -> RouteSnapshot {
        let judged = self.rib.explain(id);
        let paths = judged.into_iter().map(|(path, outcome)| self.path(path, outcome));
        RouteSnapshot { prefix: self.rib.prefixes.prefix(id), paths: paths.collect() }
    }

    fn path(&self, id: PathId, outcome: Result<Outcome, Ineligible>) -> PathSnapshot {
        let path = self.rib.paths.get(id);
        let neighbor = self.rib.neighbor(path.peer);
        let block = self.rib.attributes.get(path.attr);
        let received = self.rib.paths.received(id);
        PathSnapshot {
            peer: self.name_of(path.peer).cloned(),
            path_id: self.rib.paths.identifier(id),
            next_hop: self.via(id),
            verdict: match outcome {
                Ok(Outcome::Best) => Verdict::Best,
                Ok(Outcome::Multipath) => Verdict::Multipath,
                Ok(Outcome::Lost(step)) => Verdict::Lost(step),
                Err(why) => Verdict::Ineligible(why),
            },
            stale: self.rib.is_stale(path),
            rule: self.import_rule(path.peer, path.prefix, self.rib.attributes.get(received)),
            validity: self.rib.validity(id).filter(|_| !self.config.caches.is_empty()),
            attributes: attributes(block),
            received: (received != path.attr)
                .then(|| attributes(self.rib.attributes.get(received))),
            router_id: block.summary.originator_id.unwrap_or(neighbor.router_id),
            peer_address: neighbor.address,
            kind: neighbor.kind,
        }
    }

    /// The rule of the peer's import filter that decides about a path, asked anew.
    fn import_rule(
        &self,
        peer: PeerIndex,
        prefix: Option<PrefixId>,
        received: Block<'_>,
    ) -> Option<usize> {
        if peer == LOCAL {
            return None;
        }
        let neighbor = self.rib.neighbor(peer);
        neighbor.import.decisive(import::subject(
            neighbor,
            &self.rib.links,
            self.rib.prefixes.prefix(prefix?),
            received,
        ))
    }

    /// The name of a peer, also of one that is gone; `None`: ourselves.
    fn name_of(&self, index: PeerIndex) -> Option<&super::PeerName> {
        let gone = || self.names.iter().find(|(_, each)| **each == index).map(|(name, _)| name);
        self.peers.get(&index).map(|peer| &peer.name).or_else(gone)
    }

    fn via(&self, id: PathId) -> Option<NextHopVia> {
        let path = self.rib.paths.get(id);
        let next_hop = self.rib.attributes.get(path.attr).next_hop?;
        let peer = self.name_of(path.peer)?.clone();
        let neighbor = self.rib.neighbor(path.peer);
        let (kind, interface) = (neighbor.kind, neighbor.interface.clone());
        let link_local = next_hop.link_local();
        Some(NextHopVia { address: next_hop.addr(), link_local, peer, kind, interface })
    }

    /// Where the node shall send packets for a prefix; `None` when no peer's path is chosen.
    pub(super) fn route_of(&self, prefix: PrefixId) -> Option<Route> {
        let mut next_hops: Vec<NextHopVia> = Vec::new();
        for id in self.rib.used(prefix) {
            if self.rib.paths.get(id).peer == LOCAL {
                return None;
            }
            let Some(via) = self.via(id) else { continue };
            let same = |other: &NextHopVia| {
                (other.address, other.link_local) == (via.address, via.link_local)
            };
            if !next_hops.iter().any(same) {
                next_hops.push(via);
            }
        }
        let prefix = self.rib.prefixes.prefix(prefix);
        (!next_hops.is_empty()).then_some(Route { prefix, next_hops })
    }
}

fn attributes(block: Block<'_>) -> AttributeSnapshot {
    let list = block.attributes();
    AttributeSnapshot {
        origin: match block.summary.origin {
            Origin::Igp => "IGP",
            Origin::Egp => "EGP",
            Origin::Incomplete => "INCOMPLETE",
        },
        as_path: list.as_path().to_string(),
        local_pref: block.summary.local_pref.unwrap_or(DEFAULT_LOCAL_PREF),
        med: block.summary.med,
        communities: list.communities().map(Community).collect(),
        large_communities: list.large_communities().collect(),
    }
}

fn negotiated(terms: &Terms) -> NegotiatedSnapshot {
    const NAMES: [(u8, &str); 9] = [
        (capability::MULTIPROTOCOL, "multiprotocol"),
        (capability::ROUTE_REFRESH, "route-refresh"),
        (capability::EXTENDED_NEXT_HOP, "extended-next-hop"),
        (capability::GRACEFUL_RESTART, "graceful-restart"),
        (capability::FOUR_OCTET_AS, "four-octet-as"),
        (capability::EXTENDED_MESSAGE, "extended-message"),
        (capability::ADD_PATH, "add-path"),
        (capability::ENHANCED_ROUTE_REFRESH, "enhanced-route-refresh"),
        (capability::LONG_LIVED_GRACEFUL_RESTART, "long-lived-graceful-restart"),
    ];
    let shared = NAMES.into_iter().filter(|(code, _)| terms.has(*code));
    NegotiatedSnapshot {
        router_id: terms.theirs.router_id,
        hold_time: terms.hold_time,
        keepalive: terms.keepalive,
        families: terms.codec.families,
        capabilities: shared.map(|(_, name)| name).collect(),
        who: terms.who.clone(),
    }
}
