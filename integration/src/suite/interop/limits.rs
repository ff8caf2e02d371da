//! Our own limits of prefixes: on what a router tells, and on what it is told.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use ipnet::IpNet;
use serde_json::{Value, json};

use super::super::{Bench, Test};
use super::exchange::pod_networks;
use super::transit::{FAR, FAR_AS, NEAR, Transit};
use crate::probe::LONG;
use crate::router::bird::prefix;
use crate::router::{Announcement, Daemon, Program};
use crate::wait::until;

pub(super) const TESTS: &[Test] = &[Test::new(
    "interop: BIRD and FRR, a router tells and is told no more prefixes than it may",
    limits,
)];

const LIMIT: usize = 3;

fn limits(bench: &Bench) -> Result<()> {
    let mut transit = Transit::create(bench, 1, |_| {})?;
    let mut near = transit.near(Program::Bird, |_| {})?;
    let far = transit.far(Program::Frr, FAR_AS, |_| {})?;
    transit.lab.start_agents()?;
    transit.wait_up(&[&*near, &*far])?;
    warns(&mut transit, &mut *near)?;
    restarts(&mut transit, &mut *near)?;
    stays_down(&mut transit, &mut *near)?;
    holds_back(&mut transit, &*far)
}

fn some(count: u32) -> Vec<IpNet> {
    (0..count).map(prefix).collect()
}

fn tell(near: &mut dyn Daemon, count: u32) -> Result<()> {
    near.announce(&some(count).into_iter().map(Announcement::plain).collect::<Vec<_>>())
}

fn received(peer: &Value) -> u64 {
    peer["families"][0]["received"].as_u64().unwrap_or_default()
}

fn is_up(peer: &Value) -> bool {
    peer["state"] == "Established"
}

/// One too many is said, and used.
fn warns(transit: &mut Transit, near: &mut dyn Daemon) -> Result<()> {
    transit.annotate(NEAR[0], "max-prefixes", &format!("{LIMIT} warn"))?;
    transit.wait_peer(NEAR[0], "its limit is known", |peer| setting(peer).contains("a fault"))?;
    let flaps = transit.peer(NEAR[0])?["flaps"].clone();
    tell(near, 3)?;
    transit.wait_peer(NEAR[0], "as many as it may tell", |peer| received(peer) == 3)?;
    ensure!(transit.peer(NEAR[0])?["faults"] == 0, "a fault without a reason");
    tell(near, 5)?;
    transit.wait_peer(NEAR[0], "too many is a fault", |peer| {
        let said = peer["lastFault"].as_str().unwrap_or_default();
        received(peer) == 5 && peer["faults"] == 1 && said == "more than 3 ipv4-unicast paths"
    })?;
    let peer = transit.peer(NEAR[0])?;
    ensure!(is_up(&peer) && peer["flaps"] == flaps, "a warning cost the session: {peer}");
    ensure!(!transit.paths(&prefix(4).to_string())?.is_empty(), "the path is not used");
    near.withdraw(&some(5))
}

/// The limit in force.
fn setting(peer: &Value) -> String {
    let all = peer["settings"].as_array().into_iter().flatten();
    let limit = all.filter(|pair| pair[0] == "most prefixes").find_map(|pair| pair[1].as_str());
    limit.unwrap_or_default().to_owned()
}

/// Sets a limit, which is shown in these words, and goes beyond it.
fn limited(
    transit: &mut Transit,
    near: &mut dyn Daemon,
    then: &str,
    words: &str,
) -> Result<Instant> {
    near.wait_established(LONG)?;
    transit.annotate(NEAR[0], "max-prefixes", &format!("{LIMIT} {then}"))?;
    transit.wait_peer(NEAR[0], then, |peer| is_up(peer) && setting(peer).contains(words))?;
    let told = Instant::now();
    tell(near, 5)?;
    transit.wait_peer(NEAR[0], "too many end the session", |peer| {
        !is_up(peer)
            && peer["lastErrorCode"] == json!([6, 1])
            && peer["lastErrorBy"] == "us"
            && peer["lastError"] == "the peer has sent more than 3 ipv4-unicast paths"
    })?;
    for net in some(5) {
        ensure!(transit.paths(&net.to_string())?.is_empty(), "{net} outlived the session");
    }
    near.withdraw(&some(5))?;
    Ok(told)
}

fn restarts(transit: &mut Transit, near: &mut dyn Daemon) -> Result<()> {
    let start = limited(transit, near, "restart 3s", "pauses for 3s")?;
    transit.wait_peer(NEAR[0], "it may come back", is_up)?;
    let took = start.elapsed();
    ensure!(took >= Duration::from_secs(3) && took < Duration::from_secs(7), "after {took:?}");
    Ok(())
}

fn stays_down(transit: &mut Transit, near: &mut dyn Daemon) -> Result<()> {
    limited(transit, near, "stay-down", "stays down")?;
    // Twice as long as BIRD and the agent wait between two attempts.
    std::thread::sleep(Duration::from_secs(4));
    let peer = transit.peer(NEAR[0])?;
    ensure!(peer["state"] == "Idle", "it came back: {peer}");
    ensure!(is_up(&transit.peer(NEAR[1])?), "the other family's session went too");
    transit.annotate(NEAR[0], "max-prefixes", "100 stay-down")?;
    transit.wait_peer(NEAR[0], "a change lets it come back", is_up).map(drop)
}

/// The node's networks that the far router has.
fn told(far: &dyn Daemon) -> Result<Vec<IpNet>> {
    let table = far.learned()?;
    let nets =
        table.keys().filter(|net| matches!(net, IpNet::V4(net) if net.addr().octets()[0] == 10));
    Ok(nets.copied().collect())
}

fn holds_back(transit: &mut Transit, far: &dyn Daemon) -> Result<()> {
    transit.annotate(FAR[0], "max-advertised", "4")?;
    far.wait_established(LONG)?;
    let own = transit.lab.spec.nodes[0].pod_cidrs.clone();
    let mut networks = pod_networks(10);
    let give = |transit: &mut Transit, networks: &[String]| {
        let all = [own.as_slice(), networks].concat();
        transit.edit("node1", |node| node["spec"]["podCIDRs"] = json!(all))
    };
    give(transit, &networks)?;
    let wait = |transit: &Transit, count: usize| {
        until(LONG, &format!("the far router has {count} networks"), || {
            Ok(told(far)?.len() == count)
        })
        .with_context(|| format!("{:?}\n{:#?}", told(far), transit.peer(FAR[0])))
    };
    // All are there, and no more than 4 are told.
    until(LONG, "the node has its networks", || Ok(!transit.paths(&networks[9])?.is_empty()))?;
    wait(transit, 4)?;
    let first = told(far)?;
    ensure!(transit.peer(FAR[0])?["families"][0]["advertised"] == 4, "not what is told");
    // What goes makes room for what waits.
    networks.retain(|net| !first.iter().any(|told| told.to_string() == *net));
    give(transit, &networks)?;
    until(LONG, "others have taken the place", || {
        let now = told(far)?;
        Ok(now.len() == 4
            && now.iter().all(|net| net.to_string() == own[0] || !first.contains(net)))
    })
    .with_context(|| format!("{first:?}, {:?}", told(far)))?;
    transit.annotate(FAR[0], "max-advertised", "100")?;
    wait(transit, networks.len() + 1)?;
    ensure!(transit.peer(FAR[0])?["flaps"] == 0, "the limit cost a session");
    Ok(())
}
