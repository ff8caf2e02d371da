//! Export rules of a BGPFilter that take part under a condition.

use std::sync::Arc;

use ocicat_bgp::rib::filter::{Action, Condition, Rule as FilterRule};
use ocicat_bgp::wire::{Family, Prefix};

use super::*;

/// The filter `f` with these annotations, which tells one network of each family and rejects one, and a
/// peer that has it.
fn objects(annotations: Value) -> Vec<Value> {
    let rules = |cidr: &str| {
        json!([
            {"action": "Accept", "cidr": cidr, "matchOperator": "Equal"},
            {"action": "Reject", "source": "RemotePeers"},
        ])
    };
    let import = json!([{"action": "Accept", "cidr": "0.0.0.0/0", "matchOperator": "Equal"}]);
    let spec = json!({
        "exportV4": rules("10.65.1.0/24"), "exportV6": rules("fd00:65:1::/64"), "importV4": import,
    });
    let mut filter = calico("BGPFilter", "f", spec);
    filter["metadata"]["annotations"] = annotations;
    let peer = json!({"peerIP": "172.16.1.1", "asNumber": 64500, "filters": ["f"]});
    [two_nodes(), vec![filter, calico("BGPPeer", "tor", peer)]].concat()
}

fn tor(objects: &[Value]) -> (PeerConfig, Vec<String>, Vec<String>) {
    let Peering { config, problems, about, .. } = plan(&world(objects), Start::Cold);
    let name = PeerName::from("tor");
    let peer = config.unwrap().peers.remove(&name).unwrap();
    let problems = problems.iter().map(ToString::to_string).collect();
    (peer, about[&name].rules.export.clone(), problems)
}

fn condition(any_of: &[&str], none_of: &[&str]) -> Option<Arc<Condition>> {
    let set = |texts: &[&str]| texts.iter().map(|text| text.parse::<Prefix>().unwrap()).collect();
    Some(Arc::new(Condition { any_of: set(any_of), none_of: set(none_of) }))
}

#[test]
fn annotations_put_a_condition_on_export_rules_and_on_no_others() {
    for (annotations, expected) in [
        (json!({}), None),
        (json!({"bgp.ocicat.io/export-while": "0.0.0.0/0"}), condition(&["0.0.0.0/0"], &[])),
        (
            json!({"bgp.ocicat.io/export-unless": "192.0.2.0/24, 2001:db8::/32"}),
            condition(&[], &["192.0.2.0/24", "2001:db8::/32"]),
        ),
        (
            json!({
                "bgp.ocicat.io/export-while": "::/0,0.0.0.0/0",
                "bgp.ocicat.io/export-unless": "192.0.2.77/24",
            }),
            condition(&["0.0.0.0/0", "::/0"], &["192.0.2.0/24"]),
        ),
    ] {
        let (peer, origins, problems) = tor(&objects(annotations.clone()));
        assert_eq!(problems, [""; 0], "{annotations}");
        assert_eq!(peer.export.rules.len(), 4);
        assert!(peer.export.rules.iter().all(|rule| rule.condition == expected), "{annotations}");
        assert!(peer.import.rules.iter().all(|rule| rule.condition.is_none()));
        assert_eq!(origins[3], "BGPFilter f exportV6[1]");
    }
}

#[test]
fn a_condition_that_cannot_be_read_closes_the_export_rules() {
    for text in ["", "0.0.0.0", "0.0.0.0/0,", "default", "192.0.2.0/33", "10.0.0.0/8 ::/0"] {
        for name in ["export-while", "export-unless"] {
            let mut annotations = json!({});
            annotations[format!("bgp.ocicat.io/{name}")] = json!(text);
            let (peer, origins, problems) = tor(&objects(annotations));
            let field = format!("BGPFilter f: metadata.annotations[bgp.ocicat.io/{name}]");
            let consequence = "its export rules reject everything";
            let problem = format!("{field}: {text:?} is not a list of CIDRs; {consequence}");
            assert_eq!(problems, [problem]);
            let closed = peer.export.rules.iter().map(|rule| (rule.family, &rule.action));
            let closed: Vec<_> = closed.collect();
            assert_eq!(closed, Family::ALL.map(|family| (Some(family), &Action::Reject)));
            assert!(peer.export.rules.iter().all(|rule| *rule
                == FilterRule { family: rule.family, ..FilterRule::any(Action::Reject) }));
            assert_eq!(origins, ["BGPFilter f exportV4", "BGPFilter f exportV6"]);
            assert_eq!(peer.import.rules.len(), 1);
        }
    }
}

#[test]
fn an_annotation_that_is_not_for_a_filter_is_ignored_and_so_is_a_condition_elsewhere() {
    let mut objects = objects(
        json!({"bgp.ocicat.io/hold-time": "9s", "bgp.ocicat.io/nonsense": "1", "other.io/x": "y"}),
    );
    let peer = objects.last_mut().unwrap();
    peer["metadata"]["annotations"] = json!({"bgp.ocicat.io/export-while": "0.0.0.0/0"});
    let (peer, _, problems) = tor(&objects);
    assert_eq!(
        problems,
        [
            "BGPPeer tor: metadata.annotations[bgp.ocicat.io/export-while]: \"0.0.0.0/0\" is for a BGPFilter; ignored",
            "BGPFilter f: metadata.annotations[bgp.ocicat.io/hold-time]: \"9s\" is for a BGPPeer or a BGPConfiguration; ignored",
            "BGPFilter f: metadata.annotations[bgp.ocicat.io/nonsense]: no such annotation is known (its value is \"1\"); ignored",
        ]
    );
    assert!(peer.export.rules.iter().all(|rule| rule.condition.is_none()));
}

/// RFC 8212: a policy that is suspended is none.
#[test]
fn where_a_policy_is_required_one_under_a_condition_is_not_enough() {
    let mut objects = objects(json!({"bgp.ocicat.io/export-while": "0.0.0.0/0"}));
    let mut configuration = calico("BGPConfiguration", "default", json!({}));
    configuration["metadata"]["annotations"] =
        json!({"bgp.ocicat.io/ebgp-requires-policy": "true"});
    objects.push(configuration);
    let (peer, _, _) = tor(&objects);
    let last: Vec<_> = peer.export.rules.iter().rev().take(2).rev().collect();
    for (rule, family) in last.into_iter().zip(Family::ALL) {
        let reject = FilterRule { family: Some(family), ..FilterRule::any(Action::Reject) };
        assert_eq!(*rule, reject);
    }
    assert_eq!(peer.export.rules.len(), 6);
}
