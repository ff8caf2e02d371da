//! Other people's BGP speakers as the router of a lab: one small driver each, behind one trait.
//!
//! A driver writes the program's configuration, starts it in a namespace, and reads its table back as
//! [`Route`]s. What a program does to the kernel is its own: BIRD and FRR program it, GoBGP is
//! followed by a [`crate::fib`], OpenBGPD (on Linux) and ExaBGP only talk.

pub(crate) mod bird;
mod exabgp;
pub(crate) mod frr;
pub(crate) mod gobgp;
mod openbgpd;

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ipnet::IpNet;
use nix::unistd::Pid;

use crate::netns::Netns;
use crate::setup::find;
use crate::wait::until;

/// A BGP speaker that labs know how to drive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Program {
    GoBgp,
    Bird,
    Frr,
    OpenBgpd,
    ExaBgp,
}

/// How a speaker is set up.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) as_number: u32,
    pub(crate) router_id: Ipv4Addr,
    pub(crate) neighbors: Vec<Neighbor>,
    /// The confederation of which the speaker's AS is a member (RFC 5065); of BIRD and FRR alone.
    pub(crate) confederation: Option<Confederation>,
}

impl Config {
    /// A speaker whose AS is one.
    pub(crate) const fn new(as_number: u32, router_id: Ipv4Addr, neighbors: Vec<Neighbor>) -> Self {
        Self { as_number, router_id, neighbors, confederation: None }
    }
}

/// A confederation as its members know it.
#[derive(Debug, Clone)]
pub(crate) struct Confederation {
    pub(crate) identifier: u32,
    pub(crate) members: Vec<u32>,
}

/// One configured neighbor.
#[derive(Debug, Clone)]
pub(crate) struct Neighbor {
    /// The router's end of the session.
    pub(crate) local: IpAddr,
    /// The router's address on the link in the other family, where the session carries both.
    pub(crate) other_local: Option<IpAddr>,
    pub(crate) address: IpAddr,
    pub(crate) as_number: u32,
    pub(crate) families: Vec<Family>,
    /// Seconds.
    pub(crate) hold_time: u32,
    /// Restart time in seconds, if graceful restart is on.
    pub(crate) graceful_restart: Option<u32>,
    pub(crate) hops: Hops,
    /// The TCP MD5 key.
    pub(crate) password: Option<String>,
    /// The most prefixes of a family that the neighbor may send.
    pub(crate) max_prefixes: Option<u32>,
    /// BFD of 50 ms x 3 watches the link; of BIRD alone.
    pub(crate) bfd: bool,
    /// Several paths for a prefix go both ways (RFC 7911).
    pub(crate) add_path: bool,
    /// Seconds for which stale routes are kept beyond the restart time (RFC 9494).
    pub(crate) long_lived: Option<u32>,
    /// Further lines on this neighbor in the program's own language; of BIRD and FRR alone.
    pub(crate) own_words: Vec<&'static str>,
}

/// The AS number of a neighbor that may have any but the router's own; of BIRD alone.
pub(crate) const ANY_OTHER: u32 = 0;

/// How far away a neighbor may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hops {
    /// As the program has it.
    Usual,
    /// One, proven by the TTL (RFC 5082).
    Gtsm,
}

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    Ipv4,
    Ipv6,
}

/// A prefix that a router originates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Announcement {
    pub(crate) prefix: IpNet,
    /// `aa:nn`.
    pub(crate) communities: Vec<String>,
    /// `aa:nn:mm`.
    pub(crate) large_communities: Vec<String>,
    /// The route targets `aa:nn` among the extended communities (RFC 4360 §4).
    pub(crate) route_targets: Vec<String>,
    /// The AS path behind the router's own AS number; a driver that has no way to say it refuses.
    pub(crate) as_path: Vec<u32>,
    /// Whose mark says that the route may only go to customers (RFC 9234 §5); of BIRD alone.
    pub(crate) only_to_customer: Option<u32>,
}

/// A session as the program sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Session {
    pub(crate) address: IpAddr,
    pub(crate) as_number: u32,
    pub(crate) established: bool,
    /// Prefixes received; 0 where the program does not say.
    pub(crate) received: u64,
}

