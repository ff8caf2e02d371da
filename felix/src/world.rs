//! The node's picture of the cluster: what the datastore said, and which pods are attached here.
//!
//! No I/O, no clock. Events go in; the plans read from it. [`World::take_dirty`] says which plans have to be made anew.

pub mod node;
mod pods;
mod secrets;
mod services;

use std::collections::{BTreeMap, BTreeSet};

use ocicat_cni::endpoint::{Endpoint, EndpointId};
use ocicat_policy::model::{NamespaceSelector, Order, PodSelector};
use ocicat_policy::{Direction, Index, PodKey, Policy, PolicyKey, Tier, k8s};

pub use node::{DRAIN, Node};
pub use pods::pod_key;
pub use secrets::{Arrival, DEFAULT_NAMESPACE as DEFAULT_SECRET_NAMESPACE, Known};
pub use services::{Endpoints, Service, Traffic};

use crate::datastore::calico::status::CalicoNodeStatus;
use crate::datastore::calico::{
    BgpConfigurationSpec, BgpFilterSpec, BgpPeerSpec, IpPoolSpec, Resource,
};
use crate::datastore::{Event, Key, Kind, Object};
use crate::problem::Problem;

/// What is known.
#[derive(Debug)]
pub struct World {
    name: String,
    /// Every node of the cluster.
    pub nodes: BTreeMap<String, Node>,
    /// Pods, namespaces and policies, and the verdicts that follow.
    pub index: Index,
    /// BGP settings by name.
    pub bgp_configurations: BTreeMap<String, Annotated<BgpConfigurationSpec>>,
    /// BGP peers by name.
    pub bgp_peers: BTreeMap<String, Annotated<BgpPeerSpec>>,
    /// BGP filters by name.
    pub bgp_filters: BTreeMap<String, Annotated<BgpFilterSpec>>,
    /// Address pools by name.
    pub ip_pools: BTreeMap<String, IpPoolSpec>,
    /// Wishes to see our own node's state, by name. Those for other nodes are not kept.
    pub node_statuses: BTreeMap<String, CalicoNodeStatus>,
    secrets: secrets::Secrets,
    services: services::Services,
    own_pods: BTreeMap<PodKey, pods::OwnPod>,
    endpoints: BTreeMap<EndpointId, Endpoint>,
    problems: BTreeMap<String, Vec<Problem>>,
    dirty: Dirty,
}

/// An object, and what our own annotations add to it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Annotated<S> {
    /// What the object says.
    pub spec: S,
    /// The annotations of our own, under their names without the prefix.
    pub annotations: BTreeMap<String, String>,
}

/// Annotations under this prefix are ours.
pub const ANNOTATION_PREFIX: &str = "bgp.ocicat.io/";

impl<S> From<Resource<S>> for Annotated<S> {
    fn from(resource: Resource<S>) -> Self {
        let all = resource.metadata.annotations.unwrap_or_default().into_iter();
        let ours = all.filter_map(|(name, value)| {
            Some((name.strip_prefix(ANNOTATION_PREFIX)?.to_owned(), value))
        });
        Self { spec: resource.spec, annotations: ours.collect() }
    }
}

/// What has changed since the plans were made.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Dirty {
    /// Interfaces whose endpoint, or whose pod, is not what it was.
    pub interfaces: BTreeSet<String>,
    /// Something that the speaker's configuration is made of.
    pub peering: bool,
    /// Something that address translation is made of.
    pub nat: bool,
    /// Our own Node object.
    pub own_node: bool,
    /// The wishes to see our own node's state.
    pub node_statuses: bool,
}

