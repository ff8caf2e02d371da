//! What comes out: verdicts in a shape that can be looked up in constant time.
//!
//! A packet of an [`Endpoint`] finds its [`Group`] by interface and direction, its [`Table`] by
//! protocol and destination port, and its [`Verdict`] by the address of the other side. Groups and
//! tables are named after their content and never change it, except for the addresses of the pods in
//! a table: these come and go as the pods do.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::model::{Direction, PodKey, Traffic, Transport};

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verdict {
    /// It does not go on.
    Drop,
    /// It goes on.
    Accept,
}

/// The name of a [`Table`]: sixteen hexadecimal digits that follow from the peers it was made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TableId(pub(crate) u64);

impl fmt::Display for TableId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The name of a [`Group`]: sixteen hexadecimal digits that follow from its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupId(pub(crate) u64);

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The answers for the other sides of some traffic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// The answers for addresses of pods: final, and asked first.
    pub addresses: BTreeMap<IpAddr, Verdict>,
    /// Disjoint blocks whose addresses are accepted unless `addresses` says otherwise. They are part
    /// of what names the table, so they never change.
    pub blocks: BTreeSet<IpNet>,
}

impl Table {
    /// The answer for one peer; what is not mentioned is dropped.
    pub fn verdict(&self, peer: IpAddr) -> Verdict {
        match self.addresses.get(&peer) {
            Some(verdict) => *verdict,
            None if self.blocks.iter().any(|block| block.contains(&peer)) => Verdict::Accept,
            None => Verdict::Drop,
        }
    }
}

/// Destination ports that share a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortClass {
    /// The first port.
    pub first: u16,
    /// The last port, which belongs to the class.
    pub last: u16,
    /// Who may use them.
    pub table: TableId,
}

/// What the endpoints with the same policies have in common, in one direction.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Group {
    /// Which packets of the endpoint.
    pub direction: Direction,
    /// Disjoint, ascending, and neighbours have different tables. A port in no class is dropped.
    pub tcp: Vec<PortClass>,
    /// As for TCP.
    pub udp: Vec<PortClass>,
    /// As for TCP.
    pub sctp: Vec<PortClass>,
    /// For every other protocol, which is dropped where there is no table.
    pub other: Option<TableId>,
}

impl Group {
    /// The port classes of a protocol.
    pub fn classes(&self, transport: Transport) -> &[PortClass] {
        match transport {
            Transport::Tcp => &self.tcp,
            Transport::Udp => &self.udp,
            Transport::Sctp => &self.sctp,
        }
    }

    /// The table for some traffic; there is none for traffic that is dropped.
    pub fn table(&self, traffic: Traffic) -> Option<TableId> {
        match traffic {
            Traffic::Port(transport, port) => self
                .classes(transport)
                .iter()
                .find(|class| (class.first..=class.last).contains(&port))
                .map(|class| class.table),
            Traffic::Other => self.other,
        }
    }

    /// Every table that the group uses.
    pub fn tables(&self) -> BTreeSet<TableId> {
        let classes = Transport::ALL.into_iter().flat_map(|transport| self.classes(transport));
        classes.map(|class| class.table).chain(self.other).collect()
    }
}

/// The groups of one pod of this node. A pod that no policy selects in a direction has no group there
/// and may send, or receive, what it likes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Endpoint {
    /// For packets to the pod.
    pub ingress: Option<GroupId>,
    /// For packets from the pod.
    pub egress: Option<GroupId>,
}

impl Endpoint {
    /// The group for a direction.
    pub fn group(&self, direction: Direction) -> Option<GroupId> {
        match direction {
            Direction::Ingress => self.ingress,
            Direction::Egress => self.egress,
        }
    }
}

/// The whole answer for one node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Program {
    /// The pods of this node that are known by their labels. One that is not here yet must stay
    /// closed.
    pub endpoints: BTreeMap<PodKey, Endpoint>,
    /// The groups that some endpoint uses.
    pub groups: BTreeMap<GroupId, Group>,
    /// The tables that some group uses.
    pub tables: BTreeMap<TableId, Table>,
}

impl Program {
    /// The verdict on a packet of a local pod, looked up as the packet filter does; a pod that is no
    /// endpoint is closed.
    pub fn verdict(
        &self,
        pod: &PodKey,
        direction: Direction,
        peer: IpAddr,
        traffic: Traffic,
    ) -> Verdict {
        let Some(endpoint) = self.endpoints.get(pod) else { return Verdict::Drop };
        let Some(group) = endpoint.group(direction) else { return Verdict::Accept };
        match self.groups[&group].table(traffic) {
            Some(table) => self.tables[&table].verdict(peer),
            None => Verdict::Drop,
        }
    }
}

/// One address of a table that got another answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ElementChange {
    /// The answer that it had, if it had one.
    pub before: Option<Verdict>,
    /// The answer that it has, if it has one.
    pub after: Option<Verdict>,
}

/// What is different in a [`Program`] since the last time. The content of what was added is in the
/// program itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Tables that were not there.
    pub tables_added: BTreeSet<TableId>,
    /// Tables that are not there any more.
    pub tables_removed: BTreeSet<TableId>,
    /// Addresses with another answer, in tables that were there and are there.
    pub elements: BTreeMap<TableId, BTreeMap<IpAddr, ElementChange>>,
    /// Groups that were not there.
    pub groups_added: BTreeSet<GroupId>,
    /// Groups that are not there any more.
    pub groups_removed: BTreeSet<GroupId>,
    /// Endpoints that are new or have another group, and those that are gone (`None`).
    pub endpoints: BTreeMap<PodKey, Option<Endpoint>>,
}

impl Changes {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What is different between two programs, by looking at all of both.
    pub fn between(old: &Program, new: &Program) -> Self {
        let mut changes = Self {
            tables_added: added(&old.tables, &new.tables),
            tables_removed: added(&new.tables, &old.tables),
            groups_added: added(&old.groups, &new.groups),
            groups_removed: added(&new.groups, &old.groups),
            ..Self::default()
        };
        for (id, table) in &new.tables {
            if let Some(before) = old.tables.get(id) {
                let elements = element_changes(before, table);
                if !elements.is_empty() {
                    changes.elements.insert(*id, elements);
                }
            }
        }
        for key in old.endpoints.keys().chain(new.endpoints.keys()) {
            let now = new.endpoints.get(key);
            if old.endpoints.get(key) != now {
                changes.endpoints.insert(key.clone(), now.copied());
            }
        }
        changes
    }
}

/// The keys of `new` that `old` lacks.
fn added<K: Ord + Copy, V>(old: &BTreeMap<K, V>, new: &BTreeMap<K, V>) -> BTreeSet<K> {
    new.keys().filter(|key| !old.contains_key(key)).copied().collect()
}

fn element_changes(old: &Table, new: &Table) -> BTreeMap<IpAddr, ElementChange> {
    let addresses: BTreeSet<IpAddr> =
        old.addresses.keys().chain(new.addresses.keys()).copied().collect();
    addresses
        .into_iter()
        .map(|address| {
            let before = old.addresses.get(&address).copied();
            let after = new.addresses.get(&address).copied();
            (address, ElementChange { before, after })
        })
        .filter(|(_, change)| change.before != change.after)
        .collect()
}
