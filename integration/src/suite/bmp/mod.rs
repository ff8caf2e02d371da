//! What outsiders are shown: monitoring stations (BMP), which are pmacct's collector and one that never
//! reads, and the table as an MRT file.

mod collector;
mod dump;
mod silent;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ipnet::{IpNet, Ipv4Net};
use serde_json::{Value, json};

use super::{Bench, Test};
use crate::lab::Lab;
use crate::object::Object;
use crate::router::{Announcement, Daemon, Program};
use crate::spec::{Numbering, Spec, rack};
use crate::wait::until;
use collector::{Collector, Heard};
use silent::Silent;

pub(super) const TESTS: &[Test] = &[
    Test::new(
        "bmp: pmbmpd hears of sessions, of routes before and after policy, as chosen and as told, and of their ends",
        every_table,
    )
    .limit(120),
    Test::new("bmp: a pmbmpd that is killed and started again hears everything again", again)
        .limit(120),
    Test::new("bmp: a station that never reads costs no session and little memory", never_reads)
        .limit(180),
    Test::new("mrt: bgpdump reads from a dump what peers told, rejected or not, and our own", dump::mrt),
];

const PATIENCE: Duration = Duration::from_secs(20);
const ANNOTATION: &str = "bgp.ocicat.io/bmp";

/// What BIRD announces.
const PLAIN: &str = "198.51.100.0/24";
const REJECTED: &str = "203.0.113.0/24";
const PREPENDED: &str = "192.0.2.128/25";
const PLAIN_6: &str = "2001:db8:51::/48";
const REJECTED_6: &str = "2001:db8:52::/48";

/// A node beside a BIRD with a session in each family, and stations to tell.
#[derive(Debug)]
struct Watched {
    lab: Lab,
    bird: Box<dyn Daemon>,
}

/// The station's address: the router, which the node reaches without any route.
fn station() -> SocketAddr {
    SocketAddr::new(rack(1, Numbering::PerRack).nodes[0].gateway_ipv4().into(), 5000)
}

/// A node whose filters reject and change some of what it hears.
fn spec(stations: &str) -> Spec {
    let mut spec = rack(1, Numbering::PerRack);
    for object in &mut spec.objects {
        match (object.kind(), object.name()) {
            ("BGPConfiguration", _) => {
                object.0["metadata"]["annotations"] = json!({ ANNOTATION: stations });
            }
            ("BGPPeer", _) => object.0["spec"]["filters"] = json!(["from-tor"]),
            _ => {}
        }
    }
    let reject = |cidr: &str| json!({ "action": "Reject", "matchOperator": "Equal", "cidr": cidr });
    let prepend = json!({
        "action": "Accept", "matchOperator": "Equal", "cidr": PREPENDED,
        "operations": [{ "prependASPath": { "prefix": [64_999] } }],
    });
    spec.objects.push(Object(json!({
        "apiVersion": "projectcalico.org/v3", "kind": "BGPFilter",
        "metadata": { "name": "from-tor" },
        "spec": { "importV4": [reject(REJECTED), prepend], "importV6": [reject(REJECTED_6)] },
    })));
    spec
}

impl Watched {
    /// `stations` is the annotation.
    fn start(bench: &Bench, stations: &str) -> Result<Self> {
        let mut lab = bench.bare(spec(stations))?;
        let directory = lab.run.directory().join("bird");
        let bird = Program::Bird.start(&lab.router, &directory, &lab.router_config())?;
        lab.agents[0].talk_only();
        lab.start_agents()?;
        bird.wait_established(Duration::from_secs(30)).with_context(|| lab.agents[0].log_tail())?;
        Ok(Self { lab, bird })
    }

    fn announce(&mut self, prefixes: &[&str]) -> Result<()> {
        let route = |prefix: &&str| Ok(Announcement::plain(prefix.parse()?));
        let routes: Vec<Announcement> = prefixes.iter().map(route).collect::<Result<_>>()?;
        self.bird.announce(&routes)
    }

