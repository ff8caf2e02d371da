//! A configured peer that means harm, and strangers: memory stays bounded, the other session does not
//! notice, and what happened is told.

mod send_hold;
mod wire;

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

use super::{Bench, Test};
use crate::lab::Lab;
use crate::netns::Netns;
use crate::object::Object;
use crate::probe::LONG;
use crate::progress::format_duration;
use crate::router::{Announcement, Config, Daemon, Neighbor, Presence, Program};
use crate::spec::{Numbering, Spec, rack};
use crate::wait::until;

pub(super) const TESTS: &[Test] = &[
    Test::new("hostile: garbage in the place of an OPEN is refused, and named", garbage),
    Test::new("hostile: thousands of connections that say nothing exhaust nothing", half_open)
        .limit(120),
    Test::new(
        "hostile: an UPDATE with a broken attribute costs its routes alone, and is counted",
        broken,
    ),
    Test::new(
        "hostile: a path that nearly fills a message is used, and told only if it fits",
        paths,
    ),
    Test::new("hostile: a million UPDATEs that change attributes leave no memory behind", churn)
        .limit(240),
    Test::new("hostile: 500 sessions that end after their OPEN", flapping).limit(120),
    Test::new("hostile: a peer that never reads holds nobody up", never_reads).limit(120),
    Test::new(
        "hostile: a peer that says it is alive and takes nothing is lost after the send hold time",
        send_hold::takes_nothing,
    ),
];

const EVIL_AS: u32 = 64_666;
const HONEST: &str = "tor-r1";
const EVIL: &str = "evil";

/// A node that talks to an honest speaker and to us.
#[derive(Debug)]
struct Siege {
    lab: Lab,
    honest: Box<dyn Daemon>,
    node: Ipv4Addr,
    evil: Ipv4Addr,
    /// The agent's memory before anything happened, in KiB.
    before: u64,
}

/// A node; the second one's place is where we are.
fn spec() -> Spec {
    let mut spec = rack(2, Numbering::PerRack);
    let unwanted = ["node2", "tor-r1-v6", "tor-r2", "tor-r2-v6"];
    spec.objects.retain(|object| !unwanted.contains(&object.name()));
    spec.objects.push(Object(json!({
        "apiVersion": "projectcalico.org/v3",
        "kind": "BGPPeer",
        "metadata": { "name": EVIL },
        "spec": { "peerIP": spec.nodes[1].ipv4, "asNumber": EVIL_AS },
    })));
    spec
}

impl Siege {
    fn begin(bench: &Bench) -> Result<Self> {
        Self::beside(bench, Program::Bird)
    }

    fn beside(bench: &Bench, program: Program) -> Result<Self> {
        let mut lab = bench.bare(spec())?;
        let [near, far] = [0, 1].map(|index| lab.spec.nodes[index].clone());
        for (index, gateway, network) in [
            (0, near.gateway_ipv4(), far.networks()[0].clone()),
            (1, far.gateway_ipv4(), near.networks()[0].clone()),
        ] {
            lab.agents[index].netns().ip(&format!("route add {network} via {gateway}\n"))?;
        }
        // The client is a stranger; the way back to it is there without BGP.
        let client = lab.spec.client.ipv4.trunc();
        let way = format!("route add {client} via {}\n", near.gateway_ipv4());
        lab.agents[0].netns().ip(&way)?;
        let local = near.gateway_ipv4();
        let neighbor = Neighbor::new(local.into(), near.ipv4.into(), near.as_number);
        let as_number = lab.spec.router.as_number;
        let config = Config::new(as_number, local, vec![neighbor]);
        let directory = lab.directory().join("tor");
        let mut honest = program.start(&lab.router, &directory, &config)?;
        lab.agents[0].talk_only();
        lab.agents[0].start()?;
        honest.wait_established(Duration::from_secs(30))?;
        honest.announce(&[Announcement::plain("198.51.100.0/24".parse()?)])?;
        let before = lab.agents[0].memory()?;
        let siege = Self { lab, honest, node: near.ipv4, evil: far.ipv4, before };
        until(LONG, "the honest peer's route is there", || {
            Ok(siege.row(HONEST)?["families"][0]["accepted"] == 1)
        })?;
        Ok(siege)
    }

    fn here(&self) -> &Netns {
        self.lab.agents[1].netns()
    }

    /// A connection to the agent, from a machine with any source.
    fn connect(&self, from: &Netns) -> Result<TcpStream> {
        let to = SocketAddr::new(self.node.into(), 179);
        let stream = from.enter(|| TcpStream::connect_timeout(&to, Duration::from_secs(5)))??;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.set_write_timeout(Some(Duration::from_secs(20)))?;
        Ok(stream)
    }

