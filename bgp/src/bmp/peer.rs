//! The per-peer header: whose routes, and in which table they stand (RFC 7854 §4.2).

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use crate::wire::AsnWidth;
use crate::wire::iana::bmp::{peer_flag, peer_type};

/// Where a route stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// As the peer told it.
    PrePolicy,
    /// As import left it, if it may be chosen.
    PostPolicy,
    /// As the peer is told (RFC 8671). What export would make of routes that it holds back is not
    /// known to us, so there is no pre-policy Adj-RIB-Out.
    AdjRibOut,
    /// As chosen (RFC 9069).
    LocRib,
}

/// A peer as a station knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerHeader {
    /// Its address; not looked at for the Loc-RIB.
    pub address: IpAddr,
    /// Its AS number; for the Loc-RIB our own.
    pub asn: u32,
    /// Its BGP Identifier; for the Loc-RIB our own.
    pub router_id: Ipv4Addr,
}

impl PeerHeader {
    /// Appends the header. `time` is since the Unix epoch; `None`: not known.
    pub(super) fn emit(
        &self,
        out: &mut Vec<u8>,
        table: Table,
        width: AsnWidth,
        time: Option<Duration>,
    ) {
        let (kind, mut flags) = match table {
            Table::PrePolicy => (peer_type::GLOBAL, 0),
            Table::PostPolicy => (peer_type::GLOBAL, peer_flag::POST_POLICY),
            Table::AdjRibOut => {
                (peer_type::GLOBAL, peer_flag::POST_POLICY | peer_flag::ADJ_RIB_OUT)
            }
            // RFC 9069 §4.2: V, L and A have no meaning here; F = 0, nothing is left out.
            Table::LocRib => (peer_type::LOC_RIB, 0),
        };
        if table != Table::LocRib {
            flags |= if self.address.is_ipv6() { peer_flag::IPV6 } else { 0 };
            flags |= if width == AsnWidth::Two { peer_flag::TWO_OCTET_AS } else { 0 };
        }
        out.extend_from_slice(&[kind, flags]);
        out.extend_from_slice(&[0; 8]); // Peer distinguisher.
        let address = Some(self.address).filter(|_| table != Table::LocRib);
        put_address(out, address);
        out.extend_from_slice(&self.asn.to_be_bytes());
        out.extend_from_slice(&self.router_id.octets());
        let time = time.unwrap_or(Duration::ZERO);
        // Thirty-two bits of seconds, which last until 2106.
        let seconds = u32::try_from(time.as_secs()).unwrap_or(0);
        out.extend_from_slice(&seconds.to_be_bytes());
        out.extend_from_slice(&time.subsec_micros().to_be_bytes());
    }
}

/// An IPv4 address stands in the last four of sixteen octets.
pub(super) fn put_address(out: &mut Vec<u8>, address: Option<IpAddr>) {
    match address {
        Some(IpAddr::V6(address)) => out.extend_from_slice(&address.octets()),
        Some(IpAddr::V4(address)) => {
            out.extend_from_slice(&[0; 12]);
            out.extend_from_slice(&address.octets());
        }
        None => out.extend_from_slice(&[0; 16]),
    }
}
