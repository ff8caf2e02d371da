//! What one change costs in a large cluster: 100,000 pods in 1,000 namespaces, 2,000 policies, 110 local
//! pods. `cargo run --release --example scale -p ocicat-policy`
#![expect(
    clippy::disallowed_methods,
    reason = "an example may look at the clock; the crate may not"
)]

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnet::Ipv4Net;
use ocicat_policy::model::{
    Block, NamespaceSelector, Order, Peer, Peers, PodSelector, PortMatch, Ports,
};
use ocicat_policy::selector::{Requirement, Selector};
use ocicat_policy::{
    Action, Index, Namespace, Pod, PodKey, Policy, PolicyKey, Rule, Tier, Transport, compile,
};

const PODS: u32 = 100_000;
const NAMESPACES: u32 = 1_000;
const POLICIES: u32 = 2_000;
const LOCAL: u32 = 110;

fn namespace_of(pod: u32) -> String {
    format!("team-{}", pod % NAMESPACES)
}

fn key(pod: u32) -> PodKey {
    PodKey::new(namespace_of(pod), format!("pod-{pod}"))
}

/// Ten applications in each namespace, one of a thousand pods is a monitor.
fn pod(number: u32, app: u32) -> Pod {
    let app = format!("app-{app}");
    let role = if number.is_multiple_of(1000) { "monitor" } else { "worker" };
    let hash = format!("{:x}", (number % NAMESPACES).wrapping_mul(2_654_435_761));
    let labels = [("app", app.as_str()), ("role", role), ("pod-template-hash", &hash)];
    Pod {
        labels: labels.into_iter().collect(),
        addresses: [IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + number))].into(),
        ..Pod::new(key(number))
    }
}

fn app_of(pod: u32) -> u32 {
    pod / NAMESPACES % 10
}

fn equals(key: &str, value: String) -> Selector {
    [Requirement::In(key.into(), [Arc::from(value)].into())].into_iter().collect()
}

/// Each lets in the next application of its namespace, the monitors of everywhere, and one namespace.
fn policy(number: u32) -> Policy {
    let own = NamespaceSelector::Named(namespace_of(number).into());
    let app = number / NAMESPACES;
    let peer = |namespaces, pods| Peer::Pods(Arc::new(PodSelector { namespaces, pods }));
    let everywhere = NamespaceSelector::Labelled(Selector::everything());
    let friend = equals("team", format!("{}", (number * 7) % NAMESPACES));
    let peers = vec![
        peer(own.clone(), equals("app", format!("app-{}", app + 1))),
        peer(everywhere, equals("role", "monitor".to_owned())),
        peer(NamespaceSelector::Labelled(friend), Selector::everything()),
    ];
    let ports = Ports::Of(vec![PortMatch::Range(Transport::Tcp, 8080, 8080)]);
    let rule = Rule { action: Action::Allow, peers: Peers::Of(peers), ports };
    Policy {
        key: PolicyKey::network_policy(namespace_of(number), format!("policy-{number}")),
        tier: Tier::DEFAULT.into(),
        order: Order::at(Tier::POLICY_ORDER),
        subject: PodSelector { namespaces: own, pods: equals("app", format!("app-{app}")) },
        ingress: Some(vec![rule.clone()]),
        egress: Some(vec![rule]),
        problems: Vec::new(),
    }
}

fn time<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let begin = Instant::now();
    let result = work();
    (begin.elapsed(), result)
}

/// Repeat a change and its flush, and print how long they took together.
fn measure(what: &str, repeat: u32, mut change: impl FnMut(u32)) {
    let mut times: Vec<Duration> = (0..repeat).map(|at| time(|| change(at)).0).collect();
    times.sort();
    let at = |part: usize| times[(times.len() - 1) * part / 100];
    println!("{what:<44} p50 {:>10.1?}  p99 {:>10.1?}  max {:>10.1?}", at(50), at(99), at(100));
}

fn resident_megabytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or_default() / 1024
}

