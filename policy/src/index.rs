//! A world and its program, kept up to date.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use crate::evaluate::compile;
use crate::model::{Namespace, Pod, PodKey, Policy, PolicyKey, Tier, World};
use crate::problem::{Fault, ObjectKey, Problem};
use crate::program::{Changes, Program};

/// A world and its program.
///
/// Events may come in any order, repeated or superfluous: the program follows from what the world is
/// when it is flushed, never from how it became so.
#[derive(Debug, Default)]
pub struct Index {
    world: World,
    program: Program,
}

impl Index {
    /// An empty world.
    pub fn new() -> Self {
        Self::default()
    }

    /// Add a pod or replace it.
    pub fn put_pod(&mut self, pod: Pod) {
        self.world.pods.insert(pod.key.clone(), pod);
    }

    /// Remove a pod.
    pub fn remove_pod(&mut self, key: &PodKey) {
        self.world.pods.remove(key);
    }

    /// Add a namespace or replace it.
    pub fn put_namespace(&mut self, namespace: Namespace) {
        self.world.namespaces.insert(namespace.name.clone(), namespace);
    }

    /// Remove a namespace.
    pub fn remove_namespace(&mut self, name: &str) {
        self.world.namespaces.remove(name);
    }

    /// Add a policy or replace it.
    pub fn put_policy(&mut self, policy: Policy) {
        self.world.policies.insert(policy.key.clone(), policy);
    }

    /// Remove a policy.
    pub fn remove_policy(&mut self, key: &PolicyKey) {
        self.world.policies.remove(key);
    }

    /// Add a tier or replace it.
    pub fn put_tier(&mut self, tier: Tier) {
        self.world.tiers.insert(tier.name.clone(), tier);
    }

    /// Remove a tier.
    pub fn remove_tier(&mut self, name: &str) {
        self.world.tiers.remove(name);
    }

    /// A pod has its interface on this node; it becomes an endpoint once it has been put, too.
    pub fn set_local(&mut self, key: PodKey) {
        self.world.local.insert(key);
    }

    /// A pod has no interface on this node any more.
    pub fn unset_local(&mut self, key: &PodKey) {
        self.world.local.remove(key);
    }

    /// Bring the program up to date and tell what is different since the last time.
    pub fn flush(&mut self) -> Changes {
        let program = compile(&self.world);
        let changes = Changes::between(&self.program, &program);
        self.program = program;
        changes
    }

    /// The program as of the last flush.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// The world as of the last event.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// What cannot be used at present, in the order of the objects.
    pub fn problems(&self) -> Vec<Problem> {
        self.world.problems()
    }
}

impl World {
    /// What cannot be used at present: what the conversion of each object found, and addresses that
    /// two pods say they own.
    pub fn problems(&self) -> Vec<Problem> {
        let pods = self.pods.values().flat_map(|pod| &pod.problems);
        let policies = self.policies.values().flat_map(|policy| &policy.problems);
        let mut problems: Vec<Problem> = pods.chain(policies).cloned().collect();
        let mut owners: BTreeMap<IpAddr, Arc<PodKey>> = BTreeMap::new();
        for pod in self.pods.values() {
            for address in &pod.addresses {
                if let Some(other) = owners.get(address) {
                    problems.push(Problem {
                        object: ObjectKey::Pod(pod.key.clone()),
                        field: "status.podIPs".to_owned(),
                        fault: Fault::DuplicateAddress(*address, (**other).clone()),
                    });
                } else {
                    owners.insert(*address, Arc::new(pod.key.clone()));
                }
            }
        }
        problems.sort();
        problems
    }
}
