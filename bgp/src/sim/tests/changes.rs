use super::*;
use crate::rib::best::Ineligible;
use crate::rib::filter::{
    Action, AnyCommunity, Filter, MatchOperator, Operation, Otherwise, PrefixMatch, Rule,
};
use crate::speaker::{Chosen, Unreachable, Verdict};
use crate::wire::Community;

/// A line of three: the one in the middle passes everything on.
fn line() -> Vec<Config> {
    configs(&[65001, 65002, 65003], &[(0, 1), (1, 2)])
}

fn flaps(sim: &Simulation) -> u64 {
    (0..3).flat_map(|n| sim.node(n).speaker.peers(sim.now())).map(|peer| peer.flaps).sum()
}

fn rule(net: &str, action: Action) -> Rule {
    let prefix = PrefixMatch { cidr: prefix(net), operator: MatchOperator::In, lengths: None };
    Rule { prefix: Some(prefix), ..Rule::any(action) }
}

#[test]
fn prefixes_come_and_go_without_touching_a_session() {
    let mut sim = network(1, line());
    sim.with(0, |speaker, now| speaker.originate(now, own(77), &Originated::default()));
    sim.run_until_quiet();
    assert_eq!(routes(&sim, 2)[&own(77).to_string()], ["10.0.0.2"]);
    sim.with(0, |speaker, now| speaker.withdraw(now, own(77)));
    sim.run_until_quiet();
    assert!(!routes(&sim, 2).contains_key(&own(77).to_string()));
    assert_eq!(flaps(&sim), 0);
    check_adjacent(&sim, 3);
}

#[test]
fn a_prefix_that_changes_its_mind_before_it_is_told_is_told_once() {
    let mut sim = network(1, line());
    let before = sim.node(0).speaker.peers(sim.now())[0].sent.update;
    sim.with(0, |speaker, now| {
        for med in 0..10 {
            let originated = Originated { med: Some(med), ..Originated::default() };
            speaker.originate(now, own(77), &originated);
            speaker.withdraw(now, own(78));
            speaker.originate(now, own(78), &Originated::default());
            speaker.withdraw(now, own(78));
        }
    });
    sim.run_until_quiet();
    assert_eq!(sim.node(0).speaker.peers(sim.now())[0].sent.update - before, 1);
    assert_eq!(sim.node(1).speaker.route(own(77)).unwrap().paths[0].attributes.med, Some(9));
}

#[test]
fn a_speaker_alone_tells_its_peers_and_not_the_edge() {
    let mut configs = line();
    configs[1].chosen = Chosen::Kept;
    let mut sim = network(1, configs);
    assert_eq!(sim.node(1).route_events, 0);
    assert_eq!(routes(&sim, 2)[&own(0).to_string()], ["10.0.0.2"]);
    sim.with(0, |speaker, now| speaker.withdraw(now, own(0)));
    sim.run_until_quiet();
    assert!(!routes(&sim, 2).contains_key(&own(0).to_string()));
    assert_eq!(sim.node(1).route_events, 0);
}

#[test]
fn an_export_filter_changes_what_is_told_and_nothing_else() {
    let mut configs = line();
    let mut sim = network(1, configs.clone());
    let filter =
        Filter { rules: vec![rule("192.168.0.0/24", Action::Reject)], ..Filter::accept_all() };
    configs[1].peers.get_mut(&name(2)).unwrap().export = filter;
    sim.with(1, |speaker, now| speaker.configure(now, configs[1].clone()));
    sim.run_until_quiet();
    assert!(!routes(&sim, 2).contains_key(&own(0).to_string()));
    assert!(routes(&sim, 2).contains_key(&own(1).to_string()));
    check_adjacent(&sim, 3);

    configs[1].peers.get_mut(&name(2)).unwrap().export = Filter::accept_all();
    sim.with(1, |speaker, now| speaker.configure(now, configs[1].clone()));
    sim.run_until_quiet();
    assert!(routes(&sim, 2).contains_key(&own(0).to_string()));
    assert_eq!(flaps(&sim), 0);
    check_adjacent(&sim, 3);
}

