use super::*;
use ocicat_bgp::speaker::PeerName;
use ocicat_bgp::wire::{PeerKind, Prefix};

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn learned(prefix: &str, next_hops: &[&str]) -> Learned {
    let via = |address: &&str| NextHopVia {
        address: address.parse().unwrap(),
        link_local: None,
        peer: PeerName::from("tor"),
        kind: PeerKind::External,
        interface: None,
    };
    Learned { prefix: Prefix::from(net(prefix)), next_hops: next_hops.iter().map(via).collect() }
}

fn ways(ways: &[(&str, &str, &str)]) -> Ways {
    let way = |gateway: &str, matched: &str| Resolved {
        hops: vec![NextHop {
            gateway: Some(gateway.parse().unwrap()),
            interface: "eth0".into(),
            onlink: Onlink::No,
        }],
        matched: net(matched),
        protocol: PROTOCOL,
    };
    ways.iter().map(|(to, via, matched)| (to.parse().unwrap(), way(via, matched))).collect()
}

fn text(plan: &RoutePlan) -> Vec<String> {
    plan.all().values().map(ToString::to_string).collect()
}

#[test]
fn a_learned_route_goes_where_its_next_hop_goes() {
    let mut plan = RoutePlan::default();
    let ways =
        ways(&[("10.0.2.10", "10.0.1.1", "0.0.0.0/0"), ("10.0.3.10", "10.0.1.2", "0.0.0.0/0")]);
    plan.learn(learned("10.65.2.0/24", &["10.0.2.10", "10.0.3.10"]), &ways);
    assert_eq!(
        text(&plan),
        [
            "10.65.2.0/24 proto 179 metric 4096 nexthop via 10.0.1.1 dev eth0 nexthop via 10.0.1.2 dev eth0"
        ]
    );
    plan.forget(net("10.65.2.0/24"), &ways);
    assert_eq!(text(&plan), [""; 0]);
}

#[test]
fn a_router_on_the_link_of_its_session_needs_no_way() {
    let mut plan = RoutePlan::default();
    let mut route = learned("10.65.2.0/24", &["fd00:1::1", "fe80::2"]);
    for (hop, link) in route.next_hops.iter_mut().zip(["eth0", "eth1"]) {
        hop.interface = Some(link.into());
    }
    route.next_hops[0].link_local = Some("fe80::1".parse().unwrap());
    plan.learn(route, &Ways::new());
    assert_eq!(plan.next_hops(), BTreeSet::new());
    assert_eq!(
        text(&plan),
        [
            "10.65.2.0/24 proto 179 metric 4096 nexthop via inet6 fe80::1 dev eth0 nexthop via inet6 fe80::2 dev eth1"
        ]
    );
}

#[test]
fn a_route_is_not_made_of_itself() {
    let mut plan = RoutePlan::default();
    let ways = ways(&[("10.65.2.1", "10.0.1.1", "10.65.2.0/24")]);
    plan.learn(learned("10.65.2.0/24", &["10.65.2.1"]), &ways);
    assert_eq!(text(&plan), [""; 0]);
}

