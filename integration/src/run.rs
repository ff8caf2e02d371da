//! One start of the lab: the prefix of every name that it makes on this machine, and its folder.
//!
//! The folder holds a lock as long as the owner lives, so a later start can tell a killed run from a
//! living one and remove what it left. Removing needs nothing but the run's name.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{process, thread};

use anyhow::{Context as _, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::netns::{self, Netns};

const DIRECTORY: &str = "/run/ocicat-lab";

/// The names of one start of the lab.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    id: String,
}

/// A run whose owner is this process. The lock goes with it.
#[derive(Debug)]
pub(crate) struct Claim {
    pub(crate) run: Run,
    _lock: File,
}

/// What a sweep removes besides runs whose owner died.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    Spare,
    Remove,
}

impl Run {
    /// Takes a new name that no living run has.
    pub(crate) fn claim() -> Result<Claim> {
        for attempt in 0_u32.. {
            let run = Self { id: format!("{:x}{}", process::id(), letter(attempt)) };
            fs::create_dir_all(DIRECTORY)?;
            match fs::create_dir(run.directory()) {
                Ok(()) => {
                    let lock = File::create(run.directory().join("lock"))?;
                    lock.lock()?;
                    return Ok(Claim { run, _lock: lock });
                }
                Err(taken) if taken.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error).context("the lab keeps its files in /run"),
            }
        }
        unreachable!("a run name is free long before u32 wraps")
    }

    /// The run of this name, whoever owns it.
    pub(crate) fn named(id: &str) -> Self {
        Self { id: id.to_owned() }
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Where the run keeps its datastore, state and logs.
    pub(crate) fn directory(&self) -> PathBuf {
        Path::new(DIRECTORY).join(&self.id)
    }

    /// The full name of one of the run's namespaces.
    pub(crate) fn netns(&self, name: &str) -> String {
        format!("{}{name}", self.prefix())
    }

    fn prefix(&self) -> String {
        format!("oct-{}-", self.id)
    }

    /// All namespaces of the run.
    pub(crate) fn namespaces(&self) -> Result<Vec<String>> {
        netns::names(&self.prefix())
    }

    /// The names of the run's machines, as people type them.
    pub(crate) fn machines(&self) -> Result<Vec<String>> {
        let names = self.namespaces()?;
        let short = names.iter().filter_map(|name| name.strip_prefix(&self.prefix()));
        Ok(short
            .map(|name| {
                name.strip_prefix("pod-").map_or(name.to_owned(), |pod| pod.replacen('-', "/", 1))
            })
            .collect())
    }

    /// Marks the run to stay after its owner's end.
    pub(crate) fn keep(&self) -> Result<()> {
        Ok(File::create(self.kept_mark()).map(drop)?)
    }

    fn kept_mark(&self) -> PathBuf {
        self.directory().join("kept")
    }

    /// Whether someone asked for the run to stay.
    pub(crate) fn is_kept(&self) -> bool {
        self.kept_mark().exists()
    }

    /// Ends the run's processes and removes its namespaces and files.
    pub(crate) fn erase(&self) -> Result<()> {
        self.erase_namespaces()?;
        match fs::remove_dir_all(self.directory()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Ends the run's processes and removes its namespaces.
    pub(crate) fn erase_namespaces(&self) -> Result<()> {
        let names = self.namespaces()?;
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            let mut living = Vec::new();
            for name in &names {
                // A file that is no namespace: the run died between making and mounting it.
                living.extend(
                    Netns::open(name).and_then(|netns| netns.processes()).unwrap_or_default(),
                );
            }
            living.retain(|pid| *pid != process::id().cast_signed());
            if living.is_empty() || Instant::now() > deadline {
                break;
            }
            for pid in living {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            thread::sleep(Duration::from_millis(5));
        }
        for name in names {
            netns::remove(&name)?;
        }
        Ok(())
    }
}

/// Every run that left something on this machine.
pub(crate) fn all() -> Result<Vec<Run>> {
    let Ok(entries) = fs::read_dir(DIRECTORY) else { return Ok(Vec::new()) };
    let mut runs = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir()
            && let Some(id) = entry.file_name().to_str()
        {
            runs.push(Run::named(id));
        }
    }
    Ok(runs)
}

/// Removes what runs left whose owner is gone. Gives their names.
pub(crate) fn sweep(kept: Kept) -> Result<Vec<String>> {
    let mut swept = Vec::new();
    for run in all()? {
        if run.is_kept() && kept == Kept::Spare {
            continue;
        }
        let lock = File::open(run.directory().join("lock"));
        if lock.is_ok_and(|lock| lock.try_lock().is_err()) {
            continue;
        }
        run.erase()?;
        swept.push(run.id);
    }
    Ok(swept)
}

fn letter(attempt: u32) -> String {
    if attempt == 0 { String::new() } else { format!("x{attempt}") }
}
