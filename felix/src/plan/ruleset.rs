//! The table `inet ocicat`: verdicts as rules and maps.
//!
//! A packet costs a fixed number of lookups, whatever the number of policies:
//!
//! ```text
//! prerouting  from one of our interfaces: does the source address belong to it? if not, drop
//!             (of a pod that speaks BGP: or does the route to the source lead there?)
//! forward     from-pod: interface -> chain of its egress group    (unknown interface: drop)
//!             to-pod:   interface -> chain of its ingress group   (unknown interface: drop)
//! input       from-pod, as in forward, after neighbour discovery
//! group       port . protocol -> chain of a peer table            (no such port: drop)
//! peers       address of the other side in a set? return; in a block? return; else drop
//! ```
//!
//! Allow is `return`, so that both ends of a connection between two pods of one node are asked. Names of groups and
//! tables follow from their content, so a restart finds its own work and changes nothing. A pod that comes or goes is a
//! few elements; no packet mark is written and no anonymous set is used.

mod base;
mod group;
mod peers;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ocicat_cni::endpoint::Endpoint as EndpointRecord;
use ocicat_policy::program::ElementChange;
use ocicat_policy::{Changes, Direction, Endpoint, GroupId, Program, TableId};

use crate::nft::{Element, Key, Name, Part, SetType, Table, Transaction, Verdict};
use crate::world::{World, pod_key};
use base::{FROM_POD, SOURCES4, SOURCES6, SPEAKERS, TO_POD};

/// The name of the table that we own.
pub const TABLE: &str = "ocicat";

/// What the table should hold, kept in step with the world.
#[derive(Debug, Clone)]
pub struct Ruleset {
    table: Table,
    interfaces: BTreeMap<String, Interface>,
    groups: BTreeMap<GroupId, (Direction, BTreeSet<TableId>)>,
    /// How many groups ask a table in a direction.
    askers: BTreeMap<(TableId, Direction), usize>,
}

/// What the table says of one interface.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Interface {
    addresses: BTreeSet<IpAddr>,
    policy: Endpoint,
}

/// How the table changed.
#[derive(Debug, Clone, PartialEq)]
pub enum Update {
    /// Only elements of maps and sets that were there: this transaction does it.
    Elements(Transaction),
    /// Chains or maps came or went: the whole must be compared.
    Structure,
}

impl Default for Ruleset {
    fn default() -> Self {
        Self {
            table: base::table(),
            interfaces: BTreeMap::new(),
            groups: BTreeMap::new(),
            askers: BTreeMap::new(),
        }
    }
}

impl Ruleset {
    /// What the kernel should hold.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// Whether the endpoint's interface has its policy here, for the endpoint's own addresses.
    pub fn has_endpoint(&self, endpoint: &EndpointRecord) -> bool {
        self.interfaces.get(&endpoint.host_interface).is_some_and(|interface| {
            endpoint.addresses.iter().all(|address| interface.addresses.contains(address))
        })
    }

    /// Everything anew.
    pub fn from_scratch(world: &World) -> Self {
        let mut ruleset = Self::default();
        let program = world.index.program();
        for id in program.tables.keys() {
            ruleset.add_table(*id, program);
        }
        for id in program.groups.keys() {
            ruleset.add_group(*id, program);
        }
        let mut ignored = Transaction::new(TABLE);
        for name in world.interfaces().keys() {
            ruleset.update_interface(world, name, &mut ignored);
        }
        ruleset
    }

    /// Follows what changed in the policies and at the interfaces.
    pub fn update(
        &mut self,
        world: &World,
        changes: &Changes,
        touched: &BTreeSet<String>,
    ) -> Update {
        let program = world.index.program();
        let structure = !(changes.tables_added.is_empty()
            && changes.tables_removed.is_empty()
            && changes.groups_added.is_empty()
            && changes.groups_removed.is_empty());
        for id in &changes.tables_added {
            self.add_table(*id, program);
        }
        for id in &changes.groups_added {
            self.add_group(*id, program);
        }
        let mut transaction = Transaction::new(TABLE);
        for (id, elements) in &changes.elements {
            self.change_elements(*id, elements, &mut transaction);
        }
        for name in self.affected_interfaces(world, changes, touched) {
            self.update_interface(world, &name, &mut transaction);
        }
        for id in &changes.groups_removed {
            self.remove_group(*id);
        }
        for id in &changes.tables_removed {
            peers::remove(&mut self.table, *id);
        }
        if structure { Update::Structure } else { Update::Elements(transaction) }
    }

    /// Replaces the address translation; says whether anything changed.
    pub fn set_nat(&mut self, nat: Table) -> bool {
        let is_nat = |name: &Name| name.starts_with(super::nat::PREFIX);
        let same = self.table.chains.iter().filter(|(name, _)| is_nat(name)).eq(nat.chains.iter())
            && self.table.sets.iter().filter(|(name, _)| is_nat(name)).eq(nat.sets.iter());
        if !same {
            self.table.chains.retain(|name, _| !is_nat(name));
            self.table.sets.retain(|name, _| !is_nat(name));
            self.table.chains.extend(nat.chains);
            self.table.sets.extend(nat.sets);
        }
        !same
    }

