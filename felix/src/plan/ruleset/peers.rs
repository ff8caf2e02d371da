//! A table of peers: who may be the other side, as one chain a direction and up to three sets a family.
//!
//! Sets, not verdict maps: on every change of a rule the kernel walks all elements of every verdict map that it can
//! reach (66 ms with 100,000 of them, where sets take 0.4 ms).

use std::net::IpAddr;

use ipnet::IpNet;
use ocicat_policy::{Direction, Table as PeerTable, TableId, Verdict as Answer};

use crate::nft::statement::{counter, drop, in_set, return_};
use crate::nft::{
    Chain, Element, Field, FieldType, Key, KeyType, Matching, Name, Part, Rule, Set, SetKind,
    SetType, Table,
};
use crate::plan::{disjoint_ipv4, disjoint_ipv6};

/// The chain that asks the table about the source (ingress) or the destination (egress).
pub(super) fn chain_name(id: TableId, direction: Direction) -> Name {
    match direction {
        Direction::Ingress => format!("peers-in-{id}").into(),
        Direction::Egress => format!("peers-out-{id}").into(),
    }
}

/// The sets that a pod's address may be in: with one answer in the first, with the other in the second.
///
/// An address that is denied has to be said to be so only where a block might accept it.
pub(super) fn address_sets(id: TableId, address: IpAddr) -> [(Answer, Name, SetType); 2] {
    let family = Family::of(address);
    let of = set_type(family, Matching::Exact);
    [
        (Answer::Accept, name(Kind::Pods, id, family), of),
        (Answer::Drop, name(Kind::Denied, id, family), of),
    ]
}

#[derive(Clone, Copy)]
enum Kind {
    Pods,
    Denied,
    Blocks,
}

fn name(kind: Kind, id: TableId, family: Family) -> Name {
    let kind = match kind {
        Kind::Pods => "pods",
        Kind::Denied => "denied",
        Kind::Blocks => "blocks",
    };
    let version = match family {
        Family::V4 => 4,
        Family::V6 => 6,
    };
    format!("{kind}{version}-{id}").into()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

impl Family {
    fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

fn set_type(family: Family, matching: Matching) -> SetType {
    let field = match family {
        Family::V4 => FieldType::Ipv4Addr,
        Family::V6 => FieldType::Ipv6Addr,
    };
    SetType { key: KeyType::new(&[field]), kind: SetKind::Members, matching }
}

/// Adds the sets of a table.
pub(super) fn add(table: &mut Table, id: TableId, peers: &PeerTable) {
    for family in [Family::V4, Family::V6] {
        let exact = set_type(family, Matching::Exact);
        let with_answer = |answer: Answer| {
            let members = peers.addresses.iter();
            let members = members.filter(|(ip, a)| Family::of(**ip) == family && **a == answer);
            Set::new(exact).with(members.map(|(ip, _)| Element::member(Key::from(*ip))))
        };
        table.sets.insert(name(Kind::Pods, id, family), with_answer(Answer::Accept));
        let blocks = blocks(peers, family);
        if !blocks.is_empty() {
            table.sets.insert(name(Kind::Denied, id, family), with_answer(Answer::Drop));
            let elements = blocks.iter().map(|net| Element::member(Key::range(&[Part::Net(*net)])));
            let set = Set::new(set_type(family, Matching::Ranges)).with(elements);
            table.sets.insert(name(Kind::Blocks, id, family), set);
        }
    }
}

/// Adds the chain that asks the sets of a table in one direction.
pub(super) fn add_chain(table: &mut Table, id: TableId, direction: Direction) {
    let mut rules = Vec::new();
    for family in [Family::V4, Family::V6] {
        for (kind, verdict) in
            [(Kind::Pods, return_()), (Kind::Denied, drop()), (Kind::Blocks, return_())]
        {
            let set = name(kind, id, family);
            if table.sets.contains_key(&set) {
                rules.push(Rule::new([in_set([field(family, direction)], set), verdict]));
            }
        }
    }
    rules.push(Rule::new([counter(), drop()]));
    table.chains.insert(chain_name(id, direction), Chain::regular(rules));
}

/// Removes that chain.
pub(super) fn remove_chain(table: &mut Table, id: TableId, direction: Direction) {
    table.chains.remove(&chain_name(id, direction));
}

fn field(family: Family, direction: Direction) -> Field {
    match (family, direction) {
        (Family::V4, Direction::Ingress) => Field::IpSaddr,
        (Family::V4, Direction::Egress) => Field::IpDaddr,
        (Family::V6, Direction::Ingress) => Field::Ip6Saddr,
        (Family::V6, Direction::Egress) => Field::Ip6Daddr,
    }
}

/// The blocks of a family.
fn blocks(peers: &PeerTable, family: Family) -> Vec<IpNet> {
    match family {
        Family::V4 => disjoint_ipv4(&peers.blocks),
        Family::V6 => disjoint_ipv6(&peers.blocks),
    }
}

/// Removes what [`add`] added.
pub(super) fn remove(table: &mut Table, id: TableId) {
    for family in [Family::V4, Family::V6] {
        for kind in [Kind::Pods, Kind::Denied, Kind::Blocks] {
            table.sets.remove(&name(kind, id, family));
        }
    }
}
