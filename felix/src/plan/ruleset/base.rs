//! What the table always has: the hooks, and the maps from interface to policy.

use std::net::IpAddr;

use crate::nft::statement::{
    accept, counter, ct_state, drop, icmpv6_type, iifname, in_set, is, jump, oifname, return_, vmap,
};
use crate::nft::{
    Base, Chain, ChainType, CtState, Field, FieldType, Hook, KeyType, Matching, Name, Policy, Rule,
    Set, SetKind, SetType, Statement, Table, Test,
};

/// Interface of a sending pod -> its egress policy.
pub(super) const FROM_POD: &str = "from-pod";
/// Interface of a receiving pod -> its ingress policy.
pub(super) const TO_POD: &str = "to-pod";
/// Interface and the IPv4 addresses that may send from it.
pub(super) const SOURCES4: &str = "sources4";
/// Interface and the IPv6 addresses that may send from it.
pub(super) const SOURCES6: &str = "sources6";
/// Interfaces of pods that are BGP peers of this node.
pub(super) const SPEAKERS: &str = "speakers";
/// Every interface of ours.
const OURS: &str = "oci*";

/// ICMPv6 from 133 to 137: neighbour and router discovery (RFC 4861). Only solicitations and advertisements of
/// neighbours, and router solicitations, come from a pod with good reason.
const DISCOVERY: [(u8, &str); 3] = [
    (133, "router solicitation"),
    (135, "neighbour solicitation"),
    (136, "neighbour advertisement"),
];

/// `type ifname : verdict`.
pub(super) fn interface_map() -> SetType {
    SetType {
        key: KeyType::new(&[FieldType::Ifname]),
        kind: SetKind::Verdicts,
        matching: Matching::Exact,
    }
}

/// `type ifname`.
pub(super) fn interface_set() -> SetType {
    SetType {
        key: KeyType::new(&[FieldType::Ifname]),
        kind: SetKind::Members,
        matching: Matching::Exact,
    }
}

/// `type ifname . ipv4_addr`, or `ipv6_addr`.
pub(super) fn sources(address: IpAddr) -> SetType {
    let family = if address.is_ipv4() { FieldType::Ipv4Addr } else { FieldType::Ipv6Addr };
    SetType {
        key: KeyType::new(&[FieldType::Ifname, family]),
        kind: SetKind::Members,
        matching: Matching::Exact,
    }
}

/// The table with no pod in it: closed.
pub(super) fn table() -> Table {
    let mut table = Table::new(super::TABLE);
    let any4 = IpAddr::from([0, 0, 0, 0]);
    let any6 = IpAddr::from([0_u16; 8]);
    for (name, of) in [
        (FROM_POD, interface_map()),
        (TO_POD, interface_map()),
        (SOURCES4, sources(any4)),
        (SOURCES6, sources(any6)),
        (SPEAKERS, interface_set()),
    ] {
        table.sets.insert(Name::from(name), Set::new(of));
    }
    for (name, chain) in [
        ("prerouting", Chain::base(hook(Hook::Prerouting, -300), prerouting())),
        ("source", Chain::regular(source())),
        ("forward", Chain::base(hook(Hook::Forward, 0), forward())),
        ("input", Chain::base(hook(Hook::Input, 0), input())),
        (FROM_POD, Chain::regular(dispatch(Field::Iifname, FROM_POD))),
        (TO_POD, Chain::regular(dispatch(Field::Oifname, TO_POD))),
    ] {
        table.chains.insert(Name::from(name), chain);
    }
    table
}

fn hook(hook: Hook, priority: i32) -> Base {
    Base { kind: ChainType::Filter, hook, priority, policy: Policy::Accept }
}

fn prerouting() -> Vec<Rule> {
    vec![Rule::new([iifname(OURS), jump("source")])]
}

/// A pod sends from its own addresses, or it does not send. One that speaks BGP stands for others, too: for those to
/// whom the routes that were accepted from it lead.
fn source() -> Vec<Rule> {
    let link_local = is(Test::Saddr(net("fe80::/10")));
    let unspecified = is(Test::Saddr(net("::/128")));
    let icmpv6 = || is(Test::L4proto(58));
    vec![
        Rule::new([in_set([Field::Iifname, Field::IpSaddr], SOURCES4), return_()]),
        Rule::new([in_set([Field::Iifname, Field::Ip6Saddr], SOURCES6), return_()]),
        Rule::new([link_local, icmpv6(), return_()]),
        Rule::new([unspecified, icmpv6(), return_()]).comment("duplicate address detection"),
        Rule::new([in_set([Field::Iifname], SPEAKERS), is(Test::ReversePath), return_()]),
        Rule::new([counter(), drop()]).comment("source address is not the pod's"),
    ]
}

fn net(text: &str) -> ipnet::IpNet {
    text.parse().expect("a literal of this file")
}

/// Connections that policy has let begin go on.
fn established() -> Rule {
    Rule::new([ct_state(CtState::ESTABLISHED.or(CtState::RELATED)), accept()])
}

fn invalid(ours: Statement) -> Rule {
    Rule::new([ours, ct_state(CtState::INVALID), counter(), drop()]).comment("fits no connection")
}

fn forward() -> Vec<Rule> {
    vec![
        established(),
        invalid(iifname(OURS)),
        invalid(oifname(OURS)),
        Rule::new([iifname(OURS), jump(FROM_POD)]),
        Rule::new([oifname(OURS), jump(TO_POD)]),
    ]
}

/// From a pod to its own node: egress policy alone. The other way is never asked: a kubelet must reach its pods.
fn input() -> Vec<Rule> {
    let mut rules = vec![established()];
    for (number, what) in DISCOVERY {
        rules.push(Rule::new([iifname(OURS), icmpv6_type(number), accept()]).comment(what));
    }
    rules.push(invalid(iifname(OURS)));
    rules.push(Rule::new([iifname(OURS), jump(FROM_POD)]));
    rules
}

/// To the policy of the interface. One that is not in the map is closed.
fn dispatch(field: Field, map: &str) -> Vec<Rule> {
    vec![
        Rule::new([vmap([field], map)]),
        Rule::new([counter(), drop()]).comment("interface without policy"),
    ]
}
