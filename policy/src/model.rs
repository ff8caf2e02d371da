//! What goes in: pods, namespaces, tiers and policies.
//!
//! The model is wider than `networking.k8s.io/v1` NetworkPolicy, which is the only source that
//! converts into it today: policies sit in tiers, both have an order, a rule may allow, deny or pass,
//! and the first match wins. A NetworkPolicy is a policy of the tier `default` at order 1000 whose
//! rules only allow.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::problem::Problem;
use crate::selector::{Labels, Selector};

/// The label that Kubernetes gives each namespace since 1.22; [`Namespace::new`] adds it where an
/// older server did not.
pub const NAMESPACE_NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// The name of a pod in its cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PodKey {
    /// The namespace of the pod.
    pub namespace: Arc<str>,
    /// The name of the pod in its namespace.
    pub name: Arc<str>,
}

impl PodKey {
    /// The pod `name` of `namespace`.
    pub fn new(namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for PodKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A transport protocol that has ports, as far as Kubernetes knows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Transport {
    /// The Transmission Control Protocol.
    Tcp,
    /// The User Datagram Protocol.
    Udp,
    /// The Stream Control Transmission Protocol.
    Sctp,
}

impl Transport {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Tcp, Self::Udp, Self::Sctp];
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        })
    }
}

/// What a packet carries, as far as policy can tell packets apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Traffic {
    /// A packet to this destination port.
    Port(Transport, u16),
    /// Every protocol without ports that policy knows: ICMP, ICMPv6, GRE, ...
    Other,
}

impl fmt::Display for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port(transport, port) => write!(f, "{transport} {port}"),
            Self::Other => f.write_str("another protocol"),
        }
    }
}

/// A port that a container of a pod gave a name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NamedPort {
    /// The protocol of the port; the same name may stand for different numbers per protocol.
    pub transport: Transport,
    /// The name.
    pub name: Arc<str>,
    /// The number, never zero.
    pub port: u16,
}

/// One pod of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Its name.
    pub key: PodKey,
    /// Its labels.
    pub labels: Labels,
    /// The addresses that are its own now; none for a pod that has not got or has given back its
    /// addresses, and none for a pod on the host's network.
    pub addresses: Vec<IpAddr>,
    /// The ports with a name. One name may stand for several numbers: each of them counts.
    pub named_ports: Vec<NamedPort>,
    /// Whether it has a network of its own; policy neither selects nor sees the others.
    pub network: PodNetwork,
    /// What of the object could not be used.
    pub problems: Vec<Problem>,
}

impl Pod {
    /// A pod with nothing but a name.
    pub fn new(key: PodKey) -> Self {
        Self {
            key,
            labels: Labels::default(),
            addresses: Vec::new(),
            named_ports: Vec::new(),
            network: PodNetwork::Own,
            problems: Vec::new(),
        }
    }
}

/// Which network a pod lives in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PodNetwork {
    /// Its own: it has an interface and addresses that policy knows.
    Own,
    /// The node's: its packets are the node's packets.
    Host,
}

/// One namespace of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// Its name.
    pub name: Arc<str>,
    /// Its labels, [`NAMESPACE_NAME_LABEL`] among them.
    pub labels: Labels,
}

impl Namespace {
    /// A namespace with these labels, and [`NAMESPACE_NAME_LABEL`] whether it is among them or not:
    /// the server lets nobody choose another value.
    pub fn new<'a>(name: &'a str, labels: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let labels = labels.into_iter().chain([(NAMESPACE_NAME_LABEL, name)]);
        Self { labels: labels.collect(), name: name.into() }
    }
}

/// Which namespaces a [`PodSelector`] looks into.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NamespaceSelector {
    /// Into each of them, seen or not.
    Any,
    /// This one.
    Named(Arc<str>),
    /// Those with matching labels. A namespace that has not been seen matches no selector, not even
    /// the empty one.
    Labelled(Selector),
}

/// Selects pods by their own labels and those of their namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PodSelector {
    /// Where to look.
    pub namespaces: NamespaceSelector,
    /// Which pods there.
    pub pods: Selector,
}