    /// A session from our address that stands. The agent may refuse for a while what came too fast.
    fn session(&self) -> Result<TcpStream> {
        let mut session = None;
        until(Duration::from_secs(60), "the agent takes a session", || {
            let mut stream = self.connect(self.here())?;
            stream.write_all(&wire::open(EVIL_AS, self.evil, 0))?;
            stream.write_all(&wire::keepalive())?;
            let (open, keepalive) = (read_message(&mut stream)?, read_message(&mut stream)?);
            ensure!((open, keepalive) == (1, 4), "messages of types {open} and {keepalive}");
            session = Some(stream);
            Ok(self.row(EVIL)?["state"] == "Established")
        })?;
        session.context("no session")
    }

    /// An object of the lab, to be changed.
    fn object(&self, name: &str) -> Result<Object> {
        let mut all = self.lab.spec.objects.iter();
        let object = all.find(|object| object.name() == name);
        object.cloned().with_context(|| format!("no object {name}"))
    }

    /// What the agent says of a peer.
    fn row(&self, name: &str) -> Result<Value> {
        let rows: Vec<Value> = self.lab.agents[0].json(&["bgp", "peers"])?;
        rows.into_iter().find(|row| row["name"] == name).with_context(|| format!("no peer {name}"))
    }

    /// The sum of a peer's samples of a metric with a label.
    fn metric(&self, name: &str, peer: &str, label: &str) -> Result<u64> {
        let samples = self.lab.agents[0].metrics(name)?;
        let peer = format!("peer=\"{peer}\"");
        let ours = samples.iter().filter(|line| line.contains(&peer) && line.contains(label));
        Ok(ours.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum())
    }

    /// The honest session never fell, its routes are there, news still pass, and memory is bounded.
    fn end(mut self, grown_at_most: u64) -> Result<()> {
        let row = self.row(HONEST)?;
        ensure!(row["state"] == "Established" && row["flaps"] == 0, "{row}");
        ensure!(row["families"][0]["accepted"] == 1, "{row}");
        let start = Instant::now();
        self.honest.announce(&[Announcement::plain("203.0.113.0/24".parse()?)])?;
        until(LONG, "news of the honest peer pass", || {
            Ok(self.row(HONEST)?["families"][0]["accepted"] == 2)
        })?;
        let took = start.elapsed();
        let cidr = self.lab.spec.nodes[0].pod_cidrs[0].clone();
        self.honest.wait_route(&cidr, Presence::There, LONG)?;
        let after = self.lab.agents[0].memory()?;
        println!(
            "     memory {} KiB before, {after} KiB after; news in {}",
            self.before,
            format_duration(took)
        );
        ensure!(after < self.before + grown_at_most, "grown from {} to {after} KiB", self.before);
        Ok(())
    }
}

/// The type of the next message.
fn read_message(stream: &mut TcpStream) -> Result<u8> {
    let mut header = [0; 19];
    stream.read_exact(&mut header)?;
    let length = usize::from(u16::from_be_bytes([header[16], header[17]]));
    let mut body = vec![0; length.checked_sub(19).context("a short message")?];
    stream.read_exact(&mut body)?;
    Ok(header[18])
}

/// Reads and forgets until the end.
fn drain(mut stream: TcpStream) {
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        loop {
            match stream.read(&mut buffer) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
    });
}

/// The same noise each time.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..length).map(|_| next()).collect()
}

fn garbage(bench: &Bench) -> Result<()> {
    let siege = Siege::begin(bench)?;
    for seed in 0..100 {
        for from in [siege.here(), &siege.lab.client] {
            let Ok(mut stream) = siege.connect(from) else { continue };
            // It may be closed while we write.
            let _ = stream.write_all(&noise(seed, 16 * 1024));
            let _ = stream.read(&mut [0; 64]);
        }
    }
    // The quarantine after an error is over in the end.
    until(Duration::from_secs(40), "the reason is named", || {
        let row = siege.row(EVIL)?;
        let reason = row["lastError"].as_str().unwrap_or_default().to_owned();
        if let Ok(mut stream) = siege.connect(siege.here()) {
            let _ = stream.write_all(&noise(7, 4096));
            let _ = stream.read(&mut [0; 64]);
        }
        Ok(reason.contains("synchronized") || reason.contains("marker"))
    })
    .with_context(|| format!("{:?}", siege.row(EVIL)))?;
    ensure!(siege.metric("ocicat_bgp_session_last_error", EVIL, "reason")? == 1);
    siege.end(32 * 1024)
}

