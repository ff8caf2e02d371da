//! Confederations (RFC 5065): one AS outside, several inside.

use super::*;
use crate::rib::best::{Ineligible, Step};
use crate::rib::filter::{Action, Operation, Rule};
use crate::speaker::{Confederation, PeerRole, Role, SilentPeer, Specifics, Verdict};
use crate::wire::{Community, PeerKind, iana::community};

const IDENTIFIER: u32 = 65000;
const MEMBERS: [u32; 5] = [65001, 65002, 65003, 65004, 65005];

/// Nodes and links as [`configs`]; those with a number of [`MEMBERS`] are one confederation, which
/// has one number in the eyes of the others.
fn confederation(ases: &[u32], links: &[(usize, usize)]) -> Vec<Config> {
    let mut configs = configs(ases, links);
    let members = MEMBERS.map(asn).into();
    let ours = Confederation { identifier: asn(IDENTIFIER), members };
    for (number, config) in configs.iter_mut().enumerate() {
        if MEMBERS.contains(&ases[number]) {
            config.confederation = Some(ours.clone());
            continue;
        }
        for peer in config.peers.values_mut() {
            let inside = MEMBERS.iter().any(|member| peer.remote_as == asn(*member).into());
            if inside {
                peer.remote_as = asn(IDENTIFIER).into();
            }
        }
    }
    configs
}

/// Three members in a row, an outside peer at each end: 3 - 0 - 1 - 2 - 4.
fn row() -> Vec<Config> {
    confederation(&[65001, 65002, 65003, 64500, 64501], &[(3, 0), (0, 1), (1, 2), (2, 4)])
}

fn towards(config: &mut Config, number: usize) -> &mut PeerConfig {
    config.peers.get_mut(&name(number)).unwrap()
}

/// The AS path of the best path to what a node originates; `None` without one.
fn path(sim: &Simulation, node: usize, origin: usize) -> Option<String> {
    let route = sim.node(node).speaker.route(own(origin))?;
    let best = route.paths.into_iter().find(|path| path.verdict == Verdict::Best)?;
    Some(best.attributes.as_path)
}

fn kinds(sim: &Simulation, node: usize) -> Vec<PeerKind> {
    sim.node(node).speaker.peers(sim.now()).iter().map(|peer| peer.kind).collect()
}

#[test]
fn members_see_the_way_through_members_and_others_one_as() {
    let sim = network(1, row());
    assert_eq!(kinds(&sim, 0), [PeerKind::Confederation, PeerKind::External]);
    let expected = [
        (0, 3, "64500"),
        (1, 3, "(65001) 64500"),
        (2, 3, "(65002 65001) 64500"),
        (4, 3, "65000 64500"),
        (2, 0, "(65002 65001)"),
        (4, 0, "65000"),
        (3, 4, "65000 64501"),
    ];
    for (node, origin, wanted) in expected {
        assert_eq!(path(&sim, node, origin).as_deref(), Some(wanted), "{origin} at {node}");
    }
    check_adjacent(&sim, 5);
}

/// RFC 5065 §4: NEXT_HOP, MED and LOCAL_PREF are those of the border, and stay inside.
#[test]
fn preference_metric_and_next_hop_go_through_the_members() {
    let mut configs = row();
    configs[3].originated.insert(own(3), Originated { med: Some(7), ..Originated::default() });
    towards(&mut configs[0], 3).import.rules =
        vec![Rule::any(Action::Accept(vec![Operation::SetLocalPref(250)]))];
    let sim = network(1, configs);
    let seen = |node: usize| {
        let route = sim.node(node).speaker.route(own(3)).unwrap();
        let attributes = &route.paths[0].attributes;
        (attributes.local_pref, attributes.med)
    };
    assert_eq!([1, 2].map(seen), [(250, Some(7)); 2]);
    assert_eq!(seen(4), (100, None));
    assert_eq!(routes(&sim, 2)[&own(3).to_string()], ["10.0.0.4"]);
    assert_eq!(routes(&sim, 4)[&own(3).to_string()], ["10.0.0.3"]);
}

#[test]
fn no_export_ends_at_the_confederation_and_no_export_subconfed_at_the_member() {
    let mut configs = row();
    for (number, mark) in [(50, community::NO_EXPORT), (51, community::NO_EXPORT_SUBCONFED)] {
        let marked = Originated { communities: vec![Community(mark)], ..Originated::default() };
        configs[3].originated.insert(own(number), marked);
    }
    let sim = network(1, configs);
    let heard = |node: usize, number| routes(&sim, node).contains_key(&own(number).to_string());
    assert_eq!([0, 1, 2, 4].map(|node| heard(node, 50)), [true, true, true, false]);
    assert_eq!([0, 1, 2, 4].map(|node| heard(node, 51)), [true, false, false, false]);
}

