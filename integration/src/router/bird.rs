//! BIRD 2. It programs the kernel by its own kernel protocols.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ipnet::IpNet;
use nix::unistd::Pid;

use super::{
    ANY_OTHER, Announcement, Confederation, Config, Daemon, Family, Hops, Neighbor, Process,
    Restart, Route, Session, Table, program, tail,
};
use crate::netns::{Netns, output};
use crate::wait::until;

/// A running BIRD.
#[derive(Debug)]
pub(crate) struct Bird {
    netns: Netns,
    process: Process,
    directory: PathBuf,
    config: Config,
    announced: BTreeMap<IpNet, Announcement>,
}

/// The prefix with this number: /24s from 20.0.0.0 on.
pub(crate) fn prefix(number: u32) -> IpNet {
    let address = Ipv4Addr::from_bits(0x1400_0000 + (number << 8));
    IpNet::new(address.into(), 24).expect("24 bits fit")
}

impl Bird {
    /// Starts BIRD in `netns` and waits until it answers. Files go to `directory`.
    pub(crate) fn start(
        netns: &Netns,
        directory: &std::path::Path,
        config: &Config,
    ) -> Result<Self> {
        fs::create_dir_all(directory)?;
        fs::write(directory.join("bird.conf"), render(config, directory))?;
        write_routes(directory, &BTreeMap::new())?;
        let process = launch(netns, directory, Restart::Cold)?;
        let bird = Self {
            netns: netns.handle()?,
            process,
            directory: directory.to_owned(),
            config: config.clone(),
            announced: BTreeMap::new(),
        };
        bird.wait_ready()?;
        Ok(bird)
    }

    fn wait_ready(&self) -> Result<()> {
        until(Duration::from_secs(10), "BIRD answers", || Ok(self.ask("show status").is_ok()))
            .with_context(|| tail(&self.directory.join("bird.log")))
            .map(drop)
    }

    fn ask(&self, line: &str) -> Result<String> {
        let mut birdc = program("birdc", "bird2")?;
        birdc.arg("-s").arg(self.directory.join("bird.ctl")).args(line.split(' '));
        self.netns.enter(|| output(&mut birdc))?
    }

    /// Takes all announced prefixes back at once, as a router that loses its uplink, or brings them
    /// again.
    pub(crate) fn set_uplink(&self, uplink: Uplink) -> Result<()> {
        let verb = match uplink {
            Uplink::Up => "enable",
            Uplink::Lost => "disable",
        };
        self.ask(&format!("{verb} announced4"))?;
        self.ask(&format!("{verb} announced6")).map(drop)
    }

    fn configure(&self) -> Result<()> {
        write_routes(&self.directory, &self.announced)?;
        let answer = self.ask("configure")?;
        ensure!(answer.contains("Reconfigur"), "BIRD does not take its configuration: {answer}");
        Ok(())
    }

    /// The name of the protocol that talks to a neighbor.
    fn protocol(&self, address: IpAddr) -> Result<String> {
        let found = self.config.neighbors.iter().position(|one| one.address == address);
        Ok(format!("n{}", found.with_context(|| format!("no neighbor {address}"))?))
    }
}

/// Whether there is something to announce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Uplink {
    Up,
    Lost,
}

impl Daemon for Bird {
    fn sessions(&self) -> Result<Vec<Session>> {
        let text = self.ask("show protocols")?;
        let session = |(number, neighbor): (usize, &Neighbor)| {
            let name = format!("n{number}");
            let line = text.lines().find(|line| line.split_whitespace().next() == Some(&name));
            let established = line.is_some_and(|line| line.contains("Established"));
            let (address, as_number) = (neighbor.address, neighbor.as_number);
            Session { address, as_number, established, received: 0 }
        };
        Ok(self.config.neighbors.iter().enumerate().map(session).collect())
    }

    fn learned(&self) -> Result<Table> {
        Ok(read_table(&self.ask("show route all")?))
    }

    fn announce(&mut self, routes: &[Announcement]) -> Result<()> {
        self.announced.extend(routes.iter().map(|route| (route.prefix, route.clone())));
        self.configure()
    }

    fn withdraw(&mut self, prefixes: &[IpNet]) -> Result<()> {
        for prefix in prefixes {
            self.announced.remove(prefix);
        }
        self.configure()
    }

    fn refresh(&mut self, neighbor: IpAddr) -> Result<()> {
        self.ask(&format!("reload in {}", self.protocol(neighbor)?)).map(drop)
    }

    fn shut_down(&mut self, neighbor: IpAddr, text: &str) -> Result<()> {
        let name = self.protocol(neighbor)?;
        let mut birdc = program("birdc", "bird2")?;
        birdc.arg("-s").arg(self.directory.join("bird.ctl"));
        birdc.args(["disable", &name, &format!("\"{text}\"")]);
        self.netns.enter(|| output(&mut birdc))?.map(drop)
    }

    fn bring_up(&mut self, neighbor: IpAddr) -> Result<()> {
        self.ask(&format!("enable {}", self.protocol(neighbor)?)).map(drop)
    }

    fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    fn process(&self) -> Pid {
        self.process.id()
    }

