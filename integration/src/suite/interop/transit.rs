//! A node between two routers: what one of them tells comes to the other by way of the agent.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use anyhow::{Context as _, Result};
use ipnet::IpNet;
use serde_json::{Value, json};

use super::super::Bench;
use super::ESTABLISHED;
use crate::lab::Lab;
use crate::netns::Netns;
use crate::object::Object;
use crate::probe::LONG;
use crate::router::{Config, Daemon, Neighbor, Program, Route};
use crate::spec::{Numbering, Spec, rack};
use crate::underlay::connect_port;
use crate::wait::until;

/// The lab's router, unless a test has changed it.
pub(super) const NEAR_AS: u32 = 64_500;
pub(super) const FAR_AS: u32 = 64_501;

/// The node's peers on the lab's router, which all nodes share, and on its own second link.
pub(super) const NEAR: [&str; 2] = ["tor-r1", "tor-r1-v6"];
pub(super) const FAR: [&str; 2] = ["far", "far-v6"];

/// A router's end of the node's link, and the node's own; in both families.
type Link = [(IpAddr, IpAddr); 2];

/// `node1` has the lab's router at one side and `far` at the other, which is told all that it knows.
#[derive(Debug)]
pub(super) struct Transit {
    pub(super) lab: Lab,
    pub(super) far: Netns,
}

impl Transit {
    /// Machines, links and objects of so many nodes, of which the first is the one between.
    pub(super) fn create(
        bench: &Bench,
        nodes: u8,
        prepare: impl FnOnce(&mut Spec),
    ) -> Result<Self> {
        let mut spec = rack(nodes, Numbering::PerRack);
        spec.objects.push(Object(json!({
            "apiVersion": "projectcalico.org/v3",
            "kind": "BGPFilter",
            "metadata": { "name": "everything" },
            "spec": { "exportV4": [{ "action": "Accept" }], "exportV6": [{ "action": "Accept" }] },
        })));
        for (name, (address, _)) in FAR.iter().zip(far_link()) {
            spec.objects.push(Object(json!({
                "apiVersion": "projectcalico.org/v3",
                "kind": "BGPPeer",
                "metadata": { "name": name },
                "spec": {
                    "peerIP": address,
                    "asNumber": FAR_AS,
                    "node": "node1",
                    // The node's own address is on the link to the other router.
                    "sourceAddress": "None",
                    "filters": ["everything"],
                },
            })));
        }
        annotate(&mut spec, &NEAR, "connect-retry", "1s");
        annotate(&mut spec, &FAR, "connect-retry", "1s");
        prepare(&mut spec);
        let lab = bench.bare(spec)?;
        let far = Netns::create(&bench.run.netns("far"))?;
        let node = lab.agents[0].netns();
        connect_port(&far, "node1", node, "eth1")?;
        for (router, own) in far_link() {
            let length = if own.is_ipv4() { 24 } else { 64 };
            let nodad = if own.is_ipv4() { "" } else { "nodad" };
            node.ip(&format!("addr add {own}/{length} dev eth1 {nodad}\n"))?;
            far.ip(&format!("addr add {router}/{length} dev node1 {nodad}\n"))?;
        }
        Ok(Self { lab, far })
    }

    /// Starts a program on the lab's router, which talks to all nodes; `terms` are those with the
    /// node between.
    pub(super) fn near(
        &self,
        program: Program,
        terms: impl Fn(&mut Neighbor),
    ) -> Result<Box<dyn Daemon>> {
        self.near_as(program, |config| config.neighbors.iter_mut().take(2).for_each(terms))
    }

    /// The same by a configuration that is changed as a whole.
    pub(super) fn near_as(
        &self,
        program: Program,
        change: impl FnOnce(&mut Config),
    ) -> Result<Box<dyn Daemon>> {
        let mut config = self.lab.router_config();
        change(&mut config);
        program.start(&self.lab.router, &self.place(program, "near"), &config)
    }

    /// Starts a program on the other router.
    pub(super) fn far(
        &self,
        program: Program,
        as_number: u32,
        terms: impl Fn(&mut Neighbor),
    ) -> Result<Box<dyn Daemon>> {
        self.far_as(program, |config| {
            config.as_number = as_number;
            config.neighbors.iter_mut().for_each(terms);
        })
    }

