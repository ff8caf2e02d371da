//! AS numbers between peers: which may come up, and what stands on the paths.

use super::*;
use crate::speaker::{AsOverride, LocalAs, LocalAsMode, RemoteAs, RemovePrivate, Verdict};
use crate::wire::HoldTime;

/// The AS paths of the best routes of a node, by prefix.
fn paths(sim: &Simulation, node: usize) -> BTreeMap<String, String> {
    let (routes, _) = sim.node(node).speaker.routes(Family::Ipv4, 0, usize::MAX);
    let best = routes.into_iter().filter(|route| route.paths[0].verdict == Verdict::Best);
    best.filter(|route| route.paths[0].peer.is_some())
        .map(|route| (route.prefix.to_string(), route.paths[0].attributes.as_path.clone()))
        .collect()
}

fn path(sim: &Simulation, node: usize, origin: usize) -> String {
    paths(sim, node).remove(&own(origin).to_string()).unwrap_or_default()
}

/// Three in a row.
fn chain(ases: [u32; 3]) -> Vec<Config> {
    configs(&ases, &[(0, 1), (1, 2)])
}

fn towards(config: &mut Config, number: usize) -> &mut PeerConfig {
    config.peers.get_mut(&name(number)).unwrap()
}

#[test]
fn a_peer_may_be_any_other_as_the_same_or_any_at_all() {
    let cases = [
        (RemoteAs::External, 65002, State::Established),
        (RemoteAs::External, 65001, State::Idle),
        (RemoteAs::Internal, 65001, State::Established),
        (RemoteAs::Internal, 65002, State::Idle),
        (RemoteAs::Any, 65001, State::Established),
        (RemoteAs::Any, 65002, State::Established),
    ];
    for (remote_as, number, expected) in cases {
        let mut configs = configs(&[65001, number], &[(0, 1)]);
        towards(&mut configs[0], 1).remote_as = remote_as;
        let mut sim = Simulation::new(1);
        for (number, config) in configs.into_iter().enumerate() {
            sim.add(address(number), config);
        }
        sim.run_for(std::time::Duration::from_secs(2));
        assert_eq!(state(&sim, 0, 1), expected, "{remote_as} {number}");
        let peers = sim.node(0).speaker.peers(sim.now());
        if expected == State::Established {
            assert_eq!(peers[0].remote_as, Some(number));
            let prepended = if number == 65001 { "" } else { "65002" };
            assert_eq!(path(&sim, 0, 1), prepended, "{remote_as}");
        } else {
            let code = peers[0].last_error.as_ref().unwrap().code;
            assert_eq!(code, Some((2, 2)), "bad peer AS");
        }
    }
}

#[test]
fn the_shown_number_stands_alone_beside_or_between() {
    let cases = [
        (LocalAsMode::Replace, "65100 65003", "65001"),
        (LocalAsMode::NoPrepend, "65100 65002 65003", "65001"),
        (LocalAsMode::Prepend, "65100 65002 65003", "65100 65001"),
    ];
    for (mode, told, heard) in cases {
        let mut configs = chain([65001, 65002, 65003]);
        towards(&mut configs[0], 1).remote_as = asn(65100).into();
        towards(&mut configs[1], 0).local_as = Some(LocalAs { number: asn(65100), mode });
        let sim = network(1, configs);
        assert_eq!(path(&sim, 0, 2), told, "{mode:?}");
        assert_eq!(path(&sim, 1, 0), heard, "{mode:?}");
        assert_eq!(path(&sim, 2, 0), format!("65002 {heard}"), "{mode:?}");
    }
}

#[test]
fn sites_that_share_a_number_reach_each_other_by_override() {
    let mut configs = chain([65001, 65002, 65001]);
    let sim = network(1, configs.clone());
    assert_eq!(path(&sim, 2, 0), "", "a loop in their eyes");
    for end in [0, 2] {
        towards(&mut configs[1], end).as_override = AsOverride::Replace;
    }
    let sim = network(1, configs);
    assert_eq!(
        (path(&sim, 2, 0).as_str(), path(&sim, 0, 2).as_str()),
        ("65002 65002", "65002 65002")
    );
}

#[test]
fn private_numbers_do_not_leave() {
    let cases = [
        (RemovePrivate::Keep, 65001, "100 65001 7"),
        (RemovePrivate::Remove, 65001, "100 7"),
        (RemovePrivate::Replace, 65001, "100 100 7"),
        (RemovePrivate::WhenAll, 65001, "100 65001 7"),
        (RemovePrivate::Remove, 65003, "100 65003 7"),
    ];
    for (remove_private, private, expected) in cases {
        // A private AS with a public one behind it: 7 is prepended by the first node's filter.
        let mut configs = chain([private, 100, 65003]);
        if private == 65003 {
            towards(&mut configs[2], 1).allow_own_as = 1;
        }
        use crate::rib::filter::{Action, Operation, Rule};
        let prepend = Action::Accept(vec![Operation::PrependAsPath(vec![7])]);
        towards(&mut configs[0], 1).export.rules.push(Rule::any(prepend));
        towards(&mut configs[1], 2).remove_private = remove_private;
        let sim = network(1, configs);
        assert_eq!(path(&sim, 2, 0), expected, "{remove_private:?}");
    }
    let mut configs = chain([65001, 100, 200]);
    towards(&mut configs[1], 2).remove_private = RemovePrivate::WhenAll;
    assert_eq!(path(&network(1, configs), 2, 0), "100");
}

#[test]
fn a_hold_time_below_the_least_is_refused() {
    let mut configs = configs(&[65001, 65002], &[(0, 1)]);
    let seconds = |secs| HoldTime::from_secs(secs).unwrap();
    towards(&mut configs[0], 1).shortest_hold_time = Some(seconds(30));
    towards(&mut configs[1], 0).hold_time = seconds(9);
    let mut sim = Simulation::new(1);
    for (number, config) in configs.iter().cloned().enumerate() {
        sim.add(address(number), config);
    }
    sim.run_for(std::time::Duration::from_secs(2));
    let error = sim.node(0).speaker.peers(sim.now())[0].last_error.clone().unwrap();
    assert_eq!(error.code, Some((2, 6)));
    assert_eq!(error.text, "the peer proposes a hold time of 9 s, less than 30 s");
    towards(&mut configs[1], 0).hold_time = seconds(30);
    assert_eq!(state(&network(1, configs), 0, 1), State::Established);
}
