//! Tiers, policies and their rules.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::{PodSelector, Transport};
use crate::problem::Problem;

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
    /// The tier it sits in; see [`World::tier`](super::World::tier) for one that does not exist.
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
