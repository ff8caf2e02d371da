//! A table of peers: who may be the other side, as one chain a direction and up to three sets a family.
//!
//! Sets, not verdict maps: on every change of a rule the kernel walks all elements of every verdict map that it can
//! reach (66 ms with 100,000 of them, where sets take 0.4 ms).

use std::net::IpAddr;

use ocicat_policy::{Direction, Table as PeerTable, TableId, Verdict as Answer};

use crate::nft::statement::{counter, drop, in_set, return_};
use crate::nft::{
    Chain, Element, Family, Field, FieldType, Key, KeyType, Matching, Name, Part, Rule, Set,
    SetKind, SetType, Table,
};
use crate::plan::ranges;

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
    let family = family_of(address);
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
        Family::Ipv4 => 4,
        Family::Ipv6 => 6,
    };
    format!("{kind}{version}-{id}").into()
}

fn family_of(address: IpAddr) -> Family {
    if address.is_ipv4() { Family::Ipv4 } else { Family::Ipv6 }
}

fn set_type(family: Family, matching: Matching) -> SetType {
    let field = match family {
        Family::Ipv4 => FieldType::Ipv4Addr,
        Family::Ipv6 => FieldType::Ipv6Addr,
    };
    SetType { key: KeyType::new(&[field]), kind: SetKind::Members, matching }
}

/// Adds the sets of a table.
pub(super) fn add(table: &mut Table, id: TableId, peers: &PeerTable) {
    for family in [Family::Ipv4, Family::Ipv6] {
        let exact = set_type(family, Matching::Exact);
        let with_answer = |answer: Answer| {
            let members = peers.addresses.iter();
            let members = members.filter(|(ip, a)| family_of(**ip) == family && **a == answer);
            Set::new(exact).with(members.map(|(ip, _)| Element::member(Key::from(*ip))))
        };
        table.sets.insert(name(Kind::Pods, id, family), with_answer(Answer::Accept));
        let blocks = ranges(&peers.blocks, family);
        if !blocks.is_empty() {
            table.sets.insert(name(Kind::Denied, id, family), with_answer(Answer::Drop));
            let elements = blocks
                .iter()
                .map(|(first, last)| Element::member(Key::range(&[Part::IpRange(*first, *last)])));
            let set = Set::new(set_type(family, Matching::Ranges)).with(elements);
            table.sets.insert(name(Kind::Blocks, id, family), set);
        }
    }
}

/// Adds the chain that asks the sets of a table in one direction.
pub(super) fn add_chain(table: &mut Table, id: TableId, direction: Direction) {
    let mut rules = Vec::new();
    for family in [Family::Ipv4, Family::Ipv6] {
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
        (Family::Ipv4, Direction::Ingress) => Field::IpSaddr,
        (Family::Ipv4, Direction::Egress) => Field::IpDaddr,
        (Family::Ipv6, Direction::Ingress) => Field::Ip6Saddr,
        (Family::Ipv6, Direction::Egress) => Field::Ip6Daddr,
    }
}

/// Removes what [`add`] added.
pub(super) fn remove(table: &mut Table, id: TableId) {
    for family in [Family::Ipv4, Family::Ipv6] {
        for kind in [Kind::Pods, Kind::Denied, Kind::Blocks] {
            table.sets.remove(&name(kind, id, family));
        }
    }
}
