//! ADD that is interrupted: by kill -9, by a DEL, by the ADD of a newer sandbox.

use std::io::Write;
use std::process::{Command as Process, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use ocicat_cni::endpoint::{Endpoint, Stage, host_interface};
use ocicat_cni::plan::{Change, Step};
use ocicat_cni::spec::Code;
use serde_json::json;

use crate::DUAL;
use crate::node::{Daemon, Node, Pod, add_until, addresses, links, on_a_node};

/// kill -9 after any step leaves what dropping a half-done ADD there leaves: it has no memory but the record.
fn kill_after_each_step(node: &Node, recover: impl Fn(&Pod, &str)) {
    let pod = Pod::new("web");
    let (_, steps) = add_until(node, &pod, |_| true);
    for done in 0..=steps.len() {
        let what = match done {
            0 => "killed before the first step".to_owned(),
            _ => format!("killed after `{}`", steps[done - 1]),
        };
        node.del(&pod).unwrap();
        let (mut add, steps) = add_until(node, &pod, |_| true);
        for step in &steps[..done] {
            add.apply(step).unwrap();
        }
        drop(add);
        let written = |e: &Endpoint| e.container_id == pod.container_id;
        assert!(node.records().endpoints.iter().any(written), "{what}: no record");
        recover(&pod, &what);
    }
}

#[test]
fn del_cleans_up_after_a_kill_at_any_step() {
    on_a_node(Daemon::Enforces, &DUAL, |node| {
        kill_after_each_step(node, |pod, what| {
            node.del(pod).unwrap();
            node.assert_clean(pod, what);
        });
    });
}

#[test]
fn gc_cleans_up_after_a_kill_at_any_step() {
    on_a_node(Daemon::Enforces, &DUAL, |node| {
        let keep = Pod::new("keep");
        let result = node.add(&keep).unwrap();
        let valid = json!([{ "containerID": keep.container_id, "ifname": "eth0" }]);
        kill_after_each_step(node, |pod, what| {
            node.run("GC", pod, &json!({ "cni.dev/valid-attachments": valid })).unwrap();
            assert_eq!(pod.inside(links), ["lo"], "{what}");
            assert_eq!(node.records().endpoints.len(), 1, "{what}");
            node.check(&keep, &result).unwrap();
        });
    });
}

#[test]
fn a_second_add_goes_on_after_a_kill_at_any_step() {
    on_a_node(Daemon::Enforces, &DUAL, |node| {
        kill_after_each_step(node, |pod, what| {
            let before = node.records().endpoints.remove(0);
            if before.stage == Stage::Attached {
                assert_eq!(node.add(pod).unwrap_err().code, Code::AlreadyAttached);
                return;
            }
            let result = node.add(pod).unwrap_or_else(|error| panic!("{what}: {error}"));
            assert_eq!(addresses(&result), before.addresses, "{what}");
            node.check(pod, &result).unwrap();
        });
    });
}

#[test]
fn an_add_that_is_overtaken_by_a_del_fails() {
    on_a_node(Daemon::Enforces, &DUAL, |node| {
        let pod = Pod::new("web");
        let (mut add, left) = add_until(node, &pod, |step| matches!(step, Step::Commit(_)));
        node.del(&pod).unwrap();
        let error = add.apply(&left[0]).unwrap_err();
        assert!(error.msg.contains("was deleted while it was being added"), "{error}");
        node.assert_clean(&pod, "after DEL");
    });
}

#[test]
fn an_old_sandboxs_add_that_is_overtaken_fails_and_leaves_the_new_one_alone() {
    on_a_node(Daemon::Enforces, &DUAL, |node| {
        let (old, new) = (Pod::new("web"), Pod::new("web"));
        let veth = |step: &Step| matches!(step, Step::Kernel(Change::SetMac(..)));
        let (mut add, left) = add_until(node, &old, veth);
        let result = node.add(&new).unwrap();
        let failed = left.iter().find(|step| add.apply(step).is_err()).unwrap();
        assert!(failed.to_string().starts_with("ip link set oci"), "{failed}");
        let host = host_interface("default", "web", "eth0");
        add.apply(&Step::Kernel(Change::RemoveVeth(host))).unwrap();
        node.check(&new, &result).unwrap();
    });
}

/// Runs the binary as a runtime would, and kills it after `delay`; gives the time it took.
fn execute_and_kill(node: &Node, pod: &Pod, delay: Option<Duration>) -> Duration {
    let environment = pod.environment("ADD");
    let began = Instant::now();
    let mut child = Process::new(env!("CARGO_BIN_EXE_ocicat-cni"))
        .env("CNI_COMMAND", environment.command)
        .env("CNI_CONTAINERID", environment.container_id)
        .env("CNI_NETNS", environment.netns)
        .env("CNI_IFNAME", environment.ifname)
        .env("CNI_ARGS", environment.args)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&node.config(&json!({}))).unwrap();
    if let Some(delay) = delay {
        thread::sleep(delay.saturating_sub(began.elapsed()));
        child.kill().unwrap();
    }
    child.wait().unwrap();
    began.elapsed()
}

#[test]
fn the_binary_can_be_killed_at_any_instant() {
    const INSTANTS: u32 = 40;
    on_a_node(Daemon::Enforces, &DUAL, |node| {
        let pod = Pod::new("web");
        let whole = execute_and_kill(node, &pod, None);
        assert_eq!(node.records().endpoints[0].stage, Stage::Attached);
        node.del(&pod).unwrap();
        for instant in 0..INSTANTS {
            execute_and_kill(node, &pod, Some(whole * instant / INSTANTS));
            assert!(node.records().unreadable.is_empty(), "instant {instant}");
            node.del(&pod).unwrap();
            node.assert_clean(&pod, &format!("instant {instant}"));
        }
        let result = node.add(&pod).unwrap();
        node.check(&pod, &result).unwrap();
    });
}
