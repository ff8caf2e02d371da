//! What happens to the kernel without us: interfaces that come and go, our routes deleted, our table edited.
//!
//! Notifications are hints to look: who hears [`Event::Lost`] reads everything again but the interfaces, which are then
//! read here, and a slow periodic reading covers what the kernel does not announce.

use std::{
    collections::HashMap,
    io, mem,
    net::IpAddr,
    os::fd::AsFd,
    sync::Arc,
    thread::{self, JoinHandle},
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::SockProtocol,
};
use tokio::sync::mpsc::Sender;

use super::{
    super::{PROTOCOL, RouteKey},
    Kernel,
    links::{self, Link, dump_links, parse_link},
    nft::{Seen, Watch},
    routes::parse_key,
    rtnetlink::*,
    socket::Socket,
};
use crate::nft::wire::{Header, ne32};

const NOTIFICATION_BUFFER: usize = 4 << 20;

/// Something that was not our doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// An interface came, or changed its name, address, MTU or state. When it goes down, the kernel
    /// removes the IPv4 routes over it without a further word.
    Link(Link),
    /// An interface is gone, and the routes over it.
    LinkGone {
        /// Its number.
        index: u32,
        /// Its last name.
        name: Arc<str>,
    },
    /// Addresses of an interface changed.
    Addresses {
        /// The interface.
        index: u32,
    },
    /// An interface lost an IPv4 address. With its last one the kernel removes the IPv4 routes over it without a further
    /// word, and with each those that prefer it as source.
    AddressGone {
        /// The interface.
        interface: Arc<str>,
    },
    /// A route of ours was deleted, or a stranger's took its place.
    Route(RouteKey),
    /// A stranger's route came or went: next hops may have another way, or none.
    Ways,
    /// Our nftables table was changed.
    Table,
    /// Notifications were lost: anything may have happened. Every interface is announced again after it, and each that has
    /// gone.
    Lost,
}

/// Listens to the kernel.
pub struct Monitor {
    links: HashMap<u32, Link>,
    /// Whether `links` can be believed.
    links_are: Known,
    routes: Socket,
    table: Watch,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    Exactly,
    /// Notifications were lost, and the interfaces not read since.
    FromBefore,
}

/// How soon the interfaces are read again where that failed, in milliseconds.
const READ_AGAIN: u16 = 1000;

impl Monitor {
    /// Listens to everybody but `kernel`. Every interface that exists now is announced first.
    ///
    /// # Errors
    /// When the kernel gives no sockets.
    pub fn open(kernel: &Kernel) -> io::Result<Self> {
        let groups = RTMGRP_LINK
            | RTMGRP_IPV4_IFADDR
            | RTMGRP_IPV6_IFADDR
            | RTMGRP_IPV4_ROUTE
            | RTMGRP_IPV6_ROUTE;
        let routes = Socket::open(SockProtocol::NetlinkRoute, groups)?;
        routes.set_receive_buffer(NOTIFICATION_BUFFER)?;
        routes.ignore(kernel.routes.port())?;
        let table = Watch::open(kernel.nft.table().clone(), kernel.nft.port())?;
        Ok(Self { links: HashMap::new(), links_are: Known::Exactly, routes, table })
    }

    /// Sends events from a thread of its own, until nobody listens any more. A slow listener makes the
    /// thread wait; what the kernel cannot keep meanwhile becomes one [`Event::Lost`].
    ///
    /// # Errors
    /// When there is no thread, or the interfaces cannot be read.
    pub fn spawn(mut self, to: Sender<Event>) -> io::Result<JoinHandle<()>> {
        let mut socket = Socket::open(SockProtocol::NetlinkRoute, 0)?;
        let mut events: Vec<Event> =
            dump_links(&mut socket)?.into_iter().filter_map(|link| self.learn(link)).collect();
        thread::Builder::new().name("kernel-monitor".into()).spawn(move || {
            loop {
                for event in events.drain(..) {
                    if to.blocking_send(event).is_err() {
                        return;
                    }
                }
                events = self.wait().unwrap_or_else(|error| {
                    tracing::warn!(%error, "kernel notifications");
                    vec![Event::Lost]
                });
            }
        })
    }

