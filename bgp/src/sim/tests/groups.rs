use std::time::Duration;

use super::*;

/// A source (0), the speaker in question (1), and some receivers of one policy.
fn star(receivers: usize) -> Vec<Config> {
    let mut ases = vec![65000, 65001];
    ases.extend((0..receivers).map(|n| 65100 + u32::try_from(n).unwrap()));
    let links: Vec<_> = [(0, 1)].into_iter().chain((0..receivers).map(|n| (1, n + 2))).collect();
    configs(&ases, &links)
}

fn many(config: &mut Config, count: usize) {
    for n in 0..count {
        let prefix = Prefix::new(Ipv4Addr::new(20, 0, 0, 0).into(), 8).unwrap();
        let IpAddr::V4(base) = prefix.addr() else { unreachable!() };
        let address = Ipv4Addr::from_bits(base.to_bits() + (u32::try_from(n).unwrap() << 8));
        let med = Some(u32::try_from(n % 8).unwrap());
        let originated = Originated { med, ..Originated::default() };
        config.originated.insert(Prefix::new(address.into(), 24).unwrap(), originated);
    }
}

fn updates_heard(sim: &Simulation, node: usize) -> u64 {
    sim.node(node).speaker.peers(sim.now())[0].received.update
}

#[test]
fn a_late_joiner_gets_the_table_packed_by_attributes() {
    let mut configs = star(2);
    many(&mut configs[0], 4000);
    let late = configs[1].peers.remove(&name(3)).unwrap();
    let mut sim = network(1, configs.clone());
    configs[1].peers.insert(name(3), late);
    sim.with(1, |speaker, now| speaker.configure(now, configs[1].clone()));
    sim.run_until_quiet();
    assert_eq!(sim.node(3).routes.len(), 4003);
    // MED does not leave the AS: one attribute set, a thousand prefixes in each message; node 1's
    // own prefix and two End-of-RIBs.
    assert!(updates_heard(&sim, 3) <= 5 + 1 + 2, "{}", updates_heard(&sim, 3));
    check_adjacent(&sim, 4);
}

#[test]
fn messages_are_packed_by_attributes_on_the_way_in() {
    let mut configs = star(0);
    many(&mut configs[0], 4000);
    let sim = network(1, configs);
    // Eight sets of 500 prefixes, the own prefix, two End-of-RIBs.
    assert!(updates_heard(&sim, 1) <= 8 + 1 + 2, "{}", updates_heard(&sim, 1));
}

#[test]
fn a_blocked_receiver_holds_up_nobody_and_catches_up() {
    let mut configs = star(3);
    many(&mut configs[0], 100);
    let mut sim = network(1, configs.clone());
    sim.block(1, 3);
    for round in 0..60u32 {
        sim.with(0, |speaker, now| {
            for n in 0..3000u32 {
                let address = Ipv4Addr::from_bits(0x1E00_0000 + (n << 8));
                let prefix = Prefix::new(address.into(), 24).unwrap();
                if round % 2 == 1 && n % 3 == 0 {
                    speaker.withdraw(now, prefix);
                } else {
                    let community = crate::wire::Community(n % 7 + round);
                    let communities = vec![community];
                    let originated = Originated { communities, ..Originated::default() };
                    speaker.originate(now, prefix, &originated);
                }
            }
        });
        sim.run_for(Duration::from_millis(500));
    }
    let expected = sim.node(2).routes.len();
    assert_eq!(expected, 2000 + 104);
    assert_eq!(sim.node(3).routes.len(), 104, "it has heard nothing of it");
    assert!(sim.node(1).speaker.waiting_octets() < 600 * 1024);
    sim.unblock();
    sim.run_until_quiet();
    assert_eq!(sim.node(3).routes.len(), expected);
    check_adjacent(&sim, 5);
}

#[test]
fn a_withdrawn_table_costs_no_copy_for_who_has_not_had_a_turn_yet() {
    let mut configs = star(2);
    many(&mut configs[1], 70_000);
    let prefixes: Vec<Prefix> = configs[1].originated.keys().copied().collect();
    let mut sim = network(1, configs);
    assert_eq!(sim.node(1).speaker.groups(), 1);
    sim.with(1, |speaker, now| {
        prefixes.iter().for_each(|prefix| speaker.withdraw(now, *prefix));
        let first = speaker.connection(&name(2)).unwrap();
        while speaker.poll_transmit(now, first).is_some() {}
        assert!(speaker.waiting_octets() > 256 * 1024, "for the other receiver");
        assert_eq!(speaker.groups(), 1);
    });
}

#[test]
fn a_refresh_tells_everything_again() {
    use crate::speaker::Input;
    let mut sim = network(1, star(2));
    let before = (updates_heard(&sim, 2), updates_heard(&sim, 3));
    let conn = sim.node(1).speaker.connection(&name(2)).unwrap();
    let refresh = crate::wire::RouteRefresh {
        family: Family::Ipv4.into(),
        refresh: crate::wire::Refresh::Request,
    };
    let mut bytes = Vec::new();
    refresh.emit(&mut bytes);
    sim.with(1, |speaker, now| speaker.handle(now, Input::Received { conn, bytes: &bytes }));
    sim.run_until_quiet();
    assert!(updates_heard(&sim, 2) > before.0);
    assert_eq!(updates_heard(&sim, 3), before.1, "nobody else is bothered");
    check_adjacent(&sim, 4);
}

#[test]
fn a_prefix_that_moves_to_another_source_is_taken_from_the_new_one() {
    // 0 and 1 both originate the prefix; 2 in between tells each of the other's, if it is better.
    let mut configs = configs(&[65001, 65002, 65003, 65004], &[(0, 2), (1, 2), (2, 3)]);
    for node in [0, 1] {
        configs[node].originated.insert(own(90), Originated::default());
    }
    let mut sim = network(1, configs);
    let from = |sim: &Simulation| routes(sim, 2)[&own(90).to_string()].clone();
    assert_eq!(from(&sim), ["10.0.0.1", "10.0.0.2"]);
    check_adjacent(&sim, 4);
    sim.with(0, |speaker, now| speaker.withdraw(now, own(90)));
    sim.run_until_quiet();
    check_adjacent(&sim, 4);
    assert_eq!(routes(&sim, 0)[&own(90).to_string()], ["10.0.0.3"]);
    sim.with(0, |speaker, now| speaker.originate(now, own(90), &Originated::default()));
    sim.run_until_quiet();
    check_adjacent(&sim, 4);
    assert_eq!(from(&sim), ["10.0.0.1", "10.0.0.2"]);
}
