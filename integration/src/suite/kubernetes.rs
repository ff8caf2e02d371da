//! The agent on a real Kubernetes API server, with the rights that `manifests/rbac.yaml` gives it.

mod node_status;
mod passwords;
mod services;

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::{Bench, Test, expect, expect_soon, ingress, pod};
use crate::agent::Stop;
use crate::kubernetes::{ApiServer, manifest};
use crate::lab::{End, Lab, Pod, with_addresses};
use crate::object::Object;
use crate::probe::{Outcome, Protocol, Server, Stream};
use crate::progress::format_duration;
use crate::router::Daemon as _;
use crate::runtime::{Call, Sandbox};
use crate::spec::{Numbering, Spec, rack};
use crate::wait::until;

pub(super) const TESTS: &[Test] = &[
    Test::new("kubernetes: policies, labels and pods of an API server hold for packets", changes)
        .limit(180),
    Test::new(
        "kubernetes: without Calico's kinds all is well, with them BGP peers come and go",
        peering,
    )
    .limit(180),
    Test::new(
        "kubernetes: a password is read with the right to its Secret alone, and follows it",
        passwords::followed,
    )
    .limit(180),
    Test::new(
        "kubernetes: a restart beside a router with a password takes no route out of the kernel",
        passwords::kept_through_a_restart,
    )
    .limit(180),
    Test::new(
        "kubernetes: the API server dies and comes back, and nothing is lost or missed",
        outage,
    )
    .limit(240),
    Test::new(
        "kubernetes: a CalicoNodeStatus is written by its node's agent, and only when there is news",
        node_status::written,
    )
    .limit(240),
    Test::new(
        "kubernetes: Services are told while asked for, as endpoints come and go, and through a restart",
        services::told,
    )
    .limit(240),
];

const PORTS: [(Protocol, u16); 2] = [(Protocol::Tcp, 80), (Protocol::Udp, 7)];

/// A lab whose agents watch an API server.
struct Cluster {
    lab: Lab,
    api: ApiServer,
}

impl Cluster {
    /// Machines, API server and the objects that belong to Kubernetes itself; no agent runs.
    fn bare(bench: &Bench, spec: Spec) -> Result<Self> {
        let mut lab = bench.bare(spec)?;
        let api = ApiServer::start(&lab)?;
        api.apply_file(&manifest("manifests/rbac.yaml"))?;
        let kubeconfig = api.service_account("kube-system", "ocicat")?;
        for agent in &mut lab.agents {
            agent.watch_cluster(kubeconfig.clone());
        }
        let cluster = Self { lab, api };
        cluster.apply_where(|object| !is_calico(object))?;
        Ok(cluster)
    }

    /// With Calico's kinds, BGP and agents.
    fn started(bench: &Bench, spec: Spec) -> Result<Self> {
        let mut cluster = Self::bare(bench, spec)?;
        cluster.install_calico()?;
        cluster.apply_where(is_calico)?;
        cluster.lab.start()?;
        Ok(cluster)
    }

    fn install_calico(&self) -> Result<()> {
        self.api.apply_file(&manifest("integration/k8s/crds.yaml"))?;
        let wait = ["wait", "--for=condition=Established", "--timeout=30s", "crd", "--all"];
        self.api.kubectl(&wait, "").map(drop)
    }

    fn apply_where(&self, wanted: impl Fn(&Object) -> bool) -> Result<()> {
        let objects = self.lab.spec.objects.iter();
        objects
            .filter(|object| wanted(object))
            .try_for_each(|object| self.api.apply(object).map(drop))
    }

    /// The part of kubelet and runtime: ADD for a pod that the API server has, then its addresses in its status.
    fn attach(&mut self, object: Object) -> Result<usize> {
        let stored = self.api.apply(&schedulable(object))?;
        let sandbox = self.sandbox(&stored)?;
        let node = self.lab.node(stored.text("/spec/nodeName"))?;
        let agent = &self.lab.agents[node];
        let addresses = sandbox.add(agent).with_context(|| agent.log_tail())?;
        let object = with_addresses(stored, &addresses);
        self.api.put_pod_status(&object)?;
        let server = Some(Server::start(&sandbox.netns, &addresses, &PORTS)?);
        self.lab.pods.push(Pod { sandbox, node, object, addresses, server });
        Ok(self.lab.pods.len() - 1)
    }

