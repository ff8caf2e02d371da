//! ADD that succeeds.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::thread;

use ipnet::IpNet;
use ocicat_cni::endpoint::{Stage, host_interface};
use ocicat_cni::plan::{Change, Side, Step};
use serde_json::json;

use crate::DUAL;
use crate::node::{Daemon, Pod, add_link, add_until, addresses, exchange, ip, on_a_node};

#[test]
fn two_pods_reach_each_other_over_both_families() {
    on_a_node(Daemon::Enforces, &DUAL, |node| {
        let (web, client) = (Pod::new("web"), Pod::new("client"));
        let result = node.add(&web).unwrap();
        node.add(&client).unwrap();
        for address in addresses(&result) {
            exchange(&client, &web, address);
        }
        assert_eq!(node.requests(), ["attach default/web", "attach default/client"]);
        assert!(node.records().endpoints.iter().all(|e| e.stage == Stage::Attached));
        node.del(&web).unwrap();
        node.del(&client).unwrap();
        node.assert_clean(&web, "after DEL");
        node.assert_clean(&client, "after DEL");
    });
}

#[test]
fn a_node_with_one_family_has_pods_with_one_family() {
    for cidr in DUAL {
        on_a_node(Daemon::Enforces, &[cidr], move |node| {
            let (web, client) = (Pod::new("web"), Pod::new("client"));
            let result = node.add(&web).unwrap();
            node.add(&client).unwrap();
            let cidr: IpNet = cidr.parse().unwrap();
            let addresses = addresses(&result);
            assert!(addresses.len() == 1 && cidr.contains(&addresses[0]), "{addresses:?}");
            exchange(&client, &web, addresses[0]);
            node.check(&web, &result).unwrap();
        });
    }
}

#[test]
fn the_result_tells_what_is_in_the_kernel() {
    on_a_node(Daemon::Enforces, &DUAL, |node| {
        let web = Pod::new("web");
        let result = node.add(&web).unwrap();
        let host = host_interface("default", "web", "eth0");
        let mac = web.inside(|| ip("-o link show eth0"));
        let interface = &result["interfaces"][1];
        assert!(mac.contains(interface["mac"].as_str().unwrap()), "{mac}");
        assert_eq!(interface["mtu"], 1400);
        assert_eq!(interface["sandbox"], web.netns.to_str().unwrap());
        assert_eq!(result["interfaces"][0]["name"], host.as_str());
        assert!(ip(&format!("link show {host}")).contains("ee:ee:ee:ee:ee:ee"));
        let routes = ip(&format!("route show dev {host}"));
        assert_eq!(routes.trim(), "10.65.1.2 proto 179 scope link");
    });
}

#[test]
fn ten_adds_at_once_get_ten_addresses() {
    on_a_node(Daemon::Enforces, &DUAL, |node| {
        let pods: Vec<Pod> = (0..10).map(|n| Pod::new(&format!("web-{n}"))).collect();
        let given: Vec<Vec<IpAddr>> = thread::scope(|scope| {
            let add = |pod| {
                scope.spawn(move || {
                    node.enter();
                    addresses(&node.add(pod).unwrap())
                })
            };
            let adding: Vec<_> = pods.iter().map(add).collect();
            adding.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let different: BTreeSet<&IpAddr> = given.iter().flatten().collect();
        assert_eq!(different.len(), 20);
        for address in &given[9] {
            exchange(&pods[0], &pods[9], *address);
        }
    });
}

#[test]
fn the_mtu_of_the_configuration_goes_before_the_nodes() {
    on_a_node(Daemon::Enforces, &["10.65.1.0/24"], |node| {
        let pod = Pod::new("web");
        let reply = node.run("ADD", &pod, &json!({ "mtu": 1280 })).unwrap();
        assert_eq!(reply.result.unwrap()["interfaces"][1]["mtu"], 1280);
        assert!(pod.inside(|| ip("link show eth0")).contains("mtu 1280"));
    });
}

#[test]
fn hostile_defaults_of_node_and_pod_do_not_matter() {
    on_a_node(Daemon::Enforces, &DUAL, |node| {
        let hostile = || {
            for (path, value) in [
                ("ipv6/conf/default/disable_ipv6", "1"),
                ("ipv6/conf/default/addr_gen_mode", "1"),
                ("ipv6/conf/default/accept_dad", "2"),
                ("ipv4/conf/default/rp_filter", "1"),
                ("ipv4/conf/default/forwarding", "0"),
            ] {
                fs::write(format!("/proc/sys/net/{path}"), value).unwrap();
            }
        };
        let (web, client) = (Pod::new("web"), Pod::new("client"));
        hostile();
        web.inside(hostile);
        client.inside(hostile);
        let result = node.add(&web).unwrap();
        node.add(&client).unwrap();
        for address in addresses(&result) {
            exchange(&client, &web, address);
        }
    });
}

#[test]
fn a_stale_route_of_ours_is_replaced_and_the_daemons_is_welcome() {
    on_a_node(Daemon::Enforces, &DUAL, |node| {
        add_link("oci00000000000");
        ip("route add 10.65.1.2/32 dev oci00000000000 proto 179");
        ip("-6 route add fd00:65:1::2/128 dev oci00000000000 proto 179");
        let pod = Pod::new("web");
        let reply = node.run("ADD", &pod, &json!({})).unwrap();
        assert_eq!(reply.notes.len(), 2, "{:?}", reply.notes);
        assert!(reply.notes[0].contains("dev oci00000000000 proto 179"), "{:?}", reply.notes);
        node.check(&pod, &reply.result.unwrap()).unwrap();
    });
}

#[test]
fn a_route_with_which_the_daemon_was_quicker_is_welcome() {
    on_a_node(Daemon::Enforces, &DUAL, |node| {
        let pod = Pod::new("web");
        let host_route =
            |step: &Step| matches!(step, Step::Kernel(Change::AddRoute(Side::Node, _)));
        let (mut add, left) = add_until(node, &pod, host_route);
        let host = host_interface("default", "web", "eth0");
        ip(&format!("route add 10.65.1.2/32 dev {host} scope link proto 179"));
        ip(&format!("-6 route add fd00:65:1::2/128 dev {host} proto 179"));
        for step in &left {
            add.apply(step).unwrap();
        }
    });
}
