//! What the kernel answers over rtnetlink, as far as the plugin reads it.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the kernel has dozens of attributes and gains more; the few that matter are named"
)]

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_route::RouteNetlinkMessage as Message;
use netlink_packet_route::address::{AddressAttribute, AddressFlags};
use netlink_packet_route::link::{LinkAttribute, LinkFlags};
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourState};
use netlink_packet_route::route::{RouteAddress, RouteAttribute};

use crate::plan::{Mac, Route};

/// A link as the kernel has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) index: u32,
    pub(super) name: String,
    pub(super) mac: Option<Mac>,
    pub(super) mtu: u32,
    pub(super) up: bool,
    /// Index of the other end, in its own namespace.
    pub(super) peer: Option<u32>,
}

/// A route as the kernel has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KernelRoute {
    /// `None` for a default route.
    pub(super) destination: Option<IpAddr>,
    pub(super) prefix_length: u8,
    pub(super) device: Option<u32>,
    pub(super) protocol: u8,
    pub(super) gateway: Option<IpAddr>,
}

impl Link {
    pub(super) fn read(message: &Message) -> Option<Self> {
        let Message::NewLink(message) = message else { return None };
        let mut link = Self {
            index: message.header.index,
            name: String::new(),
            mac: None,
            mtu: 0,
            up: message.header.flags.contains(LinkFlags::Up),
            peer: None,
        };
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name.clone_from(name),
                LinkAttribute::Address(bytes) => {
                    link.mac = bytes.as_slice().try_into().ok().map(Mac);
                }
                LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
                LinkAttribute::Link(peer) => link.peer = Some(*peer),
                _ => {}
            }
        }
        Some(link)
    }
}

impl KernelRoute {
    pub(super) fn read(message: &Message) -> Option<Self> {
        let Message::NewRoute(message) = message else { return None };
        let mut route = Self {
            destination: None,
            prefix_length: message.header.destination_prefix_length,
            device: None,
            protocol: message.header.protocol.into(),
            gateway: None,
        };
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Oif(index) => route.device = Some(*index),
                RouteAttribute::Gateway(address) => route.gateway = ip(address),
                RouteAttribute::Destination(address) => route.destination = ip(address),
                _ => {}
            }
        }
        Some(route)
    }

    /// Whether this is `route` over the interface of `index`.
    pub(super) fn is(&self, route: &Route, index: u32) -> bool {
        let destination = route.destination.addr();
        self.device == Some(index)
            && self.gateway == route.gateway
            && self.prefix_length == route.destination.prefix_len()
            && self.destination.is_none_or(|address| address == destination)
    }
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}

/// The address in `message` if it is one of the link `index` and can be used.
pub(super) fn read_address(message: &Message, index: u32) -> Option<IpNet> {
    let Message::NewAddress(message) = message else { return None };
    let mut flags = u32::from(message.header.flags.bits());
    let mut address = None;
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(local) => address = Some(*local),
            AddressAttribute::Address(peer) => address = address.or(Some(*peer)),
            AddressAttribute::Flags(all) => flags = all.bits(),
            _ => {}
        }
    }
    let unusable = (AddressFlags::Tentative | AddressFlags::Dadfailed).bits();
    if message.header.index != index || flags & unusable != 0 {
        return None;
    }
    IpNet::new(address?, message.header.prefix_len).ok()
}

/// The neighbour in `message` if it is a permanent one on the link `index`.
pub(super) fn read_neighbour(message: &Message, index: u32) -> Option<(IpAddr, Mac)> {
    let Message::NewNeighbour(message) = message else { return None };
    if message.header.ifindex != index || message.header.state != NeighbourState::Permanent {
        return None;
    }
    let (mut address, mut mac) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => {
                address = Some(IpAddr::from(*v4));
            }
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => {
                address = Some(IpAddr::from(*v6));
            }
            NeighbourAttribute::LinkLayerAddress(bytes) => {
                mac = bytes.as_slice().try_into().ok().map(Mac);
            }
            _ => {}
        }
    }
    Some((address?, mac?))
}
