//! OpenBGPD, as portable as it is: on Linux it talks and programs no kernel.

use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ipnet::IpNet;
use nix::unistd::Pid;
use serde_json::Value;

use super::{
    Announcement, Config, Daemon, Family, Hops, Neighbor, Process, Restart, Route, Session, Table,
    program, tail,
};
use crate::netns::{Netns, feed, output};
use crate::wait::until;

/// The daemon's own path, as the bgpd of FRR has the same name.
const BGPD: &str = "/usr/sbin/bgpd";

/// Where its processes lock themselves in; the package's unit makes it when it starts.
const CHROOT: &str = "/run/openbgpd";

/// A running OpenBGPD.
#[derive(Debug)]
pub(crate) struct OpenBgpd {
    netns: Netns,
    process: Process,
    directory: PathBuf,
    neighbors: Vec<Neighbor>,
}

impl OpenBgpd {
    /// Starts bgpd in `netns` and waits until it answers. Files go to `directory`.
    pub(crate) fn start(netns: &Netns, directory: &Path, config: &Config) -> Result<Self> {
        fs::create_dir_all(directory)?;
        let path = directory.join("bgpd.conf");
        fs::write(&path, render(config, directory))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        let process = launch(netns, directory)?;
        let (netns, neighbors) = (netns.handle()?, config.neighbors.clone());
        let daemon = Self { netns, process, directory: directory.to_owned(), neighbors };
        daemon.wait_ready()?;
        Ok(daemon)
    }

    fn wait_ready(&self) -> Result<()> {
        let answers = || Ok(self.ask(&["show", "summary"]).is_ok());
        until(Duration::from_secs(10), "OpenBGPD answers", answers)
            .with_context(|| tail(&self.directory.join("bgpd.log")))
            .map(drop)
    }

    fn bgpctl(&self, arguments: &[&str]) -> Result<Command> {
        let mut bgpctl = program("bgpctl", "openbgpd")?;
        bgpctl.arg("-s").arg(self.directory.join("bgpd.sock")).args(arguments);
        Ok(bgpctl)
    }

    fn ask(&self, arguments: &[&str]) -> Result<String> {
        let mut bgpctl = self.bgpctl(arguments)?;
        self.netns.enter(|| output(&mut bgpctl))?
    }

    fn bulk(&self, verb: &str, prefixes: impl Iterator<Item = IpNet>) -> Result<()> {
        let lines: String = prefixes.map(|prefix| format!("{prefix}\n")).collect();
        let mut bgpctl = self.bgpctl(&["network", "bulk", verb])?;
        self.netns.enter(|| feed(&mut bgpctl, &lines))?.map(drop)
    }

    fn neighbor(&self, address: IpAddr, verb: &[&str]) -> Result<()> {
        let address = address.to_string();
        self.ask(&[&["neighbor", &address], verb].concat()).map(drop)
    }
}

impl Daemon for OpenBgpd {
    fn sessions(&self) -> Result<Vec<Session>> {
        let json: Value = serde_json::from_str(&self.ask(&["-j", "show", "summary"])?)?;
        let sessions = json["neighbors"].as_array().into_iter().flatten().map(|one| {
            let text = |key: &str| one[key].as_str().unwrap_or_default();
            Ok(Session {
                address: text("remote_addr").parse()?,
                as_number: text("remote_as").parse()?,
                established: text("state") == "Established",
                received: 0,
            })
        });
        sessions.collect()
    }

    fn learned(&self) -> Result<Table> {
        let json: Value = serde_json::from_str(&self.ask(&["-j", "show", "rib", "detail"])?)?;
        let mut table = Table::new();
        for path in json["rib"].as_array().into_iter().flatten() {
            if path["announced"] == true {
                continue;
            }
            let prefix = path["prefix"].as_str().context("a path without a prefix")?;
            table.entry(prefix.parse()?).or_default().push(read_path(path)?);
        }
        Ok(table)
    }

    fn announce(&mut self, routes: &[Announcement]) -> Result<()> {
        let mut plain = Vec::new();
        for route in routes {
            ensure!(
                route.as_path.is_empty()
                    && route.route_targets.is_empty()
                    && route.only_to_customer.is_none(),
                "AS path and route targets: only by BIRD and FRR"
            );
            let across = self.neighbors.iter().find_map(|one| one.next_hop_across(&route.prefix));
            let (communities, large) = (&route.communities, &route.large_communities);
            if across.is_none() && communities.is_empty() && large.is_empty() {
                plain.push(route.prefix);
                continue;
            }
            let (prefix, across) =
                (route.prefix.to_string(), across.map(|address| address.to_string()));
            let mut arguments = vec!["network", "add", &prefix];
            arguments.extend(across.iter().flat_map(|address| ["nexthop", address]));
            arguments.extend(communities.iter().flat_map(|text| ["community", text]));
            arguments.extend(large.iter().flat_map(|text| ["large-community", text]));
            self.ask(&arguments)?;
        }
        self.bulk("add", plain.into_iter())
    }

