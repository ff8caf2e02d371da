//! The daemons under test: how each is configured for the same peers, started and ended.
//!
//! All accept everything, tell everything with themselves as the next hop, wait to be dialled, and
//! program no kernel.

mod bird;
mod frr;
mod gobgp;
mod ocicat;
mod openbgpd;

use std::fs::{self, File};
use std::net::IpAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::scenario::{DAEMON_AS, DAEMON_IPV4, Peer};
use crate::netns::Netns;
use crate::setup::{Package, find};
use crate::wait::until;

/// A BGP daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Contestant {
    Ocicat,
    Bird,
    Frr,
    Openbgpd,
    Gobgp,
}

/// What a daemon is to do.
#[derive(Debug)]
pub(crate) struct Duty<'a> {
    /// The address on which it is dialled.
    pub(crate) address: IpAddr,
    pub(crate) peers: &'a [Peer],
}

/// A running daemon.
#[derive(Debug)]
pub(crate) struct Daemon {
    process: Child,
}

impl Contestant {
    pub(crate) const ALL: [Self; 5] =
        [Self::Ocicat, Self::Bird, Self::Frr, Self::Openbgpd, Self::Gobgp];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Ocicat => "ocicat",
            Self::Bird => "bird",
            Self::Frr => "frr",
            Self::Openbgpd => "openbgpd",
            Self::Gobgp => "gobgp",
        }
    }

    /// The distribution package that has it.
    pub(crate) const fn package(self) -> Option<Package> {
        match self {
            Self::Ocicat => None,
            Self::Bird => Some(Package { program: "bird", package: "bird2" }),
            Self::Frr => Some(Package { program: frr::PROGRAM, package: "frr" }),
            Self::Openbgpd => Some(Package { program: openbgpd::PROGRAM, package: "openbgpd" }),
            Self::Gobgp => Some(Package { program: "gobgpd", package: "gobgpd" }),
        }
    }

    /// Name and version, as the program says them.
    pub(crate) fn version(self) -> Result<String> {
        let mut command = match self {
            Self::Ocicat => ocicat::version(),
            Self::Bird => program("bird", &["--version"])?,
            Self::Frr => program(frr::PROGRAM, &["--version"])?,
            Self::Openbgpd => program(openbgpd::PROGRAM, &["-V"])?,
            Self::Gobgp => program("gobgpd", &["--version"])?,
        };
        let done = command.output().with_context(|| format!("cannot run {command:?}"))?;
        let text = [done.stdout, done.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        Ok(text.lines().next().unwrap_or(self.name()).to_owned())
    }

    /// Starts it in `netns`, with its files in `directory`.
    pub(crate) fn start(self, netns: &Netns, directory: &Path, duty: &Duty<'_>) -> Result<Daemon> {
        fs::create_dir_all(directory)?;
        let mut command = match self {
            Self::Ocicat => ocicat::command(directory, duty)?,
            Self::Bird => bird::command(directory, duty)?,
            Self::Frr => frr::command(directory, duty)?,
            Self::Openbgpd => openbgpd::command(directory, duty)?,
            Self::Gobgp => gobgp::command(directory, duty)?,
        };
        let log = File::create(directory.join("log"))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        Ok(Daemon { process: netns.spawn(&mut command)? })
    }
}

impl Daemon {
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Ends it, and its children with it.
    pub(crate) fn stop(mut self) -> Result<()> {
        if let Some(status) = self.process.try_wait()? {
            bail!("the daemon ended by itself: {status}");
        }
        kill(Pid::from_raw(self.process.id().cast_signed()), Signal::SIGTERM)?;
        let process = &mut self.process;
        // Whether it ends in time is not what is measured.
        let _ = until(Duration::from_secs(10), "it ends", || Ok(process.try_wait()?.is_some()));
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Fails if it is dead already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn program(name: &str, arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(find(name).with_context(|| format!("there is no {name}"))?);
    command.args(arguments);
    Ok(command)
}

/// Writes a daemon's configuration and gives its path.
fn configuration(directory: &Path, name: &str, text: &str) -> Result<std::path::PathBuf> {
    let path = directory.join(name);
    fs::write(&path, text)?;
    Ok(path)
}
