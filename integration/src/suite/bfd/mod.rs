//! BFD with BIRD and FRR: how fast a dead link is seen, and what is no failure of a link.

mod peers;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{Bench, Test};
use crate::agent::Stop;
use crate::lab::Lab;
use crate::progress::format_duration;
use crate::spec::{Numbering, rack};
use crate::wait::until;
use peers::{Bird, BirdOptions, Frr, Hops, NETWORKS};

pub(super) const TESTS: &[Test] = &[
    Test::new(
        "bfd: a link that dies takes session and routes along in 150 ms, with BIRD",
        cut_bird,
    ),
    Test::new("bfd: a link that dies takes session and routes along in 150 ms, with FRR", cut_frr),
    Test::new("bfd: a session across routers runs on the other port, with FRR", multihop),
    Test::new("bfd: AdminDown of the peer, and ours, leaves BGP alone, with FRR", admin_down),
    Test::new("bfd: a router without BFD keeps its BGP session", never_up),
    Test::new("bfd: the routes of a BIRD that is killed stay until it is back", bird_restarts)
        .limit(90),
    Test::new("bfd: a restarting agent keeps its routes at a BIRD that helps", agent_restarts)
        .limit(120),
    Test::new("bfd: 200,000 routes come in and 50 ms x 3 holds", full_table).limit(240),
];

/// What both routers are set to, and what we ask for.
const RATE: &str = "50ms x 3";
/// The detection time that follows.
const DETECTION: Duration = Duration::from_millis(150);
/// What a busy machine may add: to notice, to plan, to write the kernel, and to look.
const SLACK: Duration = Duration::from_millis(350);
const SOON: Duration = Duration::from_secs(20);

const PLAIN: BirdOptions = BirdOptions { bfd: "on", graceful_restart: "off", routes: 0 };

/// One node with BFD on both its peers; nothing runs.
fn lab(bench: &Bench) -> Result<Lab> {
    lab_at(bench, RATE)
}

fn lab_at(bench: &Bench, rate: &str) -> Result<Lab> {
    let mut spec = rack(1, Numbering::PerRack);
    for object in spec.objects.iter_mut().filter(|object| object.kind() == "BGPPeer") {
        object.0["metadata"]["annotations"]["bgp.ocicat.io/bfd"] = rate.into();
    }
    bench.bare(spec)
}

/// The answer of `ocicat bgp bfd`, or `ocicat bgp peers`.
fn rows(lab: &Lab, what: &str) -> Result<Vec<Value>> {
    lab.agents[0].json(&["bgp", what])
}

/// Both sessions are Up at the agreed rate, and both families' routes are there.
fn wait_up(lab: &Lab) -> Result<()> {
    until(SOON, "BFD is up at 50 ms x 3 in both families, and the routes are there", || {
        let sessions = rows(lab, "bfd")?;
        let good = sessions.iter().filter(|session| {
            session["state"] == "Up"
                && session["transmitMicroseconds"] == 50_000
                && session["detectMicroseconds"] == 150_000
        });
        Ok(good.count() == 2 && has_routes(lab)? == [true, true])
    })
    .with_context(|| format!("{:#?}\n{}", rows(lab, "bfd"), lab.agents[0].log_tail()))
    .map(drop)
}

fn has_routes(lab: &Lab) -> Result<[bool; 2]> {
    let has = |family: &str, network: &str| {
        let routes = lab.agents[0].netns().run("ip", &[family, "route", "show", network])?;
        Ok::<_, anyhow::Error>(!routes.trim().is_empty())
    };
    Ok([has("-4", NETWORKS[0])?, has("-6", NETWORKS[1])?])
}

fn established(lab: &Lab) -> Result<bool> {
    let peers = rows(lab, "peers")?;
    Ok(peers.len() == 2 && peers.iter().all(|peer| peer["state"] == "Established"))
}

/// Lets every packet on the node's link vanish, so that no end of it is told.
fn cut(lab: &Lab) -> Result<()> {
    let rules = "table inet cut { chain in { type filter hook prerouting priority -400; iifname \"node1\" drop; }; chain out { type filter hook postrouting priority 400; oifname \"node1\" drop; }; }";
    lab.router.run("nft", &[rules]).map(drop)
}

fn heal(lab: &Lab) -> Result<()> {
    lab.router.run("nft", &["delete table inet cut"]).map(drop)
}

