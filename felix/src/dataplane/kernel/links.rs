//! The interfaces of this node and their addresses, and which of them decide the MTU of pods.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use ipnet::IpNet;
use nix::sys::socket::SockProtocol;

use super::{rtnetlink::*, socket::Socket};
use crate::nft::wire::{Writer, find, ne32, string};

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its number while it lives.
    pub index: u32,
    /// Its name.
    pub name: Arc<str>,
    /// In bytes.
    pub mtu: u32,
    /// Its hardware address; empty when it has none.
    pub mac: Vec<u8>,
    /// Switched on and off by the administrator.
    pub admin: Admin,
    /// Whether the other end is there.
    pub carrier: Carrier,
    /// The kernel's name of its kind (`veth`, `bond`, …); `None` for hardware.
    pub kind: Option<Arc<str>>,
}

/// Whether an interface is switched on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admin {
    /// Switched on.
    Up,
    /// Switched off.
    Down,
}

/// Whether an interface has a carrier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    /// It has.
    Present,
    /// It has not.
    Absent,
}

/// An address of an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// [`Link::index`].
    pub index: u32,
    /// The address and the length of its network's prefix.
    pub address: IpNet,
}

/// All interfaces of this network namespace.
///
/// # Errors
/// When the kernel cannot be asked.
pub fn links() -> io::Result<Vec<Link>> {
    dump_links(&mut Socket::open(SockProtocol::NetlinkRoute, 0)?)
}

pub(super) fn dump_links(socket: &mut Socket) -> io::Result<Vec<Link>> {
    let mut links = Vec::new();
    let body = |w: &mut Writer| w.raw(&[0; 16]);
    socket.dump(RTM_GETLINK, body, |_, payload| links.extend(parse_link(payload)))?;
    Ok(links)
}

/// All addresses of this network namespace.
///
/// # Errors
/// When the kernel cannot be asked.
pub fn addresses() -> io::Result<Vec<Address>> {
    let mut addresses = Vec::new();
    let mut socket = Socket::open(SockProtocol::NetlinkRoute, 0)?;
    let body = |w: &mut Writer| w.raw(&[0; 8]);
    socket.dump(RTM_GETADDR, body, |_, payload| addresses.extend(parse_address(payload)))?;
    Ok(addresses)
}

/// `struct ifinfomsg` and its attributes.
pub(super) fn parse_link(payload: &[u8]) -> Option<Link> {
    let (header, attributes) = payload.split_at_checked(16)?;
    // Bridges announce their ports in the same form, under their own family.
    if header[0] != AF_UNSPEC {
        return None;
    }
    let flags = ne32(&header[8..])?;
    let kind = find(attributes, IFLA_LINKINFO)
        .and_then(|info| find(info, IFLA_INFO_KIND))
        .and_then(string)
        .map(Arc::from);
    let carrier = if flags & IFF_LOWER_UP == 0 { Carrier::Absent } else { Carrier::Present };
    Some(Link {
        index: ne32(&header[4..])?,
        name: find(attributes, IFLA_IFNAME).and_then(string)?.into(),
        mtu: find(attributes, IFLA_MTU).and_then(ne32)?,
        mac: find(attributes, IFLA_ADDRESS).unwrap_or_default().to_vec(),
        admin: if flags & IFF_UP == 0 { Admin::Down } else { Admin::Up },
        carrier,
        kind,
    })
}

/// `struct ifaddrmsg` and its attributes.
fn parse_address(payload: &[u8]) -> Option<Address> {
    let (header, attributes) = payload.split_at_checked(8)?;
    // On a point-to-point link the attribute "address" is that of the other end.
    let bytes = find(attributes, IFA_LOCAL).or_else(|| find(attributes, IFA_ADDRESS))?;
    let address = IpNet::new(parse_ip(bytes)?, header[1]).ok()?;
    Some(Address { index: ne32(&header[4..])?, address })
}

pub(super) fn parse_ip(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).into()),
        16 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into()),
        _ => None,
    }
}

pub(super) fn put_ip(w: &mut Writer, attribute: u16, ip: IpAddr) {
    match ip {
        IpAddr::V4(ip) => w.attribute(attribute, &ip.octets()),
        IpAddr::V6(ip) => w.attribute(attribute, &ip.octets()),
    }
}

/// The lowest MTU among the interfaces that lead out of this node and are up; `None` when there is none.
/// Tunnel overhead is not subtracted.
pub fn lowest_host_mtu(links: &[Link]) -> Option<u32> {
    let up = links.iter().filter(|link| link.admin == Admin::Up && leads_out(link));
    up.map(|link| link.mtu).min()
}

/// Whether an interface is a network card by the naming schemes of systemd and the kernel, or a bond or
/// team of such.
fn leads_out(link: &Link) -> bool {
    let kind = link.kind.as_deref();
    if matches!(kind, Some("bond" | "team")) {
        return true;
    }
    if matches!(kind, Some("veth" | "dummy" | "bridge")) && !link.name.starts_with("eth") {
        return false;
    }
    let predictable = ["en", "wl", "ww", "sl", "ib"].iter().any(|class| {
        let rest = link.name.strip_prefix(class);
        rest.is_some_and(|rest| rest.starts_with(['P', 'c', 'o', 'p', 's', 'v', 'x']))
    });
    let classic = ["eth", "wlan", "wwan", "bond"];
    predictable || classic.iter().any(|prefix| link.name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(name: &str, mtu: u32, admin: Admin, kind: Option<&str>) -> Link {
        let kind = kind.map(Arc::from);
        let (index, mac, carrier) = (1, Vec::new(), Carrier::Present);
        Link { index, name: name.into(), mtu, mac, admin, carrier, kind }
    }

    #[test]
    fn the_lowest_mtu_of_links_that_lead_out_and_are_up_counts() {
        let check = |links: &[Link], expected| assert_eq!(lowest_host_mtu(links), expected);
        let up = |name, mtu, kind| link(name, mtu, Admin::Up, kind);
        check(&[], None);
        check(&[up("lo", 65536, None), up("oci01", 1300, Some("veth"))], None);
        check(&[up("enp3s0", 9000, None), up("eth1", 1500, None)], Some(1500));
        check(&[up("enp3s0", 9000, None), link("eth1", 1500, Admin::Down, None)], Some(9000));
        check(&[up("uplink", 1400, Some("bond")), up("eth1", 1500, None)], Some(1400));
        check(&[up("docker0", 1400, Some("bridge")), up("eth0", 1500, Some("veth"))], Some(1500));
        check(&[up("entropy", 1400, None)], None);
    }
}
