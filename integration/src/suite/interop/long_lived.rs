//! Long-lived graceful restart (RFC 9494), both roles: what is kept beyond the restart time is marked
//! and ranks last, and goes in the end.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use ipnet::IpNet;
use serde_json::{Value, json};

use super::super::{Bench, Test};
use super::transit::{FAR, FAR_AS, NEAR, Transit, annotate};
use super::{has_route, wait_kernel};
use crate::agent::Stop;
use crate::probe::LONG;
use crate::progress::format_duration;
use crate::router::{Announcement, Daemon, Neighbor, Presence, Program, Restart, Route};
use crate::wait::until;

pub(super) const TESTS: &[Test] = &[
    Test::new(
        "interop: BIRD, routes outlive the restart time, marked and last (RFC 9494)",
        |bench| outlive(bench, Program::Bird),
    ),
    Test::new(
        "interop: FRR, routes outlive the restart time, marked and last (RFC 9494)",
        |bench| outlive(bench, Program::Frr),
    ),
    Test::new(
        "interop: GoBGP, routes outlive the restart time, marked and last (RFC 9494)",
        |bench| outlive(bench, Program::GoBgp),
    ),
];

pub(super) const CANNOT: &[(Program, &str)] = &[
    (Program::OpenBgpd, "it has no RFC 9494"),
    (Program::ExaBgp, "it has no RFC 9494, and no table in which to keep a route"),
];

/// Seconds, of both ends.
const RESTART: u32 = 2;
const STALE: u32 = 4;
/// What noticing, waiting and looking may add.
const SLACK: Duration = Duration::from_millis(1500);

/// LLGR_STALE: as BIRD and GoBGP show it, as we do, as FRR does.
const MARKS: [&str; 3] = ["65535:6", "llgr-stale", "llgrStale"];

/// What the first router alone has.
const ALONE: [&str; 2] = ["198.51.100.0/24", "2001:db8:51::/48"];
/// What both have, the second by a longer path.
const BOTH: [&str; 2] = ["203.0.113.0/24", "2001:db8:113::/48"];

fn is_marked(communities: &[String]) -> bool {
    communities.iter().any(|text| MARKS.contains(&text.as_str()))
}

/// The node's path for a prefix from the first router.
fn near_path(transit: &Transit, prefix: &str) -> Result<Option<Value>> {
    let paths = transit.paths(prefix)?.into_iter();
    Ok(paths.into_iter().find(|path| NEAR.iter().any(|name| path["peer"] == *name)))
}

fn is_marked_row(row: &Value) -> bool {
    row["communities"].as_array().is_some_and(|all| all.iter().any(|text| text == MARKS[1]))
}

fn outlive(bench: &Bench, program: Program) -> Result<()> {
    let mut transit = Transit::create(bench, 1, |spec| {
        for object in spec.objects.iter_mut().filter(|object| object.kind() == "BGPPeer") {
            object.0["spec"]["maxRestartTime"] = json!(format!("{RESTART}s"));
        }
        annotate(spec, &NEAR, "long-lived-stale-time", &format!("{STALE}s"));
        annotate(spec, &FAR, "long-lived-stale-time", "1m");
    })?;
    let terms = |neighbor: &mut Neighbor| {
        neighbor.graceful_restart = Some(RESTART);
        neighbor.long_lived = Some(STALE);
    };
    let mut near = transit.near(program, terms)?;
    let mut far = transit.far(Program::Bird, FAR_AS, |neighbor| {
        neighbor.graceful_restart = Some(60);
        neighbor.long_lived = Some(60);
    })?;
    transit.lab.start_agents()?;
    transit.wait_up(&[&*near, &*far])?;
    let longer = |prefix: &str| -> Result<Announcement> {
        Ok(Announcement { as_path: vec![64_700, 64_701], ..Announcement::plain(prefix.parse()?) })
    };
    far.announce(&BOTH.iter().map(|prefix| longer(prefix)).collect::<Result<Vec<_>>>()?)?;
    announce(&mut *near)?;
    wait_fresh(&transit, &*far)?;
    peer_dies(&transit, &mut *near, &*far)?;
    near.restart(Restart::Cold)?;
    announce(&mut *near)?;
    wait_fresh(&transit, &*far).context("after the router came back")?;
    agent_dies(&mut transit, &*near)
}

/// Has the first router tell its networks; again after a restart, as some forget them.
fn announce(near: &mut dyn Daemon) -> Result<()> {
    let all = ALONE.iter().chain(&BOTH).map(|prefix| Ok(Announcement::plain(prefix.parse()?)));
    near.announce(&all.collect::<Result<Vec<_>>>()?)
}

