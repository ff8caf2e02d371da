//! Two leaves and two spines, BFD on every link: what flows lose when one of them dies without a word.
//!
//! ```text
//! host - core - spine1, spine2 - leaf1, leaf2 - node1, node2       (each with each beside it)
//! ```

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use serde_json::json;

use super::super::{Bench, Test, expect_soon, pod};
use super::ESTABLISHED;
use super::transit::annotate;
use crate::lab::Lab;
use crate::netns::Netns;
use crate::object::Object;
use crate::probe::{LONG, Outcome, Protocol, Stream, StreamReport};
use crate::progress::format_duration;
use crate::router::{Announcement, Config, Daemon, Neighbor, Program};
use crate::spec::{Numbering, Spec, rack};
use crate::underlay::connect_port;
use crate::wait::until;

pub(super) const TESTS: &[Test] = &[Test::new(
    "interop: BIRD, two leaves and two spines with BFD: one that dies is left within the detection time",
    leaves_and_spines,
)
.limit(90)];

/// 50 ms x 3, at both ends of each link.
const DETECTION: Duration = Duration::from_millis(150);
/// What a busy machine may add: to notice, to tell, to write the kernel.
const SLACK: Duration = Duration::from_millis(350);

/// Whatever is a router here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Leaf(u8),
    Spine(u8),
    Core,
}

const PLACES: [Place; 5] =
    [Place::Leaf(1), Place::Leaf(2), Place::Spine(1), Place::Spine(2), Place::Core];

/// The networks of the host behind the core.
const HOST: [&str; 2] = ["198.51.100.0/24", "2001:db8:51::/64"];

impl Place {
    fn name(self) -> String {
        match self {
            Self::Leaf(number) => format!("leaf{number}"),
            Self::Spine(number) => format!("spine{number}"),
            Self::Core => "core".to_owned(),
        }
    }

    fn as_number(self) -> u32 {
        match self {
            Self::Leaf(number) => 64_499 + u32::from(number),
            // Not two, so that no leaf leads from one spine to the other.
            Self::Spine(_) => 64_600,
            Self::Core => 64_700,
        }
    }

    fn router_id(self) -> Ipv4Addr {
        let number = PLACES.iter().position(|place| *place == self).unwrap_or_default();
        Ipv4Addr::new(10, 255, 0, u8::try_from(number).expect("there are five"))
    }
}

/// An address on the link with these numbers, in both families.
fn on(link: (u8, u8), host: &str) -> [IpAddr; 2] {
    let (kind, number) = link;
    let texts = [format!("10.{kind}.{number}.{host}"), format!("fd00:1{kind}:{number}::{host}")];
    texts.map(|text| text.parse().expect("an address"))
}

/// The links: `(0, n)` and `(1, n)` of node n with the leaves, then those above. The lower end is 2,
/// the upper one 1; a node's is 10.
fn wires() -> Vec<(Place, Place, (u8, u8))> {
    let mut wires = Vec::new();
    for spine in [1, 2] {
        for leaf in [1, 2] {
            wires.push((Place::Leaf(leaf), Place::Spine(spine), (2, 10 * leaf + spine)));
        }
        wires.push((Place::Spine(spine), Place::Core, (3, spine)));
    }
    wires
}

#[derive(Debug)]
struct Clos {
    lab: Lab,
    host: Netns,
    /// In the order of [`PLACES`].
    routers: Vec<(Netns, Box<dyn Daemon>)>,
}

