//! `cargo lab bench bgp`: the speaker beside other daemons, in one run, round by round.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;
use std::{fs, thread};

use anyhow::{Context as _, Result, ensure};
use clap::Args;

use super::contestants::{Contestant, Daemon, Duty};
use super::measure;
use super::report::Report;
use super::scenario::{self, DAEMON_IPV4, DAEMON_IPV6, MOST_PEERS, Play, Scenario};
use super::table::Family;
use super::tester::{Figure, Order};
use crate::binaries::{Binaries, Profile};
use crate::netns::Netns;
use crate::progress::{Progress, format_duration};
use crate::run::Run;

/// What to measure.
#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// Scenarios, by letter [default: all].
    #[arg(long, value_delimiter = ',')]
    scenario: Vec<Scenario>,
    /// How often each daemon plays each scenario; medians are shown.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// The daemons to compare with [default: all].
    #[arg(long, value_delimiter = ',')]
    peers: Option<Vec<Contestant>>,
    /// Where to write every single figure.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

impl Options {
    fn scenarios(&self) -> Vec<Scenario> {
        let all = <Scenario as clap::ValueEnum>::value_variants();
        if self.scenario.is_empty() { all.to_vec() } else { self.scenario.clone() }
    }

    /// The daemons under test, ours first.
    pub(crate) fn contestants(&self) -> Vec<Contestant> {
        let mut all = self.peers.clone().unwrap_or(Contestant::ALL.to_vec());
        all.push(Contestant::Ocicat);
        all.sort();
        all.dedup();
        all
    }
}

/// Measures in the worker process.
pub(super) fn run(run: &Run, options: &Options) -> Result<()> {
    let stage = Stage::build(run)?;
    let contestants = options.contestants();
    let scenarios = options.scenarios();
    let progress = Progress::new();
    progress.heading("Rounds");
    let mut report = Report::default();
    for contestant in &contestants {
        report.name(*contestant, contestant.version()?);
    }
    for round in 1..=options.rounds {
        for play in Scenario::needed(&scenarios) {
            for contestant in &contestants {
                let start = progress.elapsed();
                let figures = stage.play(*contestant, play)?;
                let took = format_duration(progress.elapsed() - start);
                println!("round {round} {play:?} {}: {took}{}", contestant.name(), brief(&figures));
                report.add(*contestant, round, figures);
            }
        }
        if let Some(file) = &options.json {
            fs::write(file, serde_json::to_string_pretty(&report.to_json())?)?;
        }
    }
    progress.heading("Medians");
    report.print();
    Ok(())
}

fn brief(figures: &[Figure]) -> String {
    let one = |figure: &Figure| match &figure.wrong {
        Some(wrong) => format!("; {}: WRONG: {wrong}", figure.row),
        None => format!("; {} {:.3} s, {:.3} CPU s", figure.row, figure.wall, figure.cpu),
    };
    figures.iter().map(one).collect()
}

/// Two namespaces and a cable.
struct Stage {
    daemon: Netns,
    tester: Netns,
    directory: PathBuf,
}

impl Stage {
    fn build(run: &Run) -> Result<Self> {
        let daemon = Netns::create(&run.netns("dut"))?;
        let tester = Netns::create(&run.netns("tester"))?;
        let peer = tester.name();
        daemon.ip(&format!(
            "link add name wire type veth peer name wire netns {peer}
address add {DAEMON_IPV4}/16 dev wire
address add {DAEMON_IPV6}/64 dev wire nodad
link set wire up"
        ))?;
        let mut lines = String::from("link set wire up\n");
        let numbers = 0..MOST_PEERS;
        for number in numbers.clone() {
            let ipv4 = scenario::address(Family::Ipv4, number);
            lines += &format!("address add {ipv4}/16 dev wire\n");
        }
        for number in 0..4 {
            let ipv6 = scenario::address(Family::Ipv6, number);
            lines += &format!("address add {ipv6}/64 dev wire nodad\n");
        }
        tester.ip(&lines)?;
        // The kernel keeps few neighbours that it had to ask for, for all namespaces together.
        let mac = link_address(&tester)?;
        let neighbors = numbers.map(|number| {
            let address = scenario::address(Family::Ipv4, number);
            format!("neighbor add {address} lladdr {mac} dev wire nud permanent\n")
        });
        daemon.ip(&neighbors.collect::<String>())?;
        Ok(Self { daemon, tester, directory: run.directory().join("bench") })
    }

