//! Restart changes no packet's fate.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use super::{Bench, Test, expect, expect_soon, ingress, pod};
use crate::agent::Stop;
use crate::lab::{End, Lab};
use crate::probe::{Outcome, Protocol, Stream};
use crate::router::Daemon as _;
use crate::spec::{Numbering, rack};

pub(super) const TESTS: &[Test] = &[
    Test::new(
        "restart: kill -9 under traffic loses no packet, and what is forbidden stays so",
        under_traffic,
    ),
    Test::new(
        "restart: killed at any moment of its start, the agent converges and loses nothing",
        at_any_moment,
    )
    .limit(120),
    Test::new(
        "restart: what changed while the agent was down is true once it is ready",
        changes_meanwhile,
    ),
    Test::new("restart: with the agent down, pods keep their network and their policy", while_down),
];

const PORTS: [(Protocol, u16); 2] = [(Protocol::Tcp, 80), (Protocol::Udp, 7)];

/// `a` may send to `web`, `b` may not; all on one node, and the client.
fn guarded(bench: &Bench) -> Result<Lab> {
    let mut lab = bench.started(rack(1, Numbering::PerRack))?;
    let from_a = json!([{ "from": [{ "podSelector": { "matchLabels": { "app": "a" } } }] }]);
    lab.store.put(&ingress("web", &from_a))?;
    for name in ["a", "b", "web"] {
        lab.attach(pod(name, "node1"))?;
    }
    lab.serve(&PORTS)?;
    expect_soon(&mut lab, &guarded_flows())?;
    Ok(lab)
}

fn guarded_flows() -> [(&'static str, &'static str, &'static str, Outcome); 6] {
    [
        ("a", "web", "7/UDP", Outcome::Reached),
        ("a", "web", "80/TCP", Outcome::Reached),
        ("b", "web", "7/UDP", Outcome::Dropped),
        ("b", "web", "80/TCP", Outcome::Dropped),
        ("client", "web", "80/TCP", Outcome::Dropped),
        ("client", "b", "80/TCP", Outcome::Reached),
    ]
}

/// Steady flows of `a` to `web` (allowed) and of `b` to `web` (not), in both families.
fn streams(lab: &Lab) -> Result<[Vec<Stream>; 2]> {
    let web = &lab.pods[lab.pod("default/web")?].addresses;
    let start = |name: &str| -> Result<Vec<Stream>> {
        let End::Pod(from) = lab.end(name)? else { unreachable!("the name is a pod's") };
        let from = &lab.pods[from].sandbox.netns;
        web.iter().map(|address| Stream::start(from, SocketAddr::new(*address, 7), 1000)).collect()
    };
    Ok([start("a")?, start("b")?])
}

fn expect_fates(streams: [Vec<Stream>; 2]) -> Result<()> {
    let [allowed, forbidden] = streams;
    for stream in allowed {
        let report = stream.finish()?;
        ensure!(
            report.lost() == 0 && report.sent > 1000,
            "allowed, {} lost: {report:?}",
            report.lost()
        );
    }
    for stream in forbidden {
        let report = stream.finish()?;
        ensure!(report.answered == 0, "forbidden, yet {} got through", report.answered);
    }
    Ok(())
}

fn under_traffic(bench: &Bench) -> Result<()> {
    let mut lab = guarded(bench)?;
    for how in [Stop::Kill, Stop::Ask, Stop::Kill] {
        let streams = streams(&lab)?;
        thread::sleep(Duration::from_millis(200));
        lab.agents[0].stop(how)?;
        thread::sleep(Duration::from_millis(500));
        lab.agents[0].start()?;
        thread::sleep(Duration::from_millis(500));
        expect_fates(streams).with_context(|| format!("{how:?}"))?;
    }
    let [on_the_node @ .., _, _] = guarded_flows();
    expect(&mut lab, &on_the_node)?;
    // This router helps no restart: for the client it has to hear of the pods again first.
    expect_soon(&mut lab, &guarded_flows()).map(drop)
}

fn at_any_moment(bench: &Bench) -> Result<()> {
    let mut lab = guarded(bench)?;
    let streams = streams(&lab)?;
    for step in 0..20 {
        lab.agents[0].stop(Stop::Kill)?;
        lab.agents[0].launch()?;
        thread::sleep(Duration::from_millis(10 * step));
    }
    lab.agents[0].stop(Stop::Kill)?;
    lab.agents[0].start()?;
    expect_fates(streams)?;
    lab.router_daemon()?.wait_established(Duration::from_secs(30))?;
    expect_soon(&mut lab, &guarded_flows()).map(drop)
}

fn changes_meanwhile(bench: &Bench) -> Result<()> {
    let mut lab = guarded(bench)?;
    lab.agents[0].stop(Stop::Kill)?;
    let from_b = json!([{ "from": [{ "podSelector": { "matchLabels": { "app": "b" } } }] }]);
    lab.store.put(&ingress("web", &from_b))?;
    let a = lab.pod("default/a")?;
    lab.detach(a)?;
    lab.agents[0].start()?;
    // Ready means: true already, with no time to settle.
    expect(
        &mut lab,
        &[("b", "web", "80/TCP", Outcome::Reached), ("b", "web", "7/UDP", Outcome::Reached)],
    )?;
    // The router had forgotten the node.
    lab.router_daemon()?.wait_established(Duration::from_secs(30))?;
    expect_soon(&mut lab, &[("client", "web", "80/TCP", Outcome::Dropped)])?;
    let links = lab.agents[0].netns().run("ip", &["-br", "link"])?;
    let ours = links.lines().filter(|line| line.starts_with("oci")).count();
    ensure!(ours == 2, "{ours} pod interfaces for two pods: {links}");
    lab.attach(pod("a", "node1"))?;
    lab.serve(&PORTS)?;
    expect_soon(
        &mut lab,
        &[("a", "web", "80/TCP", Outcome::Dropped), ("b", "a", "80/TCP", Outcome::Reached)],
    )
    .map(drop)
}

fn while_down(bench: &Bench) -> Result<()> {
    let mut lab = guarded(bench)?;
    lab.agents[0].stop(Stop::Kill)?;
    let here = guarded_flows();
    // The router has no graceful restart here: only what stays on the node can be asked.
    let on_node: Vec<_> = here.into_iter().filter(|(from, ..)| *from != "client").collect();
    expect(&mut lab, &on_node)
}
