//! A lab: machines, router, agents and pods, brought up from a description.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::Child;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::agent::Agent;
use crate::binaries::Binaries;
use crate::fib;
use crate::matrix::Service;
use crate::netns::{self, Netns};
use crate::object::{Datastore, Object};
use crate::probe::{Attempt, Flow, LONG, Outcome, Protocol, SHORT, Server, send};
use crate::router::gobgp::GoBgp;
use crate::router::{Config, Daemon as _, Neighbor};
use crate::run::Run;
use crate::runtime::Sandbox;
use crate::spec::Spec;
use crate::underlay::{Underlay, connected_networks};

/// A lab that stands. The run's supervisor removes it.
#[derive(Debug)]
pub(crate) struct Lab {
    pub(crate) run: Run,
    pub(crate) spec: Spec,
    pub(crate) store: Datastore,
    pub(crate) router: Netns,
    pub(crate) client: Netns,
    /// In the order of the description.
    pub(crate) agents: Vec<Agent>,
    pub(crate) gobgp: Option<GoBgp>,
    mirror: Option<Child>,
    pub(crate) pods: Vec<Pod>,
}

/// An attached pod.
#[derive(Debug)]
pub(crate) struct Pod {
    pub(crate) sandbox: Sandbox,
    /// The index of its node.
    pub(crate) node: usize,
    pub(crate) object: Object,
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) server: Option<Server>,
}

impl Pod {
    /// `namespace/name`.
    pub(crate) fn full_name(&self) -> String {
        format!("{}/{}", self.sandbox.namespace, self.sandbox.pod)
    }
}

impl Lab {
    /// Makes machines, links and datastore. No router daemon, agent or pod runs yet; pods of the
    /// description are left out until they are attached.
    pub(crate) fn create(run: &Run, spec: Spec, binaries: &Binaries) -> Result<Self> {
        let directory = run.directory();
        let store = Datastore::create(directory.join("datastore"))?;
        let underlay = Underlay::create(run, &spec)?;
        let mut agents = Vec::new();
        for (node, netns) in spec.nodes.iter().zip(underlay.nodes) {
            let place = directory.join(&node.name);
            agents.push(Agent::new(&node.name, netns, binaries.clone(), store.path(), place)?);
        }
        for object in spec.objects.iter().filter(|object| object.kind() != "Pod") {
            store.put(object)?;
        }
        let Underlay { router, client, .. } = underlay;
        let run = run.clone();
        let (gobgp, mirror, pods) = (None, None, Vec::new());
        Ok(Self { run, spec, store, router, client, agents, gobgp, mirror, pods })
    }

    /// The router's configuration: a session per node and family.
    pub(crate) fn router_config(&self) -> Config {
        let mut neighbors = Vec::new();
        for node in &self.spec.nodes {
            neighbors.push(Neighbor::new(
                node.gateway_ipv4().into(),
                node.ipv4.into(),
                node.as_number,
            ));
            neighbors.push(Neighbor::new(
                node.gateway_ipv6().into(),
                node.ipv6.into(),
                node.as_number,
            ));
        }
        let router_id = std::net::Ipv4Addr::new(10, 0, 0, 1);
        Config::new(self.spec.router.as_number, router_id, neighbors)
    }

    /// Starts GoBGP on the router, has it announce the router's own networks, and follows it with
    /// the router's forwarding table.
    pub(crate) fn start_router(&mut self, config: &Config) -> Result<()> {
        let directory = self.run.directory().join("tor");
        let gobgp = GoBgp::start(&self.router, &directory, config)?;
        self.gobgp = Some(gobgp);
        self.announce_connected()?;
        self.follow_router()
    }

    /// Has the router's kernel follow a GoBGP there, which need not run yet.
    pub(crate) fn follow_router(&mut self) -> Result<()> {
        self.mirror = Some(fib::spawn(&self.router, &self.run.directory().join("mirror.log"))?);
        Ok(())
    }

    /// Announces the router's own networks; again after a restart, as GoBGP keeps nothing.
    pub(crate) fn announce_connected(&self) -> Result<()> {
        for network in connected_networks(&self.spec) {
            self.router_daemon()?.add(&network, None)?;
        }
        Ok(())
    }