    /// The interfaces of pods that are BGP peers.
    pub fn set_speakers<'a>(&mut self, wanted: impl IntoIterator<Item = &'a str>) -> Update {
        let name = Name::from(SPEAKERS);
        let wanted: BTreeSet<Key> =
            wanted.into_iter().map(|name| Key::exact(&[Part::Ifname(name)])).collect();
        let before: BTreeSet<Key> = self.table.sets[&name].elements.keys().cloned().collect();
        let mut transaction = Transaction::new(TABLE);
        for key in before.symmetric_difference(&wanted) {
            let element = wanted.contains(key).then_some(None);
            self.set_element(&name, base::interface_set(), key.clone(), element, &mut transaction);
        }
        Update::Elements(transaction)
    }

    fn add_table(&mut self, id: TableId, program: &Program) {
        peers::add(&mut self.table, id, &program.tables[&id]);
    }

    fn add_group(&mut self, id: GroupId, program: &Program) {
        let group = &program.groups[&id];
        group::add(&mut self.table, id, group);
        let tables = group.tables();
        for peers in &tables {
            let askers = self.askers.entry((*peers, group.direction)).or_default();
            *askers += 1;
            if *askers == 1 {
                peers::add_chain(&mut self.table, *peers, group.direction);
            }
        }
        self.groups.insert(id, (group.direction, tables));
    }

    fn remove_group(&mut self, id: GroupId) {
        group::remove(&mut self.table, id);
        let Some((direction, tables)) = self.groups.remove(&id) else { return };
        for peers in tables {
            let askers = self.askers.entry((peers, direction)).or_default();
            *askers = askers.saturating_sub(1);
            if *askers == 0 {
                self.askers.remove(&(peers, direction));
                peers::remove_chain(&mut self.table, peers, direction);
            }
        }
    }

    fn change_elements(
        &mut self,
        id: TableId,
        elements: &BTreeMap<IpAddr, ElementChange>,
        transaction: &mut Transaction,
    ) {
        for (address, change) in elements {
            for (answer, name, of) in peers::address_sets(id, *address) {
                let wanted = (change.after == Some(answer)).then_some(None);
                self.set_element(&name, of, Key::from(*address), wanted, transaction);
            }
        }
    }

    /// Writes one element of a set or a map, or removes it, here and in the transaction.
    fn set_element(
        &mut self,
        name: &Name,
        of: SetType,
        key: Key,
        wanted: Option<Option<Verdict>>,
        transaction: &mut Transaction,
    ) {
        let Some(set) = self.table.sets.get_mut(name) else { return };
        let before = set.elements.get(&key);
        if before == wanted.as_ref() {
            return;
        }
        if before.is_some() {
            set.elements.remove(&key);
            transaction.delete_elements(name.clone(), of, [key.clone()]);
        }
        if let Some(verdict) = wanted {
            set.elements.insert(key.clone(), verdict.clone());
            transaction.add_elements(name.clone(), of, [Element { key, verdict }]);
        }
    }

    fn affected_interfaces(
        &self,
        world: &World,
        changes: &Changes,
        touched: &BTreeSet<String>,
    ) -> BTreeSet<String> {
        let mut affected = touched.clone();
        if !changes.endpoints.is_empty() {
            for (name, endpoint) in world.interfaces() {
                if changes.endpoints.contains_key(&pod_key(endpoint)) {
                    affected.insert(name.to_owned());
                }
            }
        }
        affected
    }

    /// Brings the maps in line with one interface. Elements go before they come, so that a name that moves to another
    /// pod is never two pods' at once.
    fn update_interface(&mut self, world: &World, name: &str, transaction: &mut Transaction) {
        let wanted = wanted(world, name);
        let before = self.interfaces.get(name);
        if before == wanted.as_ref() {
            return;
        }
        let none = BTreeSet::new();
        let old = before.map_or(&none, |interface| &interface.addresses).clone();
        let new = wanted.as_ref().map_or(&none, |interface| &interface.addresses);
        for address in old.difference(new) {
            self.set_source(name, *address, None, transaction);
        }
        for direction in Direction::BOTH {
            let map = match direction {
                Direction::Ingress => TO_POD,
                Direction::Egress => FROM_POD,
            };
            let verdict = wanted.as_ref().map(|interface| {
                Some(interface.policy.group(direction).map_or(Verdict::Return, group::verdict))
            });
            let key = Key::exact(&[Part::Ifname(name)]);
            self.set_element(&map.into(), base::interface_map(), key, verdict, transaction);
        }
        for address in new.difference(&old) {
            self.set_source(name, *address, Some(None), transaction);
        }
        match wanted {
            Some(interface) => self.interfaces.insert(name.to_owned(), interface),
            None => self.interfaces.remove(name),
        };
    }

    fn set_source(
        &mut self,
        interface: &str,
        address: IpAddr,
        wanted: Option<Option<Verdict>>,
        transaction: &mut Transaction,
    ) {
        let name: Name = if address.is_ipv4() { SOURCES4 } else { SOURCES6 }.into();
        let key = Key::exact(&[Part::Ifname(interface), Part::Ip(address)]);
        self.set_element(&name, base::sources(address), key, wanted, transaction);
    }
}

/// What the table should say of an interface; nothing while its pod or its policy is not known.
fn wanted(world: &World, name: &str) -> Option<Interface> {
    let endpoint = world.endpoint_of(name)?;
    if !world.knows_pod_of(endpoint) {
        return None;
    }
    let policy = world.index.program().endpoints.get(&pod_key(endpoint))?;
    Some(Interface { addresses: endpoint.addresses.iter().copied().collect(), policy: *policy })
}
