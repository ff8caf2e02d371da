//! BGPPeer: explicit peers, by address or by node.

use std::net::{IpAddr, SocketAddr};
use std::num::{NonZeroU8, NonZeroU32};

use ocicat_bgp::speaker::{Dial, NextHopMode, PeerConfig, PeerName, PeerRestart, Reflection, Ttl};
use ocicat_bgp::wire::PeerKind;
use ocicat_policy::expression::Expression;

use super::annotations::{self, PeerKnobs, Whom};
use super::filter::Unfiltered;
use super::settings::Settings;
use super::{
    About, Candidate, Claim, Draft, Nodes, PeerGroup, RESTART_IS_OFF, dial, duration, filter,
    restart_time, tcp_ao,
};
use crate::datastore::calico::{self, BgpPeerSpec, SourceAddress};
use crate::datastore::{Key, Kind};
use crate::problem::Problem;
use crate::world::{Annotated, Node, World};
use unnamed::Link;

mod nodes;
mod unnamed;

const PASSWORD: &str = "spec.password.secretKeyRef";

/// Calico never limits a peer to its own link.
pub(super) fn multihop() -> Ttl {
    const HOPS: NonZeroU8 = NonZeroU8::new(64).expect("64 is not zero");
    Ttl::Multihop(HOPS)
}

