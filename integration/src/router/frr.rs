//! FRR: zebra, which programs the kernel, and bgpd, which is the one that crashes and restarts.

use std::fmt::Write as _;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ipnet::IpNet;
use nix::unistd::{Group, Pid, User, chown};
use serde_json::Value;

use super::{
    Announcement, Confederation, Config, Daemon, Family, Hops, Neighbor, Process, Restart, Route,
    Session, Table, program, tail,
};
use crate::netns::{Netns, output};
use crate::wait::until;

/// The daemons are not in the path: another package's bgpd may be.
const DAEMONS: &str = "/usr/lib/frr";

/// Seconds for which zebra keeps the routes that it finds in the kernel when it starts.
const KEEP: &str = "60";

/// A running bgpd with its zebra.
#[derive(Debug)]
pub(crate) struct Frr {
    netns: Netns,
    bgpd: Process,
    _bfdd: Option<Process>,
    _zebra: Process,
    directory: PathBuf,
    config: Config,
}

/// What stands in the files of the daemons.
#[derive(Debug)]
pub(crate) struct Files {
    pub(crate) bgpd: String,
    /// `None`: no BFD.
    pub(crate) bfdd: Option<String>,
}

impl Frr {
    /// Starts both daemons in `netns` and waits until bgpd answers. Files go to `directory`.
    pub(crate) fn start(netns: &Netns, directory: &Path, config: &Config) -> Result<Self> {
        Self::start_with(netns, directory, config, &Files { bgpd: render(config), bfdd: None })
    }

    /// The same, with configuration that [`Config`] has no words for; it has to fit nevertheless.
    pub(crate) fn start_with(
        netns: &Netns,
        directory: &Path,
        config: &Config,
        files: &Files,
    ) -> Result<Self> {
        fs::create_dir_all(directory)?;
        fs::write(directory.join("zebra.conf"), "log stdout\n")?;
        fs::write(directory.join("bgpd.conf"), &files.bgpd)?;
        // The daemons give up root before they make their sockets.
        let user = User::from_name("frr")?.context("no user frr: apt-get install frr")?;
        let group = Group::from_name("frrvty")?.context("no group frrvty: apt-get install frr")?;
        chown(directory, Some(user.uid), Some(group.gid))?;
        let zebra = launch(netns, directory, "zebra", &["-K", KEEP])?;
        until(Duration::from_secs(10), "zebra listens", || {
            Ok(directory.join("zserv").exists() && directory.join("zebra.vty").exists())
        })
        .with_context(|| tail(&directory.join("zebra.log")))?;
        let mut bfdd = None;
        if let Some(text) = &files.bfdd {
            fs::write(directory.join("bfdd.conf"), text)?;
            let control = directory.join("bfdd.sock").display().to_string();
            bfdd = Some(launch(netns, directory, "bfdd", &["--bfdctl", &control])?);
        }
        let bgpd = launch(netns, directory, "bgpd", &[])?;
        let frr = Self {
            netns: netns.handle()?,
            bgpd,
            _bfdd: bfdd,
            _zebra: zebra,
            directory: directory.to_owned(),
            config: config.clone(),
        };
        frr.wait_ready()?;
        Ok(frr)
    }

    fn wait_ready(&self) -> Result<()> {
        let answers = || Ok(self.ask(&["show bgp summary json"]).is_ok());
        until(Duration::from_secs(10), "bgpd of FRR answers", answers)
            .with_context(|| tail(&self.directory.join("bgpd.log")))
            .map(drop)
    }

    fn vtysh(&self) -> Result<Command> {
        let mut vtysh = program("vtysh", "frr")?;
        vtysh.arg("--vty_socket").arg(&self.directory).args(["-d", "bgpd"]);
        Ok(vtysh)
    }

    /// Runs lines of its own language.
    pub(crate) fn ask(&self, lines: &[&str]) -> Result<String> {
        let mut vtysh = self.vtysh()?;
        for line in lines {
            vtysh.args(["-c", line]);
        }
        self.netns.enter(|| output(&mut vtysh))?
    }