    fn withdraw(&mut self, prefixes: &[IpNet]) -> Result<()> {
        self.bulk("delete", prefixes.iter().copied())
    }

    fn refresh(&mut self, neighbor: IpAddr) -> Result<()> {
        self.neighbor(neighbor, &["refresh"])
    }

    fn shut_down(&mut self, neighbor: IpAddr, text: &str) -> Result<()> {
        self.neighbor(neighbor, &["down", text])
    }

    fn bring_up(&mut self, neighbor: IpAddr) -> Result<()> {
        self.neighbor(neighbor, &["up"])
    }

    fn kill(&mut self) -> Result<()> {
        // The children notice and end.
        self.process.kill()
    }

    fn process(&self) -> Pid {
        self.process.id()
    }

    fn restart(&mut self, restart: Restart) -> Result<()> {
        // It keeps nothing, and says so in its capability.
        let (Restart::Cold | Restart::Graceful) = restart;
        self.process = launch(&self.netns, &self.directory)?;
        self.wait_ready()
    }
}

impl Drop for OpenBgpd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        // Not empty or not ours to remove: then it stays.
        let _ = fs::remove_dir(CHROOT);
    }
}

/// One before it may still be ending: of its processes that with the sockets ends last.
fn wait_port(netns: &Netns) -> Result<()> {
    until(Duration::from_secs(10), "nobody listens for BGP any more", || {
        let free = netns.enter(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, 179)))?;
        Ok(free.map(|_| true)?)
    })
    .map(drop)
}

fn launch(netns: &Netns, directory: &Path) -> Result<Process> {
    wait_port(netns)?;
    fs::create_dir_all(CHROOT)?;
    let mut command = program(BGPD, "openbgpd")?;
    command.args(["-d", "-v", "-f"]).arg(directory.join("bgpd.conf"));
    Process::start(netns, &mut command, &directory.join("bgpd.log"))
}

fn render(config: &Config, directory: &Path) -> String {
    let mut text = format!(
        "AS {}
router-id {}
connect-retry 1
holdtime min 3
fib-update no
socket \"{}/bgpd.sock\"
listen on 0.0.0.0
listen on ::
",
        config.as_number,
        config.router_id,
        directory.display()
    );
    for neighbor in &config.neighbors {
        write_neighbor(&mut text, neighbor).expect("writing to a string");
    }
    text.push_str("allow from any\nallow to any\n");
    text
}

fn write_neighbor(text: &mut String, neighbor: &Neighbor) -> std::fmt::Result {
    let Neighbor { local, address, as_number, hold_time, .. } = neighbor;
    writeln!(
        text,
        "neighbor {address} {{
  remote-as {as_number}
  local-address {local}
  holdtime {hold_time}"
    )?;
    for (family, word) in [(Family::Ipv4, "IPv4"), (Family::Ipv6, "IPv6")] {
        let what = if neighbor.families.contains(&family) { "unicast" } else { "none" };
        writeln!(text, "  announce {word} {what}")?;
    }
    match neighbor.hops {
        Hops::Usual => {}
        Hops::Gtsm => writeln!(text, "  ttl-security yes")?,
    }
    if let Some(password) = &neighbor.password {
        writeln!(text, "  tcp md5sig password {password}")?;
    }
    let restart = if neighbor.graceful_restart.is_some() { "yes" } else { "no" };
    writeln!(text, "  announce restart {restart}\n  announce enhanced refresh yes")?;
    if neighbor.add_path {
        writeln!(text, "  announce add-path recv yes\n  announce add-path send all")?;
    }
    if let Some(limit) = neighbor.max_prefixes {
        writeln!(text, "  max-prefix {limit} restart 1")?;
    }
    writeln!(text, "}}")
}

fn read_path(json: &Value) -> Result<Route> {
    let next_hop = json["exit_nexthop"].as_str().context("a path without a next hop")?;
    let mut route = Route::by(next_hop.parse()?);
    let path = json["aspath"].as_str().unwrap_or_default();
    route.as_path = path.split(' ').filter_map(|number| number.parse().ok()).collect();
    route.local_pref = json["localpref"].as_u64().and_then(|pref| pref.try_into().ok());
    let texts = |key: &str| {
        let list = json[key].as_array().into_iter().flatten();
        let mut texts: Vec<String> =
            list.filter_map(|text| text.as_str().map(str::to_owned)).collect();
        texts.sort();
        texts
    };
    route.communities = texts("communities");
    route.large_communities = texts("large_communities");
    route.path_id = json["path_id"].as_u64().and_then(|id| id.try_into().ok());
    route.best = json["best"] == true;
    route.stale = json["stale"] == true;
    Ok(route)
}
