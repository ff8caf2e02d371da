//! A raw ICMPv6 socket on one interface.

use std::io::{self, IoSliceMut};
use std::net::{Ipv6Addr, SocketAddrV6};
use std::os::fd::AsRawFd;

use nix::ifaddrs::getifaddrs;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrIn6, recvmsg, setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::unix::AsyncFd;

use super::packet::{self, Heard, ROUTER_ADVERTISEMENT, ROUTER_SOLICITATION};
use crate::net::socket::set_option;

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
/// `ICMP6_FILTER` of `linux/icmpv6.h`.
const ICMP6_FILTER: libc::c_int = 1;
/// As long as a packet of a link can be, by custom; the rest of a longer one is of no interest, and
/// it is not valid then.
const LONGEST: usize = 1500;

/// The socket.
#[derive(Debug)]
pub(super) struct Link {
    socket: AsyncFd<Socket>,
    name: String,
    index: u32,
    link_layer: Option<[u8; 6]>,
}

impl Link {
    /// Opens it: nothing but router discovery is heard, and nothing of other interfaces.
    pub(super) fn open(name: &str) -> io::Result<Self> {
        let index = if_nametoindex(name)?;
        let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))?;
        socket.set_nonblocking(true)?;
        set_option(&socket, libc::IPPROTO_ICMPV6, ICMP6_FILTER, &filter())?;
        socket.bind_device(Some(name.as_bytes()))?;
        socket.join_multicast_v6(&ALL_ROUTERS, index)?;
        socket.set_multicast_if_v6(index)?;
        socket.set_multicast_hops_v6(255)?;
        socket.set_multicast_loop_v6(false)?;
        setsockopt(&socket, sockopt::Ipv6RecvHopLimit, &true)?;
        let link_layer = link_layer_address(name);
        let link = Self { socket: watched(socket)?, name: name.to_owned(), index, link_layer };
        link.check()?;
        Ok(link)
    }

    /// Whether the interface is still the one that the socket was opened on.
    pub(super) fn check(&self) -> io::Result<()> {
        if if_nametoindex(self.name.as_str())? == self.index {
            return Ok(());
        }
        Err(io::Error::other("the interface was replaced by another of the same name"))
    }

    /// Tells the link that we are a router.
    pub(super) fn advertise(&self) -> io::Result<()> {
        self.send(&packet::advertisement(self.link_layer), ALL_NODES)
    }

    /// Asks the routers of the link to say that they are there.
    pub(super) fn solicit(&self) -> io::Result<()> {
        self.send(&packet::solicitation(self.link_layer), ALL_ROUTERS)
    }

    fn send(&self, packet: &[u8], to: Ipv6Addr) -> io::Result<()> {
        let to = SocketAddrV6::new(to, 0, 0, self.index);
        self.socket.get_ref().send_to(packet, &to.into()).map(drop)
    }

    /// The next that a router on the link says, and who it is. What is not valid is passed over.
    pub(super) async fn next(&self) -> io::Result<(Ipv6Addr, Heard)> {
        let mut buffer = [0; LONGEST];
        loop {
            let mut ready = self.socket.readable().await?;
            match ready.try_io(|socket| receive(socket.get_ref(), &mut buffer)) {
                Ok(Ok(Some((source, heard)))) if source.is_unicast_link_local() => {
                    return Ok((source, heard));
                }
                Ok(Ok(_)) | Err(_) => {}
                Ok(Err(error)) => return Err(error),
            }
        }
    }
}

#[expect(unsafe_code, reason = "tokio has no type of its own for raw sockets")]
fn watched(socket: Socket) -> io::Result<AsyncFd<Socket>> {
    // SAFETY: a `Socket` owns its descriptor, always the same, until it is dropped; nothing takes it
    // out of the `AsyncFd`.
    unsafe { AsyncFd::register(socket) }.map_err(Into::into)
}

fn receive(socket: &Socket, buffer: &mut [u8]) -> io::Result<Option<(Ipv6Addr, Heard)>> {
    let mut slices = [IoSliceMut::new(buffer)];
    let mut control = nix::cmsg_space!(libc::c_int);
    let flags = MsgFlags::MSG_DONTWAIT;
    let message =
        recvmsg::<SockaddrIn6>(socket.as_raw_fd(), &mut slices, Some(&mut control), flags)?;
    let hop_limit = message.cmsgs()?.find_map(|control| {
        let ControlMessageOwned::Ipv6HopLimit(value) = control else { return None };
        u8::try_from(value).ok()
    });
    let (source, length) = (message.address.map(|address| address.ip()), message.bytes);
    let heard = hop_limit.and_then(|hop_limit| packet::read(&buffer[..length], hop_limit));
    Ok(source.zip(heard))
}

/// `struct icmp6_filter`: a bit set keeps its type out (RFC 3542 §3.2).
fn filter() -> [u32; 8] {
    let mut closed = [u32::MAX; 8];
    for kind in [ROUTER_SOLICITATION, ROUTER_ADVERTISEMENT] {
        closed[usize::from(kind) / 32] &= !(1 << (kind % 32));
    }
    closed
}

/// The address of an Ethernet interface. Others have none that an option could carry.
///
/// Not from `/sys`, which shows the interfaces of the namespace in which it was mounted.
fn link_layer_address(interface: &str) -> Option<[u8; 6]> {
    let mut addresses = getifaddrs().ok()?.filter(|address| address.interface_name == interface);
    addresses.find_map(|address| address.address?.as_link_addr()?.addr())
}
