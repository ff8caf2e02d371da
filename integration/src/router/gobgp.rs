//! GoBGP as the top-of-rack router.
//!
//! gobgpd keeps routes and programs no kernel. A switch has an ASIC that follows its routing table;
//! here a second process (`lab mirror`, [`crate::fib`]) copies GoBGP's best routes into the kernel of
//! the router's namespace.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use ipnet::IpNet;
use nix::unistd::Pid;
use serde::Deserialize;
use serde_json::Value;

use super::{
    Announcement, Config, Daemon, Family, Hops, Neighbor, Process, Restart, Route, Session, Table,
    program,
};
use crate::netns::Netns;
use crate::wait::until;

/// A running gobgpd.
#[derive(Debug)]
pub(crate) struct GoBgp {
    netns: Netns,
    process: Process,
    config: PathBuf,
    neighbors: Vec<Neighbor>,
}

fn to_toml(config: &Config) -> String {
    let mut toml = format!(
        "[global.config]\nas = {}\nrouter-id = \"{}\"\n",
        config.as_number, config.router_id
    );
    for neighbor in &config.neighbors {
        write_neighbor(&mut toml, neighbor).expect("writing to a string");
    }
    toml
}

fn write_neighbor(toml: &mut String, neighbor: &Neighbor) -> std::fmt::Result {
    let Neighbor { address, as_number, hold_time, .. } = neighbor;
    writeln!(
        toml,
        "[[neighbors]]
[neighbors.config]
neighbor-address = \"{address}\"
peer-as = {as_number}"
    )?;
    if let Some(password) = &neighbor.password {
        writeln!(toml, "auth-password = \"{password}\"")?;
    }
    writeln!(
        toml,
        "[neighbors.timers.config]
connect-retry = 1
idle-hold-time-after-reset = 1
hold-time = {hold_time}
keepalive-interval = {}",
        hold_time / 3
    )?;
    match neighbor.hops {
        Hops::Usual => {}
        Hops::Gtsm => {
            writeln!(toml, "[neighbors.ttl-security.config]\nenabled = true\nttl-min = 255")?;
        }
    }
    if let Some(seconds) = neighbor.graceful_restart {
        writeln!(
            toml,
            "[neighbors.graceful-restart.config]\nenabled = true\nrestart-time = {seconds}"
        )?;
    }
    if neighbor.long_lived.is_some() {
        writeln!(toml, "long-lived-enabled = true")?;
    }
    for family in &neighbor.families {
        writeln!(
            toml,
            "[[neighbors.afi-safis]]\n[neighbors.afi-safis.config]\nafi-safi-name = \"{}-unicast\"",
            family.name()
        )?;
        if neighbor.graceful_restart.is_some() {
            writeln!(toml, "[neighbors.afi-safis.mp-graceful-restart.config]\nenabled = true")?;
        }
        if let Some(seconds) = neighbor.long_lived {
            writeln!(
                toml,
                "[neighbors.afi-safis.long-lived-graceful-restart.config]
enabled = true
restart-time = {seconds}"
            )?;
        }
        if neighbor.add_path {
            writeln!(toml, "[neighbors.afi-safis.add-paths.config]\nreceive = true\nsend-max = 8")?;
        }
        if let Some(limit) = neighbor.max_prefixes {
            writeln!(toml, "[neighbors.afi-safis.prefix-limit.config]\nmax-prefixes = {limit}")?;
        }
    }
    Ok(())
}

impl GoBgp {
    /// Starts gobgpd in `netns` and waits until it answers. Files go to `directory`.
    pub(crate) fn start(netns: &Netns, directory: &Path, config: &Config) -> Result<Self> {
        fs::create_dir_all(directory)?;
        let path = directory.join("gobgpd.toml");
        fs::write(&path, to_toml(config))?;
        let process = launch(netns, &path, &[])?;
        let (netns, neighbors) = (netns.handle()?, config.neighbors.clone());
        let daemon = Self { netns, process, config: path, neighbors };
        daemon.wait_ready()?;
        Ok(daemon)
    }

    fn wait_ready(&self) -> Result<()> {
        until(Duration::from_secs(10), "gobgpd answers", || Ok(self.ask(&["global"]).is_ok()))?;
        Ok(())
    }

    fn ask(&self, arguments: &[&str]) -> Result<String> {
        self.netns.run("gobgp", arguments)
    }

