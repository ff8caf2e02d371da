//! Peers whose address nobody wrote down: the router at the other end of a link, and whoever
//! connects from a range.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{
    Dial, Output, Password, PeerConfig, PeerName, PeerRange, Refused, SigningKey, Speaker,
};
use crate::rib::path::PeerIndex;
use crate::session::state::State;
use crate::session::{Peer, Quarantine};
use crate::wire::Prefix;

/// How long a guest that has to stay down is remembered: by then its address may be another's.
const OFFENDER_STAYS: Duration = Duration::from_secs(24 * 3600);

/// A connection that somebody else has made.
#[derive(Debug, Clone, Copy)]
pub struct Arrival<'a> {
    /// Our end.
    pub local: SocketAddr,
    /// The other end.
    pub remote: SocketAddr,
    /// The link that a connection between link-local addresses came over.
    pub interface: Option<&'a str>,
}

impl Arrival<'_> {
    /// A connection between addresses that mean the same on every link.
    #[must_use]
    pub const fn new(local: SocketAddr, remote: SocketAddr) -> Self {
        Self { local, remote, interface: None }
    }

    fn address(&self) -> IpAddr {
        self.remote.ip().to_canonical()
    }

    fn link_local(&self) -> Option<Ipv6Addr> {
        match self.remote.ip() {
            IpAddr::V6(address) => Some(address).filter(Ipv6Addr::is_unicast_link_local),
            IpAddr::V4(_) => None,
        }
    }

    /// Whether the connection is from this peer. The same link-local address on another link is
    /// somebody else, where the peer's link is known.
    fn is_from(&self, peer: &Peer) -> bool {
        let elsewhere = self.link_local().is_some()
            && peer.config.interface.is_some()
            && !self.is_on_link_of(peer);
        peer.address() == Some(self.address()) && !elsewhere
    }

    fn is_on_link_of(&self, peer: &Peer) -> bool {
        self.interface.is_some() && peer.config.interface.as_deref() == self.interface
    }

    /// Whether the peer is unnumbered, without a session, and at the other end of this link: then
    /// it is who connects.
    fn is_news_of(&self, peer: &Peer) -> bool {
        peer.config.is_unnumbered()
            && peer.established().is_none()
            && self.link_local().is_some()
            && self.is_on_link_of(peer)
    }
}

/// A peer whose address is known.
#[derive(Debug, Clone, Copy)]
pub struct Host<'a> {
    /// Who.
    pub name: &'a PeerName,
    /// Where: as configured, found on the link, or where the peer connected from.
    pub address: IpAddr,
    /// Its settings.
    pub config: &'a PeerConfig,
}

impl PeerRange {
    /// Whether an address lies in the range.
    pub(super) fn admits(&self, address: IpAddr) -> bool {
        self.prefix.contains(Prefix::host(address))
    }

    /// The peer at one address of the range.
    pub(super) fn member(&self, address: IpAddr) -> PeerConfig {
        PeerConfig { address, dial: Dial::Passive, ..self.template.clone() }
    }
}