    /// Runs lines of configuration below `router bgp`.
    fn configure(&self, lines: &[String]) -> Result<()> {
        let router = format!("router bgp {}", self.config.as_number);
        let mut all = vec!["configure terminal", &router];
        all.extend(lines.iter().map(String::as_str));
        let answer = self.ask(&all)?;
        ensure!(!answer.contains('%'), "FRR does not take its configuration: {answer}");
        Ok(())
    }

    fn table(&self, family: Family) -> Result<Table> {
        let text = self.ask(&[&format!("show bgp {} unicast json detail", family.name())])?;
        if text.trim().is_empty() {
            return Ok(Table::new());
        }
        let json: Value = serde_json::from_str(&text).with_context(|| text.clone())?;
        let mut table = Table::new();
        for (prefix, paths) in json["routes"].as_object().into_iter().flatten() {
            let paths = paths.as_array().into_iter().flatten().filter_map(read_path);
            let paths: Vec<Route> = paths.collect();
            if !paths.is_empty() {
                table.insert(prefix.parse()?, paths);
            }
        }
        Ok(table)
    }
}

impl Daemon for Frr {
    fn sessions(&self) -> Result<Vec<Session>> {
        let json: Value = serde_json::from_str(&self.ask(&["show bgp summary json"])?)?;
        let session = |neighbor: &Neighbor| {
            let address = neighbor.address.to_string();
            let mut states = neighbor.families.iter().map(|family| {
                let family = format!("{}Unicast", family.name());
                json[family.as_str()]["peers"][address.as_str()]["state"] == "Established"
            });
            let (address, as_number) = (neighbor.address, neighbor.as_number);
            Session { address, as_number, established: states.all(|is| is), received: 0 }
        };
        Ok(self.config.neighbors.iter().map(session).collect())
    }

    fn learned(&self) -> Result<Table> {
        let mut all = self.table(Family::Ipv4)?;
        all.extend(self.table(Family::Ipv6)?);
        Ok(all)
    }

    fn announce(&mut self, routes: &[Announcement]) -> Result<()> {
        for (number, route) in routes.iter().enumerate() {
            ensure!(route.only_to_customer.is_none(), "FRR sets no mark of RFC 9234 by itself");
            let mut lines =
                vec![format!("address-family {} unicast", Family::of(&route.prefix).name())];
            if is_plain(route) {
                continue;
            }
            // A route map of the prefix's own, before the network that uses it.
            let map = format!("of-{}", route.prefix.to_string().replace(['.', ':', '/'], "-"));
            let name = format!("route-map {map} permit {}", number + 1);
            let path: Vec<String> = route.as_path.iter().map(u32::to_string).collect();
            let sets = [
                ("community", &route.communities),
                ("large-community", &route.large_communities),
                ("extcommunity rt", &route.route_targets),
                ("as-path prepend", &path),
            ];
            let sets = sets.iter().filter(|(_, values)| !values.is_empty());
            let sets = sets.map(|(what, values)| format!("set {what} {}", values.join(" ")));
            let mut lines_of_map = vec!["configure terminal".to_owned(), name];
            lines_of_map.extend(sets);
            self.ask(&lines_of_map.iter().map(String::as_str).collect::<Vec<_>>())?;
            lines.push(format!("network {} route-map {map}", route.prefix));
            self.configure(&lines)?;
        }
        let plain = routes.iter().filter(|route| is_plain(route));
        self.networks(plain.map(|route| route.prefix), "network")
    }

    fn withdraw(&mut self, prefixes: &[IpNet]) -> Result<()> {
        self.networks(prefixes.iter().copied(), "no network")
    }

    fn refresh(&mut self, neighbor: IpAddr) -> Result<()> {
        for family in Family::BOTH {
            self.ask(&[&format!("clear bgp {} unicast {neighbor} soft in", family.name())])?;
        }
        Ok(())
    }

