//! Who is selected: the members of every selector in use, and the port numbers that their names stand
//! for.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::anchor::Anchors;
use crate::evaluate::numbers_on;
use crate::flatten::PortName;
use crate::model::{NamespaceSelector, Pod, PodKey, PodNetwork, PodSelector, Transport, World};

/// A selector in use. Numbers are never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct SelectorId(u64);

#[derive(Debug)]
struct Entry {
    selector: Arc<PodSelector>,
    /// How many tables and watches use it.
    users: usize,
    members: HashSet<PodKey>,
    watches: HashMap<(Transport, Arc<str>), Watch>,
}

/// The numbers that the members of a selector call by one name.
#[derive(Debug, Default)]
struct Watch {
    users: usize,
    /// How many members have each.
    numbers: BTreeMap<u16, usize>,
}

/// What a change of one pod did to the selectors.
#[derive(Debug, Default)]
pub(super) struct Reclassified {
    pub(super) before: Vec<SelectorId>,
    pub(super) after: Vec<SelectorId>,
    /// Whether a watched name stands for other numbers now.
    pub(super) numbers_changed: bool,
}

/// Every selector in use.
#[derive(Debug, Default)]
pub(super) struct Selectors {
    ids: HashMap<Arc<PodSelector>, SelectorId>,
    entries: HashMap<SelectorId, Entry>,
    anchors: Anchors,
    /// The selectors that select each pod, ascending; a pod without any is missing.
    of_pod: HashMap<PodKey, Vec<SelectorId>>,
    next: u64,
}

impl Selectors {
    /// Use a selector; the first user pays for looking at the pods that it may select.
    pub(super) fn acquire(&mut self, world: &World, selector: &Arc<PodSelector>) -> SelectorId {
        if let Some(id) = self.ids.get(selector).copied() {
            self.entry(id).users += 1;
            return id;
        }
        let id = SelectorId(self.next);
        self.next += 1;
        let members = scan(world, selector);
        for key in &members {
            // The newest number is the largest, so the list stays ascending.
            self.of_pod.entry(key.clone()).or_default().push(id);
        }
        let selector = selector.clone();
        self.anchors.add(id, &selector);
        self.ids.insert(selector.clone(), id);
        self.entries.insert(id, Entry { selector, users: 1, members, watches: HashMap::new() });
        id
    }

    /// Stop using a selector; returns what its number was.
    pub(super) fn release(&mut self, selector: &PodSelector) -> SelectorId {
        let id = self.ids[selector];
        self.entry(id).users -= 1;
        if self.entry(id).users > 0 {
            return id;
        }
        let entry = self.entries.remove(&id).expect("an entry for every id");
        self.ids.remove(selector);
        self.anchors.remove(id, selector);
        for key in entry.members {
            if let Some(ids) = self.of_pod.get_mut(&key) {
                ids.retain(|other| *other != id);
                if ids.is_empty() {
                    self.of_pod.remove(&key);
                }
            }
        }
        id
    }

    /// The pods that a selector selects.
    pub(super) fn members(&self, id: SelectorId) -> impl Iterator<Item = &PodKey> {
        self.entries[&id].members.iter()
    }

    /// The selectors that select a pod.
    pub(super) fn of_pod(&self, key: &PodKey) -> &[SelectorId] {
        self.of_pod.get(key).map_or(&[], Vec::as_slice)
    }

    /// Keep track of what a name stands for on the pods of its selector.
    pub(super) fn watch(&mut self, world: &World, name: &PortName) {
        let Some(selector) = &name.on else { return };
        let id = self.acquire(world, selector);
        let entry = self.entry(id);
        let watch = entry.watches.entry((name.transport, name.name.clone())).or_default();
        watch.users += 1;
        if watch.users == 1 {
            for pod in entry.members.iter().filter_map(|key| world.pods.get(key)) {
                for number in numbers_on(pod, name) {
                    *watch.numbers.entry(number).or_default() += 1;
                }
            }
        }
    }

    /// Stop keeping track.
    pub(super) fn unwatch(&mut self, name: &PortName) {
        let Some(selector) = &name.on else { return };
        let id = self.ids[selector];
        let entry = self.entry(id);
        let key = (name.transport, name.name.clone());
        let watch = entry.watches.get_mut(&key).expect("only watched names are unwatched");
        watch.users -= 1;
        if watch.users == 0 {
            entry.watches.remove(&key);
        }
        self.release(selector);
    }