    /// Waits for the next events.
    ///
    /// # Errors
    /// When the sockets fail otherwise than by losing notifications.
    pub fn wait(&mut self) -> io::Result<Vec<Event>> {
        let mut events = Vec::new();
        while events.is_empty() {
            let (routes, table) = (self.routes.as_fd(), self.table.socket.as_fd());
            let mut ready =
                [routes, table].map(|fd| PollFd::new(fd, PollFlags::POLLIN | PollFlags::POLLERR));
            let timeout = match self.links_are {
                Known::Exactly => PollTimeout::NONE,
                Known::FromBefore => READ_AGAIN.into(),
            };
            match poll(&mut ready, timeout) {
                Err(nix::errno::Errno::EINTR) => continue,
                other => _ = other?,
            }
            if self.table.drain()? == Seen::Ours {
                events.push(Event::Table);
            }
            self.drain(&mut events)?;
        }
        Ok(events)
    }

    fn drain(&mut self, events: &mut Vec<Event>) -> io::Result<()> {
        let mut heard = Vec::new();
        let mut pending =
            || self.routes.pending(|header, payload| heard.extend(parse(header, payload)));
        let mut lost = false;
        loop {
            match pending() {
                // What came before the loss is still there. It is taken first: what is read then is newer.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => lost = true,
                other => break other?,
            }
        }
        for heard in heard {
            match heard {
                Heard::Link(link) => events.extend(self.learn(link)),
                Heard::LinkGone(link) => {
                    self.links.remove(&link.index);
                    events.push(Event::LinkGone { index: link.index, name: link.name });
                }
                Heard::AddressGone(index) => {
                    events.push(match self.links.get(&index) {
                        Some(link) => Event::AddressGone { interface: Arc::clone(&link.name) },
                        None => Event::Addresses { index },
                    });
                }
                // Many at once are one piece of news.
                Heard::Event(Event::Ways) if matches!(events.last(), Some(Event::Ways)) => {}
                Heard::Event(event) => events.push(event),
            }
        }
        if lost {
            self.links_are = Known::FromBefore;
            events.push(Event::Lost);
        }
        if self.links_are == Known::FromBefore {
            match links::links() {
                Ok(links) => self.learn_all(links, events),
                Err(error) => tracing::warn!(%error, "the interfaces cannot be read; trying again"),
            }
        }
        Ok(())
    }

    /// These are all; each is news, whatever was known before.
    fn learn_all(&mut self, links: Vec<Link>, events: &mut Vec<Event>) {
        let before = mem::take(&mut self.links);
        let is_gone = |link: &Link| !links.iter().any(|now| now.name == link.name);
        let gone = before.into_values().filter(is_gone);
        events.extend(gone.map(|link| Event::LinkGone { index: link.index, name: link.name }));
        events.extend(links.into_iter().filter_map(|link| self.learn(link)));
        self.links_are = Known::Exactly;
    }

    /// The event, when something that matters is new: the kernel announces statistics too.
    fn learn(&mut self, link: Link) -> Option<Event> {
        let before = self.links.insert(link.index, link.clone());
        (before.as_ref() != Some(&link)).then_some(Event::Link(link))
    }
}

enum Heard {
    Link(Link),
    LinkGone(Link),
    AddressGone(u32),
    Event(Event),
}

fn parse(header: Header, payload: &[u8]) -> Option<Heard> {
    let index = || payload.get(4..).and_then(ne32);
    let event = |event| Some(Heard::Event(event));
    match header.kind {
        RTM_NEWLINK => parse_link(payload).map(Heard::Link),
        RTM_DELLINK => parse_link(payload).map(Heard::LinkGone),
        RTM_DELADDR if payload.first() == Some(&AF_INET) => Some(Heard::AddressGone(index()?)),
        RTM_NEWADDR | RTM_DELADDR => event(Event::Addresses { index: index()? }),
        RTM_DELROUTE => match parse_key(payload)? {
            (PROTOCOL, key) => event(Event::Route(key)),
            (_, key) => event(Event::Ways).filter(|_| is_way(key)),
        },
        RTM_NEWROUTE if header.flags & NLM_F_REPLACE != 0 => match parse_key(payload)? {
            (PROTOCOL, _) => None,
            (_, key) => event(Event::Route(key)),
        },
        RTM_NEWROUTE => match parse_key(payload)? {
            (PROTOCOL, _) => None,
            (_, key) => event(Event::Ways).filter(|_| is_way(key)),
        },
        _ => None,
    }
}

/// Whether a next hop could be found by such a route. Every new interface brings some that are not:
/// for link-local and for multicast addresses.
fn is_way(key: RouteKey) -> bool {
    match key.destination.addr() {
        IpAddr::V4(address) => !address.is_multicast(),
        IpAddr::V6(address) => !address.is_multicast() && !address.is_unicast_link_local(),
    }
}
