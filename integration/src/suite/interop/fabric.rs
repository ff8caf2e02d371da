//! Two spines, and nodes that peer with both by eBGP: equal-cost paths, and what the loss of a spine
//! costs.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use super::super::{Bench, Test, expect_soon, pod};
use super::ESTABLISHED;
use crate::lab::Lab;
use crate::netns::Netns;
use crate::object::Object;
use crate::probe::{LONG, Outcome, Protocol, Stream};
use crate::progress::format_duration;
use crate::router::{Config, Daemon, Neighbor, Program, Restart};
use crate::spec::{NodeSpec, Numbering, rack};
use crate::underlay::connect_port;
use crate::wait::until;

pub(super) const TESTS: &[Test] = &[Test::new(
    "interop: BIRD, two spines: both next hops are used, and one that fails is left",
    two_spines,
)
.limit(150)];

const SPINE_AS: u32 = 64_500;

/// Which spine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spine {
    First,
    Second,
}

const SPINES: [Spine; 2] = [Spine::First, Spine::Second];

/// The lab's router is the first spine; a second one stands beside it.
#[derive(Debug)]
struct Fabric {
    lab: Lab,
    second: Netns,
    daemons: [Box<dyn Daemon>; 2],
}

/// An address on a spine's links: 10.0.N and fd00:10:N on the first, 10.1.N and fd00:11:N on the
/// second.
fn on(spine: Spine, node: &NodeSpec, host: &str) -> [String; 2] {
    let [_, _, rack, _] = node.ipv4.octets();
    match spine {
        Spine::First => [format!("10.0.{rack}.{host}"), format!("fd00:10:{rack}::{host}")],
        Spine::Second => [format!("10.1.{rack}.{host}"), format!("fd00:11:{rack}::{host}")],
    }
}