#[test]
fn an_import_filter_judges_what_was_already_heard() {
    let mut configs = line();
    let mut sim = network(1, configs.clone());
    let mark = Operation::AddCommunity(AnyCommunity::Standard(Community(7)));
    let accept = Action::Accept(vec![
        mark,
        Operation::PrependAsPath(vec![1, 2]),
        Operation::SetLocalPref(5),
    ]);
    let set = |sim: &mut Simulation, configs: &mut [Config], filter| {
        configs[1].peers.get_mut(&name(0)).unwrap().import = filter;
        sim.with(1, |speaker, now| speaker.configure(now, configs[1].clone()));
        sim.run_until_quiet();
    };
    set(&mut sim, &mut configs, Filter { rules: vec![Rule::any(accept)], ..Filter::reject_all() });
    let attributes = sim.node(1).speaker.route(own(0)).unwrap().paths[0].attributes.clone();
    assert_eq!(attributes.as_path, "1 2 65001");
    assert_eq!((attributes.local_pref, attributes.communities), (5, vec![Community(7)]));
    assert_eq!(
        sim.node(2).speaker.route(own(0)).unwrap().paths[0].attributes.as_path,
        "65002 1 2 65001"
    );

    set(&mut sim, &mut configs, Filter::reject_all());
    assert!(!routes(&sim, 1).contains_key(&own(0).to_string()));
    assert!(!routes(&sim, 2).contains_key(&own(0).to_string()));
    let verdict = sim.node(1).speaker.route(own(0)).unwrap().paths[0].verdict;
    assert_eq!(verdict, Verdict::Ineligible(Ineligible::Filtered));

    set(&mut sim, &mut configs, Filter::accept_all());
    assert_eq!(
        sim.node(2).speaker.route(own(0)).unwrap().paths[0].attributes.as_path,
        "65002 65001"
    );
    assert_eq!(flaps(&sim), 0);
}

#[test]
fn a_change_of_one_peer_touches_no_other() {
    let mut configs = line();
    let mut sim = network(1, configs.clone());
    let third = configs[1].peers.remove(&name(2)).unwrap();
    sim.with(1, |speaker, now| speaker.configure(now, configs[1].clone()));
    sim.run_until_quiet();
    assert_eq!(sim.node(0).speaker.peers(sim.now())[0].flaps, 0);
    assert!(sim.node(2).routes.is_empty());
    assert!(!routes(&sim, 0).contains_key(&own(2).to_string()));

    let hold_time = crate::wire::HoldTime::from_secs(30).unwrap();
    configs[1].peers.insert(name(2), PeerConfig { hold_time, ..third });
    sim.with(1, |speaker, now| speaker.configure(now, configs[1].clone()));
    sim.run_until_quiet();
    assert_eq!(sim.node(0).speaker.peers(sim.now())[0].flaps, 0);
    assert_eq!(routes(&sim, 2).len(), 2);
    check_adjacent(&sim, 3);
}

#[test]
fn the_same_configuration_again_changes_nothing() {
    let configs = line();
    let mut sim = network(1, configs.clone());
    let events = sim.node(2).route_events;
    let sent = sim.node(1).speaker.peers(sim.now())[0].sent;
    sim.with(1, |speaker, now| speaker.configure(now, configs[1].clone()));
    assert_eq!(sim.node(1).speaker.peers(sim.now())[0].sent.update, sent.update);
    sim.run_until_quiet();
    assert_eq!((sim.node(2).route_events, flaps(&sim)), (events, 0));
}

