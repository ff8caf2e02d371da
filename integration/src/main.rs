//! `lab`: the demo, the tests and the benchmarks, on real network namespaces.
//!
//! `cargo lab demo` shows Ocicat at work; `cargo lab test` runs every test of the workspace.

mod agent;
mod bench;
mod binaries;
mod demo;
mod fib;
mod kubernetes;
mod lab;
mod matrix;
mod netns;
mod object;
mod probe;
mod progress;
mod router;
mod run;
mod runtime;
mod setup;
mod spec;
mod suite;
mod supervise;
mod test;
mod underlay;
mod visit;
mod wait;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};

use crate::binaries::{Binaries, Profile};
use crate::demo::After;
use crate::netns::Netns;
use crate::progress::Progress;
use crate::supervise::{End, supervise};

#[derive(Debug, Parser)]
#[command(name = "lab", bin_name = "cargo lab", about = "Ocicat on network namespaces")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Three nodes behind a GoBGP router: routes, policies, and what happens when things break.
    Demo {
        /// Leave the lab running.
        #[arg(long)]
        keep: bool,
    },
    /// Run every test: format, lints, licences, unit tests, and the labs.
    Test {
        /// Run only lab tests whose name contains this.
        filter: Option<String>,
        /// Print the names of the lab tests.
        #[arg(long)]
        list: bool,
    },
    /// Measure what a pod, a policy or a route costs.
    Bench { subject: bench::Subject },
    /// A shell on a machine of a kept lab: a node, tor, client, or a pod as NAMESPACE/NAME.
    Shell { machine: String },
    /// Try TCP and UDP from one machine of a kept lab to MACHINE:PORT or ADDRESS:PORT.
    Probe { from: String, to: String },
    /// Remove what labs left, also those that were kept.
    Down,
    /// The demo, in its worker process.
    #[command(hide = true)]
    DemoWorker { after: String },
    /// A benchmark, in its worker process.
    #[command(hide = true)]
    BenchWorker { subject: bench::Subject },
    /// One lab test, in its worker process.
    #[command(hide = true)]
    TestWorker { name: String },
    /// Copy GoBGP's routes into the kernel of a namespace.
    #[command(hide = true)]
    Mirror { netns: String },
}

fn main() -> ExitCode {
    // RUST_BACKTRACE shows where an error came from.
    match execute(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn execute(command: Command) -> Result<ExitCode> {
    let worker = supervise::worker();
    match command {
        Command::Test { filter, list } => {
            if list {
                return test::list();
            }
            test::run(filter.as_deref())
        }
        Command::Demo { keep } => {
            let after = if keep { After::Keep } else { After::Remove };
            in_worker(&["demo-worker", &after.to_string()])
        }
        Command::DemoWorker { after } => {
            let run = worker.context("only `cargo lab demo` starts this")?;
            demo::show(&run, after.parse()?)
        }
        Command::Bench { subject } => in_worker(&["bench-worker", subject.word()]),
        Command::BenchWorker { subject } => {
            bench::run(&worker.context("only `cargo lab bench` starts this")?, subject)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Shell { machine } => visit::shell(&machine),
        Command::Probe { from, to } => visit::probe(&from, &to),
        Command::Down => {
            setup::require_root()?;
            for name in run::sweep(run::Kept::Remove)? {
                println!("removed lab {name}");
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::TestWorker { name } => {
            suite::run(&name, worker.context("only `cargo lab test` starts this")?)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Mirror { netns } => {
            fib::mirror(&Netns::open(&netns)?)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Gets ready what a demo or benchmark needs, then starts its worker process.
fn in_worker(arguments: &[&str]) -> Result<ExitCode> {
    setup::require_root()?;
    let progress = Progress::new();
    progress.heading("Set-up");
    for name in run::sweep(run::Kept::Spare)? {
        println!("removed lab {name}, which a killed run had left");
    }
    setup::install_packages(&progress)?;
    progress.step("build ocicat and ocicat-cni (release)", || Binaries::build(Profile::Release))?;
    let end = supervise(arguments, Duration::from_secs(1800))?;
    Ok(if end == End::Passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
