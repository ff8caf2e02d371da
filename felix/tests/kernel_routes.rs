//! Our routes against the kernel, set up and looked at with `ip`.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;
use ocicat_bgp::speaker::{NextHopVia, PeerName, Route as Learned};
use ocicat_bgp::wire::PeerKind;
use ocicat_felix::dataplane::{
    NextHop, Onlink, Route, RouteChanges, RouteError, RouteKind, Routes, kernel::KernelRoutes,
    route::diff,
};
use ocicat_felix::plan::routes::{RoutePlan, Ways};

#[path = "tables/netns.rs"]
mod netns;

use netns::{in_fresh_namespace, output};

fn ip(arguments: &str) -> String {
    output("ip", &arguments.split(' ').collect::<Vec<_>>(), "").expect(arguments)
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn net(text: &str) -> IpNet {
    text.parse().expect("a block")
}

fn hop(gateway: &str, interface: &str) -> NextHop {
    let gateway = Some(address(gateway));
    NextHop { gateway, interface: interface.into(), onlink: Onlink::No }
}

fn table(routes: impl IntoIterator<Item = Route>) -> Routes {
    routes.into_iter().map(|route| (route.key(), route)).collect()
}

/// A pod interface and two uplinks.
fn node() {
    for name in ["oci01", "eth0", "eth1"] {
        ip(&format!("link add {name} type veth peer name far-{name}"));
        ip(&format!("link set {name} up"));
        ip(&format!("link set far-{name} up"));
    }
    ip("addr add 192.0.2.10/24 dev eth0");
    ip("addr add 198.51.100.10/24 dev eth1");
    ip("addr add 2001:db8::10/64 dev eth0 nodad");
    ip("addr add 2001:db8:1::10/64 dev eth1 nodad");
}

fn reach(routes: &mut KernelRoutes, goal: &Routes) -> RouteChanges {
    let changes = diff(goal, &routes.read().expect("our routes"));
    let failures = routes.apply(&changes);
    assert!(failures.is_empty(), "{failures:?}");
    assert_eq!(routes.read().expect("our routes"), *goal);
    changes
}

fn everything() -> Vec<Route> {
    let unicast = |destination: &str, hops: &[NextHop]| {
        Route::new(net(destination), RouteKind::Unicast(hops.to_vec()))
    };
    let onlink = NextHop { onlink: Onlink::Yes, ..hop("203.0.113.1", "eth1") };
    vec![
        Route::to_pod(address("10.1.0.7"), "oci01"),
        Route::to_pod(address("fd00:1::7"), "oci01"),
        Route::blackhole(net("10.1.0.0/24")),
        Route::blackhole(net("fd00:1::/64")),
        unicast("10.2.0.0/24", &[hop("192.0.2.1", "eth0")]),
        unicast("10.3.0.0/24", &[hop("192.0.2.1", "eth0"), hop("198.51.100.1", "eth1")]),
        unicast("10.4.0.0/24", &[onlink]),
        unicast("10.5.0.0/24", &[hop("fe80::1", "eth0")]),
        unicast("10.6.0.0/24", &[hop("2001:db8::1", "eth0"), hop("198.51.100.1", "eth1")]),
        unicast("fd00:2::/64", &[hop("2001:db8::1", "eth0")]),
        unicast("fd00:3::/64", &[hop("2001:db8::1", "eth0"), hop("2001:db8:1::1", "eth1")]),
        Route {
            source: Some(address("192.0.2.10")),
            ..unicast("0.0.0.0/0", &[hop("192.0.2.1", "eth0")])
        },
        Route { metric: 77, ..unicast("::/0", &[hop("2001:db8::1", "eth0")]) },
    ]
}

#[test]
fn what_is_written_to_the_kernel_is_read_back_and_can_be_changed_and_deleted() {
    in_fresh_namespace(&["ip"], || {
        node();
        let mut routes = KernelRoutes::open().unwrap();
        let all = everything();
        reach(&mut routes, &table(all.clone()));
        assert!(reach(&mut routes, &table(all.clone())).is_empty());
        // Every route becomes another one: fewer hops, more hops, a blackhole.
        let changed = all.iter().map(|route| {
            let v4 = route.destination.addr().is_ipv4();
            let (a, b) =
                if v4 { ("192.0.2.2", "198.51.100.2") } else { ("2001:db8::2", "2001:db8:1::2") };
            let kind = match &route.kind {
                RouteKind::Blackhole => RouteKind::Unicast(vec![hop(a, "eth0")]),
                RouteKind::Unicast(hops) if hops.len() > 1 => {
                    RouteKind::Unicast(vec![hop(b, "eth1")])
                }
                RouteKind::Unicast(hops) if hops[0].gateway.is_none() => RouteKind::Blackhole,
                RouteKind::Unicast(_) => RouteKind::Unicast(vec![hop(a, "eth0"), hop(b, "eth1")]),
            };
            Route { kind, ..route.clone() }
        });
        let changes = reach(&mut routes, &table(changed));
        assert_eq!(changes.replace.len(), all.len());
        reach(&mut routes, &table(all[..3].iter().cloned()));
        reach(&mut routes, &Routes::new());
        assert_eq!(ip("route show proto 179"), "");
        assert_eq!(ip("-6 route show proto 179"), "");
    });
}

#[test]
fn ip_makes_of_our_text_the_same_routes() {
    in_fresh_namespace(&["ip"], || {
        node();
        let goal = table(everything());
        let changes = diff(&goal, &Routes::new());
        for line in changes.to_string().lines() {
            ip(line.strip_prefix("ip ").unwrap());
        }
        let mut routes = KernelRoutes::open().unwrap();
        assert!(diff(&goal, &routes.read().unwrap()).is_empty());
    });
}

#[test]
fn a_route_that_somebody_else_made_stays_and_is_reported() {
    in_fresh_namespace(&["ip"], || {
        node();
        ip("route add 10.2.0.0/24 via 192.0.2.9 proto static");
        ip("-6 route add fd00:2::/64 via 2001:db8::9 proto static");
        let mut routes = KernelRoutes::open().unwrap();
        let goal = table(everything());
        let failures = routes.apply(&diff(&goal, &Routes::new()));
        let reported: Vec<String> =
            failures.iter().map(|f| format!("{}: {}", f.route.destination, f.why)).collect();
        let why = "another program's route (protocol Some(4)) is in its place";
        assert_eq!(reported, [format!("10.2.0.0/24: {why}"), format!("fd00:2::/64: {why}")]);
        assert!(ip("route show 10.2.0.0/24").contains("192.0.2.9"));
        assert_eq!(routes.read().unwrap().len(), goal.len() - 2);
    });
}

#[test]
fn a_pod_route_that_the_plugin_already_made_is_no_failure() {
    in_fresh_namespace(&["ip"], || {
        node();
        ip("route add 10.1.0.7/32 dev oci01 proto 179 scope link");
        ip("route add 10.1.0.8/32 dev eth0 proto 179 scope link");
        ip("-6 route add fd00:1::7/128 dev oci01 proto 179");
        let goal = table(
            ["10.1.0.7", "10.1.0.8", "fd00:1::7"].map(|ip| Route::to_pod(address(ip), "oci01")),
        );
        let mut routes = KernelRoutes::open().unwrap();
        let failures = routes.apply(&diff(&goal, &Routes::new()));
        assert!(failures.is_empty(), "{failures:?}");
        assert_eq!(routes.read().unwrap(), goal);
    });
}

#[test]
fn each_route_fails_alone_and_what_is_gone_counts_as_deleted() {
    in_fresh_namespace(&["ip"], || {
        node();
        let good = Route::to_pod(address("10.1.0.7"), "oci01");
        let absent = Route::to_pod(address("10.1.0.8"), "oci02");
        let unreachable =
            Route::new(net("10.9.0.0/24"), RouteKind::Unicast(vec![hop("203.0.113.1", "eth0")]));
        let mut routes = KernelRoutes::open().unwrap();
        let add = vec![absent.clone(), unreachable, good.clone()];
        let failures = routes.apply(&RouteChanges { add, ..RouteChanges::default() });
        let reasons: Vec<String> = failures.iter().map(|f| f.why.to_string()).collect();
        assert_eq!(
            reasons,
            [
                "interface oci02 does not exist",
                "the kernel refused it: Network is unreachable (os error 101)"
            ]
        );
        assert!(matches!(failures[0].why, RouteError::NoInterface(_)));
        assert_eq!(routes.read().unwrap(), table([good.clone()]));
        let delete = vec![absent, good];
        let failures = routes.apply(&RouteChanges { delete, ..RouteChanges::default() });
        assert!(failures.is_empty(), "{failures:?}");
        assert!(routes.read().unwrap().is_empty());
    });
}

#[test]
fn ten_thousand_routes_are_written_read_and_deleted() {
    in_fresh_namespace(&["ip"], || {
        node();
        let pod = |n: u16| {
            let [high, low] = n.to_be_bytes();
            Route::to_pod(IpAddr::from([10, 7, high, low]), "oci01")
        };
        let mut routes = KernelRoutes::open().unwrap();
        reach(&mut routes, &table((0..10_000).map(pod)));
        reach(&mut routes, &Routes::new());
    });
}

#[test]
fn the_kernel_says_where_an_address_is() {
    in_fresh_namespace(&["ip"], || {
        node();
        ip("route add 10.2.0.0/16 via 192.0.2.1 proto static");
        ip("route add blackhole 10.2.9.0/24");
        ip("route add 10.3.0.0/16 proto 179 nexthop via 192.0.2.1 nexthop via 198.51.100.1");
        let mut routes = KernelRoutes::open().unwrap();
        let mut check = |to: &str, expected: Option<(&str, u8, &[NextHop])>| {
            let found = routes.resolve(address(to)).unwrap();
            let expected = expected.map(|(matched, protocol, hops)| (net(matched), protocol, hops));
            let found = found.as_ref().map(|f| (f.matched, f.protocol, f.hops.as_slice()));
            assert_eq!(found, expected, "{to}");
        };
        check("192.0.2.7", Some(("192.0.2.0/24", 2, &[hop("192.0.2.7", "eth0")])));
        check("2001:db8::7", Some(("2001:db8::/64", 2, &[hop("2001:db8::7", "eth0")])));
        check("10.2.0.1", Some(("10.2.0.0/16", 4, &[hop("192.0.2.1", "eth0")])));
        let two = [hop("192.0.2.1", "eth0"), hop("198.51.100.1", "eth1")];
        check("10.3.0.1", Some(("10.3.0.0/16", 179, &two)));
        check("10.2.9.1", None);
        check("192.0.2.10", None);
        check("203.0.113.1", None);
        check("2001:db8:9::1", None);
    });
}

#[test]
fn the_way_beneath_a_route_is_the_one_that_would_be_without_it() {
    in_fresh_namespace(&["ip"], || {
        node();
        for (family, lines) in [
            (
                "-4",
                "default via 192.0.2.1 proto 179 metric 20
                default via 198.51.100.1 proto static metric 300
                10.2.0.0/16 via 192.0.2.2 proto 179 metric 20
                10.2.3.0/24 via 192.0.2.3 proto 179 metric 20
                10.2.3.1/32 via 192.0.2.4 proto 179 metric 20
                blackhole 10.4.0.0/16
                10.4.3.0/24 via 192.0.2.3 proto 179 metric 20",
            ),
            (
                "-6",
                "fd00:2::/32 proto 179 nexthop via 2001:db8::1 nexthop via 2001:db8:1::1
                fd00:2:3::/48 via 2001:db8::2 proto 179
                fd00:4:3::/48 via 2001:db8::2 proto 179",
            ),
        ] {
            lines.lines().for_each(|line| drop(ip(&format!("{family} route add {}", line.trim()))));
        }
        let mut routes = KernelRoutes::open().unwrap();
        let mut check = |to: &str, made_of_it: &[&str], expected: Option<(&str, &[NextHop])>| {
            let made_of_it = made_of_it.iter().map(|text| net(text)).collect();
            let found = routes.resolve_beneath(&BTreeMap::from([(address(to), made_of_it)]));
            let found = found.unwrap();
            let found = found.get(&address(to)).map(|way| (way.matched, way.hops.as_slice()));
            assert_eq!(found, expected.map(|(matched, hops)| (net(matched), hops)), "{to}");
        };
        check("10.2.3.1", &[], Some(("10.2.3.1/32", &[hop("192.0.2.4", "eth0")])));
        check("10.2.3.1", &["10.2.3.1/32"], Some(("10.2.3.0/24", &[hop("192.0.2.3", "eth0")])));
        let both = ["10.2.3.1/32", "10.2.3.0/24"];
        check("10.2.3.1", &both, Some(("10.2.0.0/16", &[hop("192.0.2.2", "eth0")])));
        let all = ["10.2.3.1/32", "10.2.3.0/24", "10.2.0.0/16"];
        check("10.2.3.1", &all, Some(("0.0.0.0/0", &[hop("192.0.2.1", "eth0")])));
        // Somebody else's default is no circle.
        check("10.9.9.9", &["0.0.0.0/0"], Some(("0.0.0.0/0", &[hop("198.51.100.1", "eth1")])));
        check("10.4.3.1", &["10.4.3.0/24"], None);
        check("192.0.2.7", &["192.0.2.0/24"], Some(("192.0.2.0/24", &[hop("192.0.2.7", "eth0")])));
        let two = [hop("2001:db8::1", "eth0"), hop("2001:db8:1::1", "eth1")];
        check("fd00:2:3::1", &["fd00:2:3::/48"], Some(("fd00:2::/32", &two)));
        check("fd00:4:3::1", &["fd00:4:3::/48"], None);
    });
}

/// By the router at the other end of the link.
fn told_by_tor(prefix: &str) -> Learned {
    let hop = NextHopVia {
        address: address("fe80::1"),
        link_local: None,
        peer: PeerName::from("tor"),
        kind: PeerKind::External,
        interface: Some("eth0".into()),
    };
    Learned { prefix: net(prefix).into(), next_hops: vec![hop] }
}

/// Routers tell what is connected to them, and who made our end of it may have given it any metric.
#[test]
fn a_subnet_that_its_router_tells_us_stays_our_own() {
    in_fresh_namespace(&["ip"], || {
        node();
        ip("address add 203.0.113.2/24 dev eth0 metric 100");
        ip("-6 route add 2001:db8:5::/64 dev eth0 proto ra metric 1024");
        let mut routes = KernelRoutes::open().unwrap();
        let mut plan = RoutePlan::default();
        for prefix in ["203.0.113.0/24", "2001:db8:5::/64", "2001:db8:6::/64"] {
            plan.learn(told_by_tor(prefix), &Ways::new());
        }
        let changes = diff(&plan.all(), &routes.read().unwrap());
        let failures = routes.apply(&changes);
        assert!(failures.is_empty(), "{failures:?}");
        for (family, neighbour, direct) in [
            ("-4", "203.0.113.9", true),
            ("-6", "2001:db8:5::9", true),
            ("-6", "2001:db8:6::9", false),
        ] {
            let way = ip(&format!("{family} route get {neighbour}"));
            assert_eq!(!way.contains("via"), direct, "{way}");
        }
    });
}

#[test]
fn learned_routes_of_the_old_metric_move_without_a_gap_and_leave_a_foreign_default_alone() {
    in_fresh_namespace(&["ip", "sh"], || {
        node();
        // As router advertisements make it.
        ip("-6 route add default via 2001:db8::9 proto ra metric 1024");
        ip("-6 route add fd00:2::/64 via 2001:db8::1 proto 179 metric 1024");
        ip("-6 route add 2001:db8:9::1/128 via 2001:db8::1 proto 179 metric 1024");
        let mut routes = KernelRoutes::open().unwrap();
        let before = routes.read().unwrap();
        let mut plan = RoutePlan::default();
        plan.hold(&before);
        plan.learn(told_by_tor("::/0"), &Ways::new());
        let changes = diff(&plan.all(), &before);
        let lines = changes.to_string();
        let verbs: Vec<&str> = lines.lines().map(|line| &line[12..15]).collect();
        assert_eq!(verbs, ["add", "add", "add", "del", "del"], "{lines}");
        let log = std::env::temp_dir().join(format!("routes-{}", std::process::id()));
        let monitor = format!("exec ip -6 monitor route > {}", log.display());
        let mut monitor = std::process::Command::new("sh").args(["-c", &monitor]).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(300));
        let failures = routes.apply(&changes);
        assert!(failures.is_empty(), "{failures:?}");
        assert_eq!(routes.read().unwrap(), plan.all());
        std::thread::sleep(std::time::Duration::from_millis(300));
        monitor.kill().unwrap();
        monitor.wait().unwrap();
        let seen = std::fs::read_to_string(&log).unwrap();
        std::fs::remove_file(log).unwrap();
        let at = |what: &str| seen.lines().position(|line| line.starts_with(what)).expect(&seen);
        assert!(at("fd00:2::/64") < at("Deleted fd00:2::/64"), "{seen}");
        assert!(
            ip("-6 route get 2001:db8:77::1").contains("fe80::1"),
            "the learned one goes first"
        );
        assert!(ip("-6 route show default").contains("proto ra"));
    });
}
