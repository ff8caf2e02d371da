#![expect(clippy::needless_pass_by_value, reason = "literals read better without &")]

mod candidates;
mod conditions;
mod confederation;
mod reverse;
mod services;
mod settings;
mod unnamed;
mod workload;

use serde_json::{Value, json};

use ocicat_bgp::speaker::{DefaultRoute, Password, PeerConfig};

use super::*;
use crate::datastore::{Event, Object};
use crate::world::Arrival;

fn world(objects: &[Value]) -> World {
    world_of("n1", objects)
}

/// What this node knows.
fn world_of(node: &str, objects: &[Value]) -> World {
    let mut world = World::new(node);
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
    let Peering { config, problems, .. } = plan(&world(objects), Start::Cold);
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

/// Calico's daemons know one family each: a node of its kind would refuse a session with both.
#[test]
fn nodes_with_both_families_mesh_in_each() {
    let dual = |name: &str, last: u8| {
        let mut node = node(name, &format!("172.16.1.{last}"), "10.65.1.0/24", json!({}));
        let addresses = node["status"]["addresses"].as_array_mut().unwrap();
        addresses.push(json!({"type": "InternalIP", "address": format!("fd00:1::{last}")}));
        node
    };
    let objects = [dual("n1", 10), dual("n2", 20)];
    check(
        &objects,
        &[
            "mesh-n2 172.16.1.20:179 AS 64512 Passive",
            "mesh-n2-ipv6 fd00:1::20:179 AS 64512 Passive",
        ],
    );
    let config = plan(&world(&objects), Start::Cold).config.unwrap();
    let families = config.peers.values().map(|peer| peer.families.iter().collect::<Vec<_>>());
    assert_eq!(families.collect::<Vec<_>>(), [[Family::Ipv4], [Family::Ipv6]]);
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
            "! BGPPeer a: spec.peerIP: \"172.16.1.300\" is not ADDRESS, ADDRESS%INTERFACE, ADDRESS:PORT or [ADDRESS]:PORT; no peer",
            "! BGPPeer b: spec.asNumber: missing; no peer",
            "! BGPPeer c: spec.nodeSelector: selector \"rack = 'a'\": unexpected '='; no peer",
        ],
    );
}

/// Two nodes without a mesh, a peer with this password, and these further objects.
fn with_password(reference: Value, more: &[Value]) -> Peering {
    let mut objects = two_nodes();
    objects.push(calico("BGPConfiguration", "default", json!({"nodeToNodeMeshEnabled": false})));
    let spec = json!({"peerIP": "172.16.1.1", "asNumber": 64500,
        "password": {"secretKeyRef": reference}});
    objects.push(calico("BGPPeer", "tor", spec));
    objects.extend_from_slice(more);
    plan(&world(&objects), Start::Cold)
}

fn secret(namespace: &str, data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": "bgp", "namespace": namespace}, "stringData": data})
}

fn password_of(peering: &Peering) -> Password {
    peering.config.as_ref().unwrap().peers[&PeerName::from("tor")].password.clone()
}

#[test]
fn a_password_is_found_in_its_secret_and_shown_nowhere() {
    let reference = json!({"name": "bgp", "key": "tor"});
    let there = secret("kube-system", json!({"tor": "hunter2"}));
    let peering = with_password(reference, &[there]);
    assert_eq!(password_of(&peering), Password::Key("hunter2".into()));
    assert_eq!(peering.problems, []);
    assert_eq!(peering.secrets, ["bgp".to_owned()].into());
    assert!(!format!("{peering:?}").contains("hunter2"), "{peering:?}");
}

#[test]
fn a_password_that_cannot_be_read_keeps_the_session_down_and_says_why() {
    let reference = json!({"name": "bgp", "key": "tor"});
    let cases = [
        (vec![], "there is no Secret kube-system/bgp"),
        (vec![secret("default", json!({"tor": "hunter2"}))], "there is no Secret kube-system/bgp"),
        (
            vec![secret("kube-system", json!({"tar": "hunter2"}))],
            "Secret kube-system/bgp has no key \"tor\"",
        ),
        (
            vec![secret("kube-system", json!({"tor": ""}))],
            "key \"tor\" of Secret kube-system/bgp is empty",
        ),
        (
            vec![secret("kube-system", json!({"tor": "hunter2\n"}))],
            "key \"tor\" of Secret kube-system/bgp ends in a line break; make it with `printf %s`, or `echo -n`",
        ),
        (
            vec![secret("kube-system", json!({"tor": "k".repeat(81)}))],
            "key \"tor\" of Secret kube-system/bgp is longer than 80 octets, the most that the kernel takes as a TCP MD5 key",
        ),
    ];
    for (more, why) in cases {
        let peering = with_password(reference.clone(), &more);
        assert_eq!(password_of(&peering), Password::Missing);
        let problem =
            format!("BGPPeer tor: spec.password.secretKeyRef: {why}; the session stays down");
        let problems: Vec<_> = peering.problems.iter().map(ToString::to_string).collect();
        assert_eq!(problems, [problem]);
        let about = &peering.about[&PeerName::from("tor")];
        assert_eq!(about.held.as_deref(), Some(why));
    }
}

