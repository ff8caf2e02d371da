//! Route refresh, plain and enhanced.

use std::num::NonZeroU8;
use std::time::Duration;

use super::*;
use crate::speaker::{Asked, MessageCounts, NotAsked, Receive, Speaker};

fn counts(sim: &Simulation, node: usize) -> (MessageCounts, MessageCounts) {
    let peer = &sim.node(node).speaker.peers(sim.now())[0];
    (peer.sent, peer.received)
}

fn stale(sim: &Simulation, node: usize) -> u64 {
    let peers = sim.node(node).speaker.peers(sim.now());
    peers[0].families.iter().map(|family| family.stale).sum()
}

fn pair() -> Vec<Config> {
    configs(&[65001, 65002], &[(0, 1)])
}

#[test]
fn a_peer_that_is_asked_tells_everything_again_between_two_marks() {
    let mut configs = pair();
    configs[1].originated.insert(own(80), Originated::default());
    let mut sim = network(1, configs);
    let events = sim.node(0).route_events;
    let (_, before) = counts(&sim, 0);
    let asked = sim.with(0, |speaker, now| speaker.ask_again(now, &name(1), FamilySet::ALL));
    assert_eq!(asked, Ok(Asked { families: FamilySet::ALL, enhanced: true }));
    sim.run_for(Duration::from_secs(1));
    let (sent, received) = counts(&sim, 0);
    assert_eq!(sent.route_refresh, 2, "one for each family");
    assert_eq!(received.route_refresh - before.route_refresh, 4, "a beginning and an end for each");
    assert_eq!(received.update - before.update, 1, "both prefixes in one message");
    assert_eq!((sim.node(0).route_events, stale(&sim, 0)), (events, 0), "nothing changed");
    assert_eq!(routes(&sim, 0).len(), 2);
    check_adjacent(&sim, 2);
}

#[test]
fn who_cannot_be_asked_is_told_with_the_reason() {
    let mut configs = pair();
    let families = [Family::Ipv6].into_iter().collect();
    for (node, other) in [(0, 1), (1, 0)] {
        configs[node].peers.get_mut(&name(other)).unwrap().families = families;
    }
    let mut sim = network(1, configs.clone());
    let only = |family: Family| [family].into_iter().collect::<FamilySet>();
    let ask = |sim: &mut Simulation, peer: &PeerName, families| {
        sim.with(0, |speaker, now| speaker.ask_again(now, peer, families))
    };
    let peer = name(1);
    let asked = ask(&mut sim, &peer, FamilySet::ALL).unwrap();
    assert_eq!(asked.families, only(Family::Ipv6), "what the session carries");
    let refused = ask(&mut sim, &peer, only(Family::Ipv4)).unwrap_err();
    assert_eq!(refused, NotAsked::NotSpoken(peer.clone(), only(Family::Ipv4)));
    assert_eq!(refused.to_string(), format!("the session with {peer} does not carry ipv4-unicast"));
    let stranger = PeerName::from("nobody");
    let refused = ask(&mut sim, &stranger, FamilySet::ALL).unwrap_err();
    assert_eq!(refused, NotAsked::Unknown(stranger));
    configs[0].peers.get_mut(&peer).unwrap().families = FamilySet::ALL;
    sim.with(0, |speaker, now| speaker.configure(now, configs[0].clone()));
    let refused = ask(&mut sim, &peer, FamilySet::ALL).unwrap_err();
    assert!(matches!(refused, NotAsked::NotEstablished(..)), "{refused}");
}

/// Until the answer is on its way, what was told counts as told.
#[test]
fn what_is_to_be_told_again_is_shown_as_it_was_told() {
    for send in [None, NonZeroU8::new(4)] {
        let mut configs = pair();
        configs[0].peers.get_mut(&name(1)).unwrap().add_path.send = send;
        configs[1].peers.get_mut(&name(0)).unwrap().add_path.receive = Receive::Several;
        let mut sim = network(1, configs);
        let told = |sim: &Simulation| sim.node(0).speaker.advertised(&name(1), Family::Ipv4);
        let before = told(&sim);
        assert_eq!(before.len(), 1);
        sim.block(0, 1);
        sim.with(1, |speaker, now| speaker.ask_again(now, &name(0), FamilySet::ALL)).unwrap();
        sim.run_for(Duration::from_secs(1));
        assert_eq!(told(&sim), before);
        // And what is gone meanwhile is withdrawn.
        sim.with(0, |speaker, now| speaker.withdraw(now, own(0)));
        sim.unblock();
        sim.run_until_quiet();
        assert!(told(&sim).is_empty() && routes(&sim, 1).is_empty());
    }
}

/// Whoever asks without reading costs neither memory nor time: one answer more than was begun.
#[test]
fn a_peer_that_asks_without_end_is_answered_once_more() {
    let mut sim = network(1, pair());
    let (_, before) = counts(&sim, 1);
    sim.block(0, 1);
    for _ in 0..1000 {
        sim.with(1, |speaker, now| speaker.ask_again(now, &name(0), FamilySet::ALL)).unwrap();
    }
    sim.run_for(Duration::from_secs(1));
    sim.unblock();
    sim.run_for(Duration::from_secs(1));
    let (_, after) = counts(&sim, 1);
    let marks = after.route_refresh - before.route_refresh;
    assert_eq!(marks, 6, "the answer that had begun, and one more for each family");
    assert_eq!((after.update - before.update, stale(&sim, 1)), (2, 0));
    check_adjacent(&sim, 2);
}

