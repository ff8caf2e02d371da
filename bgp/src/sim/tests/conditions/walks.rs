//! What a flip concerns is looked at in slices: what else happens under way.

use std::net::Ipv6Addr;
use std::time::Duration;

use super::*;
use crate::speaker::Start;

/// A network of the node's own, and the rule that lets it be told under a condition.
fn told_if(config: &mut Config, number: usize, condition: Option<Arc<Condition>>) -> Rule {
    config.originated.insert(own(number), Originated::default());
    Rule { condition, ..exactly(own(number), Action::Accept(Vec::new())) }
}

/// A peer that is told everything again has a group of its own for a while, which goes on with the walk of
/// the group that it left, and does not return before both have come to the end.
#[test]
fn a_peer_in_a_group_of_its_own_is_told_what_the_others_are() {
    let mut configs = star();
    let rule = |number| told_if(&mut configs[UPSTREAM], number, condition(&[DEFAULT], &[]));
    let rules = (100..140).map(rule).collect();
    let filter = Filter { rules, otherwise: Otherwise::AcceptOwn };
    READERS.into_iter().for_each(|reader| exports(&mut configs, reader, filter.clone()));
    let mut sim = network(1, configs);
    let told = |sim: &Simulation| READERS.map(|reader| sim.node(reader).routes.len());
    assert_eq!(told(&sim), [1, 1]);
    let add = |sim: &mut Simulation, text: &str| {
        let what = prefix(text);
        sim.with(NODE, |speaker, now| speaker.originate(now, what, &Originated::default()));
    };
    // In the middle of the walk.
    add(&mut sim, DEFAULT);
    sim.with(NODE, |speaker, now| ask_again(speaker, now, READERS[0]));
    sim.run_until_quiet();
    assert_eq!(told(&sim), [42, 42]);
    // The others have something to say that one of them does not take, so there is no way back.
    sim.block(NODE, READERS[1]);
    sim.with(NODE, |speaker, now| {
        speaker.originate(now, prefix("172.16.0.0/16"), &Originated::default());
        ask_again(speaker, now, READERS[0]);
    });
    sim.run_until_quiet();
    sim.unblock();
    sim.with(NODE, |speaker, now| speaker.withdraw(now, prefix(DEFAULT)));
    sim.run_until_quiet();
    assert_eq!(told(&sim), [2, 2]);
    check_adjacent(&sim, 4);
}

/// A flip that comes while another is being followed takes nothing from it, and one condition may be of
/// rules of both families, as it is where a BGPFilter has both.
#[test]
fn two_conditions_of_two_families_flip_at_once() {
    let mut configs = star();
    configs.iter_mut().for_each(|config| config.own_ipv6 = Some(Ipv6Addr::LOCALHOST));
    let ipv6 = |number: u32| prefix(&format!("2001:db8:{number}::/48"));
    let rule = |prefix: Prefix, condition| Rule {
        family: Some(prefix.family()),
        condition,
        ..exactly(prefix, Action::Accept(Vec::new()))
    };
    let (default, other) = (condition(&[DEFAULT], &[]), condition(&["198.51.100.0/24"], &[]));
    let mut rules = Vec::new();
    for number in 100..120 {
        configs[NODE].originated.insert(own(number), Originated::default());
        rules.push(rule(own(number), default.clone()));
    }
    for number in 0..20 {
        configs[NODE].originated.insert(ipv6(number), Originated::default());
        let condition = if number % 2 == 0 { &default } else { &other };
        rules.push(rule(ipv6(number), condition.clone()));
    }
    exports(&mut configs, READERS[0], Filter { rules, otherwise: Otherwise::Reject });
    let mut sim = network(1, configs);
    let told = |sim: &Simulation| {
        let told = &sim.node(NODE).speaker;
        Family::ALL.map(|family| told.advertised(&name(READERS[0]), family).len())
    };
    assert_eq!(told(&sim), [0, 0]);
    sim.with(NODE, |speaker, now| {
        for flips in [DEFAULT, "198.51.100.0/24"] {
            speaker.originate(now, prefix(flips), &Originated::default());
        }
    });
    sim.run_until_quiet();
    assert_eq!(told(&sim), [20, 20]);
    withdraw(&mut sim, NODE, "198.51.100.0/24");
    assert_eq!(told(&sim), [20, 10]);
    withdraw(&mut sim, NODE, DEFAULT);
    assert_eq!(told(&sim), [0, 0]);
    check_adjacent(&sim, 4);
}

