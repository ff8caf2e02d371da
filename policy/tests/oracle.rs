//! What the Kubernetes API says about a flow, read off the objects themselves.
//!
//! This shares no code with the crate: it looks at one packet at a time, at every policy, rule, peer and
//! port in turn, in the words of the API's own documentation. Input that the API server would refuse
//! matches nothing, except that a policy whose own selector cannot be read isolates what the rest of
//! that selector selects.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use ocicat_policy::{Flow, Traffic, Transport, Verdict};

type Name = (String, String);
type Labels = BTreeMap<String, String>;

/// Every object of a cluster.
#[derive(Clone, Default)]
pub(crate) struct Objects {
    pub(crate) namespaces: BTreeMap<String, Namespace>,
    pub(crate) pods: BTreeMap<Name, Pod>,
    pub(crate) policies: BTreeMap<Name, NetworkPolicy>,
}

/// A packet as one of its two pods sees it.
struct Packet<'a> {
    subject: &'a Name,
    peer: &'a Name,
    peer_address: IpAddr,
    /// Whoever's port it is.
    receiver: Option<&'a Pod>,
    traffic: Traffic,
}

#[derive(Clone, Copy, PartialEq)]
enum Way {
    Ingress,
    Egress,
}

impl Objects {
    pub(crate) fn verdict(&self, flow: &Flow) -> Verdict {
        let name = |party: &ocicat_policy::Party| {
            let pod = party.pod.as_ref();
            pod.map(|key| (key.namespace.to_string(), key.name.to_string()))
        };
        let (source, destination) = (name(&flow.source), name(&flow.destination));
        if source.is_some() && source == destination {
            return Verdict::Accept;
        }
        let sends = self.side(Way::Egress, source.as_ref(), flow.destination.address, flow.traffic);
        let receives =
            self.side(Way::Ingress, destination.as_ref(), flow.source.address, flow.traffic);
        if sends && receives { Verdict::Accept } else { Verdict::Drop }
    }

    /// Whether the policies of `subject` let the packet pass, whichever pod the other address belongs
    /// to: if two pods claim it, both must be allowed.
    fn side(&self, way: Way, subject: Option<&Name>, other: IpAddr, traffic: Traffic) -> bool {
        let Some(subject) = subject else { return true };
        let me = &self.pods[subject];
        let owners: Vec<&Name> =
            self.pods.iter().filter(|(_, pod)| owns(pod, other)).map(|(name, _)| name).collect();
        let nobody = (String::new(), String::new());
        let owners = if owners.is_empty() { vec![&nobody] } else { owners };
        owners.into_iter().all(|peer| {
            let receiver = match way {
                Way::Ingress => Some(me),
                Way::Egress => self.pods.get(peer),
            };
            let packet = Packet { subject, peer, peer_address: other, receiver, traffic };
            self.passes(way, &packet)
        })
    }

    fn passes(&self, way: Way, packet: &Packet<'_>) -> bool {
        let me = &self.pods[packet.subject];
        if me.spec.as_ref().is_some_and(|spec| spec.host_network == Some(true)) {
            return true;
        }
        let mut isolated = false;
        for ((namespace, _), policy) in &self.policies {
            let spec = policy.spec.clone().unwrap_or_default();
            let selector = spec.pod_selector.clone().unwrap_or_default();
            if *namespace != packet.subject.0 || !self.policy_types(policy).contains(&way) {
                continue;
            }
            let (selected, readable) = select_leniently(&selector, &labels_of(me));
            if !selected {
                continue;
            }
            isolated = true;
            if !readable {
                continue;
            }
            let allowed = match way {
                Way::Ingress => spec.ingress.unwrap_or_default().iter().any(|rule| {
                    self.rule(
                        namespace,
                        rule.from.as_deref().unwrap_or(&[]),
                        rule.ports.as_deref().unwrap_or(&[]),
                        packet,
                    )
                }),
                Way::Egress => spec.egress.unwrap_or_default().iter().any(|rule| {
                    self.rule(
                        namespace,
                        rule.to.as_deref().unwrap_or(&[]),
                        rule.ports.as_deref().unwrap_or(&[]),
                        packet,
                    )
                }),
            };
            if allowed {
                return true;
            }
        }
        !isolated
    }

