//! The few things the plugin says over rtnetlink, typed: links, addresses, routes, neighbours.

use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressScope,
};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkExtentMask, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteScope,
    RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage as Message};
use nix::errno::Errno;

use super::netlink::{Netlink, NetlinkError};
use super::object::{KernelRoute, Link, read_address, read_neighbour};
use crate::plan::{Mac, Route};

/// What to do about a route to the same destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Existing {
    Refuse,
    Replace,
}

impl Netlink {
    /// The link of this name, if there is one.
    pub(super) fn link(&mut self, name: &str) -> Result<Option<Link>, NetlinkError> {
        let mut query = LinkMessage::default();
        query.attributes.push(LinkAttribute::IfName(name.to_owned()));
        self.one_link(query)
    }

    /// The link of this index, if there is one.
    pub(super) fn link_at(&mut self, index: u32) -> Result<Option<Link>, NetlinkError> {
        let mut query = LinkMessage::default();
        query.header.index = index;
        self.one_link(query)
    }

    fn one_link(&mut self, mut query: LinkMessage) -> Result<Option<Link>, NetlinkError> {
        query.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
        match self.get(Message::GetLink(query)) {
            Ok(answers) => Ok(answers.iter().find_map(Link::read)),
            Err(error) if error.is(Errno::ENODEV) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Creates a veth pair: `host` here, `pod` in the namespace `netns`, both down.
    pub(super) fn add_veth(
        &mut self,
        host: &str,
        pod: &str,
        netns: BorrowedFd<'_>,
        mtu: u32,
    ) -> Result<(), NetlinkError> {
        let mut peer = LinkMessage::default();
        peer.attributes = vec![
            LinkAttribute::IfName(pod.to_owned()),
            LinkAttribute::Mtu(mtu),
            LinkAttribute::NetNsFd(netns.as_raw_fd()),
        ];
        let mut link = LinkMessage::default();
        link.attributes = vec![
            LinkAttribute::IfName(host.to_owned()),
            LinkAttribute::Mtu(mtu),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::Veth),
                LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
            ]),
        ];
        self.change(Message::NewLink(link), NLM_F_CREATE | NLM_F_EXCL)
    }

    /// Deletes a link, and with a veth its other end; a link that is not there is no error.
    pub(super) fn delete_link(&mut self, index: u32) -> Result<(), NetlinkError> {
        let mut link = LinkMessage::default();
        link.header.index = index;
        match self.change(Message::DelLink(link), 0) {
            Err(error) if error.is(Errno::ENODEV) => Ok(()),
            other => other,
        }
    }

    pub(super) fn set_mac(&mut self, index: u32, mac: Mac) -> Result<(), NetlinkError> {
        let mut link = LinkMessage::default();
        link.header.index = index;
        link.attributes.push(LinkAttribute::Address(mac.0.to_vec()));
        self.change(Message::SetLink(link), 0)
    }

    pub(super) fn set_up(&mut self, index: u32) -> Result<(), NetlinkError> {
        let mut link = LinkMessage::default();
        link.header.index = index;
        link.header.flags = LinkFlags::Up;
        link.header.change_mask = LinkFlags::Up;
        self.change(Message::SetLink(link), 0)
    }

    /// Adds an address without duplicate address detection; one that is there already is no error.
    pub(super) fn add_address(&mut self, index: u32, address: IpNet) -> Result<(), NetlinkError> {
        let mut message = AddressMessage::default();
        message.header.family = family(address.addr());
        message.header.prefix_len = address.prefix_len();
        message.header.index = index;
        if is_link_local(address.addr()) {
            message.header.scope = AddressScope::Link;
        }
        message.header.flags = AddressHeaderFlags::Permanent;
        message.attributes = vec![
            AddressAttribute::Local(address.addr()),
            AddressAttribute::Address(address.addr()),
        ];
        if address.addr().is_ipv6() {
            message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
        match self.change(Message::NewAddress(message), NLM_F_CREATE | NLM_F_EXCL) {
            Err(error) if error.is(Errno::EEXIST) => Ok(()),
            other => other,
        }
    }

    /// The addresses of a link that can be used, that is, are neither tentative nor found to be duplicates.
    pub(super) fn addresses(&mut self, index: u32) -> Result<Vec<IpNet>, NetlinkError> {
        let mut query = AddressMessage::default();
        query.header.index = index;
        let answers = self.dump(Message::GetAddress(query))?;
        Ok(answers.into_iter().filter_map(|answer| read_address(&answer, index)).collect())
    }

    pub(super) fn add_route(
        &mut self,
        index: u32,
        route: &Route,
        existing: Existing,
    ) -> Result<(), NetlinkError> {
        let mut message = RouteMessage::default();
        message.header = RouteHeader {
            address_family: family(route.destination.addr()),
            destination_prefix_length: route.destination.prefix_len(),
            table: RouteHeader::RT_TABLE_MAIN,
            protocol: RouteProtocol::from(route.protocol),
            scope: match (route.gateway, route.destination) {
                (None, IpNet::V4(_)) => RouteScope::Link,
                (None, IpNet::V6(_)) | (Some(_), _) => RouteScope::Universe,
            },
            kind: RouteType::Unicast,
            ..RouteHeader::default()
        };
        message.attributes.push(RouteAttribute::Oif(index));
        if route.destination.prefix_len() > 0 {
            let destination = RouteAddress::from(route.destination.addr());
            message.attributes.push(RouteAttribute::Destination(destination));
        }
        if let Some(gateway) = route.gateway {
            message.attributes.push(RouteAttribute::Gateway(gateway.into()));
        }
        let exclusive = match existing {
            Existing::Refuse => NLM_F_EXCL,
            Existing::Replace => NLM_F_REPLACE,
        };
        self.change(Message::NewRoute(message), NLM_F_CREATE | exclusive)
    }

    /// The route that packets to `destination` take, as it stands in the table; `None` if there is no route.
    pub(super) fn route_to(
        &mut self,
        destination: IpAddr,
    ) -> Result<Option<KernelRoute>, NetlinkError> {
        let mut query = RouteMessage::default();
        query.header.address_family = family(destination);
        query.header.destination_prefix_length = if destination.is_ipv4() { 32 } else { 128 };
        query.header.flags = RouteFlags::FibMatch;
        query.attributes.push(RouteAttribute::Destination(destination.into()));
        match self.get(Message::GetRoute(query)) {
            Ok(answers) => Ok(answers.into_iter().find_map(|answer| KernelRoute::read(&answer))),
            // A blackhole or unreachable route answers with its own error.
            Err(error)
                if [Errno::ENETUNREACH, Errno::EHOSTUNREACH, Errno::EINVAL, Errno::EACCES]
                    .iter()
                    .any(|errno| error.is(*errno)) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// The routes of one family that lead out of a link.
    pub(super) fn routes(
        &mut self,
        index: u32,
        sample: IpAddr,
    ) -> Result<Vec<KernelRoute>, NetlinkError> {
        let mut query = RouteMessage::default();
        query.header.address_family = family(sample);
        query.attributes.push(RouteAttribute::Oif(index));
        let answers = self.dump(Message::GetRoute(query))?;
        Ok(answers
            .into_iter()
            .filter_map(|answer| KernelRoute::read(&answer))
            .filter(|route| route.device == Some(index))
            .collect())
    }

    /// Writes a permanent neighbour entry over whatever is there.
    pub(super) fn set_neighbour(
        &mut self,
        index: u32,
        address: IpAddr,
        mac: Mac,
    ) -> Result<(), NetlinkError> {
        let mut message = NeighbourMessage::default();
        message.header.family = family(address);
        message.header.ifindex = index;
        message.header.state = NeighbourState::Permanent;
        message.attributes = vec![
            NeighbourAttribute::Destination(match address {
                IpAddr::V4(address) => NeighbourAddress::Inet(address),
                IpAddr::V6(address) => NeighbourAddress::Inet6(address),
            }),
            NeighbourAttribute::LinkLayerAddress(mac.0.to_vec()),
        ];
        self.change(Message::NewNeighbour(message), NLM_F_CREATE | NLM_F_REPLACE)
    }

    /// The permanent neighbour entries of a link.
    pub(super) fn permanent_neighbours(
        &mut self,
        index: u32,
    ) -> Result<Vec<(IpAddr, Mac)>, NetlinkError> {
        let answers = self.dump(Message::GetNeighbour(NeighbourMessage::default()))?;
        Ok(answers.into_iter().filter_map(|answer| read_neighbour(&answer, index)).collect())
    }
}

fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}
