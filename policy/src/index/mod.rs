//! A world and its program, kept up to date.
//!
//! An event changes the world and notes what it may touch: endpoints, whose groups must be worked out
//! again, and addresses, whose answers in some tables must be. [`Index::flush`] does that. Only what
//! some local pod needs is in use: the policies that select it, their peers, and the selectors of these.

mod anchor;
mod endpoints;
mod selectors;
mod shared;
mod subjects;
mod tables;

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::net::IpAddr;
use std::sync::Arc;

use self::endpoints::{Endpoints, Planner};
use self::selectors::{Reclassified, SelectorId, Selectors};
use self::shared::SharedLabels;
use self::subjects::Subjects;
use self::tables::{Pods, Tables, keys_at};
use crate::model::{Namespace, Pod, PodKey, Policy, PolicyKey, Tier, World};
use crate::problem::{ObjectKey, Problem};
use crate::program::{Changes, Program};

/// A world and its program.
///
/// Events may come in any order, repeated or superfluous: the program follows from what the world is
/// when it is flushed, never from how it became so.
#[derive(Debug, Default)]
pub struct Index {
    world: World,
    program: Program,
    subjects: Subjects,
    selectors: Selectors,
    tables: Tables,
    endpoints: Endpoints,
    labels: SharedLabels,
    /// Which pods have each address.
    owners: BTreeSet<(IpAddr, PodKey)>,
    /// Objects of which something could not be used.
    faulty: BTreeSet<ObjectKey>,
    /// Pods whose groups must be worked out again.
    dirty_endpoints: BTreeSet<PodKey>,
    /// Addresses whose answers must be worked out again, in the tables that use these selectors.
    dirty_addresses: DirtyAddresses,
}

type DirtyAddresses = BTreeMap<IpAddr, BTreeSet<SelectorId>>;

impl Index {
    /// An empty world.
    pub fn new() -> Self {
        Self::default()
    }

    /// Add a pod or replace it.
    pub fn put_pod(&mut self, mut pod: Pod) {
        pod.labels = self.labels.share(&pod.labels);
        if let Some((name, _)) = self.world.namespaces.get_key_value(&pod.key.namespace) {
            pod.key.namespace = name.clone();
        }
        let key = pod.key.clone();
        self.note_problems(ObjectKey::Pod(key.clone()), &pod.problems);
        let old = self.world.pods.insert(key.clone(), pod);
        if old.as_ref() != self.world.pods.get(&key) {
            self.pod_changed(&key, old.as_ref());
        }
    }

    /// Remove a pod.
    pub fn remove_pod(&mut self, key: &PodKey) {
        self.note_problems(ObjectKey::Pod(key.clone()), &[]);
        if let Some(old) = self.world.pods.remove(key) {
            self.pod_changed(key, Some(&old));
        }
    }

    /// Add a namespace or replace it.
    pub fn put_namespace(&mut self, namespace: Namespace) {
        let name = namespace.name.clone();
        let old = self.world.namespaces.insert(name.clone(), namespace);
        if old.as_ref() != self.world.namespaces.get(&name) {
            self.namespace_changed(&name);
        }
    }

    /// Remove a namespace.
    pub fn remove_namespace(&mut self, name: &str) {
        if let Some(old) = self.world.namespaces.remove(name) {
            self.namespace_changed(&old.name);
        }
    }

    /// Add a policy or replace it.
    pub fn put_policy(&mut self, policy: Policy) {
        let key = policy.key.clone();
        self.note_problems(ObjectKey::Policy(key.clone()), &policy.problems);
        if self.world.policies.get(&key) == Some(&policy) {
            return;
        }
        self.forget_policy(&key);
        self.subjects.add(&policy);
        self.select_again(&policy);
        self.world.policies.insert(key, policy);
    }

    /// Remove a policy.
    pub fn remove_policy(&mut self, key: &PolicyKey) {
        self.note_problems(ObjectKey::Policy(key.clone()), &[]);
        self.forget_policy(key);
    }

    /// Add a tier or replace it.
    pub fn put_tier(&mut self, tier: Tier) {
        self.world.tiers.insert(tier.name.clone(), tier);
        self.dirty_endpoints.extend(self.world.local.iter().cloned());
    }

    /// Remove a tier.
    pub fn remove_tier(&mut self, name: &str) {
        self.world.tiers.remove(name);
        self.dirty_endpoints.extend(self.world.local.iter().cloned());
    }

    /// A pod has its interface on this node; it becomes an endpoint once it has been put, too.
    pub fn set_local(&mut self, key: PodKey) {
        if self.world.local.insert(key.clone()) {
            self.dirty_endpoints.insert(key);
        }
    }

    /// A pod has no interface on this node any more.
    pub fn unset_local(&mut self, key: &PodKey) {
        if self.world.local.remove(key) {
            self.dirty_endpoints.insert(key.clone());
        }
    }

