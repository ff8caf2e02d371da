//! What the kernel tells us, and its settings and connections, in a namespace of its own.

use std::{
    net::{IpAddr, TcpListener, TcpStream},
    time::Duration,
};

use ocicat_felix::{
    dataplane::{
        Change, Dataplane, Route, RouteChanges, Routes,
        kernel::{Event, Kernel, Monitor, conntrack, links, sysctl},
        route,
    },
    nft::{Chain, Table, Transaction, diff},
};
use tokio::sync::mpsc;

#[path = "tables/netns.rs"]
mod netns;

use netns::{in_fresh_namespace, output};

fn ip(arguments: &str) {
    output("ip", &arguments.split(' ').collect::<Vec<_>>(), "").expect(arguments);
}

fn next(events: &mut mpsc::Receiver<Event>) -> Event {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let next = async { tokio::time::timeout(Duration::from_secs(5), events.recv()).await };
    runtime.expect("a runtime").block_on(next).expect("an event in time").expect("a monitor")
}

/// Waits for the event; what comes before it does not matter.
fn expect(events: &mut mpsc::Receiver<Event>, wanted: impl Fn(&Event) -> bool) {
    while !wanted(&next(events)) {}
}

fn pod_route() -> Change {
    let route = Route::to_pod("10.1.0.7".parse().expect("an address"), "oci01");
    let routes = RouteChanges { add: vec![route], ..RouteChanges::default() };
    Change { nft: Transaction::new("ocicat"), routes }
}

#[test]
fn what_others_do_is_announced_and_what_we_do_is_not() {
    in_fresh_namespace(&["nft", "ip"], || {
        let mut kernel = Kernel::open("ocicat").unwrap();
        let (sender, mut events) = mpsc::channel(64);
        Monitor::open(&kernel).unwrap().spawn(sender).unwrap();
        ip("link add oci01 type veth peer name far");
        let is_new = |event: &Event| matches!(event, Event::Link(link) if &*link.name == "oci01");
        expect(&mut events, is_new);
        ip("link set far up");
        ip("link set oci01 up");
        let is_up = |event: &Event| {
            let up = (links::Admin::Up, links::Carrier::Present);
            matches!(event, Event::Link(link) if &*link.name == "oci01" && (link.admin, link.carrier) == up)
        };
        expect(&mut events, is_up);
        ip("addr add 192.0.2.1/24 dev oci01");
        expect(&mut events, |event| matches!(event, Event::Addresses { .. }));
        ip("addr add 192.0.2.2/24 dev oci01");
        ip("addr del 192.0.2.2/24 dev oci01");
        let gone = |event: &Event| matches!(event, Event::AddressGone { interface } if &**interface == "oci01");
        expect(&mut events, gone);

        ip("route add 198.51.100.0/24 via 192.0.2.9");
        expect(&mut events, |event| *event == Event::Ways);

        let mut goal = Table::new("ocicat");
        goal.chains.insert("a".into(), Chain::default());
        let mut change = pod_route();
        change.nft = diff(&goal, &Table::new("ocicat"));
        let outcome = kernel.apply(&change);
        assert!(outcome.nft.is_ok() && outcome.routes.is_empty(), "{outcome:?}");
        ip("link set oci01 mtu 1400");
        expect(&mut events, |event| {
            assert!(!matches!(event, Event::Table | Event::Route(_) | Event::Lost), "{event:?}");
            matches!(event, Event::Link(link) if link.mtu == 1400)
        });

        ip("route del 10.1.0.7/32");
        let key = change.routes.add[0].key();
        expect(&mut events, |event| *event == Event::Route(key));
        output("nft", &["add", "chain", "inet", "ocicat", "b"], "").unwrap();
        expect(&mut events, |event| *event == Event::Table);
        ip("link del oci01");
        let is_gone =
            |event: &Event| matches!(event, Event::LinkGone { name, .. } if &**name == "oci01");
        expect(&mut events, is_gone);
    });
}