    /// A sandbox for the pod with this very UID.
    fn sandbox(&self, stored: &Object) -> Result<Sandbox> {
        let uid = stored.text("/metadata/uid");
        let count = self.lab.run.namespaces()?.len();
        let netns = self.lab.run.netns(&format!("pod-default-{}-{count}", stored.name()));
        let mut sandbox = Sandbox::create(&netns, stored.namespace(), stored.name())?;
        sandbox.uid = Some(uid.to_owned());
        Ok(sandbox)
    }

    fn label(&self, what: &[&str]) -> Result<()> {
        self.api.kubectl(&[&["label", "--overwrite"], what].concat(), "").map(drop)
    }

    /// Waits for the outcomes and prints how long after `kubectl` that was. A flow that must be dropped adds the time that
    /// it is given to prove otherwise.
    fn expect_after(&mut self, cause: &str, lines: &[(&str, &str, &str, Outcome)]) -> Result<()> {
        let took = expect_soon(&mut self.lab, lines).with_context(|| cause.to_owned())?;
        println!("              {cause}: {} until all flows show it", format_duration(took));
        Ok(())
    }

    /// Every agent finds the kernel and the input in order.
    fn expect_well(&self) -> Result<()> {
        for agent in &self.lab.agents {
            let mut said = String::new();
            until(Duration::from_secs(5), "ocicat check is content", || {
                said = agent.ask(&["check", "-o", "json"])?;
                let view: Value = serde_json::from_str(&said)?;
                let empty = |list: &str| view[list].as_array().is_some_and(Vec::is_empty);
                Ok(view["inSync"] == true
                    && empty("problems")
                    && empty("failures")
                    && empty("waiting"))
            })
            .with_context(|| format!("{said}\n{}", agent.log_tail()))?;
        }
        Ok(())
    }

    fn agents_know(&self, flow: &str, word: &str) -> Result<()> {
        for agent in &self.lab.agents {
            let said = agent.ask(&["explain", flow])?;
            ensure!(said.contains(word), "ocicat explain {flow:?} does not say {word:?}: {said}");
        }
        Ok(())
    }
}

fn is_calico(object: &Object) -> bool {
    object.text("/apiVersion").starts_with("projectcalico.org/")
}

/// With what an API server insists on.
fn schedulable(mut object: Object) -> Object {
    object.0["spec"]["containers"] = json!([{ "name": "main", "image": "none" }]);
    object
}

fn from_pods(labels: &Value) -> Value {
    json!([{ "from": [{ "podSelector": { "matchLabels": labels } }] }])
}

fn changes(bench: &Bench) -> Result<()> {
    let mut cluster = Cluster::started(bench, rack(2, Numbering::PerRack))?;
    for (name, node) in [("web", "node1"), ("near", "node1"), ("far", "node2")] {
        cluster.attach(pod(name, node))?;
    }
    let open = [
        ("near", "web", "80/TCP", Outcome::Reached),
        ("far", "web", "80/TCP", Outcome::Reached),
        ("client", "web", "80/TCP", Outcome::Reached),
    ];
    cluster.expect_after("three pods", &open)?;
    policies(&mut cluster)?;
    labels(&mut cluster)?;
    same_name(&mut cluster)?;
    Ok(())
}

fn policies(cluster: &mut Cluster) -> Result<()> {
    let guarded = [
        ("near", "web", "80/TCP", Outcome::Dropped),
        ("far", "web", "80/TCP", Outcome::Reached),
        ("client", "web", "80/TCP", Outcome::Dropped),
        ("web", "far", "80/TCP", Outcome::Reached),
    ];
    let policy = ingress("web", &from_pods(&json!({ "app": "far" })));
    cluster.api.apply(&policy)?;
    cluster.expect_after("a policy is made", &guarded)?;
    cluster.expect_well()?;
    cluster.agents_know("default/near -> default/web:80", "default/web")?;
    cluster.api.delete(&policy)?;
    cluster.expect_after("a policy is deleted", &[("near", "web", "80/TCP", Outcome::Reached)])?;
    cluster.api.apply(&policy)?;
    cluster.expect_after("a policy is made anew", &guarded)
}

