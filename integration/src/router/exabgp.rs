//! ExaBGP: a speaker without a table. What it hears it writes down as JSON; the table is what
//! follows from that.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ipnet::IpNet;
use nix::sys::stat::Mode;
use nix::unistd::Pid;
use serde_json::Value;

use super::{
    Announcement, Config, Daemon, Family, Hops, Neighbor, Process, Restart, Route, Session, Table,
    program, tail,
};
use crate::netns::Netns;
use crate::wait::until;

/// A running ExaBGP.
#[derive(Debug)]
pub(crate) struct ExaBgp {
    netns: Netns,
    process: Process,
    directory: PathBuf,
    config: Config,
    /// Commands go in here. Open for both directions, so that the pipe never ends.
    commands: File,
}

/// What a journal tells.
#[derive(Debug, Default)]
struct Heard {
    up: BTreeMap<IpAddr, bool>,
    routes: BTreeMap<(IpAddr, IpNet), Route>,
}

impl ExaBgp {
    /// Starts ExaBGP in `netns`. Files go to `directory`.
    pub(crate) fn start(netns: &Netns, directory: &Path, config: &Config) -> Result<Self> {
        fs::create_dir_all(directory)?;
        let commands = open_pipe(directory)?;
        fs::write(directory.join("exabgp.conf"), render(config, directory))?;
        let process = launch(netns, directory)?;
        let (netns, directory) = (netns.handle()?, directory.to_owned());
        let daemon = Self { netns, process, directory, config: config.clone(), commands };
        daemon.wait_ready()?;
        Ok(daemon)
    }

    fn wait_ready(&self) -> Result<()> {
        until(Duration::from_secs(10), "ExaBGP starts its process", || {
            Ok(self.directory.join("heard").exists())
        })
        .with_context(|| tail(&self.directory.join("exabgp.log")))
        .map(drop)
    }

    fn tell(&mut self, line: &str) -> Result<()> {
        Ok(writeln!(self.commands, "{line}")?)
    }

    fn heard(&self) -> Result<Heard> {
        let journal = fs::read_to_string(self.directory.join("heard"))?;
        let mut heard = Heard::default();
        // The last line may be half written.
        let lines = journal.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
        for line in lines {
            let json = serde_json::from_str(line).with_context(|| line.to_owned())?;
            heard.read(&json).with_context(|| line.to_owned())?;
        }
        Ok(heard)
    }

    /// The neighbors that are told about a prefix, and the next hop that they are told.
    fn audience(&self, prefix: &IpNet) -> Vec<(IpAddr, String)> {
        let family = Family::of(prefix);
        let all = self.config.neighbors.iter().filter(|one| one.families.contains(&family));
        let next_hop = |one: &Neighbor| {
            one.next_hop_across(prefix).map_or("self".to_owned(), |address| address.to_string())
        };
        all.map(|one| (one.address, next_hop(one))).collect()
    }
}

impl Daemon for ExaBgp {
    fn sessions(&self) -> Result<Vec<Session>> {
        let heard = self.heard()?;
        let session = |neighbor: &Neighbor| {
            let established = heard.up.get(&neighbor.address).copied().unwrap_or(false);
            let (address, as_number) = (neighbor.address, neighbor.as_number);
            Session { address, as_number, established, received: 0 }
        };
        Ok(self.config.neighbors.iter().map(session).collect())
    }

    fn learned(&self) -> Result<Table> {
        let mut table = Table::new();
        for ((_, prefix), route) in self.heard()?.routes {
            table.entry(prefix).or_default().push(route);
        }
        Ok(table)
    }