    fn shut_down(&mut self, neighbor: IpAddr, text: &str) -> Result<()> {
        self.configure(&[format!("neighbor {neighbor} shutdown message {text}")])
    }

    fn bring_up(&mut self, neighbor: IpAddr) -> Result<()> {
        self.configure(&[format!("no neighbor {neighbor} shutdown")])
    }

    fn kill(&mut self) -> Result<()> {
        self.bgpd.kill()
    }

    fn process(&self) -> Pid {
        self.bgpd.id()
    }

    fn restart(&mut self, restart: Restart) -> Result<()> {
        // bgpd says of each start that its forwarding went on, as zebra's did.
        let (Restart::Cold | Restart::Graceful) = restart;
        self.bgpd = launch(&self.netns, &self.directory, "bgpd", &[])?;
        self.wait_ready()
    }
}

impl Frr {
    fn networks(&self, prefixes: impl Iterator<Item = IpNet>, verb: &str) -> Result<()> {
        let prefixes: Vec<IpNet> = prefixes.collect();
        for family in Family::BOTH {
            let mut lines = vec![format!("address-family {} unicast", family.name())];
            let own = prefixes.iter().filter(|prefix| Family::of(prefix) == family);
            lines.extend(own.map(|prefix| format!("{verb} {prefix}")));
            if lines.len() > 1 {
                self.configure(&lines)?;
            }
        }
        Ok(())
    }
}

/// Whether it needs no route map.
fn is_plain(route: &Announcement) -> bool {
    *route == Announcement::plain(route.prefix)
}

fn launch(netns: &Netns, directory: &Path, name: &str, options: &[&str]) -> Result<Process> {
    let mut command = program(&format!("{DAEMONS}/{name}"), "frr")?;
    command.arg("-f").arg(directory.join(format!("{name}.conf")));
    command.arg("--vty_socket").arg(directory).args(["-P", "0", "-i"]);
    command.arg(directory.join(format!("{name}.pid")));
    command.arg("-z").arg(directory.join("zserv")).args(options);
    Process::start(netns, &mut command, &directory.join(format!("{name}.log")))
}

fn render(config: &Config) -> String {
    let mut text = format!(
        "log stdout
bgp route-map delay-timer 0
router bgp {}
 bgp router-id {}
 no bgp ebgp-requires-policy
 no bgp default ipv4-unicast
 no bgp network import-check
 bgp graceful-restart preserve-fw-state
",
        config.as_number, config.router_id
    );
    if let Some(Confederation { identifier, members }) = &config.confederation {
        let others = members.iter().filter(|member| **member != config.as_number);
        let others: Vec<String> = others.map(u32::to_string).collect();
        writeln!(text, " bgp confederation identifier {identifier}").expect("writing to a string");
        writeln!(text, " bgp confederation peers {}", others.join(" "))
            .expect("writing to a string");
    }
    // Of the whole router, not of a neighbor.
    let restart = config.neighbors.iter().find_map(|neighbor| neighbor.graceful_restart);
    if let Some(seconds) = restart {
        writeln!(text, " bgp graceful-restart restart-time {seconds}")
            .expect("writing to a string");
    }
    if let Some(seconds) = config.neighbors.iter().find_map(|neighbor| neighbor.long_lived) {
        writeln!(text, " bgp long-lived-graceful-restart stale-time {seconds}")
            .expect("writing to a string");
    }
    for neighbor in &config.neighbors {
        write_neighbor(&mut text, neighbor).expect("writing to a string");
    }
    for family in Family::BOTH {
        writeln!(text, " address-family {} unicast", family.name()).expect("writing to a string");
        for neighbor in config.neighbors.iter().filter(|one| one.families.contains(&family)) {
            let address = neighbor.address;
            writeln!(text, "  neighbor {address} activate").expect("writing to a string");
            if let Some(limit) = neighbor.max_prefixes {
                writeln!(text, "  neighbor {address} maximum-prefix {limit}")
                    .expect("writing to a string");
            }
            if neighbor.add_path {
                writeln!(text, "  neighbor {address} addpath-tx-all-paths")
                    .expect("writing to a string");
            }
        }
        text.push_str(" exit-address-family\n");
    }
    text
}

