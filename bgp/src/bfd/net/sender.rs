//! The socket from which a session's packets leave, opened again when it fails.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::net::if_::if_nametoindex;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::bfd::{PACKET_LEN, Port, SessionConfig};
use crate::session::timer::Jitter;
use crate::wire::iana::bfd::{MULTIHOP_PORT, SINGLE_HOP_PORT, SOURCE_PORTS};

/// IP precedence "internetwork control", as routing protocols mark their packets (CS6).
const TOS_INTERNETWORK_CONTROL: u32 = 0xC0;
/// The longest that a socket that cannot be had is left alone. The first time the next packet tries again, and what
/// follows waits twice as long each time: a moment without an address must not become longer than the peer's patience.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// The shortest such wait.
const SHORTEST_WAIT: Duration = Duration::from_millis(10);
/// Source ports that are tried before giving up for now.
const PORT_TRIES: u32 = 64;

/// The UDP port that serves a kind of session.
pub(super) const fn number(port: Port) -> u16 {
    match port {
        Port::SingleHop => SINGLE_HOP_PORT,
        Port::Multihop => MULTIHOP_PORT,
    }
}

/// Source ports in use, of which each session has its own (RFC 5881 §4).
#[derive(Debug)]
pub(super) struct SourcePorts {
    taken: BTreeSet<u16>,
    chance: Jitter,
}

impl SourcePorts {
    pub(super) const fn new(seed: u64) -> Self {
        Self { taken: BTreeSet::new(), chance: Jitter::new(seed) }
    }

    fn propose(&mut self) -> u16 {
        let span = u64::from(SOURCE_PORTS.end() - SOURCE_PORTS.start()) + 1;
        loop {
            let offset = u16::try_from(self.chance.next() % span).expect("less than 2^14");
            let port = SOURCE_PORTS.start() + offset;
            if !self.taken.contains(&port) || self.taken.len() >= usize::from(u16::MAX / 8) {
                return port;
            }
        }
    }
}

/// One session's way out.
#[derive(Debug)]
pub(super) struct Sender {
    config: SessionConfig,
    open: Option<Open>,
    retry_at: Instant,
    /// How long a socket is left alone if it cannot be had now.
    wait: Duration,
    /// Why nothing can be sent.
    pub(super) error: Option<Arc<str>>,
}

#[derive(Debug)]
struct Open {
    socket: Socket,
    to: SockAddr,
    source_port: u16,
}

impl Sender {
    pub(super) const fn new(config: SessionConfig, now: Instant) -> Self {
        Self { config, open: None, retry_at: now, wait: Duration::ZERO, error: None }
    }

    /// Sends a packet, if the socket is there or can be had. A packet that cannot be sent is lost,
    /// as it could be on the way.
    pub(super) fn send(&mut self, bytes: &[u8; PACKET_LEN], now: Instant, ports: &mut SourcePorts) {
        let was_open = self.open.is_some();
        let sent = match self.try_send(bytes, now, ports) {
            // The socket may be of an address or interface that was replaced.
            Err(_) if was_open => self.try_send(bytes, now, ports),
            other => other,
        };
        if let Err(error) = sent {
            self.note(&error);
        }
    }

    /// A socket that fails is closed.
    fn try_send(
        &mut self,
        bytes: &[u8; PACKET_LEN],
        now: Instant,
        ports: &mut SourcePorts,
    ) -> io::Result<()> {
        if self.open.is_none() && self.retry_at <= now {
            match open(&self.config, ports) {
                Ok(open) => self.open = Some(open),
                Err(error) => {
                    self.retry_at = now + self.wait;
                    self.wait = (2 * self.wait).clamp(SHORTEST_WAIT, LONGEST_WAIT);
                    return Err(error);
                }
            }
        }
        let Some(open) = &self.open else { return Ok(()) };
        match open.socket.send_to(bytes, &open.to) {
            Ok(_) => {
                self.error = None;
                self.wait = Duration::ZERO;
            }
            // The queue of the interface is full: the next packet may fit.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => {
                self.close(ports);
                return Err(error);
            }
        }
        Ok(())
    }

    fn note(&mut self, error: &io::Error) {
        let text = format!("cannot send to {}: {error}", self.config.peer);
        if self.error.as_deref() != Some(text.as_str()) {
            tracing::warn!(peer = %self.config.peer, %error, "cannot send BFD packets");
            self.error = Some(text.into());
        }
    }

    pub(super) fn close(&mut self, ports: &mut SourcePorts) {
        if let Some(open) = self.open.take() {
            ports.taken.remove(&open.source_port);
        }
    }
}