    fn collector(&self) -> Result<Collector> {
        let directory = self.lab.run.directory().join("pmbmpd");
        Collector::start(&self.lab.router, &directory, station())
    }

    /// What the agent says of its only station.
    fn row(&self) -> Result<Value> {
        let rows: Vec<Value> = self.lab.agents[0].json(&["bgp", "bmp"])?;
        rows.into_iter().next().context("no station")
    }

    /// Paths accepted from the peers, and sessions lost.
    fn accepted_and_flaps(&self) -> Result<(u64, u64)> {
        let rows: Vec<Value> = self.lab.agents[0].json(&["bgp", "peers"])?;
        let number = |value: &Value| value.as_u64().unwrap_or_default();
        let families = rows.iter().filter_map(|row| row["families"].as_array()).flatten();
        let accepted = families.map(|family| number(&family["accepted"])).sum();
        Ok((accepted, rows.iter().map(|row| number(&row["flaps"])).sum()))
    }

    fn wait_heard(
        &self,
        collector: &Collector,
        goal: &str,
        mut is_so: impl FnMut(&Heard) -> bool,
    ) -> Result<Duration> {
        until(PATIENCE, goal, || Ok(is_so(&collector.heard()?))).with_context(|| {
            let heard = collector.heard();
            format!("{heard:#?}\n{:?}\n{}", self.row(), self.lab.agents[0].log_tail())
        })
    }
}

/// The AS path of a prefix, in quotes to tell an empty one from none.
fn path(heard: &Heard, table: &str, peer: &str, prefix: &str) -> Option<String> {
    heard.tables.get(&(table.to_owned(), peer.to_owned()))?.get(prefix).cloned()
}

fn every_table(bench: &Bench) -> Result<()> {
    let node = rack(1, Numbering::PerRack).nodes[0].clone();
    let words = "pre-policy post-policy adj-rib-out loc-rib statistics=2s";
    let mut watched = Watched::start(bench, &format!("{} {words}", station()))?;
    let collector = watched.collector()?;
    watched.announce(&[PLAIN, REJECTED, PREPENDED, PLAIN_6, REJECTED_6])?;
    let [tor, tor6] = [node.gateway_ipv4().to_string(), node.gateway_ipv6().to_string()];
    let (by_tor, longer) = (Some("64500".to_owned()), Some("64999 64500".to_owned()));
    let own = Some(String::new());
    let told = Some(node.as_number.to_string());
    let expected = [
        ("pre-policy", &tor, PLAIN, &by_tor),
        ("pre-policy", &tor, REJECTED, &by_tor),
        ("pre-policy", &tor, PREPENDED, &by_tor),
        ("pre-policy", &tor6, PLAIN_6, &by_tor),
        ("pre-policy", &tor6, REJECTED_6, &by_tor),
        ("post-policy", &tor, PLAIN, &by_tor),
        ("post-policy", &tor, REJECTED, &None),
        ("post-policy", &tor, PREPENDED, &longer),
        ("post-policy", &tor6, PLAIN_6, &by_tor),
        ("post-policy", &tor6, REJECTED_6, &None),
        ("loc-rib", &"0.0.0.0".to_owned(), PLAIN, &by_tor),
        ("loc-rib", &"0.0.0.0".to_owned(), REJECTED, &None),
        ("loc-rib", &"0.0.0.0".to_owned(), PREPENDED, &longer),
        ("loc-rib", &"0.0.0.0".to_owned(), PLAIN_6, &by_tor),
        ("loc-rib", &"0.0.0.0".to_owned(), &node.pod_cidrs[0], &own),
        ("loc-rib", &"0.0.0.0".to_owned(), &node.pod_cidrs[1], &own),
        ("adj-rib-out", &tor, &node.pod_cidrs[0], &told),
        ("adj-rib-out", &tor, PLAIN, &None),
        ("adj-rib-out", &tor6, &node.pod_cidrs[1], &told),
    ];
    for (table, peer, prefix, wanted) in expected {
        let goal = format!("{prefix} is {wanted:?} in {table} of {peer}");
        watched
            .wait_heard(&collector, &goal, |heard| path(heard, table, peer, prefix) == *wanted)?;
    }
    let heard = collector.heard()?;
    ensure!(heard.name == "node1", "{heard:?}");
    ensure!(heard.up.iter().eq(["0.0.0.0", &tor, &tor6]), "{:?}", heard.up);
    statistics(&watched, &collector, &tor)?;

    watched.bird.withdraw(&[PLAIN.parse()?, PLAIN_6.parse()?])?;
    for (table, peer, prefix) in [
        ("pre-policy", &tor, PLAIN),
        ("post-policy", &tor, PLAIN),
        ("post-policy", &tor6, PLAIN_6),
        ("loc-rib", &"0.0.0.0".to_owned(), PLAIN),
        ("loc-rib", &"0.0.0.0".to_owned(), PLAIN_6),
    ] {
        let goal = format!("{prefix} is withdrawn from {table} of {peer}");
        watched
            .wait_heard(&collector, &goal, |heard| path(heard, table, peer, prefix).is_none())?;
    }
    watched.bird.shut_down(node.ipv4.into(), "for good")?;
    watched.wait_heard(&collector, "the end of a session, by the peer", |heard| {
        heard.downs == [(tor.clone(), 3)] && !heard.up.contains(&tor)
    })?;
    ends(&watched, &collector, &tor6)
}

