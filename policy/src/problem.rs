//! Input that could not be used. It is reported and never opens a pod.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use crate::model::{PodKey, PolicyKey, World};

/// The object that a problem belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ObjectKey {
    /// A pod.
    Pod(PodKey),
    /// A namespace.
    Namespace(Arc<str>),
    /// A policy of any kind.
    Policy(PolicyKey),
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pod(key) => write!(f, "Pod {key}"),
            Self::Namespace(name) => write!(f, "Namespace {name}"),
            Self::Policy(key) => key.fmt(f),
        }
    }
}

/// One field of one object that could not be used as it stands.
///
/// Displays as `NetworkPolicy shop/web: spec.ingress[0].from[1].ipBlock.cidr: "10.0.0.0/99" is not a
/// CIDR; the peer matches nothing`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[error("{object}: {field}: {fault}")]
pub struct Problem {
    /// The object.
    pub object: ObjectKey,
    /// The path of the field in the object, such as `spec.ingress[0].ports[2].endPort`.
    pub field: String,
    /// What is wrong, with the value and the consequence.
    pub fault: Fault,
}

impl Problem {
    /// `pod` says that it owns an address of `other`.
    pub(crate) fn duplicate_address(pod: &PodKey, address: IpAddr, other: &PodKey) -> Self {
        Self {
            object: ObjectKey::Pod(pod.clone()),
            field: "status.podIPs".to_owned(),
            fault: Fault::DuplicateAddress(address, other.clone()),
        }
    }
}

impl World {
    /// What cannot be used at present, in the order of the objects: what the conversion of each found,
    /// and addresses that two pods say they own.
    pub fn problems(&self) -> Vec<Problem> {
        let pods = self.pods.values().flat_map(|pod| &pod.problems);
        let policies = self.policies.values().flat_map(|policy| &policy.problems);
        let mut problems: Vec<Problem> = pods.chain(policies).cloned().collect();
        let mut owners: BTreeMap<IpAddr, &PodKey> = BTreeMap::new();
        for pod in self.pods.values() {
            for address in &pod.addresses {
                let first = owners.entry(*address).or_insert(&pod.key);
                if **first != pod.key {
                    problems.push(Problem::duplicate_address(&pod.key, *address, first));
                }
            }
        }
        problems.sort();
        problems
    }

    /// What the conversion of one object found.
    pub(crate) fn problems_of(&self, object: &ObjectKey) -> &[Problem] {
        match object {
            ObjectKey::Pod(key) => self.pods.get(key).map_or(&[], |pod| &pod.problems),
            ObjectKey::Policy(key) => self.policies.get(key).map_or(&[], |policy| &policy.problems),
            ObjectKey::Namespace(_) => &[],
        }
    }
}

/// What is wrong with a field.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Fault {
    /// The object has no name.
    #[error("is empty; the object is ignored")]
    Nameless,
    /// An address of a pod that is none, or an IPv4 address written as IPv6.
    #[error("{0:?} is not an address; the pod does not own it")]
    BadAddress(String),
    /// Two pods say that they own one address.
    #[error("{0} is also an address of {1}; what either may not do, both may not")]
    DuplicateAddress(IpAddr, PodKey),
    /// A direction that is neither Ingress nor Egress.
    #[error("{0:?} is neither Ingress nor Egress; the policy isolates in both directions")]
    BadPolicyType(String),
    /// Rules of a direction that `policyTypes` leaves out.
    #[error("has rules, but policyTypes leaves the direction out; they do nothing")]
    UnpolicedRules,
    /// A term of the selector of the policy's own pods.
    #[error("{0}; the policy isolates the pods that the other terms select and allows nothing")]
    BadSubject(BadTerm),
    /// A term of the selector of a peer.
    #[error("{0}; the peer matches nothing")]
    BadPeer(BadTerm),
    /// A peer with neither selectors nor block.
    #[error("has no podSelector, namespaceSelector or ipBlock; the peer matches nothing")]
    EmptyPeer,
    /// A peer with a block and selectors.
    #[error("has an ipBlock besides selectors; the peer matches nothing")]
    BlockWithSelector,
    /// A block that is no CIDR.
    #[error("{0:?} is not a CIDR; the peer matches nothing")]
    BadCidr(String),
    /// A hole that is not inside its block.
    #[error("{0:?} is not a smaller part of {1}; the peer matches nothing")]
    BadExcept(String, String),
    /// A protocol that NetworkPolicy does not know.
    #[error("{0:?} is not TCP, UDP or SCTP; the port matches nothing")]
    BadProtocol(String),
    /// A port number that is none.
    #[error("{0} is not between 1 and 65535; the port matches nothing")]
    BadPort(i32),
    /// A port name that no container could carry.
    #[error("{0:?} is not a port name; the port matches nothing")]
    BadPortName(String),
    /// The end of a range that has no number to begin with.
    #[error("{0} needs a port number to begin with; the port matches nothing")]
    EndWithoutPort(i32),
    /// The end of a range before its beginning, or beyond the last port.
    #[error("{0} is not between {1} and 65535; the port matches nothing")]
    BadEndPort(i32, i32),
}

/// What is wrong with one term of a label selector.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum BadTerm {
    /// The key is no label key.
    #[error("{0:?} is not a label key")]
    Key(String),
    /// The value is no label value.
    #[error("{0:?} is not a label value")]
    Value(String),
    /// The operator is unknown.
    #[error("{0:?} is not In, NotIn, Exists or DoesNotExist")]
    Operator(String),
    /// In or NotIn without values.
    #[error("{0} has no values")]
    NoValues(String),
    /// Exists or DoesNotExist with values.
    #[error("{0} has values")]
    Values(String),
}
