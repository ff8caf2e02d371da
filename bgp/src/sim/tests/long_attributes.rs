//! Attributes that would grow beyond what an attribute can have, 65,535 octets.

use super::*;
use crate::rib::best::Ineligible;
use crate::rib::filter::{Action, AnyCommunity, Operation, Rule};
use crate::speaker::Verdict;
use crate::wire::{Community, LargeCommunity};

/// Each takes four octets, so 16,383 fit into COMMUNITIES.
fn communities(numbers: std::ops::Range<u32>) -> impl Iterator<Item = Community> {
    numbers.map(Community)
}

/// Node 0 originates a prefix with so many communities, and tells node 1.
fn pair(count: u32) -> Vec<Config> {
    let mut configs = configs(&[65001, 65002], &[(0, 1)]);
    let originated = configs[0].originated.get_mut(&own(0)).unwrap();
    originated.communities = communities(0..count).collect();
    configs
}

fn adding(numbers: std::ops::Range<u32>) -> Filter {
    let each = communities(numbers).map(AnyCommunity::Standard);
    let all = each.map(Operation::AddCommunity).collect();
    Filter { rules: vec![Rule::any(Action::Accept(all))], ..Filter::reject_all() }
}

/// What a node thinks of the prefix of node 0, if it has heard of it.
fn verdict(sim: &Simulation, node: usize) -> Option<Verdict> {
    let route = sim.node(node).speaker.route(own(0))?;
    Some(route.paths[0].verdict)
}

const TOO_LONG: Option<Verdict> = Some(Verdict::Ineligible(Ineligible::AttributeTooLong));

#[test]
fn a_path_that_import_makes_too_long_is_not_chosen() {
    for (added, expected) in [(100, Some(Verdict::Best)), (400, TOO_LONG)] {
        let mut configs = pair(16_000);
        configs[1].peers.get_mut(&name(0)).unwrap().import = adding(20_000..20_000 + added);
        let mut sim = network(1, configs);
        assert_eq!(verdict(&sim, 1), expected, "{added}");
        // The path was kept: another filter is all it needs.
        let mut config = pair(0).remove(1);
        config.peers.get_mut(&name(0)).unwrap().import = Filter::accept_all();
        sim.with(1, |speaker, now| speaker.configure(now, config));
        assert_eq!(verdict(&sim, 1), Some(Verdict::Best));
    }
}

/// RFC 8654 §4.
#[test]
fn a_path_that_export_makes_too_long_is_not_told() {
    for (added, expected) in [(100, Some(Verdict::Best)), (400, None)] {
        let mut configs = pair(16_000);
        configs[0].peers.get_mut(&name(1)).unwrap().export = adding(20_000..20_000 + added);
        let sim = network(1, configs);
        assert_eq!(state(&sim, 0, 1), State::Established);
        assert_eq!(verdict(&sim, 1), expected, "{added}");
    }
}

#[test]
fn a_prefix_of_ours_with_too_many_communities_is_not_told() {
    let sim = network(1, pair(16_384));
    assert_eq!((verdict(&sim, 0), verdict(&sim, 1)), (TOO_LONG, None));
}

/// A prefix that fits beside the attributes is told, though another of the same attributes is not.
#[test]
fn a_short_prefix_is_told_where_a_long_one_does_not_fit() {
    // 65,535 octets less those of header, inner lengths, ORIGIN, AS_PATH and NEXT_HOP, and the head
    // of LARGE_COMMUNITIES, are 65,488: room for its value of 65,484 and four octets of prefix.
    let large = |global| LargeCommunity { global, local1: 1, local2: 2 };
    let mut configs = pair(0);
    let originated =
        Originated { large_communities: (0..5457).map(large).collect(), ..Originated::default() };
    let mut all = Vec::new();
    for text in ["10.1.2.0/24", "10.1.2.128/25", "10.2.0.0/15", "10.1.2.192/26", "10.0.0.0/8"] {
        all.push(prefix(text));
        configs[0].originated.insert(prefix(text), originated.clone());
    }
    let sim = network(1, configs);
    let told = all.into_iter().filter(|prefix| sim.node(1).speaker.route(*prefix).is_some());
    let told: Vec<_> = told.map(|prefix| prefix.to_string()).collect();
    assert_eq!(told, ["10.1.2.0/24", "10.2.0.0/15", "10.0.0.0/8"]);
}