    fn announce(&mut self, routes: &[Announcement]) -> Result<()> {
        for route in routes {
            ensure!(
                route.as_path.is_empty()
                    && route.route_targets.is_empty()
                    && route.only_to_customer.is_none(),
                "AS path and route targets: only by BIRD and FRR"
            );
            let mut attributes = String::new();
            if !route.communities.is_empty() {
                write!(attributes, " community [{}]", route.communities.join(" "))?;
            }
            if !route.large_communities.is_empty() {
                write!(attributes, " large-community [{}]", route.large_communities.join(" "))?;
            }
            for (neighbor, next_hop) in self.audience(&route.prefix) {
                let prefix = route.prefix;
                let line = format!(
                    "neighbor {neighbor} announce route {prefix} next-hop {next_hop}{attributes}"
                );
                self.tell(&line)?;
            }
        }
        Ok(())
    }

    fn withdraw(&mut self, prefixes: &[IpNet]) -> Result<()> {
        for prefix in prefixes {
            for (neighbor, next_hop) in self.audience(prefix) {
                let line =
                    format!("neighbor {neighbor} withdraw route {prefix} next-hop {next_hop}");
                self.tell(&line)?;
            }
        }
        Ok(())
    }

    fn refresh(&mut self, neighbor: IpAddr) -> Result<()> {
        let all = self.config.neighbors.clone();
        for one in all.iter().filter(|one| one.address == neighbor) {
            for family in &one.families {
                let family = family.name();
                self.tell(&format!("neighbor {neighbor} announce route-refresh {family} unicast"))?;
            }
        }
        Ok(())
    }

    fn shut_down(&mut self, neighbor: IpAddr, text: &str) -> Result<()> {
        anyhow::bail!("ExaBGP cannot send a text: {neighbor}, {text:?}")
    }

    fn bring_up(&mut self, neighbor: IpAddr) -> Result<()> {
        anyhow::bail!("ExaBGP cannot take a session down: {neighbor}")
    }

    fn kill(&mut self) -> Result<()> {
        self.process.kill()?;
        // Its table ends with it. Its helper has to see the end of its pipe, or it takes what is
        // meant for the next one.
        fs::remove_file(self.directory.join("heard"))?;
        fs::remove_file(self.directory.join("commands"))?;
        self.commands = open_pipe(&self.directory)?;
        Ok(())
    }

    fn process(&self) -> Pid {
        self.process.id()
    }

    fn restart(&mut self, restart: Restart) -> Result<()> {
        let (Restart::Cold | Restart::Graceful) = restart;
        self.process = launch(&self.netns, &self.directory)?;
        self.wait_ready()
    }
}

/// Makes the pipe, and opens both of its ends.
fn open_pipe(directory: &Path) -> Result<File> {
    let pipe = directory.join("commands");
    nix::unistd::mkfifo(&pipe, Mode::S_IRUSR | Mode::S_IWUSR)?;
    Ok(File::options().read(true).write(true).open(&pipe)?)
}

fn launch(netns: &Netns, directory: &Path) -> Result<Process> {
    let mut command = program("exabgp", "exabgp")?;
    let settings = [
        ("exabgp.daemon.user", "root"),
        ("exabgp.daemon.drop", "false"),
        ("exabgp.log.level", "INFO"),
        ("exabgp.api.cli", "false"),
        ("exabgp.api.ack", "false"),
        ("exabgp.reactor.speed", "0.1"),
    ];
    command.envs(settings).arg(directory.join("exabgp.conf"));
    Process::start(netns, &mut command, &directory.join("exabgp.log"))
}

fn render(config: &Config, directory: &Path) -> String {
    let directory = directory.display();
    let mut text = format!(
        "process journal {{
  run /bin/sh -c 'cat {directory}/commands & exec cat >> {directory}/heard';
  encoder json;
}}
"
    );
    for neighbor in &config.neighbors {
        write_neighbor(&mut text, config, neighbor).expect("writing to a string");
    }
    text
}

