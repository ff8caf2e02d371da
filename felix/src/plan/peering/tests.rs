#![expect(clippy::needless_pass_by_value, reason = "literals read better without &")]

use serde_json::{Value, json};

use ocicat_bgp::speaker::Password;

use super::*;
use crate::datastore::{Event, Object};

fn world(objects: &[Value]) -> World {
    let mut world = World::new("n1");
    for object in objects {
        let parsed = Object::parse(object.clone()).unwrap();
        world.apply(Event::Put(Box::new(parsed.object)));
    }
    world
}

fn node(name: &str, address: &str, cidr: &str, labels: Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels},
        "spec": {"podCIDRs": [cidr]},
        "status": {"addresses": [{"type": "InternalIP", "address": address}]},
    })
}

fn calico(kind: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": "projectcalico.org/v3", "kind": kind, "metadata": {"name": name}, "spec": spec})
}

/// The peers of node n1, one a line, and what was wrong.
fn check(objects: &[Value], expected: &[&str]) {
    let Peering { config, problems } = plan(&world(objects), Start::Cold);
    let peers = config.into_iter().flat_map(|config| config.peers);
    let mut lines: Vec<String> = peers
        .map(|(name, peer)| {
            format!("{name} {}:{} AS {} {:?}", peer.address, peer.port, peer.remote_as, peer.dial)
        })
        .collect();
    lines.extend(problems.iter().map(|problem| format!("! {problem}")));
    assert_eq!(lines, expected);
}

fn two_nodes() -> Vec<Value> {
    vec![
        node("n1", "172.16.1.10", "10.65.1.0/24", json!({"rack": "a"})),
        node("n2", "172.16.2.10", "10.65.2.0/24", json!({"rack": "b"})),
    ]
}

#[test]
fn nodes_mesh_and_the_one_with_the_smaller_address_waits() {
    check(&two_nodes(), &["mesh-n2 172.16.2.10:179 AS 64512 Passive"]);
}

#[test]
fn settings_turn_the_mesh_off_and_move_the_port() {
    let mut objects = two_nodes();
    objects.push(calico(
        "BGPConfiguration",
        "default",
        json!({"asNumber": 64520, "listenPort": 1179}),
    ));
    check(&objects, &["mesh-n2 172.16.2.10:1179 AS 64520 Passive"]);
    objects.push(calico("BGPConfiguration", "default", json!({"nodeToNodeMeshEnabled": false})));
    check(&objects, &[]);
}

#[test]
fn a_peer_belongs_to_the_nodes_that_it_selects() {
    let mut objects = two_nodes();
    objects.push(calico("BGPConfiguration", "default", json!({"nodeToNodeMeshEnabled": false})));
    let peer = |spec: Value| calico("BGPPeer", "tor", spec);
    let tor = "tor 172.16.1.1:179 AS 64500 Both";
    let with = |spec: Value| [objects.clone(), vec![peer(spec)]].concat();
    check(&with(json!({"peerIP": "172.16.1.1", "asNumber": 64500})), &[tor]);
    check(&with(json!({"peerIP": "172.16.1.1", "asNumber": 64500, "node": "n1"})), &[tor]);
    check(&with(json!({"peerIP": "172.16.1.1", "asNumber": 64500, "node": "n2"})), &[]);
    check(
        &with(json!({"peerIP": "172.16.1.1", "asNumber": 64500, "nodeSelector": "rack == 'a'"})),
        &[tor],
    );
    check(
        &with(json!({"peerIP": "172.16.1.1", "asNumber": 64500, "nodeSelector": "rack == 'b'"})),
        &[],
    );
    check(
        &with(json!({"peerIP": "[2001:db8::1]:1790", "asNumber": 64500})),
        &["tor 2001:db8::1:1790 AS 64500 Both"],
    );
}

