//! Long-lived graceful restart (RFC 9494).

use std::time::Duration;

use super::teller::{self, Teller};
use super::*;
use crate::speaker::{PeerRestart, Start, Verdict};
use crate::wire::iana::community::{LLGR_STALE, NO_LLGR};
use crate::wire::{Community, Origin};

const RESTART: Duration = Duration::from_secs(20);
const LONG: Duration = Duration::from_secs(600);

/// A node (1) between one that goes away (0) and two that are told of it: 2 knows what long-lived
/// stale means, 3 does not. All but the first have a second way to nothing.
fn row() -> Vec<Config> {
    let mut configs = configs(&[65001, 65002, 65003, 65004], &[(0, 1), (1, 2), (1, 3)]);
    for config in &mut configs[..3] {
        for peer in config.peers.values_mut() {
            let stale = Duration::from_secs(60);
            peer.graceful_restart = PeerRestart::Enabled { time: RESTART, stale };
            peer.long_lived = Some(LONG);
        }
    }
    configs
}

fn has(sim: &Simulation, node: usize, origin: usize) -> bool {
    routes(sim, node).contains_key(&own(origin).to_string())
}

fn communities(sim: &Simulation, node: usize, origin: usize) -> Vec<Community> {
    let route = sim.node(node).speaker.route(own(origin)).unwrap();
    route.paths[0].attributes.communities.clone()
}

/// The first node is gone, and its restart time is over.
fn away(configs: Vec<Config>) -> Simulation {
    let mut sim = network(1, configs);
    assert!(has(&sim, 3, 0));
    sim.cut(0, 1);
    sim.silence(0, 1);
    sim.run_for(RESTART - Duration::from_secs(1));
    assert_eq!(communities(&sim, 1, 0), []);
    sim.run_for(Duration::from_secs(2));
    sim
}

#[test]
fn stale_paths_are_kept_marked_and_told_only_to_those_who_know() {
    let mut sim = away(row());
    assert!(has(&sim, 1, 0), "still used");
    assert_eq!(communities(&sim, 1, 0), [Community(LLGR_STALE)]);
    assert_eq!(communities(&sim, 2, 0), [Community(LLGR_STALE)]);
    assert!(!has(&sim, 3, 0), "a peer without the capability would take it for a good path");
    sim.run_for(LONG);
    assert!(!has(&sim, 1, 0) && !has(&sim, 2, 0), "not for ever");
}

#[test]
fn a_peer_that_comes_back_in_time_is_as_good_as_before() {
    let mut sim = away(row());
    let before = routes(&sim, 1);
    sim.heal(0, 1);
    sim.run_until_quiet();
    assert_eq!(state(&sim, 1, 0), State::Established);
    assert_eq!(communities(&sim, 1, 0), []);
    assert!(has(&sim, 3, 0));
    assert_eq!(routes(&sim, 1), before, "the way of packets never changed");
    check_adjacent(&sim, 4);
    sim.run_for(LONG + LONG);
    assert!(has(&sim, 1, 0), "the old deadline is forgotten");
}

#[test]
fn a_peer_that_lost_its_forwarding_is_forgotten_when_it_is_back() {
    let configs = row();
    let mut sim = away(configs.clone());
    sim.heal(0, 1);
    let mut empty = configs[0].clone();
    empty.originated.clear();
    sim.restart(0, empty, Start::Cold);
    sim.run_until_quiet();
    assert!(!has(&sim, 1, 0));
}

#[test]
fn any_other_path_is_better_than_a_long_lived_stale_one() {
    let mut configs = row();
    configs[2].originated.insert(own(0), Originated::default());
    // By local preference the first would win.
    use crate::rib::filter::{Action, Operation, Rule};
    let prefer = Action::Accept(vec![Operation::SetLocalPref(500)]);
    configs[1].peers.get_mut(&name(0)).unwrap().import.rules.push(Rule::any(prefer));
    let sim = away(configs);
    let route = sim.node(1).speaker.route(own(0)).unwrap();
    assert_eq!(route.paths[0].peer, Some(name(2)));
    let Verdict::Lost(step) = route.paths[1].verdict else { panic!("{:?}", route.paths[1]) };
    assert_eq!(step.to_string(), "not long-lived stale");
}

#[test]
fn what_must_not_be_kept_goes_with_the_restart_time() {
    let mut configs = row();
    let keep_not = Originated { communities: vec![Community(NO_LLGR)], ..Originated::default() };
    configs[0].originated.insert(own(0), keep_not);
    configs[0].originated.insert(own(90), Originated::default());
    let mut sim = network(1, configs);
    sim.cut(0, 1);
    sim.silence(0, 1);
    sim.run_for(RESTART + Duration::from_secs(1));
    assert!(!has(&sim, 1, 0));
    assert!(has(&sim, 1, 90));
}

#[test]
fn a_filter_that_changes_meanwhile_judges_stale_paths_as_stale() {
    let mut configs = row();
    let mut sim = away(configs.clone());
    use crate::rib::filter::{Action, Operation, Rule};
    let mark = Action::Accept(vec![Operation::SetMed(7)]);
    configs[1].peers.get_mut(&name(0)).unwrap().import.rules.push(Rule::any(mark));
    sim.with(1, |speaker, now| speaker.configure(now, configs[1].clone()));
    assert_eq!(communities(&sim, 1, 0), [Community(LLGR_STALE)]);
    let route = sim.node(1).speaker.route(own(0)).unwrap();
    assert_eq!(route.paths[0].attributes.med, Some(7));
}

/// Generations of paths are counted modulo 256.
#[test]
fn a_peer_that_flaps_on_does_not_leave_paths_for_ever() {
    for (flaps, left) in [(10, 1), (20, 0), (140, 0)] {
        let mut teller = Teller::new();
        teller.tell(1..2, Origin::Igp);
        teller.lose();
        teller.wait(Duration::from_secs(121));
        for _ in 0..flaps {
            teller.connect_again();
            teller.lose();
        }
        teller.wait(Duration::ZERO);
        assert_eq!(teller.paths(), left, "after {flaps} visits without an End-of-RIB");
        teller.wait(teller::LONG);
        assert_eq!(teller.paths(), 0);
    }
}

/// RFC 9494 §4.2: the time that runs is neither stopped nor begun anew before the End-of-RIB.
#[test]
fn a_peer_that_comes_and_goes_keeps_its_stale_paths_for_as_long_as_they_had() {
    let configs = row();
    let mut sim = away(configs.clone());
    sim.run_for(LONG / 2);
    // It is back, but does not get as far as its routes.
    sim.heal(0, 1);
    while state(&sim, 1, 0) != State::Established {
        sim.run_for(Duration::from_micros(100));
    }
    assert_eq!(communities(&sim, 1, 0), [Community(LLGR_STALE)]);
    sim.cut(0, 1);
    sim.silence(0, 1);
    sim.run_for(LONG / 4);
    assert!(has(&sim, 1, 0), "kept through the second loss");
    sim.run_for(LONG / 2);
    assert!(!has(&sim, 1, 0), "but not for longer than it had");
}
