//! A group: what endpoints with the same policies have in common, as one chain and up to two maps of ports.

use ocicat_policy::{Group, GroupId, PortClass, TableId, Transport};

use super::peers;
use crate::nft::statement::{counter, drop, goto, l4proto, vmap};
use crate::nft::{
    Chain, Element, Field, FieldType, Key, KeyType, Matching, Name, Part, Rule, Set, SetKind,
    SetType, Table, Verdict,
};

/// A class this wide is compared as a range; a smaller one is spelt out, port by port, in the hash map.
const SPELT_OUT: u16 = 8;

fn chain_name(id: GroupId) -> Name {
    format!("group-{id}").into()
}

fn ports_name(id: GroupId) -> Name {
    format!("ports-{id}").into()
}

fn ranges_name(id: GroupId) -> Name {
    format!("ranges-{id}").into()
}

/// To the chain of a group.
pub(super) fn verdict(id: GroupId) -> Verdict {
    Verdict::goto(chain_name(id))
}

/// Port first: the kernel's sets of ranges cost as many steps as elements share the first field.
const KEY: [Field; 2] = [Field::ThDport, Field::L4proto];

fn map_type(matching: Matching) -> SetType {
    let key = KeyType::new(&[FieldType::InetService, FieldType::InetProto]);
    SetType { key, kind: SetKind::Verdicts, matching }
}

/// IANA's protocol number.
fn number(transport: Transport) -> u8 {
    match transport {
        Transport::Tcp => 6,
        Transport::Udp => 17,
        Transport::Sctp => 132,
    }
}

/// Adds the chain and the maps of a group.
pub(super) fn add(table: &mut Table, id: GroupId, group: &Group) {
    let to = |peers: TableId| Verdict::goto(peers::chain_name(peers, group.direction));
    let mut ports = Set::new(map_type(Matching::Exact));
    let mut ranges = Set::new(map_type(Matching::Ranges));
    let mut whole = Vec::new();
    for transport in Transport::ALL {
        let protocol = number(transport);
        for PortClass { first, last, table: peers } in group.classes(transport).iter().copied() {
            if (first, last) == (0, u16::MAX) {
                whole.push((transport, peers));
            } else if last - first < SPELT_OUT {
                let keys = (first..=last)
                    .map(|port| Key::exact(&[Part::Port(port), Part::Proto(protocol)]));
                ports = ports.with(keys.map(|key| Element::verdict(key, to(peers))));
            } else {
                let key = Key::range(&[Part::Ports(first, last), Part::Proto(protocol)]);
                ranges = ranges.with([Element::verdict(key, to(peers))]);
            }
        }
    }
    let mut rules = Vec::new();
    for (name, set) in [(ports_name(id), ports), (ranges_name(id), ranges)] {
        if !set.elements.is_empty() {
            rules.push(Rule::new([vmap(KEY, name.clone())]));
            table.sets.insert(name, set);
        }
    }
    rules.extend(rest(group, &whole));
    table.chains.insert(chain_name(id), Chain::regular(rules));
}

/// The rules after the port maps: protocols as a whole, and what is left.
fn rest(group: &Group, whole: &[(Transport, TableId)]) -> Vec<Rule> {
    let chain = |peers: TableId| peers::chain_name(peers, group.direction);
    let everything = group.other.filter(|other| {
        whole.len() == Transport::ALL.len() && whole.iter().all(|(_, peers)| peers == other)
    });
    if let Some(peers) = everything {
        return vec![Rule::new([goto(chain(peers))])];
    }
    let mut rules: Vec<Rule> = whole
        .iter()
        .map(|(transport, peers)| Rule::new([l4proto(number(*transport)), goto(chain(*peers))]))
        .collect();
    match group.other {
        None => rules.push(Rule::new([counter(), drop()])),
        Some(peers) => {
            // The rest of the three protocols with ports must not fall through to "every other protocol".
            for transport in Transport::ALL {
                if !whole.iter().any(|(there, _)| *there == transport) {
                    rules.push(Rule::new([l4proto(number(transport)), counter(), drop()]));
                }
            }
            rules.push(Rule::new([goto(chain(peers))]));
        }
    }
    rules
}

/// Removes what [`add`] added.
pub(super) fn remove(table: &mut Table, id: GroupId) {
    table.chains.remove(&chain_name(id));
    table.sets.remove(&ports_name(id));
    table.sets.remove(&ranges_name(id));
}