/// A path that a router heard, as it shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) next_hop: IpAddr,
    pub(crate) as_path: Vec<u32>,
    /// The members of the router's confederation on the path; of BIRD and FRR alone.
    pub(crate) members: Vec<u32>,
    pub(crate) local_pref: Option<u32>,
    /// `aa:nn`, sorted.
    pub(crate) communities: Vec<String>,
    /// `aa:nn:mm`, sorted.
    pub(crate) large_communities: Vec<String>,
    /// The route targets `aa:nn` among the extended communities, sorted; of BIRD and FRR alone.
    pub(crate) route_targets: Vec<String>,
    /// RFC 7911, where the program shows it.
    pub(crate) path_id: Option<u32>,
    /// RFC 4456 §8: who brought the route into the AS, and the clusters that it passed.
    pub(crate) originator: Option<Ipv4Addr>,
    pub(crate) cluster_list: Vec<Ipv4Addr>,
    /// RFC 9234 §5; of BIRD and FRR alone.
    pub(crate) only_to_customer: Option<u32>,
    pub(crate) best: bool,
    /// Kept through a restart of the neighbor; never true where the program does not say.
    pub(crate) stale: bool,
}

/// Best path first.
pub(crate) type Table = BTreeMap<IpNet, Vec<Route>>;

/// A running speaker.
pub(crate) trait Daemon: fmt::Debug {
    /// Every configured session.
    fn sessions(&self) -> Result<Vec<Session>>;

    /// The prefixes of both families that neighbors announced.
    fn learned(&self) -> Result<Table>;

    /// Originates prefixes, with itself as next hop.
    fn announce(&mut self, routes: &[Announcement]) -> Result<()>;

    /// Takes prefixes back.
    fn withdraw(&mut self, prefixes: &[IpNet]) -> Result<()>;

    /// Asks a neighbor for everything again (RFC 2918).
    fn refresh(&mut self, neighbor: IpAddr) -> Result<()>;

    /// Takes a session down with a Cease that has a text (RFC 9003).
    fn shut_down(&mut self, neighbor: IpAddr, text: &str) -> Result<()>;

    /// Takes a session up again; what was announced by command may be forgotten.
    fn bring_up(&mut self, neighbor: IpAddr) -> Result<()>;

    /// Ends the program where it stands, as a crash would.
    fn kill(&mut self) -> Result<()>;

    /// The process that would crash.
    fn process(&self) -> Pid;

    /// Starts it again after [`Self::kill`]; what was announced by command it may have forgotten.
    fn restart(&mut self, restart: Restart) -> Result<()>;

    /// Waits until every session is up; gives the time it took.
    fn wait_established(&self, limit: Duration) -> Result<Duration> {
        until(limit, "all BGP sessions are up", || {
            Ok(self.sessions()?.iter().all(|session| session.established))
        })
        .with_context(|| format!("{:?}", self.sessions()))
    }

    /// Waits until a neighbor has announced a prefix, or no one has.
    fn wait_route(&self, prefix: &str, goal: Presence, limit: Duration) -> Result<Duration> {
        let net: IpNet = prefix.parse()?;
        until(limit, &format!("{prefix} is {goal:?} in the router"), || {
            Ok(self.learned()?.contains_key(&net) == (goal == Presence::There))
        })
    }
}

/// What a restarted speaker tells its neighbors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Restart {
    Cold,
    /// That it kept its forwarding (RFC 4724 §4.1).
    Graceful,
}

/// Whether something should be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Presence {
    There,
    Gone,
}

impl Program {
    /// Starts the program in `netns` and waits until it answers. Files go to `directory`.
    pub(crate) fn start(
        self,
        netns: &Netns,
        directory: &Path,
        config: &Config,
    ) -> Result<Box<dyn Daemon>> {
        let bfd = config.neighbors.iter().any(|neighbor| neighbor.bfd);
        ensure!(!bfd || self == Self::Bird, "the driver of {self} knows no BFD");
        let own_words = config.neighbors.iter().any(|neighbor| !neighbor.own_words.is_empty());
        let takes_words = matches!(self, Self::Bird | Self::Frr);
        ensure!(!own_words || takes_words, "the driver of {self} takes no lines of its own");
        let member = config.confederation.is_some();
        ensure!(!member || takes_words, "the driver of {self} knows no confederation");
        Ok(match self {
            Self::GoBgp => Box::new(gobgp::GoBgp::start(netns, directory, config)?),
            Self::Bird => Box::new(bird::Bird::start(netns, directory, config)?),
            Self::Frr => Box::new(frr::Frr::start(netns, directory, config)?),
            Self::OpenBgpd => Box::new(openbgpd::OpenBgpd::start(netns, directory, config)?),
            Self::ExaBgp => Box::new(exabgp::ExaBgp::start(netns, directory, config)?),
        })
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::GoBgp => "GoBGP",
            Self::Bird => "BIRD",
            Self::Frr => "FRR",
            Self::OpenBgpd => "OpenBGPD",
            Self::ExaBgp => "ExaBGP",
        })
    }
}

