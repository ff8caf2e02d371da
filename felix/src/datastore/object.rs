//! The objects we understand, from JSON (YAML is read as JSON values first).

use std::fmt;

use k8s_openapi::api::core::v1::{Namespace, Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::calico::status::CalicoNodeStatus;
use super::calico::{BgpConfigurationSpec, BgpFilterSpec, BgpPeerSpec, IpPoolSpec, Resource};
use super::secret::Secret;
use crate::problem::Problem;

/// The kinds we understand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `v1` Node.
    Node,
    /// `v1` Namespace.
    Namespace,
    /// `v1` Pod.
    Pod,
    /// `networking.k8s.io/v1` NetworkPolicy.
    NetworkPolicy,
    /// `projectcalico.org/v3` BGPConfiguration.
    BgpConfiguration,
    /// `projectcalico.org/v3` BGPPeer.
    BgpPeer,
    /// `projectcalico.org/v3` BGPFilter.
    BgpFilter,
    /// `projectcalico.org/v3` IPPool.
    IpPool,
    /// `projectcalico.org/v3` CalicoNodeStatus.
    CalicoNodeStatus,
    /// `v1` Service.
    Service,
    /// `discovery.k8s.io/v1` EndpointSlice.
    EndpointSlice,
    /// `v1` Secret, in which passwords of peers are.
    Secret,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 12] = [
        Self::Node,
        Self::Namespace,
        Self::Pod,
        Self::NetworkPolicy,
        Self::BgpConfiguration,
        Self::BgpPeer,
        Self::BgpFilter,
        Self::IpPool,
        Self::CalicoNodeStatus,
        Self::Service,
        Self::EndpointSlice,
        Self::Secret,
    ];

    /// `kind` as in YAML.
    pub fn name(self) -> &'static str {
        match self {
            Self::Node => "Node",
            Self::Namespace => "Namespace",
            Self::Pod => "Pod",
            Self::NetworkPolicy => "NetworkPolicy",
            Self::BgpConfiguration => "BGPConfiguration",
            Self::BgpPeer => "BGPPeer",
            Self::BgpFilter => "BGPFilter",
            Self::IpPool => "IPPool",
            Self::CalicoNodeStatus => "CalicoNodeStatus",
            Self::Service => "Service",
            Self::EndpointSlice => "EndpointSlice",
            Self::Secret => "Secret",
        }
    }

    /// `apiVersion` as in YAML.
    pub fn api_version(self) -> &'static str {
        match self {
            Self::Node | Self::Namespace | Self::Pod | Self::Service | Self::Secret => "v1",
            Self::EndpointSlice => "discovery.k8s.io/v1",
            Self::NetworkPolicy => "networking.k8s.io/v1",
            Self::BgpConfiguration
            | Self::BgpPeer
            | Self::BgpFilter
            | Self::IpPool
            | Self::CalicoNodeStatus => "projectcalico.org/v3",
        }
    }

    /// Whether objects of the kind live in a namespace.
    pub fn is_namespaced(self) -> bool {
        match self {
            Self::Pod
            | Self::NetworkPolicy
            | Self::Service
            | Self::EndpointSlice
            | Self::Secret => true,
            Self::Node
            | Self::Namespace
            | Self::BgpConfiguration
            | Self::BgpPeer
            | Self::BgpFilter
            | Self::IpPool
            | Self::CalicoNodeStatus => false,
        }
    }
}

/// Which object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace; empty for kinds that are cluster scoped.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Key {
    /// The key of a cluster-scoped object.
    pub fn cluster(kind: Kind, name: impl Into<String>) -> Self {
        Self { kind, namespace: String::new(), name: name.into() }
    }

    /// The key of an object in a namespace.
    pub fn namespaced(kind: Kind, namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { kind, namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            write!(f, "{} {}", self.kind.name(), self.name)
        } else {
            write!(f, "{} {}/{}", self.kind.name(), self.namespace, self.name)
        }
    }
}

/// An object that we understand.
#[derive(Debug, Clone, PartialEq)]
pub enum Object {
    /// A node.
    Node(Box<Node>),
    /// A namespace.
    Namespace(Namespace),
    /// A pod.
    Pod(Box<Pod>),
    /// A network policy.
    NetworkPolicy(NetworkPolicy),
    /// A network policy whose specification cannot be read. It closes what it may have selected, never opens it.
    UnreadableNetworkPolicy(Key),
    /// BGP settings.
    BgpConfiguration(Resource<BgpConfigurationSpec>),
    /// A BGP peer.
    BgpPeer(Resource<BgpPeerSpec>),
    /// A BGP filter.
    BgpFilter(Resource<BgpFilterSpec>),
    /// A pool of pod addresses.
    IpPool(Resource<IpPoolSpec>),
    /// A wish to see a node's state.
    CalicoNodeStatus(CalicoNodeStatus),
    /// A Service.
    Service(Service),
    /// Endpoints of a Service.
    EndpointSlice(EndpointSlice),
    /// Passwords.
    Secret(Secret),
}