    /// "policies that contain an egress section are assumed to affect egress, and all policies
    /// (whether or not they contain an ingress section) are assumed to affect ingress"
    fn policy_types(&self, policy: &NetworkPolicy) -> Vec<Way> {
        let spec = policy.spec.clone().unwrap_or_default();
        let types = spec.policy_types.unwrap_or_default();
        if types.is_empty() && spec.egress.unwrap_or_default().is_empty() {
            return vec![Way::Ingress];
        }
        let both = vec![Way::Ingress, Way::Egress];
        if types.iter().any(|name| name != "Ingress" && name != "Egress") || types.is_empty() {
            return both;
        }
        types
            .iter()
            .map(|name| if name == "Ingress" { Way::Ingress } else { Way::Egress })
            .collect()
    }

    fn rule(
        &self,
        namespace: &str,
        peers: &[NetworkPolicyPeer],
        ports: &[NetworkPolicyPort],
        packet: &Packet<'_>,
    ) -> bool {
        let peer = peers.is_empty() || peers.iter().any(|peer| self.peer(namespace, peer, packet));
        let port = ports.is_empty() || ports.iter().any(|port| port_matches(port, packet));
        peer && port
    }

    fn peer(&self, namespace: &str, peer: &NetworkPolicyPeer, packet: &Packet<'_>) -> bool {
        if let Some(block) = &peer.ip_block {
            let alone = peer.namespace_selector.is_none() && peer.pod_selector.is_none();
            return alone && block_contains(block, packet.peer_address);
        }
        let Some(pod) = self.pods.get(packet.peer) else { return false };
        let in_namespace = match &peer.namespace_selector {
            None => packet.peer.0 == namespace,
            Some(selector) => self
                .namespaces
                .get(&packet.peer.0)
                .is_some_and(|found| select(selector, &namespace_labels(found))),
        };
        let pods = match &peer.pod_selector {
            None => peer.namespace_selector.is_some(),
            Some(selector) => select(selector, &labels_of(pod)),
        };
        in_namespace && pods
    }
}

fn labels_of(pod: &Pod) -> Labels {
    pod.metadata.labels.clone().unwrap_or_default()
}

fn namespace_labels(namespace: &Namespace) -> Labels {
    let mut labels = namespace.metadata.labels.clone().unwrap_or_default();
    let name = namespace.metadata.name.clone().unwrap();
    labels.insert("kubernetes.io/metadata.name".to_owned(), name);
    labels
}

/// "podIPs holds the IP addresses allocated to the pod." A pod that has ended has given them back.
fn owns(pod: &Pod, address: IpAddr) -> bool {
    let host = pod.spec.as_ref().is_some_and(|spec| spec.host_network == Some(true));
    let status = pod.status.clone().unwrap_or_default();
    let ended = ["Succeeded", "Failed"].contains(&status.phase.as_deref().unwrap_or(""));
    let mut ips: Vec<String> = status.pod_ips.into_iter().flatten().map(|ip| ip.ip).collect();
    if ips.is_empty() {
        ips.extend(status.pod_ip);
    }
    let annotations = pod.metadata.annotations.clone().unwrap_or_default();
    for key in ["cni.projectcalico.org/podIPs", "cni.projectcalico.org/podIP"] {
        let list = annotations.get(key).cloned().unwrap_or_default();
        if ips.is_empty() {
            ips = list.split(',').map(|ip| ip.split('/').next().unwrap().to_owned()).collect();
        }
    }
    !host && !ended && ips.iter().any(|ip| ip.parse() == Ok(address))
}

fn readable(term: &LabelSelectorRequirement) -> bool {
    let values = term.values.clone().unwrap_or_default();
    let label = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c));
    let counted = match term.operator.as_str() {
        "In" | "NotIn" => !values.is_empty(),
        "Exists" | "DoesNotExist" => values.is_empty(),
        _ => false,
    };
    counted && label(&term.key) && !term.key.is_empty() && values.iter().all(|value| label(value))
}

fn holds(term: &LabelSelectorRequirement, labels: &Labels) -> bool {
    let value = labels.get(&term.key);
    let among = |value: &String| term.values.as_ref().is_some_and(|all| all.contains(value));
    match term.operator.as_str() {
        "In" => value.is_some_and(among),
        "NotIn" => !value.is_some_and(among),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        _ => unreachable!("only readable terms are asked"),
    }
}