    /// Bring the program up to date and tell what is different since the last time.
    pub fn flush(&mut self) -> Changes {
        let mut changes = Changes::default();
        let planner = Planner {
            world: &self.world,
            owners: &self.owners,
            subjects: &self.subjects,
            selectors: &mut self.selectors,
            tables: &mut self.tables,
            endpoints: &mut self.endpoints,
            program: &mut self.program,
            changes: &mut changes,
        };
        planner.plan(mem::take(&mut self.dirty_endpoints));
        let pods = Pods { world: &self.world, owners: &self.owners };
        for (address, selectors) in mem::take(&mut self.dirty_addresses) {
            let results = (&mut self.program, &mut changes);
            self.tables.answer_again(&selectors, (address, pods), results);
        }
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
        let mut problems = Vec::new();
        for object in &self.faulty {
            problems.extend_from_slice(self.world.problems_of(object));
        }
        let mut before: Option<&(IpAddr, PodKey)> = None;
        for owner in &self.owners {
            match before {
                Some((address, other)) if *address == owner.0 => {
                    problems.push(Problem::duplicate_address(&owner.1, *address, other));
                }
                Some(_) | None => before = Some(owner),
            }
        }
        problems.sort();
        problems
    }

    fn note_problems(&mut self, object: ObjectKey, problems: &[Problem]) {
        if problems.is_empty() {
            self.faulty.remove(&object);
        } else {
            self.faulty.insert(object);
        }
    }

    /// The world knows a pod as it is now; it was `old`.
    fn pod_changed(&mut self, key: &PodKey, old: Option<&Pod>) {
        let new = self.world.pods.get(key);
        let moved = self.selectors.reclassify(&self.world, old, new);
        let gone = old.map_or(&[][..], |pod| &pod.addresses);
        let come = new.map_or(&[][..], |pod| &pod.addresses);
        for address in gone {
            self.owners.remove(&(*address, key.clone()));
        }
        for address in come {
            self.owners.insert((*address, key.clone()));
        }
        let same_ports = old.map(|pod| &pod.named_ports) == new.map(|pod| &pod.named_ports);
        for address in gone.iter().chain(come) {
            let stays = same_ports && gone.contains(address) && come.contains(address);
            if stays {
                mark(&mut self.dirty_addresses, *address, only_in_one(&moved));
            } else {
                mark(&mut self.dirty_addresses, *address, moved.before.iter().chain(&moved.after));
                // What another owner of the address may do depends on this one, too.
                for owner in keys_at(&self.owners, *address) {
                    let ids = self.selectors.of_pod(owner);
                    mark(&mut self.dirty_addresses, *address, ids);
                }
            }
        }
        let selected_as_before = old.zip(new).is_some_and(|(old, new)| {
            (&old.labels, old.network) == (&new.labels, new.network) && same_ports
        });
        if !selected_as_before && self.world.local.contains(key) {
            self.dirty_endpoints.insert(key.clone());
        }
        self.note_numbers(moved.numbers_changed);
    }

    fn namespace_changed(&mut self, name: &Arc<str>) {
        let mut numbers_changed = false;
        for pod in self.world.pods_in(name) {
            let moved = self.selectors.reclassify(&self.world, Some(pod), Some(pod));
            for address in &pod.addresses {
                mark(&mut self.dirty_addresses, *address, only_in_one(&moved));
            }
            if self.world.local.contains(&pod.key) {
                self.dirty_endpoints.insert(pod.key.clone());
            }
            numbers_changed |= moved.numbers_changed;
        }
        self.note_numbers(numbers_changed);
    }

    /// If a port name stands for other numbers, some groups have other port classes.
    fn note_numbers(&mut self, changed: bool) {
        if changed {
            self.dirty_endpoints.extend(self.endpoints.watching().cloned());
        }
    }

    fn forget_policy(&mut self, key: &PolicyKey) {
        if let Some(old) = self.world.policies.remove(key) {
            self.subjects.remove(&old);
            self.select_again(&old);
        }
    }

    /// The local pods that a policy selects have other policies now.
    fn select_again(&mut self, policy: &Policy) {
        let local = self.world.local.iter().filter_map(|key| self.world.pods.get(key));
        let selected = local.filter(|pod| self.world.selects(&policy.subject, pod));
        self.dirty_endpoints.extend(selected.map(|pod| pod.key.clone()));
    }
}

/// The selectors that select a pod either before or after, but not both.
fn only_in_one(moved: &Reclassified) -> impl Iterator<Item = &SelectorId> {
    let left = moved.before.iter().filter(|id| moved.after.binary_search(id).is_err());
    left.chain(moved.after.iter().filter(|id| moved.before.binary_search(id).is_err()))
}

/// Note that an address may have another answer in the tables that use these selectors.
fn mark<'a>(
    dirty: &mut DirtyAddresses,
    address: IpAddr,
    ids: impl IntoIterator<Item = &'a SelectorId>,
) {
    let mut ids = ids.into_iter().peekable();
    if ids.peek().is_some() {
        dirty.entry(address).or_default().extend(ids);
    }
}
