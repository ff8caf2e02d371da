//! Random tables that the kernel accepts, for the laws (`nft_laws.rs`) and for the kernel itself
//! (`kernel_nft.rs`).

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ocicat_felix::nft::{statement::*, *};
use proptest::{
    prelude::*,
    sample::{Index, subsequence},
};

pub(crate) const FROM_POD: KeyType = KeyType::new(&[FieldType::Ifname]);
pub(crate) const SOURCES: KeyType = KeyType::new(&[FieldType::Ifname, FieldType::Ipv4Addr]);
pub(crate) const PORTS: KeyType = KeyType::new(&[FieldType::InetProto, FieldType::InetService]);
pub(crate) const PEERS4: KeyType = KeyType::new(&[FieldType::Ipv4Addr]);
pub(crate) const PEERS6: KeyType = KeyType::new(&[FieldType::Ipv6Addr]);
pub(crate) const WIDE: KeyType =
    KeyType::new(&[FieldType::InetProto, FieldType::InetService, FieldType::Ipv6Addr]);

const KEYS: [KeyType; 6] = [FROM_POD, SOURCES, PORTS, PEERS4, PEERS6, WIDE];
const SETS: [&str; 7] = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta"];
const CHAINS: [&str; 5] = ["group-a", "group-b", "group-c", "class-d", "class-e"];
const BASES: [&str; 3] = ["on-forward", "on-input", "on-postrouting"];

/// Any table of a few chains and sets.
pub(crate) fn any_table() -> impl Strategy<Value = Table> {
    let sets = proptest::collection::btree_map(0..SETS.len(), any_set(), 0..SETS.len());
    let chains = subsequence((0..CHAINS.len()).collect::<Vec<_>>(), 0..=CHAINS.len());
    let bases = proptest::collection::btree_map(0..BASES.len(), any_base(), 0..=BASES.len());
    let rules = proptest::collection::vec(proptest::collection::vec(any_seed(), 0..4), 8);
    let elements = proptest::collection::vec(proptest::collection::vec(any::<(u8, u8)>(), 0..9), 7);
    (sets, chains, bases, rules, elements).prop_map(|(sets, chains, bases, rules, elements)| {
        let mut table = Table::new("ocicat");
        let names: Vec<&str> = chains.iter().map(|at| CHAINS[*at]).collect();
        for (at, of) in &sets {
            let verdicts = elements[*at].iter().copied();
            table.sets.insert(SETS[*at].into(), fill(*of, verdicts, &names));
        }
        let sets: Vec<(&str, SetType)> = sets.iter().map(|(at, of)| (SETS[*at], *of)).collect();
        let mut rules = rules.iter();
        for at in &chains {
            // Verdicts lead only to later chains, and maps are looked up only in base chains: no loops.
            let later: Vec<&str> =
                chains.iter().filter(|to| *to > at).map(|to| CHAINS[*to]).collect();
            let seeds = rules.next().into_iter().flatten();
            let rules = seeds.map(|seed| seed.rule(&later, &sets, SetKind::Members));
            table.chains.insert(CHAINS[*at].into(), Chain::regular(rules));
        }
        for (at, base) in bases {
            let seeds = rules.next().into_iter().flatten();
            let rules = seeds.map(|seed| seed.rule(&names, &sets, SetKind::Verdicts));
            table.chains.insert(BASES[at].into(), Chain::base(base, rules));
        }
        table
    })
}

fn any_base() -> impl Strategy<Value = Base> {
    let hook = prop_oneof![Just(Hook::Forward), Just(Hook::Input), Just(Hook::Postrouting)];
    let policy = prop_oneof![Just(Policy::Accept), Just(Policy::Drop)];
    (hook, -2..3i32, policy).prop_map(|(hook, priority, policy)| Base {
        kind: ChainType::Filter,
        hook,
        priority,
        policy,
    })
}

