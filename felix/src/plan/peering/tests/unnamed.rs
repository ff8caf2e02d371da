//! Peers by interface and by range.

use super::*;

fn annotated(spec: Value, annotations: Value) -> Vec<Value> {
    let mut peer = calico("BGPPeer", "tor", spec);
    peer["metadata"]["annotations"] = annotations;
    let mut objects = vec![node("n1", "172.16.1.10", "10.65.1.0/24", json!({"rack": "a"}))];
    objects.push(peer);
    objects
}

#[test]
fn a_peer_by_interface_is_the_router_at_its_other_end() {
    let objects = annotated(json!({}), json!({"bgp.ocicat.io/interface": "eth0"}));
    check(&objects, &["tor-eth0 :::179 AS external Both"]);
    let peering = plan(&world(&objects), Start::Cold);
    let peer = &peering.config.unwrap().peers[&PeerName::from("tor-eth0")];
    assert_eq!((peer.interface.as_deref(), peer.source), (Some("eth0"), None));
    assert!(peer.is_unnumbered());

    let two = json!({"bgp.ocicat.io/interface": "eth0, eth1", "bgp.ocicat.io/remote-as": "any"});
    let lines = ["tor-eth0 :::179 AS any Both", "tor-eth1 :::179 AS any Both"];
    check(&annotated(json!({"nodeSelector": "rack == 'a'"}), two.clone()), &lines);
    check(&annotated(json!({"nodeSelector": "rack == 'b'"}), two), &[]);
}

#[test]
fn a_link_that_joins_others_changes_nothing_about_them() {
    let peers = |links: &str| {
        let objects = annotated(json!({}), json!({"bgp.ocicat.io/interface": links}));
        plan(&world(&objects), Start::Cold).config.unwrap().peers
    };
    let (one, mut two) = (peers("eth0"), peers("eth0, eth1"));
    assert!(two.remove(&PeerName::from("tor-eth1")).is_some());
    assert_eq!(one, two);
}

#[test]
fn a_link_local_peer_needs_its_link() {
    let spec = |ip: &str| json!({"peerIP": ip, "asNumber": 65001});
    let line = "tor fe80::1:179 AS 65001 Both";
    check(&annotated(spec("fe80::1%eth0"), json!({})), &[line]);
    check(&annotated(spec("fe80::1"), json!({"bgp.ocicat.io/interface": "eth0"})), &[line]);
    let lost = "! BGPPeer tor: spec.peerIP: fe80::1 means nothing without its link: add %INTERFACE, or the annotation bgp.ocicat.io/interface; no peer";
    check(&annotated(spec("fe80::1"), json!({})), &[lost]);
    check(
        &annotated(spec("192.0.2.1"), json!({"bgp.ocicat.io/interface": "eth0"})),
        &[
            "tor 192.0.2.1:179 AS 65001 Both",
            "! BGPPeer tor: metadata.annotations[bgp.ocicat.io/interface]: set beside a peerIP that is not link-local, which the kernel finds; ignored",
        ],
    );
}

#[test]
fn whoever_comes_from_a_range_is_a_peer_up_to_a_number() {
    let range = json!({
        "bgp.ocicat.io/listen-range": "10.0.0.7/24", "bgp.ocicat.io/listen-limit": "8",
        "bgp.ocicat.io/hold-time": "9s",
    });
    let mut peering =
        plan(&world(&annotated(json!({"asNumber": 65001}), range.clone())), Start::Cold);
    assert_eq!(peering.problems, []);
    let config = peering.config.as_mut().unwrap();
    assert!(config.peers.is_empty());
    let range_of_peers = &config.ranges[&PeerName::from("tor")];
    assert_eq!(range_of_peers.prefix.to_string(), "10.0.0.0/24");
    assert_eq!((range_of_peers.limit.get(), range_of_peers.template.hold_time.secs()), (8, 9));
    let guest = PeerName::from("tor-10.0.0.9");
    assert_eq!(peering.about.get(&guest).unwrap().origin, "BGPPeer tor");
    depart(config, Departure::Done);
    let told = &config.ranges[&PeerName::from("tor")].template.export;
    assert_eq!(*told, ocicat_bgp::rib::filter::Filter::reject_all());
    check(
        &annotated(json!({"peerIP": "10.0.0.1", "asNumber": 65001}), range),
        &[
            "! BGPPeer tor: metadata.annotations[bgp.ocicat.io/listen-range]: set beside peerIP, peerSelector or localWorkloadSelector, which exclude it; no peer",
        ],
    );
}