    /// The same by a configuration that is changed as a whole.
    pub(super) fn far_as(
        &self,
        program: Program,
        change: impl FnOnce(&mut Config),
    ) -> Result<Box<dyn Daemon>> {
        let node_as = self.lab.spec.nodes[0].as_number;
        let neighbors = far_link().map(|(local, node)| Neighbor::new(local, node, node_as));
        let router_id = Ipv4Addr::new(10, 1, 1, 1);
        let neighbors = neighbors.to_vec();
        let mut config = Config::new(FAR_AS, router_id, neighbors);
        change(&mut config);
        program.start(&self.far, &self.place(program, "far"), &config)
    }

    fn place(&self, program: Program, side: &str) -> std::path::PathBuf {
        self.lab.directory().join(format!("{side}-{program}"))
    }

    /// Waits until all sessions of the routers are up.
    pub(super) fn wait_up(&self, routers: &[&dyn Daemon]) -> Result<()> {
        for router in routers {
            router.wait_established(ESTABLISHED).with_context(|| self.log())?;
        }
        Ok(())
    }

    /// Gives a peer an annotation `bgp.ocicat.io/...`.
    pub(super) fn annotate(&mut self, peer: &str, annotation: &str, value: &str) -> Result<()> {
        self.lab.annotate(&format!("BGPPeer/{peer}"), annotation, Some(value))
    }

    /// Changes the object of this name, whatever its kind is.
    pub(super) fn edit(&mut self, name: &str, change: impl FnOnce(&mut Value)) -> Result<()> {
        let mut all = self.lab.spec.objects.iter();
        let object = all.find(|object| object.name() == name);
        let kind = object.with_context(|| format!("no object {name}"))?.kind().to_owned();
        self.lab.edit(&format!("{kind}/{name}"), change)
    }

    /// What `ocicat bgp route` says of the paths for a prefix, the best first; none if it has none.
    pub(super) fn paths(&self, prefix: &str) -> Result<Vec<Value>> {
        let rows = self.lab.agents[0].ask(&["bgp", "routes", prefix, "-o", "json"]);
        let Ok(_) = rows else { return Ok(Vec::new()) };
        let view: Value = self.lab.agents[0].json(&["bgp", "route", prefix])?;
        Ok(view["paths"].as_array().cloned().unwrap_or_default())
    }

    /// What `ocicat bgp peer` says.
    pub(super) fn peer(&self, name: &str) -> Result<Value> {
        self.lab.agents[0].json(&["bgp", "peer", name])
    }

    /// Waits until `ocicat bgp peer` says it.
    pub(super) fn wait_peer(
        &self,
        name: &str,
        goal: &str,
        is_so: impl Fn(&Value) -> bool,
    ) -> Result<Duration> {
        until(ESTABLISHED, &format!("{name}: {goal}"), || Ok(is_so(&self.peer(name)?)))
            .with_context(|| format!("{:#?}\n{}", self.peer(name), self.log()))
    }

    pub(super) fn log(&self) -> String {
        self.lab.agents[0].log_tail()
    }
}

/// Waits until the router's only path for a prefix is as wanted.
pub(super) fn wait_route(
    transit: &Transit,
    router: &dyn Daemon,
    prefix: &str,
    wanted: impl Fn(&Route) -> bool,
) -> Result<()> {
    let net: IpNet = prefix.parse()?;
    let mut seen = Vec::new();
    until(LONG, &format!("the router's path for {prefix} is as wanted"), || {
        seen = router.learned()?.remove(&net).unwrap_or_default();
        Ok(seen.len() == 1 && wanted(&seen[0]))
    })
    .with_context(|| format!("{seen:?}\n{}", transit.log()))
    .map(drop)
}

/// Gives the objects of these names an annotation `bgp.ocicat.io/...`.
pub(super) fn annotate(spec: &mut Spec, names: &[&str], annotation: &str, value: &str) {
    for object in spec.objects.iter_mut().filter(|object| names.contains(&object.name())) {
        let annotation = format!("bgp.ocicat.io/{annotation}");
        object.0["metadata"]["annotations"][annotation] = json!(value);
    }
}

fn far_link() -> Link {
    let address = |text: &str| text.parse().expect("an address");
    [
        (address("10.1.1.1"), address("10.1.1.10")),
        (address("fd00:11:1::1"), address("fd00:11:1::10")),
    ]
}