    fn restart(&mut self, restart: Restart) -> Result<()> {
        self.process = launch(&self.netns, &self.directory, restart)?;
        self.wait_ready()
    }
}

fn launch(netns: &Netns, directory: &std::path::Path, restart: Restart) -> Result<Process> {
    let mut bird = program("bird", "bird2")?;
    bird.arg("-f").arg("-c").arg(directory.join("bird.conf"));
    bird.arg("-s").arg(directory.join("bird.ctl"));
    match restart {
        Restart::Cold => {}
        Restart::Graceful => drop(bird.arg("-R")),
    }
    Process::start(netns, &mut bird, &directory.join("bird.log"))
}

fn render(config: &Config, directory: &std::path::Path) -> String {
    let mut text = format!(
        "log stderr all;
router id {};
protocol device {{ }}
",
        config.router_id
    );
    for family in Family::BOTH {
        let name = family.name();
        let number = &name[3..];
        // What was in the kernel before a restart stays there until it is known anew.
        write!(
            text,
            "protocol kernel kernel{number} {{
  persist;
  graceful restart on;
  merge paths on;
  {name} {{ import none; export where source = RTS_BGP; }};
}}
protocol static announced{number} {{
  {name};
include \"{}/routes{number}.conf\";
}}
",
            directory.display()
        )
        .expect("writing to a string");
    }
    if config.neighbors.iter().any(|neighbor| neighbor.bfd) {
        text.push_str("protocol bfd { interface \"*\" { interval 50 ms; multiplier 3; }; }\n");
    }
    for (number, neighbor) in config.neighbors.iter().enumerate() {
        write_neighbor(&mut text, config, number, neighbor).expect("writing to a string");
    }
    text
}

fn write_neighbor(
    text: &mut String,
    config: &Config,
    number: usize,
    neighbor: &Neighbor,
) -> std::fmt::Result {
    let Neighbor { local, address, as_number, hold_time, .. } = neighbor;
    let who = match *as_number {
        ANY_OTHER => "external".to_owned(),
        number => format!("as {number}"),
    };
    writeln!(
        text,
        "protocol bgp n{number} {{
  local {local} as {};
  neighbor {address} {who};
  hold time {hold_time};
  keepalive time {};
  connect retry time 1;
  connect delay time 1;
  error wait time 1, 2;
  error forget time 5;",
        config.as_number,
        hold_time / 3
    )?;
    if let Some(Confederation { identifier, members }) = &config.confederation {
        let member = if members.contains(as_number) { "yes" } else { "no" };
        writeln!(text, "  confederation {identifier};\n  confederation member {member};")?;
    }
    match neighbor.hops {
        Hops::Usual => {}
        Hops::Gtsm => writeln!(text, "  ttl security on;")?,
    }
    if neighbor.bfd {
        writeln!(text, "  bfd on;")?;
    }
    if let Some(password) = &neighbor.password {
        writeln!(text, "  password \"{password}\";")?;
    }
    match neighbor.graceful_restart {
        None => writeln!(text, "  graceful restart off;")?,
        Some(time) => writeln!(text, "  graceful restart on;\n  graceful restart time {time};")?,
    }
    if let Some(time) = neighbor.long_lived {
        writeln!(text, "  long lived graceful restart on;\n  long lived stale time {time};")?;
    }
    for line in &neighbor.own_words {
        writeln!(text, "  {line};")?;
    }
    for family in &neighbor.families {
        write!(text, "  {} {{ import all; export all; ", family.name())?;
        if neighbor.as_number != config.as_number {
            write!(text, "next hop self; ")?;
        }
        if *family == Family::Ipv4 && neighbor.needs_extended_next_hop() {
            write!(text, "extended next hop on; ")?;
        }
        if neighbor.add_path {
            write!(text, "add paths on; ")?;
        }
        if let Some(limit) = neighbor.max_prefixes {
            write!(text, "receive limit {limit} action disable; ")?;
        }
        writeln!(text, "}};")?;
    }
    writeln!(text, "}}")
}

fn write_routes(
    directory: &std::path::Path,
    announced: &BTreeMap<IpNet, Announcement>,
) -> Result<()> {
    for family in Family::BOTH {
        let mut text = String::new();
        for route in announced.values().filter(|route| Family::of(&route.prefix) == family) {
            write!(text, "route {} blackhole {{ ", route.prefix)?;
            for community in &route.communities {
                write!(text, "bgp_community.add(({})); ", community.replace(':', ","))?;
            }
            for community in &route.large_communities {
                write!(text, "bgp_large_community.add(({})); ", community.replace(':', ","))?;
            }
            for target in &route.route_targets {
                write!(text, "bgp_ext_community.add((rt,{})); ", target.replace(':', ","))?;
            }
            for number in route.as_path.iter().rev() {
                write!(text, "bgp_path.prepend({number}); ")?;
            }
            if let Some(number) = route.only_to_customer {
                write!(text, "bgp_otc = {number}; ")?;
            }
            writeln!(text, "}};")?;
        }
        fs::write(directory.join(format!("routes{}.conf", &family.name()[3..])), text)?;
    }
    Ok(())
}

