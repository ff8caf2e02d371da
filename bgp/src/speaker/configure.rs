//! A new configuration takes force: peer by peer, and only what differs.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::Ipv4Addr;
use std::time::Instant;

use super::aggregate::Aggregates;
use super::cause::{Cause, Fault};
use super::monitor::{Monitoring, Stations};
use super::restart::Restart;
use super::rpki::Caches;
use super::{Config, Originated, PeerConfig, PeerName, Place, Reflection, Speaker, Timer};
use crate::rib::attribute::Block;
use crate::rib::best::{Ineligible, Limits};
use crate::rib::filter::Filter;
use crate::rib::group::Groups;
use crate::rib::import;
use crate::rib::links::Links;
use crate::rib::path::{LOCAL, PeerIndex};
use crate::rib::reach::Unreachable;
use crate::rib::slab::Column;
use crate::rib::{Neighbor, Rib};
use crate::session::collision::Direction;
use crate::session::negotiate::Terms;
use crate::session::state::Event;
use crate::session::timer::{Jitter, Timers};
use crate::session::{Peer, Quarantine};
use crate::wire::{self, Cease, Edit, Origin, PeerKind, Prefix, Rewrite, Scratch};

impl Speaker {
    /// A speaker that has done nothing yet; its first outputs are ready to be polled. The seed
    /// decides the jitter of timers and the layout of hash tables.
    pub fn new(config: Config, seed: u64, now: Instant) -> Self {
        let bare = Config {
            peers: BTreeMap::new(),
            originated: BTreeMap::new(),
            monitoring: Monitoring::default(),
            caches: BTreeSet::new(),
            ..config.clone()
        };
        let mut speaker = Self {
            rib: Rib::new(ourselves(&config), limits(&config), config.chosen, seed),
            restart: Restart::new(&config, now),
            config: bare,
            peers: BTreeMap::new(),
            names: BTreeMap::new(),
            conns: BTreeMap::new(),
            closing: BTreeMap::new(),
            next_conn: 0,
            groups: Groups::default(),
            aggregates: Aggregates::default(),
            stations: Stations::default(),
            caches: Caches::default(),
            sweeps: VecDeque::new(),
            timers: Timers::new(),
            jitter: Jitter::new(seed),
            outputs: VecDeque::new(),
            routed: [Column::new(false), Column::new(false)],
            scratch: Scratch::default(),
            clock: now,
        };
        speaker.begin_restart(now);
        speaker.configure(now, config);
        speaker
    }

    /// Takes a new configuration into force: a peer whose part is unchanged keeps its session, and
    /// so does one of which only filters, next hop, timers to come or who dials changed. Routes
    /// are judged again from what the table holds. Originated prefixes follow the difference to the
    /// configuration before; those of [`Self::originate`] stay. A change of `local_as`,
    /// `confederation` or `router_id` concerns all sessions; `start` counts only in [`Self::new`].
    pub fn configure(&mut self, now: Instant, mut config: Config) {
        self.clock = now;
        // Each peer keeps its own part: hundreds of them need not be kept twice.
        let peers = std::mem::take(&mut config.peers);
        let originated = config.originated.clone();
        self.rib.limits = limits(&config);
        self.rib.router_id = config.router_id;
        self.rib.cluster_id = config.cluster_id;
        self.rib.public_as = config.own_as().public();
        let paths = self.rib.neighbors[0].paths;
        self.rib.neighbors[0] = Neighbor { paths, ..ourselves(&config) };
        let old = std::mem::replace(&mut self.config, config);
        let named = self.peers.values().filter(|peer| peer.range.is_none());
        let gone = named.map(|peer| &peer.name).filter(|name| !peers.contains_key(*name));
        let gone: Vec<PeerName> = gone.cloned().collect();
        gone.iter().for_each(|name| self.remove_peer(now, name));
        let who =
            |monitoring: &Monitoring| (monitoring.name.clone(), monitoring.description.clone());
        let renamed = who(&old.monitoring) != who(&self.config.monitoring);
        let numbers = |config: &Config| (config.local_as, config.router_id);
        let same = numbers(&old) == numbers(&self.config)
            && old.confederation == self.config.confederation;
        let identity = if same { Identity::Kept } else { Identity::Changed };
        for (name, config) in peers {
            match self.names.get(&name).copied().filter(|index| self.peers.contains_key(index)) {
                Some(index) => self.change_peer(now, index, &config, identity),
                None => self.add_peer(now, name, config),
            }
        }
        self.follow_ranges(now, identity);
        self.configure_stations(now, renamed || !same);
        self.configure_caches(now);
        if old.cluster_id != self.config.cluster_id {
            import::reimport_clustered(&mut self.rib);
            self.groups.mark_all(&self.rib);
        }
        if old.multipath != self.config.multipath {
            Self::FAMILIES.into_iter().for_each(|family| self.rib.select_all(family));
        }
        for prefix in old.originated.keys().filter(|prefix| !originated.contains_key(*prefix)) {
            self.rib.withdraw(LOCAL, 0, *prefix);
        }
        for (prefix, attributes) in originated {
            if old.originated.get(&prefix) != Some(&attributes) {
                self.begin_origination(prefix, &attributes);
            }
        }
        if !same {
            self.form_again();
        }
        self.follow_aggregates();
        self.after(now);
    }

