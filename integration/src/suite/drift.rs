//! The kernel is brought back when someone else changes what is ours, and what is not ours is left
//! alone.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use super::{Bench, Test, expect, expect_soon, ingress, pod};
use crate::agent::Stop;
use crate::lab::Lab;
use crate::probe::{Outcome, Protocol};
use crate::router::Daemon as _;
use crate::spec::{Numbering, rack};
use crate::wait::until;

pub(super) const TESTS: &[Test] = &[
    Test::new("drift: a table that someone flushed or deleted is rebuilt", table),
    Test::new(
        "drift: a deleted route comes back, and one that someone put in its place is told",
        routes,
    ),
    Test::new("drift: tables, routes and rules of others stay as they are", foreign),
    Test::new("drift: uninstall leaves nothing of ours and all that is not", uninstall),
];

/// `web` and `b` on one node, `web` closed to everyone.
fn closed(bench: &Bench) -> Result<Lab> {
    let mut lab = bench.started(rack(1, Numbering::PerRack))?;
    lab.store.put(&ingress("web", &json!([])))?;
    for name in ["b", "web"] {
        lab.attach(pod(name, "node1"))?;
    }
    lab.serve(&[(Protocol::Tcp, 80)])?;
    expect_soon(&mut lab, &FLOWS)?;
    Ok(lab)
}

const FLOWS: [(&str, &str, &str, Outcome); 3] = [
    ("b", "web", "80/TCP", Outcome::Dropped),
    ("web", "b", "80/TCP", Outcome::Reached),
    ("client", "b", "80/TCP", Outcome::Reached),
];

fn ruleset(lab: &Lab) -> Result<String> {
    lab.agents[0].netns().run("nft", &["list", "table", "inet", "ocicat"])
}

fn table(bench: &Bench) -> Result<()> {
    let mut lab = closed(bench)?;
    let before = ruleset(&lab)?;
    for harm in ["flush table inet ocicat", "delete table inet ocicat", "flush ruleset"] {
        lab.agents[0].netns().run("nft", &[harm])?;
        until(Duration::from_secs(15), &format!("the table is back after {harm:?}"), || {
            Ok(ruleset(&lab)?.lines().count() == before.lines().count())
        })
        .with_context(|| lab.agents[0].log_tail())?;
        expect(&mut lab, &FLOWS).with_context(|| harm.to_owned())?;
    }
    Ok(())
}

fn routes(bench: &Bench) -> Result<()> {
    let mut lab = closed(bench)?;
    let addresses = lab.pods[0].addresses.clone();
    let node = lab.agents[0].netns().handle()?;
    let limit = Duration::from_secs(15);
    let is_ours = |address: &IpAddr| -> Result<bool> {
        let family = if address.is_ipv4() { "-4" } else { "-6" };
        let routes = node.run("ip", &[family, "route", "show", &address.to_string()])?;
        Ok(routes.contains("dev oci") && routes.contains("proto 179"))
    };
    for address in &addresses {
        node.ip(&format!("route del {address}\n"))?;
        until(limit, "a deleted route is back", || is_ours(address))?;
    }
    node.ip("route del 192.0.2.0/24\n")?;
    let learned = || Ok(node.run("ip", &["route"])?.contains("192.0.2.0/24"));
    until(limit, "a deleted route learned by BGP is back", learned)?;
    // The kernel takes the routes along with an interface's last address, and says nothing of them.
    let own = format!("{}/24 dev eth0", lab.spec.nodes[0].ipv4);
    node.ip(&format!("addr del {own}\n"))?;
    ensure!(!learned()?, "the kernel keeps routes without an address");
    node.ip(&format!("addr add {own}\n"))?;
    until(limit, "a route learned by BGP is back with the address", learned)?;
    // What another program put in the place of a route is told, not fought over.
    let address = addresses[0];
    // In one step: between two the agent would have put its own back.
    node.ip(&format!("route replace unreachable {address} proto static\n"))?;
    until(limit, "the foreign route is told in the metrics", || {
        Ok(lab.agents[0].metrics("ocicat_route_failures")? == ["ocicat_route_failures 1"])
    })
    .with_context(|| lab.agents[0].log_tail())?;
    node.ip(&format!("route del unreachable {address} proto static\n"))?;
    until(limit, "the route is back once its place is free", || is_ours(&address))?;
    expect_soon(&mut lab, &FLOWS).map(drop)
}

const FOREIGN: &str = "table inet theirs { set s { type ipv4_addr; elements = { 192.0.2.7 }; }; \
                       chain c { type filter hook forward priority 10; ip saddr @s accept; }; }";

/// Adds what is not ours; gives it as listed.
fn plant(lab: &Lab) -> Result<String> {
    let node = lab.agents[0].netns();
    node.run("nft", &[FOREIGN])?;
    node.ip("route add blackhole 203.0.113.0/24 proto static\nrule add from 203.0.113.7 lookup 77 pref 7777\nlink add theirs type veth peer name theirs2\n")?;
    theirs(lab)
}

fn theirs(lab: &Lab) -> Result<String> {
    let node = lab.agents[0].netns();
    Ok([
        node.run("nft", &["list", "table", "inet", "theirs"])?,
        node.run("ip", &["route", "show", "203.0.113.0/24"])?,
        node.run("ip", &["rule", "show", "pref", "7777"])?,
        node.run("ip", &["-br", "link", "show", "theirs"])?,
    ]
    .concat())
}

fn foreign(bench: &Bench) -> Result<()> {
    let mut lab = closed(bench)?;
    let planted = plant(&lab)?;
    lab.agents[0].netns().run("nft", &["flush table inet ocicat"])?;
    lab.agents[0].stop(Stop::Kill)?;
    lab.agents[0].start()?;
    lab.router_daemon()?.wait_established(Duration::from_secs(30))?;
    expect_soon(&mut lab, &FLOWS)?;
    ensure!(theirs(&lab)? == planted, "was {planted}\nis {}", theirs(&lab)?);
    Ok(())
}

fn uninstall(bench: &Bench) -> Result<()> {
    let mut lab = closed(bench)?;
    let planted = plant(&lab)?;
    lab.agents[0].stop(Stop::Ask)?;
    let state = lab.agents[0].state().display().to_string();
    let uninstall = ["uninstall", "--state-dir", &state];
    lab.agents[0].ask(&uninstall)?;
    ensure!(!lab.agents[0].state().exists(), "the state folder is left");
    let node = lab.agents[0].netns();
    let left = [
        node.run("nft", &["list", "tables"])?
            .lines()
            .filter(|line| line.contains("ocicat"))
            .collect::<String>(),
        node.run("ip", &["-4", "route", "show", "table", "all", "proto", "179"])?,
        node.run("ip", &["-6", "route", "show", "table", "all", "proto", "179"])?,
        node.run("ip", &["-br", "link"])?.lines().filter(|line| line.starts_with("oci")).collect(),
        node.run("ip", &["nexthop", "show", "proto", "179"])?,
    ];
    ensure!(left.iter().all(|part| part.trim().is_empty()), "left behind: {left:#?}");
    ensure!(theirs(&lab)? == planted, "was {planted}\nis {}", theirs(&lab)?);
    // Twice is as good as once.
    lab.agents[0].ask(&uninstall).map(drop)
}