/// Numbers of routes come every two seconds.
fn statistics(watched: &Watched, collector: &Collector, tor: &str) -> Result<()> {
    // RFC 7854 §4.8: 7 Adj-RIBs-In, 8 Loc-RIB; RFC 8671 §6.2: 15 Adj-RIBs-Out.
    for (peer, kind, wanted) in [(tor, 7, 3), (tor, 15, 1), ("0.0.0.0", 8, 5)] {
        let goal = format!("statistic {kind} of {peer} is {wanted}");
        watched.wait_heard(collector, &goal, |heard| {
            heard.statistics.get(&(peer.to_owned(), kind)) == Some(&wanted)
        })?;
    }
    Ok(())
}

/// Without the annotation the station is told goodbye, and the command and the metrics forget it.
fn ends(watched: &Watched, collector: &Collector, tor6: &str) -> Result<()> {
    let row = watched.row()?;
    ensure!(row["state"] == "current" && row["dumps"] == 1, "{row}");
    let agent = &watched.lab.agents[0];
    let up = agent.metrics("ocicat_bmp_up")?;
    ensure!(up.len() == 1 && up[0].ends_with(" 1"), "{up:?}");
    ensure!(collector.heard()?.up.contains(tor6), "the other session stands");
    let objects = &watched.lab.spec.objects;
    let configuration = objects.iter().find(|object| object.kind() == "BGPConfiguration");
    let mut configuration = configuration.context("no BGPConfiguration")?.clone();
    configuration.0["metadata"]["annotations"] = json!({});
    watched.lab.store.put(&configuration)?;
    watched.wait_heard(collector, "a termination", |heard| heard.terminated)?;
    until(PATIENCE, "the station is forgotten", || Ok(agent.metrics("ocicat_bmp_up")?.is_empty()))?;
    ensure!(agent.ask(&["bgp", "bmp", "-o", "json"])?.trim() == "[]");
    Ok(())
}

