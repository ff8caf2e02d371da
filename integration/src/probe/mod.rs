//! Probes: real packets between namespaces, and what became of them.
//!
//! A [`Server`] in the destination answers and keeps a journal of what it saw, so that "no answer"
//! is told apart from "the packet got through and the answer did not". [`send`] runs all flows of a
//! round at once: a matrix of hundreds of flows costs one patience, not hundreds.

mod client;
mod early;
mod icmp;
mod sctp;
mod server;
mod stream;

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::netns::Netns;

pub(crate) use early::EarlySender;
pub(crate) use server::Server;
pub(crate) use stream::{Stream, StreamReport, round_trips};

/// How long a flow that must not get through is given to prove that it does.
pub(crate) const SHORT: Duration = Duration::from_millis(350);
/// How long a flow that should get through is waited for, also on a busy machine.
pub(crate) const LONG: Duration = Duration::from_secs(4);

/// What a flow carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Protocol {
    Tcp,
    Udp,
    Sctp,
    Icmp,
}

/// One flow to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Flow {
    pub(crate) to: SocketAddr,
    pub(crate) protocol: Protocol,
}

/// What became of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Outcome {
    /// The destination answered (SCTP: saw the packet, the kernel has no SCTP to answer with).
    Reached,
    /// Somebody answered with a reset or "port unreachable".
    Refused,
    /// Somebody answered that there is no way, or none permitted.
    Unreachable,
    /// Nothing came back, and the destination saw nothing.
    Dropped,
    /// Nothing came back, yet the destination saw the packet.
    OneWay,
}

/// A flow, where it starts, and how long to wait for it.
#[derive(Debug)]
pub(crate) struct Attempt<'a> {
    pub(crate) from: &'a Netns,
    pub(crate) flow: Flow,
    pub(crate) patience: Duration,
}

/// Sends all attempts at once; gives the outcomes in their order. `servers` are those whose journals
/// may hold what arrived.
pub(crate) fn send(attempts: &[Attempt<'_>], servers: &mut [&mut Server]) -> Result<Vec<Outcome>> {
    let nonce = client::Nonces::new();
    let mut outcomes = vec![Outcome::Dropped; attempts.len()];
    let mut by_sender: Vec<(&Netns, Vec<usize>)> = Vec::new();
    for (index, attempt) in attempts.iter().enumerate() {
        match by_sender.iter_mut().find(|(netns, _)| netns.name() == attempt.from.name()) {
            Some((_, indices)) => indices.push(index),
            None => by_sender.push((attempt.from, vec![index])),
        }
    }
    std::thread::scope(|scope| -> Result<()> {
        let mut senders = Vec::new();
        for (netns, indices) in &by_sender {
            senders.push(scope.spawn(|| -> Result<Vec<(usize, Outcome)>> {
                netns.join()?;
                client::run(attempts, indices, &nonce)
            }));
        }
        for sender in senders {
            let done = sender.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            for (index, outcome) in done {
                outcomes[index] = outcome;
            }
        }
        Ok(())
    })?;
    for server in servers.iter_mut() {
        server.read_journal();
    }
    for (index, outcome) in outcomes.iter_mut().enumerate() {
        let arrived = servers.iter().any(|server| server.saw(nonce.of(index)));
        *outcome = match (attempts[index].flow.protocol, *outcome, arrived) {
            (Protocol::Sctp, Outcome::Dropped, true) => Outcome::Reached,
            (_, Outcome::Dropped, true) => Outcome::OneWay,
            (_, outcome, _) => outcome,
        };
    }
    Ok(outcomes)
}

/// Lets this process open as many sockets as the machine permits: a matrix needs thousands.
pub(crate) fn raise_socket_limit() -> Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, hard.min(65_536), hard)?)
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
            Self::Icmp => "ICMP",
        })
    }
}

impl std::str::FromStr for Protocol {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Self> {
        match name.to_ascii_uppercase().as_str() {
            "TCP" => Ok(Self::Tcp),
            "UDP" => Ok(Self::Udp),
            "SCTP" => Ok(Self::Sctp),
            "ICMP" | "ICMPV6" => Ok(Self::Icmp),
            _ => anyhow::bail!("{name:?} is none of TCP, UDP, SCTP, ICMP"),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reached => "reached",
            Self::Refused => "refused",
            Self::Unreachable => "unreachable",
            Self::Dropped => "dropped",
            Self::OneWay => "arrived, but the answer was lost",
        })
    }
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.protocol {
            Protocol::Icmp => write!(f, "{}/{}", self.to.ip(), self.protocol),
            Protocol::Tcp | Protocol::Udp | Protocol::Sctp => {
                write!(f, "{}/{}", self.to, self.protocol)
            }
        }
    }
}
