//! `decide` says which policy and rule decided, at either end.

use ocicat_policy::case::Station;
use ocicat_policy::{Party, PodKey, Traffic, Transport, decide};

use crate::cluster::{Cluster, flow};

const PODS: &str = r#"
metadata: {name: web, namespace: shop, labels: {app: web}}
status: {podIPs: [{ip: 10.65.1.2}]}
---
metadata: {name: db, namespace: shop, labels: {app: db}}
status: {podIPs: [{ip: 10.65.2.3}]}
---
metadata: {name: agent, namespace: shop}
spec: {hostNetwork: true, containers: []}
status: {podIPs: [{ip: 10.0.0.1}]}
"#;

/// From shop/web to shop/db, TCP port 80.
fn check(policies: &str, extra_pods: &str, expected: &str) {
    let cluster = cluster(policies, extra_pods);
    let web = party(&cluster, "web");
    let db = party(&cluster, "db");
    let flow = flow(web, db, Traffic::Port(Transport::Tcp, 80));
    let decision = decide(cluster.index.world(), &flow);
    assert_eq!(decision.to_string(), expected.trim());
}

fn cluster(policies: &str, extra_pods: &str) -> Cluster {
    let mut cluster = Cluster::default();
    for pod in serde_saphyr::from_multiple(PODS).unwrap() {
        cluster.put_pod(pod);
    }
    for pod in serde_saphyr::from_multiple(extra_pods).unwrap() {
        cluster.put_pod(pod);
    }
    for policy in serde_saphyr::from_multiple(policies).unwrap() {
        cluster.put_policy(policy);
    }
    cluster.flush();
    cluster
}

fn party(cluster: &Cluster, name: &str) -> Party {
    cluster.party(&PodKey::new("shop", name), Station::CLIENT[0]).unwrap()
}

#[test]
fn a_pod_that_no_policy_selects_is_open() {
    check(
        "",
        "",
        "
egress accepted: not selected by any policy
ingress accepted: not selected by any policy",
    );
}

#[test]
fn the_rule_that_matched_is_named_by_its_place_in_the_object() {
    check(
        "
metadata: {name: db, namespace: shop}
spec:
  podSelector: {matchLabels: {app: db}}
  ingress:
  - from: [{podSelector: {matchLabels: {app: nobody}}}]
  - ports: [{port: 443}]
  - from: [{podSelector: {matchLabels: {app: web}}}]",
        "",
        "
egress accepted: not selected by any policy
ingress accepted: allowed by ingress[2] of NetworkPolicy shop/db",
    );
}

#[test]
fn every_policy_that_isolates_is_named() {
    check(
        "
metadata: {name: deny, namespace: shop}
spec: {podSelector: {}, policyTypes: [Ingress, Egress]}
---
metadata: {name: db, namespace: shop}
spec:
  podSelector: {matchLabels: {app: db}}
  ingress: [{ports: [{port: 443}]}]",
        "",
        "
egress dropped: isolated by NetworkPolicy shop/deny, and no rule matched
ingress dropped: isolated by NetworkPolicy shop/db, NetworkPolicy shop/deny, and no rule matched",
    );
}

#[test]
fn a_shared_address_is_named_as_the_cause() {
    check(
        "
metadata: {name: db, namespace: shop}
spec:
  podSelector: {matchLabels: {app: db}}
  ingress: [{from: [{podSelector: {matchLabels: {app: web}}}]}]",
        "
metadata: {name: zombie, namespace: shop}
status: {podIPs: [{ip: 10.65.1.2}]}",
        "
egress accepted: not selected by any policy
ingress dropped: the address is also that of shop/zombie, which is not allowed",
    );
}

#[test]
fn who_is_no_endpoint_is_not_judged() {
    let deny = "
metadata: {name: deny, namespace: shop}
spec: {podSelector: {}, policyTypes: [Ingress, Egress]}";
    let cluster = cluster(deny, "");
    let world = cluster.index.world();
    let db = party(&cluster, "db");
    let agent =
        Party { address: "10.0.0.1".parse().unwrap(), pod: Some(PodKey::new("shop", "agent")) };
    let outside = Party::at(world, Station::CLIENT[0]);
    for other in [agent, outside] {
        let decision = decide(world, &flow(other, db.clone(), Traffic::Other));
        assert_eq!(decision.egress.to_string(), "accepted: not subject to policy");
    }
    let itself = decide(world, &flow(db.clone(), db, Traffic::Other));
    assert_eq!(itself.to_string().matches("a pod may always talk to itself").count(), 2);
}
