//! Next hops: one IPv4 address, one IPv6 address, or a global and a link-local one.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Codec, Family};

/// Where to send packets for a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NextHop {
    /// IPv4.
    V4(Ipv4Addr),
    /// IPv6; a link-local address when the peers have no other.
    V6(Ipv6Addr),
    /// RFC 2545 §3: when peer and next hop share a link.
    V6WithLinkLocal {
        /// Global address.
        global: Ipv6Addr,
        /// Link-local address.
        link_local: Ipv6Addr,
    },
}

impl NextHop {
    /// The address to resolve: the global one where there are two.
    #[must_use]
    pub const fn addr(self) -> IpAddr {
        match self {
            Self::V4(addr) => IpAddr::V4(addr),
            Self::V6(addr) | Self::V6WithLinkLocal { global: addr, .. } => IpAddr::V6(addr),
        }
    }

    /// The link-local address, wherever it stands.
    #[must_use]
    pub const fn link_local(self) -> Option<Ipv6Addr> {
        match self {
            Self::V6WithLinkLocal { link_local, .. } => Some(link_local),
            Self::V6(addr) if addr.is_unicast_link_local() => Some(addr),
            Self::V4(_) | Self::V6(_) => None,
        }
    }

    /// Reads the next hop field of MP_REACH_NLRI; `None` when its length fits neither family nor
    /// session.
    pub(super) fn parse(octets: &[u8], family: Family, codec: &Codec) -> Option<Self> {
        match (family, octets.len()) {
            (Family::Ipv4, 4) => {
                let octets: [u8; 4] = octets.try_into().ok()?;
                Some(Self::V4(octets.into()))
            }
            // RFC 8950 §3, only when both ends said so (§4).
            (Family::Ipv4, 16 | 32) if !codec.extended_next_hop.contains(Family::Ipv4) => None,
            (Family::Ipv4 | Family::Ipv6, 16 | 32) => {
                let (global, link_local) = octets.split_first_chunk::<16>()?;
                let global = Ipv6Addr::from(*global);
                let Ok(link_local) = <[u8; 16]>::try_from(link_local) else {
                    return Some(Self::V6(global));
                };
                let link_local = Ipv6Addr::from(link_local);
                // Speakers without a global address send the link-local one twice, or `::` first.
                Some(if global.is_unspecified() || global == link_local {
                    Self::V6(link_local)
                } else {
                    Self::V6WithLinkLocal { global, link_local }
                })
            }
            _ => None,
        }
    }

    /// Octets of the next hop field of MP_REACH_NLRI, for `family`.
    pub(super) fn octets(self, family: Family) -> ([u8; 32], usize) {
        let mut field = [0; 32];
        let len = match (self, family) {
            (Self::V4(addr), Family::Ipv4) => {
                field[..4].copy_from_slice(&addr.octets());
                4
            }
            // An IPv6 route needs an IPv6 next hop; the mapped form is what others send and read.
            (Self::V4(addr), Family::Ipv6) => {
                field[..16].copy_from_slice(&addr.to_ipv6_mapped().octets());
                16
            }
            (Self::V6(addr), _) => {
                field[..16].copy_from_slice(&addr.octets());
                16
            }
            (Self::V6WithLinkLocal { global, link_local }, _) => {
                field[..16].copy_from_slice(&global.octets());
                field[16..].copy_from_slice(&link_local.octets());
                32
            }
        };
        (field, len)
    }
}

impl From<IpAddr> for NextHop {
    fn from(addr: IpAddr) -> Self {
        match addr {
            IpAddr::V4(addr) => Self::V4(addr),
            IpAddr::V6(addr) => Self::V6(addr),
        }
    }
}

impl fmt::Display for NextHop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4(addr) => addr.fmt(f),
            Self::V6(addr) => addr.fmt(f),
            Self::V6WithLinkLocal { global, link_local } => write!(f, "{global} ({link_local})"),
        }
    }
}
