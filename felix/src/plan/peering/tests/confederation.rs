//! Confederations (RFC 5065).

use ocicat_bgp::speaker::Confederation;

use super::*;

/// Two nodes, a BGPConfiguration with the annotation, and a peer of this AS.
fn plan_with(annotation: &str, peer: Value) -> Peering {
    let mut objects = two_nodes();
    let mut configuration = calico("BGPConfiguration", "default", json!({"asNumber": 65001}));
    configuration["metadata"]["annotations"] = json!({
        "bgp.ocicat.io/confederation": annotation, "bgp.ocicat.io/ebgp-requires-policy": "true",
    });
    objects.push(configuration);
    let mut spec = json!({"peerIP": "172.16.1.1"});
    spec.as_object_mut().unwrap().extend(peer.as_object().unwrap().clone());
    objects.push(calico("BGPPeer", "tor", spec));
    plan(&world(&objects), Start::Cold)
}

fn problems(peering: &Peering) -> Vec<String> {
    peering.problems.iter().map(ToString::to_string).collect()
}

#[test]
fn an_annotation_makes_the_node_a_member() {
    let peering = plan_with("65000 members 65001,65002", json!({"asNumber": 65002}));
    assert_eq!(problems(&peering), [""; 0]);
    let number = |number| std::num::NonZeroU32::new(number).unwrap();
    let expected =
        Confederation { identifier: number(65000), members: [65001, 65002].map(number).into() };
    let config = peering.config.unwrap();
    assert_eq!((config.local_as.get(), config.confederation), (65001, Some(expected)));
}

/// RFC 8212 is about other ASes; a member is not one.
#[test]
fn what_is_asked_of_other_ases_is_not_asked_of_members() {
    let rules = |asn: u32| {
        let peering = plan_with("65000 members 65002", json!({"asNumber": asn}));
        peering.about[&PeerName::from("tor")].rules.import.len()
    };
    assert_eq!(rules(65002), rules(65001));
    assert!(rules(64500) > rules(65002));
}

#[test]
fn another_number_for_a_member_is_said_to_mean_nothing() {
    let spec = json!({"asNumber": 65002, "localASNumber": 65100});
    let peering = plan_with("65000 members 65002", spec);
    let text = "BGPPeer tor: spec.localASNumber: the peer is of the node's own confederation, which knows it by asNumber; ignored";
    assert_eq!(problems(&peering), [text]);
    assert_eq!(peering.config.unwrap().peers[&PeerName::from("tor")].local_as, None);
    let spec = json!({"asNumber": 64500, "localASNumber": 65100});
    assert_eq!(problems(&plan_with("65000 members 65002", spec)), [""; 0]);
}

#[test]
fn a_confederation_that_cannot_be_is_none() {
    let field = "BGPConfiguration default: metadata.annotations[bgp.ocicat.io/confederation]";
    let cases = [
        (
            "65001 members 65002",
            "AS 65001 is the node's own number, which a member cannot share with its confederation; ignored",
        ),
        ("65000", "\"65000\" is not like \"65000 members 65001,65002\"; ignored"),
    ];
    for (annotation, text) in cases {
        let peering = plan_with(annotation, json!({"asNumber": 64500}));
        assert_eq!(problems(&peering), [format!("{field}: {text}")]);
        assert_eq!(peering.config.unwrap().confederation, None);
    }
}