fn cut_bird(bench: &Bench) -> Result<()> {
    let mut lab = lab(bench)?;
    let _bird = Bird::start(&lab, PLAIN)?;
    lab.start_agents()?;
    cut_and_heal(&lab)
}

fn cut_frr(bench: &Bench) -> Result<()> {
    let mut lab = lab(bench)?;
    let _frr = Frr::start(&lab, Hops::One)?;
    lab.start_agents()?;
    cut_and_heal(&lab)
}

fn multihop(bench: &Bench) -> Result<()> {
    let mut lab = lab_at(bench, &format!("{RATE} multihop"))?;
    let _frr = Frr::start(&lab, Hops::Many)?;
    lab.start_agents()?;
    wait_up(&lab)?;
    for session in rows(&lab, "bfd")? {
        ensure!(
            session["reach"] == "multihop" && session["packets"]["discarded"] == 0,
            "{session}"
        );
    }
    Ok(())
}

fn cut_and_heal(lab: &Lab) -> Result<()> {
    wait_up(lab)?;
    for round in 1..=3 {
        let start = Instant::now();
        cut(lab)?;
        let command = start.elapsed();
        until(SOON, "both routes leave the kernel", || Ok(has_routes(lab)? == [false, false]))?;
        let took = start.elapsed();
        println!(
            "         dead link {round}: routes gone {} after the cut began (which took {})",
            format_duration(took),
            format_duration(command)
        );
        ensure!(took < DETECTION + SLACK, "seen only after {took:?}");
        for peer in rows(lab, "peers")? {
            let reason = peer["lastError"].as_str().unwrap_or_default();
            ensure!(reason.starts_with("BFD: "), "{peer}");
        }
        heal(lab)?;
        wait_up(lab)?;
    }
    // A router that ends its BFD session together with the BGP session, and begins it anew, says
    // Down to one that has just come up: that may come on top, and is no silence.
    let metrics = lab.agents[0].metrics("ocicat_bfd_session_down_total")?;
    let silences = metrics.iter().filter(|line| line.contains("noticed=\"here\""));
    ensure!(
        silences.clone().count() == 2 && silences.clone().all(|line| line.ends_with(" 3")),
        "{metrics:?}\n{}",
        lab.agents[0].log_tail()
    );
    Ok(())
}

fn admin_down(bench: &Bench) -> Result<()> {
    let mut lab = lab(bench)?;
    let frr = Frr::start(&lab, Hops::One)?;
    lab.start_agents()?;
    wait_up(&lab)?;
    frr.tell("bfdd", &["configure terminal", "bfd", "profile fast", "shutdown"])?;
    until(SOON, "the peer's AdminDown is heard", || {
        let sessions = rows(&lab, "bfd")?;
        Ok(sessions.iter().all(|session| session["remoteState"] == "AdminDown"))
    })?;
    std::thread::sleep(Duration::from_secs(1));
    for session in rows(&lab, "bfd")? {
        ensure!(session["flaps"] == 0 && session["state"] == "Down", "{session}");
    }
    ensure!(established(&lab)? && has_routes(&lab)? == [true, true], "BGP went down too");
    frr.tell("bfdd", &["configure terminal", "bfd", "profile fast", "no shutdown"])?;
    wait_up(&lab)?;
    // Ours, by a planned stop.
    lab.agents[0].stop(Stop::Ask)?;
    let text = frr.tell("bfdd", &["show bfd peers"])?;
    let told = text.matches("Remote diagnostics: administratively down").count();
    ensure!(told == 2, "FRR was not told that our end was planned: {text}");
    std::thread::sleep(Duration::from_secs(1));
    // FRR's "bfd check-control-plane-failure": our C bit is 0.
    let table = frr.tell("bgpd", &["show bgp ipv4 unicast"])?;
    ensure!(table.contains(&lab.spec.nodes[0].pod_cidrs[0]), "FRR dropped our routes: {table}");
    lab.agents[0].start()?;
    wait_up(&lab)
}

fn never_up(bench: &Bench) -> Result<()> {
    let mut lab = lab(bench)?;
    let bird = Bird::start(&lab, BirdOptions { bfd: "off", ..PLAIN })?;
    lab.start_agents()?;
    until(SOON, "BGP is up", || Ok(established(&lab)? && has_routes(&lab)? == [true, true]))?;
    std::thread::sleep(Duration::from_secs(3));
    ensure!(established(&lab)?, "BFD that never was up took BGP down");
    for session in rows(&lab, "bfd")? {
        ensure!(session["state"] == "Down" && session["packets"]["sent"] != 0, "{session}");
    }
    drop(bird);
    Ok(())
}

