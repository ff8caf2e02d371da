//! Nodes of a cluster behind a GoBGP, or in a mesh: pods reach each other by what BGP tells.

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use super::{Bench, CLIENT, ESTABLISHED, Test, expect, expect_soon, has_route, pod, wait_kernel};
use crate::probe::{LONG, Outcome, Protocol};
use crate::router::{Daemon as _, Presence};
use crate::spec::{Numbering, rack};
use crate::wait::until;

pub(super) const TESTS: &[Test] = &[
    Test::new(
        "interop: pod networks go to the router and its networks come back, in both families",
        both_ways,
    ),
    Test::new("interop: a mesh of nodes with one AS learns pod networks from each other", mesh)
        .limit(90),
    Test::new("interop: a router that announces the node's own link does not cut it off", own_link),
    Test::new(
        "interop: a route whose next hop is nowhere waits, and says so, until there is a way",
        unreachable_next_hop,
    ),
    Test::new(
        "interop: a route that holds its own next hop stands still by the way beneath it",
        own_next_hop,
    ),
    Test::new(
        "interop: removing a BGPPeer ends its session, adding it begins one",
        reconfiguration,
    ),
];

fn both_ways(bench: &Bench) -> Result<()> {
    let mut lab = bench.started(rack(2, Numbering::PerRack))?;
    let router = lab.router_daemon()?;
    for (index, node) in lab.spec.nodes.iter().enumerate() {
        for cidr in &node.pod_cidrs {
            router.wait_route(cidr, Presence::There, LONG)?;
        }
        for network in CLIENT {
            wait_kernel(&lab, index, network, Presence::There)?;
        }
    }
    for cidr in lab.spec.nodes[1].pod_cidrs.clone() {
        wait_kernel(&lab, 0, &cidr, Presence::There)?;
    }
    lab.attach(pod("a", "node1"))?;
    lab.attach(pod("b", "node2"))?;
    lab.serve(&[(Protocol::Tcp, 80), (Protocol::Udp, 53)])?;
    let reached = Outcome::Reached;
    expect_soon(&mut lab, &[("a", "b", "80/TCP", reached)])?;
    expect(
        &mut lab,
        &[
            ("b", "a", "53/UDP", reached),
            ("client", "a", "80/TCP", reached),
            ("client", "b", "53/UDP", reached),
            ("a", "client", "0/ICMP", reached),
            ("node1", "b", "80/TCP", reached),
        ],
    )
}

fn mesh(bench: &Bench) -> Result<()> {
    let mut lab = bench.started(rack(3, Numbering::Mesh))?;
    // Without them the nodes do not find each other: the router tells.
    let cidrs: Vec<(usize, String)> = lab
        .spec
        .nodes
        .iter()
        .enumerate()
        .flat_map(|(index, node)| node.pod_cidrs.iter().map(move |cidr| (index, cidr.clone())))
        .collect();
    for node in 0..3 {
        for (_, cidr) in cidrs.iter().filter(|(owner, _)| *owner != node) {
            until(ESTABLISHED, &format!("{cidr} is in the kernel of node {}", node + 1), || {
                has_route(&lab, node, cidr)
            })
            .with_context(|| lab.agents[node].log_tail())?;
        }
    }
    lab.attach(pod("a", "node1"))?;
    lab.attach(pod("b", "node3"))?;
    lab.serve(&[(Protocol::Tcp, 80)])?;
    expect_soon(&mut lab, &[("a", "b", "80/TCP", Outcome::Reached)]).map(drop)
}

fn reconfiguration(bench: &Bench) -> Result<()> {
    let lab = bench.started(rack(1, Numbering::PerRack))?;
    let router = lab.router_daemon()?;
    let cidr = &lab.spec.nodes[0].pod_cidrs[1];
    router.wait_route(cidr, Presence::There, LONG)?;
    let peer = lab
        .spec
        .objects
        .iter()
        .find(|object| object.name() == "tor-r1-v6")
        .context("no BGPPeer")?;
    lab.store.remove(peer)?;
    router.wait_route(cidr, Presence::Gone, LONG)?;
    lab.store.put(peer)?;
    router.wait_route(cidr, Presence::There, ESTABLISHED)?;
    // A changed AS number is a new session that cannot come up.
    let mut wrong = peer.clone();
    wrong.0["spec"]["asNumber"] = json!(64_999);
    lab.store.put(&wrong)?;
    router.wait_route(cidr, Presence::Gone, LONG)?;
    lab.store.put(peer)?;
    router.wait_route(cidr, Presence::There, ESTABLISHED).map(drop)
}