fn again(bench: &Bench) -> Result<()> {
    let mut watched = Watched::start(bench, &station().to_string())?;
    let mut collector = watched.collector()?;
    watched.announce(&[PLAIN, REJECTED, PLAIN_6])?;
    let tor = watched.lab.spec.nodes[0].gateway_ipv4().to_string();
    let by_tor = Some("64500".to_owned());
    watched.wait_heard(&collector, "the routes", |heard| {
        path(heard, "loc-rib", "0.0.0.0", PLAIN) == by_tor
            && path(heard, "loc-rib", "0.0.0.0", PLAIN_6) == by_tor
            && path(heard, "pre-policy", &tor, REJECTED) == by_tor
    })?;
    collector.kill()?;
    until(PATIENCE, "the agent misses the collector", || Ok(watched.row()?["state"] == "down"))?;
    // What happens meanwhile is part of what is told again.
    watched.bird.withdraw(&[PLAIN.parse()?])?;
    watched.announce(&[PREPENDED])?;
    let before = collector.heard()?;
    collector.restart(&watched.lab.router)?;
    let took = watched.wait_heard(&collector, "everything again", |heard| {
        heard.connections > before.connections
            && path(heard, "loc-rib", "0.0.0.0", PLAIN).is_none()
            && path(heard, "loc-rib", "0.0.0.0", PLAIN_6) == by_tor
            && path(heard, "pre-policy", &tor, REJECTED) == by_tor
            && path(heard, "post-policy", &tor, PREPENDED).as_deref() == Some("64999 64500")
            && path(heard, "pre-policy", &tor, PLAIN).is_none()
    })?;
    println!("     {took:?} from its start until it knew everything again");
    let row = watched.row()?;
    ensure!(row["dumps"].as_u64() >= Some(2) && row["state"] == "current", "{row}");
    let log = std::fs::read_to_string(watched.lab.agents[0].log())?;
    for line in ["BMP station connected", "no connection with the BMP station"] {
        ensure!(log.contains(line), "no {line:?} in the log");
    }
    Ok(())
}

fn never_reads(bench: &Bench) -> Result<()> {
    const MANY: u32 = 50_000;
    let mut watched = Watched::start(bench, &station().to_string())?;
    let silent = Silent::start(&watched.lab.router, station())?;
    let prefix = |number: u32| -> Result<IpNet> {
        Ok(Ipv4Net::new(Ipv4Addr::from(0x1400_0000 + (number << 8)), 24)?.into())
    };
    let prefixes: Vec<IpNet> = (0..MANY).map(prefix).collect::<Result<_>>()?;
    let routes: Vec<_> = prefixes.iter().map(|prefix| Announcement::plain(*prefix)).collect();
    let wait = |watched: &Watched, wanted: u64| {
        until(PATIENCE, &format!("{wanted} paths are accepted"), || {
            Ok(watched.accepted_and_flaps()?.0 == wanted)
        })
    };
    until(PATIENCE, "the station is connected", || Ok(watched.row()?["state"] != "down"))?;
    let (mut memory, mut most_waiting) = (Vec::new(), 0);
    for _ in 0..6 {
        watched.bird.announce(&routes)?;
        wait(&watched, MANY.into())?;
        memory.push(watched.lab.agents[0].memory()?);
        let waiting = watched.row()?["waiting"].as_u64().context("no number")?;
        most_waiting = most_waiting.max(waiting);
        watched.bird.withdraw(&prefixes)?;
        wait(&watched, 0)?;
    }
    let row = watched.row()?;
    println!("     memory with the table {memory:?} KiB; at most {most_waiting} changes waited");
    // Each path as heard and as chosen, and what is allowed beside.
    let allowed = 2 * u64::from(MANY) + 65_536;
    ensure!((1..=allowed).contains(&most_waiting), "{most_waiting} changes waited");
    ensure!(row["swamped"].as_u64() > Some(0), "the connection was never given up: {row}");
    ensure!(silent.count() > 1, "the station was not dialled again");
    ensure!(watched.accepted_and_flaps()?.1 == 0, "a session was lost");
    let (first, most) = (memory[0], memory.iter().copied().max().unwrap_or_default());
    ensure!(most < first + 32 * 1024, "the memory grows: {memory:?} KiB");
    Ok(())
}