impl Speaker {
    /// Every peer whose address is known.
    pub fn hosts(&self) -> impl Iterator<Item = Host<'_>> {
        self.peers.values().filter_map(|peer| {
            Some(Host { name: &peer.name, address: peer.address()?, config: &peer.config })
        })
    }

    /// The keys that connections from an address have to be signed with (RFC 2385, 5925); where
    /// prefixes overlap the longest counts.
    pub fn keys(&self) -> BTreeMap<Prefix, SigningKey> {
        let ranges = self.config.ranges.values();
        let ranges = ranges.map(|range| (range.prefix, &range.template));
        // Whoever came from a range signs as the range says.
        let named = self.peers.values().filter(|peer| peer.range.is_none());
        let hosts = named.filter_map(|peer| Some((Prefix::host(peer.address()?), &peer.config)));
        let keys = ranges.chain(hosts).filter_map(|(prefix, config)| match &config.password {
            Password::Key(secret) => {
                let key = SigningKey { secret: Arc::clone(secret), signing: config.signing };
                Some((prefix, key))
            }
            Password::None | Password::Missing => None,
        });
        keys.collect()
    }

    /// The settings of whoever this connection is from, for the options of its socket.
    #[must_use]
    pub fn host_of(&self, arrival: Arrival<'_>) -> Option<PeerConfig> {
        let known = self.peers.values().find(|peer| arrival.is_from(peer));
        let known = known.or_else(|| self.peers.values().find(|peer| arrival.is_news_of(peer)));
        known.map(|peer| peer.config.clone()).or_else(|| {
            let (_, range) = self.range_of(arrival)?;
            Some(range.member(arrival.address()))
        })
    }

    /// The peer that a connection is from; one that is not named comes into being here.
    pub(super) fn receive_guest(
        &mut self,
        now: Instant,
        arrival: Arrival<'_>,
    ) -> Result<PeerIndex, Refused> {
        if let Some(peer) = self.peers.values().find(|peer| arrival.is_from(peer)) {
            return Ok(peer.index);
        }
        if let Some(peer) = self.peers.values_mut().find(|peer| arrival.is_news_of(peer)) {
            peer.found = arrival.link_local();
            let index = peer.index;
            self.update_neighbor(index);
            self.outputs.push_back(Output::HostsChanged);
            return Ok(index);
        }
        let (name, range) = self.range_of(arrival).ok_or(Refused::Unknown(arrival.remote))?;
        let guests = || self.peers.values().filter(|peer| peer.range.as_ref() == Some(name));
        let in_use = guests().filter(|peer| peer.quarantine != Quarantine::UntilReset).count();
        // Those who must stay down take nobody's place, but are not remembered without end either.
        let limit = range.limit.get() as usize;
        if in_use >= limit || guests().count() >= 2 * limit {
            return Err(Refused::Full { remote: arrival.remote, range: name.clone() });
        }
        let config = range.member(arrival.address());
        let range = name.clone();
        let name = PeerName::from(format!("{range}-{}", arrival.address()));
        self.add_peer(now, name.clone(), config);
        let index = self.names[&name];
        if let Some(peer) = self.peers.get_mut(&index) {
            peer.range = Some(range);
        }
        self.outputs.push_back(Output::HostsChanged);
        Ok(index)
    }

    /// The narrowest range with this address.
    fn range_of(&self, arrival: Arrival<'_>) -> Option<(&PeerName, &PeerRange)> {
        // A link-local address says nothing without its link.
        let address = Some(arrival.address()).filter(|_| arrival.link_local().is_none())?;
        let ranges = self.config.ranges.iter().filter(|(_, range)| range.admits(address));
        ranges.max_by_key(|(_, range)| range.prefix.len())
    }

    /// A router has shown itself on a link. A peer with a session stays with the one that it has.
    pub(super) fn router_found(&mut self, now: Instant, interface: &str, address: Ipv6Addr) {
        let here = |peer: &&mut Box<Peer>| {
            peer.config.is_unnumbered()
                && peer.config.interface.as_deref() == Some(interface)
                && peer.state() < State::OpenSent
                && peer.found != Some(address)
        };
        let mut changed = Vec::new();
        for peer in self.peers.values_mut().filter(here) {
            peer.found = Some(address);
            changed.push(peer.index);
        }
        for index in changed {
            // Before the dial, which may need the key.
            self.outputs.push_back(Output::HostsChanged);
            self.update_neighbor(index);
            self.settle(now, index, None);
        }
    }

    /// Forgets a peer that is not named, once nothing is left of it.
    pub(super) fn leave_if_idle(&mut self, now: Instant, index: PeerIndex) {
        let Some(peer) = self.peers.get(&index) else { return };
        if peer.range.is_none() || peer.state() >= State::OpenSent {
            return;
        }
        // Nor is one forgotten that has to stay away, for a day at most.
        let remembered = peer.quarantine != Quarantine::No
            && now.saturating_duration_since(peer.since) < OFFENDER_STAYS;
        if peer.retained.is_empty() && !remembered {
            let name = peer.name.clone();
            self.remove_peer(now, &name);
            self.outputs.push_back(Output::HostsChanged);
        } else {
            self.settle(now, index, None);
        }
    }
}