    /// Originates a prefix. Without a next hop the daemon gives each peer its own address.
    pub(crate) fn add(&self, prefix: &str, next_hop: Option<IpAddr>) -> Result<()> {
        let next_hop = next_hop.map(|address| address.to_string());
        let family = Family::of(&prefix.parse()?);
        let mut arguments = vec!["global", "rib", "add", "-a", family.name(), prefix];
        if let Some(next_hop) = &next_hop {
            arguments.extend(["nexthop", next_hop]);
        }
        self.ask(&arguments).map(drop)
    }

    /// Takes a prefix back.
    pub(crate) fn remove(&self, prefix: &str) -> Result<()> {
        let family = Family::of(&prefix.parse()?);
        self.ask(&["global", "rib", "del", "-a", family.name(), prefix]).map(drop)
    }

    /// All paths of a family, best first.
    pub(crate) fn table(&self, family: Family) -> Result<Table> {
        table(&self.netns, family)
    }

    fn add_one(&self, route: &Announcement) -> Result<()> {
        ensure!(
            route.as_path.is_empty()
                && route.route_targets.is_empty()
                && route.only_to_customer.is_none(),
            "AS path and route targets: only by BIRD and FRR"
        );
        let prefix = route.prefix.to_string();
        let family = Family::of(&route.prefix).name();
        let communities = route.communities.join(",");
        let large_communities = route.large_communities.join(",");
        let mut arguments = vec!["global", "rib", "add", "-a", family, &prefix];
        // Of an IPv6 prefix on an IPv4 session it makes an IPv4-mapped next hop by itself.
        let across = self.neighbors.iter().find_map(|one| one.next_hop_across(&route.prefix));
        let across = across.filter(IpAddr::is_ipv6).filter(|_| family == Family::Ipv6.name());
        let next_hop = across.map(|address| address.to_string());
        if let Some(next_hop) = &next_hop {
            arguments.extend(["nexthop", next_hop]);
        }
        if !communities.is_empty() {
            arguments.extend(["community", &communities]);
        }
        if !large_communities.is_empty() {
            arguments.extend(["large-community", &large_communities]);
        }
        self.ask(&arguments).map(drop)
    }
}

impl Daemon for GoBgp {
    fn sessions(&self) -> Result<Vec<Session>> {
        let neighbors: Vec<NeighborJson> = serde_json::from_str(&self.ask(&["-j", "neighbor"])?)?;
        Ok(neighbors.into_iter().map(Session::from).collect())
    }

    fn learned(&self) -> Result<Table> {
        let mut all = Table::new();
        for family in Family::BOTH {
            all.extend(self.table(family)?);
        }
        // GoBGP's own paths are among them.
        for paths in all.values_mut() {
            paths.retain(|path| !path.next_hop.is_unspecified());
        }
        all.retain(|_, paths| !paths.is_empty());
        Ok(all)
    }

    fn announce(&mut self, routes: &[Announcement]) -> Result<()> {
        // One by one: of what `gobgp mrt inject` brings at once a part gets lost.
        routes.iter().try_for_each(|route| self.add_one(route))
    }

    fn withdraw(&mut self, prefixes: &[IpNet]) -> Result<()> {
        prefixes.iter().try_for_each(|prefix| self.remove(&prefix.to_string()))
    }

    fn refresh(&mut self, neighbor: IpAddr) -> Result<()> {
        bail!("GoBGP keeps what it heard and asks nobody, neither {neighbor}")
    }

    fn shut_down(&mut self, neighbor: IpAddr, text: &str) -> Result<()> {
        // GoBGP 3 takes a text for `disable` too, and does not send it.
        self.ask(&["neighbor", &neighbor.to_string(), "reset", "--reason", text]).map(drop)
    }

    fn bring_up(&mut self, _neighbor: IpAddr) -> Result<()> {
        // After a reset it stays idle for half a minute, whatever it is told.
        self.kill()?;
        self.restart(Restart::Cold)
    }

    fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    fn process(&self) -> Pid {
        self.process.id()
    }

    fn restart(&mut self, restart: Restart) -> Result<()> {
        let flags: &[&str] = match restart {
            Restart::Cold => &[],
            Restart::Graceful => &["-r"],
        };
        self.process = launch(&self.netns, &self.config, flags)?;
        self.wait_ready()
    }
}

fn launch(netns: &Netns, config: &Path, flags: &[&str]) -> Result<Process> {
    let mut command = program("gobgpd", "gobgpd")?;
    command.args(["--disable-stdlog", "--pprof-disable", "--api-hosts", "127.0.0.1:50051", "-f"]);
    Process::start(netns, command.arg(config).args(flags), &config.with_extension("log"))
}

