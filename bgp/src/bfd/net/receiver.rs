//! The sockets that listen on the ports of BFD, one for each port and family.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::net::if_::if_indextoname;
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt,
};
use socket2::{Domain, Protocol, Socket, Type};

use super::sender::number;
use crate::bfd::{Port, SessionConfig};

/// How long a port that cannot be had is left alone.
const RETRY: Duration = Duration::from_secs(1);
/// Longer than any BFD packet, with authentication too.
const LONGEST: usize = 128;
/// How long the name of an interface is believed.
const NAMES_LAST: Duration = Duration::from_secs(1);

/// IPv4 or IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    V4,
    V6,
}

/// A port of one family.
#[derive(Debug)]
pub(super) struct Receiver {
    port: Port,
    version: Version,
    socket: Option<Socket>,
    retry_at: Option<Instant>,
    /// Why the port cannot be had.
    pub(super) error: Option<Arc<str>>,
}

/// What a datagram came with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Heading {
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) interface: u32,
    pub(super) ttl: u8,
    pub(super) length: usize,
}

/// Where datagrams are read into; used again and again.
#[derive(Debug)]
pub(super) struct Buffer {
    pub(super) bytes: [u8; LONGEST],
    control: Vec<u8>,
}

impl Buffer {
    pub(super) fn new() -> Self {
        let control = nix::cmsg_space!(libc::in6_pktinfo, libc::c_int, libc::in_pktinfo);
        Self { bytes: [0; LONGEST], control }
    }
}

impl Receiver {
    /// The four that can be needed; none is open.
    pub(super) fn all() -> [Self; 4] {
        let closed =
            |port, version| Self { port, version, socket: None, retry_at: None, error: None };
        [
            closed(Port::SingleHop, Version::V4),
            closed(Port::SingleHop, Version::V6),
            closed(Port::Multihop, Version::V4),
            closed(Port::Multihop, Version::V6),
        ]
    }

    pub(super) const fn port(&self) -> Port {
        self.port
    }

    /// Whether the packets of a session come here.
    pub(super) fn serves(&self, config: &SessionConfig) -> bool {
        let version = if config.peer.is_ipv4() { Version::V4 } else { Version::V6 };
        (self.port, self.version) == (Port::of(config.reach), version)
    }

    /// Opens the port at the next [`Self::tend`], or closes it: a program that needs no BFD leaves
    /// the ports to others.
    pub(super) fn want(&mut self, wanted: Wanted, now: Instant) {
        match wanted {
            Wanted::Yes if self.socket.is_none() && self.retry_at.is_none() => {
                self.retry_at = Some(now);
            }
            Wanted::Yes => {}
            Wanted::No => (self.socket, self.retry_at, self.error) = (None, None, None),
        }
    }

    /// When to call [`Self::tend`].
    pub(super) const fn deadline(&self) -> Option<Instant> {
        self.retry_at
    }

    /// Opens the port if it is due.
    pub(super) fn tend(&mut self, now: Instant) {
        if self.retry_at.is_none_or(|at| at > now) {
            return;
        }
        match open(self.port, self.version) {
            Ok(socket) => (self.socket, self.retry_at, self.error) = (Some(socket), None, None),
            Err(error) => {
                self.retry_at = Some(now + RETRY);
                let text = format!("cannot listen on UDP port {}: {error}", number(self.port));
                if self.error.as_deref() != Some(text.as_str()) {
                    tracing::warn!(port = number(self.port), %error, "cannot listen for BFD");
                    self.error = Some(text.into());
                }
            }
        }
    }

    pub(super) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.socket.as_ref().map(AsFd::as_fd)
    }

    /// Reads the next datagram into the buffer; `None`: there is none, or none that can be used.
    pub(super) fn read(&self, buffer: &mut Buffer) -> Option<Heading> {
        let socket = self.socket.as_ref()?;
        loop {
            let mut slices = [IoSliceMut::new(&mut buffer.bytes)];
            let control = Some(buffer.control.as_mut_slice());
            let flags = MsgFlags::MSG_DONTWAIT;
            match recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut slices, control, flags) {
                Ok(message) => {
                    // Without its TTL a packet cannot be judged; the options above ask for it.
                    if let Some(heading) = heading(&message) {
                        return Some(heading);
                    }
                }
                Err(Errno::EINTR) => {}
                // Nothing there, or an error of an earlier packet, which the session notices.
                Err(_) => return None,
            }
        }
    }
}

/// Whether a port is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    Yes,
    No,
}

fn open(port: Port, version: Version) -> io::Result<Socket> {
    let any: IpAddr = match version {
        Version::V4 => Ipv4Addr::UNSPECIFIED.into(),
        Version::V6 => Ipv6Addr::UNSPECIFIED.into(),
    };
    let address = SocketAddr::new(any, number(port));
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    match version {
        Version::V4 => {
            setsockopt(&socket, sockopt::Ipv4RecvTtl, &true)?;
            setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
        }
        Version::V6 => {
            socket.set_only_v6(true)?;
            setsockopt(&socket, sockopt::Ipv6RecvHopLimit, &true)?;
            setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
        }
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

type Message<'a, 'b> = nix::sys::socket::RecvMsg<'a, 'b, SockaddrStorage>;

fn heading(message: &Message<'_, '_>) -> Option<Heading> {
    let source = message.address?;
    let source: IpAddr = match (source.as_sockaddr_in(), source.as_sockaddr_in6()) {
        (Some(v4), _) => v4.ip().into(),
        (None, Some(v6)) => v6.ip().into(),
        (None, None) => return None,
    };
    let (mut ttl, mut arrived) = (None, None);
    for control in message.cmsgs().ok()? {
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "the kernel has many, we asked for four"
        )]
        match control {
            ControlMessageOwned::Ipv4Ttl(value) | ControlMessageOwned::Ipv6HopLimit(value) => {
                ttl = u8::try_from(value).ok();
            }
            ControlMessageOwned::Ipv4PacketInfo(at) => {
                let address = Ipv4Addr::from(u32::from_be(at.ipi_addr.s_addr));
                arrived = Some((IpAddr::V4(address), u32::try_from(at.ipi_ifindex).ok()?));
            }
            ControlMessageOwned::Ipv6PacketInfo(at) => {
                let address = Ipv6Addr::from(at.ipi6_addr.s6_addr);
                arrived = Some((IpAddr::V6(address), at.ipi6_ifindex));
            }
            _ => {}
        }
    }
    let (destination, interface) = arrived?;
    Some(Heading { source, destination, interface, ttl: ttl?, length: message.bytes })
}

/// The names of interfaces, remembered for a second.
#[derive(Debug)]
pub(super) struct Names {
    known: Vec<(u32, String)>,
    since: Instant,
}

impl Names {
    pub(super) const fn new(now: Instant) -> Self {
        Self { known: Vec::new(), since: now }
    }

    /// The name of an interface; empty when it is gone.
    pub(super) fn of(&mut self, index: u32, now: Instant) -> &str {
        if now.duration_since(self.since) > NAMES_LAST {
            self.known.clear();
            self.since = now;
        }
        let place = self.known.iter().position(|(known, _)| *known == index);
        let place = place.unwrap_or_else(|| {
            let name = if_indextoname(index).ok().and_then(|name| name.into_string().ok());
            self.known.push((index, name.unwrap_or_default()));
            self.known.len() - 1
        });
        &self.known[place].1
    }
}