#[test]
fn a_route_that_holds_its_next_hop_is_no_way_to_it_unless_something_else_has_its_place() {
    let mut plan = RoutePlan::default();
    let hop: IpAddr = "10.65.2.1".parse().unwrap();
    let around = |plan: &RoutePlan| {
        let wanted = plan.wanted();
        wanted[&hop].iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    plan.learn(learned("10.65.2.0/24", &["10.65.2.1"]), &Ways::new());
    plan.learn(learned("10.65.2.1/32", &["10.65.2.1"]), &Ways::new());
    plan.learn(learned("198.51.100.0/24", &["10.65.2.1"]), &Ways::new());
    assert_eq!(around(&plan), ["10.65.2.0/24", "10.65.2.1/32"]);
    // The same again, and another way for one of them.
    plan.learn(learned("10.65.2.0/24", &["10.65.2.1"]), &Ways::new());
    let gateways = [(hop, "10.0.1.1".parse().unwrap())].into();
    let known = ways(&[("10.0.1.1", "10.0.1.1", "10.0.1.0/24")]);
    plan.follow_peering(Routing { gateways, ..Routing::default() }, &known);
    assert_eq!(around(&plan), ["10.65.2.0/24"]);
    plan.aggregate(net("10.65.2.0/24"));
    assert_eq!(around(&plan), [""; 0]);
    plan.end_aggregate(net("10.65.2.0/24"));
    plan.learn(learned("10.65.2.0/24", &["10.0.9.9"]), &known);
    assert_eq!(around(&plan), [""; 0]);
}

#[test]
fn a_way_that_is_found_later_changes_the_place_it_was_wanted_for() {
    let mut plan = RoutePlan::default();
    plan.learn(learned("10.65.2.0/24", &["10.0.2.10"]), &Ways::new());
    assert_eq!(text(&plan), [""; 0]);
    let changed = plan.follow_ways(&ways(&[("10.0.2.10", "10.0.1.1", "0.0.0.0/0")]));
    assert_eq!(changed, BTreeSet::from([learned_key(net("10.65.2.0/24"))]));
    assert_eq!(text(&plan), ["10.65.2.0/24 via 10.0.1.1 dev eth0 proto 179 metric 4096"]);
}

#[test]
fn a_link_that_carries_nothing_is_no_way_at_once() {
    let mut plan = RoutePlan::default();
    let ways = ways(&[("10.0.1.1", "10.0.1.1", "10.0.1.0/24")]);
    plan.learn(learned("198.51.100.0/24", &["10.0.1.1"]), &ways);
    plan.learn(learned("203.0.113.0/24", &["10.0.1.1"]), &ways);
    let asked = plan.next_hops();
    assert_eq!(asked, BTreeSet::from(["10.0.1.1".parse().unwrap()]));
    assert!(plan.unreachable(&asked, &ways).is_empty());
    plan.follow_links(BTreeSet::from(["eth0".into()]), &ways);
    assert!(text(&plan).is_empty());
    assert_eq!(plan.unreachable(&asked, &ways), asked);
    plan.follow_links(BTreeSet::new(), &ways);
    assert_eq!(text(&plan).len(), 2);
    // A next hop is asked about as long as one path goes by it.
    plan.forget(net("198.51.100.0/24"), &ways);
    assert_eq!(plan.next_hops(), asked);
    plan.learn(learned("203.0.113.0/24", &["10.0.1.2"]), &ways);
    assert_eq!(plan.next_hops(), BTreeSet::from(["10.0.1.2".parse().unwrap()]));
    plan.forget(net("203.0.113.0/24"), &ways);
    assert!(plan.next_hops().is_empty());
}

#[test]
fn a_peer_with_a_gateway_is_reached_by_it_whatever_was_learned() {
    let mut plan = RoutePlan::default();
    let ways =
        ways(&[("10.0.1.1", "10.0.1.1", "10.0.1.0/24"), ("10.0.9.9", "10.0.1.2", "0.0.0.0/0")]);
    plan.learn(learned("192.0.2.1/32", &["10.0.9.9"]), &ways);
    let gateways = [("192.0.2.1".parse().unwrap(), "10.0.1.1".parse().unwrap())].into();
    let routing = Routing { gateways, ..Routing::default() };
    let changed = plan.follow_peering(routing, &ways);
    assert_eq!(changed, BTreeSet::from([learned_key(net("192.0.2.1/32"))]));
    assert_eq!(text(&plan), ["192.0.2.1/32 via 10.0.1.1 dev eth0 proto 179 metric 4096"]);
    assert!(plan.next_hops().contains(&"10.0.1.1".parse::<IpAddr>().unwrap()));
    plan.follow_peering(Routing::default(), &ways);
    assert_eq!(text(&plan), ["192.0.2.1/32 via 10.0.1.2 dev eth0 proto 179 metric 4096"]);
}

#[test]
fn what_somebody_else_programs_is_left_to_him() {
    let mut plan = RoutePlan::default();
    let ways = ways(&[("10.0.2.10", "10.0.1.1", "0.0.0.0/0")]);
    plan.learn(learned("10.65.2.0/24", &["10.0.2.10"]), &ways);
    plan.learn(learned("192.0.2.0/24", &["10.0.2.10"]), &ways);
    let unprogrammed = vec![net("10.65.0.0/16")];
    plan.follow_peering(Routing { unprogrammed, ..Routing::default() }, &ways);
    assert_eq!(text(&plan), ["192.0.2.0/24 via 10.0.1.1 dev eth0 proto 179 metric 4096"]);
}

#[test]
fn legs_name_where_a_route_is_from_and_stop_at_the_limit() {
    let mut plan = RoutePlan::default();
    let ways = ways(&[("10.0.2.10", "10.0.1.1", "0.0.0.0/0")]);
    plan.aggregate(net("10.65.0.0/16"));
    plan.learn(learned("10.65.2.0/24", &["10.0.2.10", "10.0.3.10"]), &ways);
    plan.learn(learned("fd00:65:2::/64", &["fd00::1"]), &ways);
    let text = |legs: Vec<Leg>| {
        let line = |leg: &Leg| {
            let gateway = leg.gateway.map_or("-".to_owned(), |ip| ip.to_string());
            let link = leg.interface.as_deref().unwrap_or("-").to_owned();
            format!("{} {gateway} {link} {:?}", leg.destination, leg.origin)
        };
        legs.iter().map(line).collect::<Vec<_>>()
    };
    let by_tor = format!("{:?}", LegOrigin::Peer(PeerName::from("tor")));
    assert_eq!(
        text(plan.legs(Family::Ipv4, 9, &ways)),
        [
            "10.65.0.0/16 - - Configured".to_owned(),
            format!("10.65.2.0/24 10.0.1.1 eth0 {by_tor}"),
            format!("10.65.2.0/24 10.0.3.10 - {by_tor}"),
        ]
    );
    assert_eq!(plan.legs(Family::Ipv4, 1, &ways).len(), 1);
    assert_eq!(
        text(plan.legs(Family::Ipv6, 9, &ways)),
        [format!("fd00:65:2::/64 fd00::1 - {by_tor}")]
    );
}

#[test]
fn a_learned_default_yields_to_our_own_though_the_kernel_would_prefer_it() {
    let mut plan = RoutePlan::default();
    let ways = ways(&[("fd00:2::10", "fd00:1::1", "fd00:2::/64")]);
    plan.learn(learned("::/0", &["fd00:2::10"]), &ways);
    let learned = ["::/0 via fd00:1::1 dev eth0 proto 179 metric 300"];
    assert_eq!(text(&plan), learned);
    let prefix = net("::/0");
    assert!(plan.aggregate(prefix).contains(&learned_key(prefix)));
    assert_eq!(text(&plan), ["blackhole ::/0 proto 179 metric 1024"]);
    assert_eq!(plan.at(prefix).len(), 1);
    assert!(plan.end_aggregate(prefix).contains(&learned_key(prefix)));
    assert_eq!(text(&plan), learned);
}

#[test]
fn learned_routes_of_an_earlier_version_move() {
    let route = |text: &str, metric, via: &str| {
        let hop = ways(&[("fd00::1", via, "::/0")]).into_values().next().unwrap().hops;
        Route { metric, ..Route::new(net(text), RouteKind::Unicast(hop)) }
    };
    let old = [route("fd00:2::/64", 1024, "fe80::1"), route("fd00:3::/64", 1024, "fe80::1")];
    let kernel = old.into_iter().chain([route("fd00:3::/64", 4096, "fe80::2")]);
    let mut plan = RoutePlan::default();
    plan.hold(&kernel.map(|route| (route.key(), route)).collect());
    assert_eq!(
        text(&plan),
        [
            "fd00:2::/64 via fe80::1 dev eth0 proto 179 metric 4096",
            "fd00:3::/64 via fe80::2 dev eth0 proto 179 metric 4096"
        ]
    );
}

#[test]
fn routes_of_an_earlier_life_stay_until_their_family_was_heard() {
    let mut first = RoutePlan::default();
    let ways = ways(&[("10.0.2.10", "10.0.1.1", "0.0.0.0/0"), ("fd00:2::10", "fd00:1::1", "::/0")]);
    first.learn(learned("10.65.2.0/24", &["10.0.2.10"]), &ways);
    first.learn(learned("fd00:65:2::/64", &["fd00:2::10"]), &ways);
    let kernel = first.all();
    let mut second = RoutePlan::default();
    second.hold(&kernel);
    assert_eq!(second.all(), kernel);
    assert_eq!(second.release(Family::Ipv4).len(), 1);
    assert_eq!(text(&second).len(), 1);
    second.release(Family::Ipv6);
    assert_eq!(text(&second), [""; 0]);
}