/// GoBGP's table of a family, asked from inside `netns`.
pub(crate) fn table(netns: &Netns, family: Family) -> Result<Table> {
    let json = netns.run("gobgp", &["-j", "global", "rib", "-a", family.name()])?;
    let paths: BTreeMap<IpNet, Vec<PathJson>> =
        if json.trim().is_empty() { BTreeMap::new() } else { serde_json::from_str(&json)? };
    paths
        .into_iter()
        .map(|(prefix, paths)| {
            let paths = paths.into_iter().map(Route::try_from).collect::<Result<Vec<_>>>()?;
            Ok((prefix, paths))
        })
        .collect()
}

#[derive(Deserialize)]
struct NeighborJson {
    state: StateJson,
    #[serde(default)]
    afi_safis: Vec<AfiSafiJson>,
}

#[derive(Deserialize)]
struct StateJson {
    neighbor_address: IpAddr,
    peer_asn: u32,
    #[serde(default)]
    session_state: u8,
}

#[derive(Deserialize)]
struct AfiSafiJson {
    #[serde(default)]
    state: CountsJson,
}

#[derive(Default, Deserialize)]
struct CountsJson {
    #[serde(default)]
    received: u64,
}

/// GoBGP's number of the state Established.
const ESTABLISHED: u8 = 6;

impl From<NeighborJson> for Session {
    fn from(json: NeighborJson) -> Self {
        Self {
            address: json.state.neighbor_address,
            as_number: json.state.peer_asn,
            established: json.state.session_state == ESTABLISHED,
            received: json.afi_safis.iter().map(|family| family.state.received).sum(),
        }
    }
}

#[derive(Deserialize)]
struct PathJson {
    #[serde(default)]
    best: bool,
    #[serde(default)]
    stale: bool,
    attrs: Vec<Value>,
    /// Who told it; GoBGP itself if absent.
    #[serde(rename = "neighbor-ip")]
    neighbor: Option<IpAddr>,
}

impl TryFrom<PathJson> for Route {
    type Error = anyhow::Error;

    fn try_from(json: PathJson) -> Result<Self> {
        let next_hop = json.attrs.iter().find_map(|attribute| attribute["nexthop"].as_str());
        let Some(next_hop) = next_hop else { bail!("a path without a next hop: {:?}", json.attrs) };
        // What it originates goes nowhere, whatever next hop others are told.
        let own = json.neighbor.is_none();
        let mut route = Self::by(next_hop.parse()?);
        if own {
            route.next_hop = std::net::Ipv4Addr::UNSPECIFIED.into();
        }
        (route.best, route.stale) = (json.best, json.stale);
        for attribute in &json.attrs {
            read_attribute(&mut route, attribute)?;
        }
        Ok(route)
    }
}

/// Takes in an attribute, by its number (RFC 4271 §5, 1997, 4456, 8092).
fn read_attribute(route: &mut Route, attribute: &Value) -> Result<()> {
    let list = |key: &str| attribute[key].as_array().cloned().unwrap_or_default();
    match attribute["type"].as_u64() {
        Some(2) => {
            let segments = list("as_paths");
            let numbers = segments.iter().filter_map(|segment| segment["asns"].as_array());
            route.as_path = numbers.flatten().filter_map(number).collect();
        }
        Some(5) => route.local_pref = number(&attribute["value"]),
        Some(8) => {
            let values = list("communities");
            let text = |value: u32| format!("{}:{}", value >> 16, value & 0xffff);
            route.communities = values.iter().filter_map(number).map(text).collect();
            route.communities.sort();
        }
        Some(9) => route.originator = attribute["value"].as_str().and_then(|id| id.parse().ok()),
        Some(10) => {
            let ids = list("value");
            let ids = ids.iter().filter_map(|id| id.as_str()?.parse().ok());
            route.cluster_list = ids.collect();
        }
        Some(32) => {
            for value in list("value") {
                let part = |key: &str| value[key].as_u64();
                let parts = (part("ASN"), part("LocalData1"), part("LocalData2"));
                let (Some(asn), Some(one), Some(two)) = parts else { continue };
                route.large_communities.push(format!("{asn}:{one}:{two}"));
            }
            route.large_communities.sort();
        }
        kind => ensure!(kind.is_some(), "an attribute without a type: {attribute}"),
    }
    Ok(())
}

fn number(value: &Value) -> Option<u32> {
    value.as_u64()?.try_into().ok()
}
