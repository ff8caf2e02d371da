//! BGPPeer: explicit peers, by address or by node.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::num::{NonZeroU8, NonZeroU32};

use ocicat_bgp::speaker::{NextHopMode, Password, PeerConfig, PeerName, Reflection, Ttl};
use ocicat_policy::expression::Expression;

use super::settings::Settings;
use super::{common_addresses, dial, duration, filter, restart_time};
use crate::datastore::calico::{self, BgpPeerSpec, SourceAddress};
use crate::datastore::{Key, Kind};
use crate::problem::Problem;
use crate::world::{Node, World};

/// Calico never limits a peer to its own link.
pub(super) fn multihop() -> Ttl {
    const HOPS: NonZeroU8 = NonZeroU8::new(64).expect("64 is not zero");
    Ttl::Multihop(HOPS)
}

/// Adds every peer that BGPPeer objects give to our node.
pub(super) fn configured(
    world: &World,
    own: &Node,
    settings: &Settings,
    peers: &mut BTreeMap<PeerName, PeerConfig>,
    problems: &mut Vec<Problem>,
) {
    for (name, spec) in &world.bgp_peers {
        let mut reader = Reader {
            world,
            own,
            settings,
            key: Key::cluster(Kind::BgpPeer, name.as_str()),
            spec,
            problems,
        };
        for (name, peer) in reader.peers(name) {
            peers.insert(name, peer);
        }
    }
}

/// Whether a node is selected.
type Selects = Box<dyn Fn(&Node) -> bool>;

struct Reader<'a> {
    world: &'a World,
    own: &'a Node,
    settings: &'a Settings,
    key: Key,
    spec: &'a BgpPeerSpec,
    problems: &'a mut Vec<Problem>,
}

