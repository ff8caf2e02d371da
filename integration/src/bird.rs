//! BIRD as a router with many routes, which GoBGP's client could only add one by one.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result};

use crate::netns::{Netns, output};
use crate::setup::find;
use crate::spec::NodeSpec;

/// A running BIRD with one neighbor.
#[derive(Debug)]
pub(crate) struct Bird {
    netns: Netns,
    process: Child,
    socket: std::path::PathBuf,
}

/// The prefix with this number: /24s from 20.0.0.0 on.
pub(crate) fn prefix(number: u32) -> String {
    format!("{}/24", Ipv4Addr::from_bits(0x1400_0000 + (number << 8)))
}

impl Bird {
    /// Starts BIRD in `netns`; it will send `count` routes to the node.
    pub(crate) fn start(
        netns: &Netns,
        directory: &Path,
        as_number: u32,
        node: &NodeSpec,
        count: u32,
    ) -> Result<Self> {
        fs::create_dir_all(directory)?;
        let config = directory.join("bird.conf");
        fs::write(&config, configuration(as_number, node, count))?;
        let socket = directory.join("bird.ctl");
        let log = File::create(directory.join("bird.log"))?;
        let program = find("bird").context("no bird in PATH: apt-get install bird2")?;
        let mut command = Command::new(program);
        command.arg("-f").arg("-c").arg(&config).arg("-s").arg(&socket);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let process = netns.spawn(&mut command)?;
        Ok(Self { netns: netns.handle()?, process, socket })
    }

    /// Withdraws all routes, as a router that loses its uplink.
    pub(crate) fn withdraw(&self) -> Result<()> {
        self.tell("disable")
    }

    /// Announces them again.
    pub(crate) fn announce(&self) -> Result<()> {
        self.tell("enable")
    }

    fn tell(&self, verb: &str) -> Result<()> {
        let mut birdc = Command::new(find("birdc").context("no birdc in PATH")?);
        birdc.arg("-s").arg(&self.socket).args([verb, "many"]);
        self.netns.enter(|| output(&mut birdc))?.map(drop)
    }
}

impl Drop for Bird {
    fn drop(&mut self) {
        // Fails if it is dead already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn configuration(as_number: u32, node: &NodeSpec, count: u32) -> String {
    let mut text = format!(
        "router id 10.0.0.1;
protocol device {{ }}
protocol bgp node {{
  local {gateway} as {as_number};
  neighbor {} as {};
  connect delay time 1;
  ipv4 {{ import all; export all; next hop self; }};
}}
protocol static many {{
  ipv4;
",
        node.ipv4,
        node.as_number,
        gateway = node.gateway_ipv4()
    );
    for number in 0..count {
        writeln!(text, "  route {} blackhole;", prefix(number)).expect("writing to a string");
    }
    text.push_str("}\n");
    text
}
