//! Random sequences of events: what the index keeps up to date is what compiling from scratch gives,
//! and what it reports as changed is the difference.

use std::sync::Arc;

use ipnet::IpNet;
use ocicat_policy::model::{
    Block, NamedPort, NamespaceSelector, Order, Peer, Peers, PodNetwork, PodSelector, PortMatch,
    Ports,
};
use ocicat_policy::selector::{Requirement, Selector};
use ocicat_policy::{
    Action, Changes, Direction, Flow, Index, Namespace, Party, Pod, PodKey, Policy, PolicyKey,
    PortClass, Program, Rule, Tier, Traffic, Transport, Verdict, compile, decide,
};
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

/// One thing that may happen to a world.
#[derive(Clone, Debug)]
enum Event {
    PutPod(Pod),
    /// Give a pod that is there the addresses of this one.
    Readdress(Pod),
    /// Give a pod that is there the named ports of this one.
    RenamePorts(Pod),
    RemovePod(PodKey),
    PutNamespace(Namespace),
    RemoveNamespace(&'static str),
    PutPolicy(Policy),
    RemovePolicy(PolicyKey),
    PutTier(Tier),
    RemoveTier(&'static str),
    SetLocal(PodKey),
    UnsetLocal(PodKey),
    Flush,
}

const NAMESPACES: &[&str] = &["a", "b"];
const TIERS: &[&str] = &["first", "last", "default"];

fn pod_key() -> impl Strategy<Value = PodKey> {
    (select(NAMESPACES), select(&["1", "2", "3", "4"][..]))
        .prop_map(|(namespace, name)| PodKey::new(namespace, name))
}

fn policy_key() -> impl Strategy<Value = PolicyKey> {
    (select(NAMESPACES), select(&["p", "q", "r"][..]))
        .prop_map(|(namespace, name)| PolicyKey::network_policy(namespace, name))
}

fn transport() -> impl Strategy<Value = Transport> {
    select(vec![Transport::Tcp, Transport::Tcp, Transport::Udp])
}

fn labels() -> impl Strategy<Value = Vec<(&'static str, &'static str)>> {
    subsequence(vec![("app", "x"), ("app", "y"), ("zone", "x"), ("zone", "y")], 0..=2)
}

fn pod() -> impl Strategy<Value = Pod> {
    let addresses =
        subsequence(vec!["10.0.0.1", "10.0.0.2", "10.0.1.1", "fd00::1", "fd00::2"], 0..=2);
    let port = (transport(), select(vec![80, 81]));
    let named =
        port.prop_map(|(transport, port)| NamedPort { transport, name: "web".into(), port });
    let network = prop_oneof![9 => Just(PodNetwork::Own), 1 => Just(PodNetwork::Host)];
    (pod_key(), labels(), addresses, btree_set(named, 0..=2), network).prop_map(
        |(key, labels, addresses, named_ports, network)| Pod {
            labels: labels.into_iter().collect(),
            addresses: match network {
                PodNetwork::Own => addresses.iter().map(|a| a.parse().unwrap()).collect(),
                PodNetwork::Host => Vec::new(),
            },
            named_ports: named_ports.into_iter().collect(),
            network,
            ..Pod::new(key)
        },
    )
}

fn namespace() -> impl Strategy<Value = Namespace> {
    (select(NAMESPACES), labels()).prop_map(|(name, labels)| Namespace::new(name, labels))
}

fn requirement() -> impl Strategy<Value = Requirement> {
    let key = || select(vec!["app", "zone"]).prop_map(Arc::<str>::from);
    let values = || btree_set(select(vec!["x", "y"]).prop_map(Arc::<str>::from), 1..=2);
    prop_oneof![
        (key(), values()).prop_map(|(key, values)| Requirement::In(key, values)),
        (key(), values()).prop_map(|(key, values)| Requirement::NotIn(key, values)),
        key().prop_map(Requirement::Exists),
        key().prop_map(Requirement::DoesNotExist),
    ]
}

fn selector() -> impl Strategy<Value = Selector> {
    vec(requirement(), 0..=2).prop_map(|all| all.into_iter().collect())
}

fn pod_selector() -> impl Strategy<Value = PodSelector> {
    let namespaces = prop_oneof![
        1 => Just(NamespaceSelector::Any),
        3 => select(NAMESPACES).prop_map(|name| NamespaceSelector::Named(name.into())),
        3 => selector().prop_map(NamespaceSelector::Labelled),
    ];
    (namespaces, selector()).prop_map(|(namespaces, pods)| PodSelector { namespaces, pods })
}

fn block() -> impl Strategy<Value = Block> {
    let choices = [
        ("0.0.0.0/0", &["10.0.0.0/8", "10.0.0.2/32"][..]),
        ("10.0.0.0/16", &["10.0.0.0/24"]),
        ("10.0.0.0/30", &[]),
        ("::/0", &["fd00::/16"]),
        ("fd00::/64", &["fd00::1/128"]),
    ];
    select(choices.to_vec()).prop_flat_map(|(cidr, holes)| {
        subsequence(holes, 0..=holes.len()).prop_map(move |holes| Block {
            cidr: cidr.parse().unwrap(),
            except: holes.iter().map(|hole| hole.parse::<IpNet>().unwrap()).collect(),
        })
    })
}

fn rule() -> impl Strategy<Value = Rule> {
    let peer = prop_oneof![
        2 => pod_selector().prop_map(|selector| Peer::Pods(Arc::new(selector))),
        1 => block().prop_map(|block| Peer::Block(Arc::new(block))),
    ];
    let peers = prop_oneof![1 => Just(Peers::Any), 4 => vec(peer, 0..=2).prop_map(Peers::Of)];
    let range = (transport(), select(vec![(0, 65535), (80, 80), (79, 90), (81, 81)]));
    let port = prop_oneof![
        range.prop_map(|(transport, (first, last))| PortMatch::Range(transport, first, last)),
        transport().prop_map(|transport| PortMatch::Named(transport, "web".into())),
    ];
    let ports = prop_oneof![1 => Just(Ports::Any), 2 => vec(port, 0..=2).prop_map(Ports::Of)];
    let action = select(vec![Action::Allow, Action::Allow, Action::Deny, Action::Pass]);
    (action, peers, ports).prop_map(|(action, peers, ports)| Rule { action, peers, ports })
}

fn policy() -> impl Strategy<Value = Policy> {
    let rules = || proptest::option::of(vec(rule(), 0..=3));
    let place = (select(TIERS), select(vec![1.0, 2.0, f64::NAN]));
    (policy_key(), place, pod_selector(), rules(), rules()).prop_map(
        |(key, (tier, order), subject, ingress, egress)| Policy {
            key,
            tier: tier.into(),
            order: Order::at(order),
            subject,
            ingress,
            egress,
            problems: Vec::new(),
        },
    )
}

fn tier() -> impl Strategy<Value = Tier> {
    let default = select(vec![Action::Deny, Action::Pass, Action::Allow]);
    (select(TIERS), select(vec![10.0, 20.0]), default).prop_map(|(name, order, default)| Tier {
        name: name.into(),
        order: Order::at(order),
        default,
    })
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => pod().prop_map(Event::PutPod),
        4 => pod().prop_map(Event::Readdress),
        4 => pod().prop_map(Event::RenamePorts),
        2 => pod_key().prop_map(Event::RemovePod),
        4 => namespace().prop_map(Event::PutNamespace),
        1 => select(NAMESPACES).prop_map(Event::RemoveNamespace),
        4 => policy().prop_map(Event::PutPolicy),
        2 => policy_key().prop_map(Event::RemovePolicy),
        1 => tier().prop_map(Event::PutTier),
        1 => select(TIERS).prop_map(Event::RemoveTier),
        4 => pod_key().prop_map(Event::SetLocal),
        2 => pod_key().prop_map(Event::UnsetLocal),
        12 => Just(Event::Flush),
    ]
}

/// A world that is not empty, and what happens to it.
fn history() -> impl Strategy<Value = Vec<Event>> {
    let pods = vec(pod(), 3..8);
    let namespaces = vec(namespace(), 0..4);
    let policies = vec(policy(), 1..5);
    (pods, namespaces, policies, vec(event(), 0..40)).prop_map(
        |(pods, namespaces, policies, events)| {
            let local = pods.iter().map(|pod| Event::SetLocal(pod.key.clone()));
            let mut all: Vec<Event> = local.collect();
            all.extend(pods.into_iter().map(Event::PutPod));
            all.extend(namespaces.into_iter().map(Event::PutNamespace));
            all.extend(policies.into_iter().map(Event::PutPolicy));
            all.push(Event::Flush);
            all.extend(events);
            all.push(Event::Flush);
            all
        },
    )
}

fn happen(index: &mut Index, event: Event) {
    let known = |pod: &Pod| index.world().pods.get(&pod.key).cloned();
    match event {
        Event::PutPod(pod) => index.put_pod(pod),
        Event::Readdress(like) => {
            if let Some(pod) = known(&like).filter(|pod| pod.network == like.network) {
                index.put_pod(Pod { addresses: like.addresses, ..pod });
            }
        }
        Event::RenamePorts(like) => {
            if let Some(pod) = known(&like) {
                index.put_pod(Pod { named_ports: like.named_ports, ..pod });
            }
        }
        Event::RemovePod(key) => index.remove_pod(&key),
        Event::PutNamespace(namespace) => index.put_namespace(namespace),
        Event::RemoveNamespace(name) => index.remove_namespace(name),
        Event::PutPolicy(policy) => index.put_policy(policy),
        Event::RemovePolicy(key) => index.remove_policy(&key),
        Event::PutTier(tier) => index.put_tier(tier),
        Event::RemoveTier(name) => index.remove_tier(name),
        Event::SetLocal(key) => index.set_local(key),
        Event::UnsetLocal(key) => index.unset_local(&key),
        Event::Flush => flush(index),
    }
}

fn flush(index: &mut Index) {
    let before = index.program().clone();
    let changes = index.flush();
    let program = index.program();
    assert_eq!(*program, compile(index.world()));
    assert_eq!(changes, Changes::between(&before, program));
    assert_eq!(index.problems(), index.world().problems());
    check_shape(program);
}

/// Blocks and port classes are disjoint, and none could be joined with its neighbour.
fn check_shape(program: &Program) {
    for table in program.tables.values() {
        let blocks = Vec::from_iter(table.blocks.iter().copied());
        assert_eq!(IpNet::aggregate(&blocks).len(), blocks.len(), "{blocks:?}");
    }
    for group in program.groups.values() {
        for transport in Transport::ALL {
            let classes = group.classes(transport);
            assert!(classes.iter().all(|class| class.first <= class.last));
            assert!(classes.windows(2).all(|two| two[0].last < two[1].first));
            let joined =
                |two: &[PortClass]| two[0].last + 1 == two[1].first && two[0].table == two[1].table;
            assert!(!classes.windows(2).any(joined), "{classes:?}");
        }
    }
}

/// Hold every lookup in the program of an index against the policies as they are.
fn check_lookups(index: &Index) {
    let world = index.world();
    let addresses = ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.1.1", "10.1.0.0", "192.0.2.1"];
    let addresses = addresses.into_iter().chain(["fd00::1", "fd00::2", "fd00::3", "2001:db8::1"]);
    let addresses: Vec<_> = addresses.map(|text| text.parse().unwrap()).collect();
    let ports = [78, 79, 80, 81, 90, 91].map(|port| Traffic::Port(Transport::Tcp, port));
    let traffics = ports.into_iter().chain([Traffic::Port(Transport::Udp, 80), Traffic::Other]);
    let traffics: Vec<Traffic> = traffics.collect();
    let endpoints = index.program().endpoints.keys();
    for (pod, address) in endpoints.flat_map(|pod| addresses.iter().map(move |a| (pod, *a))) {
        if world.pods[pod].addresses.contains(&address) {
            continue;
        }
        let subject = || Party { address, pod: Some(pod.clone()) };
        let peer = || Party { address, pod: None };
        for traffic in &traffics {
            let look = |way| index.program().verdict(pod, way, address, *traffic);
            let out = Flow { source: subject(), destination: peer(), traffic: *traffic };
            let into = Flow { source: peer(), destination: subject(), traffic: *traffic };
            let told: [Verdict; 2] =
                [decide(world, &into).ingress.verdict, decide(world, &out).egress.verdict];
            let looked_up = [look(Direction::Ingress), look(Direction::Egress)];
            assert_eq!(looked_up, told, "{pod} and {address}: {traffic}");
        }
    }
}

/// Everything in an index but the number of the next selector.
fn content(index: &Index) -> String {
    let text = format!("{index:#?}");
    let lines = text.lines().filter(|line| !line.trim_start().starts_with("next: "));
    lines.collect::<Vec<_>>().join("\n")
}

proptest! {
    #[test]
    fn what_is_kept_up_to_date_is_what_compiling_from_scratch_gives(history in history()) {
        let mut index = Index::new();
        for event in history {
            happen(&mut index, event);
        }
        check_lookups(&index);
        prop_assert!(index.flush().is_empty());
    }

    #[test]
    fn an_index_that_loses_everything_is_as_good_as_new(history in history()) {
        let mut index = Index::new();
        for event in history {
            happen(&mut index, event);
        }
        let world = index.world().clone();
        world.policies.keys().for_each(|key| index.remove_policy(key));
        flush(&mut index);
        prop_assert!(index.program().groups.is_empty() && index.program().tables.is_empty());
        world.pods.keys().for_each(|key| index.remove_pod(key));
        world.local.iter().for_each(|key| index.unset_local(key));
        world.namespaces.keys().for_each(|name| index.remove_namespace(name));
        world.tiers.keys().for_each(|name| index.remove_tier(name));
        flush(&mut index);
        prop_assert_eq!(content(&index), content(&Index::new()));
    }
}
