//! A table of many routes as an MRT file (RFC 6396 §4.3), which GoBGP can read in one go.

use std::net::Ipv4Addr;

/// TABLE_DUMP_V2, RFC 6396 §4.3.
const TABLE_DUMP_V2: u16 = 13;
/// PEER_INDEX_TABLE, RFC 6396 §4.3.1.
const PEER_INDEX_TABLE: u16 = 1;
/// RIB_IPV4_UNICAST, RFC 6396 §4.3.2.
const RIB_IPV4_UNICAST: u16 = 2;

/// The prefix with this number: /24s from 20.0.0.0 on.
pub(crate) fn prefix(number: u32) -> String {
    format!("{}/24", network(number))
}

fn network(number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x1400_0000 + (number << 8))
}

/// `count` routes of one peer, all with the same attributes.
pub(crate) fn table(peer_as: u32, next_hop: Ipv4Addr, count: u32) -> Vec<u8> {
    let mut file = Vec::new();
    let mut peers = Vec::new();
    peers.extend([10, 0, 0, 1]); // collector
    peers.extend([0, 0]); // no view name
    peers.extend([0, 1]); // one peer
    peers.push(2); // its AS number has four octets
    peers.extend([10, 0, 0, 1]); // its identifier
    peers.extend(next_hop.octets());
    peers.extend(peer_as.to_be_bytes());
    record(&mut file, PEER_INDEX_TABLE, &peers);
    let attributes = attributes(next_hop);
    for number in 0..count {
        let mut entry = Vec::new();
        entry.extend(number.to_be_bytes());
        entry.push(24);
        entry.extend(&network(number).octets()[..3]);
        entry.extend([0, 1]); // one path
        entry.extend([0, 0]); // of the first peer
        entry.extend([0; 4]); // heard at
        entry.extend(u16::try_from(attributes.len()).expect("a few octets").to_be_bytes());
        entry.extend(&attributes);
        record(&mut file, RIB_IPV4_UNICAST, &entry);
    }
    file
}

fn record(file: &mut Vec<u8>, subtype: u16, body: &[u8]) {
    file.extend([0; 4]); // time
    file.extend(TABLE_DUMP_V2.to_be_bytes());
    file.extend(subtype.to_be_bytes());
    file.extend(u32::try_from(body.len()).expect("a record is small").to_be_bytes());
    file.extend(body);
}

/// ORIGIN IGP, an AS path of one AS (four octets, RFC 6396 §4.3.4), and the next hop.
fn attributes(next_hop: Ipv4Addr) -> Vec<u8> {
    let mut attributes = vec![0x40, 1, 1, 0];
    attributes.extend([0x40, 2, 6, 2, 1]);
    attributes.extend(65_010_u32.to_be_bytes());
    attributes.extend([0x40, 3, 4]);
    attributes.extend(next_hop.octets());
    attributes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_have_the_length_that_they_say() {
        let file = table(64_500, Ipv4Addr::new(10, 0, 1, 1), 2);
        let (mut rest, mut kinds) = (file.as_slice(), Vec::new());
        while let Some((header, body)) = rest.split_at_checked(12).filter(|_| !rest.is_empty()) {
            kinds.push(u16::from_be_bytes([header[6], header[7]]));
            let length = u32::from_be_bytes([header[8], header[9], header[10], header[11]]);
            rest = &body[usize::try_from(length).unwrap()..];
        }
        assert_eq!(kinds, [PEER_INDEX_TABLE, RIB_IPV4_UNICAST, RIB_IPV4_UNICAST]);
        assert_eq!(prefix(257), "20.1.1.0/24");
    }
}