/// Round in a ring: Member-AS Numbers in confederation segments, the identifier outside.
#[test]
fn both_numbers_of_ours_are_loops() {
    // 0 - 1 - 2 - 0, and 3 outside, at 0 and at 2.
    let links = [(0, 1), (1, 2), (2, 0), (3, 0), (3, 2)];
    let mut configs = confederation(&[65001, 65002, 65003, 64500], &links);
    // 2 goes the long way to 0.
    towards(&mut configs[2], 1).import.rules =
        vec![Rule::any(Action::Accept(vec![Operation::SetLocalPref(200)]))];
    let sim = network(1, configs);
    assert_eq!(path(&sim, 2, 0).as_deref(), Some("(65002 65001)"));
    let looped = |node: usize, from: usize, origin: usize| {
        let route = sim.node(node).speaker.route(own(origin)).unwrap();
        let found = route.paths.into_iter().find(|path| path.peer == Some(name(from)));
        found.map(|path| (path.attributes.as_path, path.verdict))
    };
    let verdict = Verdict::Ineligible(Ineligible::AsLoop);
    assert_eq!(looped(0, 2, 0), Some(("(65003 65002 65001)".to_owned(), verdict)));
    assert_eq!(looped(2, 3, 0), Some(("64500 65000".to_owned(), verdict)));
    check_adjacent(&sim, 4);
}

/// With lengths that count no members, each could prefer the way by another for ever.
#[test]
fn members_of_a_full_mesh_come_to_rest_on_the_direct_way() {
    let links: Vec<_> = (0..5).flat_map(|a| (0..a).map(move |b| (a, b))).collect();
    for seed in 0..8 {
        let sim = network(seed, confederation(&MEMBERS, &links));
        for (a, b) in (0..5).flat_map(|a| (0..5).map(move |b| (a, b))).filter(|(a, b)| a != b) {
            assert_eq!(path(&sim, a, b), Some(format!("({})", MEMBERS[b])), "{b} at {a}");
            let route = sim.node(a).speaker.route(own(b)).unwrap();
            let used = |verdict| matches!(verdict, Verdict::Best | Verdict::Multipath);
            assert_eq!(route.paths.iter().filter(|path| used(path.verdict)).count(), 1);
        }
    }
}

/// RFC 5065 §5.3.
#[test]
fn members_count_for_nothing_in_length_and_as_internal() {
    // 0 hears of 64500 itself (3), through 1 (4), and through 2 (5).
    let ases = [65001, 65002, 65003, 64500, 64500, 64500];
    let links = [(0, 1), (0, 2), (3, 0), (4, 1), (5, 2)];
    let mut configs = confederation(&ases, &links);
    let shared = prefix("198.51.100.0/24");
    for config in &mut configs[3..] {
        config.originated.insert(shared, Originated::default());
    }
    let seen = |node: usize, configs: &[Config]| {
        let sim = network(1, configs.to_vec());
        let paths = sim.node(node).speaker.route(shared).unwrap().paths;
        let seen = paths.into_iter().map(|path| (path.attributes.as_path, path.verdict));
        seen.collect::<Vec<_>>()
    };
    let text = |path: &str| path.to_owned();
    let lost = Verdict::Lost(Step::ExternalOverInternal);
    let expected = [
        (text("64500"), Verdict::Best),
        (text("(65002) 64500"), lost),
        (text("(65003) 64500"), lost),
    ];
    assert_eq!(seen(0, &configs), expected);
    // Equal among themselves.
    configs[0].peers.remove(&name(3));
    let expected =
        [(text("(65002) 64500"), Verdict::Best), (text("(65003) 64500"), Verdict::Multipath)];
    assert_eq!(seen(0, &configs), expected);
    // The same neighbouring AS, so MED decides: over eBGP, too.
    configs[4].originated.insert(shared, Originated { med: Some(9), ..Originated::default() });
    let expected =
        [(text("(65001 65003) 64500"), Verdict::Best), (text("64500"), Verdict::Lost(Step::Med))];
    assert_eq!(seen(1, &configs), expected);
}

/// A Member-AS of two: 0 and 1, with 2 beyond, and 3 outside of 2.
#[test]
fn within_a_member_as_the_way_stays_on_the_path() {
    let links = [(0, 1), (1, 2), (2, 3)];
    let sim = network(1, confederation(&[65001, 65001, 65002, 64500], &links));
    assert_eq!(kinds(&sim, 1), [PeerKind::Internal, PeerKind::Confederation]);
    assert_eq!(path(&sim, 0, 3).as_deref(), Some("(65002) 64500"));
    assert_eq!(path(&sim, 2, 0).as_deref(), Some("(65001)"));
    assert_eq!(path(&sim, 3, 0).as_deref(), Some("65000"));
    check_adjacent(&sim, 4);
}

