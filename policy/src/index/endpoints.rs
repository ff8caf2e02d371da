//! The groups of the local pods.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use super::selectors::Selectors;
use super::subjects::Subjects;
use super::tables::{Pods, Tables};
use crate::evaluate::{by_tier, name_tables, numbers_on, tier_rules};
use crate::flatten::{Numbers, PortName, flatten, port_names};
use crate::model::{Direction, NamedPort, Pod, PodKey, Policy, PolicyKey, World};
use crate::name::Names;
use crate::program::{Changes, Endpoint, Group, GroupId, Program};

/// Every endpoint and every group in use.
#[derive(Debug, Default)]
pub(super) struct Endpoints {
    states: BTreeMap<PodKey, State>,
    names: Names<Group>,
    /// How many endpoints use each group.
    users: HashMap<GroupId, usize>,
}

/// What an endpoint uses.
#[derive(Debug)]
pub(super) struct State {
    endpoint: Endpoint,
    watches: BTreeSet<PortName>,
}

impl Endpoints {
    /// The endpoints whose groups depend on the port names of other pods.
    pub(super) fn watching(&self) -> impl Iterator<Item = &PodKey> {
        self.states.iter().filter(|(_, state)| !state.watches.is_empty()).map(|(key, _)| key)
    }
}

/// What the groups of two endpoints follow from, besides the port numbers of other pods.
type GroupInput = (Direction, Vec<PolicyKey>, Vec<NamedPort>);

/// Works out the groups of endpoints during one flush.
pub(super) struct Planner<'a> {
    pub(super) world: &'a World,
    pub(super) owners: &'a BTreeSet<(IpAddr, PodKey)>,
    pub(super) subjects: &'a Subjects,
    pub(super) selectors: &'a mut Selectors,
    pub(super) tables: &'a mut Tables,
    pub(super) endpoints: &'a mut Endpoints,
    pub(super) program: &'a mut Program,
    pub(super) changes: &'a mut Changes,
}

impl Planner<'_> {
    /// Work out the groups of these pods, of which some may be endpoints no more.
    pub(super) fn plan(mut self, dirty: BTreeSet<PodKey>) {
        let mut planned = HashMap::new();
        let mut left = Vec::new();
        for key in dirty {
            let state = self.world.endpoint(&key).map(|pod| self.state(pod, &mut planned));
            let before = self.program.endpoints.get(&key).copied();
            let after = state.as_ref().map(|state| state.endpoint);
            if before != after {
                self.changes.endpoints.insert(key.clone(), after);
            }
            match after {
                Some(endpoint) => self.program.endpoints.insert(key.clone(), endpoint),
                None => self.program.endpoints.remove(&key),
            };
            left.extend(match state {
                Some(state) => self.endpoints.states.insert(key, state),
                None => self.endpoints.states.remove(&key),
            });
        }
        // What one endpoint leaves another may have taken up, so nothing is given up before this.
        for state in left {
            self.leave(&state);
        }
    }

    fn state(&mut self, pod: &Pod, planned: &mut HashMap<GroupInput, GroupId>) -> State {
        let world = self.world;
        let candidates = self.subjects.candidates(&pod.key.namespace);
        let policies: Vec<&Policy> = candidates
            .filter_map(|key| world.policies.get(key))
            .filter(|policy| world.selects(&policy.subject, pod))
            .collect();
        let egress = policies.iter().filter_map(|policy| policy.egress.as_deref());
        let watches: BTreeSet<PortName> =
            egress.flat_map(|rules| port_names(Direction::Egress, rules)).collect();
        for name in &watches {
            self.selectors.watch(world, name);
        }
        let [ingress, egress] =
            Direction::BOTH.map(|direction| self.group(direction, pod, &policies, planned));
        State { endpoint: Endpoint { ingress, egress }, watches }
    }

    fn group(
        &mut self,
        direction: Direction,
        pod: &Pod,
        policies: &[&Policy],
        planned: &mut HashMap<GroupInput, GroupId>,
    ) -> Option<GroupId> {
        let policies = policies.iter().filter(|policy| policy.rules(direction).is_some()).copied();
        let policies: Vec<&Policy> = policies.collect();
        if policies.is_empty() {
            return None;
        }
        let keys = policies.iter().map(|policy| policy.key.clone()).collect();
        let input = (direction, keys, pod.named_ports.clone());
        let id = match planned.get(&input) {
            Some(id) => *id,
            None => self.new_group(direction, pod, policies),
        };
        planned.insert(input, id);
        *self.endpoints.users.entry(id).or_default() += 1;
        Some(id)
    }

    fn new_group(&mut self, direction: Direction, pod: &Pod, policies: Vec<&Policy>) -> GroupId {
        let tiers = by_tier(self.world, policies);
        let numbers = Watched { pod, selectors: self.selectors };
        let flat = flatten(direction, &tier_rules(direction, &tiers), &numbers);
        let group = name_tables(flat, |spec| self.tables.name(spec));
        let tables = group.tables();
        let id = GroupId(self.endpoints.names.name(group));
        if self.endpoints.users.contains_key(&id) {
            return id;
        }
        let pods = Pods { world: self.world, owners: self.owners };
        for table in tables {
            let results = (&mut *self.program, &mut *self.changes);
            self.tables.acquire(table, pods, self.selectors, results);
        }
        self.program.groups.insert(id, self.endpoints.names.get(id.0).as_ref().clone());
        self.changes.groups_added.insert(id);
        id
    }

    fn leave(&mut self, state: &State) {
        for id in Direction::BOTH.into_iter().filter_map(|way| state.endpoint.group(way)) {
            let users = self.endpoints.users.get_mut(&id).expect("the endpoint used it");
            *users -= 1;
            if *users == 0 {
                self.endpoints.users.remove(&id);
                self.endpoints.names.forget(id.0);
                let group = self.program.groups.remove(&id).expect("every group in use is there");
                self.changes.groups_removed.insert(id);
                for table in group.tables() {
                    let results = (&mut *self.program, &mut *self.changes);
                    self.tables.release(table, self.selectors, results);
                }
            }
        }
        for name in &state.watches {
            self.selectors.unwatch(name);
        }
    }
}

/// Looks port names up where the selectors keep track of them.
struct Watched<'a> {
    pod: &'a Pod,
    selectors: &'a Selectors,
}

impl Numbers for Watched<'_> {
    fn numbers(&self, name: &PortName) -> BTreeSet<u16> {
        match &name.on {
            None => numbers_on(self.pod, name).collect(),
            Some(selector) => self.selectors.numbers(selector, name),
        }
    }
}