fn any_set() -> impl Strategy<Value = SetType> {
    let kind = prop_oneof![Just(SetKind::Members), Just(SetKind::Verdicts)];
    let matching = prop_oneof![Just(Matching::Exact), Just(Matching::Ranges)];
    (0..KEYS.len(), kind, matching).prop_map(|(at, kind, matching)| {
        let key = KEYS[at];
        // Interface names have no ranges.
        let named = key.fields().any(|field| field == FieldType::Ifname);
        SetType { key, kind, matching: if named { Matching::Exact } else { matching } }
    })
}

fn fill(of: SetType, seeds: impl Iterator<Item = (u8, u8)>, chains: &[&str]) -> Set {
    let element = |(key, verdict): (u8, u8)| Element {
        key: key_of(of, key),
        verdict: (of.kind == SetKind::Verdicts).then(|| verdict_of(verdict, chains)),
    };
    // Keys of different tens never overlap as ranges.
    let disjoint: BTreeMap<u8, (u8, u8)> = seeds.map(|seed| (seed.0 / 10, seed)).collect();
    Set::new(of).with(disjoint.into_values().map(element))
}

fn key_of(of: SetType, seed: u8) -> Key {
    let (ten, one) = (seed / 10, seed % 10);
    let name = format!("oci{seed}");
    let v4 = |last| IpAddr::from(Ipv4Addr::new(10, 0, ten, last));
    let v6 = |last| IpAddr::from(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, ten.into(), last));
    let port = 1000 * u16::from(ten);
    let parts: Vec<Part<'_>> = of
        .key
        .fields()
        .map(|field| match (field, of.matching, one) {
            (FieldType::Ifname, ..) => Part::Ifname(&name),
            (FieldType::InetProto, ..) => Part::Proto(if one > 4 { 6 } else { 17 }),
            (FieldType::Ipv4Addr, Matching::Ranges, 0..5) => Part::IpRange(v4(one), v4(255)),
            (FieldType::Ipv4Addr, ..) => Part::Ip(v4(one)),
            (FieldType::Ipv6Addr, Matching::Ranges, 0..5) => {
                Part::IpRange(v6(one.into()), v6(u16::MAX))
            }
            (FieldType::Ipv6Addr, ..) => Part::Ip(v6(one.into())),
            (FieldType::InetService, Matching::Ranges, 3..8) => Part::Ports(port, port + 900),
            (FieldType::InetService, ..) => Part::Port(port + u16::from(one)),
        })
        .collect();
    match of.matching {
        Matching::Exact => Key::exact(&parts),
        Matching::Ranges => Key::range(&parts),
    }
}

fn verdict_of(seed: u8, chains: &[&str]) -> Verdict {
    match (seed % 5, chains) {
        (3 | 4, [_, ..]) => Verdict::goto(chains[usize::from(seed) % chains.len()]),
        (0, _) => Verdict::Drop,
        (1, _) => Verdict::Accept,
        _ => Verdict::Return,
    }
}

#[derive(Debug, Clone)]
struct Seed {
    matches: Vec<Statement>,
    lookup: Option<(Index, bool)>,
    end: u8,
    comment: Option<String>,
}

fn any_seed() -> impl Strategy<Value = Seed> {
    let matches = proptest::collection::vec(any_match(), 0..3);
    let lookup = proptest::option::of(any::<(Index, bool)>());
    let comment = proptest::option::of("[ -~é]{0,140}");
    (matches, lookup, any::<u8>(), comment).prop_map(|(matches, lookup, end, comment)| Seed {
        matches,
        lookup,
        end,
        comment,
    })
}

