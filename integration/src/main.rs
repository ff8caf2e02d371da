//! `lab`: the demo, the tests and the benchmarks, on real network namespaces.
//!
//! `cargo lab demo` shows Ocicat at work; `cargo lab test` runs every test of the workspace.

mod agent;
mod binaries;
mod fib;
mod gobgp;
mod lab;
mod netns;
mod object;
mod probe;
mod progress;
mod run;
mod runtime;
mod setup;
mod spec;
mod suite;
mod supervise;
mod test;
mod underlay;
mod wait;

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};

use crate::netns::Netns;

#[derive(Debug, Parser)]
#[command(name = "lab", bin_name = "cargo lab", about = "Ocicat on network namespaces")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run every test: format, lints, licences, unit tests, and the labs.
    Test {
        /// Run only lab tests whose name contains this.
        filter: Option<String>,
        /// Print the names of the lab tests.
        #[arg(long)]
        list: bool,
    },
    /// Remove what labs left, also those that were kept.
    Down,
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
