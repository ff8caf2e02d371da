use std::time::Duration;

use super::*;
use crate::speaker::{Password, PeerRange, PeerRestart, RemoteAs, Start};

/// A node (0) that restarts, and two routers.
fn rack() -> Vec<Config> {
    configs(&[65001, 65002, 65002], &[(0, 1), (0, 2)])
}

fn stale(sim: &Simulation, node: usize, peer: usize) -> u64 {
    let peers = sim.node(node).speaker.peers(sim.now());
    let peer = peers.into_iter().find(|each| each.name == name(peer)).unwrap();
    peer.families.iter().map(|family| family.stale).sum()
}

#[test]
fn a_restart_changes_no_route_on_either_side() {
    let configs = rack();
    let mut sim = network(1, configs.clone());
    let events = [0, 1, 2].map(|node| sim.node(node).route_events);
    sim.restart(0, configs[0].clone(), Start::Restarting);
    sim.run_for(Duration::from_millis(2));
    assert_eq!(stale(&sim, 1, 0), 1, "kept while the node is away");
    sim.run_until_quiet();
    assert_eq!(state(&sim, 0, 1), State::Established);
    assert_eq!(stale(&sim, 1, 0), 0);
    assert_eq!([1, 2].map(|node| sim.node(node).route_events), events[1..]);
    assert_eq!(sim.node(0).synced.len(), 2);
    assert_eq!(routes(&sim, 0).len(), 2);
    check_adjacent(&sim, 3);
}

#[test]
fn routes_that_do_not_come_back_go_at_end_of_rib() {
    let mut configs = rack();
    configs[0].originated.insert(own(60), Originated::default());
    let mut sim = network(1, configs.clone());
    assert!(routes(&sim, 1).contains_key(&own(60).to_string()));
    configs[0].originated.remove(&own(60));
    sim.restart(0, configs[0].clone(), Start::Restarting);
    sim.run_until_quiet();
    assert!(!routes(&sim, 1).contains_key(&own(60).to_string()));
    assert!(routes(&sim, 1).contains_key(&own(0).to_string()));
}

#[test]
fn a_peer_that_does_not_come_back_is_forgotten_after_the_restart_time() {
    let mut configs = rack();
    for config in &mut configs {
        for peer in config.peers.values_mut() {
            let (time, stale) = (Duration::from_secs(20), Duration::from_secs(60));
            peer.graceful_restart = PeerRestart::Enabled { time, stale };
        }
    }
    let mut sim = network(1, configs);
    sim.cut(0, 1);
    sim.silence(0, 1);
    sim.run_for(Duration::from_secs(19));
    assert_eq!(stale(&sim, 1, 0), 1);
    assert!(routes(&sim, 1).contains_key(&own(0).to_string()));
    sim.run_for(Duration::from_secs(2));
    assert!(!routes(&sim, 1).contains_key(&own(0).to_string()));
}

#[test]
fn a_cold_start_makes_the_peer_forget_at_once() {
    let mut configs = rack();
    let mut sim = network(1, configs.clone());
    configs[0].originated.clear();
    sim.restart(0, configs[0].clone(), Start::Cold);
    sim.run_until_quiet();
    assert!(!routes(&sim, 1).contains_key(&own(0).to_string()));
}

/// felix#1592: what a second restart finds stale already is not kept again.
#[test]
fn a_second_restart_in_a_row_drops_what_the_first_left() {
    let configs = rack();
    let mut sim = network(1, configs.clone());
    sim.restart(0, configs[0].clone(), Start::Restarting);
    // Back with a session, but gone before its first UPDATE has come.
    sim.run_for(Duration::from_millis(2));
    while state(&sim, 1, 0) != State::Established {
        sim.run_for(Duration::from_micros(100));
    }
    assert_eq!(stale(&sim, 1, 0), 1);
    sim.cut(0, 1);
    sim.silence(0, 1);
    sim.run_for(Duration::from_secs(1));
    assert!(!routes(&sim, 1).contains_key(&own(0).to_string()));
}

