//! What `node.NAME` has otherwise than `default`.

use ocicat_bgp::speaker::LocalAsMode;

use super::*;

/// The address, port and AS of each peer of this node, then of itself.
fn ends(node: &str, objects: &[Value]) -> Vec<String> {
    let Peering { config, problems, .. } = plan(&world_of(node, objects), Start::Cold);
    assert_eq!(problems, []);
    let config = config.unwrap();
    let end = |address: IpAddr, port: u16, number: &dyn std::fmt::Display| {
        format!("{} AS {number}", SocketAddr::new(address, port))
    };
    let peers = config.peers.values();
    let mut ends: Vec<_> =
        peers.map(|peer| end(peer.address, peer.port, &peer.remote_as)).collect();
    let own = IpAddr::V4(config.own_ipv4.unwrap());
    ends.push(end(own, config.listen[0].port(), &config.local_as));
    ends
}

#[test]
fn what_an_api_server_writes_into_every_object_is_not_said_of_a_node() {
    let balancers = |aggregation: &str, level: &str| {
        let spec = json!({
            "serviceLoadBalancerIPs": [{"cidr": "198.51.100.0/24"}],
            "serviceLoadBalancerAggregation": aggregation, "logSeverityScreen": level,
        });
        calico("BGPConfiguration", "default", spec)
    };
    let of_node = |aggregation: &str, level: &str| {
        let spec = json!({
            "serviceLoadBalancerAggregation": aggregation, "logSeverityScreen": level,
            "listenPort": 1179,
        });
        calico("BGPConfiguration", "node.n1", spec)
    };
    let range: ocicat_bgp::wire::Prefix = "198.51.100.0/24".parse().unwrap();
    let in_force = |default: Value, node: Value| {
        let peering = plan(&world(&[two_nodes(), vec![default, node]].concat()), Start::Cold);
        assert_eq!(peering.problems, []);
        (peering.config.unwrap().originated.contains_key(&range), peering.log)
    };
    let debug = Some(LogLevel::Debug);
    let singly = in_force(balancers("Disabled", "Debug"), of_node("Enabled", "Info"));
    assert_eq!(singly, (false, debug));
    assert_eq!(
        in_force(balancers("Enabled", "Info"), of_node("Disabled", "Debug")),
        (false, debug)
    );
    let whole = in_force(balancers("Enabled", "Info"), of_node("Enabled", "Info"));
    assert_eq!(whole, (true, Some(LogLevel::Info)));
}

#[test]
fn a_node_may_have_prefix_advertisements_of_its_own_and_no_mesh() {
    let named = |value: &str| json!([{"name": "lab", "value": value}]);
    let advertised =
        |communities: Value| json!([{"cidr": "10.65.0.0/16", "communities": communities}]);
    let default = json!({
        "communities": [{"name": "all", "value": "64500:1"}, {"name": "lab", "value": "64500:2"}],
        "prefixAdvertisements": advertised(json!(["lab"])),
    });
    let mut objects = [two_nodes(), vec![calico("BGPConfiguration", "default", default)]].concat();
    let told = |objects: &[Value]| {
        let Peering { config, problems, .. } = plan(&world(objects), Start::Cold);
        let originated = config.unwrap().originated.into_values().next().unwrap();
        let texts = originated.communities.iter().map(ToString::to_string);
        texts.chain(problems.iter().map(|problem| format!("! {problem}"))).collect::<Vec<_>>()
    };
    assert_eq!(told(&objects), ["64500:2"]);
    let of_node = json!({
        "communities": named("64500:3"), "prefixAdvertisements": advertised(json!(["lab", "all", "x"])),
        "nodeToNodeMeshEnabled": false, "nodeMeshMaxRestartTime": "30s",
        "nodeMeshPassword": {"secretKeyRef": {"name": "bgp", "key": "mesh"}},
    });
    objects.push(calico("BGPConfiguration", "node.n1", of_node));
    let problem = |text: &str| format!("! BGPConfiguration node.n1: spec.{text}");
    let of_mesh = |field: &str| {
        problem(&format!("{field}: counts in \"default\" alone; ignored, as in Calico"))
    };
    let expected = [
        "64500:1".to_owned(),
        "64500:3".to_owned(),
        of_mesh("nodeToNodeMeshEnabled"),
        of_mesh("nodeMeshPassword"),
        of_mesh("nodeMeshMaxRestartTime"),
        problem(
            "prefixAdvertisements[0].communities[2]: \"x\" is not a community (aa:nn or aa:nn:mm); not sent",
        ),
    ];
    assert_eq!(told(&objects), expected);
}

#[test]
fn how_a_local_as_is_shown_can_be_set_for_all() {
    let mut default = calico("BGPConfiguration", "default", json!({}));
    default["metadata"]["annotations"] = json!({"bgp.ocicat.io/local-as-mode": "no-prepend"});
    let spec = json!({"peerIP": "172.16.1.1", "asNumber": 64500, "localASNumber": 64600});
    let mut tor = calico("BGPPeer", "tor", spec);
    let mode = |tor: &Value| {
        let objects = [two_nodes(), vec![default.clone(), tor.clone()]].concat();
        let peers = plan(&world(&objects), Start::Cold).config.unwrap().peers;
        let local_as = peers[&PeerName::from("tor")].local_as.unwrap();
        assert_eq!(local_as.number.get(), 64600);
        local_as.mode
    };
    assert_eq!(mode(&tor), LocalAsMode::NoPrepend);
    tor["metadata"]["annotations"] = json!({"bgp.ocicat.io/local-as-mode": "prepend"});
    assert_eq!(mode(&tor), LocalAsMode::Prepend, "what stands on the peer goes before");
}

#[test]
fn a_node_is_reached_where_it_listens_and_by_its_own_number() {
    let mut objects = two_nodes();
    let default = json!({"asNumber": 64520, "listenPort": 1179});
    objects.push(calico("BGPConfiguration", "default", default.clone()));
    objects.push(calico(
        "BGPConfiguration",
        "node.n2",
        json!({"asNumber": 64530, "listenPort": 2179}),
    ));
    let [n1, n2] = ["172.16.1.10:1179 AS 64520", "172.16.2.10:2179 AS 64530"];
    assert_eq!(ends("n1", &objects), [n2, n1]);
    assert_eq!(ends("n2", &objects), [n1, n2]);
    // By a BGPPeer the same.
    let mut off = default;
    off["nodeToNodeMeshEnabled"] = json!(false);
    objects.push(calico("BGPConfiguration", "default", off));
    let spec = json!({"nodeSelector": "rack == 'a'", "peerSelector": "rack == 'b'"});
    objects.push(calico("BGPPeer", "racks", spec));
    assert_eq!(ends("n1", &objects), [n2, n1]);
    assert_eq!(ends("n2", &objects), [n1, n2]);
    objects.push(calico("BGPPeer", "racks", json!({"peerIP": "172.16.2.10", "node": "n1"})));
    assert_eq!(ends("n1", &objects), [n2, n1]);
    // What stands on the node goes before.
    objects[1]["metadata"]["annotations"] = json!({"projectcalico.org/ASNumber": "64540"});
    assert_eq!(ends("n1", &objects)[0], "172.16.2.10:2179 AS 64540");
}