#[test]
fn interfaces_are_announced_again_when_notifications_were_lost() {
    in_fresh_namespace(&["ip"], || {
        ip("link set lo up");
        ip("link add eth7 type veth peer name far7");
        ip("link add gone0 type veth peer name far-gone0");
        ip("link set eth7 up");
        ip("addr add 192.0.2.1/24 dev eth7");
        let kernel = Kernel::open("ocicat").unwrap();
        // Nobody takes what is announced, so the kernel has to keep it.
        let (sender, mut events) = mpsc::channel(1);
        Monitor::open(&kernel).unwrap().spawn(sender).unwrap();
        let line = |n: u16| format!("route add blackhole 10.7.{}.{}/32\n", n >> 8, n & 255);
        let flood: String = (0..u16::MAX / 2).map(line).collect();
        output("ip", &["-batch", "-"], &flood).unwrap();
        ip("link set eth7 mtu 1400");
        ip("link del gone0");
        expect(&mut events, |event| *event == Event::Lost);
        let (mut changed, mut gone) = (false, false);
        while !(changed && gone) {
            let event = next(&mut events);
            changed |=
                matches!(&event, Event::Link(link) if &*link.name == "eth7" && link.mtu == 1400);
            gone |= matches!(&event, Event::LinkGone { name, .. } if &**name == "gone0");
        }
        // Its interface is known by name again.
        ip("addr del 192.0.2.1/24 dev eth7");
        let lost = |event: &Event| matches!(event, Event::AddressGone { interface } if &**interface == "eth7");
        expect(&mut events, lost);
    });
}

#[test]
fn a_whole_change_is_made_and_settled_in_the_mirror() {
    in_fresh_namespace(&["ip"], || {
        ip("link add oci01 type veth peer name far");
        ip("link set oci01 up");
        let mut kernel = Kernel::open("ocicat").unwrap();
        let mut mirror = kernel.read().unwrap();
        let mut goal = mirror.clone();
        goal.table.chains.insert("a".into(), Chain::default());
        let pods = ["oci01", "oci02"].map(|interface| {
            let last = interface.as_bytes()[4];
            Route::to_pod(IpAddr::from([10, 1, 0, last]), interface)
        });
        goal.routes = pods.into_iter().map(|route| (route.key(), route)).collect::<Routes>();
        let change = Change::between(&goal, &mirror);
        let outcome = kernel.apply(&change);
        assert_eq!(outcome.routes.len(), 1, "oci02 does not exist");
        outcome.settle(&change, &mut mirror).unwrap();
        assert_eq!(mirror, kernel.read().unwrap());
        assert_eq!(route::diff(&goal.routes, &mirror.routes).add.len(), 1);
    });
}

#[test]
fn pod_interfaces_and_the_node_are_set_up() {
    in_fresh_namespace(&["ip"], || {
        ip("link add oci01 type veth peer name far");
        let listens = "/proc/sys/net/ipv6/conf/far/accept_ra";
        std::fs::write(listens, "1").unwrap();
        let mut settings = sysctl::for_node();
        settings.extend(sysctl::for_pod_interface("oci01", sysctl::ReversePath::Off));
        for setting in &settings {
            setting.apply().unwrap_or_else(|error| panic!("{setting}: {error}"));
        }
        // The pod's own setting of `accept_ra` comes after that of the node.
        for setting in
            settings.iter().filter(|s| s.path != "net/ipv6/conf/oci01/accept_ra" || s.value == "0")
        {
            let path = format!("/proc/sys/{}", setting.path);
            assert_eq!(std::fs::read_to_string(path).unwrap().trim(), setting.value, "{setting}");
        }
        assert_eq!(std::fs::read_to_string(listens).unwrap().trim(), "2", "forwarding ends 1");
        let all = links::links().unwrap();
        let pod = all.iter().find(|link| &*link.name == "oci01").unwrap();
        assert_eq!((pod.mtu, pod.mac.len(), pod.kind.as_deref()), (1500, 6, Some("veth")));
        ip("addr add 192.0.2.1/24 dev oci01");
        let addresses = links::addresses().unwrap();
        assert_eq!(addresses.len(), 1);
        assert_eq!(
            (addresses[0].index, addresses[0].address.to_string()),
            (pod.index, "192.0.2.1/24".into())
        );
    });
}

