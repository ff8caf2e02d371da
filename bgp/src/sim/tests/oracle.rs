//! The incremental speakers against a naive recomputation, after random changes.
//!
//! The oracle floods routes through the network until nothing changes, comparing paths by the text
//! of RFC 4271 §9.1.2.2. It shares no code with the table.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::speaker::Unreachable;
use crate::wire::tests::random::long_attributes;

const NODES: usize = 5;
const PREFIXES: usize = 6;

#[derive(Debug, Clone)]
enum Change {
    Originate { node: usize, prefix: usize, med: Option<u32> },
    Withdraw { node: usize, prefix: usize },
    Cut { a: usize, b: usize },
    Filter { node: usize, peer: usize, reject: Option<usize> },
    Unreachable { node: usize, hop: Option<usize> },
    Restart { node: usize },
    Block { from: usize, to: usize },
    Wait { millis: u64 },
}

fn change() -> impl Strategy<Value = Change> {
    let node = 0..NODES;
    let prefix = 0..PREFIXES;
    prop_oneof![
        4 => (node.clone(), prefix.clone(), prop::option::of(0u32..3))
            .prop_map(|(node, prefix, med)| Change::Originate { node, prefix, med }),
        3 => (node.clone(), prefix.clone())
            .prop_map(|(node, prefix)| Change::Withdraw { node, prefix }),
        1 => (node.clone(), node.clone()).prop_map(|(a, b)| Change::Cut { a, b }),
        1 => (node.clone(), prop::option::of(node.clone()))
            .prop_map(|(node, hop)| Change::Unreachable { node, hop }),
        1 => node.clone().prop_map(|node| Change::Restart { node }),
        1 => (node.clone(), node.clone()).prop_map(|(from, to)| Change::Block { from, to }),
        1 => (node.clone(), node, prop::option::of(prefix))
            .prop_map(|(node, peer, reject)| Change::Filter { node, peer, reject }),
        2 => (0u64..30).prop_map(|millis| Change::Wait { millis }),
    ]
}

/// A network of several ASes, one of them with two nodes in it, and cycles.
const ASES: [u32; NODES] = [65001, 65002, 65002, 65003, 65004];
const LINKS: [(usize, usize); 7] = [(0, 1), (0, 2), (1, 2), (1, 3), (2, 3), (3, 4), (0, 4)];

fn shared(number: usize) -> Prefix {
    prefix(&format!("172.16.{number}.0/24"))
}

fn reject(number: usize) -> Filter {
    use crate::rib::filter::{Action, MatchOperator, PrefixMatch, Rule};
    let operator = MatchOperator::Equal;
    let prefix = PrefixMatch { cidr: shared(number), operator, lengths: None };
    Filter {
        rules: vec![Rule { prefix: Some(prefix), ..Rule::any(Action::Reject) }],
        ..Filter::accept_all()
    }
}

/// What the network should come to, worked out from the configurations.
mod naive {
    use super::*;

    #[derive(Debug, Clone, PartialEq, Eq)]
    pub(super) struct Path {
        pub(super) from: usize,
        pub(super) as_path: Vec<u32>,
        next_hop: usize,
        med: Option<u32>,
        internal: bool,
    }

    /// Per node, its best path to one prefix; `from` itself where it originates.
    pub(super) fn converge(
        origins: &BTreeMap<usize, Option<u32>>,
        allowed: impl Fn(usize, usize) -> bool,
        reaches: impl Fn(usize, usize) -> bool,
    ) -> Vec<Option<Path>> {
        let mut best: Vec<Option<Path>> = vec![None; NODES];
        for _ in 0..50 {
            let heard = |node: usize| {
                let told = LINKS.iter().flat_map(|(a, b)| [(*a, *b), (*b, *a)]);
                told.filter(|(_, to)| *to == node)
                    .filter_map(|(from, to)| tell(best[from].as_ref()?, from, to, &allowed))
                    .filter(|path| reaches(node, path.next_hop))
                    .collect::<Vec<_>>()
            };
            let next: Vec<_> = (0..NODES)
                .map(|node| match origins.get(&node) {
                    Some(med) => {
                        let (as_path, next_hop) = (vec![], node);
                        Some(Path { from: node, as_path, next_hop, med: *med, internal: false })
                    }
                    None => choose(heard(node)),
                })
                .collect();
            if next == best {
                break;
            }
            best = next;
        }
        best
    }

    fn tell(
        path: &Path,
        from: usize,
        to: usize,
        allowed: &impl Fn(usize, usize) -> bool,
    ) -> Option<Path> {
        let internal = ASES[from] == ASES[to];
        let local = path.from == from;
        if path.from == to || !allowed(from, to) || internal && path.internal {
            return None;
        }
        let mut as_path = path.as_path.clone();
        if !internal {
            as_path.insert(0, ASES[from]);
        }
        let looped = as_path.contains(&ASES[to]);
        let med = path.med.filter(|_| local || internal);
        let next_hop = if internal && !local { path.next_hop } else { from };
        (!looped).then_some(Path { from, as_path, next_hop, med, internal })
    }

