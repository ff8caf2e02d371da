//! Kubernetes objects on the one side, the index on the other, and the three answers to one flow.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use ocicat_policy::{
    Direction, Flow, Index, Party, PodKey, PolicyKey, Program, Traffic, Verdict, compile, decide,
    k8s,
};

use crate::oracle;

/// The objects of a cluster, and an index that was told of each of them; every pod is local to it.
#[derive(Default)]
pub(crate) struct Cluster {
    pub(crate) objects: oracle::Objects,
    pub(crate) index: Index,
}

impl Cluster {
    pub(crate) fn put_namespace(&mut self, namespace: Namespace) {
        let converted = k8s::namespace(&namespace).unwrap();
        self.objects.namespaces.insert(converted.name.to_string(), namespace);
        self.index.put_namespace(converted);
    }

    pub(crate) fn put_pod(&mut self, pod: Pod) {
        let converted = k8s::pod(&pod).unwrap();
        self.objects.pods.insert(name_of(&converted.key), pod);
        self.index.set_local(converted.key.clone());
        self.index.put_pod(converted);
    }

    pub(crate) fn put_policy(&mut self, policy: NetworkPolicy) {
        let converted = k8s::policy(&policy).unwrap();
        let key = (converted.key.namespace.to_string(), converted.key.name.to_string());
        self.objects.policies.insert(key, policy);
        self.index.put_policy(converted);
    }

    /// Remove an object by kind and name, as in `Pod shop/web`.
    pub(crate) fn remove(&mut self, object: &str) {
        let (kind, name) = object.split_once(' ').unwrap();
        let (namespace, inner) = name.split_once('/').unwrap_or(("", name));
        let key = (namespace.to_owned(), inner.to_owned());
        match kind {
            "Namespace" => {
                self.objects.namespaces.remove(name).unwrap();
                self.index.remove_namespace(name);
            }
            "Pod" => {
                self.objects.pods.remove(&key).unwrap();
                self.index.remove_pod(&PodKey::new(namespace, inner));
                self.index.unset_local(&PodKey::new(namespace, inner));
            }
            "NetworkPolicy" => {
                self.objects.policies.remove(&key).unwrap();
                self.index.remove_policy(&PolicyKey::network_policy(namespace, inner));
            }
            _ => panic!("no kind to remove: {object:?}"),
        }
    }

    /// Bring the index up to date and hold it against compiling from scratch.
    pub(crate) fn flush(&mut self) {
        self.index.flush();
        assert_eq!(*self.index.program(), compile(self.index.world()));
    }

    /// The answer of the oracle, of `decide` and of the compiled program.
    pub(crate) fn verdicts(&self, flow: &Flow) -> BTreeMap<&'static str, Verdict> {
        let decision = decide(self.index.world(), flow);
        BTreeMap::from([
            ("oracle", self.objects.verdict(flow)),
            ("decide", decision.verdict()),
            ("program", through(self.index.program(), flow)),
        ])
    }

    /// The address of a pod in the family of `like`, and the pod.
    pub(crate) fn party(&self, pod: &PodKey, like: IpAddr) -> Option<Party> {
        let known = &self.index.world().pods[pod];
        let mut same = known.addresses.iter().filter(|one| one.is_ipv4() == like.is_ipv4());
        same.next().map(|address| Party { address: *address, pod: Some(pod.clone()) })
    }
}

fn name_of(key: &PodKey) -> (String, String) {
    (key.namespace.to_string(), key.name.to_string())
}

/// A flow through the interfaces of its pods. A pod reaches itself without leaving itself.
fn through(program: &Program, flow: &Flow) -> Verdict {
    if flow.source.pod == flow.destination.pod {
        return Verdict::Accept;
    }
    let side = |party: &Party, direction, peer: &Party| match &party.pod {
        Some(pod) => program.verdict(pod, direction, peer.address, flow.traffic),
        None => Verdict::Accept,
    };
    let egress = side(&flow.source, Direction::Egress, &flow.destination);
    egress.min(side(&flow.destination, Direction::Ingress, &flow.source))
}

/// A flow from one party to another.
pub(crate) fn flow(source: Party, destination: Party, traffic: Traffic) -> Flow {
    Flow { source, destination, traffic }
}