impl Neighbor {
    /// A neighbor of one family, by the family of its address.
    pub(crate) fn new(local: IpAddr, address: IpAddr, as_number: u32) -> Self {
        Self {
            local,
            other_local: None,
            address,
            as_number,
            families: vec![Family::of_address(address)],
            hold_time: 9,
            graceful_restart: None,
            hops: Hops::Usual,
            password: None,
            max_prefixes: None,
            bfd: false,
            add_path: false,
            long_lived: None,
            own_words: Vec::new(),
        }
    }

    /// The next hop of a prefix whose family is not the session's, for programs that do not find it
    /// themselves: of an IPv6 prefix the other address, of an IPv4 prefix this one (RFC 8950).
    fn next_hop_across(&self, prefix: &IpNet) -> Option<IpAddr> {
        match (Family::of_address(self.address), Family::of(prefix)) {
            (Family::Ipv4, Family::Ipv6) => self.other_local,
            (Family::Ipv6, Family::Ipv4) => Some(self.local),
            (Family::Ipv4, Family::Ipv4) | (Family::Ipv6, Family::Ipv6) => None,
        }
    }

    /// IPv4 routes over an IPv6 session need the capability of RFC 8950.
    fn needs_extended_next_hop(&self) -> bool {
        self.address.is_ipv6() && self.families.contains(&Family::Ipv4)
    }
}

impl Family {
    pub(crate) const BOTH: [Self; 2] = [Self::Ipv4, Self::Ipv6];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ipv4 => "ipv4",
            Self::Ipv6 => "ipv6",
        }
    }

    pub(crate) fn of_address(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::Ipv4 } else { Self::Ipv6 }
    }

    pub(crate) fn of(prefix: &IpNet) -> Self {
        Self::of_address(prefix.addr())
    }
}

impl Announcement {
    /// A prefix with no communities.
    pub(crate) fn plain(prefix: IpNet) -> Self {
        Self {
            prefix,
            communities: Vec::new(),
            large_communities: Vec::new(),
            route_targets: Vec::new(),
            as_path: Vec::new(),
            only_to_customer: None,
        }
    }
}

impl Route {
    /// A path of which no more is known yet.
    fn by(next_hop: IpAddr) -> Self {
        Self {
            next_hop,
            as_path: Vec::new(),
            members: Vec::new(),
            local_pref: None,
            communities: Vec::new(),
            large_communities: Vec::new(),
            route_targets: Vec::new(),
            path_id: None,
            originator: None,
            cluster_list: Vec::new(),
            only_to_customer: None,
            best: true,
            stale: false,
        }
    }
}

/// A child process in a process group of its own that ends with this value.
#[derive(Debug)]
struct Process(Child);

impl Process {
    fn id(&self) -> Pid {
        Pid::from_raw(self.0.id().try_into().expect("a process number"))
    }

    /// Starts `command` in `netns`; what it says is added to `log`.
    fn start(netns: &Netns, command: &mut Command, log: &Path) -> Result<Self> {
        let log = File::options().create(true).append(true).open(log)?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        std::os::unix::process::CommandExt::process_group(command, 0);
        netns.spawn(command).map(Self)
    }

    fn kill(&mut self) -> Result<()> {
        self.0.kill()?;
        self.0.wait()?;
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Fails if it is dead already.
        let _ = self.kill();
    }
}

/// A program of a package, or the advice to install it.
fn program(name: &str, package: &str) -> Result<Command> {
    let path = find(name).with_context(|| format!("no {name}: apt-get install {package}"))?;
    Ok(Command::new(path))
}

/// The end of a log, for an error message.
fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    format!("{}:\n    {}", log.display(), lines[lines.len().saturating_sub(15)..].join("\n    "))
}