#[test]
fn an_optional_password_that_is_not_there_is_not_used() {
    let reference = json!({"name": "bgp", "key": "tor", "optional": true});
    let peering = with_password(reference.clone(), &[]);
    assert_eq!((password_of(&peering), &peering.problems[..]), (Password::None, &[][..]));
    let there = secret("kube-system", json!({"tor": "hunter2"}));
    assert_eq!(password_of(&with_password(reference, &[there])), Password::Key("hunter2".into()));
}

#[test]
fn a_secret_that_is_only_being_asked_for_is_no_problem_yet() {
    let mut world = World::new("n1").with_secrets("here".to_owned(), Arrival::OnDemand);
    for object in two_nodes() {
        world.apply(Event::Put(Box::new(Object::parse(object).unwrap().object)));
    }
    let reference = json!({"name": "bgp", "key": "tor", "optional": true});
    let spec =
        json!({"nodeToNodeMeshEnabled": true, "nodeMeshPassword": {"secretKeyRef": reference}});
    let object = calico("BGPConfiguration", "default", spec);
    world.apply(Event::Put(Box::new(Object::parse(object).unwrap().object)));
    let mesh = PeerName::from("mesh-n2");
    let peering = plan(&world, Start::Cold);
    assert_eq!(peering.problems, []);
    assert_eq!(peering.config.as_ref().unwrap().peers[&mesh].password, Password::Missing);
    assert_eq!(peering.about[&mesh].held.as_deref(), Some("Secret here/bgp was not heard of yet"));
    world.apply(Event::Delete(Key::namespaced(Kind::Secret, "here", "bgp")));
    assert!(world.take_dirty().peering);
    let peering = plan(&world, Start::Cold);
    assert_eq!(peering.config.unwrap().peers[&mesh].password, Password::None);
}

#[test]
fn annotations_of_a_configuration_hold_for_every_peer_and_those_of_a_peer_go_before_them() {
    let mut objects = two_nodes();
    let mut configuration = calico("BGPConfiguration", "default", json!({}));
    configuration["metadata"]["annotations"] = json!({
        "bgp.ocicat.io/hold-time": "30s", "bgp.ocicat.io/multipath": "4",
        "bgp.ocicat.io/nonsense": "1", "other.io/x": "1",
    });
    objects.push(configuration);
    let mut peer = calico("BGPPeer", "tor", json!({"peerIP": "172.16.1.1", "asNumber": 64500}));
    peer["metadata"]["annotations"] = json!({"bgp.ocicat.io/hold-time": "9s"});
    objects.push(peer);
    let Peering { config, problems, .. } = plan(&world(&objects), Start::Cold);
    let config = config.unwrap();
    assert_eq!(config.peers[&PeerName::from("mesh-n2")].hold_time.secs(), 30);
    assert_eq!(config.peers[&PeerName::from("tor")].hold_time.secs(), 9);
    assert_eq!(config.multipath.ebgp.get(), 4);
    let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        problems,
        [
            "BGPConfiguration default: metadata.annotations[bgp.ocicat.io/nonsense]: no such annotation is known (its value is \"1\"); ignored"
        ]
    );
}