#[test]
fn numbers_that_a_filter_prepends_count() {
    let mut configs = row();
    let rule = Rule::any(Action::Accept(vec![Operation::PrependAsPath(vec![64700])]));
    towards(&mut configs[0], 1).export.rules = vec![rule];
    let sim = network(1, configs);
    assert_eq!(path(&sim, 2, 3).as_deref(), Some("(65002 65001) 64700 64500"));
    assert_eq!(path(&sim, 4, 3).as_deref(), Some("65000 64700 64500"));
}

#[test]
fn a_rule_for_internal_peers_is_one_for_members() {
    for (kind, heard) in [(PeerKind::Internal, None), (PeerKind::External, Some("(65001) 64500"))] {
        let mut configs = row();
        let rule = Rule { peer_kind: Some(kind), ..Rule::any(Action::Reject) };
        towards(&mut configs[0], 1).export.rules = vec![rule];
        assert_eq!(path(&network(1, configs), 1, 3).as_deref(), heard, "{kind:?}");
    }
}

/// Roles, a shown number and hidden parts are for others; members do not need them.
#[test]
fn what_is_for_other_ases_means_nothing_to_members() {
    let mut configs = row();
    let strict = PeerRole { role: Role::Provider, silent: SilentPeer::Refused };
    let member = towards(&mut configs[0], 1);
    member.role = Some(strict);
    member.local_as = Some(asn(65100).into());
    configs[0].aggregates.insert(prefix("192.168.0.0/16"), Specifics::Hidden);
    towards(&mut configs[2], 4).local_as = Some(asn(65100).into());
    towards(&mut configs[4], 2).remote_as = asn(65100).into();
    let sim = network(1, configs);
    assert_eq!(path(&sim, 2, 3).as_deref(), Some("(65002 65001) 64500"));
    assert_eq!(path(&sim, 4, 3).as_deref(), Some("65100 64500"));
    assert_eq!(routes(&sim, 3).into_keys().collect::<Vec<_>>(), ["192.168.0.0/16"]);
}

#[test]
fn who_is_outside_may_not_have_a_number_of_the_confederation() {
    // The second thinks that it is a member; the first does not know it.
    let mut configs = confederation(&[65001, 65002], &[(0, 1)]);
    configs[0].confederation.as_mut().unwrap().members.clear();
    let mut sim = Simulation::new(1);
    for (number, config) in configs.into_iter().enumerate() {
        sim.add(address(number), config);
    }
    sim.run_for(std::time::Duration::from_secs(2));
    assert_ne!(state(&sim, 0, 1), State::Established);
    let error = sim.node(1).speaker.peers(sim.now())[0].last_error.clone().unwrap();
    assert_eq!(error.code, Some((2, 2)));
}

/// An AS becomes a confederation, and is one no more: sessions begin anew, nothing is left behind.
#[test]
fn a_confederation_comes_and_goes() {
    let with = row();
    let mut without = with.clone();
    without.iter_mut().for_each(|config| config.confederation = None);
    towards(&mut without[3], 0).remote_as = asn(65001).into();
    towards(&mut without[4], 2).remote_as = asn(65003).into();
    let mut sim = network(1, without.clone());
    assert_eq!(path(&sim, 4, 3).as_deref(), Some("65003 65002 65001 64500"));
    for (configs, expected) in [(with, "65000 64500"), (without, "65003 65002 65001 64500")] {
        for (node, config) in configs.into_iter().enumerate() {
            sim.with(node, |speaker, now| speaker.configure(now, config));
        }
        sim.run_for(std::time::Duration::from_secs(60));
        assert_eq!(path(&sim, 4, 3).as_deref(), Some(expected));
        check_adjacent(&sim, 5);
    }
}

/// What members are told is packed as for any peer.
#[test]
fn a_member_gets_the_table_packed_by_attributes() {
    let mut configs = confederation(&[65001, 65002, 64500], &[(0, 1), (2, 0)]);
    for number in 0..4000_u32 {
        let address = Ipv4Addr::from_bits(0x1400_0000 + (number << 8));
        let originated = Originated { med: Some(number % 4), ..Originated::default() };
        configs[2].originated.insert(Prefix::new(address.into(), 24).unwrap(), originated);
    }
    let late = configs[0].peers.remove(&name(1)).unwrap();
    let mut sim = network(1, configs.clone());
    configs[0].peers.insert(name(1), late);
    sim.with(0, |speaker, now| speaker.configure(now, configs[0].clone()));
    sim.run_until_quiet();
    assert_eq!(sim.node(1).routes.len(), 4002);
    // Four sets of a thousand prefixes, two own ones, two End-of-RIBs.
    let heard = sim.node(1).speaker.peers(sim.now())[0].received.update;
    assert!(heard <= 8 + 2 + 2, "{heard}");
}
