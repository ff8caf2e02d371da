//! ADD that fails, and leaves nothing behind.

use std::fs;
use std::time::{Duration, Instant};

use ocicat_cni::endpoint::host_interface;
use ocicat_cni::spec::Code;
use ocicat_cni::store::Store;
use serde_json::{Value, json};

use crate::DUAL;
use crate::node::{Daemon, Node, Pod, add_link, addresses, ip, links, on_a_node};

/// An ADD that fails with `code` and a message about `about`, and leaves nothing.
fn check_undone(node: &Node, extra: &Value, code: Code, about: &str) {
    let pod = Pod::new("web");
    let error = node.run("ADD", &pod, extra).unwrap_err();
    assert_eq!((error.code, &error.details), (code, &None), "{error}");
    assert!(error.msg.contains(about), "{error}");
    node.assert_clean(&pod, &error.msg);
}

#[test]
fn a_refusal_of_the_daemon_undoes_the_add() {
    on_a_node(Daemon::Refuses, &DUAL, |node| {
        check_undone(node, &json!({}), Code::TryAgainLater, "two watches lack");
        assert_eq!(node.requests(), ["attach default/web", "detach default/web"]);
    });
}

#[test]
fn a_silent_daemon_undoes_the_add_after_the_timeout() {
    on_a_node(Daemon::StaysSilent, &DUAL, |node| {
        let began = Instant::now();
        check_undone(node, &json!({}), Code::TryAgainLater, "did not answer within 1s");
        assert!(began.elapsed() < Duration::from_secs(3));
    });
}

#[test]
fn without_a_daemon_add_names_the_socket_and_reserves_nothing() {
    on_a_node(Daemon::IsAbsent, &DUAL, |node| {
        check_undone(node, &json!({}), Code::TryAgainLater, "ocicat.sock");
        assert!(!node.state().join("released.json").exists());
    });
}

#[test]
fn without_node_json_add_is_to_be_tried_again() {
    on_a_node(Daemon::Enforces, &DUAL, |node| {
        fs::remove_file(node.state().join("node.json")).unwrap();
        check_undone(node, &json!({}), Code::TryAgainLater, "node.json does not exist");
    });
}

#[test]
fn an_exhausted_range_fails_without_a_trace_and_is_reused_when_it_has_room() {
    on_a_node(Daemon::Enforces, &["10.65.1.0/30", "fd00:65:1::/64"], |node| {
        let first = Pod::new("first");
        let before = addresses(&node.add(&first).unwrap());
        let second = Pod::new("second");
        let error = node.add(&second).unwrap_err();
        assert_eq!(error.code, Code::TryAgainLater);
        assert_eq!(error.msg, "no free IPv4 address in 10.65.1.0/30");
        assert_eq!(node.records().endpoints.len(), 1);
        node.del(&first).unwrap();
        let reply = node.run("ADD", &second, &json!({})).unwrap();
        let after = addresses(&reply.result.unwrap());
        assert_eq!(after[0], before[0], "the only IPv4 address is used again");
        assert_ne!(after[1], before[1], "of IPv6 there are fresh ones");
        assert!(reply.notes[0].contains("10.65.1.2 was idle for only"), "{:?}", reply.notes);
    });
}

#[test]
fn a_bogus_namespace_is_an_error_of_the_environment() {
    on_a_node(Daemon::Enforces, &DUAL, |node| {
        let pod = Pod::new("web");
        for netns in ["/nonexistent", "", "/proc/thread-self/ns/net"] {
            let mut environment = pod.environment("ADD");
            environment.netns = netns.into();
            let error = ocicat_cni::run(&environment, &node.config(&json!({}))).unwrap_err();
            assert_eq!(error.code, Code::InvalidEnvironment, "{error}");
            assert!(error.msg.contains("CNI_NETNS"), "{error}");
        }
        node.assert_clean(&pod, "after three bad namespaces");
    });
}

#[test]
fn an_interface_that_the_container_has_already_is_not_touched() {
    on_a_node(Daemon::Enforces, &DUAL, |node| {
        let pod = Pod::new("web");
        pod.inside(|| ip("link add eth0 type veth peer name eth1"));
        let error = node.add(&pod).unwrap_err();
        assert!(error.msg.contains("the container already has an interface eth0"), "{error}");
        assert_eq!(pod.inside(links), ["eth0", "eth1", "lo"]);
        assert_eq!(node.records().endpoints, []);
    });
}

#[test]
fn a_strangers_route_fails_the_add_and_names_its_interface() {
    on_a_node(Daemon::Enforces, &DUAL, |node| {
        add_link("stranger0");
        ip("route add 10.65.1.2/32 dev stranger0");
        check_undone(node, &json!({}), Code::Plumbing, "dev stranger0 proto 3");
    });
}

#[test]
fn a_pod_whose_interface_name_is_taken_by_another_is_refused() {
    on_a_node(Daemon::Enforces, &DUAL, |node| {
        let other = Pod::new("other");
        node.add(&other).unwrap();
        let store = Store::open(node.state()).unwrap();
        let mut record = node.records().endpoints.remove(0);
        record.host_interface = host_interface("default", "web", "eth0");
        store.lock().unwrap().put(&record).unwrap();
        let error = node.add(&Pod::new("web")).unwrap_err();
        assert!(error.msg.contains("is the interface of default/other"), "{error}");
        assert_eq!(node.records().endpoints, [record]);
    });
}

#[test]
fn add_refuses_to_be_chained_behind_another_plugin() {
    on_a_node(Daemon::Enforces, &DUAL, |node| {
        let previous = json!({ "prevResult": { "cniVersion": "1.1.0" } });
        check_undone(node, &previous, Code::InvalidConfig, "must be first in its list");
    });
}