/// Adds every peer that BGPPeer objects give to our node.
pub(super) fn configured(world: &World, own: &Node, settings: &Settings, draft: &mut Draft) {
    for (name, Annotated { spec, annotations }) in &world.bgp_peers {
        let key = Key::cluster(Kind::BgpPeer, name.as_str());
        let (knobs, whom) = annotations::of_peer(&key, annotations, &mut draft.problems);
        let mut reader = Reader { world, own, settings, key, spec, knobs, whom, draft };
        if spec.ttl_security.is_some() && annotations.contains_key("multihop") {
            reader.report(
                "spec.ttlSecurity",
                "set beside the annotation multihop, which goes before it",
            );
        }
        reader.peers(name);
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
    knobs: PeerKnobs,
    whom: Whom,
    draft: &'a mut Draft,
}

impl Reader<'_> {
    fn report(&mut self, field: &str, message: impl std::fmt::Display) {
        self.draft.problems.push(Problem::new(&self.key, field, message));
    }

    /// The peers that this object gives to our node.
    fn peers(&mut self, name: &str) {
        let Some(selects) = self.local_nodes() else { return };
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let address = given(&self.spec.peer_ip);
        let nodes = given(&self.spec.peer_selector);
        let pods = given(&self.spec.local_workload_selector);
        let unnamed = match (self.whom.range, self.whom.interfaces.is_empty(), &address) {
            (Some(_), _, _) => Some(("listen-range", Self::guests as fn(&mut Self, &str))),
            (None, false, None) => Some(("interface", Self::on_links as fn(&mut Self, &str))),
            (None, _, _) => None,
        };
        if let Some((annotation, peers)) = unnamed {
            if address.is_some() || nodes.is_some() || pods.is_some() {
                let message = "set beside peerIP, peerSelector or localWorkloadSelector, which exclude it; no peer";
                self.report_annotation(annotation, message);
            } else if selects(self.own) {
                peers(self, name);
            }
            return;
        }
        match (address, nodes, pods) {
            (Some(address), None, None) => self.by_address(name, &address, &selects),
            (None, Some(selector), None) => self.by_selector(name, &selector, &selects),
            (None, None, Some(selector)) => {
                if selects(self.own) {
                    self.local_pods(name, &selector);
                }
            }
            (None, None, None) => self.report(
                "spec.peerIP",
                "neither this nor peerSelector nor localWorkloadSelector nor one of the annotations interface and listen-range is set; no peer",
            ),
            (Some(_), Some(_), _) => {
                self.report("spec.peerSelector", "set beside peerIP, which excludes it; no peer");
            }
            (Some(_), None, Some(_)) | (None, Some(_), Some(_)) => {
                let message = "set beside peerIP or peerSelector, which exclude it; no peer";
                self.report("spec.localWorkloadSelector", message);
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

    fn by_address(&mut self, name: &str, text: &str, selects: &dyn Fn(&Node) -> bool) {
        let ours = selects(self.own);
        let Some((address, zone, port)) = address_and_port(text) else {
            if ours {
                let message = format!(
                    "{text:?} is not ADDRESS, ADDRESS%INTERFACE, ADDRESS:PORT or [ADDRESS]:PORT; no peer"
                );
                self.report("spec.peerIP", message);
            }
            return;
        };
        if self.own.addresses().any(|own| own == address) {
            return self.by_own_address(name, (address, port), selects);
        }
        if !ours {
            return;
        }
        let link = match self.link_of(address, zone) {
            Link::Any => None,
            Link::This(interface) => Some(interface),
            Link::Unclear => return,
        };
        let node = self.world.nodes.values().find(|node| node.addresses().any(|ip| ip == address));
        let of_node = node.map(|node| self.settings.as_number_of(node).into());
        let Some(remote_as) = self.remote_as(of_node) else { return };
        let mut peer = self.settings.peer(address, remote_as);
        let on_link = link.is_some();
        peer.interface = link;
        let of_node = node.map(|node| self.settings.listen_port_of(node));
        peer.port = port.or(of_node).unwrap_or(peer.port);
        let own = self.own.addresses().find(|own| own.is_ipv4() == address.is_ipv4());
        if self.spec.source_address != Some(SourceAddress::None) && !on_link {
            peer.source = own;
        }
        let halves =
            node.is_some_and(|node| self.has_other_half(node, (port, remote_as), self.own));
        if let Some(own) = own.filter(|_| halves) {
            peer.dial = dial(own, address);
        }
        let gateway = self.gateway(address);
        let candidate = self.candidate(name.to_owned(), peer, node, Claim::Explicit);
        self.draft.candidates.push(Candidate { gateway, ..candidate });
    }

    /// The way to a peer that the kernel is to have whatever BGP says.
    fn gateway(&mut self, peer: IpAddr) -> Option<IpAddr> {
        let text = self.spec.reachable_by.as_deref().filter(|text| !text.is_empty())?;
        match text.parse::<IpAddr>() {
            Ok(gateway) if gateway.is_ipv4() != peer.is_ipv4() => {
                let message = format!("{text:?} is not of the peer's address family; no route");
                self.report("spec.reachableBy", message);
                None
            }
            Ok(gateway) => Some(gateway),
            Err(_) => {
                self.report("spec.reachableBy", format!("{text:?} is not an address; no route"));
                None
            }
        }
    }

    /// Pods of this node that speak BGP. They dial, we answer.
    fn local_pods(&mut self, name: &str, selector: &str) {
        let Some(pods) = self.expression("spec.localWorkloadSelector", selector) else { return };
        let Some(remote_as) = self.spec.as_number.and_then(|number| NonZeroU32::new(number.0))
        else {
            return self.report("spec.asNumber", "missing; no peer");
        };
        for (pod, endpoint) in self.world.attached(|labels| pods.matches(labels)) {
            let interface = endpoint.host_interface.clone();
            self.draft.workloads.insert(interface, self.settings.workload_addresses.clone());
            for &address in &endpoint.addresses {
                let mut peer = self.settings.peer(address, remote_as);
                peer.dial = Dial::Passive;
                let suffix = if address.is_ipv4() { "" } else { "-ipv6" };
                let name = format!("{name}-{}-{}{suffix}", pod.namespace, pod.name);
                self.add(name, peer, None, Claim::Explicit);
            }
        }
    }

    fn add(&mut self, name: String, peer: PeerConfig, node: Option<&Node>, claim: Claim) {
        let candidate = self.candidate(name, peer, node, claim);
        self.draft.candidates.push(candidate);
    }

    fn candidate(
        &mut self,
        name: String,
        peer: PeerConfig,
        node: Option<&Node>,
        claim: Claim,
    ) -> Candidate {
        let (peer, about) = self.complete(peer, node);
        let said_by = (self.key.clone(), self.field_of_whom());
        Candidate { name: PeerName::from(name), peer, about, gateway: None, claim, said_by }
    }

    /// The field that says whom the object leads to.
    fn field_of_whom(&self) -> String {
        let spec = self.spec;
        let fields = [
            ("spec.peerIP", &spec.peer_ip),
            ("spec.peerSelector", &spec.peer_selector),
            ("spec.localWorkloadSelector", &spec.local_workload_selector),
        ];
        let mut given = fields
            .into_iter()
            .filter(|(_, text)| text.as_deref().is_some_and(|text| !text.is_empty()));
        given.next().map_or_else(|| unnamed::field("interface"), |(field, _)| field.to_owned())
    }

    /// What is the same however the peer was found.
    fn complete(&mut self, mut peer: PeerConfig, node: Option<&Node>) -> (PeerConfig, About) {
        let spec = self.spec;
        peer.ttl = match spec.ttl_security.and_then(NonZeroU8::new) {
            Some(hops) => Ttl::Security(hops),
            None => peer.ttl,
        };
        let local_as = spec.local_as_number.and_then(|number| NonZeroU32::new(number.0));
        peer.local_as = local_as.map(|number| self.settings.local_as(number));
        let own = self.settings.own_as(self.own);
        if own.has_inside(peer.remote_as) && peer.local_as.take().is_some() {
            let message =
                "the peer is of the node's own confederation, which knows it by asNumber; ignored";
            self.report("spec.localASNumber", message);
        }
        peer.allow_own_as = spec.num_allowed_local_as_numbers.unwrap_or(0);
        peer.next_hop = match spec.next_hop_mode {
            Some(calico::NextHopMode::Auto) => NextHopMode::Auto,
            Some(calico::NextHopMode::Own) => NextHopMode::Own,
            Some(calico::NextHopMode::Keep) => NextHopMode::Keep,
            None if spec.keep_original_next_hop == Some(true) => NextHopMode::Keep,
            None => NextHopMode::Auto,
        };
        let ours = own.number.get();
        let internal = peer.remote_as.expected_kind(ours) == PeerKind::Internal;
        let same_cluster = node.is_some_and(|node| node.cluster_id == self.own.cluster_id);
        if self.own.cluster_id.is_some() && internal && !same_cluster {
            peer.reflection = Reflection::Client;
        }
        self.knobs.apply(&mut peer);
        self.timers(&mut peer);
        let found = self.draft.password(self.world, &self.key, PASSWORD, spec.password.as_ref());
        peer.password = found.password;
        let external = own.expected_kind(&peer) == PeerKind::External;
        let source = filter::Source {
            world: self.world,
            settings: self.settings,
            key: &self.key,
            names: &spec.filters,
            unfiltered: if external {
                self.settings.speaker.unfiltered
            } else {
                Unfiltered::Passes
            },
        };
        let filters = source.compile(&mut self.draft.problems);
        peer.import = filters.import;
        peer.export = filters.export;
        if self.own.cluster_id.is_some() && internal {
            peer.export.rules.extend(filter::pod_networks(self.world));
        }
        let about = About {
            origin: self.key.to_string(),
            group: PeerGroup::Configured,
            nodes: self.nodes(),
            held: found.held.or_else(|| tcp_ao::held(&peer)),
            rules: filters.origins.into(),
        };
        (peer, about)
    }

    fn nodes(&self) -> Nodes {
        let chooses = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
        if chooses(&self.spec.node) || chooses(&self.spec.node_selector) {
            Nodes::Selected
        } else {
            Nodes::All
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
                Ok(_) if peer.graceful_restart == PeerRestart::Disabled => {
                    self.report("spec.maxRestartTime", RESTART_IS_OFF);
                }
                Ok(restart) => peer.graceful_restart = restart,
                Err(message) => self.report("spec.maxRestartTime", message + "; 120 s is used"),
            }
        }
    }
}

/// An address, the link that it is on, and a port.
fn address_and_port(text: &str) -> Option<(IpAddr, Option<&str>, Option<u16>)> {
    if let Ok(socket) = text.parse::<SocketAddr>() {
        return Some((socket.ip(), None, Some(socket.port())));
    }
    let (address, zone) = match text.split_once('%') {
        Some((address, zone)) => (address, Some(zone).filter(|zone| !zone.is_empty())),
        None => (text, None),
    };
    Some((address.parse().ok()?, zone, None))
}