fn open(config: &SessionConfig, ports: &mut SourcePorts) -> io::Result<Open> {
    let scope = match &config.interface {
        Some(interface) => if_nametoindex(interface.as_bytes())?,
        None => 0,
    };
    let to = address(config.peer, number(Port::of(config.reach)), scope);
    let local = match config.local {
        Some(local) => local,
        None => chosen_by_kernel(config, to)?,
    };
    for _ in 0..PORT_TRIES {
        let source_port = ports.propose();
        let socket = unbound(config)?;
        match socket.bind(&address(local, source_port, scope).into()) {
            Ok(()) => {
                ports.taken.insert(source_port);
                return Ok(Open { socket, to: to.into(), source_port });
            }
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::AddrInUse.into())
}

/// The scope is heeded for link-local addresses alone, and harmless for others.
const fn address(ip: IpAddr, port: u16, scope: u32) -> SocketAddr {
    match ip {
        IpAddr::V4(_) => SocketAddr::new(ip, port),
        IpAddr::V6(ip) => SocketAddr::V6(SocketAddrV6::new(ip, port, 0, scope)),
    }
}

fn unbound(config: &SessionConfig) -> io::Result<Socket> {
    let domain = if config.peer.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    if let Some(interface) = &config.interface {
        socket.bind_device(Some(interface.as_bytes()))?;
    }
    match config.peer {
        // RFC 5881 §5. For RFC 5883 it lets the peer count the hops.
        IpAddr::V4(_) => {
            socket.set_ttl_v4(u8::MAX.into())?;
            socket.set_tos_v4(TOS_INTERNETWORK_CONTROL)?;
        }
        IpAddr::V6(_) => {
            socket.set_unicast_hops_v6(u8::MAX.into())?;
            socket.set_tclass_v6(TOS_INTERNETWORK_CONTROL)?;
            socket.set_only_v6(true)?;
        }
    }
    Ok(socket)
}

/// The address from which the kernel would reach the peer. Connecting a UDP socket sends nothing.
fn chosen_by_kernel(config: &SessionConfig, to: SocketAddr) -> io::Result<IpAddr> {
    let probe = unbound(config)?;
    probe.connect(&to.into())?;
    let local = probe.local_addr()?.as_socket().map(|address| address.ip());
    local.filter(|ip| !is_unspecified(*ip)).ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
}

fn is_unspecified(ip: IpAddr) -> bool {
    ip == IpAddr::V4(Ipv4Addr::UNSPECIFIED) || ip == IpAddr::V6(Ipv6Addr::UNSPECIFIED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_leave_from_the_range_of_the_rfc_with_the_highest_ttl_and_each_from_its_own_port() {
        let mut ports = SourcePorts::new(1);
        let config = SessionConfig::new("127.0.0.2".parse().unwrap());
        let opened = [(); 20].map(|()| open(&config, &mut ports).unwrap());
        let used: BTreeSet<u16> = opened.iter().map(|open| open.source_port).collect();
        assert_eq!(used.len(), opened.len());
        for open in &opened {
            let local = open.socket.local_addr().unwrap().as_socket().unwrap();
            assert_eq!(local, SocketAddr::new([127, 0, 0, 1].into(), open.source_port));
            assert!(SOURCE_PORTS.contains(&local.port()));
            assert_eq!(open.socket.ttl_v4().unwrap(), 255);
            assert_eq!(open.to.as_socket().unwrap().port(), SINGLE_HOP_PORT);
        }
    }
}
