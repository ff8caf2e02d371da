//! Whatever happened, in whichever order: a peer holds exactly what its filter says now of what the node
//! has in its table.

use std::net::Ipv6Addr;
use std::num::NonZeroU8;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::rib::filter::Operation;
use crate::speaker::{AddPath, Receive, Start, Verdict};

const PEERS: std::ops::Range<usize> = 1..5;
/// The peer that takes several paths for a prefix.
const SEVERAL: usize = 4;
/// Fewer than peers, so that some share a group.
const FILTERS: usize = 3;
/// Enough for several slices in each family.
const PREFIXES: usize = 14;

#[derive(Debug, Clone)]
enum Change {
    /// What the node itself originates is changed in all of these at once, and so are filters of peers.
    Configure {
        toggled: Vec<usize>,
        filters: Vec<(usize, usize)>,
    },
    Originate {
        node: usize,
        prefix: usize,
    },
    Withdraw {
        node: usize,
        prefix: usize,
    },
    Cut {
        peer: usize,
    },
    Block {
        peer: usize,
    },
    Unblock,
    Refresh {
        peer: usize,
    },
    Restart,
    Wait {
        millis: u64,
    },
}

/// The second half is IPv6; conditions are about the first ones of each half.
fn number(number: usize) -> Prefix {
    match number.checked_sub(PREFIXES / 2) {
        None => prefix(&format!("172.16.{number}.0/24")),
        Some(number) => prefix(&format!("2001:db8:{number}::/48")),
    }
}

fn a_condition() -> impl Strategy<Value = Arc<Condition>> {
    let some = || {
        let of = vec![0, 1, 2, PREFIXES / 2, PREFIXES / 2 + 1];
        prop::sample::subsequence(of, 0..=2)
            .prop_map(|numbers| numbers.into_iter().map(number).collect())
    };
    (some(), some()).prop_map(|(any_of, none_of)| Arc::new(Condition { any_of, none_of }))
}

fn a_filter() -> impl Strategy<Value = Filter> {
    let action = prop_oneof![
        Just(Action::Reject),
        (1_u32..3).prop_map(|med| Action::Accept(vec![Operation::SetMed(med)])),
    ];
    let family = prop::option::weighted(0.3, prop::sample::select(Family::ALL.to_vec()));
    let of = prop::option::weighted(0.4, 0..PREFIXES);
    let rule = (of, family, prop::option::weighted(0.8, a_condition()), action).prop_map(
        |(of, family, condition, action)| {
            let rule = match of {
                Some(of) => exactly(number(of), action),
                None => Rule::any(action),
            };
            Rule { family, condition, ..rule }
        },
    );
    let otherwise =
        prop::sample::select(vec![Otherwise::Accept, Otherwise::AcceptOwn, Otherwise::Reject]);
    (prop::collection::vec(rule, 0..5), otherwise)
        .prop_map(|(rules, otherwise)| Filter { rules, otherwise })
}

fn a_change() -> impl Strategy<Value = Change> {
    let toggled = prop::collection::vec(0..PREFIXES, 0..4);
    let filters = prop::collection::vec((PEERS, 0..FILTERS), 0..3);
    prop_oneof![
        6 => (toggled, filters)
            .prop_map(|(toggled, filters)| Change::Configure { toggled, filters }),
        4 => (PEERS, 0..PREFIXES).prop_map(|(node, prefix)| Change::Originate { node, prefix }),
        3 => (PEERS, 0..PREFIXES).prop_map(|(node, prefix)| Change::Withdraw { node, prefix }),
        1 => PEERS.prop_map(|peer| Change::Cut { peer }),
        1 => PEERS.prop_map(|peer| Change::Block { peer }),
        1 => Just(Change::Unblock),
        2 => PEERS.prop_map(|peer| Change::Refresh { peer }),
        1 => Just(Change::Restart),
        4 => (0_u64..6).prop_map(|millis| Change::Wait { millis }),
    ]
}

/// What the node has in its table, by prefix: who told each path that may be chosen, the best first;
/// the node itself where nobody did.
type Table = BTreeMap<Prefix, Vec<Option<PeerName>>>;

fn table(sim: &Simulation) -> Table {
    let routes = Family::ALL.map(|family| sim.node(NODE).speaker.routes(family, 0, usize::MAX).0);
    let usable = routes.into_iter().flatten().map(|route| {
        let paths = route.paths.into_iter();
        let paths = paths.filter(|path| !matches!(path.verdict, Verdict::Ineligible(_)));
        (route.prefix, paths.map(|path| path.peer).collect::<Vec<_>>())
    });
    usable.filter(|(_, paths)| !paths.is_empty()).collect()
}