impl PodSelector {
    /// Every pod of every namespace.
    pub fn everything() -> Self {
        Self { namespaces: NamespaceSelector::Any, pods: Selector::everything() }
    }

    /// Whether it selects `pod`, whose namespace is `namespace` if that has been seen.
    pub fn matches(&self, pod: &Pod, namespace: Option<&Namespace>) -> bool {
        let inside = match &self.namespaces {
            NamespaceSelector::Any => true,
            NamespaceSelector::Named(name) => *name == pod.key.namespace,
            NamespaceSelector::Labelled(selector) => {
                namespace.is_some_and(|namespace| selector.matches(&namespace.labels))
            }
        };
        inside && pod.network == PodNetwork::Own && self.pods.matches(&pod.labels)
    }
}

/// A block of addresses with holes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Block {
    /// The block, without host bits.
    pub cidr: IpNet,
    /// The holes, without host bits.
    pub except: BTreeSet<IpNet>,
}

impl Block {
    /// Whether `address` is in the block and in none of its holes.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.cidr.contains(&address) && !self.except.iter().any(|hole| hole.contains(&address))
    }
}

/// One kind of other side.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Peer {
    /// The pods that a selector selects, at the addresses that they own.
    Pods(Arc<PodSelector>),
    /// Addresses, whoever has them.
    Block(Arc<Block>),
}

/// The other sides that a rule speaks of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peers {
    /// Everybody.
    Any,
    /// Whoever one of these matches; nobody if there is none.
    Of(Vec<Peer>),
}

/// One kind of destination port.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PortMatch {
    /// These ports, both ends included.
    Range(Transport, u16, u16),
    /// The ports that the destination pod calls by this name.
    Named(Transport, Arc<str>),
}

impl PortMatch {
    /// Every port of a protocol.
    pub fn every(transport: Transport) -> Self {
        Self::Range(transport, 0, u16::MAX)
    }
}

/// The traffic that a rule speaks of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ports {
    /// Every protocol, with ports or without.
    Any,
    /// What one of these matches; nothing if there is none.
    Of(Vec<PortMatch>),
}

/// What a matching rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Action {
    /// The packet may go.
    Allow,
    /// The packet may not go.
    Deny,
    /// The rest of this tier has no say; the next tier decides.
    Pass,
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What it does with a packet that matches both of the following.
    pub action: Action,
    /// Senders in an ingress rule, receivers in an egress rule.
    pub peers: Peers,
    /// Always the port of the receiver.
    pub ports: Ports,
}

/// Seen from the pod that the policy selects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// Packets to the pod.
    Ingress,
    /// Packets from the pod.
    Egress,
}

impl Direction {
    /// Both of them.
    pub const BOTH: [Self; 2] = [Self::Ingress, Self::Egress];
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        })
    }
}

/// A place in a sequence; smaller comes first. A missing order is the last.
#[derive(Clone, Copy, Debug)]
pub struct Order(f64);

impl Order {
    /// After everything that has a number.
    pub const LAST: Self = Self(f64::INFINITY);

    /// At `place`; what is not a number counts as missing.
    pub fn at(place: f64) -> Self {
        // Adding zero turns -0.0 into 0.0, which the total order would keep apart.
        if place.is_nan() { Self::LAST } else { Self(place + 0.0) }
    }
}

impl PartialEq for Order {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Order {}

impl PartialOrd for Order {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Order {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

/// The kinds of object that become policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PolicyKind {
    /// `networking.k8s.io/v1` NetworkPolicy.
    NetworkPolicy,
}

impl fmt::Display for PolicyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NetworkPolicy => f.write_str("NetworkPolicy"),
        }
    }
}

/// The name of a policy in its cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PolicyKey {
    /// What the object is.
    pub kind: PolicyKind,
    /// The namespace; empty for kinds that have none.
    pub namespace: Arc<str>,
    /// The name in its namespace.
    pub name: Arc<str>,
}