fn any_match() -> impl Strategy<Value = Statement> {
    let block = |text: &str| text.parse().expect("a block");
    let test = prop_oneof![
        "(oci[0-9a-f]{0,11}|eth[0-9]|oci\\*|o\\*)".prop_map(|name| Test::Iifname(name.into())),
        Just(Test::Oifname("oci*".into())),
        Just(Test::Nfproto(Family::Ipv6)),
        any::<u8>().prop_map(Test::L4proto),
        (any::<[u8; 4]>(), 1..=32u8).prop_map(|(ip, len)| Test::Saddr(
            ipnet::Ipv4Net::new(ip.into(), len).expect("a length in range").trunc().into()
        )),
        (any::<[u8; 16]>(), 1..=128u8).prop_map(|(ip, len)| Test::Daddr(
            ipnet::Ipv6Net::new(ip.into(), len).expect("a length in range").trunc().into()
        )),
        Just(Test::Daddr(block("10.0.0.0/8"))),
        any::<u16>().prop_map(Test::Sport),
        any::<u16>().prop_map(Test::Dport),
        any::<u8>().prop_map(Test::IcmpType),
        any::<u8>().prop_map(Test::Icmpv6Type),
        Just(Test::FibDaddrType(AddressType::Local)),
    ];
    let masks = prop_oneof![
        Just(is(Test::CtState(CtState::ESTABLISHED.or(CtState::RELATED)))),
        Just(is_not(Test::CtState(CtState::INVALID))),
        Just(is(Test::CtStatus(CtStatus::DNAT))),
    ];
    prop_oneof![
        8 => (test, any::<bool>()).prop_map(|(test, yes)| if yes { is(test) } else { is_not(test) }),
        2 => masks,
        1 => Just(counter()),
        1 => "[a-z ]{1,20}".prop_map(|prefix| Statement::Log { prefix: prefix.into() }),
    ]
}

impl Seed {
    fn rule(&self, chains: &[&str], sets: &[(&str, SetType)], kind: SetKind) -> Rule {
        let mut statements = Vec::new();
        let mut known = (None, false);
        for statement in &self.matches {
            if agrees(statement, &mut known) {
                statements.push(statement.clone());
            }
        }
        if let Some((at, yes)) = &self.lookup
            && !sets.is_empty()
        {
            let (name, of) = at.get(sets);
            let key: Vec<Field> = of.key.fields().map(field).collect();
            let family = key.iter().find_map(|field| field.family());
            let agrees = known.0.is_none() || family.is_none() || known.0 == family;
            match of.kind {
                _ if !agrees => {}
                SetKind::Members if *yes => statements.push(in_set(key, *name)),
                SetKind::Members => statements.push(not_in(key, *name)),
                SetKind::Verdicts if kind == SetKind::Verdicts => statements.push(vmap(key, *name)),
                SetKind::Verdicts | SetKind::Foreign => {}
            }
        }
        match self.end % 4 {
            0 => statements.push(counter()),
            1 => statements.push(Statement::Verdict(verdict_of(self.end / 4, chains))),
            2 => statements.extend([counter(), drop()]),
            _ if chains.is_empty() => statements.push(accept()),
            _ => statements.push(jump(chains[usize::from(self.end) % chains.len()])),
        }
        let rule = Rule::new(statements);
        self.comment.iter().fold(rule, |rule, text| rule.comment(text))
    }
}

/// Whether the packet can have this property besides those known: nft refuses contradictions. One test of
/// the transport protocol is enough.
fn agrees(statement: &Statement, known: &mut (Option<Family>, bool)) -> bool {
    let Statement::Match(_, test) = statement else { return true };
    let (family, transport) = match test {
        Test::Nfproto(family) => (Some(*family), false),
        Test::Saddr(net) | Test::Daddr(net) => {
            (Some(if net.addr().is_ipv4() { Family::Ipv4 } else { Family::Ipv6 }), false)
        }
        Test::IcmpType(_) => (Some(Family::Ipv4), true),
        Test::Icmpv6Type(_) => (Some(Family::Ipv6), true),
        Test::L4proto(_) | Test::Sport(_) | Test::Dport(_) => (None, true),
        Test::Iifname(_)
        | Test::Oifname(_)
        | Test::CtState(_)
        | Test::CtStatus(_)
        | Test::FibDaddrType(_)
        | Test::ReversePath => (None, false),
    };
    let agrees =
        (family.is_none() || known.0.is_none() || known.0 == family) && !(transport && known.1);
    if agrees {
        *known = (known.0.or(family), known.1 || transport);
    }
    agrees
}

fn field(of: FieldType) -> Field {
    match of {
        FieldType::Ifname => Field::Iifname,
        FieldType::Ipv4Addr => Field::IpSaddr,
        FieldType::Ipv6Addr => Field::Ip6Daddr,
        FieldType::InetProto => Field::L4proto,
        FieldType::InetService => Field::ThDport,
    }
}
