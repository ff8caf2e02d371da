//! Export filters whose rules take part only while the table has, or has not, a route to something.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use super::*;
use crate::rib::filter::{Action, Condition, MatchOperator, Otherwise, PrefixMatch, Rule};
use crate::speaker::{Chosen, Input, Speaker, Specifics};
use crate::wire::{Refresh, RouteRefresh};

mod random;
mod walks;

/// The speaker in question, the router upstream, and two peers.
const NODE: usize = 0;
const UPSTREAM: usize = 1;
const READERS: [usize; 2] = [2, 3];

const DEFAULT: &str = "0.0.0.0/0";

fn star() -> Vec<Config> {
    configs(&[65000, 65001, 65002, 65003], &[(0, 1), (0, 2), (0, 3)])
}

fn set(prefixes: &[&str]) -> BTreeSet<Prefix> {
    prefixes.iter().map(|text| prefix(text)).collect()
}

fn condition(any_of: &[&str], none_of: &[&str]) -> Option<Arc<Condition>> {
    Some(Arc::new(Condition { any_of: set(any_of), none_of: set(none_of) }))
}

fn exactly(prefix: Prefix, action: Action) -> Rule {
    let prefix = PrefixMatch { cidr: prefix, operator: MatchOperator::Equal, lengths: None };
    Rule { prefix: Some(prefix), ..Rule::any(action) }
}

/// Tells the node's own network under a condition, and nothing else.
fn own_network(condition: Option<Arc<Condition>>) -> Filter {
    let accept = exactly(own(NODE), Action::Accept(Vec::new()));
    Filter { rules: vec![Rule { condition, ..accept }], otherwise: Otherwise::Reject }
}

fn exports(configs: &mut [Config], reader: usize, filter: Filter) {
    configs[NODE].peers.get_mut(&name(reader)).unwrap().export = filter;
}

fn originate(sim: &mut Simulation, node: usize, text: &str) {
    let what = prefix(text);
    sim.with(node, |speaker, now| speaker.originate(now, what, &Originated::default()));
    sim.run_until_quiet();
}

fn withdraw(sim: &mut Simulation, node: usize, text: &str) {
    sim.with(node, |speaker, now| speaker.withdraw(now, prefix(text)));
    sim.run_until_quiet();
}

/// Whether a reader has the node's own network.
fn has_network(sim: &Simulation, reader: usize) -> bool {
    routes(sim, reader).contains_key(&own(NODE).to_string())
}

/// UPDATEs that the node has sent to a reader.
fn updates(sim: &Simulation, reader: usize) -> u64 {
    let peers = sim.node(NODE).speaker.peers(sim.now());
    peers.iter().find(|peer| peer.name == name(reader)).unwrap().sent.update
}

fn flaps(sim: &Simulation) -> u64 {
    (0..4).flat_map(|n| sim.node(n).speaker.peers(sim.now())).map(|peer| peer.flaps).sum()
}

/// Lets the node hear that a peer asks for all its IPv4 routes, if there is a session.
fn ask_again(node: &mut Speaker, now: Instant, peer: usize) {
    let Some(conn) = node.connection(&name(peer)) else { return };
    let request = RouteRefresh { family: Family::Ipv4.into(), refresh: Refresh::Request };
    let mut bytes = Vec::new();
    request.emit(&mut bytes);
    node.handle(now, Input::Received { conn, bytes: &bytes });
}

/// Whether the conditions of a reader's filter hold, as an operator sees it.
fn holding(sim: &Simulation, reader: usize) -> Vec<bool> {
    let peers = sim.node(NODE).speaker.peers(sim.now());
    let peer = peers.iter().find(|peer| peer.name == name(reader)).unwrap();
    peer.conditions.iter().map(|(_, holds)| *holds).collect()
}

