//! GoBGP as the top-of-rack router.
//!
//! gobgpd keeps routes and programs no kernel. A switch has an ASIC that follows its routing table;
//! here a second process (`lab mirror`, [`crate::fib`]) copies GoBGP's best routes into the kernel of
//! the router's namespace.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::IpAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use ipnet::IpNet;
use serde::Deserialize;

use crate::netns::Netns;
use crate::wait::until;

/// How gobgpd is set up.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) as_number: u32,
    pub(crate) router_id: IpAddr,
    pub(crate) neighbors: Vec<Neighbor>,
}

/// One configured neighbor.
#[derive(Debug, Clone)]
pub(crate) struct Neighbor {
    pub(crate) address: IpAddr,
    pub(crate) as_number: u32,
    pub(crate) families: Vec<Family>,
    /// Seconds.
    pub(crate) hold_time: u32,
    /// Restart time in seconds, if graceful restart is on.
    pub(crate) graceful_restart: Option<u32>,
}

/// An address family, as `gobgp` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    Ipv4,
    Ipv6,
}

/// A session as gobgpd sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Session {
    pub(crate) address: IpAddr,
    pub(crate) as_number: u32,
    pub(crate) established: bool,
    pub(crate) received: u64,
}

/// A path in gobgpd's table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) next_hop: IpAddr,
    pub(crate) as_path: Vec<u32>,
    pub(crate) best: bool,
    pub(crate) stale: bool,
}

/// Best path first.
pub(crate) type Table = BTreeMap<IpNet, Vec<Route>>;

/// A running gobgpd.
#[derive(Debug)]
pub(crate) struct GoBgp {
    netns: Netns,
    process: Child,
    config: std::path::PathBuf,
}

impl Neighbor {
    /// A neighbor of one family, by the family of its address.
    pub(crate) fn new(address: IpAddr, as_number: u32) -> Self {
        let family = if address.is_ipv4() { Family::Ipv4 } else { Family::Ipv6 };
        Self { address, as_number, families: vec![family], hold_time: 9, graceful_restart: None }
    }
}

impl Config {
    fn to_toml(&self) -> String {
        let mut toml = format!(
            "[global.config]\nas = {}\nrouter-id = \"{}\"\n",
            self.as_number, self.router_id
        );
        for neighbor in &self.neighbors {
            neighbor.write_toml(&mut toml).expect("writing to a string");
        }
        toml
    }
}

impl Neighbor {
    fn write_toml(&self, toml: &mut String) -> std::fmt::Result {
        writeln!(
            toml,
            "[[neighbors]]
[neighbors.config]
neighbor-address = \"{}\"
peer-as = {}
[neighbors.timers.config]
connect-retry = 1
idle-hold-time-after-reset = 1
hold-time = {}
keepalive-interval = {}",
            self.address,
            self.as_number,
            self.hold_time,
            self.hold_time / 3
        )?;
        if let Some(seconds) = self.graceful_restart {
            writeln!(
                toml,
                "[neighbors.graceful-restart.config]\nenabled = true\nrestart-time = {seconds}"
            )?;
        }
        for family in &self.families {
            writeln!(
                toml,
                "[[neighbors.afi-safis]]\n[neighbors.afi-safis.config]\nafi-safi-name = \"{}-unicast\"",
                family.name()
            )?;
            if self.graceful_restart.is_some() {
                writeln!(toml, "[neighbors.afi-safis.mp-graceful-restart.config]\nenabled = true")?;
            }
        }
        Ok(())
    }
}

impl Family {
    pub(crate) const BOTH: [Self; 2] = [Self::Ipv4, Self::Ipv6];

    fn name(self) -> &'static str {
        match self {
            Self::Ipv4 => "ipv4",
            Self::Ipv6 => "ipv6",
        }
    }

    fn of(prefix: &str) -> Self {
        if prefix.contains(':') { Self::Ipv6 } else { Self::Ipv4 }
    }
}

impl GoBgp {
    /// Starts gobgpd in `netns` and waits until it answers. Files go to `directory`.
    pub(crate) fn start(netns: &Netns, directory: &Path, config: &Config) -> Result<Self> {
        fs::create_dir_all(directory)?;
        let path = directory.join("gobgpd.toml");
        fs::write(&path, config.to_toml())?;
        let process = launch(netns, &path, &[])?;
        let daemon = Self { netns: netns.handle()?, process, config: path };
        daemon.wait_ready()?;
        Ok(daemon)
    }

    fn wait_ready(&self) -> Result<()> {
        until(Duration::from_secs(10), "gobgpd answers", || Ok(self.ask(&["global"]).is_ok()))?;
        Ok(())
    }