impl Fabric {
    fn create(bench: &Bench) -> Result<Self> {
        let mut spec = rack(2, Numbering::PerRack);
        for node in &spec.nodes {
            for address in on(Spine::Second, node, "1") {
                let family = if address.contains(':') { "v6" } else { "v4" };
                spec.objects.push(Object(json!({
                    "apiVersion": "projectcalico.org/v3",
                    "kind": "BGPPeer",
                    "metadata": { "name": format!("spine2-{}-{family}", node.name) },
                    "spec": {
                        "peerIP": address,
                        "asNumber": SPINE_AS,
                        "node": node.name,
                        // The node's own address is on the link to the other spine.
                        "sourceAddress": "None",
                    },
                })));
            }
        }
        let lab = bench.bare(spec)?;
        let second = Netns::create(&bench.run.netns("spine2"))?;
        for key in ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"] {
            second.sysctl(key, "1")?;
        }
        for spine in [&lab.router, &second] {
            // A port that was switched off has its addresses back when it is on.
            spine.sysctl("net.ipv6.conf.all.keep_addr_on_down", "1")?;
        }
        // Each flow goes its own way, not each pair of machines.
        for netns in lab.agents.iter().map(crate::agent::Agent::netns) {
            netns.sysctl("net.ipv4.fib_multipath_hash_policy", "1")?;
            netns.sysctl("net.ipv6.fib_multipath_hash_policy", "1")?;
        }
        for (node, agent) in lab.spec.nodes.iter().zip(&lab.agents) {
            connect_port(&second, &node.name, agent.netns(), "eth1")?;
            let [[far4, far6], [near4, near6]] =
                ["10", "1"].map(|host| on(Spine::Second, node, host));
            agent
                .netns()
                .ip(&format!("addr add {far4}/24 dev eth1\naddr add {far6}/64 dev eth1 nodad\n"))?;
            second.ip(&format!(
                "addr add {near4}/24 dev {name}\naddr add {near6}/64 dev {name} nodad\n",
                name = node.name
            ))?;
        }
        let daemons = [
            Self::daemon(&lab, &lab.router, Spine::First)?,
            Self::daemon(&lab, &second, Spine::Second)?,
        ];
        Ok(Self { lab, second, daemons })
    }

    fn daemon(lab: &Lab, netns: &Netns, spine: Spine) -> Result<Box<dyn Daemon>> {
        let mut neighbors = Vec::new();
        for node in &lab.spec.nodes {
            for (local, address) in on(spine, node, "1").into_iter().zip(on(spine, node, "10")) {
                let neighbor = Neighbor::new(local.parse()?, address.parse()?, node.as_number);
                neighbors.push(Neighbor { hold_time: 3, ..neighbor });
            }
        }
        let router_id = on(spine, &lab.spec.nodes[0], "1")[0].parse()?;
        let config = Config::new(SPINE_AS, router_id, neighbors);
        Program::Bird.start(netns, &lab.directory().join(format!("{spine:?}")), &config)
    }

    fn netns(&self, spine: Spine) -> &Netns {
        match spine {
            Spine::First => &self.lab.router,
            Spine::Second => &self.second,
        }
    }

    /// Whether each node's ways to the other's pods go over exactly these spines.
    fn goes_over(&self, spines: &[Spine]) -> Result<bool> {
        for (index, other) in [(0, 1), (1, 0)] {
            let node = &self.lab.spec.nodes[index];
            for (family, cidr) in self.lab.spec.nodes[other].pod_cidrs.iter().enumerate() {
                let flag = ["-4", "-6"][family];
                let netns = self.lab.agents[index].netns();
                let shown = netns.run("ip", &[flag, "route", "show", cidr])?;
                for spine in SPINES {
                    let hop = format!("via {} ", on(spine, node, "1")[family]);
                    if shown.contains(&hop) != spines.contains(&spine) {
                        return Ok(false);
                    }
                }
            }
        }
        Ok(true)
    }

    fn wait_over(&self, spines: &[Spine], limit: Duration) -> Result<Duration> {
        until(limit, &format!("the ways go over {spines:?}"), || self.goes_over(spines))
            .with_context(|| self.lab.agents[0].log_tail())
    }

    /// Whether a spine has all pods' networks in its own kernel: it may tell of them before.
    fn wait_forwarding(&self, spine: Spine) -> Result<()> {
        let cidrs = self.lab.spec.nodes.iter().flat_map(|node| &node.pod_cidrs);
        for cidr in cidrs {
            let flag = if cidr.contains(':') { "-6" } else { "-4" };
            until(ESTABLISHED, &format!("{spine:?} forwards to {cidr}"), || {
                let shown = self.netns(spine).run("ip", &[flag, "route", "show", cidr])?;
                Ok(shown.contains("via") && !shown.contains("linkdown"))
            })?;
        }
        Ok(())
    }

    /// Steady flows between the pods, in both families and both directions: enough that some go over
    /// each spine.
    fn streams(&self) -> Result<Vec<Stream>> {
        let mut streams = Vec::new();
        for (from, to) in [(0, 1), (1, 0)] {
            for address in &self.lab.pods[to].addresses {
                let netns = &self.lab.pods[from].sandbox.netns;
                for _ in 0..4 {
                    streams.push(Stream::start(netns, (*address, 7).into(), 200)?);
                }
            }
        }
        Ok(streams)
    }
}

/// Ends flows; gives the losses of all, and the longest silence of one.
fn losses(what: &str, streams: Vec<Stream>) -> Result<(u32, Duration)> {
    let reports = Stream::finish_all(streams)?;
    let lost: u32 = reports.iter().map(crate::probe::StreamReport::lost).sum();
    let sent: u32 = reports.iter().map(|report| report.sent).sum();
    let silence = reports.iter().map(|report| report.longest_silence).max().unwrap_or_default();
    println!("     {what}: {lost} of {sent} lost, longest silence {}", format_duration(silence));
    Ok((lost, silence))
}

/// All that comes to a spine, or passes it, is lost: as when its power goes.
const DARK: &str = "table inet dark { \
    chain in { type filter hook prerouting priority -400; drop; }; \
    chain out { type filter hook output priority -400; drop; }; }";