    /// Originates a prefix, or changes its attributes.
    pub fn originate(&mut self, now: Instant, prefix: Prefix, originated: &Originated) {
        self.clock = now;
        self.begin_origination(prefix, originated);
        self.after(now);
    }

    /// Ends what [`Self::originate`] or the configuration began.
    pub fn withdraw(&mut self, now: Instant, prefix: Prefix) {
        self.clock = now;
        self.rib.withdraw(LOCAL, 0, prefix);
        self.after(now);
    }

    /// Says what the node cannot reach: paths by there are kept, not chosen, and not told
    /// (RFC 4271 §9.1.2).
    pub fn set_unreachable(&mut self, now: Instant, unreachable: &Unreachable) {
        self.clock = now;
        self.rib.set_unreachable(unreachable);
        self.after(now);
    }

    /// Says through which interfaces routers and peers are reached. What is not mentioned is not known.
    /// Filters that ask judge again where that changed.
    pub fn set_links(&mut self, now: Instant, links: &Links) {
        self.clock = now;
        let (peers, prefixes) = self.rib.set_links(links);
        for peer in peers {
            if self.rib.neighbor(peer).import.asks_link() {
                import::reimport(&mut self.rib, peer);
            }
        }
        self.groups.mark_relinked(&prefixes);
        self.after(now);
    }

    /// Ends all sessions for good, with a text for the peers' operators (RFC 9003). Not for a
    /// planned restart: there, just drop the connections, and the peers keep our routes.
    pub fn shut_down(&mut self, now: Instant, text: &str) {
        self.clock = now;
        let cause = Cause::cease(Cease::AdministrativeShutdown, text);
        let all: Vec<_> = self.peers.keys().copied().collect();
        for index in all {
            if let Some(peer) = self.peers.get_mut(&index) {
                peer.config.admin = super::Admin::Down;
            }
            self.stop(now, index, &cause);
        }
        self.end_stations(now);
        self.end_caches(now);
        self.after(now);
    }

    /// Ends and begins the session with a peer, and tells it so (Cease, administrative reset).
    pub fn reset(&mut self, now: Instant, peer: &PeerName) {
        self.clock = now;
        if let Some(index) = self.names.get(peer).copied() {
            let cause = Cause::cease(Cease::AdministrativeReset, "");
            self.stop(now, index, &cause);
            self.forgive(index);
            self.settle(now, index, None);
        }
        self.after(now);
    }

    fn begin_origination(&mut self, prefix: Prefix, originated: &Originated) {
        let mut raw = Vec::new();
        let bare = wire::originated(Origin::Igp);
        let made = local_edits(originated).apply(&bare, &mut raw);
        // More communities than an attribute holds: the operator sees why the prefix is not told.
        let raw = if made.is_ok() { raw } else { bare };
        let attr = self.rib.attributes.intern(Block::made(None, &raw));
        let judged = made.map(|()| attr).map_err(|_| Ineligible::AttributeTooLong);
        self.rib.announce(LOCAL, 0, prefix, attr, judged);
        self.rib.attributes.release(attr);
    }