/// The MED with which a path passes, rule by rule; `None`: it does not.
fn decide(filter: &Filter, table: &Table, what: Prefix, is_own: bool) -> Option<Option<u32>> {
    let holds = |condition: &Condition| {
        let is_there = |prefix: &Prefix| table.contains_key(prefix);
        (condition.any_of.is_empty() || condition.any_of.iter().any(is_there))
            && !condition.none_of.iter().any(is_there)
    };
    let rule = filter.rules.iter().find(|rule| {
        rule.condition.as_deref().is_none_or(holds)
            && rule.family.is_none_or(|family| family == what.family())
            && rule.prefix.as_ref().is_none_or(|prefix| prefix.cidr == what)
    });
    match rule.map(|rule| &rule.action) {
        Some(Action::Reject) => None,
        Some(Action::Accept(operations)) => match operations[..] {
            [Operation::SetMed(med)] => Some(Some(med)),
            _ => unreachable!("all rules here set it"),
        },
        None => match filter.otherwise {
            Otherwise::Accept => Some(None),
            Otherwise::AcceptOwn => is_own.then_some(None),
            Otherwise::Reject => None,
        },
    }
}

type Told = Vec<(Prefix, Option<u32>)>;

/// What a peer ought to have been told.
fn expected(table: &Table, peer: usize, filter: &Filter) -> Told {
    let mut told = Told::new();
    for (prefix, paths) in table {
        let most = if peer == SEVERAL { paths.len() } else { 1 };
        let others = paths[..most].iter().filter(|from| from.as_ref() != Some(&name(peer)));
        told.extend(
            others.filter_map(|from| {
                Some((*prefix, decide(filter, table, *prefix, from.is_none())?))
            }),
        );
    }
    told.sort();
    told
}

/// What the peer has of it.
fn held(sim: &Simulation, peer: usize) -> Told {
    let routes = Family::ALL.map(|family| sim.node(peer).speaker.routes(family, 0, usize::MAX).0);
    let mut held = Told::new();
    for route in routes.into_iter().flatten() {
        let paths = route.paths.iter().filter(|path| path.peer == Some(name(NODE)));
        held.extend(paths.map(|path| (route.prefix, path.attributes.med)));
    }
    held.sort();
    held
}

fn star() -> Vec<Config> {
    let links: Vec<_> = PEERS.map(|peer| (NODE, peer)).collect();
    let mut configs = configs(&[65000, 65001, 65002, 65003, 65004], &links);
    for config in &mut configs {
        config.originated.clear();
        config.own_ipv6 = Some(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1));
    }
    let reader = configs[NODE].peers.get_mut(&name(SEVERAL)).unwrap();
    reader.add_path = AddPath { receive: Receive::One, send: NonZeroU8::new(8) };
    configs[SEVERAL].peers.get_mut(&name(NODE)).unwrap().add_path.receive = Receive::Several;
    configs
}

fn run(seed: u64, filters: &[Filter], changes: Vec<Change>) {
    let mut configs = star();
    for peer in PEERS {
        exports(&mut configs, peer, filters[peer % 2].clone());
    }
    let mut sim = network(seed, configs.clone());
    for change in changes {
        match change {
            Change::Configure { toggled, filters: given } => {
                let originated = &mut configs[NODE].originated;
                for prefix in toggled.into_iter().map(number) {
                    if originated.remove(&prefix).is_none() {
                        originated.insert(prefix, Originated::default());
                    }
                }
                for (peer, number) in given {
                    exports(&mut configs, peer, filters[number].clone());
                }
                sim.with(NODE, |speaker, now| speaker.configure(now, configs[NODE].clone()));
            }
            Change::Originate { node, prefix } => sim.with(node, |speaker, now| {
                speaker.originate(now, number(prefix), &Originated::default());
            }),
            Change::Withdraw { node, prefix } => {
                sim.with(node, |speaker, now| speaker.withdraw(now, number(prefix)));
            }
            Change::Cut { peer } => sim.cut(NODE, peer),
            Change::Block { peer } => sim.block(NODE, peer),
            Change::Unblock => sim.unblock(),
            Change::Refresh { peer } => {
                sim.with(NODE, |speaker, now| ask_again(speaker, now, peer));
            }
            Change::Restart => sim.restart(NODE, configs[NODE].clone(), Start::Restarting),
            Change::Wait { millis } => sim.run_for(Duration::from_millis(millis)),
        }
    }
    sim.unblock();
    sim.run_until_quiet();
    let table = table(&sim);
    for peer in PEERS {
        assert_eq!(state(&sim, NODE, peer), State::Established);
        let filter = &configs[NODE].peers[&name(peer)].export;
        assert_eq!(held(&sim, peer), expected(&table, peer, filter), "peer {peer}: {filter:#?}");
    }
}

proptest! {
    #[test]
    fn a_peer_holds_what_its_filter_says_now(
        seed in any::<u64>(),
        filters in prop::collection::vec(a_filter(), FILTERS),
        changes in prop::collection::vec(a_change(), 0..40),
    ) {
        run(seed, &filters, changes);
    }
}
