//! `ocicat`: the node daemon and the command that asks it.

use std::process::ExitCode;

use clap::Parser;

mod cli;

fn main() -> ExitCode {
    let command = cli::Cli::parse();
    match cli::run(command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("ocicat: {error:#}");
            ExitCode::from(cli::FAILED)
        }
    }
}