fn two_spines(bench: &Bench) -> Result<()> {
    let mut fabric = Fabric::create(bench)?;
    fabric.lab.start_agents()?;
    for daemon in &fabric.daemons {
        daemon.wait_established(ESTABLISHED).with_context(|| fabric.lab.agents[0].log_tail())?;
    }
    fabric.wait_over(&SPINES, LONG)?;
    next_hops(&fabric)?;
    for (name, node) in [("a", "node1"), ("b", "node2")] {
        fabric.lab.attach(pod(name, node))?;
    }
    fabric.lab.serve(&[(Protocol::Udp, 7)])?;
    expect_soon(&mut fabric.lab, &[("a", "b", "7/UDP", Outcome::Reached)])?;

    // Each in turn: a flow keeps to one of them.
    for spine in SPINES {
        let other = if spine == Spine::First { Spine::Second } else { Spine::First };
        let streams = fabric.streams()?;
        let index = usize::from(spine == Spine::Second);
        fabric.daemons[index].kill()?;
        fabric.wait_over(&[other], LONG)?;
        fabric.daemons[index].restart(Restart::Cold)?;
        fabric.wait_over(&SPINES, ESTABLISHED)?;
        let (_, silence) = losses(&format!("BIRD of {spine:?} killed"), streams)?;
        ensure!(silence < Duration::from_secs(2), "silence of {silence:?}");
    }
    for spine in SPINES {
        let other = if spine == Spine::First { Spine::Second } else { Spine::First };
        let streams = fabric.streams()?;
        fabric.netns(spine).run("nft", &[DARK])?;
        // The hold time is 3 s.
        let left = fabric.wait_over(&[other], Duration::from_secs(8));
        std::thread::sleep(Duration::from_secs(1));
        let (lost, silence) = losses(&format!("power of {spine:?} lost"), streams)?;
        fabric.netns(spine).run("nft", &["delete table inet dark"])?;
        left?;
        ensure!(lost != 0, "no flow went over it: nothing was tried");
        ensure!(silence < Duration::from_secs(6), "silence of {silence:?}");
        fabric.wait_over(&SPINES, ESTABLISHED)?;
    }
    for spine in SPINES {
        cables_pulled(&fabric, spine)?;
    }
    Ok(())
}

/// The nodes' links to a spine lose their carrier. Nobody has to time anything out for that: there is
/// no way to the spine's next hops.
fn cables_pulled(fabric: &Fabric, spine: Spine) -> Result<()> {
    let other = if spine == Spine::First { Spine::Second } else { Spine::First };
    let ports = |state: &str| {
        let nodes = fabric.lab.spec.nodes.iter();
        let lines: String = nodes.map(|node| format!("link set {} {state}\n", node.name)).collect();
        fabric.netns(spine).ip(&lines)
    };
    fabric.wait_forwarding(other)?;
    let streams = fabric.streams()?;
    ports("down")?;
    let left = fabric.wait_over(&[other], LONG);
    std::thread::sleep(Duration::from_millis(500));
    let (lost, silence) = losses(&format!("cables of {spine:?} pulled"), streams)?;
    ports("up")?;
    left?;
    ensure!(lost != 0, "no flow went over it: nothing was tried");
    // Long before the hold time of 3 s; what it takes is printed.
    ensure!(silence < Duration::from_secs(1), "silence of {silence:?}");
    fabric.wait_over(&SPINES, ESTABLISHED).map(drop)
}

/// Each spine hears of a node by the address that the node has on its link.
fn next_hops(fabric: &Fabric) -> Result<()> {
    for (spine, daemon) in SPINES.into_iter().zip(&fabric.daemons) {
        let table = daemon.learned()?;
        for node in &fabric.lab.spec.nodes {
            for (cidr, wanted) in node.pod_cidrs.iter().zip(on(spine, node, "10")) {
                let paths = table.get(&cidr.parse()?).with_context(|| format!("no {cidr}"))?;
                let direct = paths.iter().find(|path| path.as_path == [node.as_number]);
                let next_hop = direct.context("no direct path")?.next_hop;
                ensure!(next_hop.to_string() == wanted, "{cidr} at {spine:?}: {next_hop}");
            }
        }
    }
    Ok(())
}
