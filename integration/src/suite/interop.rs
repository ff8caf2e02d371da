//! The speaker against GoBGP, over real TCP.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use super::{Bench, Test, expect, expect_soon, pod};
use crate::agent::Stop;
use crate::gobgp::{Admin, Family, GoBgp, Neighbor, Presence, Restart};
use crate::lab::Lab;
use crate::probe::{LONG, Outcome, Protocol, Stream};
use crate::spec::{Numbering, rack};
use crate::wait::until;

pub(super) const TESTS: &[Test] = &[
    Test::new(
        "interop: pod networks go to the router and its networks come back, in both families",
        both_ways,
    ),
    Test::new("interop: one session carries both families", multiprotocol),
    Test::new("interop: what the router withdraws leaves the node's kernel", withdrawal),
    Test::new("interop: a mesh of nodes with one AS learns pod networks from each other", mesh)
        .limit(90),
    Test::new("interop: a router that is killed and comes back is spoken to again", router_killed)
        .limit(90),
    Test::new(
        "interop: silence longer than the hold time ends the session, and it comes back",
        silence,
    )
    .limit(90),
    Test::new(
        "interop: a restarting agent keeps its routes at a router that helps",
        agent_restarts,
    )
    .limit(90),
    Test::new(
        "interop: a restarting router's routes stay in the node until it is back",
        router_restarts,
    )
    .limit(120),
    Test::new("interop: a router that announces the node's own link does not cut it off", own_link),
    Test::new(
        "interop: removing a BGPPeer ends its session, adding it begins one",
        reconfiguration,
    ),
];

const ESTABLISHED: Duration = Duration::from_secs(30);

/// Whether the node's kernel has a route of ours to `prefix`.
fn has_route(lab: &Lab, node: usize, prefix: &str) -> Result<bool> {
    let family = if prefix.contains(':') { "-6" } else { "-4" };
    let routes = lab.agents[node].netns().run("ip", &[family, "route", "show", prefix])?;
    Ok(!routes.trim().is_empty())
}

fn wait_kernel(lab: &Lab, node: usize, prefix: &str, goal: Presence) -> Result<Duration> {
    until(LONG, &format!("{prefix} is {goal:?} in the kernel of node {}", node + 1), || {
        Ok(has_route(lab, node, prefix)? == (goal == Presence::There))
    })
    .with_context(|| lab.agents[node].log_tail())
}

const CLIENT: [&str; 2] = ["192.0.2.0/24", "2001:db8:2::/64"];