fn labels(cluster: &mut Cluster) -> Result<()> {
    cluster.label(&["pod", "near", "app=far"])?;
    cluster
        .expect_after("a pod's label is changed", &[("near", "web", "80/TCP", Outcome::Reached)])?;
    cluster.label(&["pod", "near", "app=near"])?;
    cluster.expect_after("and back", &[("near", "web", "80/TCP", Outcome::Dropped)])?;
    let trusted =
        json!([{ "from": [{ "namespaceSelector": { "matchLabels": { "trust": "yes" } } }] }]);
    cluster.api.apply(&ingress("web", &trusted))?;
    cluster.expect_after(
        "the policy wants another namespace",
        &[("far", "web", "80/TCP", Outcome::Dropped)],
    )?;
    cluster.label(&["namespace", "default", "trust=yes"])?;
    cluster.expect_after(
        "a namespace's label is changed",
        &[("near", "web", "80/TCP", Outcome::Reached), ("far", "web", "80/TCP", Outcome::Reached)],
    )?;
    cluster.label(&["namespace", "default", "trust-"])?;
    cluster.expect_after("and taken away", &[("near", "web", "80/TCP", Outcome::Dropped)])
}

/// As a StatefulSet does: the pod is deleted and made anew while its old sandbox still stands.
fn same_name(cluster: &mut Cluster) -> Result<()> {
    let far = cluster.lab.pod("default/far")?;
    let old = cluster.lab.pods[far].object.clone();
    cluster.api.delete(&old)?;
    let both_ways =
        [("far", "near", "80/TCP", Outcome::Dropped), ("near", "far", "80/TCP", Outcome::Dropped)];
    cluster.expect_after("a pod is deleted under its interface", &both_ways)?;
    cluster.api.apply(&schedulable(pod("far", "node2")))?;
    thread::sleep(Duration::from_millis(500));
    expect(&mut cluster.lab, &both_ways)
        .context("the new pod's object opened the old interface")?;
    let stray = cluster.sandbox(&old)?;
    let refusal = stray.call(&cluster.lab.agents[1], &Call::new("ADD"))?;
    ensure!(refusal.code() == Some(11), "ADD for the UID that is gone: {}", refusal.json);
    let message = refusal.json["msg"].as_str().unwrap_or_default();
    ensure!(message.contains("default/far"), "the message does not name the pod: {message}");
    let gone = cluster.lab.pods.remove(far);
    gone.sandbox.del(&cluster.lab.agents[1])?;
    cluster.attach(pod("far", "node2"))?;
    cluster.expect_after(
        "its successor is attached",
        &[("far", "near", "80/TCP", Outcome::Reached), ("near", "far", "80/TCP", Outcome::Reached)],
    )?;
    cluster.expect_well()
}

fn peering(bench: &Bench) -> Result<()> {
    let mut cluster = Cluster::bare(bench, rack(1, Numbering::PerRack))?;
    let config = cluster.lab.router_config();
    cluster.lab.start_router(&config)?;
    cluster.lab.start_agents()?;
    for name in ["a", "web"] {
        cluster.attach(pod(name, "node1"))?;
    }
    cluster.api.apply(&ingress("web", &json!([])))?;
    cluster.expect_after(
        "a policy without Calico's kinds",
        &[("a", "web", "80/TCP", Outcome::Dropped), ("web", "a", "80/TCP", Outcome::Reached)],
    )?;
    cluster.expect_well().context("absent kinds are no problem")?;

    cluster.install_calico()?;
    // The agent looks for kinds that were absent once a minute; a start finds them at once.
    cluster.lab.agents[0].stop(Stop::Ask)?;
    cluster.lab.agents[0].start()?;
    ensure!(established(&cluster.lab)? == 0, "a session without a BGPPeer");
    cluster.apply_where(is_calico)?;
    let up = cluster.lab.router_daemon()?.wait_established(Duration::from_secs(20))?;
    println!(
        "              two BGPPeers are made: {} until both sessions stand",
        format_duration(up)
    );
    expect_soon(&mut cluster.lab, &[("client", "a", "80/TCP", Outcome::Reached)])?;
    cluster.expect_well()?;
    let peers = cluster.lab.spec.objects.iter().filter(|object| object.kind() == "BGPPeer");
    peers.cloned().collect::<Vec<_>>().iter().try_for_each(|peer| cluster.api.delete(peer))?;
    let down = until(Duration::from_secs(10), "no BGP session is left", || {
        Ok(established(&cluster.lab)? == 0)
    })?;
    println!("              and deleted: {} until both are gone", format_duration(down));
    cluster.expect_well()
}