#[test]
fn filters_follow_the_interface_through_which_a_route_goes() {
    // 1 tells 2 what goes through eth1 alone; 2 takes from 1 what comes through eth0 alone.
    let through = |interface: &str| Filter {
        rules: vec![Rule {
            interface: Some(interface.into()),
            ..Rule::any(Action::Accept(Vec::new()))
        }],
        otherwise: Otherwise::Reject,
    };
    let mut configs = line();
    configs[1].peers.get_mut(&name(2)).unwrap().export = through("eth1");
    configs[2].peers.get_mut(&name(1)).unwrap().import = through("eth0");
    let mut sim = network(1, configs);
    let set = |sim: &mut Simulation, node: usize, router: usize, interface: &str| {
        let links = [(address(router), interface.into())].into();
        sim.with(node, |speaker, now| speaker.set_links(now, &links));
        sim.run_until_quiet();
    };
    let heard = own(0).to_string();
    assert!(!routes(&sim, 2).contains_key(&heard), "nobody has said through which");
    set(&mut sim, 1, 0, "eth1");
    assert!(!routes(&sim, 2).contains_key(&heard), "told, but heard through another");
    set(&mut sim, 2, 1, "eth0");
    assert_eq!(routes(&sim, 2)[&heard], ["10.0.0.2"]);
    assert!(!routes(&sim, 2).contains_key(&own(1).to_string()), "what is our own goes nowhere");
    set(&mut sim, 1, 0, "eth2");
    assert!(!routes(&sim, 2).contains_key(&heard), "taken back");
    set(&mut sim, 1, 0, "eth1");
    assert_eq!(routes(&sim, 2)[&heard], ["10.0.0.2"]);
    set(&mut sim, 2, 1, "eth1");
    assert!(!routes(&sim, 2).contains_key(&heard));
    assert_eq!(flaps(&sim), 0);
}

#[test]
fn a_path_whose_next_hop_cannot_be_reached_waits_and_another_is_used() {
    // Two ways from 0 to 3; the shorter one goes by 1.
    let links = [(0, 1), (1, 3), (0, 2), (2, 4), (4, 3)];
    let mut sim = network(1, configs(&[65000, 65001, 65002, 65003, 65004], &links));
    let text = own(3).to_string();
    assert_eq!(routes(&sim, 0)[&text], ["10.0.0.2"]);
    let lost = Unreachable { next_hops: [address(1)].into(), ..Unreachable::default() };
    sim.with(0, |speaker, now| speaker.set_unreachable(now, &lost));
    sim.run_until_quiet();
    assert_eq!(routes(&sim, 0)[&text], ["10.0.0.3"]);
    let route = sim.node(0).speaker.route(own(3)).unwrap();
    let waits = Verdict::Ineligible(Ineligible::UnreachableNextHop);
    assert_eq!(route.paths.last().unwrap().verdict, waits);
    assert_eq!(routes(&sim, 0)[&own(1).to_string()], ["10.0.0.3"], "the long way round");
    sim.with(0, |speaker, now| speaker.set_unreachable(now, &Unreachable::default()));
    sim.run_until_quiet();
    assert_eq!(routes(&sim, 0)[&text], ["10.0.0.2"]);
    assert_eq!(routes(&sim, 0)[&own(1).to_string()], ["10.0.0.2"]);
    assert_eq!(flaps(&sim), 0);
    // The same by the link that the peer is bound to.
    let mut bound = configs(&[65000, 65001, 65002, 65003, 65004], &links).remove(0);
    bound.peers.get_mut(&name(1)).unwrap().interface = Some("eth1".into());
    sim.with(0, |speaker, now| speaker.configure(now, bound));
    sim.run_until_quiet();
    assert_eq!(routes(&sim, 0)[&text], ["10.0.0.2"]);
    for (interface, expected) in [("eth1", "10.0.0.3"), ("eth2", "10.0.0.2")] {
        let interfaces = [interface.into()].into();
        let lost = Unreachable { interfaces, ..Unreachable::default() };
        sim.with(0, |speaker, now| speaker.set_unreachable(now, &lost));
        sim.run_until_quiet();
        assert_eq!(routes(&sim, 0)[&text], [expected]);
    }
}