/// A path that the peer's table has lost without a withdrawal is found out by the marks.
#[test]
fn what_is_not_told_again_is_gone_at_the_end() {
    use crate::speaker::Input;
    use crate::wire::{Refresh, RouteRefresh};
    let mut sim = network(1, pair());
    let conn = sim.node(0).speaker.connection(&name(1)).unwrap();
    let mark = |refresh| {
        let mut bytes = Vec::new();
        RouteRefresh { family: Family::Ipv4.into(), refresh }.emit(&mut bytes);
        bytes
    };
    let hear = |speaker: &mut Speaker, now, bytes: &[u8]| {
        speaker.handle(now, Input::Received { conn, bytes });
    };
    sim.with(0, |speaker, now| hear(speaker, now, &mark(Refresh::EndOfRoutes)));
    assert_eq!(routes(&sim, 0).len(), 1, "an end without a beginning means nothing");
    sim.with(0, |speaker, now| hear(speaker, now, &mark(Refresh::BeginOfRoutes)));
    assert_eq!((routes(&sim, 0).len(), stale(&sim, 0)), (1, 1), "used until the end is known");
    sim.with(0, |speaker, now| hear(speaker, now, &mark(Refresh::EndOfRoutes)));
    sim.run_for(Duration::from_secs(1));
    assert!(routes(&sim, 0).is_empty());
    assert_eq!(state(&sim, 0, 1), State::Established);
}

/// A walk over the table for each pair of marks is work that others' dead routes would wait behind.
#[test]
fn marks_without_end_cost_a_bounded_number_of_walks() {
    use crate::speaker::Input;
    use crate::wire::{Refresh, RouteRefresh};
    let mut sim = network(1, configs(&[65001, 65002, 65003], &[(0, 1), (0, 2)]));
    let conn = sim.node(0).speaker.connection(&name(1)).unwrap();
    let mut marks = Vec::new();
    for refresh in [Refresh::BeginOfRoutes, Refresh::EndOfRoutes].repeat(1000) {
        RouteRefresh { family: Family::Ipv4.into(), refresh }.emit(&mut marks);
    }
    let slices = sim.with(0, |speaker, now| {
        speaker.handle(now, Input::Received { conn, bytes: &marks });
        let due = |speaker: &Speaker| speaker.poll_timeout().is_some_and(|at| at <= now);
        let mut slices = 0;
        while due(speaker) {
            speaker.handle_timeout(now);
            slices += 1;
        }
        slices
    });
    assert!(slices < 20, "{slices}");
    sim.run_for(Duration::from_secs(1));
    let peers = sim.node(0).speaker.peers(sim.now());
    let flooding = peers.iter().find(|peer| peer.name == name(1)).unwrap();
    assert!(flooding.faults > 900 && flooding.state == State::Established, "{flooding:?}");
    assert_eq!(
        routes(&sim, 0).len(),
        1,
        "what was not told again is gone, the other peer's is not"
    );
}

#[test]
fn a_beginning_without_an_end_is_not_believed_for_ever() {
    use crate::speaker::Input;
    use crate::wire::{Refresh, RouteRefresh};
    let mut sim = network(1, pair());
    let conn = sim.node(0).speaker.connection(&name(1)).unwrap();
    let mut bytes = Vec::new();
    RouteRefresh { family: Family::Ipv4.into(), refresh: Refresh::BeginOfRoutes }.emit(&mut bytes);
    sim.with(0, |speaker, now| speaker.handle(now, Input::Received { conn, bytes: &bytes }));
    sim.run_for(Duration::from_secs(350));
    assert_eq!(routes(&sim, 0).len(), 1);
    sim.run_for(Duration::from_secs(20));
    assert!(routes(&sim, 0).is_empty());
}

/// A session that ends in the middle of a refresh keeps both halves for a graceful restart.
#[test]
fn a_restart_in_the_middle_of_a_refresh_loses_nothing() {
    use crate::speaker::{Input, Start};
    use crate::wire::{Refresh, RouteRefresh};
    let configs = pair();
    let mut sim = network(1, configs.clone());
    let conn = sim.node(0).speaker.connection(&name(1)).unwrap();
    let mut bytes = Vec::new();
    RouteRefresh { family: Family::Ipv4.into(), refresh: Refresh::BeginOfRoutes }.emit(&mut bytes);
    sim.with(0, |speaker, now| speaker.handle(now, Input::Received { conn, bytes: &bytes }));
    let events = sim.node(0).route_events;
    sim.restart(1, configs[1].clone(), Start::Restarting);
    sim.run_until_quiet();
    assert_eq!((sim.node(0).route_events, stale(&sim, 0)), (events, 0));
    assert_eq!(routes(&sim, 0).len(), 1);
}
