//! What goes in: pods, namespaces, tiers and policies.
//!
//! The model is wider than `networking.k8s.io/v1` NetworkPolicy, which is the only source that
//! converts into it today: policies sit in tiers, both have an order, a rule may allow, deny or pass,
//! and the first match wins. A NetworkPolicy is a policy of the tier `default` at order 1000 whose
//! rules only allow.

mod policy;
mod world;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

pub use self::policy::{
    Action, Block, Direction, Order, Peer, Peers, Policy, PolicyKey, PolicyKind, PortMatch, Ports,
    Rule, Tier,
};
pub use self::world::World;
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
