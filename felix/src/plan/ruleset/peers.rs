//! A table of peers: who may be the other side, as one chain a direction and up to four maps.

use std::net::IpAddr;

use ipnet::IpNet;
use ocicat_policy::{Direction, Table as PeerTable, TableId, Verdict as Answer};

use crate::nft::statement::{counter, drop, vmap};
use crate::nft::{
    Chain, Element, Field, FieldType, Key, KeyType, Matching, Name, Part, Rule, Set, SetKind,
    SetType, Table, Verdict,
};
use crate::plan::{disjoint_ipv4, disjoint_ipv6};

/// What an answer is in a map: allow is `return`, the next question comes after it.
pub(super) fn verdict(answer: Answer) -> Verdict {
    match answer {
        Answer::Accept => Verdict::Return,
        Answer::Drop => Verdict::Drop,
    }
}

/// The chain that asks the table about the source (ingress) or the destination (egress).
pub(super) fn chain_name(id: TableId, direction: Direction) -> Name {
    match direction {
        Direction::Ingress => format!("peers-in-{id}").into(),
        Direction::Egress => format!("peers-out-{id}").into(),
    }
}

/// The map with the answer for a pod's address.
pub(super) fn address_map(id: TableId, address: IpAddr) -> (Name, SetType) {
    let family = Family::of(address);
    (pods_name(id, family), map_type(family, Matching::Exact))
}

fn pods_name(id: TableId, family: Family) -> Name {
    match family {
        Family::V4 => format!("pods4-{id}").into(),
        Family::V6 => format!("pods6-{id}").into(),
    }
}

fn blocks_name(id: TableId, family: Family) -> Name {
    match family {
        Family::V4 => format!("blocks4-{id}").into(),
        Family::V6 => format!("blocks6-{id}").into(),
    }
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

fn map_type(family: Family, matching: Matching) -> SetType {
    let field = match family {
        Family::V4 => FieldType::Ipv4Addr,
        Family::V6 => FieldType::Ipv6Addr,
    };
    SetType { key: KeyType::new(&[field]), kind: SetKind::Verdicts, matching }
}

/// Adds the maps of a table.
pub(super) fn add(table: &mut Table, id: TableId, peers: &PeerTable) {
    for family in [Family::V4, Family::V6] {
        let members = peers.addresses.iter().filter(|(ip, _)| Family::of(**ip) == family);
        let elements =
            members.map(|(ip, answer)| Element::verdict(Key::from(*ip), verdict(*answer)));
        let set = Set::new(map_type(family, Matching::Exact)).with(elements);
        table.sets.insert(pods_name(id, family), set);
        let blocks = blocks(peers, family);
        if !blocks.is_empty() {
            let elements = blocks
                .into_iter()
                .map(|block| Element::verdict(Key::range(&[Part::Net(block)]), Verdict::Return));
            let set = Set::new(map_type(family, Matching::Ranges)).with(elements);
            table.sets.insert(blocks_name(id, family), set);
        }
    }
}

/// Adds the chain that asks the maps of a table in one direction.
pub(super) fn add_chain(table: &mut Table, id: TableId, direction: Direction) {
    let mut rules = Vec::new();
    for family in [Family::V4, Family::V6] {
        for name in [pods_name(id, family), blocks_name(id, family)] {
            if table.sets.contains_key(&name) {
                rules.push(Rule::new([vmap([field(family, direction)], name)]));
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
        table.sets.remove(&pods_name(id, family));
        table.sets.remove(&blocks_name(id, family));
    }
}
