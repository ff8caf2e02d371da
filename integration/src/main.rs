//! `lab`: the demo, the tests and the benchmarks, on real network namespaces.
//!
//! `cargo lab demo` shows Ocicat at work; `cargo lab test` runs every test of the workspace.

mod agent;
mod bench;
mod binaries;
mod demo;
mod fib;
mod fuzz;
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
    /// Measure what a pod, a policy or a route costs, and the speaker beside others.
    Bench {
        #[command(subcommand)]
        subject: bench::Subject,
    },
    /// Fuzz the parsers and whole sessions, guided by coverage; the inputs that were of use are kept.
    Fuzz {
        /// One of message, attributes, nlri, bfd, rpki, sessions; all otherwise.
        target: Option<String>,
        /// How long in all, in seconds.
        #[arg(long, default_value_t = 3600)]
        seconds: u64,
    },
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
    BenchWorker {
        #[command(subcommand)]
        subject: bench::Subject,
    },
    /// Play one scenario of the BGP benchmark; told on standard input.
    #[command(hide = true)]
    BgpTester,
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
            in_worker(&["demo-worker", &after.to_string()], &[], Duration::from_secs(1800))
        }
        Command::DemoWorker { after } => {
            let run = worker.context("only `cargo lab demo` starts this")?;
            demo::show(&run, after.parse()?)
        }
        Command::Bench { subject } => {
            // The worker reads the same words as we did.
            let words = std::env::args().skip_while(|word| word != "bench").skip(1);
            let words: Vec<String> = ["bench-worker".to_owned()].into_iter().chain(words).collect();
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            in_worker(&words, &subject.packages(), subject.limit())
        }
        Command::BenchWorker { subject } => {
            bench::run(&worker.context("only `cargo lab bench` starts this")?, &subject)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::BgpTester => {
            bench::run_tester()?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Fuzz { target, seconds } => {
            fuzz::run(target.as_deref(), Duration::from_secs(seconds))
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
fn in_worker(arguments: &[&str], packages: &[setup::Package], limit: Duration) -> Result<ExitCode> {
    setup::require_root()?;
    let progress = Progress::new();
    progress.heading("Set-up");
    for name in run::sweep(run::Kept::Spare)? {
        println!("removed lab {name}, which a killed run had left");
    }
    setup::install_packages(&progress, packages)?;
    progress
        .step("build ocicat, ocicat-cni and lab (release)", || Binaries::build(Profile::Release))?;
    let end = supervise(arguments, limit)?;
    Ok(if end == End::Passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
