//! Pods of this node and their endpoints.
//!
//! An endpoint (an interface that the plugin made) and a Pod object arrive in either order. Only when both are here, and
//! belong together, is there a policy for the interface; until then the kernel knows no such interface and drops.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::Pod as PodObject;
use ocicat_cni::endpoint::{Endpoint, EndpointId, Stage};
use ocicat_policy::{Pod, PodKey, k8s};

use super::World;

/// The kubelet's name for a static pod, which its mirror in the API carries: there the two UIDs differ.
const CONFIG_HASH: &str = "kubernetes.io/config.hash";

/// The label that Calico gives to every pod.
const NAMESPACE_LABEL: &str = "projectcalico.org/namespace";

/// A pod that is scheduled to this node.
#[derive(Debug)]
pub(super) struct OwnPod {
    pod: Pod,
    /// Its labels as Calico's selectors see them.
    labels: BTreeMap<String, String>,
    uids: Vec<String>,
    /// Succeeded or Failed: it owns no address any more, whatever its interface has.
    finished: bool,
}

impl OwnPod {
    fn read(object: &PodObject, pod: Pod) -> Self {
        let meta = &object.metadata;
        let hash = meta.annotations.as_ref().and_then(|annotations| annotations.get(CONFIG_HASH));
        let phase = object.status.as_ref().and_then(|status| status.phase.as_deref());
        let mut labels = meta.labels.clone().unwrap_or_default();
        labels.insert(NAMESPACE_LABEL.to_owned(), pod.key.namespace.to_string());
        Self {
            pod,
            labels,
            uids: meta.uid.iter().chain(hash).cloned().collect(),
            finished: matches!(phase, Some("Succeeded" | "Failed")),
        }
    }

    /// A pod that was deleted and made anew under the same name is another pod, with other labels perhaps.
    fn owns(&self, endpoint: &Endpoint) -> bool {
        endpoint.uid.as_ref().is_none_or(|uid| self.uids.is_empty() || self.uids.contains(uid))
    }
}

impl World {
    pub(super) fn put_pod(&mut self, object: &PodObject) {
        let pod = match k8s::pod(object) {
            Ok(pod) => pod,
            Err(problem) => {
                self.set_problems(problem.object.to_string(), vec![problem.into()]);
                return;
            }
        };
        let key = pod.key.clone();
        let node = object.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
        if node == Some(self.name.as_str()) {
            self.own_pods.insert(key.clone(), OwnPod::read(object, pod));
            self.settle(&key);
        } else {
            if self.own_pods.remove(&key).is_some() {
                self.settle(&key);
            }
            self.index.put_pod(pod);
        }
    }

    pub(super) fn remove_pod(&mut self, key: &PodKey) {
        let own = self.own_pods.remove(key).is_some();
        self.index.remove_pod(key);
        if own {
            self.settle(key);
        }
    }

    /// An interface was made, or was there when we started.
    pub fn attach(&mut self, endpoint: Endpoint) {
        let key = pod_key(&endpoint);
        self.endpoints.insert(endpoint.id(), endpoint);
        self.settle(&key);
    }

    /// An interface is gone.
    pub fn detach(&mut self, id: &EndpointId) {
        if let Some(endpoint) = self.endpoints.remove(id) {
            self.dirty.interfaces.insert(endpoint.host_interface.clone());
            self.settle(&pod_key(&endpoint));
        }
    }

    /// The pods that are scheduled to our node.
    pub fn own_pods(&self) -> impl Iterator<Item = &Pod> {
        self.own_pods.values().map(|own| &own.pod)
    }

    /// The attached pods of this node whose labels are selected, with their endpoints.
    pub fn attached(
        &self,
        selects: impl Fn(&BTreeMap<String, String>) -> bool,
    ) -> Vec<(&PodKey, &Endpoint)> {
        let interfaces = self.interfaces().into_values();
        let ours = interfaces.filter_map(|endpoint| {
            let own = self.own_pods.get(&pod_key(endpoint)).filter(|own| own.owns(endpoint))?;
            (!own.finished && selects(&own.labels)).then_some((&own.pod.key, endpoint))
        });
        ours.collect()
    }

    /// Every attachment on this node.
    pub fn endpoints(&self) -> &BTreeMap<EndpointId, Endpoint> {
        &self.endpoints
    }

    /// The endpoint that an interface belongs to. A new sandbox of a pod takes over the interface name from an old one
    /// that was not torn down yet.
    pub fn endpoint_of(&self, interface: &str) -> Option<&Endpoint> {
        let of_interface = self.endpoints.values().filter(|e| e.host_interface == interface);
        of_interface.filter(|endpoint| has_interface(endpoint)).max_by_key(|e| e.created)
    }

    /// The endpoints that their interfaces belong to.
    pub fn interfaces(&self) -> BTreeMap<&str, &Endpoint> {
        let mut newest: BTreeMap<&str, &Endpoint> = BTreeMap::new();
        for endpoint in self.endpoints.values().filter(|endpoint| has_interface(endpoint)) {
            let entry = newest.entry(&endpoint.host_interface).or_insert(endpoint);
            if entry.created < endpoint.created {
                *entry = endpoint;
            }
        }
        newest
    }

    /// Whether the Pod object of an endpoint is here, so that its policy is known.
    pub fn knows_pod_of(&self, endpoint: &Endpoint) -> bool {
        self.own_pods.get(&pod_key(endpoint)).is_some_and(|own| own.owns(endpoint))
    }

    /// Brings the index in line with what is known of one pod of ours.
    fn settle(&mut self, key: &PodKey) {
        let interfaces = self.interfaces();
        let mine: Vec<Endpoint> =
            interfaces.values().filter(|e| pod_key(e) == *key).map(|e| (*e).clone()).collect();
        self.dirty.peering |=
            self.bgp_peers.values().any(|peer| peer.spec.local_workload_selector.is_some());
        self.dirty.interfaces.extend(mine.iter().map(|endpoint| endpoint.host_interface.clone()));
        let Some(own) = self.own_pods.get(key) else {
            self.index.unset_local(key);
            return;
        };
        let mut pod = own.pod.clone();
        let attached: Vec<&Endpoint> = mine.iter().filter(|endpoint| own.owns(endpoint)).collect();
        // The plugin knows the addresses before the kubelet has told the API server.
        let addresses: Vec<IpAddr> =
            attached.iter().flat_map(|endpoint| endpoint.addresses.iter().copied()).collect();
        if !addresses.is_empty() && !own.finished {
            pod.addresses = addresses;
        }
        let is_local = !attached.is_empty();
        self.index.put_pod(pod);
        if is_local {
            self.index.set_local(key.clone());
        } else {
            self.index.unset_local(key);
        }
    }
}

/// A record that a newer sandbox has superseded keeps its addresses alone.
fn has_interface(endpoint: &Endpoint) -> bool {
    match endpoint.stage {
        Stage::Reserved | Stage::Attached => true,
        Stage::Superseded => false,
    }
}

/// The pod that an endpoint belongs to.
pub fn pod_key(endpoint: &Endpoint) -> PodKey {
    PodKey::new(endpoint.namespace.as_str(), endpoint.pod.as_str())
}