fn half_open(bench: &Bench) -> Result<()> {
    let siege = Siege::begin(bench)?;
    let to = SocketAddr::new(siege.node.into(), 179);
    let files = siege.lab.agents[0].open_files()?;
    let mut held = Vec::new();
    let mut most = files;
    for round in 0..20 {
        for from in [siege.here(), &siege.lab.client] {
            let more = from.enter(|| -> Result<Vec<Socket>> {
                let mut sockets = Vec::new();
                for _ in 0..100 {
                    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
                    socket.set_nonblocking(true)?;
                    match socket.connect(&to.into()) {
                        Ok(()) => {}
                        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
                        Err(error) => return Err(error).context("connecting"),
                    }
                    sockets.push(socket);
                }
                Ok(sockets)
            })??;
            held.extend(more);
        }
        thread::sleep(Duration::from_millis(50));
        most = most.max(siege.lab.agents[0].open_files()?);
        ensure!(siege.row(HONEST)?["state"] == "Established", "after round {round}");
    }
    println!(
        "     {} connections held; open files of the agent {files}, at most {most}",
        held.len()
    );
    ensure!(most < files + 300, "open files grew from {files} to {most}");
    drop(held);
    // Who comes now is heard.
    let session = siege.session()?;
    drop(session);
    siege.end(32 * 1024)
}

fn broken(bench: &Bench) -> Result<()> {
    let siege = Siege::begin(bench)?;
    let mut session = siege.session()?;
    drain(session.try_clone()?);
    let good = wire::update(&[EVIL_AS], siege.evil, &[], [203, 0, 1]);
    session.write_all(&good)?;
    session.write_all(&wire::update(&[EVIL_AS], siege.evil, &[], [203, 0, 2]))?;
    let accepted =
        || -> Result<Option<u64>> { Ok(siege.row(EVIL)?["families"][0]["accepted"].as_u64()) };
    until(LONG, "both routes are there", || Ok(accepted()? == Some(2)))?;
    // RFC 7606 §7.1: an ORIGIN that does not exist takes the route away, and nothing else.
    let mut bad = good;
    let origin =
        bad.windows(4).position(|octets| octets == [0x40, 1, 1, 0]).context("no ORIGIN")?;
    bad[origin + 3] = 77;
    session.write_all(&bad)?;
    until(LONG, "its route is gone", || Ok(accepted()? == Some(1)))?;
    let row = siege.row(EVIL)?;
    ensure!(row["state"] == "Established" && row["flaps"] == 0, "{row}");
    ensure!(row["faults"] == 1, "{row}");
    ensure!(row["lastFault"].as_str().is_some_and(|fault| fault.contains("ORIGIN")), "{row}");
    ensure!(siege.metric("ocicat_bgp_update_faults_total", EVIL, "")? == 1);
    siege.end(32 * 1024)
}

fn paths(bench: &Bench) -> Result<()> {
    // BIRD shows no more than the beginning of a long path.
    let siege = Siege::beside(bench, Program::GoBgp)?;
    // What others told us goes on to the honest peer.
    let filter = Object(json!({
        "apiVersion": "projectcalico.org/v3",
        "kind": "BGPFilter",
        "metadata": { "name": "transit" },
        "spec": { "exportV4": [{ "action": "Accept", "source": "RemotePeers" }] },
    }));
    siege.lab.store.put(&filter)?;
    let mut honest = siege.object(HONEST)?;
    honest.0["spec"]["filters"] = json!(["transit"]);
    siege.lab.store.put(&honest)?;
    let mut session = siege.session()?;
    drain(session.try_clone()?);
    let path = |length: u32| -> Vec<u32> {
        std::iter::once(EVIL_AS).chain((1..length).map(|number| 100_000 + number)).collect()
    };
    // 40 octets are not the path's; each segment of 255 numbers takes 1,022.
    let longest = (800..=1020)
        .rev()
        .find(|length| {
            wire::update(&path(*length), siege.evil, &[], [203, 0, 1]).len() <= wire::MAX
        })
        .context("no path fits")?;
    let too_long = "203.0.1.0/24";
    session.write_all(&wire::update(&path(longest), siege.evil, &[], [203, 0, 1]))?;
    session.write_all(&wire::update(&path(900), siege.evil, &[], [203, 0, 2]))?;
    session.write_all(&wire::update(&path(3), siege.evil, &[], [203, 0, 3]))?;
    until(LONG, "the agent has all three", || Ok(siege.row(EVIL)?["families"][0]["accepted"] == 3))
        .with_context(|| format!("{:?}", siege.row(EVIL)))?;
    siege.honest.wait_route("203.0.3.0/24", Presence::There, LONG)?;
    let table = siege.honest.learned()?;
    let long = table.get(&"203.0.2.0/24".parse()?).context("the path of 900 is not told")?;
    ensure!(long[0].as_path.len() == 901, "{} numbers", long[0].as_path.len());
    // RFC 4271 §9.2: one that does not fit is not told; by our own number it grew by four octets.
    ensure!(!table.contains_key(&too_long.parse()?), "the honest peer has {too_long}");
    // What was told before and fits no more is taken back, not left as it was.
    session.write_all(&wire::update(&path(longest), siege.evil, &[], [203, 0, 3]))?;
    siege.honest.wait_route("203.0.3.0/24", Presence::Gone, LONG)?;
    ensure!(siege.row(EVIL)?["state"] == "Established", "{}", siege.row(EVIL)?);
    siege.end(32 * 1024)
}