fn established(lab: &Lab) -> Result<usize> {
    Ok(lab.router_daemon()?.sessions()?.iter().filter(|session| session.established).count())
}

fn outage(bench: &Bench) -> Result<()> {
    let mut cluster = Cluster::started(bench, rack(2, Numbering::PerRack))?;
    for (name, node) in [("web", "node1"), ("a", "node2"), ("b", "node2")] {
        cluster.attach(pod(name, node))?;
    }
    let policy = ingress("web", &from_pods(&json!({ "app": "a" })));
    cluster.api.apply(&policy)?;
    let guarded =
        [("a", "web", "80/TCP", Outcome::Reached), ("b", "web", "80/TCP", Outcome::Dropped)];
    cluster.expect_after("a policy is made", &guarded)?;
    server_restarts(&mut cluster, &policy, &guarded)?;
    change_behind_a_partition(&mut cluster, &policy)
}

type Line = (&'static str, &'static str, &'static str, Outcome);

/// The API server dies and comes back while packets flow.
fn server_restarts(cluster: &mut Cluster, policy: &Object, guarded: &[Line]) -> Result<()> {
    let allowed = stream(&cluster.lab, "a", "web")?;
    let forbidden = stream(&cluster.lab, "b", "web")?;
    // Its object is known, its sandbox comes during the outage.
    let late = cluster.api.apply(&schedulable(pod("late", "node2")))?;
    thread::sleep(Duration::from_millis(500));
    cluster.api.kill()?;
    expect(&mut cluster.lab, guarded)?;
    let sandbox = cluster.sandbox(&late)?;
    let addresses = sandbox.add(&cluster.lab.agents[1]).context("ADD without an API server")?;
    let server = Some(Server::start(&sandbox.netns, &addresses, &PORTS)?);
    cluster.lab.pods.push(Pod { sandbox, node: 1, object: late, addresses, server });
    expect_soon(
        &mut cluster.lab,
        &[("late", "web", "80/TCP", Outcome::Dropped), ("late", "a", "80/TCP", Outcome::Reached)],
    )?;
    thread::sleep(Duration::from_secs(3));
    let took = cluster.api.launch()?;
    println!("              the API server is back after {}", format_duration(took));
    let forbidden = forbidden.finish()?;
    ensure!(forbidden.answered == 0, "open during the outage: {forbidden:?}");
    cluster.api.delete(policy)?;
    cluster.expect_after(
        "a policy is deleted right after",
        &[("b", "web", "80/TCP", Outcome::Reached)],
    )?;
    let allowed = allowed.finish()?;
    ensure!(allowed.lost() == 0, "allowed, and {} lost: {allowed:?}", allowed.lost());
    cluster.expect_well()
}

/// A node is cut off without a word while the API server is replaced: what changed meanwhile it learns from a new list.
fn change_behind_a_partition(cluster: &mut Cluster, policy: &Object) -> Result<()> {
    cluster.api.apply(policy)?;
    cluster.expect_after("the policy is made anew", &[("b", "web", "80/TCP", Outcome::Dropped)])?;
    let node = cluster.lab.spec.nodes[0].ipv4;
    cluster.api.partition(node)?;
    cluster.api.kill()?;
    cluster.api.launch()?;
    cluster.api.delete(policy)?;
    thread::sleep(Duration::from_secs(1));
    expect(&mut cluster.lab, &[("b", "web", "80/TCP", Outcome::Dropped)])?;
    cluster.api.heal(node)?;
    let limit = Duration::from_secs(120);
    let took = until(limit, "what was deleted behind the partition is noticed", || {
        Ok(expect(&mut cluster.lab, &[("b", "web", "80/TCP", Outcome::Reached)]).is_ok())
    })
    .with_context(|| cluster.lab.agents[0].log_tail())?;
    println!(
        "              a policy was deleted behind a partition: {} until all flows show it",
        format_duration(took)
    );
    cluster.expect_well()
}

fn stream(lab: &Lab, from: &str, to: &str) -> Result<Stream> {
    let (End::Pod(from), End::Pod(to)) = (lab.end(from)?, lab.end(to)?) else {
        unreachable!("both names are pods'")
    };
    let target = SocketAddr::new(lab.pods[to].addresses[0], 7);
    Stream::start(&lab.pods[from].sandbox.netns, target, 500)
}