fn own_link(bench: &Bench) -> Result<()> {
    let lab = bench.started(rack(1, Numbering::PerRack))?;
    // The router announces all its links, this one among them, by a next hop that is on it.
    for network in CLIENT {
        wait_kernel(&lab, 0, network, Presence::There)?;
    }
    for (family, network) in ["-4", "-6"].into_iter().zip(lab.spec.nodes[0].networks()) {
        let routes = lab.agents[0].netns().run("ip", &[family, "route", "show", &network])?;
        ensure!(routes.contains("proto kernel"), "the link's own route is gone: {routes}");
        let gateway = network.replace("0/24", "1").replace("::/64", "::1");
        let way = lab.agents[0].netns().run("ip", &[family, "route", "get", &gateway])?;
        ensure!(way.contains("dev eth0") && !way.contains("via"), "the way to the router: {way}");
    }
    Ok(())
}

fn unreachable_next_hop(bench: &Bench) -> Result<()> {
    let lab = bench.started(rack(1, Numbering::PerRack))?;
    wait_kernel(&lab, 0, CLIENT[0], Presence::There)?;
    let (network, hop) = ("198.51.100.0/24", "203.0.113.9");
    lab.router_daemon()?.add(network, Some(hop.parse()?))?;
    let agent = &lab.agents[0];
    let why = || agent.ask(&["bgp", "route", network]);
    let waits = || Ok(why()?.contains("the kernel has no way to its next hop 203.0.113.9"));
    until(LONG, "the reason is told", waits)?;
    ensure!(!has_route(&lab, 0, network)?, "it is in the kernel");
    let gauge = || Ok(agent.metrics("ocicat_unreachable_next_hops")?.concat().ends_with(" 1"));
    until(LONG, "the metric counts it", gauge)?;
    // Somebody gives the node a way.
    agent.netns().ip(&format!("route add {hop}/32 via {}\n", lab.spec.nodes[0].gateway_ipv4()))?;
    wait_kernel(&lab, 0, network, Presence::There)?;
    agent.netns().ip(&format!("route del {hop}/32\n"))?;
    wait_kernel(&lab, 0, network, Presence::Gone)?;
    until(LONG, "the reason is told again", waits)?;
    // When nobody names it any more, it is forgotten.
    lab.router_daemon()?.remove(network)?;
    let gauge = || Ok(agent.metrics("ocicat_unreachable_next_hops")?.concat().ends_with(" 0"));
    until(4 * LONG, "the metric counts it no more", gauge)?;
    // And looked for as any other when somebody does again.
    lab.router_daemon()?.add(network, Some(hop.parse()?))?;
    until(LONG, "the reason is told once more", waits)?;
    agent.netns().ip(&format!("route add {hop}/32 via {}\n", lab.spec.nodes[0].gateway_ipv4()))?;
    wait_kernel(&lab, 0, network, Presence::There).map(drop)
}

fn own_next_hop(bench: &Bench) -> Result<()> {
    let lab = bench.started(rack(1, Numbering::PerRack))?;
    wait_kernel(&lab, 0, CLIENT[0], Presence::There)?;
    let (router, netns) = (lab.router_daemon()?, lab.agents[0].netns());
    // All that leads to these is what BGP tells: first nothing, then a default route.
    for (network, hop) in [("203.0.113.0/24", "203.0.113.1"), ("198.18.0.9/32", "198.18.0.9")] {
        router.add(network, Some(hop.parse()?))?;
    }
    let why = || lab.agents[0].ask(&["bgp", "route", "203.0.113.0/24"]);
    let waits = || Ok(why()?.contains("the kernel has no way to its next hop 203.0.113.1"));
    until(LONG, "the reason is told", waits)?;
    router.add("0.0.0.0/0", None)?;
    for network in ["0.0.0.0/0", "203.0.113.0/24", "198.18.0.9/32"] {
        wait_kernel(&lab, 0, network, Presence::There)?;
    }
    let watch = |seconds: u32| {
        netns.run("sh", &["-c", &format!("timeout {seconds} ip -4 monitor route; true")])
    };
    // What the last change has set off comes to its end.
    watch(1)?;
    let changes = watch(3)?;
    ensure!(changes.is_empty(), "routes change for ever: {} lines", changes.lines().count());
    // A foreign route makes the daemon ask again; the answer is the same.
    netns.ip("route add 198.51.100.0/24 dev lo\n")?;
    let changes = watch(2)?;
    ensure!(!changes.contains("203.0.113"), "{changes}");
    router.remove("0.0.0.0/0")?;
    for network in ["203.0.113.0/24", "198.18.0.9/32"] {
        wait_kernel(&lab, 0, network, Presence::Gone)?;
    }
    until(LONG, "the reason is told again", waits).map(drop)
}
