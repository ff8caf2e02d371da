//! CHECK and STATUS.

use std::fs;

use ocicat_cni::endpoint::host_interface;
use ocicat_cni::spec::Code;
use serde_json::json;

use crate::DUAL;
use crate::node::{Daemon, Node, Pod, ip, on_a_node};

/// CHECK after `damage`, which runs on the node, says `expected`.
fn check_damage(node: &Node, damage: impl FnOnce(&Pod, &str), expected: &str) {
    let pod = Pod::new("web");
    let result = node.add(&pod).unwrap();
    node.check(&pod, &result).unwrap();
    damage(&pod, &host_interface("default", "web", "eth0"));
    let error = node.check(&pod, &result).unwrap_err();
    assert_eq!(error.code, Code::Damaged);
    assert!(error.msg.contains(expected), "{error}\nlacks: {expected}");
    node.del(&pod).unwrap();
}

#[test]
fn check_finds_what_is_damaged() {
    on_a_node(Daemon::Enforces, &DUAL, |node| {
        let inside = |command: &'static str| {
            move |pod: &Pod, _: &str| {
                pod.inside(|| ip(command));
            }
        };
        check_damage(node, inside("link set eth0 down"), "eth0 is down");
        check_damage(node, inside("route del default"), "0.0.0.0/0 via 169.254.1.1");
        check_damage(node, inside("-6 route del default"), "::/0 via fe80::ecee:eeff:feee:eeee");
        check_damage(node, inside("address flush dev eth0 scope global"), "eth0 lacks the address");
        check_damage(node, inside("neigh del 169.254.1.1 dev eth0"), "lacks the neighbour");
        check_damage(
            node,
            inside("link set eth0 name eth7"),
            "the container has no interface eth0",
        );
        let route = |_: &Pod, host: &str| {
            ip(&format!("-6 route flush dev {host} proto 179"));
        };
        check_damage(node, route, "fd00:65:1::");
        let link = |_: &Pod, host: &str| {
            ip(&format!("link delete {host}"));
        };
        check_damage(node, link, "the node has no interface oci");
        let mac = |_: &Pod, host: &str| {
            ip(&format!("link set {host} address 0a:00:00:00:00:01"));
        };
        check_damage(node, mac, "is not ee:ee:ee:ee:ee:ee");
        let sysctl = |_: &Pod, host: &str| {
            fs::write(format!("/proc/sys/net/ipv4/conf/{host}/proxy_arp"), "0").unwrap();
        };
        check_damage(node, sysctl, "proxy_arp is 0, not 1");
        let record = |pod: &Pod, _: &str| {
            let path = format!("endpoints/{}@eth0.json", pod.container_id);
            fs::remove_file(node.state().join(path)).unwrap();
        };
        check_damage(node, record, "there is no record of");
    });
}

#[test]
fn check_works_without_the_daemon_and_needs_the_result() {
    on_a_node(Daemon::Enforces, &DUAL, |node| {
        let pod = Pod::new("web");
        let result = node.add(&pod).unwrap();
        fs::remove_file(node.state().join("ocicat.sock")).unwrap();
        node.check(&pod, &result).unwrap();
        let error = node.run("CHECK", &pod, &json!({})).unwrap_err();
        assert_eq!(error.code, Code::InvalidConfig);
    });
}

#[test]
fn status_is_50_until_the_daemon_is_ready() {
    for (daemon, expected) in [
        (Daemon::Enforces, None),
        (Daemon::Refuses, Some("the ocicat daemon is not ready: two watches lack")),
        (Daemon::IsAbsent, Some("no ocicat daemon answers on")),
    ] {
        on_a_node(daemon, &DUAL, move |node| {
            let outcome = node.run("STATUS", &Pod::new("any"), &json!({}));
            match (outcome, expected) {
                (Ok(_), None) => {}
                (Err(error), Some(expected)) => {
                    assert_eq!(error.code, Code::Unavailable);
                    assert!(error.msg.contains(expected), "{error}");
                }
                (outcome, _) => panic!("{daemon:?}: {outcome:?}"),
            }
        });
    }
}