/// The first router's paths are the best, and there are others behind them.
fn wait_fresh(transit: &Transit, far: &dyn Daemon) -> Result<()> {
    for (prefix, name) in BOTH.into_iter().zip(NEAR) {
        until(LONG, &format!("{prefix} has two paths, the first router's before"), || {
            let paths = transit.paths(prefix)?;
            let first = paths.first().is_some_and(|path| path["peer"] == name);
            Ok(paths.len() == 2 && first && !is_marked_row(&paths[0]))
        })
        .with_context(|| format!("{:#?}\n{}", transit.paths(prefix), transit.log()))?;
    }
    for prefix in ALONE {
        wait_kernel(&transit.lab, 0, prefix, Presence::There)?;
        far.wait_route(prefix, Presence::There, LONG)?;
    }
    Ok(())
}

/// A moment after the router's death, as the protocol has it.
fn expect_about(what: &str, seconds: u32, took: Duration) -> Result<()> {
    let wanted = Duration::from_secs(seconds.into());
    println!("         {what} after {}", format_duration(took));
    let early = wanted.saturating_sub(Duration::from_millis(200));
    ensure!(took >= early && took < wanted + SLACK, "{what} after {took:?}, not {wanted:?}");
    Ok(())
}

fn peer_dies(transit: &Transit, near: &mut dyn Daemon, far: &dyn Daemon) -> Result<()> {
    near.kill()?;
    let start = Instant::now();
    until(LONG, "the paths are stale", || {
        let path = near_path(transit, BOTH[0])?.context("the path went at once")?;
        Ok(path["stale"] == true && path["verdict"] == "best" && !is_marked_row(&path))
    })?;
    for prefix in BOTH {
        until(LONG, &format!("the path for {prefix} is marked, and the last"), || {
            let path = near_path(transit, prefix)?.context("the path went at once")?;
            Ok(is_marked_row(&path) && path["verdict"] == "lost: not long-lived stale")
        })
        .with_context(|| format!("{:#?}\n{}", transit.paths(prefix), transit.log()))?;
    }
    expect_about("marked", RESTART, start.elapsed())?;
    for prefix in ALONE {
        ensure!(
            has_route(&transit.lab, 0, prefix)?,
            "{prefix} left the kernel with the restart time"
        );
        let net: IpNet = prefix.parse()?;
        until(LONG, &format!("the next router has {prefix} with the mark"), || {
            let table = far.learned()?;
            Ok(table.get(&net).is_some_and(|routes| is_marked(&routes[0].communities)))
        })?;
    }
    for prefix in ALONE {
        wait_kernel(&transit.lab, 0, prefix, Presence::Gone)?;
    }
    expect_about("gone", RESTART + STALE, start.elapsed())?;
    for prefix in BOTH {
        until(LONG, "no path of the dead router is left", || {
            Ok(near_path(transit, prefix)?.is_none())
        })?;
        ensure!(has_route(&transit.lab, 0, prefix)?, "{prefix} went with the last of its paths");
    }
    for prefix in ALONE {
        far.wait_route(prefix, Presence::Gone, LONG)?;
    }
    Ok(())
}

fn agent_dies(transit: &mut Transit, near: &dyn Daemon) -> Result<()> {
    let cidrs = transit.lab.spec.nodes[0].pod_cidrs.clone();
    let nets = cidrs.iter().map(|cidr| Ok(cidr.parse()?)).collect::<Result<Vec<IpNet>>>()?;
    let own = || -> Result<Vec<Route>> {
        let mut table = near.learned()?;
        let paths = nets.iter().map(|net| table.remove(net).with_context(|| format!("no {net}")));
        paths.map(|paths| Ok(paths?.remove(0))).collect()
    };
    until(LONG, "the router has the node's networks", || {
        Ok(own()?.iter().all(|route| !is_marked(&route.communities)))
    })?;
    transit.lab.agents[0].stop(Stop::Kill)?;
    let start = Instant::now();
    until(LONG, "the router keeps them, and marks them", || {
        let kept = own();
        ensure!(kept.is_ok() || start.elapsed() > LONG, "{kept:?}");
        Ok(kept?.iter().all(|route| is_marked(&route.communities)))
    })
    .with_context(|| format!("{:?}", near.learned()))?;
    expect_about("ours marked by the router", RESTART, start.elapsed())?;
    transit.lab.agents[0].start()?;
    near.wait_established(super::ESTABLISHED).with_context(|| transit.log())?;
    until(LONG, "the router has them anew", || {
        Ok(own()?.iter().all(|route| !is_marked(&route.communities)))
    })
    .with_context(|| format!("{:?}", near.learned()))
    .map(drop)
}
