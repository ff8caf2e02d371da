//! BGP roles (RFC 9234).

use super::*;
use crate::rib::best::Ineligible;
use crate::speaker::{PeerRole, Role, SilentPeer, Verdict};

fn role(role: Role) -> Option<PeerRole> {
    Some(PeerRole { role, silent: SilentPeer::Accepted })
}

/// A provider and a customer of it, which has another provider and a peer, and a customer of that
/// peer; 0 is above 1, 2 above 1, 1 beside 3, 3 above 4. Each of the first set knows its roles.
fn hierarchy(knowing: &[usize]) -> Vec<Config> {
    let links = [(0, 1), (2, 1), (1, 3), (3, 4)];
    let mut configs = configs(&[65000, 65001, 65002, 65003, 65004], &links);
    let roles = [
        (0, 1, Role::Provider),
        (1, 0, Role::Customer),
        (2, 1, Role::Provider),
        (1, 2, Role::Customer),
        (1, 3, Role::Peer),
        (3, 1, Role::Peer),
        (3, 4, Role::Provider),
        (4, 3, Role::Customer),
    ];
    for (node, to, ours) in roles.into_iter().filter(|(node, ..)| knowing.contains(node)) {
        configs[node].peers.get_mut(&name(to)).unwrap().role = role(ours);
    }
    configs
}

fn heard(sim: &Simulation, node: usize) -> Vec<String> {
    routes(sim, node).into_keys().collect()
}

fn verdict(sim: &Simulation, node: usize, origin: usize) -> Option<Verdict> {
    let route = sim.node(node).speaker.route(own(origin))?;
    route.paths.first().map(|path| path.verdict)
}

#[test]
fn what_comes_from_above_or_from_the_side_goes_down_alone() {
    let sim = network(1, hierarchy(&[0, 1, 2, 3, 4]));
    let nets = |numbers: &[usize]| -> Vec<String> {
        numbers.iter().map(|number| own(*number).to_string()).collect()
    };
    assert_eq!(heard(&sim, 0), nets(&[1]), "nothing of its customer's other provider and peer");
    assert_eq!(heard(&sim, 2), nets(&[1]));
    assert_eq!(heard(&sim, 1), nets(&[0, 2, 3, 4]));
    assert_eq!(heard(&sim, 3), nets(&[1, 4]), "a peer hears of customers alone");
    assert_eq!(heard(&sim, 4), nets(&[1, 3]), "a customer hears all that its provider has");
    check_adjacent(&sim, 5);
}

#[test]
fn a_leak_of_somebody_who_does_not_know_is_caught_above() {
    // 1 tells everybody everything. Its providers and its peer know better.
    let sim = network(1, hierarchy(&[0, 2, 3]));
    let leaked = Some(Verdict::Ineligible(Ineligible::RouteLeak));
    assert_eq!(verdict(&sim, 0, 2), leaked, "marked by the other provider");
    assert_eq!(verdict(&sim, 2, 0), leaked);
    assert_eq!(verdict(&sim, 3, 0), leaked, "a peer's mark is not its own");
    assert_eq!(verdict(&sim, 0, 1), Some(Verdict::Best));
    // The peer marked its customer's route, as it may go to the customers of 1 alone.
    assert_eq!(verdict(&sim, 0, 4), leaked);
    // Nobody knows: everything leaks, as ever.
    let sim = network(1, hierarchy(&[]));
    assert_eq!(verdict(&sim, 0, 2), Some(Verdict::Best));
}

#[test]
fn roles_that_do_not_fit_each_other_are_refused() {
    let cases = [
        (Role::Provider, Role::Customer, true),
        (Role::RouteServer, Role::RouteServerClient, true),
        (Role::Peer, Role::Peer, true),
        (Role::Provider, Role::Provider, false),
        (Role::Customer, Role::Peer, false),
        (Role::RouteServer, Role::Customer, false),
    ];
    for (ours, theirs, fits) in cases {
        let mut configs = configs(&[65001, 65002], &[(0, 1)]);
        configs[0].peers.get_mut(&name(1)).unwrap().role = role(ours);
        configs[1].peers.get_mut(&name(0)).unwrap().role = role(theirs);
        check_pair(configs, fits.then_some(()).ok_or((2, 11)));
    }
}

#[test]
fn a_silent_peer_is_refused_where_that_is_asked_for() {
    let mut configs = configs(&[65001, 65002], &[(0, 1)]);
    let peer = configs[0].peers.get_mut(&name(1)).unwrap();
    peer.role = role(Role::Customer);
    check_pair(configs.clone(), Ok(()));
    let strict = PeerRole { role: Role::Customer, silent: SilentPeer::Refused };
    configs[0].peers.get_mut(&name(1)).unwrap().role = Some(strict);
    check_pair(configs, Err((2, 11)));
}

#[test]
fn within_an_as_roles_mean_nothing() {
    let mut configs = configs(&[65001, 65001], &[(0, 1)]);
    configs[0].peers.get_mut(&name(1)).unwrap().role =
        Some(PeerRole { role: Role::Provider, silent: SilentPeer::Refused });
    check_pair(configs, Ok(()));
}

/// Two nodes come together, or one refuses the other with this code.
fn check_pair(configs: Vec<Config>, expected: Result<(), (u8, u8)>) {
    let mut sim = Simulation::new(1);
    for (number, config) in configs.into_iter().enumerate() {
        sim.add(address(number), config);
    }
    sim.run_for(std::time::Duration::from_secs(2));
    match expected {
        Ok(()) => assert_eq!(state(&sim, 0, 1), State::Established),
        Err(code) => {
            assert_ne!(state(&sim, 0, 1), State::Established);
            let peers = sim.node(0).speaker.peers(sim.now());
            assert_eq!(peers[0].last_error.as_ref().unwrap().code, Some(code));
        }
    }
}