/// Whether the readable terms hold, and whether these are all.
fn select_leniently(selector: &LabelSelector, labels: &Labels) -> (bool, bool) {
    let exact = selector.match_labels.clone().unwrap_or_default();
    let exact = exact.into_iter().map(|(key, value)| LabelSelectorRequirement {
        key,
        operator: "In".to_owned(),
        values: Some(vec![value]),
    });
    let expressions = selector.match_expressions.clone().unwrap_or_default();
    let terms: Vec<_> = exact.chain(expressions).collect();
    let good: Vec<_> = terms.iter().filter(|term| readable(term)).collect();
    (good.iter().all(|term| holds(term, labels)), good.len() == terms.len())
}

fn select(selector: &LabelSelector, labels: &Labels) -> bool {
    select_leniently(selector, labels) == (true, true)
}

/// The bits of an address and how many there are.
fn bits(address: IpAddr) -> (u128, u32) {
    match address {
        IpAddr::V4(v4) => (u128::from(v4.to_bits()), 32),
        IpAddr::V6(v6) => (v6.to_bits(), 128),
    }
}

fn parse_cidr(text: &str) -> Option<(IpAddr, u32)> {
    let (address, length) = text.split_once('/')?;
    let (address, length): (IpAddr, u32) = (address.parse().ok()?, length.parse().ok()?);
    (length <= bits(address).1).then_some((address, length))
}

fn inside((net, length): (IpAddr, u32), address: IpAddr) -> bool {
    let ((net, width), (address, other)) = (bits(net), bits(address));
    let shift = width - length;
    width == other && (shift == 128 || net >> shift == address >> shift)
}

/// "except is a slice of CIDRs that should not be included within an ipBlock. [...] Except values will be
/// rejected if they are outside the cidr range"
fn block_contains(block: &IPBlock, address: IpAddr) -> bool {
    let Some(cidr) = parse_cidr(&block.cidr) else { return false };
    let mut included = inside(cidr, address);
    for text in block.except.iter().flatten() {
        match parse_cidr(text) {
            Some(hole) if inside(cidr, hole.0) && hole.1 > cidr.1 => {
                included &= !inside(hole, address);
            }
            _ => return false,
        }
    }
    included
}

fn protocol(name: &Option<String>) -> Option<Transport> {
    match name.as_deref().unwrap_or("TCP") {
        "TCP" => Some(Transport::Tcp),
        "UDP" => Some(Transport::Udp),
        "SCTP" => Some(Transport::Sctp),
        _ => None,
    }
}

fn port_matches(port: &NetworkPolicyPort, packet: &Packet<'_>) -> bool {
    let Traffic::Port(transport, number) = packet.traffic else { return false };
    let number = i32::from(number);
    if protocol(&port.protocol) != Some(transport) {
        return false;
    }
    match (&port.port, port.end_port) {
        (None, None) => true,
        (Some(IntOrString::Int(first)), None) => number == *first && number != 0,
        (Some(IntOrString::Int(first)), Some(last)) => {
            (1..=65535).contains(first)
                && (1..=65535).contains(&last)
                && (*first..=last).contains(&number)
        }
        (Some(IntOrString::String(name)), None) => {
            packet.receiver.is_some_and(|pod| pod_names(pod, name, transport, number))
        }
        (None | Some(IntOrString::String(_)), Some(_)) => false,
    }
}

/// Whether a container of the pod, or an init container that goes on running, calls the port so.
fn pod_names(pod: &Pod, name: &str, transport: Transport, number: i32) -> bool {
    let spec = pod.spec.clone().unwrap_or_default();
    let sidecars = spec.init_containers.unwrap_or_default();
    let sidecars =
        sidecars.into_iter().filter(|one| one.restart_policy.as_deref() == Some("Always"));
    spec.containers.into_iter().chain(sidecars).flat_map(|one| one.ports.unwrap_or_default()).any(
        |port| {
            port.name.as_deref() == Some(name)
                && port.container_port == number
                && protocol(&port.protocol) == Some(transport)
        },
    )
}