fn bird_restarts(bench: &Bench) -> Result<()> {
    let mut lab = lab(bench)?;
    let mut bird = Bird::start(&lab, BirdOptions { graceful_restart: "on", ..PLAIN })?;
    lab.start_agents()?;
    wait_up(&lab)?;
    bird.process.kill()?;
    until(SOON, "BFD sees that BIRD is gone", || {
        Ok(rows(&lab, "bfd")?.iter().all(|session| session["state"] == "Down"))
    })?;
    std::thread::sleep(Duration::from_secs(1));
    ensure!(has_routes(&lab)? == [true, true], "BFD ended a graceful restart");
    bird.recover()?;
    until(SOON, "BGP is up again", || {
        ensure!(has_routes(&lab)? == [true, true], "a route was lost in the restart");
        established(&lab)
    })?;
    wait_up(&lab)?;
    std::thread::sleep(Duration::from_secs(1));
    ensure!(established(&lab)? && has_routes(&lab)? == [true, true], "it did not last");
    // A dead link still counts at once.
    let start = Instant::now();
    cut(&lab)?;
    until(SOON, "both routes leave the kernel", || Ok(has_routes(&lab)? == [false, false]))?;
    let took = start.elapsed();
    println!("         dead link, with graceful restart: routes gone {}", format_duration(took));
    ensure!(took < DETECTION + SLACK, "seen only after {took:?}");
    Ok(())
}

fn agent_restarts(bench: &Bench) -> Result<()> {
    let mut lab = lab(bench)?;
    // "bfd graceful": BIRD takes our silence for what it is.
    let options = BirdOptions { bfd: "graceful", graceful_restart: "aware", ..PLAIN };
    let bird = Bird::start(&lab, options)?;
    lab.start_agents()?;
    let pods = lab.spec.nodes[0].pod_cidrs.clone();
    let kept = || -> Result<bool> {
        let table = bird.tell(&["show", "route"])?;
        Ok(pods.iter().all(|cidr| table.contains(cidr.as_str())))
    };
    for how in [Stop::Ask, Stop::Kill] {
        wait_up(&lab)?;
        until(SOON, "BIRD has our routes", kept)?;
        lab.agents[0].stop(how)?;
        std::thread::sleep(Duration::from_secs(1));
        ensure!(kept()?, "{how:?}: BIRD dropped our routes");
        ensure!(has_routes(&lab)? == [true, true], "{how:?}: the kernel lost routes");
        lab.agents[0].start()?;
        until(SOON, "the sessions are back", || {
            ensure!(kept()?, "{how:?}: BIRD dropped our routes when we came back");
            established(&lab)
        })?;
    }
    wait_up(&lab)?;
    ensure!(kept()?, "our routes did not outlast the restart");
    Ok(())
}

fn full_table(bench: &Bench) -> Result<()> {
    const COUNT: u32 = 200_000;
    let mut lab = lab(bench)?;
    let bird = Bird::start(&lab, BirdOptions { routes: COUNT, ..PLAIN })?;
    bird.tell(&["disable", "many"])?;
    lab.start_agents()?;
    wait_up(&lab)?;
    let start = Instant::now();
    bird.tell(&["enable", "many"])?;
    let has = |number: u32| -> Result<bool> {
        let prefix = crate::router::bird::prefix(number).to_string();
        Ok(!lab.agents[0].netns().run("ip", &["route", "show", &prefix])?.trim().is_empty())
    };
    until(Duration::from_secs(120), "the table is in the kernel", || {
        Ok(has(0)? && has(COUNT / 2)? && has(COUNT - 1)?)
    })?;
    println!("         {COUNT} routes in the kernel after {}", format_duration(start.elapsed()));
    // The withdrawal of everything is work, too.
    bird.tell(&["disable", "many"])?;
    until(Duration::from_secs(120), "the table has left the kernel", || {
        Ok(!has(0)? && !has(COUNT / 2)? && !has(COUNT - 1)?)
    })?;
    for session in rows(&lab, "bfd")? {
        println!(
            "         {}: longest gap {} us, {} packets",
            session["peer"], session["longestGapMicroseconds"], session["packets"]["received"]
        );
        ensure!(session["state"] == "Up" && session["flaps"] == 0, "{session}");
        ensure!(session["lastDown"].is_null(), "{session}");
    }
    ensure!(established(&lab)?, "a BGP session was lost");
    Ok(())
}