    /// RFC 4271 §9.1.2.2, sentence by sentence.
    fn choose(mut paths: Vec<Path>) -> Option<Path> {
        let shortest = paths.iter().map(|path| path.as_path.len()).min()?;
        paths.retain(|path| path.as_path.len() == shortest); // (a)
        let all = paths.clone();
        paths.retain(|m| {
            // (c)
            !all.iter().any(|n| {
                n.as_path.first() == m.as_path.first() && n.med.unwrap_or(0) < m.med.unwrap_or(0)
            })
        });
        if paths.iter().any(|path| !path.internal) {
            paths.retain(|path| !path.internal); // (d)
        }
        paths.into_iter().min_by_key(|path| path.from) // (f): identifiers are in node order
    }
}

fn run(seed: u64, changes: &[Change]) {
    let mut configs = configs(&ASES, &LINKS);
    configs.iter_mut().for_each(|config| config.originated.clear());
    let mut sim = network(seed, configs.clone());
    let mut origins: Vec<BTreeMap<usize, Option<u32>>> = vec![BTreeMap::new(); PREFIXES];
    let mut rejects: BTreeMap<(usize, usize), usize> = BTreeMap::new();
    let mut lost: [Option<usize>; NODES] = [None; NODES];
    for change in changes {
        match change.clone() {
            Change::Originate { node, prefix, med } => {
                origins[prefix].insert(node, med);
                let originated = Originated { med, ..Originated::default() };
                configs[node].originated.insert(shared(prefix), originated.clone());
                sim.with(node, |speaker, now| speaker.originate(now, shared(prefix), &originated));
            }
            Change::Withdraw { node, prefix } => {
                origins[prefix].remove(&node);
                configs[node].originated.remove(&shared(prefix));
                sim.with(node, |speaker, now| speaker.withdraw(now, shared(prefix)));
            }
            Change::Cut { a, b } => sim.cut(a, b),
            Change::Filter { node, peer, reject: number } => {
                let Some(config) = configs[node].peers.get_mut(&name(peer)) else { continue };
                config.export = number.map_or(Filter::accept_all(), reject);
                match number {
                    Some(number) => rejects.insert((node, peer), number),
                    None => rejects.remove(&(node, peer)),
                };
                sim.with(node, |speaker, now| speaker.configure(now, configs[node].clone()));
            }
            Change::Unreachable { node, hop } => {
                lost[node] = hop;
                let next_hops = hop.map(address).into_iter().collect();
                let unreachable = Unreachable { next_hops, ..Unreachable::default() };
                sim.with(node, |speaker, now| speaker.set_unreachable(now, &unreachable));
            }
            Change::Restart { node } => {
                lost[node] = None;
                sim.restart(node, configs[node].clone(), crate::speaker::Start::Restarting);
            }
            Change::Block { from, to } => sim.block(from, to),
            Change::Wait { millis } => sim.run_for(Duration::from_millis(millis)),
        }
    }
    sim.unblock();
    sim.run_until_quiet();
    check_adjacent(&sim, NODES);
    for (number, origins) in origins.iter().enumerate() {
        let allowed = |from, to| rejects.get(&(from, to)) != Some(&number);
        let reaches = |node: usize, hop| lost[node] != Some(hop);
        let expected = naive::converge(origins, allowed, reaches);
        for (node, expected) in expected.into_iter().enumerate() {
            let route = sim.node(node).speaker.route(shared(number));
            let best = route.and_then(|route| {
                let best = route.paths.into_iter().next()?;
                let used = best.verdict == crate::speaker::Verdict::Best;
                used.then_some((best.peer, best.attributes.as_path))
            });
            let expected = expected.map(|path| {
                let text: Vec<_> = path.as_path.iter().map(u32::to_string).collect();
                ((path.from != node).then(|| name(path.from)), text.join(" "))
            });
            assert_eq!(best, expected, "node {node}, prefix {number}");
        }
    }
}

proptest! {
    #[test]
    fn speakers_come_to_what_a_naive_recomputation_says(
        seed in any::<u64>(),
        changes in prop::collection::vec(change(), 0..40),
    ) {
        run(seed, &changes);
    }

    #[test]
    fn no_bytes_bring_a_speaker_down(script in prop::collection::vec(any::<u8>(), 0..600)) {
        crate::sim::drive(&script);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A session comes up, old or new, with long messages or without; then come attributes that fill
    /// messages, which filters make longer still, or not.
    #[test]
    fn no_long_attribute_brings_a_speaker_down(
        adds in any::<bool>(),
        variant in any::<u8>(),
        updates in prop::collection::vec(long_attributes(), 1..4),
    ) {
        let mut script = vec![if adds { 18 } else { 0 }, 0, 2, 1, variant];
        for update in updates {
            script.extend([8, u8::try_from(update.len()).unwrap()]);
            script.extend(update);
        }
        crate::sim::drive(&script);
    }
}
