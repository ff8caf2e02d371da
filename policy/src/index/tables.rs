//! The peer tables that some group uses, and the addresses in them.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use super::selectors::{SelectorId, Selectors};
use crate::evaluate::{Owner, answer};
use crate::model::{PodKey, PodSelector, World};
use crate::name::Names;
use crate::program::{Changes, ElementChange, Program, Table, TableId};
use crate::table::TableSpec;

/// The pods of the cluster, by their addresses too.
#[derive(Clone, Copy)]
pub(super) struct Pods<'a> {
    pub(super) world: &'a World,
    pub(super) owners: &'a BTreeSet<(IpAddr, PodKey)>,
}

impl<'a> Pods<'a> {
    /// Who has an address.
    pub(super) fn at(self, address: IpAddr) -> Vec<Owner<'a>> {
        let keys = keys_at(self.owners, address);
        let pods = keys.filter_map(|key| self.world.pods.get(key));
        pods.map(|pod| Owner::of(self.world, pod)).collect()
    }
}

/// The names of the pods that have an address.
pub(super) fn keys_at(
    owners: &BTreeSet<(IpAddr, PodKey)>,
    address: IpAddr,
) -> impl Iterator<Item = &PodKey> {
    let first = (address, PodKey { namespace: Arc::default(), name: Arc::default() });
    owners.range(first..).take_while(move |(at, _)| *at == address).map(|(_, key)| key)
}

/// Every table in use.
#[derive(Debug, Default)]
pub(super) struct Tables {
    names: Names<TableSpec>,
    /// How many groups use each.
    users: HashMap<TableId, usize>,
    by_selector: HashMap<SelectorId, BTreeSet<TableId>>,
}

impl Tables {
    /// The name of a table, which a group that uses it must [acquire](Self::acquire).
    pub(super) fn name(&mut self, spec: TableSpec) -> TableId {
        TableId(self.names.name(spec))
    }

    /// Use a table; the first user pays for filling it.
    pub(super) fn acquire(
        &mut self,
        id: TableId,
        pods: Pods<'_>,
        selectors: &mut Selectors,
        (program, changes): (&mut Program, &mut Changes),
    ) {
        let users = self.users.entry(id).or_default();
        *users += 1;
        if *users > 1 {
            return;
        }
        let spec = self.names.get(id.0).clone();
        let mut addresses = BTreeSet::new();
        for selector in selectors_of(&spec) {
            let selector_id = selectors.acquire(pods.world, selector);
            self.by_selector.entry(selector_id).or_default().insert(id);
            let members = selectors.members(selector_id);
            let members = members.filter_map(|key| pods.world.pods.get(key));
            addresses.extend(members.flat_map(|pod| &pod.addresses).copied());
        }
        let answers = addresses.into_iter().filter_map(|address| {
            answer(&spec, address, &pods.at(address)).map(|verdict| (address, verdict))
        });
        let table = Table { addresses: answers.collect(), blocks: spec.accepted_blocks() };
        program.tables.insert(id, table);
        changes.tables_added.insert(id);
    }

    /// Stop using a table.
    pub(super) fn release(
        &mut self,
        id: TableId,
        selectors: &mut Selectors,
        (program, changes): (&mut Program, &mut Changes),
    ) {
        let users = self.users.get_mut(&id).expect("only tables in use are released");
        *users -= 1;
        if *users > 0 {
            return;
        }
        self.users.remove(&id);
        let spec = self.names.get(id.0).clone();
        for selector in selectors_of(&spec) {
            let selector_id = selectors.release(selector);
            if let Some(tables) = self.by_selector.get_mut(&selector_id) {
                tables.remove(&id);
                if tables.is_empty() {
                    self.by_selector.remove(&selector_id);
                }
            }
        }
        self.names.forget(id.0);
        program.tables.remove(&id);
        changes.tables_removed.insert(id);
    }

    /// Work out the answers for an address in the tables that use some selectors.
    pub(super) fn answer_again(
        &self,
        selectors: &BTreeSet<SelectorId>,
        (address, pods): (IpAddr, Pods<'_>),
        (program, changes): (&mut Program, &mut Changes),
    ) {
        let tables: BTreeSet<&TableId> =
            selectors.iter().filter_map(|id| self.by_selector.get(id)).flatten().collect();
        if tables.is_empty() {
            return;
        }
        let owners = pods.at(address);
        for id in tables {
            let table = program.tables.get_mut(id).expect("every table in use is filled");
            let after = answer(self.names.get(id.0), address, &owners);
            let before = match after {
                Some(verdict) => table.addresses.insert(address, verdict),
                None => table.addresses.remove(&address),
            };
            if before != after {
                let change = ElementChange { before, after };
                changes.elements.entry(*id).or_default().insert(address, change);
            }
        }
    }
}

/// Each selector of a table once.
fn selectors_of(spec: &TableSpec) -> BTreeSet<&Arc<PodSelector>> {
    spec.pod_matches().map(|pods| &pods.selector).collect()
}
