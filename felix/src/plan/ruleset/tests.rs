use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::datastore::{Event, Key as ObjectKey, Kind, Object};
use ocicat_cni::endpoint::{Endpoint as Record, Stage, UnixMillis, host_interface};

fn put(world: &mut World, object: Value) {
    let parsed = Object::parse(object).unwrap();
    world.apply(Event::Put(Box::new(parsed.object)));
}

fn pod(namespace: &str, name: &str, address: &str, role: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": namespace, "name": name, "labels": {"role": role}},
        "spec": {"nodeName": "n1", "containers": []},
        "status": {"podIPs": [{"ip": address}]},
    })
}

fn record(namespace: &str, name: &str, address: &str) -> Record {
    Record {
        namespace: namespace.to_owned(),
        pod: name.to_owned(),
        uid: None,
        container_id: format!("c-{name}"),
        netns: String::new(),
        ifname: "eth0".to_owned(),
        host_interface: host_interface(namespace, name, "eth0"),
        addresses: vec![address.parse().unwrap()],
        created: UnixMillis(1),
        stage: Stage::Attached,
    }
}

/// Chains and elements that are there beside those of a table without pods, as nft input, names of our own making cut.
fn beyond_base(ruleset: &Ruleset) -> String {
    let change = crate::nft::diff(ruleset.table(), &base::table());
    change.to_string()
}

#[test]
fn a_policy_becomes_a_group_with_its_ports_and_its_peers() {
    let mut world = World::new("n1");
    put(&mut world, pod("shop", "web", "10.65.1.2", "web"));
    put(&mut world, pod("shop", "db", "10.65.1.3", "db"));
    put(
        &mut world,
        json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": {"namespace": "shop", "name": "db"},
            "spec": {
                "podSelector": {"matchLabels": {"role": "db"}},
                "ingress": [{"from": [{"podSelector": {"matchLabels": {"role": "web"}}}],
                             "ports": [{"port": 5432}]}],
            },
        }),
    );
    world.attach(record("shop", "web", "10.65.1.2"));
    world.attach(record("shop", "db", "10.65.1.3"));
    world.index.flush();
    let ruleset = Ruleset::from_scratch(&world);
    let text = beyond_base(&ruleset);
    let db = host_interface("shop", "db", "eth0");
    let web = host_interface("shop", "web", "eth0");
    let group = world.index.program().groups.keys().next().unwrap();
    let table = world.index.program().tables.keys().next().unwrap();
    for line in [
        format!("add rule inet ocicat group-{group} th dport . meta l4proto vmap @ports-{group}"),
        format!("add rule inet ocicat group-{group} counter drop"),
        format!("add rule inet ocicat peers-in-{table} ip saddr @pods4-{table} return"),
        format!("add element inet ocicat pods4-{table} {{ 10.65.1.2 }}"),
        format!("add element inet ocicat ports-{group} {{ 5432 . tcp : goto peers-in-{table} }}"),
        format!("\"{db}\" : goto group-{group}"),
        format!("\"{web}\" : return"),
        format!("\"{db}\" . 10.65.1.3"),
    ] {
        assert!(text.contains(&line), "{line}\nis not in\n{text}");
    }
    assert!(!text.contains("peers-out-"), "nobody asks in that direction:\n{text}");
}

#[test]
fn an_interface_whose_pod_is_not_known_is_not_in_the_maps() {
    let mut world = World::new("n1");
    world.attach(record("shop", "web", "10.65.1.2"));
    world.index.flush();
    assert_eq!(Ruleset::from_scratch(&world).table(), &base::table());
    let mut other = record("shop", "web", "10.65.1.2");
    other.uid = Some("2".to_owned());
    world.attach(other);
    let mut object = pod("shop", "web", "10.65.1.2", "web");
    object["metadata"]["uid"] = json!("1");
    put(&mut world, object);
    world.index.flush();
    assert_eq!(
        Ruleset::from_scratch(&world).table(),
        &base::table(),
        "another pod of the same name"
    );
}

/// Something that happens to a small cluster.
#[derive(Debug, Clone)]
enum Step {
    Put(usize, usize),
    Remove(usize),
    Attach(usize),
    Detach(usize),
    Policy(usize, usize, Vec<u16>),
    NoPolicy(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0..4_usize, 0..3_usize).prop_map(|(pod, role)| Step::Put(pod, role)),
        1 => (0..4_usize).prop_map(Step::Remove),
        3 => (0..4_usize).prop_map(Step::Attach),
        1 => (0..4_usize).prop_map(Step::Detach),
        3 => (0..3_usize, 0..3_usize, prop::collection::vec(prop_oneof![Just(80), Just(443)], 0..3))
            .prop_map(|(policy, role, ports)| Step::Policy(policy, role, ports)),
        1 => (0..3_usize).prop_map(Step::NoPolicy),
    ];
    prop::collection::vec(step, 1..24)
}

fn perform(world: &mut World, step: &Step) {
    let name = |pod: usize| format!("p{pod}");
    let address = |pod: usize| format!("10.65.1.{}", pod + 2);
    match step {
        Step::Put(number, role) => {
            put(world, pod("a", &name(*number), &address(*number), &format!("r{role}")));
        }
        Step::Remove(pod) => {
            world.apply(Event::Delete(ObjectKey::namespaced(Kind::Pod, "a", name(*pod))));
        }
        Step::Attach(pod) => world.attach(record("a", &name(*pod), &address(*pod))),
        Step::Detach(pod) => world.detach(&record("a", &name(*pod), &address(*pod)).id()),
        Step::Policy(policy, role, ports) => {
            let ports: Vec<Value> = ports.iter().map(|port| json!({"port": port})).collect();
            let subject = json!({"matchLabels": {"role": format!("r{policy}")}});
            let from = json!([{"podSelector": {"matchLabels": {"role": format!("r{role}")}}}]);
            let metadata = json!({"namespace": "a", "name": format!("n{policy}")});
            put(
                world,
                json!({
                    "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata,
                    "spec": {
                        "podSelector": subject, "policyTypes": ["Ingress", "Egress"],
                        "ingress": [{"from": from.clone(), "ports": ports}],
                        "egress": [{"to": from}],
                    },
                }),
            );
        }
        Step::NoPolicy(policy) => {
            let key = ObjectKey::namespaced(Kind::NetworkPolicy, "a", format!("n{policy}"));
            world.apply(Event::Delete(key));
        }
    }
}

proptest! {
    #[test]
    fn following_changes_gives_what_planning_from_scratch_gives(steps in steps()) {
        let mut world = World::new("n1");
        let mut ruleset = Ruleset::default();
        let mut kernel = ruleset.table().clone();
        for step in &steps {
            perform(&mut world, step);
            let changes = world.index.flush();
            let dirty = world.take_dirty();
            match ruleset.update(&world, &changes, &dirty.interfaces) {
                Update::Elements(transaction) => transaction.apply_to(&mut kernel).unwrap(),
                Update::Structure => {
                    crate::nft::diff(ruleset.table(), &kernel).apply_to(&mut kernel).unwrap();
                }
            }
            let scratch = Ruleset::from_scratch(&world);
            prop_assert_eq!(ruleset.table(), scratch.table());
            prop_assert_eq!(&kernel, ruleset.table());
        }
    }
}