    /// What a watched name stands for.
    pub(super) fn numbers(&self, selector: &PodSelector, name: &PortName) -> BTreeSet<u16> {
        let watches = &self.entries[&self.ids[selector]].watches;
        watches[&(name.transport, name.name.clone())].numbers.keys().copied().collect()
    }

    /// A pod is `new` now and was `old` when this was last called for it. `world` knows `new`, and the
    /// namespaces as they are now.
    pub(super) fn reclassify(
        &mut self,
        world: &World,
        old: Option<&Pod>,
        new: Option<&Pod>,
    ) -> Reclassified {
        let Some(key) = old.or(new).map(|pod| &pod.key) else { return Reclassified::default() };
        let after = new.map(|pod| self.selecting(world, pod)).unwrap_or_default();
        let before = if after.is_empty() {
            self.of_pod.remove(key)
        } else {
            self.of_pod.insert(key.clone(), after.clone())
        };
        let before = before.unwrap_or_default();
        for id in &before {
            if after.binary_search(id).is_err() {
                self.entry(*id).members.remove(key);
            }
        }
        for id in &after {
            if before.binary_search(id).is_err() {
                self.entry(*id).members.insert(key.clone());
            }
        }
        let numbers_changed = self.recount((old, &before), (new, &after));
        Reclassified { before, after, numbers_changed }
    }

    fn selecting(&self, world: &World, pod: &Pod) -> Vec<SelectorId> {
        let namespace = world.namespace_of(&pod.key);
        let mut ids = self.anchors.candidates(pod, namespace);
        ids.retain(|id| self.entries[id].selector.matches(pod, namespace));
        ids.sort_unstable();
        ids
    }

    /// Move the named ports of a pod from the selectors before to those after; tells whether a number
    /// appeared or vanished.
    fn recount(
        &mut self,
        (old, before): (Option<&Pod>, &[SelectorId]),
        (new, after): (Option<&Pod>, &[SelectorId]),
    ) -> bool {
        let mut changed = false;
        // Count up first, so that a number which stays does not vanish in between.
        for (id, pod) in after.iter().flat_map(|id| new.map(|pod| (id, pod))) {
            for port in &pod.named_ports {
                let watch = self.watch_of(*id, port.transport, &port.name);
                let Some(watch) = watch else { continue };
                let count = watch.numbers.entry(port.port).or_default();
                *count += 1;
                changed |= *count == 1;
            }
        }
        for (id, pod) in before.iter().flat_map(|id| old.map(|pod| (id, pod))) {
            for port in &pod.named_ports {
                let watch = self.watch_of(*id, port.transport, &port.name);
                let Some(watch) = watch else { continue };
                let count = watch.numbers.get_mut(&port.port).expect("it was counted");
                *count -= 1;
                if *count == 0 {
                    watch.numbers.remove(&port.port);
                    changed = true;
                }
            }
        }
        changed
    }

    fn watch_of(&mut self, id: SelectorId, on: Transport, name: &Arc<str>) -> Option<&mut Watch> {
        let watches = &mut self.entry(id).watches;
        if watches.is_empty() {
            return None;
        }
        watches.get_mut(&(on, name.clone()))
    }

    fn entry(&mut self, id: SelectorId) -> &mut Entry {
        self.entries.get_mut(&id).expect("an entry for every id in use")
    }
}

/// The pods that a selector selects, looking only into its namespaces, and once at labels that many pods
/// share.
fn scan(world: &World, selector: &PodSelector) -> HashSet<PodKey> {
    let mut known: HashMap<usize, bool> = HashMap::new();
    let mut selects = |pod: &Pod| {
        let matches = || selector.pods.matches(&pod.labels);
        pod.network == PodNetwork::Own && *known.entry(pod.labels.place()).or_insert_with(matches)
    };
    let mut members = HashSet::new();
    let mut look = |pod: &Pod| {
        if selects(pod) {
            members.insert(pod.key.clone());
        }
    };
    match &selector.namespaces {
        NamespaceSelector::Any => world.pods.values().for_each(look),
        NamespaceSelector::Named(name) => world.pods_in(name).for_each(look),
        NamespaceSelector::Labelled(labels) => {
            let namespaces = world.namespaces.values();
            for namespace in namespaces.filter(|one| labels.matches(&one.labels)) {
                world.pods_in(&namespace.name).for_each(&mut look);
            }
        }
    }
    members
}
