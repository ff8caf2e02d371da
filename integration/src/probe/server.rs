//! What answers probes: TCP and UDP listeners and a raw socket for SCTP, on one thread.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};

use anyhow::{Context as _, Result};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::{Domain, Protocol as IpProtocol, Socket, Type};

use super::{Protocol, sctp};
use crate::netns::Netns;

/// Listens in a namespace until it is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    journal: Receiver<u32>,
    seen: BTreeSet<u32>,
    /// Dropping our end wakes the thread, which then ends.
    stop: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

enum Listener {
    Tcp(TcpListener),
    Udp(UdpSocket),
    Sctp(Socket, BTreeSet<u16>),
}

impl Server {
    /// Listens on each port at each address, which need not be there yet.
    pub(crate) fn start(
        netns: &Netns,
        addresses: &[IpAddr],
        ports: &[(Protocol, u16)],
    ) -> Result<Self> {
        let listeners = netns.enter(|| listen(addresses, ports))??;
        let (stop, stopped) = UnixStream::pair()?;
        let (note, journal) = mpsc::channel();
        let thread = thread::spawn(move || serve(&listeners, &stopped, &note));
        Ok(Self { journal, seen: BTreeSet::new(), stop: Some(stop), thread: Some(thread) })
    }

    /// Takes over what the thread noted.
    pub(crate) fn read_journal(&mut self) {
        self.seen.extend(self.journal.try_iter());
    }

    /// Whether a packet with this nonce arrived, as of the last [`Self::read_journal`].
    pub(crate) fn saw(&self, nonce: u32) -> bool {
        self.seen.contains(&nonce)
    }

    /// How many different packets arrived so far.
    pub(crate) fn count(&mut self) -> usize {
        self.read_journal();
        self.seen.len()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic in the thread has been printed; nothing is lost here.
            let _ = thread.join();
        }
    }
}

fn listen(addresses: &[IpAddr], ports: &[(Protocol, u16)]) -> Result<Vec<Listener>> {
    let mut listeners = Vec::new();
    for address in addresses {
        for (protocol, port) in ports {
            let at = SocketAddr::new(*address, *port);
            let listener = match protocol {
                Protocol::Tcp => {
                    let socket = bound(at, Type::STREAM, IpProtocol::TCP)?;
                    socket.listen(512)?;
                    Listener::Tcp(socket.into())
                }
                Protocol::Udp => Listener::Udp(bound(at, Type::DGRAM, IpProtocol::UDP)?.into()),
                // The kernel answers ICMP; SCTP has one raw socket for all ports, below.
                Protocol::Sctp | Protocol::Icmp => continue,
            };
            listeners.push(listener);
        }
        let sctp: BTreeSet<u16> =
            ports.iter().filter(|(protocol, _)| *protocol == Protocol::Sctp).map(|p| p.1).collect();
        if !sctp.is_empty() {
            let raw = bound(SocketAddr::new(*address, 0), Type::RAW, libc::IPPROTO_SCTP.into())?;
            listeners.push(Listener::Sctp(raw, sctp));
        }
    }
    Ok(listeners)
}

fn bound(at: SocketAddr, kind: Type, protocol: IpProtocol) -> Result<Socket> {
    let socket = Socket::new(Domain::for_address(at), kind, Some(protocol))?;
    socket.set_nonblocking(true)?;
    if kind != Type::RAW {
        socket.set_reuse_address(true)?;
    }
    // So that a server may start before its pod has the address.
    if at.is_ipv4() {
        socket.set_freebind_v4(true)?;
    } else {
        socket
            .set_only_v6(true)
            .or_else(|error| if kind == Type::RAW { Ok(()) } else { Err(error) })?;
        socket.set_freebind_v6(true)?;
    }
    socket.bind(&at.into()).with_context(|| format!("cannot listen on {at}"))?;
    Ok(socket)
}

fn serve(listeners: &[Listener], stopped: &UnixStream, note: &Sender<u32>) {
    let mut waits: Vec<PollFd<'_>> = listeners.iter().map(|l| readable(l.descriptor())).collect();
    waits.push(readable(stopped.as_fd()));
    while poll(&mut waits, PollTimeout::NONE).is_ok() {
        for (wait, listener) in waits.iter().zip(listeners) {
            if wait.any() == Some(true) {
                listener.answer(note);
            }
        }
        if waits.last().and_then(PollFd::any) == Some(true) {
            return;
        }
    }
}

fn readable(descriptor: BorrowedFd<'_>) -> PollFd<'_> {
    PollFd::new(descriptor, PollFlags::POLLIN)
}

impl Listener {
    fn descriptor(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(listener) => listener.as_fd(),
            Self::Udp(socket) => socket.as_fd(),
            Self::Sctp(socket, _) => socket.as_fd(),
        }
    }

    /// Answers everything that waits. Errors belong to a sender that went away.
    fn answer(&self, note: &Sender<u32>) {
        let mut buffer = [0; 2048];
        match self {
            Self::Tcp(listener) => while listener.accept().is_ok() {},
            Self::Udp(socket) => {
                while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                    let payload = &buffer[..length];
                    if let Some(nonce) = payload.first_chunk() {
                        let _ = note.send(u32::from_be_bytes(*nonce));
                    }
                    let _ = socket.send_to(payload, from);
                }
            }
            Self::Sctp(socket, ports) => {
                let mut socket = socket;
                while let Ok(length) = socket.read(&mut buffer) {
                    if let Some((port, tag)) = sctp::parse_init(&buffer[..length])
                        && ports.contains(&port)
                    {
                        let _ = note.send(tag);
                    }
                }
            }
        }
    }
}