/// The End-of-RIB of IPv4, as a message (RFC 4724 §2).
fn is_end_of_rib(message: &[u8]) -> bool {
    message[16..] == [0, 23, 2, 0, 0, 0, 0]
}

/// Lets time pass until the session of a node with another has come so far.
fn run_until(sim: &mut Simulation, node: usize, peer: usize, goal: State) {
    for _ in 0..200_000 {
        if state(sim, node, peer) == goal {
            return;
        }
        sim.run_for(Duration::from_micros(100));
    }
    panic!("never {goal}");
}

/// RFC 4724 §2: whoever hears of the end drops what is still to come. Here that is what a condition lets be
/// told that could not be judged before others had told all they have.
#[test]
fn the_end_of_rib_comes_after_what_a_condition_lets_be_told() {
    let mut configs = star();
    let rule = |number| told_if(&mut configs[NODE], number, condition(&[], &[DEFAULT]));
    let rules = (100..120).map(rule).collect();
    exports(&mut configs, READERS[0], Filter { rules, otherwise: Otherwise::Reject });
    let mut sim = network(1, configs.clone());
    sim.restart(NODE, configs[NODE].clone(), Start::Restarting);
    run_until(&mut sim, UPSTREAM, NODE, State::OpenSent);
    sim.block(UPSTREAM, NODE);
    sim.run_for(Duration::from_secs(8));
    sim.with(NODE, |speaker, now| {
        let conn = speaker.connection(&name(READERS[0])).unwrap();
        assert_eq!(speaker.poll_transmit(now, conn), None, "it knows all that may be told now");
        // Nobody waits for the router upstream any longer.
        let later = now + configs[NODE].graceful_restart.answer_within;
        let (mut said, mut slices) = (Vec::new(), 0);
        loop {
            speaker.handle_timeout(later);
            said.extend(std::iter::from_fn(|| speaker.poll_transmit(later, conn)));
            slices += 1;
            if speaker.poll_timeout().is_none_or(|at| at > later) {
                break;
            }
        }
        assert!(slices > 5, "{slices}");
        let end = said.iter().position(|message| is_end_of_rib(message));
        let announced = said.iter().rposition(|message| message.len() > 40);
        assert!(announced.is_some() && end > announced, "{announced:?} {end:?}");
    });
}

/// After a restart the reader keeps what it was told, also where the condition is of another family, of
/// which all was heard later (RFC 4724 §4.1).
#[test]
fn a_restart_withdraws_nothing_that_will_be_told_again() {
    let (there, absent) = ("2001:db8::/32", "2001:db8:1::/48");
    for families in [Family::ALL.to_vec(), vec![Family::Ipv6]] {
        let mut configs = star();
        configs.iter_mut().for_each(|config| config.own_ipv6 = Some(Ipv6Addr::LOCALHOST));
        configs[UPSTREAM].originated = [(prefix(there), Originated::default())].into();
        let ours = [(NODE, UPSTREAM), (UPSTREAM, NODE)];
        for (node, peer) in ours {
            let peer = configs[node].peers.get_mut(&name(peer)).unwrap();
            peer.families = families.iter().copied().collect();
        }
        let conditions =
            [condition(&[there], &[]), condition(&[], &[absent]), condition(&[], &[there])];
        let rules = (100..).zip(conditions);
        let rules = rules.map(|(number, held)| told_if(&mut configs[NODE], number, held)).collect();
        exports(&mut configs, READERS[0], Filter { rules, otherwise: Otherwise::Reject });
        let mut sim = network(1, configs.clone());
        let told = |sim: &Simulation| {
            (sim.node(READERS[0]).routes.len(), sim.node(READERS[0]).route_events)
        };
        let before = told(&sim);
        assert_eq!(before.0, 2);
        sim.restart(NODE, configs[NODE].clone(), Start::Restarting);
        run_until(&mut sim, UPSTREAM, NODE, State::OpenSent);
        sim.block(UPSTREAM, NODE);
        sim.run_for(Duration::from_secs(8));
        assert_eq!(state(&sim, NODE, READERS[0]), State::Established);
        assert_ne!(state(&sim, NODE, UPSTREAM), State::Established);
        sim.unblock();
        sim.run_until_quiet();
        assert_eq!(told(&sim), before, "{families:?}");
        check_adjacent(&sim, 4);
    }
}