#[test]
fn nodes_can_be_peers_of_nodes_in_both_directions() {
    let mut objects = two_nodes();
    objects.push(calico("BGPConfiguration", "default", json!({"nodeToNodeMeshEnabled": false})));
    let spec = json!({"nodeSelector": "rack == 'b'", "peerSelector": "rack == 'a'"});
    objects.push(calico("BGPPeer", "racks", spec.clone()));
    check(&objects, &["racks-n2 172.16.2.10:179 AS 64512 Passive"]);
    let mut manual = spec;
    manual["reversePeering"] = json!("Manual");
    objects.push(calico("BGPPeer", "racks", manual));
    check(&objects, &[]);
}

#[test]
fn what_cannot_be_used_names_object_field_and_value() {
    let mut objects = two_nodes();
    objects.push(calico("BGPConfiguration", "default", json!({"nodeToNodeMeshEnabled": false})));
    objects.push(calico("BGPPeer", "a", json!({"peerIP": "172.16.1.300", "asNumber": 1})));
    objects.push(calico("BGPPeer", "b", json!({"peerIP": "172.16.1.1"})));
    objects.push(calico(
        "BGPPeer",
        "c",
        json!({"peerIP": "172.16.1.1", "nodeSelector": "rack = 'a'"}),
    ));
    check(
        &objects,
        &[
            "! BGPPeer a: spec.peerIP: \"172.16.1.300\" is not ADDRESS, ADDRESS:PORT or [ADDRESS]:PORT; no peer",
            "! BGPPeer b: spec.asNumber: missing; no peer",
            "! BGPPeer c: spec.nodeSelector: selector \"rack = 'a'\": unexpected '='; no peer",
        ],
    );
}

#[test]
fn a_password_that_cannot_be_read_keeps_the_session_down() {
    let mut objects = two_nodes();
    let reference = json!({"secretKeyRef": {"name": "bgp", "key": "tor"}});
    objects.push(calico(
        "BGPPeer",
        "tor",
        json!({"peerIP": "172.16.1.1", "asNumber": 64500, "password": reference}),
    ));
    let config = plan(&world(&objects), Start::Cold).config.unwrap();
    assert_eq!(config.peers[&PeerName::from("tor")].password, Password::Missing);
}

#[test]
fn own_ranges_are_told_unless_their_pool_is_not_to_be() {
    let mut objects = two_nodes();
    let told = |objects: &[Value]| -> Vec<String> {
        let config = plan(&world(objects), Start::Cold).config.unwrap();
        config.originated.keys().map(ToString::to_string).collect()
    };
    assert_eq!(told(&objects), ["10.65.1.0/24"]);
    objects.push(calico("IPPool", "p", json!({"cidr": "10.65.0.0/16", "disableBGPExport": true})));
    assert_eq!(told(&objects), [""; 0]);
}

#[test]
fn communities_are_named_once_and_put_on_what_they_cover() {
    let mut objects = two_nodes();
    objects.push(calico(
        "BGPConfiguration",
        "default",
        json!({
            "communities": [{"name": "lab", "value": "64500:7"}],
            "prefixAdvertisements": [{"cidr": "10.65.0.0/16", "communities": ["lab", "1:2:3", "x"]}],
        }),
    ));
    let Peering { config, problems } = plan(&world(&objects), Start::Cold);
    let originated = config.unwrap().originated.into_values().next().unwrap();
    assert_eq!(originated.communities.len(), 1);
    assert_eq!(originated.large_communities.len(), 1);
    let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        problems,
        [
            "BGPConfiguration default: spec.prefixAdvertisements[0].communities[2]: \"x\" is not a community (aa:nn or aa:nn:mm); not sent"
        ]
    );
}

