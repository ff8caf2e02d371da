//! One node's agent: the real `ocicat agent`, as a child process in the node's namespace.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::de::DeserializeOwned;

use crate::binaries::Binaries;
use crate::netns::Netns;
use crate::wait::until;

/// Where an agent serves health and metrics, inside its namespace.
const HTTP: &str = "127.0.0.1:9909";

/// How long an agent may take to its readiness.
const READY: Duration = Duration::from_secs(15);

/// An agent's place: where it runs and keeps its things. The process may come and go.
#[derive(Debug)]
pub(crate) struct Agent {
    node: String,
    netns: Netns,
    binaries: Binaries,
    datastore: PathBuf,
    kubeconfig: Option<PathBuf>,
    directory: PathBuf,
    dataplane: &'static str,
    process: Option<Child>,
}

/// How to end an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// `SIGTERM`: a planned stop.
    Ask,
    /// `SIGKILL`: a crash.
    Kill,
}

impl Agent {
    /// Prepares an agent; nothing runs yet.
    pub(crate) fn new(
        node: &str,
        netns: Netns,
        binaries: Binaries,
        datastore: &Path,
        directory: PathBuf,
    ) -> Result<Self> {
        fs::create_dir_all(directory.join("state"))?;
        let datastore = datastore.to_owned();
        let (node, kubeconfig, process) = (node.to_owned(), None, None);
        let dataplane = "kernel";
        Ok(Self { node, netns, binaries, datastore, kubeconfig, directory, dataplane, process })
    }

    /// Has the agent ask an API server from its next start on, not a directory.
    pub(crate) fn watch_cluster(&mut self, kubeconfig: PathBuf) {
        self.datastore = "kubernetes".into();
        self.kubeconfig = Some(kubeconfig);
    }

    /// Has the agent program no kernel from its next start on: the speaker alone.
    pub(crate) fn talk_only(&mut self) {
        self.dataplane = "none";
    }

    pub(crate) fn netns(&self) -> &Netns {
        &self.netns
    }

    pub(crate) fn binaries(&self) -> &Binaries {
        &self.binaries
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.join("ocicat.sock")
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.directory.join("state")
    }

    /// Where it logs to.
    pub(crate) fn log(&self) -> PathBuf {
        self.directory.join("agent.log")
    }

    /// Starts the process, not waiting for it.
    pub(crate) fn launch(&mut self) -> Result<()> {
        if self.process.is_some() {
            bail!("the agent of {} runs already", self.node);
        }
        let log = File::options().create(true).append(true).open(self.log())?;
        let mut command = self.command();
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
        self.process = Some(self.netns.spawn(&mut command)?);
        Ok(())
    }

    /// The command line of the agent.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.binaries.ocicat);
        command
            .arg("--socket")
            .arg(self.socket())
            .args(["agent", "--node", &self.node, "--http", HTTP, "--datastore"])
            .arg(&self.datastore)
            .arg("--state-dir")
            .arg(self.state())
            .args(["--dataplane", self.dataplane]);
        if let Some(kubeconfig) = &self.kubeconfig {
            command.arg("--kubeconfig").arg(kubeconfig);
        }
        command
    }

    /// Waits until the agent says that it is ready; gives the time from this call.
    pub(crate) fn wait_ready(&mut self) -> Result<Duration> {
        let limit = READY;
        let goal = format!("the agent of {} is ready", self.node);
        let ready = until(limit, &goal, || {
            if let Some(status) = self.process.as_mut().map(Child::try_wait).transpose()?.flatten()
            {
                bail!("the agent of {} ended: {status}", self.node);
            }
            Ok(self.get("/readyz")?.0 == 200)
        });
        ready.with_context(|| self.log_tail())
    }

    /// Starts the process and waits for it.
    pub(crate) fn start(&mut self) -> Result<Duration> {
        self.launch()?;
        self.wait_ready()
    }

    /// Ends the process and waits for its end.
    pub(crate) fn stop(&mut self, how: Stop) -> Result<()> {
        let Some(mut process) = self.process.take() else { return Ok(()) };
        match how {
            Stop::Kill => process.kill()?,
            Stop::Ask => kill(Pid::from_raw(process.id().cast_signed()), Signal::SIGTERM)?,
        }
        let ended =
            until(Duration::from_secs(10), "the agent ends", || Ok(process.try_wait()?.is_some()));
        if ended.is_err() {
            process.kill()?;
            process.wait()?;
        }
        ended.map(drop)
    }

    /// Gives up the process: it outlives this program.
    pub(crate) fn leave_running(&mut self) {
        drop(self.process.take());
    }

    /// The resident memory of the process in KiB.
    pub(crate) fn memory(&self) -> Result<u64> {
        let process = self.process.as_ref().context("the agent does not run")?;
        let status = fs::read_to_string(format!("/proc/{}/status", process.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        Ok(line.and_then(|line| line.split_whitespace().next()).context("no VmRSS")?.parse()?)
    }

    /// How many files and sockets the process has open.
    pub(crate) fn open_files(&self) -> Result<usize> {
        let process = self.process.as_ref().context("the agent does not run")?;
        Ok(fs::read_dir(format!("/proc/{}/fd", process.id()))?.count())
    }

    /// Fetches a page of the agent's HTTP server: status code and body.
    pub(crate) fn get(&self, path: &str) -> Result<(u16, String)> {
        let mut stream = self.netns.enter(|| TcpStream::connect(HTTP))??;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("no end of the HTTP header")?;
        let code = head.split(' ').nth(1).context("no HTTP status code")?.parse()?;
        Ok((code, body.to_owned()))
    }

    /// The samples of the metrics whose names start with `prefix`.
    pub(crate) fn metrics(&self, prefix: &str) -> Result<Vec<String>> {
        let (_, page) = self.get("/metrics")?;
        Ok(page.lines().filter(|line| line.starts_with(prefix)).map(str::to_owned).collect())
    }

    /// Runs `ocicat --socket ...` with these arguments on the node; gives what it printed. A "no" is
    /// an answer too: `explain` and `check` say it by exit code 3.
    pub(crate) fn ask(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(&self.binaries.ocicat);
        command.arg("--socket").arg(self.socket()).args(arguments);
        let done = self.netns.enter(|| command.output())??;
        if !matches!(done.status.code(), Some(0 | 3)) {
            let complaint = String::from_utf8_lossy(&done.stderr);
            bail!("ocicat {}: {}: {}", arguments.join(" "), done.status, complaint.trim());
        }
        Ok(String::from_utf8_lossy(&done.stdout).into_owned())
    }

    /// The same, as programs read it.
    pub(crate) fn json<T: DeserializeOwned>(&self, arguments: &[&str]) -> Result<T> {
        let text = self.ask(&[arguments, &["-o", "json"]].concat())?;
        serde_json::from_str(&text).with_context(|| text)
    }

    /// The end of the agent's log, for an error message.
    pub(crate) fn log_tail(&self) -> String {
        let log = fs::read_to_string(self.log()).unwrap_or_default();
        let lines = log.lines().map(|line| line.get(..400).unwrap_or(line));
        let lines: Vec<&str> = lines.collect();
        let tail = &lines[lines.len().saturating_sub(15)..];
        format!("log of the agent of {}:\n    {}", self.node, tail.join("\n    "))
    }
}
