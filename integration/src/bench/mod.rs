//! `cargo lab bench`: what a pod, a policy and a route cost, and the speaker beside others.
//!
//! Numbers are printed with the count they come from; who compares them runs both sides on one
//! machine.

mod bgp;
mod churn;
mod contestants;
mod fib;
mod measure;
mod node;
mod plays;
mod receiver;
mod report;
mod scenario;
mod session;
mod sessions;
mod table;
mod tester;
mod wire;

use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Subcommand;

use crate::binaries::{Binaries, Profile};
use crate::lab::Lab;
use crate::probe::raise_socket_limit;
use crate::progress::{Progress, format_duration};
use crate::run::Run;
use crate::setup::Package;
use crate::spec::{Numbering, rack};

pub(crate) use tester::run as run_tester;

/// What to measure.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Subject {
    /// ADD and DEL of pods, one after the other and at once.
    Cni,
    /// Packets and changes under a growing number of policies.
    Policy,
    /// Routes from the router to the node's kernel.
    Fib,
    /// The BGP speaker beside BIRD, FRR, OpenBGPD and GoBGP, in one run.
    Bgp(bgp::Options),
}

impl Subject {
    /// What it needs besides what every lab needs.
    pub(crate) fn packages(&self) -> Vec<Package> {
        match self {
            Self::Cni | Self::Policy | Self::Fib => Vec::new(),
            Self::Bgp(options) => options
                .contestants()
                .into_iter()
                .filter_map(contestants::Contestant::package)
                .collect(),
        }
    }

    /// How long it may take.
    pub(crate) fn limit(&self) -> Duration {
        match self {
            Self::Cni | Self::Policy | Self::Fib => Duration::from_secs(1800),
            Self::Bgp(_) => Duration::from_secs(12 * 3600),
        }
    }
}

/// Measures in the worker process.
pub(crate) fn run(run: &Run, subject: &Subject) -> Result<()> {
    raise_socket_limit()?;
    match subject {
        Subject::Cni => node::cni(&lab(run)?),
        Subject::Policy => node::policy(&mut lab(run)?),
        Subject::Fib => {
            let mut lab = lab(run)?;
            fib::one(&lab)?;
            fib::bulk(&mut lab)
        }
        Subject::Bgp(options) => bgp::run(run, options),
    }
}

fn lab(run: &Run) -> Result<Lab> {
    let binaries = Binaries::of(Profile::Release);
    let mut lab = Lab::create(run, rack(1, Numbering::PerRack), &binaries)?;
    Progress::new().step("one node and a router", || lab.start())?;
    Ok(lab)
}

/// Prints the spread of some times.
fn print(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |percent: usize| format_duration(times[(times.len() - 1) * percent / 100]);
    println!(
        "{what:<52} p50 {:>8}  p99 {:>8}  max {:>8}  n {}",
        at(50),
        at(99),
        at(100),
        times.len()
    );
}

fn timed<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, Duration)> {
    let start = Instant::now();
    let value = work()?;
    Ok((value, start.elapsed()))
}