/// calico#7144, bird#115: a dead peer held up the first announcement for minutes.
#[test]
fn own_prefixes_are_told_at_once_and_a_dead_peer_is_not_waited_for() {
    let mut configs = rack();
    configs[0].peers.insert(name(9), peer(9, 65009));
    let mut sim = network(1, configs.clone());
    sim.restart(0, configs[0].clone(), Start::Restarting);
    configs[0].originated.insert(own(62), Originated::default());
    sim.with(0, |speaker, now| speaker.originate(now, own(62), &Originated::default()));
    sim.run_for(Duration::from_secs(9));
    assert!(routes(&sim, 1).contains_key(&own(62).to_string()), "own prefixes do not wait");
    assert!(sim.node(0).synced.is_empty(), "the third peer may still answer");
    sim.run_for(Duration::from_secs(7));
    assert_eq!(sim.node(0).synced.len(), 2);
    assert_eq!(stale(&sim, 1, 0), 0);
}

#[test]
fn a_peer_that_opens_again_while_its_session_stands_has_restarted() {
    let configs = rack();
    let mut sim = network(1, configs.clone());
    let events = sim.node(1).route_events;
    // The old connection is dead, but nobody tells node 1.
    sim.silence(0, 1);
    sim.restart(0, configs[0].clone(), Start::Restarting);
    sim.run_for(Duration::from_millis(1));
    sim.heal(0, 1);
    sim.run_until_quiet();
    assert_eq!((state(&sim, 0, 1), state(&sim, 1, 0)), (State::Established, State::Established));
    assert_eq!(sim.node(1).route_events, events);
    let peers = sim.node(1).speaker.peers(sim.now());
    let reason = peers[0].last_error.as_ref().unwrap();
    assert_eq!(reason.text, "the peer has opened a new session");
    check_adjacent(&sim, 3);
}

#[test]
fn two_that_restart_together_do_not_wait_for_each_other_long() {
    let configs = configs(&[65001, 65002], &[(0, 1)]);
    let mut sim = network(1, configs.clone());
    let events = [0, 1].map(|node| sim.node(node).route_events);
    sim.restart(0, configs[0].clone(), Start::Restarting);
    sim.restart(1, configs[1].clone(), Start::Restarting);
    sim.run_for(Duration::from_secs(16));
    assert_eq!([0, 1].map(|node| sim.node(node).synced.len()), [2, 2]);
    sim.run_until_quiet();
    // The new speakers tell their drivers what the kernel has already.
    assert_eq!([0, 1].map(|node| sim.node(node).route_events), events.map(|count| count + 1));
    check_adjacent(&sim, 2);
}

/// FRR says that it restarted for two minutes after each start, and takes a second to tell its table.
#[test]
fn a_peer_that_says_that_it_restarted_is_given_time_to_tell_its_routes() {
    let configs = configs(&[65001, 65002, 65003], &[(0, 1), (1, 2)]);
    let mut sim = network(1, configs.clone());
    sim.silence(1, 2);
    sim.restart(1, configs[1].clone(), Start::Restarting);
    sim.restart(0, configs[0].clone(), Start::Restarting);
    sim.run_for(Duration::from_secs(5));
    assert_eq!(state(&sim, 0, 1), State::Established);
    assert!(sim.node(0).synced.is_empty(), "the peer still waits for the third, and is waited for");
    sim.heal(1, 2);
    sim.run_for(Duration::from_secs(11));
    assert_eq!(sim.node(0).synced.len(), 2);
}

/// cilium#30367, kube-router#1323: an End-of-RIB is awaited for negotiated families only.
#[test]
fn a_family_that_was_not_agreed_on_is_not_waited_for() {
    let mut configs = rack();
    for peer in configs[1].peers.values_mut() {
        peer.families.remove(Family::Ipv6);
    }
    let mut sim = network(1, configs.clone());
    sim.restart(0, configs[0].clone(), Start::Restarting);
    sim.run_for(Duration::from_secs(14));
    assert_eq!(sim.node(0).synced.len(), 2);
}

