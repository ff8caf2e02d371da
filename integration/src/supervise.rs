//! Labs run in a worker process; this is the process above it.
//!
//! Whatever ends the worker (success, a panic, Ctrl-C, a timeout, `kill -9`), the supervisor is still
//! there to remove the namespaces and processes of the run. It waits for signals as values, so no
//! signal handler exists.

use std::env;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::Pid;

use crate::run::{Claim, Run};

/// This very program, also when its file has been built anew meanwhile.
pub(crate) const SELF: &str = "/proc/self/exe";

const RUN: &str = "OCICAT_LAB_RUN";

/// How a worker ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Passed,
    Failed,
    TimedOut,
    Interrupted,
}

/// The run that the supervisor made for this worker. Also lets signals through again, which the
/// supervisor holds back and a child inherits.
pub(crate) fn worker() -> Option<Run> {
    let run = env::var(RUN).ok()?;
    SigSet::all().thread_unblock().expect("the set of all signals is valid");
    Some(Run::named(&run))
}

/// Runs this program again with `arguments` as a worker of a new run, and removes the run after it.
pub(crate) fn supervise(arguments: &[&str], limit: Duration) -> Result<End> {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGCHLD] {
        signals.add(signal);
    }
    signals.thread_block()?;
    let claim = Run::claim()?;
    let mut worker = Command::new(SELF)
        .args(arguments)
        .env(RUN, claim.run.id())
        .spawn()
        .context("cannot start the worker")?;
    let end = wait(&mut worker, signals, limit);
    finish(&claim)?;
    signals.thread_unblock()?;
    end
}

fn finish(claim: &Claim) -> Result<()> {
    if claim.run.is_kept() { Ok(()) } else { claim.run.erase() }
}

fn wait(worker: &mut Child, signals: SigSet, limit: Duration) -> Result<End> {
    let pid = Pid::from_raw(worker.id().cast_signed());
    let deadline = Instant::now() + limit;
    let alarm = spawn_alarm(deadline);
    let mut end = None;
    loop {
        if let Some(status) = worker.try_wait()? {
            drop(alarm);
            return Ok(end.unwrap_or(if status.success() { End::Passed } else { End::Failed }));
        }
        let signal = signals.wait()?;
        if signal == Signal::SIGCHLD {
            continue;
        }
        let timed_out = signal == Signal::SIGHUP && Instant::now() >= deadline;
        end = Some(if timed_out { End::TimedOut } else { End::Interrupted });
        kill(pid, Signal::SIGKILL)?;
    }
}

/// Wakes the waiting thread at the deadline by a signal to ourselves. Ends when dropped.
fn spawn_alarm(deadline: Instant) -> std::sync::mpsc::Sender<()> {
    let (stop, stopped) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let left = deadline.saturating_duration_since(Instant::now());
        if stopped.recv_timeout(left) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            let _ = kill(Pid::this(), Signal::SIGHUP);
        }
    });
    stop
}
