//! MRT table dumps (RFC 6396 §4.3, RFC 8050): the routing table as a file that other programs read.
//!
//! A dump is one [`peer_index_table`], then one [`rib`] record for each prefix.

#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr};

use crate::wire::iana::mrt::{self, peer_type, subtype};
use crate::wire::{self, Family, NextHop, Prefix};

/// A peer in the index. Its number is its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexedPeer {
    /// Its BGP Identifier; 0.0.0.0 if it never was told.
    pub router_id: Ipv4Addr,
    /// Its address.
    pub address: IpAddr,
    /// Its AS number; 0 if it is not known.
    pub asn: u32,
}

/// A path to a prefix.
#[derive(Debug, Clone, Copy)]
pub struct RibEntry<'a> {
    /// Who told it, by place in the index.
    pub peer: u16,
    /// The path identifier; 0: none.
    pub identifier: u32,
    /// Where packets go.
    pub next_hop: NextHop,
    /// All other attributes, in canonical form.
    pub attributes: &'a [u8],
}

/// Appends the index of peers. `time` is in seconds since the Unix epoch.
pub fn peer_index_table(
    out: &mut Vec<u8>,
    time: u32,
    collector: Ipv4Addr,
    peers: impl ExactSizeIterator<Item = IndexedPeer>,
) {
    record(out, time, subtype::PEER_INDEX_TABLE, |out| {
        out.extend_from_slice(&collector.octets());
        out.extend_from_slice(&[0, 0]); // The view has no name.
        let count = u16::try_from(peers.len()).expect("peers are numbered by 16 bits");
        out.extend_from_slice(&count.to_be_bytes());
        for peer in peers {
            let ipv6 = if peer.address.is_ipv6() { peer_type::IPV6 } else { 0 };
            out.push(peer_type::FOUR_OCTET_AS | ipv6);
            out.extend_from_slice(&peer.router_id.octets());
            match peer.address {
                IpAddr::V4(address) => out.extend_from_slice(&address.octets()),
                IpAddr::V6(address) => out.extend_from_slice(&address.octets()),
            }
            out.extend_from_slice(&peer.asn.to_be_bytes());
        }
    });
}

/// Appends the paths to a prefix. Where one of them has a path identifier all are written with theirs
/// (RFC 8050 §4). A path that no message could carry is left out.
pub fn rib(out: &mut Vec<u8>, time: u32, sequence: u32, prefix: Prefix, entries: &[RibEntry<'_>]) {
    let family = prefix.family();
    let several = entries.iter().any(|entry| entry.identifier != 0);
    let kind = match (family, several) {
        (Family::Ipv4, false) => subtype::RIB_IPV4_UNICAST,
        (Family::Ipv4, true) => subtype::RIB_IPV4_UNICAST_ADDPATH,
        (Family::Ipv6, false) => subtype::RIB_IPV6_UNICAST,
        (Family::Ipv6, true) => subtype::RIB_IPV6_UNICAST_ADDPATH,
    };
    record(out, time, kind, |out| {
        out.extend_from_slice(&sequence.to_be_bytes());
        wire::nlri::emit(out, 0, prefix, wire::PathIds::Absent);
        let count_at = out.len();
        out.extend_from_slice(&[0, 0]);
        let mut count = 0_u16;
        for entry in entries {
            let mut attributes = Vec::new();
            wire::dumped(&mut attributes, entry.attributes, entry.next_hop, family);
            let Ok(length) = u16::try_from(attributes.len()) else { continue };
            out.extend_from_slice(&entry.peer.to_be_bytes());
            // When the path was heard is not kept.
            out.extend_from_slice(&time.to_be_bytes());
            if several {
                out.extend_from_slice(&entry.identifier.to_be_bytes());
            }
            out.extend_from_slice(&length.to_be_bytes());
            out.extend_from_slice(&attributes);
            count += 1;
        }
        out[count_at..count_at + 2].copy_from_slice(&count.to_be_bytes());
    });
}

/// Appends the common header and what `body` appends (RFC 6396 §2).
fn record(out: &mut Vec<u8>, time: u32, kind: u16, body: impl FnOnce(&mut Vec<u8>)) {
    out.extend_from_slice(&time.to_be_bytes());
    out.extend_from_slice(&mrt::TABLE_DUMP_V2.to_be_bytes());
    out.extend_from_slice(&kind.to_be_bytes());
    let start = out.len() + 4;
    out.extend_from_slice(&[0; 4]);
    body(out);
    let length = u32::try_from(out.len() - start).expect("a record holds one prefix");
    out[start - 4..start].copy_from_slice(&length.to_be_bytes());
}