impl PolicyKey {
    /// The NetworkPolicy `name` of `namespace`.
    pub fn network_policy(namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        Self { kind: PolicyKind::NetworkPolicy, namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for PolicyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            write!(f, "{} {}", self.kind, self.name)
        } else {
            write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
        }
    }
}

/// One policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Its name.
    pub key: PolicyKey,
    /// The tier it sits in; see [`World::tier`] for one that does not exist.
    pub tier: Arc<str>,
    /// Its place in the tier; policies with the same order follow each other by name.
    pub order: Order,
    /// The pods that it polices.
    pub subject: PodSelector,
    /// Its rules for packets to these pods; `None` where it does not police that direction.
    pub ingress: Option<Vec<Rule>>,
    /// Its rules for packets from these pods; `None` where it does not police that direction.
    pub egress: Option<Vec<Rule>>,
    /// What of the object could not be used.
    pub problems: Vec<Problem>,
}

impl Policy {
    /// The rules for a direction; `None` where it does not police it.
    pub fn rules(&self, direction: Direction) -> Option<&[Rule]> {
        match direction {
            Direction::Ingress => self.ingress.as_deref(),
            Direction::Egress => self.egress.as_deref(),
        }
    }
}

/// Policies that are asked together. A tier speaks only about the pods and directions that one of its
/// policies polices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tier {
    /// Its name.
    pub name: Arc<str>,
    /// Its place among the tiers; tiers with the same order follow each other by name.
    pub order: Order,
    /// What becomes of a packet that no rule of the tier matches.
    pub default: Action,
}

impl Tier {
    /// The name of the tier of Kubernetes' own NetworkPolicies.
    pub const DEFAULT: &'static str = "default";
    /// The order of a policy that has no say in it, like a NetworkPolicy.
    pub const POLICY_ORDER: f64 = 1000.0;

    /// The tier of Kubernetes' own NetworkPolicies: what no rule matches is denied.
    pub fn network_policies() -> Self {
        Self { name: Self::DEFAULT.into(), order: Order::at(1_000_000.0), default: Action::Deny }
    }
}

/// The cluster as far as policy sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct World {
    /// Every pod.
    pub pods: BTreeMap<PodKey, Pod>,
    /// Every namespace.
    pub namespaces: BTreeMap<Arc<str>, Namespace>,
    /// Tiers besides the one of [`Tier::network_policies`].
    pub tiers: BTreeMap<Arc<str>, Tier>,
    /// Every policy.
    pub policies: BTreeMap<PolicyKey, Policy>,
    /// The pods of this node, whether they are among `pods` already or not.
    pub local: BTreeSet<PodKey>,
}

impl World {
    /// The tier of that name. One that does not exist comes last and denies, so that a policy which
    /// names it is closed and not lost.
    pub fn tier(&self, name: &Arc<str>) -> Tier {
        match self.tiers.get(name) {
            Some(tier) => tier.clone(),
            None if **name == *Tier::DEFAULT => Tier::network_policies(),
            None => Tier { name: name.clone(), order: Order::LAST, default: Action::Deny },
        }
    }

    /// The namespace of a pod, if it has been seen.
    pub fn namespace_of(&self, pod: &PodKey) -> Option<&Namespace> {
        self.namespaces.get(&pod.namespace)
    }

    /// The pods of a namespace.
    pub fn pods_in<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = &'a Pod> {
        let pods = self.pods.range(PodKey::new(namespace, "")..).map(|(_, pod)| pod);
        pods.take_while(move |pod| *pod.key.namespace == *namespace)
    }

    /// A local pod that is known and has a network of its own.
    pub fn endpoint(&self, key: &PodKey) -> Option<&Pod> {
        let pod = self.pods.get(key).filter(|pod| pod.network == PodNetwork::Own);
        pod.filter(|_| self.local.contains(key))
    }

    /// Whether `selector` selects `pod`.
    pub fn selects(&self, selector: &PodSelector, pod: &Pod) -> bool {
        selector.matches(pod, self.namespace_of(&pod.key))
    }
}
