use super::*;
use crate::rib::best::{Ineligible, Step};
use crate::speaker::{NextHopMode, Reflection, Verdict};

/// Two spines (AS 65100), three leaves: each leaf reaches each other leaf over both spines.
fn fabric() -> Vec<Config> {
    let links: Vec<_> = (2..5).flat_map(|leaf| [(0, leaf), (1, leaf)]).collect();
    configs(&[65100, 65100, 65001, 65002, 65003], &links)
}

#[test]
fn a_leaf_spine_fabric_converges_on_equal_paths() {
    let sim = network(2, fabric());
    for leaf in 2..5 {
        let routes = routes(&sim, leaf);
        assert_eq!(routes.len(), 4, "two leaves and two spines: {routes:?}");
        for other in (2..5).filter(|other| *other != leaf) {
            assert_eq!(routes[&own(other).to_string()], ["10.0.0.1", "10.0.0.2"]);
        }
    }
    check_adjacent(&sim, 5);
}

#[test]
fn a_path_with_our_own_as_is_kept_but_not_chosen() {
    let sim = network(2, fabric());
    // Spine 0 hears of spine 1's prefix through the leaves, but both are AS 65100.
    assert!(!routes(&sim, 0).contains_key(&own(1).to_string()));
    let route = sim.node(0).speaker.route(own(1)).unwrap();
    assert_eq!(route.paths.len(), 3);
    assert!(route.paths.iter().all(|p| p.verdict == Verdict::Ineligible(Ineligible::AsLoop)));
}

#[test]
fn the_number_of_equal_paths_has_a_limit() {
    let mut configs = fabric();
    configs[2].multipath.ebgp = std::num::NonZeroU8::MIN;
    let sim = network(2, configs);
    assert_eq!(routes(&sim, 2)[&own(3).to_string()], ["10.0.0.1"]);
    let route = sim.node(2).speaker.route(own(3)).unwrap();
    assert_eq!(route.paths[1].verdict, Verdict::Lost(Step::RouterId));
}

#[test]
fn a_full_mesh_within_an_as_passes_nothing_on_twice() {
    let ases = [65001; 4];
    let links: Vec<_> = (0..4).flat_map(|a| (0..a).map(move |b| (a, b))).collect();
    let sim = network(3, configs(&ases, &links));
    for node in 0..4 {
        assert_eq!(routes(&sim, node).len(), 3);
        for route in sim.node(node).speaker.routes(Family::Ipv4, 0, 99).0 {
            assert_eq!(route.paths.len(), 1, "{route:?}");
        }
    }
    check_adjacent(&sim, 4);
}

#[test]
fn a_reflector_tells_clients_of_each_other_and_keeps_the_next_hop() {
    let mut configs = configs(&[65001; 4], &[(0, 1), (0, 2), (0, 3)]);
    configs[0].cluster_id = Some(Ipv4Addr::new(1, 1, 1, 1));
    for client in [1, 2] {
        configs[0].peers.get_mut(&name(client)).unwrap().reflection = Reflection::Client;
    }
    let sim = network(4, configs);
    assert_eq!(routes(&sim, 1)[&own(2).to_string()], ["10.0.0.3"]);
    assert_eq!(routes(&sim, 3)[&own(2).to_string()], ["10.0.0.3"]);
    assert_eq!(routes(&sim, 2)[&own(3).to_string()], ["10.0.0.4"]);
    check_adjacent(&sim, 4);
}

#[test]
fn without_a_cluster_nothing_is_reflected() {
    let mut configs = configs(&[65001; 3], &[(0, 1), (0, 2)]);
    configs[0].peers.get_mut(&name(1)).unwrap().reflection = Reflection::Client;
    let sim = network(4, configs);
    assert_eq!(routes(&sim, 1).len(), 1);
}

#[test]
fn the_next_hop_of_an_internal_peer_is_a_choice() {
    // 0 (AS 1) - 1 (AS 2) - 2 (AS 2)
    for (mode, expected) in [
        (NextHopMode::Auto, "10.0.0.1"),
        (NextHopMode::Keep, "10.0.0.1"),
        (NextHopMode::Own, "10.0.0.2"),
    ] {
        let mut configs = configs(&[65001, 65002, 65002], &[(0, 1), (1, 2)]);
        configs[1].peers.get_mut(&name(2)).unwrap().next_hop = mode;
        let sim = network(5, configs);
        assert_eq!(routes(&sim, 2)[&own(0).to_string()], [expected], "{mode:?}");
    }
}

#[test]
fn by_default_only_own_routes_are_told() {
    let mut configs = configs(&[65001, 65002, 65003], &[(0, 1), (1, 2)]);
    for peer in configs[1].peers.values_mut() {
        peer.export = Filter::own_routes();
    }
    let sim = network(6, configs);
    assert_eq!(routes(&sim, 2).len(), 1);
    assert_eq!(sim.node(1).routes.len(), 2);
}

