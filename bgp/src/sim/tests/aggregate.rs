use super::*;
use crate::speaker::{DefaultRoute, Specifics};
use crate::wire::Community;

/// Node 0 tells its neighbour 1 of another AS, 2 of its own; 3 tells 0.
fn star() -> Vec<Config> {
    configs(&[65000, 65001, 65000, 65003], &[(0, 1), (0, 2), (0, 3)])
}

const SUM: &str = "192.168.0.0/16";

fn with(specifics: Specifics) -> Vec<Config> {
    let mut configs = star();
    configs[0].aggregates.insert(prefix(SUM), specifics);
    configs
}

fn heard(sim: &Simulation, node: usize) -> Vec<String> {
    routes(sim, node).into_keys().collect()
}

#[test]
fn an_aggregate_stands_for_its_parts_as_long_as_there_are_any() {
    let mut configs = with(Specifics::Hidden);
    configs.iter_mut().for_each(|config| config.originated.clear());
    let mut sim = network(1, configs);
    assert_eq!(heard(&sim, 1), [""; 0], "made of nothing");
    sim.with(3, |speaker, now| {
        speaker.originate(now, own(7), &Originated::default());
        speaker.originate(now, own(8), &Originated::default());
        speaker.originate(now, prefix("172.16.0.0/24"), &Originated::default());
    });
    sim.run_until_quiet();
    assert_eq!(heard(&sim, 1), ["172.16.0.0/24", SUM]);
    assert_eq!(heard(&sim, 2), ["172.16.0.0/24", SUM, "192.168.7.0/24", "192.168.8.0/24"]);
    let route = sim.node(1).speaker.route(prefix(SUM)).unwrap();
    assert_eq!(route.paths[0].attributes.as_path, "65000");
    sim.with(3, |speaker, now| speaker.withdraw(now, own(7)));
    sim.run_until_quiet();
    assert_eq!(heard(&sim, 1), ["172.16.0.0/24", SUM]);
    sim.with(3, |speaker, now| speaker.withdraw(now, own(8)));
    sim.run_until_quiet();
    assert_eq!(heard(&sim, 1), ["172.16.0.0/24"]);
    check_adjacent(&sim, 4);
}

#[test]
fn aggregates_come_go_and_change_without_a_session_noticing() {
    let mut sim = network(1, star());
    let parts = ["192.168.0.0/24", "192.168.2.0/24", "192.168.3.0/24"];
    assert_eq!(heard(&sim, 1), parts);
    for (specifics, expected) in [
        (Some(Specifics::Told), &[SUM, parts[0], parts[1], parts[2]][..]),
        (Some(Specifics::Hidden), &[SUM]),
        (None, &parts),
    ] {
        let mut config = star().remove(0);
        config.aggregates.extend(specifics.map(|specifics| (prefix(SUM), specifics)));
        sim.with(0, |speaker, now| speaker.configure(now, config));
        sim.run_until_quiet();
        let mut heard = heard(&sim, 1);
        heard.sort_by_key(|text| prefix(text));
        assert_eq!(heard, expected, "{specifics:?}");
        check_adjacent(&sim, 4);
    }
    assert!(sim.node(0).speaker.peers(sim.now()).iter().all(|peer| peer.flaps == 0));
}

#[test]
fn the_same_prefix_may_be_originated_besides() {
    let mut sim = network(1, with(Specifics::Told));
    sim.with(0, |speaker, now| speaker.originate(now, prefix(SUM), &Originated::default()));
    sim.run_until_quiet();
    sim.with(0, |speaker, now| speaker.withdraw(now, prefix(SUM)));
    sim.run_until_quiet();
    assert!(heard(&sim, 1).contains(&SUM.to_owned()), "the aggregate is left");
}

#[test]
fn a_peer_is_told_a_default_route_whether_there_is_one_or_not() {
    let mut configs = star();
    let told = |configs: &mut Vec<Config>, what| {
        let peer = configs[0].peers.get_mut(&name(1)).unwrap();
        peer.default_route = what;
        peer.export = Filter::reject_all();
    };
    told(&mut configs, DefaultRoute::Originated);
    let mut sim = network(1, configs.clone());
    assert_eq!(routes(&sim, 1)["0.0.0.0/0"], ["10.0.0.1"]);
    assert_eq!(heard(&sim, 1), ["0.0.0.0/0"]);
    assert!(!heard(&sim, 2).contains(&"0.0.0.0/0".to_owned()));
    assert!(!heard(&sim, 0).contains(&"0.0.0.0/0".to_owned()), "it is no route of ours");
    // Another one comes and goes.
    let any = prefix("0.0.0.0/0");
    sim.with(3, |speaker, now| speaker.originate(now, any, &Originated::default()));
    sim.run_until_quiet();
    assert_eq!(routes(&sim, 0)["0.0.0.0/0"], ["10.0.0.4"]);
    sim.with(3, |speaker, now| speaker.withdraw(now, any));
    sim.run_until_quiet();
    assert_eq!(routes(&sim, 1)["0.0.0.0/0"], ["10.0.0.1"]);
    // Before it goes, it is the last choice (RFC 8326).
    told(&mut configs, DefaultRoute::Leaving);
    sim.with(0, |speaker, now| speaker.configure(now, configs[0].clone()));
    sim.run_until_quiet();
    let attributes = sim.node(1).speaker.route(any).unwrap().paths[0].attributes.clone();
    assert_eq!(
        (&attributes.communities[..], attributes.local_pref),
        (&[Community(0xFFFF_0000)][..], 0)
    );
    told(&mut configs, DefaultRoute::Ordinary);
    sim.with(0, |speaker, now| speaker.configure(now, configs[0].clone()));
    sim.run_until_quiet();
    assert_eq!(heard(&sim, 1), [""; 0]);
    told(&mut configs, DefaultRoute::Originated);
    sim.with(0, |speaker, now| speaker.configure(now, configs[0].clone()));
    sim.run_until_quiet();
    assert_eq!(heard(&sim, 1), ["0.0.0.0/0"]);
    assert!(sim.node(0).speaker.peers(sim.now()).iter().all(|peer| peer.flaps == 0));
}
