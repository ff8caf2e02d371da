//! The commands in real network namespaces. Needs root.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod node;

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use node::{Daemon, Node, Pod, addresses, exchange, ip, links, on_a_node};
use ocicat_cni::add::Add;
use ocicat_cni::endpoint::{Endpoint, Stage, host_interface};
use ocicat_cni::plan::{Change, Side, Step};
use ocicat_cni::spec::{Code, Command, Config};
use ocicat_cni::store::Store;
use serde_json::{Value, json};

const DUAL: [&str; 2] = ["10.65.1.0/24", "fd00:65:1::/64"];

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
        let mut given: Vec<_> = thread::scope(|scope| {
            let add = |pod| {
                scope.spawn(move || {
                    node.enter();
                    addresses(&node.add(pod).unwrap())
                })
            };
            let adding: Vec<_> = pods.iter().map(add).collect();
            adding.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        given.sort();
        given.dedup();
        assert_eq!(given.len(), 20);
        exchange(&pods[0], &pods[9], node.records().endpoints[9].addresses[0]);
    });
}

/// kill -9 after any step leaves what dropping a half-done [`Add`] leaves.
fn kill_after_each_step(node: &Node, name: &str, recover: impl Fn(&Pod, &str)) {
    let pod = Pod::new(name);
    let config = Config::parse(Command::Add, &node.config(&json!({}))).unwrap();
    let begin = || Add::begin(&pod.environment("ADD"), &config).unwrap();
    let steps = begin().steps();
    for done in 0..=steps.len() {
        let what = match done {
            0 => "killed before the first step".to_owned(),
            _ => format!("killed after `{}`", steps[done - 1]),
        };
        node.del(&pod).unwrap();
        let mut add = begin();
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
        kill_after_each_step(node, "web", |pod, what| {
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
        kill_after_each_step(node, "web", |pod, what| {
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
        kill_after_each_step(node, "web", |pod, what| {
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

/// An interface that is up, for routes to lead to.
fn add_link(name: &str) {
    ip(&format!("link add {name} type veth peer name other0"));
    ip(&format!("link set {name} up"));
    ip("link set other0 up");
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

/// An ADD of which every step before `stop` is done, and the steps that are left.
fn add_until(node: &Node, pod: &Pod, stop: impl Fn(&Step) -> bool) -> (Add, Vec<Step>) {
    let config = Config::parse(Command::Add, &node.config(&json!({}))).unwrap();
    let mut add = Add::begin(&pod.environment("ADD"), &config).unwrap();
    let mut steps = add.steps();
    let left = steps.split_off(steps.iter().position(stop).unwrap());
    for step in &steps {
        add.apply(step).unwrap();
    }
    (add, left)
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
fn undoing_an_old_sandboxs_add_leaves_the_new_ones_interface_alone() {
    on_a_node(Daemon::Enforces, &DUAL, |node| {
        let (old, new) = (Pod::new("web"), Pod::new("web"));
        let (mut add, _) = add_until(node, &old, |step| matches!(step, Step::AwaitPolicy(_)));
        let result = node.add(&new).unwrap();
        let host = host_interface("default", "web", "eth0");
        add.apply(&Step::Kernel(Change::RemoveLink(host))).unwrap();
        node.check(&new, &result).unwrap();
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
        node.del(&old).unwrap();
        node.check(&new, &result).unwrap();
        assert_eq!(node.records().endpoints.len(), 1);
        node.add(&peer).unwrap();
        exchange(&peer, &new, addresses(&result)[0]);
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

#[test]
fn add_refuses_to_be_chained_behind_another_plugin() {
    on_a_node(Daemon::Enforces, &DUAL, |node| {
        let previous = json!({ "prevResult": { "cniVersion": "1.1.0" } });
        check_undone(node, &previous, Code::InvalidConfig, "must be first in its list");
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