#[test]
fn a_network_is_told_only_while_there_is_a_default_route() {
    let mut configs = star();
    exports(&mut configs, READERS[0], own_network(condition(&[DEFAULT], &[])));
    exports(&mut configs, READERS[1], own_network(None));
    let mut sim = network(1, configs);
    let told = |sim: &Simulation| READERS.map(|reader| has_network(sim, reader));
    assert_eq!((told(&sim), holding(&sim, READERS[0])), ([false, true], vec![false]));
    let before = READERS.map(|reader| updates(&sim, reader));
    for round in 1..=3 {
        originate(&mut sim, UPSTREAM, DEFAULT);
        assert_eq!((told(&sim), holding(&sim, READERS[0])), ([true, true], vec![true]));
        withdraw(&mut sim, UPSTREAM, DEFAULT);
        assert_eq!(told(&sim), [false, true]);
        let sent = READERS.map(|reader| updates(&sim, reader));
        assert_eq!(sent, [before[0] + 2 * round, before[1]], "what differs, and to whom");
    }
    // A host in it is not the default route itself.
    originate(&mut sim, UPSTREAM, "203.0.113.1/32");
    assert_eq!(told(&sim), [false, true]);
    // One of our own is as good as one that was heard.
    originate(&mut sim, NODE, DEFAULT);
    assert_eq!(told(&sim), [true, true]);
    assert_eq!((flaps(&sim), holding(&sim, READERS[1])), (0, vec![]));
    check_adjacent(&sim, 4);
}

#[test]
fn a_network_is_told_unless_one_of_some_prefixes_is_there() {
    let mut configs = star();
    let unless = condition(&[], &["198.51.100.0/24", "2001:db8::/32"]);
    exports(&mut configs, READERS[0], own_network(unless));
    let mut sim = network(1, configs);
    assert!(has_network(&sim, READERS[0]));
    originate(&mut sim, UPSTREAM, "198.51.100.0/24");
    assert!(!has_network(&sim, READERS[0]));
    // Of the other family, and there too.
    originate(&mut sim, NODE, "2001:db8::/32");
    let before = updates(&sim, READERS[0]);
    withdraw(&mut sim, UPSTREAM, "198.51.100.0/24");
    assert!(!has_network(&sim, READERS[0]));
    assert_eq!(updates(&sim, READERS[0]), before);
    withdraw(&mut sim, NODE, "2001:db8::/32");
    assert!(has_network(&sim, READERS[0]));
    assert_eq!(flaps(&sim), 0);
}

#[test]
fn while_and_unless_together_must_both_hold() {
    let mut configs = star();
    let both = condition(&[DEFAULT, "198.51.100.0/24"], &["203.0.113.0/24"]);
    exports(&mut configs, READERS[0], own_network(both));
    let mut sim = network(1, configs);
    assert!(!has_network(&sim, READERS[0]));
    originate(&mut sim, UPSTREAM, "198.51.100.0/24");
    assert!(has_network(&sim, READERS[0]), "one of the two is enough");
    originate(&mut sim, NODE, "203.0.113.0/24");
    assert!(!has_network(&sim, READERS[0]));
    withdraw(&mut sim, UPSTREAM, "198.51.100.0/24");
    withdraw(&mut sim, NODE, "203.0.113.0/24");
    assert!(!has_network(&sim, READERS[0]));
    originate(&mut sim, UPSTREAM, DEFAULT);
    assert!(has_network(&sim, READERS[0]));
}

/// In a table of many slices, what a flip does not concern is not said again, and rules that are passed
/// over leave the word to the next.
#[test]
fn a_flip_says_what_differs_and_nothing_else() {
    let mut configs = star();
    for number in 100..140 {
        configs[UPSTREAM].originated.insert(own(number), Originated::default());
    }
    let hidden = |number| Rule {
        condition: condition(&[], &["198.51.100.0/24"]),
        ..exactly(own(number), Action::Reject)
    };
    let rules = vec![hidden(NODE), hidden(101), hidden(139)];
    exports(&mut configs, READERS[0], Filter { rules, otherwise: Otherwise::Accept });
    let mut sim = network(1, configs);
    let count = |sim: &Simulation, reader: usize| sim.node(reader).routes.len();
    let (few, all) = (count(&sim, READERS[0]), count(&sim, READERS[1]));
    assert_eq!(few + 3, all);
    let events = READERS.map(|reader| sim.node(reader).route_events);
    originate(&mut sim, UPSTREAM, "198.51.100.0/24");
    assert_eq!([count(&sim, READERS[0]), count(&sim, READERS[1])], [all + 1, all + 1]);
    withdraw(&mut sim, UPSTREAM, "198.51.100.0/24");
    assert_eq!([count(&sim, READERS[0]), count(&sim, READERS[1])], [few, all]);
    let told = [0, 1].map(|reader| sim.node(READERS[reader]).route_events - events[reader]);
    assert_eq!(told, [2 * 4, 2], "three prefixes and the one that was asked for, there and back");
    check_adjacent(&sim, 4);
}