#[test]
fn a_peer_of_another_as_without_filters_passes_nothing_where_rfc_8212_is_asked_for() {
    let mut objects = two_nodes();
    let mut configuration = calico("BGPConfiguration", "default", json!({}));
    configuration["metadata"]["annotations"] =
        json!({"bgp.ocicat.io/ebgp-requires-policy": "true"});
    objects.push(configuration);
    let spec = |more: Value| {
        let mut spec = json!({"peerIP": "172.16.1.1", "asNumber": 64500});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        calico("BGPPeer", "tor", spec)
    };
    let rules = |objects: &[Value]| {
        let peering = plan(&world(objects), Start::Cold);
        let about = peering.about[&PeerName::from("tor")].rules.clone();
        (about.import.clone(), about.export.clone())
    };
    let none = "RFC 8212: no rule for this family".to_owned();
    let bare = [objects.clone(), vec![spec(json!({}))]].concat();
    assert_eq!(rules(&bare), (vec![none.clone(); 2], vec![none.clone(); 2]));
    let import = json!({"importV4": [{"action": "Accept"}]});
    let half =
        [objects.clone(), vec![calico("BGPFilter", "f", import), spec(json!({"filters": ["f"]}))]]
            .concat();
    let first = "BGPFilter f importV4[0]".to_owned();
    assert_eq!(rules(&half), (vec![first, none.clone()], vec![none.clone(); 2]));
    let internal = [objects, vec![spec(json!({"asNumber": 64512}))]].concat();
    assert_eq!(rules(&internal), (vec![], vec![]), "iBGP is not concerned");
}

#[test]
fn the_priority_of_own_routes_is_matched_where_it_is_the_normal_one_and_told_where_it_is_set() {
    let mut objects = two_nodes();
    objects.push(calico(
        "BGPPeer",
        "tor",
        json!({"peerIP": "172.16.1.1", "asNumber": 64500, "filters": ["f"]}),
    ));
    let rules = json!({"exportV4": [
        {"action": "Accept", "priority": 1024}, {"action": "Reject", "priority": 512}]});
    objects.push(calico("BGPFilter", "f", rules));
    let peering = plan(&world(&objects), Start::Cold);
    let origins = &peering.about[&PeerName::from("tor")].rules.export;
    let own = "BGPFilter f exportV4[0]";
    assert_eq!(*origins, [own, own, "BGPFilter f exportV4[1]"]);
    let config = peering.config.unwrap();
    assert_eq!(config.peers[&PeerName::from("tor")].export.rules[0].priority, None);
    assert!(config.originated.values().all(|originated| originated.local_pref.is_none()));
    objects.push(calico("BGPConfiguration", "default", json!({"ipv4NormalRoutePriority": 512})));
    let config = plan(&world(&objects), Start::Cold).config.unwrap();
    let told: Vec<_> = config.originated.values().map(|originated| originated.local_pref).collect();
    assert_eq!(told, [Some(i32::MAX as u32 - 512)]);
}

#[test]
fn a_gateway_to_a_peer_and_the_pools_of_others_reach_the_routes() {
    let mut objects = two_nodes();
    let spec = json!({"peerIP": "192.0.2.1", "asNumber": 64500, "reachableBy": "172.16.1.1"});
    objects.push(calico("BGPPeer", "tor", spec));
    objects.push(calico(
        "BGPConfiguration",
        "default",
        json!({"programClusterRoutes": "Disabled"}),
    ));
    objects.push(calico("IPPool", "p", json!({"cidr": "10.65.0.0/16"})));
    objects.push(calico("IPPool", "v", json!({"cidr": "10.66.0.0/16", "vxlanMode": "Always"})));
    let Peering { routing, problems, .. } = plan(&world(&objects), Start::Cold);
    assert_eq!(problems, []);
    let gateway = ("192.0.2.1".parse().unwrap(), "172.16.1.1".parse().unwrap());
    assert_eq!(routing.gateways, [gateway].into());
    assert_eq!(routing.unprogrammed, ["10.65.0.0/16".parse::<IpNet>().unwrap()]);
}