impl World {
    /// Nothing is known yet by the node called `name`.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            nodes: BTreeMap::new(),
            index: Index::default(),
            bgp_configurations: BTreeMap::new(),
            bgp_peers: BTreeMap::new(),
            bgp_filters: BTreeMap::new(),
            ip_pools: BTreeMap::new(),
            node_statuses: BTreeMap::new(),
            secrets: secrets::Secrets::default(),
            services: services::Services::default(),
            own_pods: BTreeMap::new(),
            endpoints: BTreeMap::new(),
            problems: BTreeMap::new(),
            dirty: Dirty::default(),
        }
    }

    /// The name of our node.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Our own Node object.
    pub fn own_node(&self) -> Option<&Node> {
        self.nodes.get(&self.name)
    }

    /// What has changed since this was last asked.
    pub fn take_dirty(&mut self) -> Dirty {
        std::mem::take(&mut self.dirty)
    }

    /// Takes in what the datastore said.
    pub fn apply(&mut self, event: Event) {
        match event {
            Event::Put(object) => self.put(*object),
            Event::Delete(key) => self.delete(&key),
            Event::Problems { origin, problems } => self.set_problems(origin, problems),
            Event::Listed(kind) => self.dirty.peering |= self.services.list(kind),
            Event::Unfollowed(kind) => self.services.forget(kind),
            Event::Synced => {}
        }
    }

    fn put(&mut self, object: Object) {
        let key = object.key();
        match object {
            Object::Node(object) => self.put_node(&object),
            Object::Namespace(object) => match k8s::namespace(&object) {
                Ok(namespace) => self.index.put_namespace(namespace),
                Err(problem) => self.set_problems(key.to_string(), vec![problem.into()]),
            },
            Object::Pod(object) => self.put_pod(&object),
            Object::NetworkPolicy(object) => match k8s::policy(&object) {
                Ok(policy) => self.index.put_policy(policy),
                Err(problem) => self.set_problems(key.to_string(), vec![problem.into()]),
            },
            Object::UnreadableNetworkPolicy(key) => {
                self.index.put_policy(closed(&key));
            }
            Object::BgpConfiguration(object) => {
                self.dirty.peering = true;
                self.bgp_configurations.insert(key.name, object.into());
            }
            Object::BgpPeer(object) => {
                self.dirty.peering = true;
                self.bgp_peers.insert(key.name, object.into());
            }
            Object::BgpFilter(object) => {
                self.dirty.peering = true;
                self.bgp_filters.insert(key.name, object.into());
            }
            Object::IpPool(Resource { spec, .. }) => {
                self.dirty.nat = true;
                self.dirty.peering = true;
                self.ip_pools.insert(key.name, spec);
            }
            Object::CalicoNodeStatus(object) if object.spec.node == self.name => {
                self.dirty.node_statuses = true;
                self.node_statuses.insert(key.name, object);
            }
            Object::CalicoNodeStatus(_) => self.forget_node_status(&key.name),
            Object::Service(object) => self.put_service(&object),
            Object::EndpointSlice(object) => self.put_endpoint_slice(&object),
            Object::Secret(secret) => self.dirty.peering |= self.secrets.put(secret),
        }
    }

    fn delete(&mut self, key: &Key) {
        let name = key.name.as_str();
        match key.kind {
            Kind::Node => {
                self.set_problems(key.to_string(), Vec::new());
                self.nodes.remove(name);
                self.touch_node(name);
            }
            Kind::Namespace => self.index.remove_namespace(name),
            Kind::Pod => self.remove_pod(&PodKey::new(key.namespace.as_str(), name)),
            Kind::NetworkPolicy => {
                let key = PolicyKey::network_policy(key.namespace.as_str(), name);
                self.index.remove_policy(&key);
            }
            Kind::BgpConfiguration => {
                self.dirty.peering |= self.bgp_configurations.remove(name).is_some();
            }
            Kind::BgpPeer => self.dirty.peering |= self.bgp_peers.remove(name).is_some(),
            Kind::BgpFilter => self.dirty.peering |= self.bgp_filters.remove(name).is_some(),
            Kind::IpPool => {
                let there = self.ip_pools.remove(name).is_some();
                self.dirty.nat |= there;
                self.dirty.peering |= there;
            }
            Kind::CalicoNodeStatus => self.forget_node_status(name),
            Kind::Service => self.delete_service(key),
            Kind::EndpointSlice => self.delete_endpoint_slice(key),
            Kind::Secret => self.dirty.peering |= self.secrets.delete(key),
        }
    }

    fn forget_node_status(&mut self, name: &str) {
        self.dirty.node_statuses |= self.node_statuses.remove(name).is_some();
    }

    fn put_node(&mut self, object: &k8s_openapi::api::core::v1::Node) {
        let (node, problems) = Node::read(object);
        self.set_problems(Key::cluster(Kind::Node, node.name.clone()).to_string(), problems);
        // A kubelet touches its Node every few seconds: only what we read counts.
        if self.nodes.get(&node.name) != Some(&node) {
            self.touch_node(&node.name);
            self.nodes.insert(node.name.clone(), node);
        }
    }

    fn touch_node(&mut self, name: &str) {
        self.dirty.peering = true;
        self.dirty.own_node |= name == self.name;
    }

    /// Replaces all that is wrong with one origin.
    pub fn set_problems(&mut self, origin: String, problems: Vec<Problem>) {
        if problems.is_empty() {
            self.problems.remove(&origin);
        } else {
            self.problems.insert(origin, problems);
        }
    }

    /// The policies that select a pod in a direction.
    pub fn policies_of(&self, key: &PodKey, direction: Direction) -> Vec<&PolicyKey> {
        let cluster = self.index.world();
        let Some(pod) = cluster.pods.get(key) else { return Vec::new() };
        let policing = cluster.policies.values().filter(|policy| {
            policy.rules(direction).is_some() && cluster.selects(&policy.subject, pod)
        });
        policing.map(|policy| &policy.key).collect()
    }

    /// Everything that is wrong with the input.
    pub fn problems(&self) -> Vec<Problem> {
        let of_policy = self.index.problems().into_iter().map(Problem::from);
        let mut all: Vec<Problem> =
            self.problems.values().flatten().cloned().chain(of_policy).collect();
        all.sort();
        all.dedup();
        all
    }
}

/// A policy that isolates every pod of its namespace and allows nothing.
fn closed(key: &Key) -> Policy {
    let namespaces = NamespaceSelector::Named(key.namespace.as_str().into());
    Policy {
        key: PolicyKey::network_policy(key.namespace.as_str(), key.name.as_str()),
        tier: Tier::DEFAULT.into(),
        order: Order::at(Tier::POLICY_ORDER),
        subject: PodSelector { namespaces, ..PodSelector::everything() },
        ingress: Some(Vec::new()),
        egress: Some(Vec::new()),
        problems: Vec::new(),
    }
}

#[cfg(test)]
mod tests;
