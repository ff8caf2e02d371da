//! Peers whose address is not configured.

use std::net::Ipv6Addr;
use std::time::Duration;

use super::*;
use crate::sim::LINK;
use crate::speaker::{
    Arrival, Input, LimitAction, MaxPaths, PeerRange, PeerSnapshot, Refused, RemoteAs,
};

fn range(limit: u32) -> PeerRange {
    let mut template = PeerConfig::new(address(200), RemoteAs::External);
    template.export = Filter::accept_all();
    PeerRange { prefix: prefix("10.0.0.0/24"), limit: asn(limit), template }
}

/// Node 0 takes whoever comes; 1 and 2 know it by name.
fn hotel(limit: u32) -> Vec<Config> {
    let mut configs = configs(&[65000, 65001, 65002], &[(0, 1), (0, 2)]);
    configs[0].peers.clear();
    configs[0].ranges.insert("rack".into(), range(limit));
    configs
}

fn guests(sim: &Simulation) -> Vec<PeerSnapshot> {
    sim.node(0).speaker.peers(sim.now())
}

#[test]
fn whoever_comes_from_a_range_is_a_peer_as_long_as_it_stays() {
    let configs = hotel(10);
    let mut sim = network(1, configs);
    let names: Vec<String> = guests(&sim).iter().map(|peer| peer.name.to_string()).collect();
    assert_eq!(names, ["rack-10.0.0.2", "rack-10.0.0.3"]);
    assert_eq!(guests(&sim)[1].remote_as, Some(65002));
    assert_eq!(routes(&sim, 1).len(), 2, "the other guest and the host");
    // One goes, and is kept for its restart; then it is forgotten.
    sim.cut(0, 1);
    sim.silence(0, 1);
    sim.run_for(Duration::from_secs(100));
    assert_eq!((guests(&sim).len(), routes(&sim, 0).len()), (2, 2));
    sim.run_for(Duration::from_secs(100));
    assert_eq!((guests(&sim).len(), routes(&sim, 0).len()), (1, 1));
    sim.heal(0, 1);
    sim.run_until_quiet();
    assert_eq!((guests(&sim).len(), routes(&sim, 0).len()), (2, 2));
}

/// It would come back as a stranger, with a clean slate.
#[test]
fn a_guest_that_has_to_stay_down_is_not_forgotten() {
    let mut configs = hotel(10);
    let range = configs[0].ranges.get_mut(&"rack".into()).unwrap();
    let max = MaxPaths { limit: asn(1), then: LimitAction::StayDown };
    range.template.max_paths = Some(max);
    configs[1].originated.insert(own(70), Originated::default());
    let mut sim = network(1, configs);
    sim.run_for(Duration::from_secs(3600));
    let states: Vec<_> = guests(&sim).iter().map(|peer| peer.state).collect();
    assert_eq!(states, [State::Idle, State::Established]);
    assert_eq!(sim.node(1).speaker.peers(sim.now())[0].flaps, 1, "it got in once");
}

#[test]
fn a_full_range_takes_nobody_else() {
    let sim = network(1, hotel(1));
    assert_eq!(guests(&sim).len(), 1);
    let mut speaker = crate::speaker::Speaker::new(hotel(1).remove(0), 1, sim.now());
    let come = |speaker: &mut crate::speaker::Speaker, node| {
        let arrival = Arrival::new((address(0), 179).into(), (address(node), 4000).into());
        speaker.accept(sim.now(), arrival)
    };
    assert!(come(&mut speaker, 1).is_ok());
    let refused = come(&mut speaker, 2).unwrap_err();
    assert!(matches!(&refused, Refused::Full { .. }));
    assert_eq!(refused.to_string(), "10.0.0.3:4000 is one peer too many for rack");
    let stranger = Arrival::new((address(0), 179).into(), "10.9.9.9:4000".parse().unwrap());
    assert!(matches!(speaker.accept(sim.now(), stranger), Err(Refused::Unknown(_))));
}

#[test]
fn guests_follow_their_range() {
    let mut configs = hotel(10);
    let mut sim = network(1, configs.clone());
    let template = &mut configs[0].ranges.get_mut(&"rack".into()).unwrap().template;
    template.export = Filter::reject_all();
    sim.with(0, |speaker, now| speaker.configure(now, configs[0].clone()));
    sim.run_until_quiet();
    assert_eq!(routes(&sim, 1).len(), 0);
    assert!(guests(&sim).iter().all(|peer| peer.flaps == 0), "told by the session that stands");
    configs[0].ranges.clear();
    sim.with(0, |speaker, now| speaker.configure(now, configs[0].clone()));
    assert!(guests(&sim).is_empty());
    sim.run_for(Duration::from_secs(1));
    assert!(routes(&sim, 0).is_empty());
}

const A: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0xa);
const B: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0xb);

/// Two routers on one link that do not know each other's address.
fn unnumbered() -> Simulation {
    let mut sim = Simulation::new(1);
    for (number, address) in [A, B].into_iter().enumerate() {
        let mut config = config(number, 65001 + u32::try_from(number).unwrap());
        let mut peer = PeerConfig::on_link(LINK, RemoteAs::External);
        peer.export = Filter::accept_all();
        config.peers.insert("tor".into(), peer);
        sim.add(address.into(), config);
    }
    sim
}

fn only(sim: &Simulation, node: usize) -> PeerSnapshot {
    sim.node(node).speaker.peers(sim.now()).remove(0)
}

#[test]
fn a_router_on_the_link_is_spoken_to_once_it_shows_itself() {
    let mut sim = unnumbered();
    sim.run_for(Duration::from_secs(60));
    assert_eq!(only(&sim, 0).state, State::Idle);
    sim.with(0, |speaker, now| {
        speaker.handle(now, Input::RouterFound { interface: "other", address: B });
        speaker.handle(now, Input::RouterFound { interface: LINK, address: B });
    });
    sim.run_until_quiet();
    // The other has not heard an advertisement: it knows the peer by its connection.
    for (node, address) in [(0, B), (1, A)] {
        let peer = only(&sim, node);
        assert_eq!((peer.state, peer.address), (State::Established, address.into()));
        let route = sim.node(node).routes.values().next().unwrap();
        let via = &route.next_hops[0];
        assert_eq!((via.address, via.interface.as_deref()), (address.into(), Some(LINK)));
        assert!(route.prefix.family() == Family::Ipv4, "over an IPv6 next hop (RFC 8950)");
    }
}

#[test]
fn a_session_is_not_ended_by_another_router_on_the_link() {
    let mut sim = unnumbered();
    let found = |address| Input::RouterFound { interface: LINK, address };
    sim.with(0, |speaker, now| speaker.handle(now, found(B)));
    sim.run_until_quiet();
    let stranger: Ipv6Addr = "fe80::c".parse().unwrap();
    sim.with(0, |speaker, now| speaker.handle(now, found(stranger)));
    sim.run_until_quiet();
    assert_eq!((only(&sim, 0).address, only(&sim, 0).flaps), (B.into(), 0));
    // Once the session is over, the next advertisement counts.
    sim.cut(0, 1);
    sim.silence(0, 1);
    sim.run_for(Duration::from_secs(1));
    sim.with(0, |speaker, now| speaker.handle(now, found(stranger)));
    assert_eq!(only(&sim, 0).address, IpAddr::from(stranger));
}
