//! StayRTR, which tells what stands in a file.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use serde_json::json;

use crate::netns::Netns;
use crate::setup::find;
use crate::wait::until;

/// Who may originate a prefix, and nothing longer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Payload {
    pub(super) prefix: &'static str,
    pub(super) asn: u32,
}

/// A running cache.
#[derive(Debug)]
pub(super) struct Cache {
    process: Child,
    started: SystemTime,
    directory: PathBuf,
    address: SocketAddr,
}

impl Cache {
    pub(super) fn start(
        netns: &Netns,
        directory: &Path,
        address: SocketAddr,
        payloads: &[Payload],
    ) -> Result<Self> {
        fs::create_dir_all(directory)?;
        write(directory, payloads)?;
        let process = spawn(netns, directory, address)?;
        let started = SystemTime::now();
        Ok(Self { process, started, directory: directory.to_owned(), address })
    }

    /// Has it say this from now on: it looks at its file each second.
    pub(super) fn say(&self, payloads: &[Payload]) -> Result<()> {
        write(&self.directory, payloads)
    }

    /// What it has written, for an error message.
    pub(super) fn log(&self) -> String {
        fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }

    pub(super) fn kill(&mut self) -> Result<()> {
        self.process.kill()?;
        self.process.wait()?;
        Ok(())
    }

    /// Starts it again after [`Self::kill`]. It draws its session from the second in which it starts, so two lives in one
    /// would have the same, and the new data the number of the old.
    pub(super) fn restart(&mut self, netns: &Netns, payloads: &[Payload]) -> Result<()> {
        write(&self.directory, payloads)?;
        until(Duration::from_secs(5), "it is another second", || {
            Ok(self.started.elapsed()? > Duration::from_secs(2))
        })?;
        self.process = spawn(netns, &self.directory, self.address)?;
        Ok(())
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        // Fails if it is dead already.
        let _ = self.kill();
    }
}

const FILE: &str = "vrps.json";

fn write(directory: &Path, payloads: &[Payload]) -> Result<()> {
    let roa = |payload: &Payload| {
        let length = payload.prefix.split_once('/').and_then(|(_, length)| length.parse().ok());
        let max_length: Option<u8> = length;
        json!({ "prefix": payload.prefix, "maxLength": max_length, "asn": payload.asn, "ta": "lab" })
    };
    let roas: Vec<_> = payloads.iter().map(roa).collect();
    let text = json!({ "metadata": {}, "roas": roas }).to_string();
    // It must never read half of it.
    let new = directory.join("new.json");
    fs::write(&new, text)?;
    Ok(fs::rename(new, directory.join(FILE))?)
}

fn spawn(netns: &Netns, directory: &Path, address: SocketAddr) -> Result<Child> {
    let log = File::options().create(true).append(true).open(directory.join("log"))?;
    let mut command = Command::new(find("stayrtr").context("no stayrtr in PATH")?);
    command.arg("-cache").arg(directory.join(FILE)).arg("-bind").arg(address.to_string());
    // What it tells is as old as the file, which has no date; and nobody asks for its metrics.
    command.args(["-checktime=false", "-refresh", "1", "-metrics.addr", "127.0.0.1:0"]);
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
    netns.spawn(&mut command)
}