#[test]
fn what_flips_there_and_back_at_once_is_not_told() {
    let mut configs = star();
    exports(&mut configs, READERS[0], own_network(condition(&[DEFAULT], &[])));
    let mut sim = network(1, configs);
    originate(&mut sim, UPSTREAM, DEFAULT);
    let before = updates(&sim, READERS[0]);
    sim.with(UPSTREAM, |speaker, now| {
        speaker.withdraw(now, prefix(DEFAULT));
        speaker.originate(now, prefix(DEFAULT), &Originated::default());
    });
    sim.run_until_quiet();
    // Another path to it is not another answer.
    originate(&mut sim, NODE, DEFAULT);
    withdraw(&mut sim, UPSTREAM, DEFAULT);
    assert_eq!(updates(&sim, READERS[0]), before);
    assert!(has_network(&sim, READERS[0]));
}

#[test]
fn a_condition_that_comes_or_goes_costs_no_session() {
    let mut configs = star();
    let mut sim = network(1, configs.clone());
    let filters = [
        (own_network(condition(&[DEFAULT], &[])), false),
        (own_network(condition(&[], &[DEFAULT])), true),
        (own_network(condition(&["192.168.1.0/24"], &[])), true),
        (own_network(condition(&[], &["192.168.1.0/24"])), false),
        (own_network(None), true),
    ];
    for (filter, told) in filters {
        exports(&mut configs, READERS[0], filter);
        sim.with(NODE, |speaker, now| speaker.configure(now, configs[NODE].clone()));
        sim.run_until_quiet();
        assert_eq!([has_network(&sim, READERS[0]), has_network(&sim, READERS[1])], [told, true]);
    }
    // A new condition and what flips it, at once.
    exports(&mut configs, READERS[0], own_network(condition(&[DEFAULT], &[])));
    configs[NODE].originated.insert(prefix(DEFAULT), Originated::default());
    sim.with(NODE, |speaker, now| speaker.configure(now, configs[NODE].clone()));
    sim.run_until_quiet();
    assert!(has_network(&sim, READERS[0]));
    assert_eq!(flaps(&sim), 0);
    check_adjacent(&sim, 4);
}

#[test]
fn peers_with_the_same_condition_share_a_group() {
    let groups = |conditions: [Option<Arc<Condition>>; 2]| {
        let mut configs = star();
        for (reader, condition) in READERS.into_iter().zip(conditions) {
            exports(&mut configs, reader, own_network(condition));
        }
        exports(&mut configs, UPSTREAM, Filter::reject_all());
        network(1, configs).node(NODE).speaker.groups()
    };
    let one = || condition(&[DEFAULT], &[]);
    assert_eq!(groups([one(), one()]), 2);
    assert_eq!(groups([one(), None]), 3);
    assert_eq!(groups([one(), condition(&[], &[DEFAULT])]), 3);
}

#[test]
fn an_aggregate_counts_while_it_is_formed() {
    let mut configs = star();
    configs[NODE].aggregates.insert(prefix("172.16.0.0/12"), Specifics::Told);
    configs[NODE].chosen = Chosen::Kept;
    exports(&mut configs, READERS[0], own_network(condition(&["172.16.0.0/12"], &[])));
    let mut sim = network(1, configs);
    assert!(!has_network(&sim, READERS[0]));
    originate(&mut sim, UPSTREAM, "172.16.5.0/24");
    assert!(has_network(&sim, READERS[0]));
    withdraw(&mut sim, UPSTREAM, "172.16.5.0/24");
    assert!(!has_network(&sim, READERS[0]));
}

/// On import nobody knows what holds: what accepts does not, what rejects does.
#[test]
fn a_condition_opens_nothing_on_import() {
    let mut configs = star();
    let from = |action, otherwise| Filter {
        rules: vec![Rule { condition: condition(&[], &[DEFAULT]), ..Rule::any(action) }],
        otherwise,
    };
    let node = &mut configs[NODE].peers;
    node.get_mut(&name(2)).unwrap().import = from(Action::Accept(Vec::new()), Otherwise::Reject);
    node.get_mut(&name(3)).unwrap().import = from(Action::Reject, Otherwise::Accept);
    let sim = network(1, configs);
    assert_eq!(routes(&sim, NODE).into_keys().collect::<Vec<_>>(), [own(1).to_string()]);
}