fn both_ways(bench: &Bench) -> Result<()> {
    let mut lab = bench.started(rack(2, Numbering::PerRack))?;
    let router = lab.router_daemon()?;
    for (index, node) in lab.spec.nodes.iter().enumerate() {
        for (cidr, next_hop) in
            node.pod_cidrs.iter().zip([IpAddr::from(node.ipv4), node.ipv6.into()])
        {
            router.wait_route(cidr, Presence::There, LONG)?;
            let table = router.learned()?;
            let route =
                table.get(&cidr.parse()?).and_then(|routes| routes.first()).context("no path")?;
            ensure!(route.as_path == [node.as_number], "{cidr}: AS path {:?}", route.as_path);
            ensure!(route.next_hop == next_hop, "{cidr}: next hop {}", route.next_hop);
        }
        for network in CLIENT {
            wait_kernel(&lab, index, network, Presence::There)?;
        }
        // Its own network must not come back to it by way of the router.
        let own = lab.agents[index].netns().run("ip", &["route", "show", "proto", "179"])?;
        ensure!(!own.contains(&format!("{} via", node.pod_cidrs[0])), "{own}");
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

fn multiprotocol(bench: &Bench) -> Result<()> {
    let mut spec = rack(1, Numbering::PerRack);
    spec.objects.retain(|object| object.name() != "tor-r1-v6");
    let mut lab = bench.bare(spec)?;
    let mut config = lab.router_config();
    config.neighbors.truncate(1);
    config.neighbors[0].families = Family::BOTH.to_vec();
    let router = GoBgp::start(&lab.router, &lab.directory().join("tor"), &config)?;
    lab.start_agents()?;
    router.wait_established(ESTABLISHED)?;
    let node = lab.spec.nodes[0].clone();
    for cidr in &node.pod_cidrs {
        router.wait_route(cidr, Presence::There, LONG)?;
    }
    let table = router.table(Family::Ipv6)?;
    let route = &table[&node.pod_cidrs[1].parse()?][0];
    ensure!(route.next_hop == IpAddr::from(node.ipv6), "IPv6 next hop {}", route.next_hop);
    router.announce("2001:db8:7::/48", Some(node.gateway_ipv6().into()))?;
    router.announce("198.51.100.0/24", None)?;
    wait_kernel(&lab, 0, "2001:db8:7::/48", Presence::There)?;
    wait_kernel(&lab, 0, "198.51.100.0/24", Presence::There).map(drop)
}

fn withdrawal(bench: &Bench) -> Result<()> {
    let lab = bench.started(rack(1, Numbering::PerRack))?;
    let router = lab.router_daemon()?;
    for prefix in ["198.51.100.0/24", "2001:db8:51::/48"] {
        router.announce(prefix, None)?;
        wait_kernel(&lab, 0, prefix, Presence::There)?;
        router.withdraw(prefix)?;
        wait_kernel(&lab, 0, prefix, Presence::Gone)?;
    }
    // A session that goes down takes all its routes along.
    let neighbor = lab.spec.nodes[0].ipv4.into();
    wait_kernel(&lab, 0, CLIENT[0], Presence::There)?;
    router.set_neighbor(neighbor, Admin::Down)?;
    wait_kernel(&lab, 0, CLIENT[0], Presence::Gone)?;
    ensure!(has_route(&lab, 0, CLIENT[1])?, "the other session's routes went too");
    router.set_neighbor(neighbor, Admin::Up)?;
    router.wait_established(ESTABLISHED)?;
    wait_kernel(&lab, 0, CLIENT[0], Presence::There).map(drop)
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

fn router_killed(bench: &Bench) -> Result<()> {
    let mut lab = bench.started(rack(1, Numbering::PerRack))?;
    wait_kernel(&lab, 0, CLIENT[0], Presence::There)?;
    for _ in 0..2 {
        lab.router_daemon_mut()?.kill()?;
        wait_kernel(&lab, 0, CLIENT[0], Presence::Gone)?;
        lab.router_daemon_mut()?.restart(Restart::Cold)?;
        lab.announce_connected()?;
        lab.router_daemon()?.wait_established(ESTABLISHED)?;
        wait_kernel(&lab, 0, CLIENT[0], Presence::There)?;
        for cidr in &lab.spec.nodes[0].pod_cidrs {
            lab.router_daemon()?.wait_route(cidr, Presence::There, LONG)?;
        }
    }
    Ok(())
}

fn silence(bench: &Bench) -> Result<()> {
    let lab = bench.started(rack(1, Numbering::PerRack))?;
    wait_kernel(&lab, 0, CLIENT[0], Presence::There)?;
    let mute = "table inet mute { chain out { type filter hook output priority 0; tcp dport 179 drop; tcp sport 179 drop; }; }";
    lab.router.run("nft", &[mute])?;
    // The router's hold time is 9 s: the lower of the two counts.
    until(Duration::from_secs(15), "the node drops the routes of a silent router", || {
        Ok(!has_route(&lab, 0, CLIENT[0])?)
    })?;
    lab.router.run("nft", &["delete table inet mute"])?;
    // Not asked of GoBGP: it may not yet know that its session is over.
    until(Duration::from_secs(40), "the routes are back", || {
        Ok(has_route(&lab, 0, CLIENT[0])? && has_route(&lab, 0, CLIENT[1])?)
    })
    .with_context(|| lab.agents[0].log_tail())
    .map(drop)
}

/// Lets both sides speak graceful restart.
fn graceful(bench: &Bench) -> Result<Lab> {
    let mut lab = bench.bare(rack(1, Numbering::PerRack))?;
    let mut config = lab.router_config();
    config
        .neighbors
        .iter_mut()
        .for_each(|neighbor: &mut Neighbor| neighbor.graceful_restart = Some(60));
    lab.start_router(&config)?;
    lab.start_agents()?;
    lab.router_daemon()?.wait_established(ESTABLISHED)?;
    lab.attach(pod("a", "node1"))?;
    lab.serve(&[(Protocol::Udp, 7)])?;
    wait_kernel(&lab, 0, CLIENT[0], Presence::There)?;
    wait_kernel(&lab, 0, CLIENT[1], Presence::There)?;
    expect_soon(&mut lab, &[("client", "a", "7/UDP", Outcome::Reached)])?;
    Ok(lab)
}

fn streams(lab: &Lab) -> Result<Vec<Stream>> {
    let targets = lab.pods[0].addresses.iter();
    targets.map(|address| Stream::start(&lab.client, (*address, 7).into(), 1000)).collect()
}

fn expect_no_loss(streams: Vec<Stream>) -> Result<()> {
    for stream in streams {
        let report = stream.finish()?;
        ensure!(report.lost() == 0 && report.sent > 1000, "{} lost: {report:?}", report.lost());
    }
    Ok(())
}

fn agent_restarts(bench: &Bench) -> Result<()> {
    let mut lab = graceful(bench)?;
    for how in [Stop::Kill, Stop::Ask] {
        let flows = streams(&lab)?;
        lab.agents[0].stop(how)?;
        std::thread::sleep(Duration::from_secs(1));
        let table = lab.router_daemon()?.learned()?;
        ensure!(table.len() == 2, "{how:?}: the router has {table:?}");
        ensure!(table.values().flatten().all(|route| route.stale), "{how:?}: not stale: {table:?}");
        lab.agents[0].start()?;
        until(ESTABLISHED, "the router's paths are fresh again", || {
            let table = lab.router_daemon()?.learned()?;
            Ok(table.len() == 2 && table.values().flatten().all(|route| !route.stale))
        })
        .with_context(|| format!("{how:?}"))?;
        expect_no_loss(flows).with_context(|| format!("{how:?}"))?;
    }
    Ok(())
}

fn router_restarts(bench: &Bench) -> Result<()> {
    let mut lab = graceful(bench)?;
    let flows = streams(&lab)?;
    lab.router_daemon_mut()?.kill()?;
    std::thread::sleep(Duration::from_secs(1));
    for network in CLIENT {
        ensure!(has_route(&lab, 0, network)?, "{network} left the node while the router restarted");
    }
    lab.router_daemon_mut()?.restart(Restart::Graceful)?;
    lab.announce_connected()?;
    lab.router_daemon()?.wait_established(ESTABLISHED)?;
    for cidr in &lab.spec.nodes[0].pod_cidrs {
        lab.router_daemon()?.wait_route(cidr, Presence::There, LONG)?;
    }
    std::thread::sleep(Duration::from_secs(1));
    expect_no_loss(flows)
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