/// Secrets are read from the API server one by one, after the configuration that names them.
#[test]
fn a_peer_whose_password_is_on_its_way_is_waited_for() {
    let configs = configs(&[65001, 65002], &[(0, 1)]);
    let mut sim = network(1, configs.clone());
    let unread = |configs: &[Config]| {
        let mut config = configs[0].clone();
        config.peers.get_mut(&name(1)).unwrap().password = Password::Missing;
        config
    };
    sim.restart(0, unread(&configs), Start::Restarting);
    sim.run_for(Duration::from_millis(200));
    assert!(sim.node(0).synced.is_empty(), "nobody was asked yet");
    sim.with(0, |speaker, now| speaker.configure(now, configs[0].clone()));
    sim.run_until_quiet();
    assert_eq!((sim.node(0).synced.len(), state(&sim, 0, 1)), (2, State::Established));
    // Whom nobody gives a password is not waited for longer than anybody else who is not there.
    sim.restart(0, unread(&configs), Start::Restarting);
    sim.run_for(Duration::from_secs(16));
    assert_eq!(sim.node(0).synced.len(), 2);
}

/// Guests dial when they like, and their routes are in the kernel.
#[test]
fn guests_of_the_earlier_life_are_waited_for_until_they_dial() {
    let mut configs = rack();
    let mut template = PeerConfig::new(address(200), RemoteAs::External);
    template.export = Filter::accept_all();
    let range = PeerRange { prefix: prefix("10.0.0.0/24"), limit: asn(9), template };
    configs[0].peers.clear();
    configs[0].ranges.insert("rack".into(), range);
    let mut sim = network(1, configs.clone());
    assert_eq!(routes(&sim, 0).len(), 2);
    let mut resumed = configs[0].clone();
    resumed.graceful_restart.guests = [address(1), address(2)].into();
    sim.restart(0, resumed.clone(), Start::Restarting);
    sim.run_for(Duration::from_millis(1));
    for node in [1, 2] {
        sim.cut(0, node);
        sim.silence(0, node);
    }
    sim.run_for(Duration::from_secs(20));
    sim.heal(0, 1);
    sim.run_for(Duration::from_secs(60));
    assert_eq!(state_of_guest(&sim, 1), Some(State::Established));
    assert!(sim.node(0).synced.is_empty(), "the other may still come");
    let before = routes(&sim, 0);
    sim.heal(0, 2);
    while state_of_guest(&sim, 2).is_none() {
        sim.run_for(Duration::from_micros(100));
    }
    assert!(sim.node(0).synced.is_empty(), "it has dialled, and told nothing yet");
    sim.run_until_quiet();
    assert_eq!((sim.node(0).synced.len(), routes(&sim, 0)), (2, before));
    // Not for ever.
    sim.restart(0, resumed.clone(), Start::Restarting);
    sim.run_for(Duration::from_millis(1));
    sim.cut(0, 2);
    sim.silence(0, 2);
    sim.run_for(Duration::from_secs(118));
    assert!(sim.node(0).synced.is_empty());
    sim.run_for(Duration::from_secs(2));
    assert_eq!(sim.node(0).synced.len(), 2);
    sim.heal(0, 2);
    sim.run_until_quiet();
    // Where none is known to have been there, they are waited for as others are.
    resumed.graceful_restart.guests.clear();
    sim.restart(0, resumed, Start::Restarting);
    sim.run_for(Duration::from_secs(14));
    assert!(sim.node(0).synced.is_empty());
    sim.run_for(Duration::from_secs(2));
    assert_eq!(sim.node(0).synced.len(), 2);
}

fn state_of_guest(sim: &Simulation, node: usize) -> Option<State> {
    let peers = sim.node(0).speaker.peers(sim.now());
    peers.into_iter().find(|peer| peer.address == address(node)).map(|peer| peer.state)
}