    /// Kills the daemon where it stands, as a crash of the router would.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.process.kill()?;
        self.process.wait()?;
        Ok(())
    }

    /// Starts the daemon again after [`Self::kill`]. With `graceful`, as one that kept its forwarding.
    pub(crate) fn restart(&mut self, restart: Restart) -> Result<()> {
        let flags: &[&str] = match restart {
            Restart::Cold => &[],
            Restart::Graceful => &["-r"],
        };
        self.process = launch(&self.netns, &self.config, flags)?;
        self.wait_ready()
    }

    fn ask(&self, arguments: &[&str]) -> Result<String> {
        self.netns.run("gobgp", arguments)
    }

    /// Originates a prefix. Without a next hop the daemon gives each peer its own address.
    pub(crate) fn announce(&self, prefix: &str, next_hop: Option<IpAddr>) -> Result<()> {
        let next_hop = next_hop.map(|address| address.to_string());
        let mut arguments = vec!["global", "rib", "add", "-a", Family::of(prefix).name(), prefix];
        if let Some(next_hop) = &next_hop {
            arguments.extend(["nexthop", next_hop]);
        }
        self.ask(&arguments).map(drop)
    }

    /// Takes a prefix back.
    pub(crate) fn withdraw(&self, prefix: &str) -> Result<()> {
        self.ask(&["global", "rib", "del", "-a", Family::of(prefix).name(), prefix]).map(drop)
    }

    /// Takes a neighbor down, with a Cease, or up again.
    pub(crate) fn set_neighbor(&self, address: IpAddr, state: Admin) -> Result<()> {
        let verb = match state {
            Admin::Up => "enable",
            Admin::Down => "disable",
        };
        self.ask(&["neighbor", &address.to_string(), verb]).map(drop)
    }

    pub(crate) fn sessions(&self) -> Result<Vec<Session>> {
        let neighbors: Vec<NeighborJson> = serde_json::from_str(&self.ask(&["-j", "neighbor"])?)?;
        neighbors.into_iter().map(Session::try_from).collect()
    }

    /// All paths of a family, best first.
    pub(crate) fn table(&self, family: Family) -> Result<Table> {
        table(&self.netns, family)
    }

    /// The prefixes of both families that neighbors announced.
    pub(crate) fn learned(&self) -> Result<Table> {
        let mut all = Table::new();
        for family in Family::BOTH {
            all.extend(self.table(family)?);
        }
        all.retain(|_, paths| paths.iter().any(|path| !path.next_hop.is_unspecified()));
        Ok(all)
    }

    /// Waits until every session is up; gives the time it took.
    pub(crate) fn wait_established(&self, limit: Duration) -> Result<Duration> {
        until(limit, "all BGP sessions are up", || {
            Ok(self.sessions()?.iter().all(|session| session.established))
        })
        .with_context(|| format!("{:?}", self.sessions()))
    }

    /// Waits until a prefix is there with a fresh path, or is not.
    pub(crate) fn wait_route(
        &self,
        prefix: &str,
        goal: Presence,
        limit: Duration,
    ) -> Result<Duration> {
        let net: IpNet = prefix.parse()?;
        until(limit, &format!("{prefix} is {goal:?} in GoBGP"), || {
            let table = self.table(Family::of(prefix))?;
            Ok(table.contains_key(&net) == (goal == Presence::There))
        })
    }
}

impl Drop for GoBgp {
    fn drop(&mut self) {
        // Fails if it is dead already.
        let _ = self.kill();
    }
}

/// What a restarted gobgpd tells its neighbors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Restart {
    Cold,
    Graceful,
}

/// Whether a neighbor is to be talked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admin {
    Up,
    Down,
}

/// Whether something should be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Presence {
    There,
    Gone,
}

fn launch(netns: &Netns, config: &Path, flags: &[&str]) -> Result<Child> {
    let log = File::options().create(true).append(true).open(config.with_extension("log"))?;
    let mut command = Command::new("gobgpd");
    command.args(["--disable-stdlog", "--pprof-disable", "--api-hosts", "127.0.0.1:50051", "-f"]);
    command.arg(config).args(flags).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    netns.spawn(&mut command)
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

impl TryFrom<NeighborJson> for Session {
    type Error = anyhow::Error;

    fn try_from(json: NeighborJson) -> Result<Self> {
        Ok(Self {
            address: json.state.neighbor_address,
            as_number: json.state.peer_asn,
            established: json.state.session_state == ESTABLISHED,
            received: json.afi_safis.iter().map(|family| family.state.received).sum(),
        })
    }
}

#[derive(Deserialize)]
struct PathJson {
    #[serde(default)]
    best: bool,
    #[serde(default)]
    stale: bool,
    attrs: Vec<serde_json::Value>,
}

impl TryFrom<PathJson> for Route {
    type Error = anyhow::Error;

    fn try_from(json: PathJson) -> Result<Self> {
        let next_hop = json.attrs.iter().find_map(|attribute| attribute["nexthop"].as_str());
        let Some(next_hop) = next_hop else { bail!("a path without a next hop: {:?}", json.attrs) };
        let as_path = json
            .attrs
            .iter()
            .filter_map(|attribute| attribute["as_paths"].as_array())
            .flatten()
            .filter_map(|segment| segment["asns"].as_array())
            .flatten()
            .filter_map(|number| number.as_u64()?.try_into().ok())
            .collect();
        Ok(Self { next_hop: next_hop.parse()?, as_path, best: json.best, stale: json.stale })
    }
}
