//! The router's forwarding table: GoBGP's best routes, copied into the kernel of its namespace.
//!
//! This stands in for the ASIC of a switch. It runs as a process of its own, so that a kept lab goes
//! on forwarding, and is deliberately simple: whenever GoBGP reports a change, or once a second, it
//! reads both tables, and tells the kernel the difference.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::net::IpAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use ipnet::IpNet;

use crate::netns::Netns;
use crate::router::gobgp::table;
use crate::router::{Family, Table};

/// The mark of our routes in the router's kernel; the number that zebra uses for BGP.
const PROTOCOL: u8 = 186;

/// Worse than a connected network, whose route must never be replaced by what a neighbor says.
const METRIC: u8 = 20;

type Fib = BTreeMap<IpNet, BTreeSet<IpAddr>>;

/// Follows GoBGP until its process is killed.
pub(crate) fn mirror(netns: &Netns) -> Result<()> {
    let (changed, changes) = mpsc::channel();
    for family in ["ipv4", "ipv6"] {
        let netns = netns.handle()?;
        let changed = changed.clone();
        thread::spawn(move || follow(&netns, family, &changed));
    }
    let mut installed = Fib::new();
    let mut restarting = Restarting::No;
    loop {
        match wanted(netns) {
            Ok(mut wanted) => {
                restarting = restarting.next(&installed, &mut wanted, Instant::now());
                let lines = difference(&installed, &wanted);
                if !lines.is_empty() {
                    netns.ip(&lines).context("the router's kernel refused a route")?;
                }
                installed = wanted;
            }
            // A switch keeps forwarding while its routing daemon is away.
            Err(_) => restarting = Restarting::Away,
        }
        match changes.recv_timeout(Duration::from_secs(1)) {
            // One read answers all changes that wait.
            Ok(()) => while changes.try_recv().is_ok() {},
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
        }
    }
}

/// How long a restarted daemon has to learn its routes again before those it did not are removed
/// (RFC 4724 §4.1: the Selection_Deferral_Timer).
const DEFERRAL: Duration = Duration::from_secs(30);

/// Where the daemon is in a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Restarting {
    No,
    Away,
    /// Back, and to be waited for until then.
    Learning(Instant),
}

impl Restarting {
    /// While the daemon learns, what it has not learnt yet stays as it was.
    fn next(self, installed: &Fib, wanted: &mut Fib, now: Instant) -> Self {
        let until = match self {
            Self::No => return Self::No,
            Self::Away => now + DEFERRAL,
            Self::Learning(until) => until,
        };
        let missing = installed.keys().any(|prefix| !wanted.contains_key(prefix));
        if !missing || now >= until {
            return Self::No;
        }
        for (prefix, hops) in installed {
            wanted.entry(*prefix).or_insert_with(|| hops.clone());
        }
        Self::Learning(until)
    }
}

/// Starts [`mirror`] in the router's namespace. What it complains of goes to `log`.
pub(crate) fn spawn(netns: &Netns, log: &Path) -> Result<Child> {
    let mut command = Command::new(crate::supervise::SELF);
    command.args(["mirror", netns.name()]).stdin(Stdio::null());
    command.stdout(Stdio::null()).stderr(File::create(log)?);
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    netns.spawn(&mut command)
}

fn follow(netns: &Netns, family: &str, changed: &Sender<()>) {
    loop {
        let mut command = Command::new("gobgp");
        command.args(["-j", "monitor", "global", "rib", "-a", family]).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        if let Ok(mut monitor) = netns.spawn(&mut command) {
            let output = monitor.stdout.take().expect("standard output was piped");
            for _ in BufReader::new(output).lines().map_while(Result::ok) {
                let _ = changed.send(());
            }
            let _ = monitor.wait();
        }
        thread::sleep(Duration::from_millis(100));
    }
}

fn wanted(netns: &Netns) -> Result<Fib> {
    let mut fib = Fib::new();
    for family in Family::BOTH {
        fib.extend(best(&table(netns, family)?));
    }
    Ok(fib)
}

/// The next hops of each prefix's best path and its equals. The router's own prefixes have none.
fn best(table: &Table) -> Fib {
    let mut fib = Fib::new();
    for (prefix, paths) in table {
        let Some(first) = paths.first() else { continue };
        let equals = paths.iter().filter(|path| path.as_path.len() == first.as_path.len());
        let hops: BTreeSet<IpAddr> =
            equals.map(|path| path.next_hop).filter(|hop| !hop.is_unspecified()).collect();
        if !hops.is_empty() {
            fib.insert(*prefix, hops);
        }
    }
    fib
}

fn difference(installed: &Fib, wanted: &Fib) -> String {
    let mut lines = String::new();
    for prefix in installed.keys().filter(|prefix| !wanted.contains_key(prefix)) {
        lines.push_str(&format!("route del {prefix} proto {PROTOCOL} metric {METRIC}\n"));
    }
    for (prefix, hops) in wanted {
        if installed.get(prefix) != Some(hops) {
            let hops: Vec<String> = hops.iter().map(|hop| format!("nexthop via {hop}")).collect();
            lines.push_str(&format!(
                "route replace {prefix} proto {PROTOCOL} metric {METRIC} {}\n",
                hops.join(" ")
            ));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restarted_daemon_keeps_its_routes_until_it_knows_all_or_its_time_is_over() {
        let net = |text: &str| text.parse::<IpNet>().unwrap();
        let hop = BTreeSet::from([IpAddr::from([10, 0, 1, 2])]);
        let installed =
            Fib::from([(net("10.1.0.0/24"), hop.clone()), (net("10.2.0.0/24"), hop.clone())]);
        let now = Instant::now();
        let mut wanted = Fib::from([(net("10.1.0.0/24"), hop)]);
        let half = wanted.clone();
        let state = Restarting::Away.next(&installed, &mut wanted, now);
        assert_eq!((state, &wanted), (Restarting::Learning(now + DEFERRAL), &installed));
        let mut late = half.clone();
        assert_eq!(state.next(&installed, &mut late, now + DEFERRAL), Restarting::No);
        assert_eq!(late, half);
        let mut all = installed.clone();
        assert_eq!(state.next(&installed, &mut all, now), Restarting::No);
    }

    #[test]
    fn the_difference_replaces_what_changed_and_deletes_what_went() {
        let net = |text: &str| text.parse::<IpNet>().unwrap();
        let hop = |text: &str| BTreeSet::from([text.parse::<IpAddr>().unwrap()]);
        let before = Fib::from([
            (net("10.1.0.0/24"), hop("10.0.1.2")),
            (net("10.2.0.0/24"), hop("10.0.2.2")),
        ]);
        let after = Fib::from([(net("10.1.0.0/24"), hop("10.0.3.2"))]);
        assert_eq!(
            difference(&before, &after),
            "route del 10.2.0.0/24 proto 186 metric 20\n\
             route replace 10.1.0.0/24 proto 186 metric 20 nexthop via 10.0.3.2\n"
        );
        assert_eq!(difference(&after, &after), "");
    }
}