/// An object, and what it says that we do not understand.
#[derive(Debug, Clone, PartialEq)]
pub struct Parsed {
    /// The object.
    pub object: Object,
    /// Fields that we do not know.
    pub problems: Vec<Problem>,
}

/// Why a document gave no object.
#[derive(Debug, Clone, PartialEq)]
pub enum Unusable {
    /// Not an object of Kubernetes at all.
    NotAnObject(String),
    /// A kind that we have no use for; nothing is wrong with that.
    OtherKind(String),
    /// A kind that we know, but not like this.
    Invalid(Box<Invalid>),
}

/// An object of a kind that we know, which cannot be read.
#[derive(Debug, Clone, PartialEq)]
pub struct Invalid {
    /// Which object.
    pub key: Key,
    /// What is wrong with it.
    pub problem: Problem,
}

impl Object {
    /// Which object this is.
    pub fn key(&self) -> Key {
        let (kind, meta) = match self {
            Self::Node(o) => (Kind::Node, &o.metadata),
            Self::Namespace(o) => (Kind::Namespace, &o.metadata),
            Self::Pod(o) => (Kind::Pod, &o.metadata),
            Self::NetworkPolicy(o) => (Kind::NetworkPolicy, &o.metadata),
            Self::UnreadableNetworkPolicy(key) => return key.clone(),
            Self::Secret(secret) => {
                return Key::namespaced(Kind::Secret, &secret.namespace, &secret.name);
            }
            Self::BgpConfiguration(o) => (Kind::BgpConfiguration, &o.metadata),
            Self::BgpPeer(o) => (Kind::BgpPeer, &o.metadata),
            Self::BgpFilter(o) => (Kind::BgpFilter, &o.metadata),
            Self::IpPool(o) => (Kind::IpPool, &o.metadata),
            Self::CalicoNodeStatus(o) => (Kind::CalicoNodeStatus, &o.metadata),
            Self::Service(o) => (Kind::Service, &o.metadata),
            Self::EndpointSlice(o) => (Kind::EndpointSlice, &o.metadata),
        };
        let name = meta.name.clone().unwrap_or_default();
        let namespace =
            if kind.is_namespaced() { namespace_or_default(meta.namespace.as_deref()) } else { "" };
        Key { kind, namespace: namespace.to_owned(), name }
    }

    /// Reads one document.
    pub fn parse(document: Value) -> Result<Parsed, Unusable> {
        let key = identify(&document)?;
        let mut problems = Vec::new();
        let object = match key.kind {
            Kind::Node => typed(document, &key, &mut problems).map(Self::Node),
            Kind::Namespace => typed(document, &key, &mut problems).map(Self::Namespace),
            Kind::Pod => typed(document, &key, &mut problems).map(Self::Pod),
            Kind::NetworkPolicy => {
                typed(document, &key, &mut problems).map(|mut policy: NetworkPolicy| {
                    policy.metadata.namespace.get_or_insert_with(|| key.namespace.clone());
                    Self::NetworkPolicy(policy)
                })
            }
            Kind::BgpConfiguration => {
                typed(document, &key, &mut problems).map(Self::BgpConfiguration)
            }
            Kind::BgpPeer => typed(document, &key, &mut problems).map(Self::BgpPeer),
            Kind::BgpFilter => typed(document, &key, &mut problems).map(Self::BgpFilter),
            Kind::IpPool => typed(document, &key, &mut problems).map(Self::IpPool),
            Kind::CalicoNodeStatus => {
                typed(document, &key, &mut problems).map(Self::CalicoNodeStatus)
            }
            Kind::Service => typed(document, &key, &mut problems).map(Self::Service),
            Kind::EndpointSlice => typed(document, &key, &mut problems).map(Self::EndpointSlice),
            Kind::Secret => match Secret::read(document, &key.namespace, &key.name) {
                Some(secret) => Ok(Self::Secret(secret)),
                None => Err(Problem::new(&key, "data", "cannot be read")),
            },
        };
        match object {
            Ok(mut object) => {
                if let Self::Pod(pod) = &mut object {
                    pod.metadata.namespace.get_or_insert_with(|| key.namespace.clone());
                }
                Ok(Parsed { object, problems })
            }
            Err(problem) => Err(Unusable::Invalid(Box::new(Invalid { key, problem }))),
        }
    }
}

fn namespace_or_default(namespace: Option<&str>) -> &str {
    match namespace {
        Some(namespace) if !namespace.is_empty() => namespace,
        _ => "default",
    }
}