    pub(super) fn add_peer(&mut self, now: Instant, name: PeerName, config: PeerConfig) {
        let index = self.index_of(&name);
        self.peers.insert(index, Box::new(Peer::new(name, index, config, now)));
        self.update_neighbor(index);
        self.settle(now, index, None);
    }

    /// A name keeps its number for good, until so many have come and gone that a number
    /// out of use has to serve again.
    fn index_of(&mut self, name: &PeerName) -> PeerIndex {
        if let Some(index) = self.names.get(name) {
            return *index;
        }
        let fresh = u16::try_from(self.names.len() + 1).ok().map(PeerIndex);
        let index = fresh.unwrap_or_else(|| {
            let unused = self.names.iter().find(|(_, index)| !self.peers.contains_key(index));
            let (old, index) = unused.expect("no node has 65,535 peers at once");
            let (old, index) = (old.clone(), *index);
            self.names.remove(&old);
            index
        });
        self.names.insert(name.clone(), index);
        index
    }

    /// Peers that came out of a range follow its template, and go with it.
    fn follow_ranges(&mut self, now: Instant, identity: Identity) {
        let guests = self.peers.values().filter_map(|peer| {
            let address = peer.config.address;
            Some((peer.name.clone(), peer.index, address, peer.range.clone()?))
        });
        for (name, index, address, range) in guests.collect::<Vec<_>>() {
            let range = self.config.ranges.get(&range).filter(|range| range.admits(address));
            match range.map(|range| range.member(address)) {
                Some(config) => self.change_peer(now, index, &config, identity),
                None => self.remove_peer(now, &name),
            }
        }
    }

    pub(super) fn remove_peer(&mut self, now: Instant, name: &PeerName) {
        let Some(index) = self.names.get(name).copied() else { return };
        if let Some(peer) = self.peers.get_mut(&index) {
            peer.config.admin = super::Admin::Down;
        }
        self.stop(now, index, &Cause::cease(Cease::PeerDeconfigured, ""));
        self.peers.remove(&index);
        self.timers.cancel(Timer::IdleHold(index));
        self.timers.cancel(Timer::Leave(index));
    }

    fn change_peer(
        &mut self,
        now: Instant,
        index: PeerIndex,
        new: &PeerConfig,
        identity: Identity,
    ) {
        let Some(peer) = self.peers.get_mut(&index) else { return };
        let old = std::mem::replace(&mut peer.config, new.clone());
        if old == *new && identity == Identity::Kept {
            // The cluster id or our addresses may have changed; the group finds out.
            self.update_neighbor(index);
            self.update_policy(index);
            return;
        }
        self.update_neighbor(index);
        if new.admin != old.admin && new.admin == super::Admin::Down {
            self.stop(now, index, &Cause::cease(Cease::AdministrativeShutdown, ""));
        } else if identity == Identity::Changed || needs_new_session(&old, new) {
            self.stop(now, index, &Cause::cease(Cease::OtherConfigurationChange, ""));
            self.forgive(index);
            let who =
                |config: &PeerConfig| (config.address, config.interface.clone(), config.remote_as);
            if who(&old) != who(new) {
                self.drop_retained(index); // It may be another router.
                if let Some(peer) = self.peers.get_mut(&index) {
                    peer.found = None;
                }
            }
        } else {
            self.update_policy(index);
        }
        if new.reflection != old.reflection {
            self.groups.mark_all(&self.rib);
        }
        let judged =
            |config: &PeerConfig| (config.local_as, config.allow_own_as, config.origin_validation);
        // Without a session there may be paths yet, kept for its return.
        let kept = self.peers.get(&index).is_some_and(|peer| !peer.retained.is_empty());
        let renamed = kept && identity == Identity::Changed;
        if new.import != old.import || judged(new) != judged(&old) || renamed {
            import::reimport(&mut self.rib, index);
        }
        if new.max_paths != old.max_paths {
            self.change_limit(now, index);
        }
        self.settle(now, index, None);
    }

