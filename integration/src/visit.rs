//! Looking around in a lab that was kept: a shell on a machine, a probe from one to another.

use std::env;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail};

use crate::binaries::{Binaries, Profile};
use crate::netns::Netns;
use crate::object::Object;
use crate::probe::{Attempt, Flow, LONG, Outcome, Protocol, Server, send};
use crate::run::{self, Run};

/// Becomes a shell on a machine: a node, `tor`, `client`, or a pod as `namespace/name`.
pub(crate) fn shell(machine: &str) -> Result<ExitCode> {
    let (run, netns) = find(machine)?;
    let folder = Binaries::of(Profile::Release).ocicat;
    let folder = folder.parent().context("the program is in a folder")?;
    let path = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths(std::iter::once(folder.to_owned()).chain(env::split_paths(&path)))?;
    let program = env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into());
    let mut shell = Command::new(program);
    shell.env("PATH", path).env("PS1", format!("{machine} \\$ "));
    shell.env("OCICAT_SOCKET", run.directory().join(machine).join("ocicat.sock"));
    netns.join()?;
    // Returns only if it failed.
    Err(shell.exec()).context("cannot start a shell")
}

/// Tries TCP and UDP to a port; prints what became of them.
pub(crate) fn probe(from: &str, target: &str) -> Result<ExitCode> {
    let (machine, port) =
        target.rsplit_once(':').context("the target is MACHINE:PORT or ADDRESS:PORT")?;
    let port: u16 = port.parse().with_context(|| format!("port {port:?}"))?;
    let (run, sender) = find(from)?;
    let bare = machine.trim_start_matches('[').trim_end_matches(']');
    let (addresses, mut server) = match bare.parse::<IpAddr>() {
        Ok(address) => (vec![address], None),
        Err(_) => {
            let addresses = addresses(&run, machine)?;
            let (_, netns) = find(machine)?;
            let ports = [(Protocol::Tcp, port), (Protocol::Udp, port)];
            // Fails if something serves the port already: then that answers.
            let server = Server::start(&netns, &addresses, &ports).ok();
            (addresses, server)
        }
    };
    let mut attempts = Vec::new();
    for address in &addresses {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let flow = Flow { to: SocketAddr::new(*address, port), protocol };
            attempts.push(Attempt { from: &sender, flow, patience: LONG / 4 });
        }
    }
    let outcomes = send(&attempts, server.as_mut().as_mut_slice())?;
    for (attempt, outcome) in attempts.iter().zip(&outcomes) {
        println!("{from} -> {}: {outcome}", attempt.flow);
    }
    let all = outcomes.iter().all(|outcome| *outcome == Outcome::Reached);
    Ok(if all { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The namespace of a machine, in the lab that has one of this name.
fn find(machine: &str) -> Result<(Run, Netns)> {
    let name = match machine.split_once('/') {
        Some((namespace, pod)) => format!("pod-{namespace}-{pod}"),
        None => machine.to_owned(),
    };
    let runs = run::all()?;
    for run in &runs {
        if let Ok(netns) = Netns::open(&run.netns(&name)) {
            return Ok((run.clone(), netns));
        }
    }
    if runs.is_empty() {
        bail!("no lab is up: `cargo lab demo --keep` leaves one");
    }
    let machines: Vec<String> =
        runs.iter().filter_map(|run| run.machines().ok()).flatten().collect();
    bail!("no machine {machine:?}; there are {}", machines.join(", "))
}

/// The addresses of a pod or node, from the lab's datastore.
fn addresses(run: &Run, machine: &str) -> Result<Vec<IpAddr>> {
    for entry in fs::read_dir(run.directory().join("datastore"))? {
        for object in Object::parse_all(&fs::read_to_string(entry?.path())?)? {
            let (list, key) = match object.kind() {
                "Pod" if format!("{}/{}", object.namespace(), object.name()) == machine => {
                    ("podIPs", "ip")
                }
                "Node" if object.name() == machine => ("addresses", "address"),
                _ => continue,
            };
            let list = object.0["status"][list]
                .as_array()
                .with_context(|| format!("{machine} has no address"))?;
            return Ok(list.iter().filter_map(|item| item[key].as_str()?.parse().ok()).collect());
        }
    }
    bail!("the lab has no pod or node {machine:?}")
}