    pub(crate) fn router_daemon(&self) -> Result<&GoBgp> {
        self.gobgp.as_ref().context("the router runs no GoBGP")
    }

    pub(crate) fn router_daemon_mut(&mut self) -> Result<&mut GoBgp> {
        self.gobgp.as_mut().context("the router runs no GoBGP")
    }

    /// Starts all agents at once and waits for each.
    pub(crate) fn start_agents(&mut self) -> Result<()> {
        for agent in &mut self.agents {
            agent.launch()?;
        }
        self.agents.iter_mut().try_for_each(|agent| agent.wait_ready().map(drop))
    }

    /// Router, agents and sessions: what most tests begin with.
    pub(crate) fn start(&mut self) -> Result<()> {
        let config = self.router_config();
        self.start_router(&config)?;
        self.start_agents()?;
        self.router_daemon()?.wait_established(Duration::from_secs(20)).map(drop)
    }

    /// The index of a node by its name.
    pub(crate) fn node(&self, name: &str) -> Result<usize> {
        let found = self.spec.nodes.iter().position(|node| node.name == name);
        found.with_context(|| format!("no node {name}"))
    }

    /// Makes the sandbox of a pod object.
    pub(crate) fn sandbox(&self, object: &Object) -> Result<Sandbox> {
        let (namespace, name) = (object.namespace(), object.name());
        let netns = self.run.netns(&format!("pod-{namespace}-{name}"));
        Sandbox::create(&netns, namespace, name)
    }

    /// Attaches a pod as kubelet and runtime would: the object first, then ADD, then the addresses in
    /// the object's status.
    pub(crate) fn attach(&mut self, object: Object) -> Result<&mut Pod> {
        let node = self.node(object.text("/spec/nodeName"))?;
        let sandbox = self.sandbox(&object)?;
        let object = without_status(object);
        self.store.put(&object)?;
        let addresses = sandbox.add(&self.agents[node]).with_context(|| {
            format!(
                "pod {} on {}; {}",
                sandbox.pod,
                self.spec.nodes[node].name,
                self.agents[node].log_tail()
            )
        })?;
        let object = with_addresses(object, &addresses);
        self.store.put(&object)?;
        self.pods.push(Pod { sandbox, node, object, addresses, server: None });
        Ok(self.pods.last_mut().expect("just pushed"))
    }

    /// Lets every pod listen on these ports.
    pub(crate) fn serve(&mut self, ports: &[(Protocol, u16)]) -> Result<()> {
        for pod in &mut self.pods {
            // The old one, if any, has to free its ports first.
            pod.server = None;
            pod.server = Some(Server::start(&pod.sandbox.netns, &pod.addresses, ports)?);
        }
        Ok(())
    }

    /// Detaches a pod: DEL, then the object goes, then the namespace.
    pub(crate) fn detach(&mut self, index: usize) -> Result<()> {
        let pod = self.pods.remove(index);
        pod.sandbox.del(&self.agents[pod.node])?;
        self.store.remove(&pod.object)?;
        netns::remove(pod.sandbox.netns.name())
    }

    /// The index of a pod by `namespace/name`.
    pub(crate) fn pod(&self, full_name: &str) -> Result<usize> {
        let found = self.pods.iter().position(|pod| pod.full_name() == full_name);
        found.with_context(|| format!("no pod {full_name}"))
    }

    /// Whom a name means: `client`, a node, or a pod's `namespace/name`; bare pod names are those of
    /// the namespace `default`.
    pub(crate) fn end(&self, name: &str) -> Result<End> {
        if name == "client" {
            return Ok(End::Client);
        }
        if let Ok(node) = self.node(name) {
            return Ok(End::Node(node));
        }
        let full = if name.contains('/') { name.to_owned() } else { format!("default/{name}") };
        self.pod(&full).map(End::Pod)
    }

