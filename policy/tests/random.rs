//! Random clusters of Kubernetes objects, good and bad ones, judged three times.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{
    Container, ContainerPort, Namespace, Pod, PodIP, PodSpec, PodStatus,
};
use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer,
    NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{
    LabelSelector, LabelSelectorRequirement, ObjectMeta,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use ocicat_policy::case::{Case, Family, Station};
use ocicat_policy::model::{Peers, Ports};
use ocicat_policy::{Party, Traffic, Transport, k8s};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use crate::cluster::{Cluster, flow};

fn text(choices: &'static [&'static str]) -> impl Strategy<Value = String> {
    select(choices).prop_map(str::to_owned)
}

fn labels() -> impl Strategy<Value = BTreeMap<String, String>> {
    btree_map(text(&["app", "tier"]), text(&["a", "b"]), 0..=2)
}

fn meta(namespace: Option<String>, name: String, labels: BTreeMap<String, String>) -> ObjectMeta {
    ObjectMeta { namespace, name: Some(name), labels: Some(labels), ..ObjectMeta::default() }
}

fn namespace(name: &'static str) -> impl Strategy<Value = Namespace> {
    labels().prop_map(move |labels| Namespace {
        metadata: meta(None, name.to_owned(), labels),
        ..Namespace::default()
    })
}

fn container_port() -> impl Strategy<Value = ContainerPort> {
    let name = option::of(text(&["http", "dns"]));
    let protocol = option::of(text(&["TCP", "UDP", "udp"]));
    (name, select(vec![80, 81, 53]), protocol).prop_map(|(name, container_port, protocol)| {
        ContainerPort { name, container_port, protocol, ..ContainerPort::default() }
    })
}

fn container() -> impl Strategy<Value = Container> {
    (vec(container_port(), 0..3), option::of(text(&["Always"]))).prop_map(
        |(ports, restart_policy)| Container {
            ports: Some(ports),
            restart_policy,
            ..Container::default()
        },
    )
}

/// Few addresses, so that some are claimed twice.
const ADDRESSES: &[&str] = &[
    "10.65.1.1",
    "10.65.1.2",
    "10.65.1.3",
    "10.65.2.1",
    "10.65.2.2",
    "fd00:65:1::1",
    "fd00:65:1::2",
    "fd00:65:2::1",
    "nonsense",
];

fn pod() -> impl Strategy<Value = Pod> {
    let name = (text(&["a", "b", "unseen"]), text(&["one", "two", "three"]));
    let spec = (vec(container(), 1..3), vec(container(), 0..2), select(vec![None, Some(false)]));
    let host = prop::bool::weighted(0.1);
    let phase = option::of(text(&["Running", "Running", "Succeeded", "Failed"]));
    let ips = subsequence(ADDRESSES, 0..=3);
    (name, labels(), spec, host, phase, ips).prop_map(
        |((namespace, name), labels, (containers, init, no_host), host, phase, ips)| Pod {
            metadata: meta(Some(namespace), name, labels),
            spec: Some(PodSpec {
                containers,
                init_containers: Some(init),
                host_network: if host { Some(true) } else { no_host },
                ..PodSpec::default()
            }),
            status: Some(PodStatus {
                phase,
                pod_ips: Some(ips.into_iter().map(|ip| PodIP { ip: ip.to_owned() }).collect()),
                ..PodStatus::default()
            }),
        },
    )
}

fn requirement() -> impl Strategy<Value = LabelSelectorRequirement> {
    let good = prop_oneof![
        vec(text(&["a", "b"]), 1..=2).prop_flat_map(|v| (text(&["In", "NotIn"]), Just(Some(v)))),
        (text(&["Exists", "DoesNotExist"]), select(vec![None, Some(Vec::new())])),
    ];
    let bad = (text(&["In", "Exists", "Near"]), option::of(vec(text(&["a", "not good"]), 0..=1)));
    (text(&["app", "tier"]), prop_oneof![9 => good, 1 => bad])
        .prop_map(|(key, (operator, values))| LabelSelectorRequirement { key, operator, values })
}

fn selector() -> impl Strategy<Value = LabelSelector> {
    let key = prop_oneof![19 => text(&["app", "tier"]), 1 => text(&["no key"])];
    let match_labels = option::of(btree_map(key, text(&["a", "b"]), 0..=1));
    (match_labels, option::of(vec(requirement(), 0..=2))).prop_map(
        |(match_labels, match_expressions)| LabelSelector { match_labels, match_expressions },
    )
}