    fn change_limit(&mut self, now: Instant, index: PeerIndex) {
        let Some(peer) = self.peers.get(&index) else { return };
        match peer.established() {
            Some(direction) => drop(self.limit_paths(now, Place { peer: index, direction })),
            None => self.forgive(index),
        }
    }

    /// After a change by the operator nothing is held against the peer.
    fn forgive(&mut self, index: PeerIndex) {
        if let Some(peer) = self.peers.get_mut(&index) {
            peer.quarantine = Quarantine::No;
            peer.errors = 0;
            peer.failures = 0;
        }
        self.timers.cancel(Timer::IdleHold(index));
    }

    fn update_policy(&mut self, index: PeerIndex) {
        let peer = self.peers.get(&index);
        let Some(direction) = peer.and_then(|peer| peer.established()) else { return };
        if let Some(policy) = self.policy(Place { peer: index, direction }) {
            self.groups.change_policy(&mut self.rib, index, policy);
        }
    }

    /// Ends both lines of a peer.
    fn stop(&mut self, now: Instant, index: PeerIndex, cause: &Cause) {
        for direction in Direction::BOTH {
            let at = Place { peer: index, direction };
            let survives = self
                .peers
                .get(&index)
                .and_then(|peer| peer.terms())
                .is_some_and(Terms::survives_notification);
            self.event(now, at, Event::Stop, Some(&cause.for_good(survives)));
        }
        self.timers.cancel(Timer::Retry(index));
        if cause.fault == Fault::HardReset {
            self.timers.cancel(Timer::Restart(index));
            self.drop_retained(index);
        }
    }
}

/// What an originated prefix has beside the attributes that each has.
fn local_edits(originated: &Originated) -> Rewrite {
    let mut rewrite = Rewrite::towards(PeerKind::Internal);
    rewrite.communities.add = originated.communities.iter().map(|each| each.0).collect();
    rewrite.large_communities.add.clone_from(&originated.large_communities);
    rewrite.med = originated.med.map_or(Edit::Keep, Edit::Set);
    rewrite.local_pref = originated.local_pref.map_or(Edit::Keep, Edit::Set);
    rewrite
}

/// Whether the speaker is still who it was to all its peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Identity {
    Kept,
    Changed,
}

/// Whether a change cannot be made on a running session.
fn needs_new_session(old: &PeerConfig, new: &PeerConfig) -> bool {
    let fixed = |config: &PeerConfig| PeerConfig {
        // All that may change under way.
        admin: super::Admin::Up,
        dial: super::Dial::Both,
        connect_retry: std::time::Duration::ZERO,
        delay_open: None,
        keepalive: None,
        send_hold: None,
        shortest_hold_time: None,
        as_override: super::AsOverride::Keep,
        remove_private: super::RemovePrivate::Keep,
        next_hop: super::NextHopMode::Auto,
        reflection: Reflection::NonClient,
        import: Filter::reject_all(),
        export: Filter::reject_all(),
        allow_own_as: 0,
        origin_validation: None,
        bfd: None,
        introduce: super::Introduce::default(),
        max_paths: None,
        max_advertised: None,
        default_route: super::DefaultRoute::Ordinary,
        ..config.clone()
    };
    fixed(old) != fixed(new)
}

const fn limits(config: &Config) -> Limits {
    let super::Multipath { ebgp, ibgp, between } = config.multipath;
    Limits { external: ebgp, internal: ibgp, between }
}

/// Ourselves as the source of what we originate.
fn ourselves(config: &Config) -> Neighbor {
    Neighbor {
        kind: PeerKind::Internal,
        router_id: config.router_id,
        address: Ipv4Addr::UNSPECIFIED.into(),
        own_address: None,
        local_as: config.local_as.get(),
        prepend: None,
        allow_own_as: 0,
        role: None,
        origin_validation: None,
        reflection: Reflection::NonClient,
        interface: None,
        import: (&Filter::accept_all()).into(),
        export: (&Filter::own_routes()).into(),
        generation: [0; 2],
        long_lived: wire::FamilySet::EMPTY,
        paths: [0; 2],
    }
}