#[test]
fn communities_travel_and_steer() {
    use crate::wire::{Community, iana::community};
    let mut configs = configs(&[65001, 65002, 65003], &[(0, 1), (1, 2)]);
    let marked = |numbers: &[u32]| Originated {
        communities: numbers.iter().map(|number| Community(*number)).collect(),
        ..Originated::default()
    };
    configs[0].originated.insert(own(50), marked(&[community::NO_EXPORT]));
    configs[0].originated.insert(own(51), marked(&[community::NO_ADVERTISE]));
    configs[0].originated.insert(own(52), marked(&[0xFDE9_0001]));
    let sim = network(7, configs);
    let second = routes(&sim, 1);
    assert!([50, 51, 52].into_iter().all(|n| second.contains_key(&own(n).to_string())));
    let third = routes(&sim, 2);
    assert!(!third.contains_key(&own(50).to_string()));
    assert!(!third.contains_key(&own(51).to_string()));
    let route = sim.node(2).speaker.route(own(52)).unwrap();
    assert_eq!(route.paths[0].attributes.communities, [Community(0xFDE9_0001)]);
    assert_eq!(route.paths[0].attributes.as_path, "65002 65001");
}

#[test]
fn ipv6_prefixes_need_a_next_hop_of_their_own() {
    let mut configs = configs(&[65001, 65002], &[(0, 1)]);
    let six = prefix("2001:db8:7::/64");
    configs[0].originated.insert(six, Originated::default());
    let sim = network(8, configs.clone());
    assert!(!routes(&sim, 1).contains_key(&six.to_string()));
    configs[0].own_ipv6 = Some("2001:db8::1".parse().unwrap());
    let sim = network(8, configs);
    assert_eq!(routes(&sim, 1)[&six.to_string()], ["2001:db8::1"]);
}

/// Unnumbered links: sessions between link-local addresses, IPv4 over IPv6 next hops (RFC 8950).
#[test]
fn a_link_local_next_hop_does_not_leave_its_link() {
    let at = |number: usize| -> IpAddr { format!("fe80::{}", number + 1).parse().unwrap() };
    let mut configs = configs(&[65001, 65002, 65002], &[(0, 1), (1, 2)]);
    let mut sim = Simulation::new(9);
    for (number, config) in configs.iter_mut().enumerate() {
        for (name, peer) in &mut config.peers {
            peer.address = at(name.as_str()[1..].parse().unwrap());
        }
        sim.add(at(number), config.clone());
    }
    sim.run_until_quiet();
    let via = sim.node(1).routes[&own(0)].next_hops[0].clone();
    assert_eq!((via.address, via.link_local.map(IpAddr::from)), (at(0), Some(at(0))));
    assert_eq!(routes(&sim, 2)[&own(0).to_string()], ["fe80::2"]);
}

/// RFC 4456 §8: what has passed our cluster is no way for us, from the moment on that it is ours.
#[test]
fn another_cluster_judges_what_was_reflected_again() {
    let mut configs = configs(&[65001; 3], &[(0, 1), (0, 2)]);
    let cluster_id = Some(Ipv4Addr::new(1, 1, 1, 1));
    configs[0].cluster_id = cluster_id;
    configs[0].peers.get_mut(&name(1)).unwrap().reflection = Reflection::Client;
    let mut sim = network(4, configs.clone());
    let verdicts = |sim: &Simulation| {
        [0, 1].map(|origin| sim.node(2).speaker.route(own(origin)).unwrap().paths[0].verdict)
    };
    let looped = Verdict::Ineligible(Ineligible::ReflectionLoop);
    assert_eq!(verdicts(&sim), [Verdict::Best; 2]);
    for (own, reflected) in [(cluster_id, looped), (None, Verdict::Best)] {
        configs[2].cluster_id = own;
        sim.with(2, |speaker, now| speaker.configure(now, configs[2].clone()));
        assert_eq!(verdicts(&sim), [Verdict::Best, reflected]);
        sim.run_until_quiet();
        assert_eq!(routes(&sim, 2).len(), if reflected == looped { 1 } else { 2 });
        assert!(sim.node(2).speaker.peers(sim.now()).iter().all(|peer| peer.flaps == 0));
    }
}

/// What is kept for the return of a session is judged by who we are now (RFC 4271 §9.1.2).
#[test]
fn another_as_judges_what_is_kept_again() {
    for of_all in [true, false] {
        let mut configs = configs(&[65001, 65002, 65003], &[(0, 1), (1, 2)]);
        let mut sim = network(4, configs.clone());
        let config = &mut configs[0];
        if of_all {
            config.local_as = asn(65003);
        } else {
            config.peers.get_mut(&name(1)).unwrap().local_as = Some(asn(65003).into());
        }
        sim.with(0, |speaker, now| speaker.configure(now, config.clone()));
        let route = sim.node(0).speaker.route(own(2)).expect("its paths are kept");
        let (path, looped) = (&route.paths[0], Verdict::Ineligible(Ineligible::AsLoop));
        assert_eq!((path.stale, path.verdict), (true, looped), "{of_all}");
    }
}

#[test]
fn becoming_a_reflector_needs_no_new_session() {
    let mut configs = configs(&[65001; 3], &[(0, 1), (0, 2)]);
    let mut sim = network(4, configs.clone());
    assert_eq!(routes(&sim, 1).len(), 1);
    for cluster_id in [Some(Ipv4Addr::new(1, 1, 1, 1)), None] {
        configs[0].cluster_id = cluster_id;
        configs[0].peers.get_mut(&name(1)).unwrap().reflection = Reflection::Client;
        sim.with(0, |speaker, now| speaker.configure(now, configs[0].clone()));
        sim.run_until_quiet();
        let expected = if cluster_id.is_some() { 2 } else { 1 };
        assert_eq!([1, 2].map(|node| routes(&sim, node).len()), [expected; 2]);
        assert!(sim.node(0).speaker.peers(sim.now()).iter().all(|peer| peer.flaps == 0));
        check_adjacent(&sim, 3);
    }
}