const BLOCKS: &[&str] = &[
    "0.0.0.0/0",
    "10.65.0.0/16",
    "10.65.1.0/24",
    "10.65.1.2/31",
    "10.65.1.2/32",
    "::/0",
    "fd00:65::/32",
    "fd00:65:1::/64",
    "fd00:65:1::2/128",
    "192.0.2.0/24",
];

fn block() -> impl Strategy<Value = IPBlock> {
    let cidr = prop_oneof![19 => text(BLOCKS), 1 => text(&["10.0.0.0/33", "10.0.0.1", ""])];
    let hole = prop_oneof![19 => text(BLOCKS), 1 => text(&["?"])];
    (cidr, option::of(vec(hole, 0..3))).prop_map(|(cidr, except)| {
        // Most random holes are outside of their block, and would make it match nothing.
        let prefix = |text: &str| text.split('/').next_back().and_then(|n| n.parse::<u8>().ok());
        let smaller = |hole: &String| prefix(hole) > prefix(&cidr) || hole == "?";
        let except = except.map(|holes| holes.into_iter().filter(smaller).collect());
        IPBlock { except, cidr }
    })
}

fn peer() -> impl Strategy<Value = NetworkPolicyPeer> {
    let selectors = (option::of(selector()), option::of(selector()));
    prop_oneof![
        12 => selectors.prop_map(|(namespace_selector, pod_selector)| NetworkPolicyPeer {
            namespace_selector,
            pod_selector,
            ip_block: None,
        }),
        8 => block().prop_map(|ip_block| NetworkPolicyPeer {
            ip_block: Some(ip_block),
            ..NetworkPolicyPeer::default()
        }),
        1 => (block(), selector()).prop_map(|(ip_block, selector)| NetworkPolicyPeer {
            ip_block: Some(ip_block),
            pod_selector: Some(selector),
            namespace_selector: None,
        }),
    ]
}

fn port() -> impl Strategy<Value = NetworkPolicyPort> {
    let protocol = option::of(text(&["TCP", "TCP", "UDP", "SCTP", "ICMP"]));
    let number = select(vec![80, 80, 81, 53, 0, 70000]).prop_map(IntOrString::Int);
    let name = text(&["http", "dns", "80"]).prop_map(IntOrString::String);
    let port = option::of(prop_oneof![3 => number, 2 => name]);
    let end_port = option::weighted(0.2, select(vec![79, 81, 65535, 70000]));
    (protocol, port, end_port).prop_map(|(protocol, port, end_port)| NetworkPolicyPort {
        protocol,
        port,
        end_port,
    })
}

fn peers_and_ports()
-> impl Strategy<Value = (Option<Vec<NetworkPolicyPeer>>, Option<Vec<NetworkPolicyPort>>)> {
    (option::of(vec(peer(), 0..3)), option::of(vec(port(), 0..3)))
}

fn policy() -> impl Strategy<Value = NetworkPolicy> {
    let name = (text(&["a", "b"]), text(&["one", "two", "three"]));
    let rules = || option::of(vec(peers_and_ports(), 0..3));
    let kind = prop_oneof![9 => text(&["Ingress", "Egress"]), 1 => text(&["ingress"])];
    let types = option::of(vec(kind, 0..=2));
    (name, option::of(selector()), rules(), rules(), types).prop_map(
        |((namespace, name), pod_selector, ingress, egress, policy_types)| NetworkPolicy {
            metadata: meta(Some(namespace), name, BTreeMap::new()),
            spec: Some(NetworkPolicySpec {
                pod_selector,
                ingress: ingress.map(|rules| {
                    let rules = rules.into_iter();
                    rules.map(|(from, ports)| NetworkPolicyIngressRule { from, ports }).collect()
                }),
                egress: egress.map(|rules| {
                    let rules = rules.into_iter();
                    rules.map(|(to, ports)| NetworkPolicyEgressRule { to, ports }).collect()
                }),
                policy_types,
            }),
        },
    )
}