fn churn(bench: &Bench) -> Result<()> {
    const COUNT: u32 = 1_000_000;
    let siege = Siege::begin(bench)?;
    let mut session = siege.session()?;
    drain(session.try_clone()?);
    let start = Instant::now();
    let mut buffer = Vec::with_capacity(1 << 20);
    let mut most = siege.before;
    for number in 0..COUNT {
        let net = [203, 0, u8::try_from(number % 100).expect("below 100")];
        // Each with attributes that were never seen before.
        buffer.extend(wire::update(&[EVIL_AS], siege.evil, &[0xfe00_0000 | number], net));
        if buffer.len() > 1 << 19 || number + 1 == COUNT {
            session.write_all(&buffer).context("the agent does not read")?;
            buffer.clear();
            most = most.max(siege.lab.agents[0].memory()?);
        }
    }
    let heard = || siege.metric("ocicat_bgp_messages_total", EVIL, "type=\"update\"");
    until(Duration::from_secs(120), "every UPDATE is counted", || Ok(heard()? >= COUNT.into()))
        .with_context(|| format!("{:?}", heard()))?;
    let took = start.elapsed();
    println!("     {COUNT} UPDATEs in {}, memory at most {most} KiB", format_duration(took));
    let row = siege.row(EVIL)?;
    ensure!(row["families"][0]["accepted"] == 100, "{row}");
    let last = 0xfe00_0000_u32 | (COUNT - 1);
    let last = format!("{}:{}", last >> 16, last & 0xffff);
    let routes = siege.lab.agents[0].ask(&["bgp", "routes", "-o", "json"])?;
    ensure!(routes.contains(&last), "the last attributes are not the ones in force");
    ensure!(most < siege.before + 64 * 1024, "grown from {} to {most} KiB", siege.before);
    siege.end(32 * 1024)
}

fn flapping(bench: &Bench) -> Result<()> {
    const TIMES: u32 = 500;
    let siege = Siege::begin(bench)?;
    let (mut opened, mut refused) = (0, 0);
    for _ in 0..TIMES {
        let mut stream = siege.connect(siege.here())?;
        let wrote = stream
            .write_all(&wire::open(EVIL_AS, siege.evil, 9))
            .and_then(|()| stream.write_all(&wire::keepalive()));
        match wrote.map_err(anyhow::Error::from).and_then(|()| read_message(&mut stream)) {
            Ok(1) => opened += 1,
            Ok(other) => bail!("a message of type {other}"),
            Err(_) => refused += 1,
        }
    }
    println!("     {opened} answered by an OPEN, {refused} refused");
    ensure!(opened > 0, "not one was answered");
    let counted = siege.metric("ocicat_bgp_messages_total", EVIL, "type=\"open\"")?;
    ensure!(counted >= opened, "{counted} OPENs counted, {opened} answered");
    drop(siege.session()?);
    siege.end(32 * 1024)
}

fn never_reads(bench: &Bench) -> Result<()> {
    let siege = Siege::begin(bench)?;
    let session = siege.session()?;
    let mut node = siege.object("node1")?;
    let own = siege.lab.spec.nodes[0].pod_cidrs.clone();
    let mut most = siege.before;
    // Each round is 4,000 routes that come and go: some hundred KiB for a peer.
    for round in 0..10_u32 {
        let many =
            (0..4000).map(|number| format!("10.{}.{}.0/24", 64 + number / 256, number % 256));
        let all: Vec<String> = own.iter().cloned().chain(many).collect();
        node.0["spec"]["podCIDRs"] = json!(all);
        siege.lab.store.put(&node)?;
        siege
            .honest
            .wait_route("10.79.159.0/24", Presence::There, Duration::from_secs(15))
            .with_context(|| format!("round {round}"))?;
        node.0["spec"]["podCIDRs"] = json!(own);
        siege.lab.store.put(&node)?;
        siege
            .honest
            .wait_route("10.79.159.0/24", Presence::Gone, Duration::from_secs(15))
            .with_context(|| format!("round {round}"))?;
        most = most.max(siege.lab.agents[0].memory()?);
    }
    println!("     memory at most {most} KiB");
    ensure!(siege.row(EVIL)?["state"] == "Established", "{}", siege.row(EVIL)?);
    drop(session);
    siege.end(48 * 1024)
}