fn write_neighbor(text: &mut String, neighbor: &Neighbor) -> std::fmt::Result {
    let Neighbor { local, address, as_number, hold_time, .. } = neighbor;
    writeln!(
        text,
        " neighbor {address} remote-as {as_number}
 neighbor {address} update-source {local}
 neighbor {address} timers {} {hold_time}
 neighbor {address} timers connect 1
 neighbor {address} advertisement-interval 0",
        hold_time / 3
    )?;
    match neighbor.hops {
        Hops::Usual => {}
        Hops::Gtsm => writeln!(text, " neighbor {address} ttl-security hops 1")?,
    }
    if let Some(password) = &neighbor.password {
        writeln!(text, " neighbor {address} password {password}")?;
    }
    if neighbor.needs_extended_next_hop() {
        writeln!(text, " neighbor {address} capability extended-nexthop")?;
    }
    for line in &neighbor.own_words {
        writeln!(text, " neighbor {address} {line}")?;
    }
    match neighbor.graceful_restart {
        None => writeln!(text, " neighbor {address} graceful-restart-disable"),
        Some(_) => writeln!(text, " neighbor {address} graceful-restart"),
    }
}

/// A path of `show bgp ... json detail`; `None` for the prefix's own entry and for what bgpd
/// originates.
fn read_path(json: &Value) -> Option<Route> {
    let next_hops = json["nexthops"].as_array()?;
    // The global address is what was told; the link-local one, if any, is what is used.
    let global = next_hops.iter().find(|hop| hop["scope"] != "link-local")?;
    let from = json["peer"]["peerId"].as_str()?;
    if matches!(from, "0.0.0.0" | "::") {
        return None;
    }
    let mut route = Route::by(global["ip"].as_str()?.parse().ok()?);
    let segments = json["aspath"]["segments"].as_array();
    let numbers = |within: bool| -> Vec<u32> {
        let segments = segments.into_iter().flatten();
        segments
            .filter(|segment| (segment["type"] == "as-confed-sequence") == within)
            .filter_map(|segment| segment["list"].as_array())
            .flatten()
            .filter_map(|number| number.as_u64()?.try_into().ok())
            .collect()
    };
    (route.as_path, route.members) = (numbers(false), numbers(true));
    let pref = json["locPrf"].as_u64().or_else(|| json["localpref"].as_u64());
    route.local_pref = pref.and_then(|pref| pref.try_into().ok());
    let texts = |value: &Value| -> Vec<String> {
        let list = value["list"].as_array().into_iter().flatten();
        let mut texts: Vec<String> =
            list.filter_map(|text| text.as_str().map(str::to_owned)).collect();
        texts.sort();
        texts
    };
    route.communities = texts(&json["community"]);
    route.large_communities = texts(&json["largeCommunity"]);
    let targets = json["extendedCommunity"]["string"].as_str().unwrap_or_default().split(' ');
    route.route_targets =
        targets.filter_map(|text| Some(text.strip_prefix("RT:")?.to_owned())).collect();
    route.route_targets.sort();
    route.path_id = json["addpathRxId"].as_u64().and_then(|id| id.try_into().ok());
    route.originator = json["originatorId"].as_str().and_then(|id| id.parse().ok());
    route.only_to_customer = json["otc"].as_u64().and_then(|number| number.try_into().ok());
    let clusters = json["clusterList"]["list"].as_array().into_iter().flatten();
    route.cluster_list = clusters.filter_map(|id| id.as_str()?.parse().ok()).collect();
    route.best = json["bestpath"]["overall"] == true;
    route.stale = json["stale"] == true;
    Some(route)
}