fn cluster() -> impl Strategy<Value = Cluster> {
    let objects = (namespace("a"), namespace("b"), vec(pod(), 2..7), vec(policy(), 0..5));
    objects.prop_map(|(a, b, pods, policies)| {
        let mut cluster = Cluster::default();
        cluster.put_namespace(a);
        cluster.put_namespace(b);
        pods.into_iter().for_each(|pod| cluster.put_pod(pod));
        policies.into_iter().for_each(|policy| cluster.put_policy(policy));
        cluster.flush();
        cluster
    })
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let policies =
            serde_json::to_string_pretty(&self.objects.policies.values().collect::<Vec<_>>());
        let pods = serde_json::to_string(&self.objects.pods.values().collect::<Vec<_>>());
        let namespaces = self.objects.namespaces.values().collect::<Vec<_>>();
        let namespaces = serde_json::to_string(&namespaces);
        write!(f, "{}\n{}\n{}", policies.unwrap(), pods.unwrap(), namespaces.unwrap())
    }
}

/// Everybody who can send or receive: every pod at each of its addresses, and the client.
fn parties(cluster: &Cluster) -> Vec<Party> {
    let outside = Station::CLIENT.iter().map(|address| Party { address: *address, pod: None });
    let pods = cluster.index.world().pods.values().flat_map(|pod| {
        let key = pod.key.clone();
        let at = |address: &IpAddr| Party { address: *address, pod: Some(key.clone()) };
        pod.addresses.iter().map(at).collect::<Vec<_>>()
    });
    pods.chain(outside).collect()
}

fn traffics() -> Vec<Traffic> {
    let tcp = [79, 80, 81, 53].map(|port| Traffic::Port(Transport::Tcp, port));
    let others = [(Transport::Udp, 53), (Transport::Udp, 80), (Transport::Sctp, 80)];
    let others = others.map(|(transport, port)| Traffic::Port(transport, port));
    tcp.into_iter().chain(others).chain([Traffic::Other]).collect()
}

proptest! {
    #[test]
    fn oracle_decision_and_program_agree_on_every_flow(cluster in cluster()) {
        let parties = parties(&cluster);
        for source in &parties {
            for destination in &parties {
                if Family::of(source.address) != Family::of(destination.address) {
                    continue;
                }
                for traffic in traffics() {
                    let flow = flow(source.clone(), destination.clone(), traffic);
                    let verdicts = cluster.verdicts(&flow);
                    let one = verdicts["oracle"];
                    prop_assert!(
                        verdicts.values().all(|other| *other == one),
                        "{flow:?}: {verdicts:?}",
                    );
                }
            }
        }
    }

    #[test]
    fn no_text_makes_the_conversion_panic_or_go_unreported(
        text in ".*",
        place in 0..7usize,
    ) {
        let at = |wanted: usize, good: &str| {
            if place == wanted { text.clone() } else { good.to_owned() }
        };
        let term = LabelSelectorRequirement {
            key: at(0, "app"),
            operator: at(1, "In"),
            values: Some(vec![at(2, "a")]),
        };
        let selector =
            LabelSelector { match_expressions: Some(vec![term]), ..LabelSelector::default() };
        let peers = [
            NetworkPolicyPeer { pod_selector: Some(selector), ..NetworkPolicyPeer::default() },
            NetworkPolicyPeer {
                ip_block: Some(IPBlock {
                    cidr: at(3, "10.0.0.0/8"),
                    except: Some(vec![at(4, "10.1.0.0/16")]),
                }),
                ..NetworkPolicyPeer::default()
            },
        ];
        let port = NetworkPolicyPort {
            protocol: Some(at(5, "TCP")),
            port: Some(IntOrString::String(at(6, "http"))),
            end_port: None,
        };
        let rule = NetworkPolicyIngressRule { from: Some(peers.to_vec()), ports: Some(vec![port]) };
        let policy = NetworkPolicy {
            metadata: meta(Some("a".to_owned()), "p".to_owned(), BTreeMap::new()),
            spec: Some(NetworkPolicySpec { ingress: Some(vec![rule]), ..Default::default() }),
        };
        let converted = k8s::policy(&policy).unwrap();
        let rule = &converted.ingress.as_ref().unwrap()[0];
        let Peers::Of(peers) = &rule.peers else { panic!("the rule is open to anybody") };
        let Ports::Of(ports) = &rule.ports else { panic!("the rule is open on any port") };
        // What is missing was reported.
        prop_assert_eq!(3 - peers.len() - ports.len(), converted.problems.len());
    }

    #[test]
    fn no_text_makes_reading_a_table_panic(heading in ".*", table in "(?s).*") {
        let case = serde_json::json!({
            "apiVersion": "ocicat.dev/test",
            "kind": "Case",
            "description": "",
            "expect": [{ heading: table }],
        });
        let case: Case = serde_json::from_value(case).unwrap();
        let _ = case.probes();
    }
}