/// Kind and name, without looking at the rest.
fn identify(document: &Value) -> Result<Key, Unusable> {
    let text = |pointer: &str| document.pointer(pointer).and_then(Value::as_str);
    let Some(kind_name) = text("/kind") else {
        return Err(Unusable::NotAnObject("the document has no kind".to_owned()));
    };
    let api_version = text("/apiVersion").unwrap_or_default();
    let Some(kind) =
        Kind::ALL.into_iter().find(|k| k.name() == kind_name && k.api_version() == api_version)
    else {
        return Err(Unusable::OtherKind(format!("{api_version} {kind_name}")));
    };
    let Some(name) = text("/metadata/name").filter(|name| !name.is_empty()) else {
        return Err(Unusable::NotAnObject(format!("the {kind_name} has no metadata.name")));
    };
    Ok(if kind.is_namespaced() {
        Key::namespaced(kind, namespace_or_default(text("/metadata/namespace")), name)
    } else {
        Key::cluster(kind, name)
    })
}

/// Reads a typed object, collecting the fields that its type does not have.
fn typed<T: DeserializeOwned>(
    document: Value,
    key: &Key,
    problems: &mut Vec<Problem>,
) -> Result<T, Problem> {
    let result = serde_ignored::deserialize(document, |path| {
        let field = path.to_string();
        // Every document has the first two; the status is other people's word.
        if field != "apiVersion" && field != "kind" && !field.starts_with("status") {
            problems.push(Problem::new(key, field, "unknown field, ignored"));
        }
    });
    result.map_err(|error: serde_json::Error| Problem::new(key, "", error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_unknown_field_is_reported_and_the_object_still_works() {
        let parsed = Object::parse(json!({
            "apiVersion": "projectcalico.org/v3", "kind": "BGPPeer", "metadata": {"name": "tor"},
            "spec": {"peerIP": "192.0.2.1", "asNumber": 64500, "holdTime": "9s"},
        }))
        .unwrap();
        assert_eq!(parsed.object.key().to_string(), "BGPPeer tor");
        let problems: Vec<_> = parsed.problems.iter().map(ToString::to_string).collect();
        assert_eq!(problems, ["BGPPeer tor: spec.holdTime: unknown field, ignored"]);
    }

    /// What our own documentation says of a kind's fields is what the kind is read by.
    #[test]
    fn every_documented_field_is_known() {
        let text = include_str!("../../../manifests/BGP-API.md");
        for kind in ["BGPConfiguration", "BGPPeer"] {
            let section = text.split("\n## ").find(|section| section.starts_with(kind)).unwrap();
            let rows = section.lines().filter(|line| line.starts_with("| `"));
            let names = rows.flat_map(|row| row.split('|').nth(1).unwrap().split('`'));
            let is_name = |name: &&str| name.len() > 1 && name.chars().all(char::is_alphanumeric);
            let names: Vec<&str> = names.filter(is_name).collect();
            assert!(names.len() > 10, "{kind}: {names:?}");
            for name in names {
                let parsed = Object::parse(json!({
                    "apiVersion": "projectcalico.org/v3", "kind": kind,
                    "metadata": {"name": "default"}, "spec": {name: null},
                }));
                // A value that is refused is a field that is known.
                let problems = parsed.map(|parsed| parsed.problems).unwrap_or_default();
                let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
                assert!(!problems.iter().any(|it| it.contains("unknown")), "{problems:?}");
            }
        }
    }

    #[test]
    fn a_wrong_value_names_object_and_value() {
        let error = Object::parse(json!({
            "apiVersion": "projectcalico.org/v3", "kind": "BGPPeer", "metadata": {"name": "tor"},
            "spec": {"peerIP": "192.0.2.1", "asNumber": "many"},
        }))
        .unwrap_err();
        let Unusable::Invalid(invalid) = error else { panic!("{error:?}") };
        let Invalid { key, problem } = *invalid;
        assert_eq!(key.to_string(), "BGPPeer tor");
        assert!(problem.to_string().contains("\"many\" is not an AS number"), "{problem}");
    }

    #[test]
    fn a_kubernetes_object_is_read_and_lands_in_the_default_namespace() {
        let parsed = Object::parse(json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "labels": {"a": "b"}},
            "spec": {"containers": [], "hostNetworking": true},
        }))
        .unwrap();
        assert_eq!(parsed.object.key(), Key::namespaced(Kind::Pod, "default", "web"));
        assert_eq!(parsed.problems.len(), 1, "{:?}", parsed.problems);
    }

    #[test]
    fn other_kinds_are_not_our_business() {
        let error =
            Object::parse(json!({"apiVersion": "apps/v1", "kind": "Deployment"})).unwrap_err();
        assert_eq!(error, Unusable::OtherKind("apps/v1 Deployment".to_owned()));
    }

    #[test]
    fn asdot_is_an_as_number_and_zero_is_not() {
        assert_eq!("1.10".parse(), Ok(super::super::calico::AsNumber(65546)));
        assert!("0".parse::<super::super::calico::AsNumber>().is_err());
    }
}