#[test]
fn the_room_for_keys_is_raised_and_never_lowered() {
    in_fresh_namespace(&[], || {
        let path = "/proc/sys/net/core/optmem_max";
        if !std::fs::exists(path).unwrap() {
            eprintln!("skipped: before Linux 6.8 it is not of the namespace");
            return;
        }
        let now = || std::fs::read_to_string(path).unwrap().trim().to_owned();
        for (before, after) in [("20480", "1048576"), ("2000000", "2000000")] {
            std::fs::write(path, before).unwrap();
            sysctl::for_speaker().iter().for_each(|setting| setting.apply().unwrap());
            assert_eq!(now(), after);
        }
    });
}

#[test]
fn pod_interfaces_have_the_addresses_that_they_should() {
    in_fresh_namespace(&["ip"], || {
        ip("link add oci01 type veth peer name far");
        ip("link set oci01 up");
        ip("link set far up");
        ip("addr add 192.0.2.1/24 dev far");
        let mut kernel = Kernel::open("ocicat").unwrap();
        let mut adopt = |addresses: &[&str]| {
            let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
            let gone = ("oci02".to_owned(), ["192.0.2.9".parse().unwrap()].into());
            let ends = [("oci01".to_owned(), addresses), gone];
            let failures = kernel.adopt(&ends.into());
            assert!(failures.iter().all(|line| line.contains("oci02")), "{failures:?}");
        };
        let shown = || {
            let text = output("ip", &["-o", "addr", "show", "dev", "oci01"], "").unwrap();
            let words = text.lines().map(|line| {
                let line: Vec<&str> = line.split_whitespace().skip(3).collect();
                line.join(" ").split('\\').next().unwrap_or_default().trim().to_owned()
            });
            // The kernel makes the last one itself.
            let all: Vec<String> = words.filter(|line| !line.contains("/64")).collect();
            all
        };
        adopt(&["169.254.0.179", "fe80::179", "fd00:179::1"]);
        let mut all = shown();
        all.sort();
        assert_eq!(
            all,
            [
                "169.254.0.179/32 scope host oci01",
                "fd00:179::1/128 scope global nodad deprecated noprefixroute",
                "fe80::179/128 scope link nodad deprecated noprefixroute",
            ]
        );
        adopt(&["fd00:179::2"]);
        assert_eq!(shown(), ["fd00:179::2/128 scope global nodad deprecated noprefixroute"]);
        adopt(&[]);
        assert!(shown().is_empty());
        let others = links::addresses().unwrap();
        assert!(others.iter().any(|address| address.address.to_string() == "192.0.2.1/24"));
    });
}

#[test]
fn the_connections_of_an_address_are_forgotten_and_no_others() {
    in_fresh_namespace(&["nft", "ip"], || {
        ip("link set lo up");
        // Tracking starts when somebody asks for it.
        let rules = "add table inet t\n\
            add chain inet t c { type filter hook output priority 0; }\n\
            add rule inet t c ct state new accept\n";
        output("nft", &["-f", "-"], rules).unwrap();
        let mut connections = Vec::new();
        for address in ["127.0.0.5:0", "127.0.0.6:0", "[::1]:0"] {
            let listener = TcpListener::bind(address).unwrap();
            let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            connections.push((listener, stream));
        }
        let forget = |ip: &str| conntrack::forget(ip.parse().unwrap()).unwrap();
        assert_eq!(forget("127.0.0.7"), 0);
        assert_eq!(forget("127.0.0.5"), 1);
        assert_eq!(forget("127.0.0.5"), 0);
        assert_eq!(forget("127.0.0.6"), 1);
        assert_eq!(forget("::1"), 1);
    });
}