fn write_neighbor(text: &mut String, config: &Config, neighbor: &Neighbor) -> std::fmt::Result {
    let Neighbor { local, address, as_number, hold_time, .. } = neighbor;
    writeln!(
        text,
        "neighbor {address} {{
  router-id {};
  local-address {local};
  local-as {};
  peer-as {as_number};
  hold-time {hold_time};",
        config.router_id, config.as_number
    )?;
    match neighbor.hops {
        Hops::Usual => {}
        // Sent with the highest TTL; what comes in is asked for the same.
        Hops::Gtsm => writeln!(text, "  outgoing-ttl 255;\n  incoming-ttl 255;")?,
    }
    if let Some(password) = &neighbor.password {
        writeln!(text, "  md5-password '{password}';")?;
    }
    write!(text, "  capability {{ asn4 enable; route-refresh enable; ")?;
    if let Some(time) = neighbor.graceful_restart {
        write!(text, "graceful-restart {time}; ")?;
    }
    if neighbor.needs_extended_next_hop() {
        write!(text, "nexthop enable; ")?;
    }
    writeln!(text, "}}")?;
    if neighbor.needs_extended_next_hop() {
        writeln!(text, "  nexthop {{ ipv4 unicast ipv6; }}")?;
    }
    write!(text, "  family {{ ")?;
    for family in &neighbor.families {
        write!(text, "{} unicast; ", family.name())?;
    }
    writeln!(
        text,
        "}}
  api {{ processes [ journal ]; neighbor-changes; receive {{ parsed; update; }} }}
}}"
    )
}

impl Heard {
    /// Takes in one line of the journal.
    fn read(&mut self, json: &Value) -> Result<()> {
        let Some(peer) = json["neighbor"]["address"]["peer"].as_str() else { return Ok(()) };
        let peer: IpAddr = peer.parse()?;
        match json["type"].as_str() {
            Some("state") => {
                let state = &json["neighbor"]["state"];
                if state != "up" {
                    self.routes.retain(|(from, _), _| *from != peer);
                }
                self.up.insert(peer, state == "up");
                Ok(())
            }
            Some("update") => self.read_update(peer, &json["neighbor"]["message"]["update"]),
            _ => Ok(()),
        }
    }

    fn read_update(&mut self, peer: IpAddr, update: &Value) -> Result<()> {
        for prefixes in update["withdraw"].as_object().into_iter().flat_map(|all| all.values()) {
            for prefix in prefixes.as_array().into_iter().flatten() {
                self.routes.remove(&(peer, nlri(prefix)?));
            }
        }
        for hops in update["announce"].as_object().into_iter().flat_map(|all| all.values()) {
            for (next_hop, prefixes) in hops.as_object().into_iter().flatten() {
                let route = read_attributes(next_hop.parse()?, &update["attribute"]);
                for prefix in prefixes.as_array().into_iter().flatten() {
                    self.routes.insert((peer, nlri(prefix)?), route.clone());
                }
            }
        }
        Ok(())
    }
}

fn nlri(json: &Value) -> Result<IpNet> {
    let text = json["nlri"].as_str().or_else(|| json.as_str()).context("no prefix")?;
    Ok(text.parse()?)
}

fn read_attributes(next_hop: IpAddr, json: &Value) -> Route {
    let mut route = Route::by(next_hop);
    let numbers = |value: &Value| -> Vec<u32> {
        let list = value.as_array().into_iter().flatten();
        list.filter_map(|number| number.as_u64()?.try_into().ok()).collect()
    };
    let tuples = |key: &str| {
        let list = json[key].as_array().into_iter().flatten();
        let text =
            |tuple: &Value| numbers(tuple).iter().map(u32::to_string).collect::<Vec<_>>().join(":");
        let mut texts: Vec<String> = list.map(text).collect();
        texts.sort();
        texts
    };
    route.as_path = numbers(&json["as-path"]);
    route.local_pref = json["local-preference"].as_u64().and_then(|pref| pref.try_into().ok());
    route.communities = tuples("community");
    route.large_communities = tuples("large-community");
    route
}