#[test]
fn a_node_that_leaves_marks_what_it_tells_and_then_tells_nothing() {
    let mut objects = two_nodes();
    objects.push(calico(
        "BGPPeer",
        "tor",
        json!({"peerIP": "172.16.1.1", "asNumber": 64500, "filters": ["f"]}),
    ));
    let rules =
        json!({"exportV4": [{"action": "Accept", "cidr": "10.0.0.0/8", "matchOperator": "In"}]});
    objects.push(calico("BGPFilter", "f", rules));
    let mut default = calico("BGPPeer", "host", json!({"peerIP": "172.16.1.2", "asNumber": 64501}));
    default["metadata"]["annotations"] = json!({"bgp.ocicat.io/default-originate": "true"});
    objects.push(default);
    let config = plan(&world(&objects), Start::Cold).config.unwrap();
    let mut leaving = config.clone();
    depart(&mut leaving, Departure::Announced);
    let shown = |name: &str| format!("{:?}", leaving.peers[&PeerName::from(name)].export);
    assert_eq!(shown("tor").matches("AddCommunity").count(), 2, "{}", shown("tor"));
    assert!(shown("mesh-n2").contains("SetLocalPref(0)"), "{}", shown("mesh-n2"));
    let defaults = |config: &Config| {
        ["tor", "host"].map(|name| config.peers[&PeerName::from(name)].default_route)
    };
    assert_eq!(defaults(&leaving), [DefaultRoute::Ordinary, DefaultRoute::Leaving]);
    let mut gone = config;
    depart(&mut gone, Departure::Done);
    let silent = |peer: &PeerConfig| peer.export == ocicat_bgp::rib::filter::Filter::reject_all();
    assert!(gone.peers.values().all(silent));
    assert_eq!(defaults(&gone), [DefaultRoute::Ordinary; 2]);
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
    let Peering { config, problems, .. } = plan(&world(&objects), Start::Cold);
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
    let Peering { config, problems, .. } = plan(&world(&objects), Start::Cold);
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

#[test]
fn an_annotation_puts_bfd_on_a_peer_and_one_that_cannot_be_read_is_a_problem() {
    let mut objects = two_nodes();
    objects.push(calico("BGPConfiguration", "default", json!({"nodeToNodeMeshEnabled": false})));
    let with = |text: &str| {
        let mut tor = calico("BGPPeer", "tor", json!({"peerIP": "172.16.1.1", "asNumber": 64500}));
        tor["metadata"]["annotations"] = json!({"bgp.ocicat.io/bfd": text});
        let objects = [objects.clone(), vec![tor]].concat();
        let Peering { config, problems, .. } = plan(&world(&objects), Start::Cold);
        let peers = config.unwrap().peers;
        let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
        (peers.values().next().unwrap().bfd.map(|bfd| bfd.timing.multiplier.get()), problems)
    };
    assert_eq!(with("50ms x 4"), (Some(4), vec![]));
    let problem = "BGPPeer tor: metadata.annotations[bgp.ocicat.io/bfd]: \"50ms\" is neither on, off nor like \"50ms x 3\"; ignored";
    assert_eq!(with("50ms"), (None, vec![problem.to_owned()]));
}

/// Whether a peer of n1 would be told of a prefix that n1 heard from others.
fn passes_on(objects: &[Value], peer: &str, prefix: &str) -> bool {
    let config = plan(&world(objects), Start::Cold).config.unwrap();
    let export = &config.peers[&PeerName::from(peer)].export;
    let prefix = ocicat_bgp::wire::Prefix::from(prefix.parse::<IpNet>().unwrap());
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

/// The restart of the one peer, and what was wrong.
fn restart(objects: &[Value]) -> (PeerRestart, Vec<String>) {
    let Peering { config, problems, .. } = plan(&world(objects), Start::Cold);
    let peer = config.unwrap().peers.into_values().next().unwrap();
    (peer.graceful_restart, problems.iter().map(ToString::to_string).collect())
}

fn annotated(mut object: Value, restart: &str) -> Value {
    object["metadata"]["annotations"] = json!({"bgp.ocicat.io/graceful-restart": restart});
    object
}

#[test]
fn no_restart_time_turns_on_what_an_annotation_turned_off() {
    let spec = json!({"peerIP": "192.0.2.1", "asNumber": 64999, "maxRestartTime": "30s"});
    let tor = calico("BGPPeer", "tor", spec);
    let alone = || node("n1", "172.16.1.10", "10.65.1.0/24", json!({}));
    let ignored = |field| {
        format!(
            "{field}: set beside the annotation graceful-restart: off, which goes before it; there is no graceful restart"
        )
    };
    let off = restart(&[alone(), annotated(tor.clone(), "off")]);
    assert_eq!(off, (PeerRestart::Disabled, vec![ignored("BGPPeer tor: spec.maxRestartTime")]));

    let default = |spec| annotated(calico("BGPConfiguration", "default", spec), "off");
    let for_all = restart(&[alone(), default(json!({})), tor.clone()]);
    assert_eq!(for_all, off);
    // What stands on the peer goes before what stands on the configuration.
    let (on, problems) = restart(&[alone(), default(json!({})), annotated(tor, "on")]);
    assert!(matches!(on, PeerRestart::Enabled { time, .. } if time.as_secs() == 30), "{on:?}");
    assert_eq!(problems, [""; 0]);

    let mut mesh = two_nodes();
    mesh.push(default(json!({"nodeMeshMaxRestartTime": "30s"})));
    let field = "BGPConfiguration default: spec.nodeMeshMaxRestartTime";
    assert_eq!(restart(&mesh), (PeerRestart::Disabled, vec![ignored(field)]));
}