fn main() {
    let mut index = Index::new();
    let (load, ()) = time(|| {
        for number in 0..NAMESPACES {
            let team = number.to_string();
            index.put_namespace(Namespace::new(&namespace_of(number), [("team", team.as_str())]));
        }
        (0..PODS).for_each(|number| index.put_pod(pod(number, app_of(number))));
        (0..POLICIES).for_each(|number| index.put_policy(policy(number)));
        (0..LOCAL).for_each(|number| index.set_local(key(number * 911)));
    });
    let (first, _) = time(|| index.flush());
    let (again, program) = time(|| compile(index.world()));
    assert_eq!(program, *index.program());
    let elements: usize = program.tables.values().map(|table| table.addresses.len()).sum();
    println!("{} pods, {} policies, {} local pods", PODS, POLICIES, LOCAL);
    println!(
        "{} groups, {} tables, {elements} elements",
        program.groups.len(),
        program.tables.len()
    );
    drop(program);
    println!("load {load:.1?}, first flush {first:.1?}, from scratch {again:.1?}");
    println!("resident {} MB", resident_megabytes());

    let victim = |at: u32| (at * 37) % PODS;
    measure("a pod comes (any)", 2000, |at| {
        let mut new = pod(PODS + at, at % 10);
        new.key = PodKey::new(namespace_of(at), format!("new-{at}"));
        index.put_pod(new);
        index.flush();
    });
    measure("a pod goes (any)", 2000, |at| {
        index.remove_pod(&PodKey::new(namespace_of(at), format!("new-{at}")));
        index.flush();
    });
    measure("a pod changes its labels (any)", 2000, |at| {
        index.put_pod(pod(victim(at), at % 10));
        index.flush();
    });
    measure("a monitor comes (in every table)", 100, |at| {
        index.put_pod(pod((PODS + 1 + at) * 1000, 3));
        index.flush();
    });
    measure("a local pod changes its labels", 200, |at| {
        index.put_pod(pod(at % LOCAL * 911, at % 3));
        index.flush();
    });
    measure("a policy of a local pod changes", 200, |at| {
        let mut changed = policy(at % LOCAL * 911 % POLICIES);
        changed.ingress = None;
        index.put_policy(changed);
        index.flush();
    });
    measure("a policy of nobody here changes", 500, |at| {
        let mut changed = policy(at % POLICIES);
        changed.ingress = None;
        index.put_policy(changed);
        index.flush();
    });
    measure("a namespace of 100 pods changes its labels", 200, |at| {
        let team = (at + 1).to_string();
        index.put_namespace(Namespace::new(&namespace_of(at), [("team", team.as_str())]));
        index.flush();
    });
    println!("resident {} MB", resident_megabytes());

    let (fill, changes) = time(|| {
        index.put_policy(open_to_everywhere("all", 1, 0));
        index.flush()
    });
    let added = changes.tables_added.iter().map(|id| index.program().tables[id].addresses.len());
    println!("a policy opens a port to every pod: {} elements in {fill:.1?}", added.sum::<usize>());
    measure("a pod comes (with that policy)", 2000, |at| {
        let mut new = pod(PODS + at, at % 10);
        new.key = PodKey::new(namespace_of(at), format!("newer-{at}"));
        index.put_pod(new);
        index.flush();
    });
    let (blocks, _) = time(|| {
        index.put_policy(open_to_blocks(5000));
        index.flush()
    });
    let most = index.program().tables.values().map(|table| table.blocks.len()).max();
    println!("a policy with 5000 blocks: {} disjoint ones in {blocks:.1?}", most.unwrap_or(0));
    index.remove_policy(&open_to_blocks(0).key);
    let (crowd, _) = time(|| {
        for number in 0..2000 {
            let name = format!("many-{number}");
            index.put_policy(open_to_everywhere(&name, 1000 + number, number));
        }
        index.flush()
    });
    let classes = index.program().groups.values().map(|group| group.tcp.len()).max();
    println!("2000 policies select one pod: {} port classes in {crowd:.1?}", classes.unwrap_or(0));
    let mut port = 5000..;
    measure("one of these 2000 policies changes", 20, |_| {
        index.put_policy(open_to_everywhere("many-7", port.next().unwrap_or(1), u16::MAX));
        index.flush();
    });
}

/// Opens one port of one local pod to that many blocks with a hole each.
fn open_to_blocks(count: u32) -> Policy {
    let block = |at: u32| Block {
        cidr: Ipv4Net::new_assert(Ipv4Addr::from(0x2000_0000 + (at << 9)), 24).into(),
        except: [Ipv4Net::new_assert(Ipv4Addr::from(0x2000_0000 + (at << 9) + 77), 32).into()]
            .into(),
    };
    let peers = Peers::Of((0..count).map(|at| Peer::Block(Arc::new(block(at)))).collect());
    let rule = Rule { action: Action::Allow, peers, ports: Ports::Any };
    Policy { ingress: Some(vec![rule]), ..open_to_everywhere("blocks", 1, 0) }
}

/// Opens one port of one local pod to everybody with a label that differs per `zone`; zone 0 is every pod.
fn open_to_everywhere(name: &str, port: u16, zone: u16) -> Policy {
    let pods = if zone == 0 { Selector::everything() } else { equals("zone", zone.to_string()) };
    let namespaces = NamespaceSelector::Labelled(Selector::everything());
    let peers = Peers::Of(vec![Peer::Pods(Arc::new(PodSelector { namespaces, pods }))]);
    let ports = Ports::Of(vec![PortMatch::Range(Transport::Tcp, port, port)]);
    Policy {
        key: PolicyKey::network_policy(namespace_of(911), name),
        ingress: Some(vec![Rule { action: Action::Allow, peers, ports }]),
        egress: None,
        ..policy(911)
    }
}
