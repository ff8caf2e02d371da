//! Network namespaces: the machines of a lab.
//!
//! A namespace is bind-mounted under `/run/netns`, so `ip netns` sees it. Work is done inside by a
//! thread that enters it; a process started by that thread stays inside.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::{panic, thread};

use anyhow::{Context as _, Result, bail};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

/// Where `ip netns` looks for namespaces.
pub(crate) const DIRECTORY: &str = "/run/netns";

/// A network namespace that outlives the processes in it.
#[derive(Debug)]
pub(crate) struct Netns {
    name: String,
    file: File,
}

impl Netns {
    /// Makes a new, empty namespace with its loopback interface up.
    pub(crate) fn create(name: &str) -> Result<Self> {
        fs::create_dir_all(DIRECTORY)?;
        let path = path_of(name);
        File::create_new(&path).with_context(|| format!("namespace {name}"))?;
        let made = thread::scope(|scope| {
            let maker = scope.spawn(|| -> Result<()> {
                unshare(CloneFlags::CLONE_NEWNET)?;
                let own = Path::new("/proc/thread-self/ns/net");
                mount(Some(own), &path, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
                Ok(())
            });
            maker.join().unwrap_or_else(|panic| panic::resume_unwind(panic))
        });
        made.with_context(|| format!("cannot make the network namespace {name}"))?;
        let netns = Self::open(name)?;
        netns.ip("link set lo up")?;
        Ok(netns)
    }

    /// Opens a namespace that exists.
    pub(crate) fn open(name: &str) -> Result<Self> {
        let file = File::open(path_of(name)).with_context(|| format!("no namespace {name}"))?;
        Ok(Self { name: name.to_owned(), file })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The file that stands for the namespace, as a container runtime hands it to a plugin.
    pub(crate) fn path(&self) -> PathBuf {
        path_of(&self.name)
    }

    /// Runs `work` on a thread inside. Sockets made there belong to the namespace for good.
    pub(crate) fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        thread::scope(|scope| {
            let inside = scope.spawn(|| -> Result<T> {
                self.join()?;
                Ok(work())
            });
            inside.join().unwrap_or_else(|panic| panic::resume_unwind(panic))
        })
    }

    /// Moves the calling thread into the namespace, for the rest of its life.
    pub(crate) fn join(&self) -> Result<()> {
        setns(&self.file, CloneFlags::CLONE_NEWNET)
            .with_context(|| format!("cannot enter the namespace {}", self.name))
    }

    /// A second handle on the same namespace.
    pub(crate) fn handle(&self) -> Result<Self> {
        Ok(Self { name: self.name.clone(), file: self.file.try_clone()? })
    }

    /// Starts a program inside.
    pub(crate) fn spawn(&self, command: &mut Command) -> Result<Child> {
        let program = command.get_program().to_owned();
        self.enter(|| command.spawn())?
            .with_context(|| format!("cannot start {} in {}", program.display(), self.name))
    }

    /// Runs a program inside to its end; gives its standard output.
    pub(crate) fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        self.enter(|| output(Command::new(program).args(arguments)))?
            .with_context(|| format!("in {}", self.name))
    }

    /// Runs lines of `ip` commands inside, in one process; the first that fails ends it.
    pub(crate) fn ip(&self, lines: &str) -> Result<()> {
        feed(Command::new("ip").args(["-n", &self.name, "-batch", "-"]), lines).map(drop)
    }

    /// Writes a setting under `/proc/sys` inside.
    pub(crate) fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        let path = format!("/proc/sys/{}", key.replace('.', "/"));
        self.enter(|| fs::write(&path, value))?.with_context(|| format!("{path} in {}", self.name))
    }

    /// The processes that live inside.
    pub(crate) fn processes(&self) -> Result<Vec<i32>> {
        let here = self.file.metadata()?.ino();
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc")? {
            let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            // A process may end while we look: then it is not inside.
            if fs::metadata(format!("/proc/{pid}/ns/net")).is_ok_and(|ns| ns.ino() == here) {
                found.push(pid);
            }
        }
        Ok(found)
    }
}

/// Takes a namespace's name away; the kernel frees it when its last process and socket are gone.
pub(crate) fn remove(name: &str) -> Result<()> {
    let path = path_of(name);
    // Not mounted: the file was made and the mount was not.
    let _ = umount2(&path, MntFlags::MNT_DETACH);
    fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))
}

/// The names of all namespaces that start with `prefix`.
pub(crate) fn names(prefix: &str) -> Result<Vec<String>> {
    let Ok(entries) = fs::read_dir(DIRECTORY) else { return Ok(Vec::new()) };
    let mut names = Vec::new();
    for entry in entries {
        if let Some(name) = entry?.file_name().to_str().filter(|name| name.starts_with(prefix)) {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

fn path_of(name: &str) -> PathBuf {
    Path::new(DIRECTORY).join(name)
}

/// Runs a program to its end; gives its standard output, or an error with what it complained of.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let done = command.output().with_context(|| format!("cannot run {command:?}"))?;
    if !done.status.success() {
        let complaint = String::from_utf8_lossy(&done.stderr);
        let said = String::from_utf8_lossy(&done.stdout);
        bail!("{command:?}: {}: {} {}", done.status, complaint.trim(), said.trim());
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

/// Runs a program that reads `input`; gives its standard output.
pub(crate) fn feed(command: &mut Command, input: &str) -> Result<String> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("cannot run {command:?}"))?;
    // A program that stops reading explains itself by its exit code.
    let _ = child.stdin.take().expect("standard input was piped").write_all(input.as_bytes());
    let done = child.wait_with_output()?;
    if !done.status.success() {
        let complaint = String::from_utf8_lossy(&done.stderr);
        bail!("{command:?}: {}: {}\n{input}", done.status, complaint.trim());
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}