    /// One life of one daemon.
    fn play(&self, contestant: Contestant, play: Play) -> Result<Vec<Figure>> {
        let floor = match play {
            Play::Mesh => self.floor(contestant),
            Play::One
            | Play::Rivals
            | Play::Large
            | Play::Crowd
            | Play::Churn
            | Play::LargeIpv6
            | Play::Audience => Ok(0.0),
        };
        let daemon = self.start(contestant, play, &play.peers())?;
        let mut figures = self.tester(Order { play, pid: daemon.pid() })?;
        let ended = daemon.stop();
        for figure in &mut figures {
            match (&floor, figure.more.remove("resident KiB")) {
                (Ok(floor), Some(full)) => {
                    let each = (full - floor) / f64::from(scenario::MESH);
                    figure.more.insert("KiB/peer".to_owned(), each);
                }
                (Err(error), _) => figure.wrong = Some(format!("{error:#}")),
                (Ok(_), None) => {}
            }
            if let Err(error) = &ended {
                let said = self.last_words(contestant);
                figure.wrong = Some(format!("{error:#}; {said}"));
            }
        }
        Ok(figures)
    }

    /// The end of a daemon's log.
    fn last_words(&self, contestant: Contestant) -> String {
        let log = fs::read_to_string(self.directory.join(contestant.name()).join("log"));
        let log = log.unwrap_or_default();
        let lines: Vec<&str> = log.trim().lines().rev().take(3).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("; ")
    }

    /// Resident KiB of the daemon with one configured peer, which does not come.
    fn floor(&self, contestant: Contestant) -> Result<f64> {
        let daemon = self.start(contestant, Play::Mesh, &Play::Mesh.peers()[..1])?;
        thread::sleep(Duration::from_secs(2));
        let rss = measure::sample(daemon.pid())?.rss_kib;
        daemon.stop()?;
        #[expect(clippy::cast_precision_loss, reason = "KiB are far below 2^52")]
        Ok(rss as f64)
    }

    fn start(
        &self,
        contestant: Contestant,
        play: Play,
        peers: &[scenario::Peer],
    ) -> Result<Daemon> {
        let directory = self.directory.join(contestant.name());
        if directory.exists() {
            fs::remove_dir_all(&directory)?;
        }
        contestant.start(&self.daemon, &directory, &Duty { address: play.daemon(), peers })
    }

    fn tester(&self, order: Order) -> Result<Vec<Figure>> {
        let mut command = Command::new(Binaries::of(Profile::Release).lab);
        command.arg("bgp-tester").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut tester = self.tester.spawn(&mut command)?;
        let input = serde_json::to_string(&order)?;
        tester.stdin.take().context("it was piped")?.write_all(input.as_bytes())?;
        let output = BufReader::new(tester.stdout.take().context("it was piped")?);
        let figures = output
            .lines()
            .map(|line| serde_json::from_str(&line?).context("what the tester printed"))
            .collect();
        let status = tester.wait()?;
        ensure!(status.success(), "the tester failed: {status}");
        figures
    }
}

/// The hardware address of the cable's end, from `ip link`: /sys shows another namespace's.
fn link_address(netns: &Netns) -> Result<String> {
    let text = netns.run("ip", &["-oneline", "link", "show", "wire"])?;
    let mut words = text.split_whitespace().skip_while(|word| *word != "link/ether").skip(1);
    Ok(words.next().context("the cable has no hardware address")?.to_owned())
}
