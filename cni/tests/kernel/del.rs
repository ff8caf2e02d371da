//! DEL, whatever it finds.

use std::fs;

use serde_json::json;

use crate::DUAL;
use crate::node::{Daemon, Pod, addresses, exchange, links, on_a_node};

#[test]
fn del_succeeds_whatever_is_missing() {
    on_a_node(Daemon::IsAbsent, &DUAL, |node| {
        let pod = Pod::new("web");
        node.del(&pod).unwrap();
        pod.vanish();
        node.del(&pod).unwrap();
        let mut environment = pod.environment("DEL");
        environment.netns.clear();
        ocicat_cni::run(&environment, &node.config(&json!({}))).unwrap();
    });
}

#[test]
fn del_without_a_namespace_still_releases_and_leaves_no_interface() {
    on_a_node(Daemon::Enforces, &DUAL, |node| {
        let pod = Pod::new("web");
        let before = addresses(&node.add(&pod).unwrap());
        pod.vanish();
        node.del(&pod).unwrap();
        assert_eq!(links(), ["lo"]);
        assert_eq!(node.records().endpoints, []);
        let again = Pod::new("web");
        assert_ne!(addresses(&node.add(&again).unwrap()), before, "not at once");
    });
}

#[test]
fn del_without_a_record_follows_the_pair() {
    on_a_node(Daemon::Enforces, &DUAL, |node| {
        let pod = Pod::new("web");
        node.add(&pod).unwrap();
        fs::remove_dir_all(node.state().join("endpoints")).unwrap();
        node.del(&pod).unwrap();
        node.assert_clean(&pod, "after DEL");
    });
}

#[test]
fn del_of_an_old_sandbox_leaves_the_new_one_alone() {
    on_a_node(Daemon::Enforces, &DUAL, |node| {
        let (old, new, peer) = (Pod::new("web"), Pod::new("web"), Pod::new("peer"));
        node.add(&old).unwrap();
        let reply = node.run("ADD", &new, &json!({})).unwrap();
        assert!(reply.notes[0].contains("an old sandbox of this pod had left"));
        let result = reply.result.unwrap();
        let error = node.check(&old, &result).unwrap_err();
        assert!(error.msg.contains("the pod has a newer sandbox"), "{error}");
        node.del(&old).unwrap();
        node.check(&new, &result).unwrap();
        assert_eq!(node.records().endpoints.len(), 1);
        node.add(&peer).unwrap();
        exchange(&peer, &new, addresses(&result)[0]);
    });
}

#[test]
fn del_of_the_new_sandbox_comes_before_that_of_the_old_one() {
    on_a_node(Daemon::Enforces, &DUAL, |node| {
        let (old, new) = (Pod::new("web"), Pod::new("web"));
        node.add(&old).unwrap();
        node.add(&new).unwrap();
        node.del(&new).unwrap();
        assert_eq!(links(), ["lo"]);
        node.del(&old).unwrap();
        node.assert_clean(&old, "after both");
    });
}

#[test]
fn a_damaged_record_stops_allocation_until_its_container_is_deleted() {
    on_a_node(Daemon::Enforces, &DUAL, |node| {
        let (damaged, other) = (Pod::new("web"), Pod::new("other"));
        node.add(&damaged).unwrap();
        let record = format!("endpoints/{}@eth0.json", damaged.container_id);
        fs::write(node.state().join(&record), "{").unwrap();
        let error = node.add(&other).unwrap_err();
        assert!(error.details.unwrap().contains(&record));
        node.del(&damaged).unwrap();
        node.add(&other).unwrap();
    });
}
