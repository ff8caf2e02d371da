//! The other half of a peering that an object gives to one of two nodes.

use super::*;

/// Nodes n1 and n2 of rack a and a reflector of rack b, with both families; a BGPPeer that leads to one of its addresses,
/// and no mesh.
fn objects(more: Value) -> Vec<Value> {
    let dual = |name: &str, last: u8, rack: &str| {
        let address = format!("172.16.1.{last}");
        let mut node = node(name, &address, &format!("10.65.{last}.0/24"), json!({"rack": rack}));
        let addresses = node["status"]["addresses"].as_array_mut().unwrap();
        addresses.push(json!({"type": "InternalIP", "address": format!("fd00:1::{last}")}));
        node
    };
    let mut reflector = dual("rr", 15, "b");
    reflector["metadata"]["annotations"] =
        json!({"projectcalico.org/RouteReflectorClusterID": "244.0.0.1"});
    let default = json!({"nodeToNodeMeshEnabled": false, "listenPort": 1179});
    let mut spec = json!({"peerIP": "172.16.1.15", "asNumber": 64512});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    vec![
        dual("n1", 10, "a"),
        dual("n2", 20, "a"),
        reflector,
        calico("BGPConfiguration", "default", default),
        calico("BGPPeer", "to-rr", spec),
    ]
}

/// The peers of a node, one a line, and what was wrong.
fn of(node: &str, objects: &[Value]) -> Vec<String> {
    let Peering { config, problems, .. } = plan(&world_of(node, objects), Start::Cold);
    let peers = config.into_iter().flat_map(|config| config.peers);
    let line = |(name, peer): (PeerName, PeerConfig)| {
        let end = SocketAddr::new(peer.address, peer.port);
        let from = peer.source.map(|source| source.to_string()).unwrap_or_default();
        format!(
            "{name} {end} from {from} AS {} {:?} {:?}",
            peer.remote_as, peer.dial, peer.reflection
        )
    };
    let mut lines: Vec<String> = peers.map(line).collect();
    lines.extend(problems.iter().map(|problem| format!("! {problem}")));
    lines
}

#[test]
fn a_node_that_others_have_by_its_address_has_them() {
    let all = objects(json!({}));
    let to_rr = |from: &str, dial: &str| {
        format!("to-rr 172.16.1.15:1179 from {from} AS 64512 {dial} NonClient")
    };
    assert_eq!(of("n1", &all), [to_rr("172.16.1.10", "Passive")]);
    assert_eq!(of("n2", &all), [to_rr("172.16.1.20", "Both")]);
    let n1 = "to-rr-n1 172.16.1.10:1179 from 172.16.1.15 AS 64512 Both Client";
    let n2 = "to-rr-n2 172.16.1.20:1179 from 172.16.1.15 AS 64512 Passive Client";
    assert_eq!(of("rr", &all), [n1, n2]);
    let families = |name: &str| {
        let peers = plan(&world_of("rr", &all), Start::Cold).config.unwrap().peers;
        peers[&PeerName::from(name)].families.iter().collect::<Vec<_>>()
    };
    assert_eq!(families("to-rr-n1"), [Family::Ipv4]);
    // Those alone that the object selects, whether or not the reflector is one of them.
    assert_eq!(of("rr", &objects(json!({"node": "n2"}))), [n2]);
    assert_eq!(of("rr", &objects(json!({"nodeSelector": "rack == 'b'"}))), [""; 0]);
    assert_eq!(of("rr", &objects(json!({"peerIP": "172.16.1.15:1179"}))), [n1, n2]);
    let by_ipv6 = "to-rr-n2-ipv6 [fd00:1::20]:1179 from fd00:1::15 AS 64512 Passive Client";
    assert_eq!(of("rr", &objects(json!({"peerIP": "fd00:1::15", "node": "n2"}))), [by_ipv6]);
}

#[test]
fn who_is_not_what_the_object_says_has_no_other_half() {
    let none = [""; 0];
    assert_eq!(of("rr", &objects(json!({"asNumber": 64513}))), none);
    assert_eq!(of("rr", &objects(json!({"peerIP": "172.16.1.15:179"}))), none);
    assert_eq!(of("rr", &objects(json!({"reversePeering": "Manual"}))), none);
    // So it is nobody whose turn to dial is known.
    for more in [json!({"asNumber": 64513}), json!({"reversePeering": "Manual"})] {
        let [n1] = &of("n1", &objects(more))[..] else { panic!("one peer") };
        assert!(n1.contains(" Both "), "{n1}");
    }
    let mut external = objects(json!({"asNumber": null, "node": "n2"}));
    assert_eq!(of("rr", &external).len(), 1, "its own number is what goes without saying");
    external[4]["metadata"]["annotations"] = json!({"bgp.ocicat.io/remote-as": "external"});
    assert_eq!(of("rr", &external), none);
    external[1]["metadata"]["annotations"] = json!({"projectcalico.org/ASNumber": "64513"});
    let n2 = "to-rr-n2 172.16.1.20:1179 from 172.16.1.15 AS 64513 Passive NonClient";
    assert_eq!(of("rr", &external), [n2]);
}

#[test]
fn sessions_between_nodes_carry_their_own_family_if_annotations_do() {
    let by_selector = |annotations: Value, source: &str| {
        let mut peer = calico(
            "BGPPeer",
            "to-rr",
            json!({"node": "n1", "peerSelector": "rack == 'b'", "sourceAddress": source}),
        );
        peer["metadata"]["annotations"] = annotations;
        let mut objects = objects(json!({}));
        objects[4] = peer;
        objects
    };
    let carried = |objects: &[Value]| -> Vec<String> {
        let peers = plan(&world_of("n1", objects), Start::Cold).config.unwrap().peers;
        let line = |peer: PeerConfig| {
            format!("{} {:?}", peer.address, peer.families.iter().collect::<Vec<_>>())
        };
        peers.into_values().map(line).collect()
    };
    let [ipv4, ipv6] = ["172.16.1.15 [Ipv4]", "fd00:1::15 [Ipv6]"];
    assert_eq!(carried(&by_selector(json!({}), "UseNodeIP")), [ipv4, ipv6]);
    let alone = json!({"bgp.ocicat.io/families": "ipv4"});
    assert_eq!(carried(&by_selector(alone.clone(), "UseNodeIP")), [ipv4]);
    // What stands on the peer goes before.
    let mut both = by_selector(json!({"bgp.ocicat.io/families": "ipv4,ipv6"}), "UseNodeIP");
    both[3]["metadata"]["annotations"] = alone.clone();
    assert_eq!(carried(&both), [ipv4, ipv6]);
    // Where they leave from.
    let from = |source: &str| of("n1", &by_selector(alone.clone(), source));
    let line =
        |from: &str| format!("to-rr-rr 172.16.1.15:1179 from {from} AS 64512 Passive NonClient");
    assert_eq!(from("UseNodeIP"), [line("172.16.1.10")]);
    assert_eq!(from("None"), [line("")]);
}