#[test]
fn a_filter_that_cannot_be_read_lets_nothing_more_through() {
    let mut objects = two_nodes();
    objects.push(calico(
        "BGPPeer",
        "tor",
        json!({"peerIP": "172.16.1.1", "asNumber": 64500, "filters": ["f", "gone"]}),
    ));
    objects.push(calico(
        "BGPFilter",
        "f",
        json!({
            "importV4": [
                {"action": "Accept", "cidr": "10.0.0.0/99", "matchOperator": "In"},
                {"action": "Reject", "cidr": "fd00::/8", "matchOperator": "In"},
                {"action": "Accept", "cidr": "10.0.0.0/8", "matchOperator": "In", "prefixLength": {"max": 24}},
            ],
        }),
    ));
    let Peering { config, problems } = plan(&world(&objects), Start::Cold);
    let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        problems,
        [
            "BGPFilter f: spec.importV4[0].cidr: \"10.0.0.0/99\" is not a CIDR; the rule accepts nothing",
            "BGPFilter f: spec.importV4[1].cidr: \"fd00::/8\" is of the other address family; the rule rejects everything",
            "BGPPeer tor: spec.filters[1]: there is no BGPFilter \"gone\"; nothing passes this peer",
        ]
    );
    let peer = config.unwrap().peers.remove(&PeerName::from("tor")).unwrap();
    assert_eq!(peer.import.rules.len(), 3, "{:?}", peer.import);
    assert_eq!(peer.export.rules.len(), 1, "{:?}", peer.export);
}

#[test]
fn durations_are_read_as_kubernetes_writes_them() {
    assert_eq!(duration("1m30s"), Ok(std::time::Duration::from_secs(90)));
    for text in ["", "90", "s", "1d", "99999999999999999999s"] {
        assert!(duration(text).is_err(), "{text:?}");
    }
    assert!(restart_time("2h").is_err());
}

/// Whether a peer of n1 would be told of a prefix that n1 heard from others.
fn passes_on(objects: &[Value], peer: &str, prefix: &str) -> bool {
    let config = plan(&world(objects), Start::Cold).config.unwrap();
    let export = &config.peers[&PeerName::from(peer)].export;
    let prefix = ocicat_bgp::wire::Prefix::from(prefix.parse::<ipnet::IpNet>().unwrap());
    export.rules.iter().any(|rule| {
        rule.source == Some(ocicat_bgp::rib::filter::Source::RemotePeers)
            && rule.prefix.as_ref().is_some_and(|wanted| wanted.cidr.contains(prefix))
    })
}

#[test]
fn a_reflector_tells_its_internal_peers_of_pod_networks_and_nothing_else() {
    let mut objects = two_nodes();
    objects[0]["metadata"]["annotations"] =
        json!({"projectcalico.org/RouteReflectorClusterID": "244.0.0.1"});
    objects.push(calico(
        "BGPPeer",
        "rr",
        json!({"nodeSelector": "rack == 'a'", "peerSelector": "rack == 'b'"}),
    ));
    objects.push(calico("BGPPeer", "tor", json!({"peerIP": "172.16.1.1", "asNumber": 64500})));
    assert!(passes_on(&objects, "rr-n2", "10.65.2.0/24"));
    assert!(!passes_on(&objects, "rr-n2", "192.0.2.0/24"));
    assert!(!passes_on(&objects, "tor", "10.65.2.0/24"), "a router is told of our own alone");
    objects.push(calico("IPPool", "pods", json!({"cidr": "10.66.0.0/16"})));
    assert!(passes_on(&objects, "rr-n2", "10.66.7.0/26"));
    objects.push(calico(
        "IPPool",
        "hidden",
        json!({"cidr": "10.67.0.0/16", "disableBGPExport": true}),
    ));
    assert!(!passes_on(&objects, "rr-n2", "10.67.7.0/26"));
}

#[test]
fn a_node_that_reflects_nothing_tells_its_peers_of_its_own_alone() {
    let mut objects = two_nodes();
    objects.push(calico(
        "BGPPeer",
        "rr",
        json!({"nodeSelector": "rack == 'a'", "peerSelector": "rack == 'b'"}),
    ));
    assert!(!passes_on(&objects, "rr-n2", "10.65.2.0/24"));
}
