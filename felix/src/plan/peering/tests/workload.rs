//! Pods of the node that speak BGP with it.

use super::*;

#[test]
fn an_address_for_pods_that_is_none_is_named() {
    let mut objects = two_nodes();
    let problems = |objects: &[Value]| -> Vec<String> {
        let problems = plan(&world(objects), Start::Cold).problems;
        problems.iter().map(ToString::to_string).collect()
    };
    let values = |ipv4: &str, ipv6: &str| {
        calico(
            "BGPConfiguration",
            "default",
            json!({"bindMode": "NodeIP",
                "localWorkloadPeeringIPV4": ipv4, "localWorkloadPeeringIPV6": ipv6}),
        )
    };
    objects.push(values("169.254.0", "fe80::179"));
    let start = "BGPConfiguration default: spec.localWorkloadPeeringIPV";
    assert_eq!(
        problems(&objects),
        [
            format!(
                "{start}4: \"169.254.0\" is not an address; pods reach the node at its own address"
            ),
            format!(
                "{start}6: \"fe80::179\" is link-local, and with bindMode NodeIP nobody listens on those; choose another address"
            ),
        ]
    );
    objects.pop();
    objects.push(values("fd00:179::1", "::1"));
    assert_eq!(
        problems(&objects),
        [
            format!(
                "{start}4: \"fd00:179::1\" is of the other address family; pods reach the node at its own address"
            ),
            format!(
                "{start}6: \"::1\" is not the address of a host; pods reach the node at its own address"
            ),
        ]
    );
}

#[test]
fn pods_that_speak_bgp_are_peers_of_their_node_alone() {
    let mut objects = two_nodes();
    objects.push(calico(
        "BGPConfiguration",
        "default",
        json!({"nodeToNodeMeshEnabled": false, "bindMode": "NodeIP",
            "localWorkloadPeeringIPV4": "169.254.0.179", "localWorkloadPeeringIPV6": "fd00:179::1"}),
    ));
    objects.push(calico(
        "BGPPeer",
        "pods",
        json!({"localWorkloadSelector": "speaks == 'bgp' && projectcalico.org/namespace == 'net'",
            "asNumber": 65010}),
    ));
    let pod = |name: &str, speaks: &str| {
        json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"namespace": "net", "name": name, "labels": {"speaks": speaks}},
            "spec": {"nodeName": "n1", "containers": []}})
    };
    objects.extend([pod("router", "bgp"), pod("web", "http")]);
    let mut world = world(&objects);
    for (name, address) in [("router", "10.65.1.7"), ("web", "10.65.1.8")] {
        world.attach(ocicat_cni::endpoint::Endpoint {
            namespace: "net".to_owned(),
            pod: name.to_owned(),
            uid: None,
            container_id: name.to_owned(),
            netns: String::new(),
            ifname: "eth0".to_owned(),
            host_interface: format!("oci{name}"),
            addresses: vec![address.parse().unwrap()],
            created: ocicat_cni::endpoint::UnixMillis(1),
            stage: ocicat_cni::endpoint::Stage::Attached,
        });
    }
    let peering = plan(&world, Start::Cold);
    assert_eq!(peering.problems, []);
    let ours = ["169.254.0.179", "fd00:179::1"].map(|text| text.parse().unwrap());
    assert_eq!(peering.workloads, [("ocirouter".to_owned(), ours.into())].into());
    let config = peering.config.unwrap();
    assert_eq!(config.listen_ahead, ours.map(|ip| SocketAddr::new(ip, 179)));
    let [(name, peer)] = &config.peers.into_iter().collect::<Vec<_>>()[..] else {
        panic!("one peer")
    };
    assert_eq!(name.as_str(), "pods-net-router");
    assert_eq!(
        (peer.address.to_string().as_str(), peer.remote_as.to_string().as_str(), peer.dial),
        ("10.65.1.7", "65010", Dial::Passive)
    );
}