/// Two nodes, each with two peers more on the second leaf.
fn spec() -> Spec {
    let mut spec = rack(2, Numbering::PerRack);
    for number in [1, 2] {
        for (family, address) in ["v4", "v6"].iter().zip(on((1, number), "1")) {
            spec.objects.push(Object(json!({
                "apiVersion": "projectcalico.org/v3",
                "kind": "BGPPeer",
                "metadata": { "name": format!("leaf2-{number}-{family}") },
                "spec": {
                    "peerIP": address,
                    "asNumber": Place::Leaf(2).as_number(),
                    "node": format!("node{number}"),
                    // The node's own address is on the link to the other leaf.
                    "sourceAddress": "None",
                },
            })));
        }
    }
    let peers = spec.objects.iter().filter(|object| object.kind() == "BGPPeer");
    let names: Vec<String> = peers.map(|peer| peer.name().to_owned()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    annotate(&mut spec, &names, "bfd", "50ms x 3");
    annotate(&mut spec, &names, "connect-retry", "1s");
    spec
}

impl Clos {
    fn create(bench: &Bench) -> Result<Self> {
        let lab = bench.bare(spec())?;
        let mut machines = vec![lab.router.handle()?];
        for place in &PLACES[1..] {
            machines.push(Netns::create(&bench.run.netns(&place.name()))?);
        }
        let host = Netns::create(&bench.run.netns("host"))?;
        for netns in machines.iter().chain(lab.agents.iter().map(crate::agent::Agent::netns)) {
            for (key, value) in [
                ("net.ipv4.ip_forward", "1"),
                ("net.ipv6.conf.all.forwarding", "1"),
                // Each flow goes its own way, not each pair of machines.
                ("net.ipv4.fib_multipath_hash_policy", "1"),
                ("net.ipv6.fib_multipath_hash_policy", "1"),
            ] {
                netns.sysctl(key, value)?;
            }
        }
        let at = |place: Place| PLACES.iter().position(|one| *one == place).context("no place");
        for number in [1, 2] {
            let (leaf, name) = (&machines[at(Place::Leaf(2))?], format!("node{number}"));
            let node = lab.agents[usize::from(number) - 1].netns();
            connect_port(leaf, &name, node, "eth1")?;
            address(leaf, &name, on((1, number), "1"))?;
            address(node, "eth1", on((1, number), "10"))?;
        }
        for (below, above, link) in wires() {
            let [low, high] = [&machines[at(below)?], &machines[at(above)?]];
            connect_port(low, &above.name(), high, &below.name())?;
            address(low, &above.name(), on(link, "2"))?;
            address(high, &below.name(), on(link, "1"))?;
        }
        let core = &machines[at(Place::Core)?];
        connect_port(core, "host", &host, "eth0")?;
        core.ip("addr add 198.51.100.1/24 dev host\naddr add 2001:db8:51::1/64 dev host nodad\n")?;
        host.ip(
            "addr add 198.51.100.10/24 dev eth0\naddr add 2001:db8:51::10/64 dev eth0 nodad\n\
                 route add default via 198.51.100.1\nroute add default via 2001:db8:51::1\n",
        )?;
        let mut routers = Vec::new();
        for (place, netns) in PLACES.into_iter().zip(machines) {
            let directory = lab.directory().join(place.name());
            let daemon = Program::Bird.start(&netns, &directory, &config(&lab, place))?;
            routers.push((netns, daemon));
        }
        let networks = HOST.map(|net| Announcement::plain(net.parse().expect("a prefix")));
        routers[at(Place::Core)?].1.announce(&networks)?;
        Ok(Self { lab, host, routers })
    }

    fn router(&self, place: Place) -> Result<&(Netns, Box<dyn Daemon>)> {
        let mut all = PLACES.iter().zip(&self.routers);
        Ok(all.find(|(one, _)| **one == place).context("no such place")?.1)
    }

    /// Whether all traffic goes over the two leaves and the two spines, but for the one that is dead.
    fn goes_over_all_but(&self, dead: Option<Place>) -> Result<bool> {
        let lives = |place: Place| dead != Some(place);
        let leaves: Vec<u8> = [1, 2].into_iter().filter(|leaf| lives(Place::Leaf(*leaf))).collect();
        let spines: Vec<u8> =
            [1, 2].into_iter().filter(|spine| lives(Place::Spine(*spine))).collect();
        for family in [0, 1] {
            for (index, other) in [(0, 1), (1, 0)] {
                let number = u8::try_from(index + 1)?;
                let netns = self.lab.agents[index].netns();
                let wanted: BTreeSet<_> =
                    leaves.iter().map(|leaf| on((leaf - 1, number), "1")[family]).collect();
                let pods = &self.lab.spec.nodes[other].pod_cidrs[family];
                if gateways(netns, HOST[family])? != wanted || gateways(netns, pods)? != wanted {
                    return Ok(false);
                }
            }
            let pods = &self.lab.spec.nodes[0].pod_cidrs[family];
            for leaf in &leaves {
                let wanted: BTreeSet<_> =
                    spines.iter().map(|spine| on((2, 10 * leaf + spine), "1")[family]).collect();
                if gateways(&self.router(Place::Leaf(*leaf))?.0, HOST[family])? != wanted {
                    return Ok(false);
                }
            }
            for spine in &spines {
                let wanted: BTreeSet<_> =
                    leaves.iter().map(|leaf| on((2, 10 * leaf + spine), "2")[family]).collect();
                if gateways(&self.router(Place::Spine(*spine))?.0, pods)? != wanted {
                    return Ok(false);
                }
            }
            let wanted: BTreeSet<_> =
                spines.iter().map(|spine| on((3, *spine), "2")[family]).collect();
            if gateways(&self.router(Place::Core)?.0, pods)? != wanted {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn wait_over_all_but(&self, dead: Option<Place>, limit: Duration) -> Result<Duration> {
        until(limit, &format!("all ways are used but those over {dead:?}"), || {
            self.goes_over_all_but(dead)
        })
        .with_context(|| self.lab.agents[0].log_tail())
    }

    /// Steady flows from the host to both pods and between them, in both families: enough that some
    /// go over each of the routers.
    fn streams(&self) -> Result<Vec<Stream>> {
        let pods = &self.lab.pods;
        let pairs =
            [(&self.host, &pods[0]), (&self.host, &pods[1]), (&pods[0].sandbox.netns, &pods[1])];
        let mut streams = Vec::new();
        for (from, to) in pairs {
            for address in &to.addresses {
                for _ in 0..4 {
                    streams.push(Stream::start(from, (*address, 7).into(), 200)?);
                }
            }
        }
        Ok(streams)
    }
}

fn address(netns: &Netns, interface: &str, [ipv4, ipv6]: [IpAddr; 2]) -> Result<()> {
    netns.ip(&format!(
        "addr add {ipv4}/24 dev {interface}\naddr add {ipv6}/64 dev {interface} nodad\n"
    ))
}

/// The next hops of a route in the kernel; none, if it is not there.
fn gateways(netns: &Netns, prefix: &str) -> Result<BTreeSet<IpAddr>> {
    let family = if prefix.contains(':') { "-6" } else { "-4" };
    let shown = netns.run("ip", &[family, "route", "show", prefix])?;
    let words: Vec<&str> = shown.split_whitespace().collect();
    let hops = words.windows(2).filter(|pair| pair[0] == "via");
    Ok(hops.filter_map(|pair| pair[1].parse().ok()).collect())
}

fn config(lab: &Lab, place: Place) -> Config {
    let mut neighbors = Vec::new();
    let mut add = |local: [IpAddr; 2], remote: [IpAddr; 2], as_number: u32| {
        for (local, remote) in local.into_iter().zip(remote) {
            neighbors.push(Neighbor { bfd: true, ..Neighbor::new(local, remote, as_number) });
        }
    };
    if let Place::Leaf(leaf) = place {
        for (number, node) in (1..).zip(&lab.spec.nodes) {
            let link = (leaf - 1, number);
            add(on(link, "1"), on(link, "10"), node.as_number);
        }
    }
    for (below, above, link) in wires() {
        if below == place {
            add(on(link, "2"), on(link, "1"), above.as_number());
        }
        if above == place {
            add(on(link, "1"), on(link, "2"), below.as_number());
        }
    }
    Config::new(place.as_number(), place.router_id(), neighbors)
}

/// All that comes to a router, or leaves it, is lost, and no link goes down: as with a crashed line
/// card.
const DARK: &str = "table inet dark { \
    chain in { type filter hook prerouting priority -400; drop; }; \
    chain out { type filter hook postrouting priority 400; drop; }; }";

fn leaves_and_spines(bench: &Bench) -> Result<()> {
    let mut clos = Clos::create(bench)?;
    clos.lab.start_agents()?;
    for (_, daemon) in &clos.routers {
        daemon.wait_established(ESTABLISHED).with_context(|| clos.lab.agents[0].log_tail())?;
    }
    clos.wait_over_all_but(None, LONG)?;
    for (name, node) in [("a", "node1"), ("b", "node2")] {
        clos.lab.attach(pod(name, node))?;
    }
    clos.lab.serve(&[(Protocol::Udp, 7)])?;
    expect_soon(&mut clos.lab, &[("a", "b", "7/UDP", Outcome::Reached)])?;
    for place in [Place::Leaf(1), Place::Spine(1)] {
        goes_dark(&clos, place)?;
    }
    hangs(&clos, Place::Leaf(2))
}

/// The losses of all flows, and the longest silence of one.
fn losses(what: &str, streams: Vec<Stream>) -> Result<(u32, Duration)> {
    let reports = Stream::finish_all(streams)?;
    let lost: u32 = reports.iter().map(StreamReport::lost).sum();
    let hit = reports.iter().filter(|report| report.lost() != 0).count();
    let sent: u32 = reports.iter().map(|report| report.sent).sum();
    let silence = reports.iter().map(|report| report.longest_silence).max().unwrap_or_default();
    println!(
        "         {what}: {hit} of {} flows hit, {lost} of {sent} packets lost, longest silence {}",
        reports.len(),
        format_duration(silence)
    );
    Ok((lost, silence))
}

fn goes_dark(clos: &Clos, place: Place) -> Result<()> {
    let (netns, _) = clos.router(place)?;
    let streams = clos.streams()?;
    let start = Instant::now();
    netns.run("nft", &[DARK])?;
    let left = clos.wait_over_all_but(Some(place), LONG);
    let took = start.elapsed();
    std::thread::sleep(Duration::from_millis(300));
    let losses = losses(&format!("{} goes dark", place.name()), streams);
    netns.run("nft", &["delete table inet dark"])?;
    println!("         all others have left it after {}", format_duration(left?.max(took)));
    let (lost, silence) = losses?;
    ensure!(lost != 0, "no flow went over it: nothing was tried");
    ensure!(silence < DETECTION + SLACK, "silence of {silence:?}");
    clos.wait_over_all_but(None, ESTABLISHED).map(drop)
}

/// The program hangs, and the router forwards on: it is left, and nothing is lost.
fn hangs(clos: &Clos, place: Place) -> Result<()> {
    let process = clos.router(place)?.1.process();
    let streams = clos.streams()?;
    kill(process, Signal::SIGSTOP)?;
    let left = clos.wait_over_all_but(Some(place), LONG);
    std::thread::sleep(Duration::from_millis(300));
    let losses = losses(&format!("{} hangs", place.name()), streams);
    kill(process, Signal::SIGCONT)?;
    left?;
    let (lost, _) = losses?;
    ensure!(lost == 0, "{lost} packets were lost, though it forwarded on");
    clos.wait_over_all_but(None, ESTABLISHED).map(drop)
}
