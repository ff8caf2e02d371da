//! What it costs when one pod of the cluster comes or goes, from the object to the kernel's word that it is done.
//!
//! `cargo run --release -p ocicat-felix --example membership` (root; works in a network namespace of its own)

use std::time::{Duration, Instant};

use ocicat_cni::endpoint::{Endpoint, Stage, UnixMillis, host_interface};
use ocicat_felix::dataplane::kernel::Kernel;
use ocicat_felix::dataplane::{Change, Dataplane, RouteChanges};
use ocicat_felix::datastore::{Event, Key, Kind, Object};
use ocicat_felix::nft::{Transaction, diff};
use ocicat_felix::plan::ruleset::{Ruleset, TABLE, Update};
use ocicat_felix::world::World;
use serde_json::{Value, json};

const ROUNDS: u32 = 2000;

fn main() {
    if let Err(error) = nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET) {
        eprintln!("a network namespace takes root: {error}");
        std::process::exit(1);
    }
    println!("a pod comes or goes, until the kernel has it; {ROUNDS} changes each");
    for members in [1_000, 100_000] {
        let mut node = Node::with(members);
        let (mut come, mut go) = (Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            let name = format!("extra-{round}");
            let address = format!("10.200.{}.{}", round / 250, round % 250 + 1);
            come.push(node.change(Event::Put(Box::new(pod(&name, &address, "n2")))));
            go.push(node.change(Event::Delete(Key::namespaced(Kind::Pod, "a", name))));
        }
        print(&format!("{members} elements present, a pod comes"), come);
        print(&format!("{members} elements present, a pod goes"), go);
    }
}

struct Node {
    world: World,
    ruleset: Ruleset,
    kernel: Kernel,
}

impl Node {
    /// A node with one pod, which that many pods elsewhere may reach.
    fn with(members: u32) -> Self {
        let mut world = World::new("n1");
        let put = |world: &mut World, object: Object| world.apply(Event::Put(Box::new(object)));
        put(&mut world, pod("web", "10.65.1.2", "n1"));
        put(
            &mut world,
            parse(json!({
                "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
                "metadata": {"namespace": "a", "name": "web"},
                "spec": {"podSelector": {}, "ingress": [{"from": [{"podSelector": {}}], "ports": [{"port": 80}]}]},
            })),
        );
        for number in 0..members {
            let [_, high, middle, low] = number.to_be_bytes();
            let address = format!("10.{}.{middle}.{low}", 100 + high);
            put(&mut world, pod(&format!("p{number}"), &address, "n2"));
        }
        world.attach(Endpoint {
            namespace: "a".to_owned(),
            pod: "web".to_owned(),
            uid: None,
            container_id: "c".to_owned(),
            netns: String::new(),
            ifname: "eth0".to_owned(),
            host_interface: host_interface("a", "web", "eth0"),
            addresses: vec!["10.65.1.2".parse().expect("a literal")],
            created: UnixMillis(0),
            stage: Stage::Attached,
        });
        world.index.flush();
        world.take_dirty();
        let ruleset = Ruleset::from_scratch(&world);
        let mut kernel = Kernel::open(TABLE).expect("netlink sockets");
        let now = kernel.read().expect("the kernel's table");
        let mut node = Self { world, ruleset, kernel };
        let first = diff(node.ruleset.table(), &now.table);
        node.commit(first);
        node
    }

    fn change(&mut self, event: Event) -> Duration {
        let begun = Instant::now();
        self.world.apply(event);
        let changes = self.world.index.flush();
        let dirty = self.world.take_dirty();
        match self.ruleset.update(&self.world, &changes, &dirty.interfaces) {
            Update::Elements(transaction) => self.commit(transaction),
            Update::Structure => unreachable!("a pod that comes or goes changes elements alone"),
        }
        begun.elapsed()
    }

    fn commit(&mut self, nft: Transaction) {
        let change = Change { nft, routes: RouteChanges::default() };
        self.kernel.apply(&change).nft.expect("the kernel takes the change");
    }
}

fn pod(name: &str, address: &str, node: &str) -> Object {
    parse(json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": "a", "name": name},
        "spec": {"nodeName": node, "containers": []}, "status": {"podIPs": [{"ip": address}]},
    }))
}

fn parse(object: Value) -> Object {
    Object::parse(object).expect("a literal of this file").object
}

fn print(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |part: f64| {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index")]
        let place = ((times.len() - 1) as f64 * part) as usize;
        times[place].as_micros()
    };
    println!("{what:<42} p50 {:>5} µs  p99 {:>5} µs  max {:>6} µs", at(0.5), at(0.99), at(1.0));
}
