//! The sending side of a round: all flows of one namespace on one thread, non-blocking.

use std::io::Read as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::{Domain, Protocol as IpProtocol, Socket, Type};

use super::icmp::{self, Answer};
use super::{Attempt, Outcome, Protocol, SHORT, sctp};

/// Numbers that no other round of this process uses.
pub(crate) struct Nonces {
    first: u32,
}

impl Nonces {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0x1000_0000);
        // A round of more than 65,536 attempts would exhaust the sockets first.
        Self { first: NEXT.fetch_add(0x1_0000, Ordering::Relaxed) }
    }

    /// The nonce of an attempt of this round.
    pub(crate) fn of(&self, index: usize) -> u32 {
        self.first + u32::try_from(index).expect("a round has few attempts")
    }
}

struct Pending {
    index: usize,
    nonce: u32,
    target: SocketAddr,
    protocol: Protocol,
    socket: Socket,
    deadline: Instant,
}

/// Runs the attempts with these indices from the namespace of the calling thread.
pub(crate) fn run(
    attempts: &[Attempt<'_>],
    indices: &[usize],
    nonces: &Nonces,
) -> Result<Vec<(usize, Outcome)>> {
    let mut done = Vec::new();
    let mut pending = Vec::new();
    for index in indices {
        let attempt = &attempts[*index];
        let started = start(attempt, *index, nonces.of(*index)).with_context(|| {
            format!("cannot probe {} from {}", attempt.flow, attempt.from.name())
        })?;
        match started {
            Started::Waiting(flow) => pending.push(flow),
            Started::Over(outcome) => done.push((*index, outcome)),
        }
    }
    while !pending.is_empty() {
        wait(&pending)?;
        let now = Instant::now();
        pending.retain(|flow| match flow.outcome(now) {
            Some(outcome) => {
                done.push((flow.index, outcome));
                false
            }
            None => true,
        });
    }
    Ok(done)
}

enum Started {
    Waiting(Pending),
    Over(Outcome),
}

fn start(attempt: &Attempt<'_>, index: usize, nonce: u32) -> Result<Started> {
    let target = attempt.flow.to;
    let protocol = attempt.flow.protocol;
    let socket = open(target, protocol)?;
    // Nothing answers SCTP: waiting longer than a packet takes would only cost time.
    let patience = if protocol == Protocol::Sctp { SHORT } else { attempt.patience };
    let deadline = Instant::now() + patience;
    let sent = dispatch(&socket, target, protocol, nonce);
    match sent.map_err(|error| (failure(&error), error)) {
        Err((None, error)) => Err(error.into()),
        Err((Some(outcome), _)) => Ok(Started::Over(outcome)),
        Ok(()) => {
            Ok(Started::Waiting(Pending { index, nonce, target, protocol, socket, deadline }))
        }
    }
}

fn open(target: SocketAddr, protocol: Protocol) -> Result<Socket> {
    let icmp = if target.is_ipv4() { IpProtocol::ICMPV4 } else { IpProtocol::ICMPV6 };
    let (kind, number) = match protocol {
        Protocol::Tcp => (Type::STREAM, IpProtocol::TCP),
        Protocol::Udp => (Type::DGRAM, IpProtocol::UDP),
        Protocol::Sctp => (Type::RAW, libc::IPPROTO_SCTP.into()),
        Protocol::Icmp => (Type::RAW, icmp),
    };
    let socket = Socket::new(Domain::for_address(target), kind, Some(number))?;
    socket.set_nonblocking(true)?;
    if protocol == Protocol::Tcp {
        // A reset on close: rounds must not fill the table of closed connections.
        socket.set_linger(Some(Duration::ZERO))?;
    }
    Ok(socket)
}

fn dispatch(
    socket: &Socket,
    to: SocketAddr,
    protocol: Protocol,
    nonce: u32,
) -> std::io::Result<()> {
    // A raw socket wants no port in the address.
    let host = SocketAddr::new(to.ip(), 0);
    match protocol {
        Protocol::Tcp => match socket.connect(&to.into()) {
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => Ok(()),
            other => other,
        },
        Protocol::Udp => {
            socket.connect(&to.into())?;
            socket.send(&nonce.to_be_bytes()).map(drop)
        }
        Protocol::Sctp => {
            let port = 40_000 + u16::try_from(nonce & 0x3fff).expect("14 bits");
            socket.send_to(&sctp::init(port, to.port(), nonce), &host.into()).map(drop)
        }
        Protocol::Icmp => {
            let identifier = u16::try_from(nonce & 0xffff).expect("16 bits");
            let request = icmp::echo_request(to.ip(), identifier, nonce);
            socket.send_to(&request, &host.into()).map(drop)
        }
    }
}

fn wait(pending: &[Pending]) -> Result<()> {
    let next = pending.iter().map(|flow| flow.deadline).min().unwrap_or_else(Instant::now);
    let left = next.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
    let mut waits: Vec<PollFd<'_>> = pending
        .iter()
        .map(|flow| {
            let events = match flow.protocol {
                Protocol::Tcp => PollFlags::POLLOUT,
                Protocol::Udp | Protocol::Icmp => PollFlags::POLLIN,
                // No answer comes: the other side's journal tells.
                Protocol::Sctp => PollFlags::empty(),
            };
            PollFd::new(flow.socket.as_fd(), events)
        })
        .collect();
    poll(&mut waits, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX))?;
    Ok(())
}

impl Pending {
    fn outcome(&self, now: Instant) -> Option<Outcome> {
        let answer = match self.protocol {
            Protocol::Tcp => self.connected(),
            Protocol::Udp => self.echoed(),
            Protocol::Icmp => self.pinged(),
            Protocol::Sctp => None,
        };
        answer.or_else(|| (now >= self.deadline).then_some(Outcome::Dropped))
    }

    fn connected(&self) -> Option<Outcome> {
        if let Ok(Some(error)) = self.socket.take_error() {
            return failure(&error);
        }
        self.socket.peer_addr().is_ok().then_some(Outcome::Reached)
    }

    fn echoed(&self) -> Option<Outcome> {
        let mut buffer = [0; 64];
        match (&self.socket).read(&mut buffer) {
            Ok(length) => {
                (buffer[..length] == self.nonce.to_be_bytes()).then_some(Outcome::Reached)
            }
            Err(error) => failure(&error),
        }
    }

    fn pinged(&self) -> Option<Outcome> {
        let mut buffer = [0; 2048];
        while let Ok(length) = (&self.socket).read(&mut buffer) {
            match icmp::parse_answer(self.target.ip(), &buffer[..length], self.nonce) {
                Some(Answer::Echo) => return Some(Outcome::Reached),
                Some(Answer::Unreachable) => return Some(Outcome::Unreachable),
                None => {}
            }
        }
        None
    }
}

/// What a socket's error says about the flow; `None` if nothing (also: nothing yet).
fn failure(error: &std::io::Error) -> Option<Outcome> {
    match error.raw_os_error()? {
        libc::ECONNREFUSED | libc::ECONNRESET => Some(Outcome::Refused),
        libc::EHOSTUNREACH | libc::ENETUNREACH => Some(Outcome::Unreachable),
        // ICMPv6 "administratively prohibited", as a firewall's reject sends.
        libc::EACCES | libc::EPERM => Some(Outcome::Unreachable),
        libc::ETIMEDOUT => Some(Outcome::Dropped),
        _ => None,
    }
}

/// The address that stands for "any" in the family of `address`.
pub(crate) fn unspecified(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}