    /// The addresses of a machine.
    pub(crate) fn addresses(&self, end: End) -> Vec<IpAddr> {
        match end {
            End::Pod(index) => self.pods[index].addresses.clone(),
            End::Node(index) => {
                let node = &self.spec.nodes[index];
                vec![node.ipv4.into(), node.ipv6.into()]
            }
            End::Client => {
                let client = &self.spec.client;
                vec![client.ipv4.addr().into(), client.ipv6.addr().into()]
            }
        }
    }

    /// The flows from one machine to each address of another, as patient as the outcome needs.
    pub(crate) fn flows(
        &self,
        from: &str,
        to: &str,
        service: Service,
        wanted: Outcome,
    ) -> Result<Vec<PodFlow>> {
        let (from, to) = (self.end(from)?, self.end(to)?);
        let patience = if wanted == Outcome::Reached { LONG } else { SHORT };
        let flow = |address| {
            let to = SocketAddr::new(address, service.port);
            PodFlow { from, flow: Flow { to, protocol: service.protocol }, patience }
        };
        Ok(self.addresses(to).into_iter().map(flow).collect())
    }

    /// Probes several flows between pods at once.
    pub(crate) fn probe(&mut self, flows: &[PodFlow]) -> Result<Vec<Outcome>> {
        let mut namespaces = Vec::new();
        let mut servers = Vec::new();
        for Pod { sandbox, server, .. } in &mut self.pods {
            namespaces.push(&sandbox.netns);
            servers.extend(server);
        }
        let mut attempts = Vec::new();
        for flow in flows {
            let from = match flow.from {
                End::Pod(index) => namespaces[index],
                End::Client => &self.client,
                End::Node(index) => self.agents[index].netns(),
            };
            attempts.push(Attempt { from, flow: flow.flow, patience: flow.patience });
        }
        send(&attempts, &mut servers)
    }

    /// Changes an object, named as `BGPPeer/tor`, as `kubectl edit` would.
    pub(crate) fn edit(&mut self, which: &str, change: impl FnOnce(&mut Value)) -> Result<()> {
        let is_it =
            |object: &&mut Object| which.split_once('/') == Some((object.kind(), object.name()));
        let object = self.spec.objects.iter_mut().find(is_it);
        let object = object.with_context(|| format!("no {which}"))?;
        change(&mut object.0);
        self.store.put(object)
    }

    /// Gives an object an annotation `bgp.ocicat.io/...`, or takes it away.
    pub(crate) fn annotate(
        &mut self,
        which: &str,
        annotation: &str,
        value: Option<&str>,
    ) -> Result<()> {
        let annotation = format!("bgp.ocicat.io/{annotation}");
        self.edit(which, |object| match value {
            Some(value) => object["metadata"]["annotations"][annotation] = json!(value),
            None => {
                let all = object.pointer_mut("/metadata/annotations");
                all.and_then(Value::as_object_mut).map(|all| all.remove(&annotation));
            }
        })
    }

    /// The networks in which the node's pods live.
    pub(crate) fn pod_cidrs(&self) -> Vec<String> {
        self.spec.nodes.iter().flat_map(|node| node.pod_cidrs.clone()).collect()
    }

    /// Where logs and state are.
    pub(crate) fn directory(&self) -> PathBuf {
        self.run.directory()
    }

    /// Lets everything run on after this program's end.
    pub(crate) fn keep(mut self) -> Result<()> {
        self.run.keep()?;
        self.agents.iter_mut().for_each(Agent::leave_running);
        std::mem::forget(self.gobgp.take());
        Ok(())
    }
}

/// Where a flow starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Pod(usize),
    Node(usize),
    Client,
}

/// A flow between machines of the lab.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PodFlow {
    pub(crate) from: End,
    pub(crate) flow: Flow,
    pub(crate) patience: Duration,
}

fn without_status(mut object: Object) -> Object {
    if let Some(fields) = object.0.as_object_mut() {
        fields.remove("status");
    }
    object
}

pub(crate) fn with_addresses(mut object: Object, addresses: &[IpAddr]) -> Object {
    let all: Vec<Value> = addresses.iter().map(|address| json!({ "ip": address })).collect();
    object.0["status"] = json!({ "phase": "Running", "podIP": addresses.first(), "podIPs": all });
    object
}