/// Reads `show route all`: a line for each path, lines with a tab for what belongs to it, and no
/// prefix where it is that of the path before.
fn read_table(text: &str) -> Table {
    let mut table = Table::new();
    let mut prefix: Option<IpNet> = None;
    let mut heard = false;
    for line in text.lines() {
        if let Some(detail) = line.strip_prefix('\t') {
            let paths = prefix.filter(|_| heard).and_then(|prefix| table.get_mut(&prefix));
            if let Some(route) = paths.and_then(|paths: &mut Vec<Route>| paths.last_mut()) {
                read_detail(route, detail.trim());
            }
            continue;
        }
        let Some((before, after)) = line.split_once('[') else { continue };
        let first = before.split_whitespace().next().and_then(|word| word.parse().ok());
        prefix = first.or(prefix);
        heard = !after.starts_with("announced");
        if let (Some(prefix), true) = (prefix, heard) {
            let mut route = Route::by(Ipv4Addr::UNSPECIFIED.into());
            route.best = after.contains("] *");
            table.entry(prefix).or_default().push(route);
        }
    }
    table
}

fn read_detail(route: &mut Route, line: &str) {
    let Some((name, value)) = line.split_once(": ") else { return };
    // `(1,2) (3,4)`, or `(1, 2, 3)`.
    let tuples = || {
        let parts = value.split(')').map(|part| part.trim().trim_start_matches('('));
        let mut texts: Vec<String> = parts
            .filter(|part| !part.is_empty())
            .map(|part| part.replace(", ", ":").replace(',', ":"))
            .collect();
        texts.sort();
        texts
    };
    match name {
        "BGP.as_path" => {
            // `(65001 65002) 64500`: members of a confederation stand in brackets.
            let inside = value.strip_prefix('(').and_then(|value| value.split_once(')'));
            let numbers = |text: &str| -> Vec<u32> {
                text.split(' ').filter_map(|number| number.parse().ok()).collect()
            };
            let (members, outside) = inside.unwrap_or(("", value));
            (route.members, route.as_path) = (numbers(members), numbers(outside));
        }
        // The global address stands before the link-local one.
        "BGP.next_hop" => {
            let first = value.split(' ').next().and_then(|address| address.parse().ok());
            route.next_hop = first.unwrap_or(route.next_hop);
        }
        "BGP.otc" => route.only_to_customer = value.parse().ok(),
        "BGP.local_pref" => route.local_pref = value.parse().ok(),
        "BGP.community" => route.communities = tuples(),
        "BGP.large_community" => route.large_communities = tuples(),
        "BGP.ext_community" => {
            let targets = tuples().into_iter();
            let targets = targets.filter_map(|text| Some(text.strip_prefix("rt:")?.to_owned()));
            route.route_targets = targets.collect();
        }
        "BGP.originator_id" => route.originator = value.parse().ok(),
        "BGP.cluster_list" => {
            route.cluster_list = value.split(' ').filter_map(|id| id.parse().ok()).collect();
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_read_with_all_paths_and_attributes_and_without_its_own_routes() {
        let table = read_table(
            "BIRD 2.0.12 ready.\nTable master4:\n\
             10.65.1.0/24         unicast [n0 01:50:47.990] * (100) [AS64513i]\n\
             \tvia 10.0.1.10 on node1\n\
             \tBGP.as_path: 64513 4200000001\n\
             \tBGP.next_hop: 10.0.1.10\n\
             \tBGP.local_pref: 100\n\
             \tBGP.community: (64512,7) (64512,3)\n\
             \tBGP.large_community: (64512, 1, 2)\n\
             \x20                    unicast [n1 01:50:47.990] (100) [AS64513i]\n\
             \tBGP.as_path: (65001 65002) 64500\n\
             \tBGP.next_hop: 10.0.2.10\n\
             192.0.2.0/24         blackhole [announced4 01:50:47.077] * (200)\n\
             \tBGP.community: (64500,11)\n\
             fd00:65:1::/64       unicast [n0 01:50:47.990 from 10.0.1.10] * (100) [AS64513i]\n\
             \tBGP.next_hop: fd00:10:1::10 fe80::1\n",
        );
        let paths = &table[&"10.65.1.0/24".parse::<IpNet>().unwrap()];
        assert_eq!(paths[0].as_path, [64_513, 4_200_000_001]);
        assert_eq!(paths[0].communities, ["64512:3", "64512:7"]);
        assert_eq!(paths[0].large_communities, ["64512:1:2"]);
        assert_eq!((paths[0].local_pref, paths[0].best, paths[1].best), (Some(100), true, false));
        assert_eq!(paths[1].next_hop, IpAddr::from([10, 0, 2, 10]));
        assert_eq!(
            (&paths[1].members[..], &paths[1].as_path[..]),
            (&[65001, 65002][..], &[64500][..])
        );
        let v6 = &table[&"fd00:65:1::/64".parse::<IpNet>().unwrap()][0];
        assert_eq!(v6.next_hop.to_string(), "fd00:10:1::10");
        assert_eq!(table.len(), 2);
    }
}