impl Reader<'_> {
    fn report(&mut self, field: &str, message: impl std::fmt::Display) {
        self.problems.push(Problem::new(&self.key, field, message));
    }

    /// The peers that this object gives to our node.
    fn peers(&mut self, name: &str) -> Vec<(PeerName, PeerConfig)> {
        if self.spec.local_workload_selector.is_some() {
            self.report("spec.localWorkloadSelector", "not honoured by this version; no peer");
            return Vec::new();
        }
        let Some(selects) = self.local_nodes() else { return Vec::new() };
        match (&self.spec.peer_ip, self.spec.peer_selector.as_deref()) {
            (Some(_), Some(selector)) if !selector.is_empty() => {
                self.report("spec.peerSelector", "set beside peerIP, which excludes it; no peer");
                Vec::new()
            }
            (_, Some(selector)) if !selector.is_empty() => {
                self.by_selector(name, selector, &selects)
            }
            (Some(address), _) if selects(self.own) => {
                let peer = self.by_address(address);
                peer.map(|peer| (PeerName::from(name), peer)).into_iter().collect()
            }
            (Some(_), _) => Vec::new(),
            (None, _) => {
                self.report("spec.peerIP", "neither this nor peerSelector is set; no peer");
                Vec::new()
            }
        }
    }

    /// Which nodes have this peer.
    fn local_nodes(&mut self) -> Option<Selects> {
        let node = self.spec.node.clone().filter(|node| !node.is_empty());
        let selector = self.spec.node_selector.clone().filter(|selector| !selector.is_empty());
        match (node, selector) {
            (Some(_), Some(_)) => {
                self.report("spec.nodeSelector", "set beside node, which excludes it; no peer");
                None
            }
            (Some(name), None) => Some(Box::new(move |node| node.name == name)),
            (None, Some(text)) => {
                let expression = self.expression("spec.nodeSelector", &text)?;
                Some(Box::new(move |node| expression.matches(&node.labels)))
            }
            (None, None) => Some(Box::new(|_| true)),
        }
    }

    fn expression(&mut self, field: &str, text: &str) -> Option<Expression> {
        text.parse().map_err(|error| self.report(field, format!("{error}; no peer"))).ok()
    }

    /// Every selected node, and in the other direction if we are selected ourselves.
    fn by_selector(
        &mut self,
        name: &str,
        selector: &str,
        selects: &dyn Fn(&Node) -> bool,
    ) -> Vec<(PeerName, PeerConfig)> {
        let Some(far) = self.expression("spec.peerSelector", selector) else { return Vec::new() };
        let ours = selects(self.own);
        let reverse =
            self.spec.reverse_peering.as_deref() != Some("Manual") && far.matches(&self.own.labels);
        let mut peers = Vec::new();
        for node in self.world.nodes.values().filter(|node| node.name != self.own.name) {
            if (ours && far.matches(&node.labels)) || (reverse && selects(node)) {
                let Some((source, address)) = common_addresses(self.own, node) else { continue };
                let mut peer = PeerConfig::new(address, self.settings.as_number_of(node));
                peer.port = self.settings.listen_port;
                peer.source = Some(source);
                peer.dial = dial(source, address);
                self.finish(&mut peer, Some(node));
                peers.push((PeerName::from(format!("{name}-{}", node.name)), peer));
            }
        }
        peers
    }

    fn by_address(&mut self, text: &str) -> Option<PeerConfig> {
        let Some((address, port)) = address_and_port(text) else {
            self.report(
                "spec.peerIP",
                format!("{text:?} is not ADDRESS, ADDRESS:PORT or [ADDRESS]:PORT; no peer"),
            );
            return None;
        };
        if self.own.addresses().any(|own| own == address) {
            return None;
        }
        let node = self.world.nodes.values().find(|node| node.addresses().any(|ip| ip == address));
        let number = self.spec.as_number.and_then(|number| NonZeroU32::new(number.0));
        let Some(remote_as) = number.or_else(|| node.map(|node| self.settings.as_number_of(node)))
        else {
            self.report("spec.asNumber", "missing; no peer");
            return None;
        };
        let mut peer = PeerConfig::new(address, remote_as);
        // A node of ours listens where we do.
        let of_node = node.map(|_| self.settings.listen_port);
        peer.port = port.or(of_node).unwrap_or(peer.port);
        if self.spec.source_address != Some(SourceAddress::None) {
            peer.source = self.own.addresses().find(|own| own.is_ipv4() == address.is_ipv4());
        }
        self.finish(&mut peer, node);
        Some(peer)
    }

    /// What is the same however the peer was found.
    fn finish(&mut self, peer: &mut PeerConfig, node: Option<&Node>) {
        let spec = self.spec;
        peer.ttl = match spec.ttl_security.and_then(NonZeroU8::new) {
            Some(hops) => Ttl::Security(hops),
            None => multihop(),
        };
        peer.local_as = spec.local_as_number.and_then(|number| NonZeroU32::new(number.0));
        peer.allow_own_as = spec.num_allowed_local_as_numbers.unwrap_or(0);
        peer.next_hop = match spec.next_hop_mode {
            Some(calico::NextHopMode::Auto) => NextHopMode::Auto,
            Some(calico::NextHopMode::Own) => NextHopMode::Own,
            Some(calico::NextHopMode::Keep) => NextHopMode::Keep,
            None if spec.keep_original_next_hop == Some(true) => NextHopMode::Keep,
            None => NextHopMode::Auto,
        };
        let internal = peer.remote_as == self.settings.as_number_of(self.own);
        let same_cluster = node.is_some_and(|node| node.cluster_id == self.own.cluster_id);
        if self.own.cluster_id.is_some() && internal && !same_cluster {
            peer.reflection = Reflection::Client;
        }
        self.timers(peer);
        self.password(peer);
        if spec.reachable_by.is_some() {
            self.report("spec.reachableBy", "not honoured by this version");
        }
        let filters = filter::compile(self.world, &self.key, &spec.filters, self.problems);
        peer.import = filters.import;
        peer.export = filters.export;
        if self.own.cluster_id.is_some() && internal {
            peer.export.rules.extend(filter::pod_networks(self.world));
        }
    }

    fn timers(&mut self, peer: &mut PeerConfig) {
        if let Some(text) = &self.spec.keepalive_time {
            match duration(text) {
                Ok(time) => peer.keepalive = Some(time),
                Err(message) => self
                    .report("spec.keepaliveTime", message + "; a third of the hold time is used"),
            }
        }
        if let Some(text) = &self.spec.max_restart_time {
            match restart_time(text) {
                Ok(restart) => peer.graceful_restart = restart,
                Err(message) => self.report("spec.maxRestartTime", message + "; 120 s is used"),
            }
        }
    }

    /// A session that should have a password never runs without.
    fn password(&mut self, peer: &mut PeerConfig) {
        if let Some(reference) = self.spec.password.as_ref().and_then(|p| p.secret_key_ref.as_ref())
        {
            peer.password = Password::Missing;
            let message = format!(
                "key {:?} of Secret {:?}: Secrets are not read by this version; the session stays down",
                reference.key, reference.name
            );
            self.report("spec.password.secretKeyRef", message);
        }
    }
}

fn address_and_port(text: &str) -> Option<(IpAddr, Option<u16>)> {
    if let Ok(address) = text.parse() {
        return Some((address, None));
    }
    text.parse::<SocketAddr>().ok().map(|socket| (socket.ip(), Some(socket.port())))
}
