//! A peer that says that it is alive, and takes nothing (RFC 9687).

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use socket2::{Domain, Socket, Type};

use super::super::Bench;
use super::{EVIL, EVIL_AS, Siege, read_message, wire};
use crate::progress::format_duration;
use crate::router::Presence;
use crate::wait::until;

/// The node's hold time with the peer is half of it.
const LIMIT: Duration = Duration::from_secs(6);
/// More routes than the buffers of both ends and of the agent have room for.
const ROUTES: u32 = 30_000;

fn network(number: u32) -> String {
    let [_, b, c, d] = (number << 4).to_be_bytes();
    format!("10.{}.{c}.{d}/28", 64 + b)
}

pub(super) fn takes_nothing(bench: &Bench) -> Result<()> {
    let siege = Siege::begin(bench)?;
    let mut evil = siege.object(EVIL)?;
    evil.0["metadata"]["annotations"] = json!({
        "bgp.ocicat.io/send-hold-time": format!("{}s", LIMIT.as_secs()),
        "bgp.ocicat.io/passive": "true",
    });
    siege.lab.store.put(&evil)?;
    let mut stream = narrow(&siege)?;
    stream.write_all(&wire::open(EVIL_AS, siege.evil, 3))?;
    stream.write_all(&wire::keepalive())?;
    let heard = (read_message(&mut stream)?, read_message(&mut stream)?);
    ensure!(heard == (1, 4), "messages of types {heard:?}");
    let mut voice = stream.try_clone()?;
    // Until the agent has closed the connection.
    thread::spawn(move || {
        while voice.write_all(&wire::keepalive()).is_ok() {
            thread::sleep(Duration::from_millis(500));
        }
    });
    let mut node = siege.object("node1")?;
    let own = siege.lab.spec.nodes[0].pod_cidrs.clone();
    let all: Vec<String> = own.iter().cloned().chain((0..ROUTES).map(network)).collect();
    node.0["spec"]["podCIDRs"] = json!(all);
    siege.lab.store.put(&node)?;
    let start = Instant::now();
    let last = network(ROUTES - 1);
    siege.honest.wait_route(&last, Presence::There, Duration::from_secs(15))?;
    until(3 * LIMIT, "a peer that takes nothing is lost", || {
        let row = siege.row(EVIL)?;
        let error = row["lastError"].as_str().unwrap_or_default();
        Ok(row["state"] != "Established" && error.contains("has taken nothing for 6 s"))
    })
    .with_context(|| format!("{:?}", siege.row(EVIL)))?;
    let took = start.elapsed();
    println!("     after {}", format_duration(took));
    ensure!(took >= LIMIT, "after {took:?}");
    let peer: serde_json::Value = siege.lab.agents[0].json(&["bgp", "peer", EVIL])?;
    ensure!(peer["lastErrorCode"] == json!([8, 0]) && peer["lastErrorBy"] == "us", "{peer}");
    siege.end(64 * 1024)
}

/// A connection with little room for what comes.
fn narrow(siege: &Siege) -> Result<TcpStream> {
    let to = SocketAddr::new(siege.node.into(), 179);
    let socket = siege.here().enter(|| Socket::new(Domain::IPV4, Type::STREAM, None))??;
    socket.set_recv_buffer_size(4096)?;
    socket.connect_timeout(&to.into(), Duration::from_secs(2))?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.set_write_timeout(Some(Duration::from_secs(5)))?;
    Ok(stream)
}
