//! From a world to a program, from scratch: every pod, policy and address is looked at.
//!
//! This is the definition of what [`Index`](crate::Index) keeps up to date.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::flatten::{Class, FlatGroup, Numbers, PortName, TierRules, flatten};
use crate::model::{Direction, NamedPort, Namespace, Pod, PodKey, Policy, Tier, World};
use crate::name::Names;
use crate::program::{Endpoint, Group, GroupId, PortClass, Program, Table, TableId, Verdict};
use crate::table::{PodMatch, TableSpec};

/// Compile what the policies of `world` say about its local pods.
pub fn compile(world: &World) -> Program {
    let mut compiler = Compiler { world, tables: Names::default(), groups: Names::default() };
    let endpoints = compiler.endpoints();
    let owners = owners(world);
    let tables = compiler.tables.iter().map(|(id, spec)| (TableId(id), fill(&owners, spec)));
    let groups = compiler.groups.iter().map(|(id, group)| (GroupId(id), (**group).clone()));
    Program { endpoints, groups: groups.collect(), tables: tables.collect() }
}

/// The policies that police a pod in a direction, by tier, in the order in which they are asked.
pub(crate) fn policing<'a>(
    world: &'a World,
    pod: &Pod,
    direction: Direction,
) -> Vec<(Tier, Vec<&'a Policy>)> {
    let policies = world
        .policies
        .values()
        .filter(|policy| policy.rules(direction).is_some() && world.selects(&policy.subject, pod));
    by_tier(world, policies)
}

/// Put policies in the order in which they are asked.
pub(crate) fn by_tier<'a>(
    world: &World,
    policies: impl IntoIterator<Item = &'a Policy>,
) -> Vec<(Tier, Vec<&'a Policy>)> {
    let mut tiers: BTreeMap<_, (Tier, Vec<&Policy>)> = BTreeMap::new();
    for policy in policies {
        let tier = world.tier(&policy.tier);
        let place = (tier.order, tier.name.clone());
        tiers.entry(place).or_insert_with(|| (tier, Vec::new())).1.push(policy);
    }
    let mut tiers: Vec<_> = tiers.into_values().collect();
    for (_, policies) in &mut tiers {
        policies.sort_by_key(|policy| (policy.order, &policy.key));
    }
    tiers
}

/// The rules of ordered policies.
pub(crate) fn tier_rules<'a>(
    direction: Direction,
    tiers: &[(Tier, Vec<&'a Policy>)],
) -> Vec<TierRules<'a>> {
    let rules = |policies: &[&'a Policy]| {
        policies.iter().filter_map(|policy| policy.rules(direction)).flatten().collect()
    };
    tiers
        .iter()
        .map(|(tier, policies)| TierRules { default: tier.default, rules: rules(policies) })
        .collect()
}

/// Give the tables of a group their names.
pub(crate) fn name_tables(flat: FlatGroup, mut name: impl FnMut(TableSpec) -> TableId) -> Group {
    let mut classes = |classes: Vec<Class>| {
        classes
            .into_iter()
            .map(|class| PortClass {
                first: class.first,
                last: class.last,
                table: name(class.table),
            })
            .collect()
    };
    Group {
        direction: flat.direction,
        tcp: classes(flat.tcp),
        udp: classes(flat.udp),
        sctp: classes(flat.sctp),
        other: flat.other.map(name),
    }
}

struct Compiler<'a> {
    world: &'a World,
    tables: Names<TableSpec>,
    groups: Names<Group>,
}

impl Compiler<'_> {
    fn endpoints(&mut self) -> BTreeMap<PodKey, Endpoint> {
        let world = self.world;
        let local = world.local.iter().filter_map(|key| world.endpoint(key));
        local
            .map(|pod| {
                let ingress = self.group(pod, Direction::Ingress);
                let egress = self.group(pod, Direction::Egress);
                (pod.key.clone(), Endpoint { ingress, egress })
            })
            .collect()
    }

    fn group(&mut self, pod: &Pod, direction: Direction) -> Option<GroupId> {
        let tiers = policing(self.world, pod, direction);
        if tiers.is_empty() {
            return None;
        }
        let numbers = Scan { world: self.world, pod };
        let flat = flatten(direction, &tier_rules(direction, &tiers), &numbers);
        let group = name_tables(flat, |spec| TableId(self.tables.name(spec)));
        Some(GroupId(self.groups.name(group)))
    }
}

/// Looks port names up on every pod.
struct Scan<'a> {
    world: &'a World,
    pod: &'a Pod,
}

impl Numbers for Scan<'_> {
    fn numbers(&self, name: &PortName) -> BTreeSet<u16> {
        match &name.on {
            None => numbers_on(self.pod, name).collect(),
            Some(selector) => self
                .world
                .pods
                .values()
                .filter(|pod| self.world.selects(selector, pod))
                .flat_map(|pod| numbers_on(pod, name))
                .collect(),
        }
    }
}

/// The numbers that `pod` calls by `name`.
pub(crate) fn numbers_on<'a>(pod: &'a Pod, name: &'a PortName) -> impl Iterator<Item = u16> {
    let same = |port: &&NamedPort| port.transport == name.transport && port.name == name.name;
    pod.named_ports.iter().filter(same).map(|port| port.port)
}

/// A pod and its namespace, if that has been seen.
#[derive(Clone, Copy)]
pub(crate) struct Owner<'a> {
    pub(crate) pod: &'a Pod,
    pub(crate) namespace: Option<&'a Namespace>,
}

impl<'a> Owner<'a> {
    pub(crate) fn of(world: &'a World, pod: &'a Pod) -> Self {
        Self { pod, namespace: world.namespace_of(&pod.key) }
    }

    fn is(&self, pods: &PodMatch, address: IpAddr) -> bool {
        pods.holds_beside_selector(self.pod, address)
            && pods.selector.matches(self.pod, self.namespace)
    }
}

fn owners(world: &World) -> BTreeMap<IpAddr, Vec<Owner<'_>>> {
    let mut owners: BTreeMap<IpAddr, Vec<Owner<'_>>> = BTreeMap::new();
    for pod in world.pods.values() {
        for address in &pod.addresses {
            owners.entry(*address).or_default().push(Owner::of(world, pod));
        }
    }
    owners
}

fn fill(owners: &BTreeMap<IpAddr, Vec<Owner<'_>>>, spec: &TableSpec) -> Table {
    let answers = owners.iter().filter_map(|(address, owners)| {
        answer(spec, *address, owners).map(|verdict| (*address, verdict))
    });
    Table { addresses: answers.collect(), blocks: spec.accepted_blocks() }
}

/// What a table says about an address of these pods: nothing where no clause about pods holds for any
/// of them. Where several pods have one address, it may do what all of them may.
pub(crate) fn answer(spec: &TableSpec, address: IpAddr, owners: &[Owner<'_>]) -> Option<Verdict> {
    let mentioned =
        owners.iter().any(|owner| spec.pod_matches().any(|pods| owner.is(pods, address)));
    let verdicts = owners.iter().map(|owner| spec.verdict(address, |pods| owner.is(pods, address)));
    if mentioned { verdicts.min() } else { None }
}
