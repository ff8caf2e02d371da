//! pmacct's `pmbmpd`, which writes each message that it hears as a line of JSON.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::netns::Netns;
use crate::setup::find;

/// A running collector.
#[derive(Debug)]
pub(super) struct Collector {
    process: Child,
    directory: PathBuf,
}

/// What it has heard over the last connection.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// How many connections there were.
    pub(super) connections: usize,
    /// The name of the router.
    pub(super) name: String,
    pub(super) up: BTreeSet<String>,
    /// Peers that went down, and the reason code.
    pub(super) downs: Vec<(String, u64)>,
    /// By table and peer, the AS path of each prefix.
    pub(super) tables: BTreeMap<(String, String), BTreeMap<String, String>>,
    /// By peer and type of statistic.
    pub(super) statistics: BTreeMap<(String, u64), u64>,
    pub(super) terminated: bool,
}

impl Collector {
    pub(super) fn start(netns: &Netns, directory: &Path, address: SocketAddr) -> Result<Self> {
        fs::create_dir_all(directory)?;
        let text = format!(
            "daemonize: false\nbmp_daemon_ip: {}\nbmp_daemon_port: {}\n\
             bmp_daemon_msglog_output: json\nbmp_daemon_msglog_file: {}\n",
            address.ip(),
            address.port(),
            directory.join(MESSAGES).display()
        );
        fs::write(directory.join(CONFIG), text)?;
        let process = spawn(netns, directory)?;
        Ok(Self { process, directory: directory.to_owned() })
    }

    pub(super) fn kill(&mut self) -> Result<()> {
        self.process.kill()?;
        self.process.wait()?;
        Ok(())
    }

    /// Starts it again after [`Self::kill`].
    pub(super) fn restart(&mut self, netns: &Netns) -> Result<()> {
        self.process = spawn(netns, &self.directory)?;
        Ok(())
    }

    /// What it has heard, as far as it is written.
    pub(super) fn heard(&self) -> Result<Heard> {
        let text = fs::read_to_string(self.directory.join(MESSAGES)).unwrap_or_default();
        let (whole, _) = text.rsplit_once('\n').unwrap_or_default();
        let mut heard = Heard::default();
        for line in whole.lines() {
            heard.take(&serde_json::from_str(line).with_context(|| line.to_owned())?);
        }
        Ok(heard)
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        // Fails if it is dead already.
        let _ = self.kill();
    }
}

const MESSAGES: &str = "messages.json";
const CONFIG: &str = "pmbmpd.conf";

fn spawn(netns: &Netns, directory: &Path) -> Result<Child> {
    let log = File::options().create(true).append(true).open(directory.join("log"))?;
    let mut command = Command::new(find("pmbmpd").context("no pmbmpd in PATH")?);
    command.arg("-f").arg(directory.join(CONFIG)).stdin(Stdio::null()).process_group(0);
    command.stdout(log.try_clone()?).stderr(log);
    netns.spawn(&mut command)
}

impl Heard {
    fn take(&mut self, message: &Value) {
        let text = |field: &str| message[field].as_str().unwrap_or_default().to_owned();
        let number = |field: &str| message[field].as_u64().unwrap_or_default();
        let peer = text("peer_ip");
        match message["bmp_msg_type"].as_str().unwrap_or_default() {
            "init" => {
                let connections = self.connections + 1;
                *self =
                    Self { connections, name: text("bmp_init_info_sysname"), ..Self::default() };
            }
            "peer_up" => drop(self.up.insert(peer)),
            "peer_down" => {
                self.up.remove(&peer);
                self.tables.retain(|(_, whose), _| *whose != peer);
                self.downs.push((peer, number("reason_type")));
            }
            "route_monitor" => {
                let table = if number("is_loc") == 1 {
                    "loc-rib"
                } else if number("is_out") == 1 {
                    "adj-rib-out"
                } else if number("is_post") == 1 {
                    "post-policy"
                } else {
                    "pre-policy"
                };
                let table = self.tables.entry((table.to_owned(), peer)).or_default();
                if text("log_type") == "update" {
                    table.insert(text("ip_prefix"), text("as_path"));
                } else {
                    table.remove(&text("ip_prefix"));
                }
            }
            "stats" => {
                let kind = (peer, number("counter_type"));
                self.statistics.insert(kind, number("counter_value"));
            }
            "term" => self.terminated = true,
            _ => {}
        }
    }
}
