//! Several objects that lead to the same peer.

use super::*;

/// A BGPPeer, with a hold time that tells it from others.
fn peer(name: &str, spec: Value, hold_time: &str) -> Value {
    let mut peer = calico("BGPPeer", name, spec);
    peer["metadata"]["annotations"] = json!({"bgp.ocicat.io/hold-time": hold_time});
    peer
}

fn mesh(enabled: bool) -> Value {
    calico("BGPConfiguration", "default", json!({"nodeToNodeMeshEnabled": enabled}))
}

/// What a node of the two has: whom, by which object, with which hold time; and what was wrong.
fn of(node: &str, objects: &[Value]) -> Vec<String> {
    let Peering { config, about, problems, .. } = plan(&world_of(node, objects), Start::Cold);
    let line = |(name, peer): (&PeerName, &PeerConfig)| {
        let (origin, hold_time) = (&about[name].origin, peer.hold_time.secs());
        format!("{}:{} {origin} {hold_time}", peer.address, peer.port)
    };
    let mut lines: Vec<String> = config.unwrap().peers.iter().map(line).collect();
    lines.extend(problems.iter().map(|problem| format!("! {problem}")));
    lines
}

#[test]
fn each_end_has_the_object_that_gives_it_the_other_where_there_are_two() {
    let mut objects = [two_nodes(), vec![mesh(false)]].concat();
    let there = json!({"nodeSelector": "rack == 'a'", "peerSelector": "rack == 'b'"});
    let back = json!({"nodeSelector": "rack == 'b'", "peerSelector": "rack == 'a'"});
    objects.extend([peer("there", there, "9s"), peer("back", back, "30s")]);
    assert_eq!(of("n1", &objects), ["172.16.2.10:179 BGPPeer there 9"]);
    assert_eq!(of("n2", &objects), ["172.16.1.10:179 BGPPeer back 30"]);
}

#[test]
fn both_ends_choose_the_object_for_all_nodes_and_then_the_first_by_name() {
    let mut objects = [two_nodes(), vec![mesh(false)]].concat();
    let some = json!({"nodeSelector": "rack == 'a'", "peerSelector": "rack == 'b'"});
    let all = json!({"peerSelector": "rack == 'b'"});
    objects.extend([peer("a", some.clone(), "9s"), peer("b", some, "30s")]);
    let lost = |winner: &str, loser: &str, node: &str| {
        format!(
            "! BGPPeer {loser}: spec.peerSelector: leads to {node}:179, as BGPPeer {winner} does with other settings, which goes before it; no peer by this one"
        )
    };
    let (n1, n2) = ("172.16.1.10", "172.16.2.10");
    for (here, there) in [("n1", n2), ("n2", n1)] {
        let peer = format!("{there}:179 BGPPeer a 9");
        assert_eq!(of(here, &objects), [peer, lost("a", "b", there)]);
    }
    objects.push(peer("c", all, "60s"));
    for (here, there) in [("n1", n2), ("n2", n1)] {
        let peer = format!("{there}:179 BGPPeer c 60");
        assert_eq!(of(here, &objects), [peer, lost("c", "a", there), lost("c", "b", there)]);
    }
}

#[test]
fn an_address_that_is_given_twice_is_one_peer() {
    let router = |more: Value| {
        let mut spec = json!({"peerIP": "172.16.1.1", "asNumber": 64500});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        spec
    };
    let with = |some: Value, hold_time: &str| {
        let all = peer("for-all", router(json!({})), "9s");
        let some = peer("by-node", router(some), hold_time);
        [two_nodes(), vec![mesh(false), all, some]].concat()
    };
    let by_all = "172.16.1.1:179 BGPPeer for-all 9";
    assert_eq!(of("n1", &with(json!({"node": "n1"}), "9s")), [by_all]);
    let lost = "! BGPPeer by-node: spec.peerIP: leads to 172.16.1.1:179, as BGPPeer for-all does with other settings, which goes before it; no peer by this one";
    assert_eq!(of("n1", &with(json!({"node": "n1"}), "30s")), [by_all, lost]);
    assert_eq!(of("n2", &with(json!({"node": "n1"}), "30s")), [by_all]);
    let by_gateway = with(json!({"node": "n1", "reachableBy": "172.16.1.2"}), "9s");
    assert_eq!(of("n1", &by_gateway), [by_all, lost]);
    assert!(plan(&world(&by_gateway), Start::Cold).routing.gateways.is_empty());
    // Another port is another speaker.
    let spec = json!({"node": "n1", "peerIP": "172.16.1.1:1179"});
    assert_eq!(of("n1", &with(spec, "30s")), ["172.16.1.1:1179 BGPPeer by-node 30", by_all]);
}

#[test]
fn a_peer_that_is_configured_goes_before_the_mesh_at_both_ends() {
    let mut objects = [two_nodes(), vec![mesh(true)]].concat();
    let racks = json!({"nodeSelector": "rack == 'a'", "peerSelector": "rack == 'b'"});
    objects.push(peer("racks", racks, "9s"));
    for (here, there) in [("n1", "172.16.2.10"), ("n2", "172.16.1.10")] {
        assert_eq!(of(here, &objects), [format!("{there}:179 BGPPeer racks 9")]);
    }
}

#[test]
fn objects_that_lead_to_the_same_nodes_are_one_problem_however_many_these_are() {
    let mut objects = [two_nodes(), vec![mesh(false)]].concat();
    objects.push(node("n3", "172.16.3.10", "10.65.3.0/24", json!({"rack": "b"})));
    let racks = json!({"nodeSelector": "rack == 'a'", "peerSelector": "rack == 'b'"});
    objects.extend([peer("a", racks.clone(), "9s"), peer("b", racks, "30s")]);
    let lines = of("n1", &objects);
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(lines[2].contains("leads to 172.16.2.10:179 and to 1 more, as"), "{lines:?}");
}

#[test]
fn a_link_that_is_given_twice_has_one_router() {
    let on_link = |name: &str, links: &str, hold_time: &str| {
        let mut peer = peer(name, json!({}), hold_time);
        peer["metadata"]["annotations"]["bgp.ocicat.io/interface"] = json!(links);
        peer
    };
    let peers = vec![on_link("a", "eth0, eth1", "9s"), on_link("b", "eth1, eth2", "30s")];
    let lines = of("n1", &[two_nodes(), vec![mesh(false)], peers].concat());
    let lost = "! BGPPeer b: metadata.annotations[bgp.ocicat.io/interface]: leads to the router on eth1, as BGPPeer a does with other settings, which goes before it; no peer by this one";
    let [a, b] = [":::179 BGPPeer a 9", ":::179 BGPPeer b 30"];
    assert_eq!(lines, [a, a, b, lost]);
}

/// Peers are told apart by their names, which for some are made of two.
#[test]
fn objects_whose_peers_would_have_one_name_are_a_problem() {
    let mut objects = [two_nodes(), vec![mesh(true)]].concat();
    objects.push(peer("mesh-n2", json!({"peerIP": "172.16.1.1", "asNumber": 64500}), "9s"));
    let lines = of("n1", &objects);
    let problem = "! BGPConfiguration default: metadata.name: its peer would be mesh-n2, as one of BGPPeer mesh-n2 is; no peer by this one until one of them has another name";
    assert_eq!(lines, ["172.16.1.1:179 BGPPeer mesh-n2 9", problem]);
}
