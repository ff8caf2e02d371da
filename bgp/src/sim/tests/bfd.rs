//! What a failure that BFD reports means for a session and its routes: the table of [`crate::bfd`].

use std::time::{Duration, Instant};

use super::*;
use crate::bfd::{Fate, Reach, Timing};
use crate::speaker::{Input, PathFailure, PeerBfd, Start};

fn pair() -> Simulation {
    network(1, configs(&[65001, 65002], &[(0, 1)]))
}

fn path_fails(sim: &mut Simulation, fate: Fate, last_heard: Instant) {
    let failure = PathFailure { fate, last_heard, text: "BFD: silence".into() };
    let input = Input::PeerUnreachable { peer: name(1), failure };
    sim.with(0, |speaker, now| speaker.handle(now, input));
    sim.run_for(Duration::from_millis(5));
}

fn has_route(sim: &Simulation, node: usize) -> bool {
    routes(sim, node).contains_key(&own(1 - node).to_string())
}

#[test]
fn a_dead_path_ends_the_session_and_both_sides_drop_the_routes_at_once() {
    for fate in [Fate::Shared, Fate::Independent] {
        let mut sim = pair();
        let now = sim.now();
        path_fails(&mut sim, fate, now);
        assert_ne!(state(&sim, 0, 1), State::Established);
        assert!(!has_route(&sim, 0), "in spite of graceful restart");
        assert!(!has_route(&sim, 1), "a hard reset says that they are not to be kept");
        let peers = sim.node(0).speaker.peers(sim.now());
        let reason = peers[0].last_error.clone().unwrap();
        assert_eq!((reason.code, reason.text.as_str()), (Some((6, 10)), "BFD: silence"));
    }
}

#[test]
fn the_silence_of_a_restarting_daemon_leaves_its_routes_and_that_of_a_dead_box_does_not() {
    let mut sim = pair();
    let heard = sim.now();
    sim.silence(0, 1);
    sim.cut(0, 1);
    sim.run_for(Duration::from_millis(150));
    assert!(has_route(&sim, 0), "kept for the restart time");
    path_fails(&mut sim, Fate::Shared, heard);
    assert!(has_route(&sim, 0));
    path_fails(&mut sim, Fate::Independent, heard);
    assert!(!has_route(&sim, 0));
}

#[test]
fn the_end_of_the_old_daemons_bfd_does_not_end_the_new_ones_session() {
    let mut sim = pair();
    let heard = sim.now();
    let again = configs(&[65001, 65002], &[(0, 1)]).remove(1);
    sim.restart(1, again, Start::Restarting);
    sim.run_until_quiet();
    path_fails(&mut sim, Fate::Shared, heard);
    assert_eq!(state(&sim, 0, 1), State::Established);
    let now = sim.now();
    path_fails(&mut sim, Fate::Shared, now);
    assert_ne!(state(&sim, 0, 1), State::Established, "that was the new one's");
}

#[test]
fn putting_bfd_on_a_peer_or_taking_it_off_does_not_touch_the_session() {
    let wanted = configs(&[65001, 65002], &[(0, 1)]);
    let mut sim = network(1, wanted.clone());
    let watch = PeerBfd { timing: Timing::default(), reach: Reach::SingleHop };
    for bfd in [Some(watch), None] {
        let mut config = wanted[0].clone();
        config.peers.get_mut(&name(1)).unwrap().bfd = bfd;
        sim.with(0, |speaker, now| speaker.configure(now, config));
        sim.run_until_quiet();
        assert_eq!(state(&sim, 0, 1), State::Established);
        assert_eq!(sim.node(0).speaker.peers(sim.now())[0].flaps, 0);
    }
}
