//! SCTP INIT packets. The kernels of many machines have no SCTP, yet firewalls must filter it, so a
//! probe writes the packet and the destination's raw socket sees whether it came.

use nix::libc;

/// An INIT packet (RFC 9260 §3.3.2) whose initiate tag is `tag`.
pub(crate) fn init(source_port: u16, destination_port: u16, tag: u32) -> Vec<u8> {
    let mut packet = Vec::with_capacity(32);
    packet.extend(source_port.to_be_bytes());
    packet.extend(destination_port.to_be_bytes());
    packet.extend([0; 8]); // verification tag: zero in an INIT (§8.5.1 A); checksum: below
    packet.extend([1, 0, 0, 20]); // chunk INIT, no flags, 20 bytes
    packet.extend(tag.to_be_bytes());
    packet.extend(65_536_u32.to_be_bytes()); // receiver window
    packet.extend([0, 1, 0, 1]); // one stream each way
    packet.extend(tag.to_be_bytes()); // first TSN
    // RFC 9260 §6.8: connection tracking takes a packet with a wrong checksum for invalid.
    let checksum = crc32c(&packet);
    packet[8..12].copy_from_slice(&checksum.to_le_bytes());
    packet
}

/// Destination port and initiate tag of an INIT packet, as a raw socket gives it: with the IPv4
/// header, or without the IPv6 one.
pub(crate) fn parse_init(received: &[u8]) -> Option<(u16, u32)> {
    let header = match received.first()? >> 4 {
        4 if received.get(9) == Some(&PROTOCOL) => usize::from(received[0] & 0xf) * 4,
        _ => 0,
    };
    let packet = received.get(header..)?;
    let [_, _, high, low, ..] = *packet else { return None };
    let chunk = packet.get(12..20)?;
    let tag = u32::from_be_bytes(chunk[4..].try_into().ok()?);
    (chunk[0] == 1).then_some((u16::from_be_bytes([high, low]), tag))
}

#[expect(clippy::cast_possible_truncation, reason = "132 fits")]
const PROTOCOL: u8 = libc::IPPROTO_SCTP as u8;

/// CRC32c, bit by bit: probes are few.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_castagnolis() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283); // RFC 3720 §B.4's polynomial, common check value
    }

    #[test]
    fn an_init_is_found_again_with_and_without_an_ip_header() {
        let packet = init(4_000, 7_777, 0xdead_beef);
        assert_eq!(parse_init(&packet), Some((7_777, 0xdead_beef)));
        let mut with_header = vec![0_u8; 20];
        with_header[0] = 0x45;
        with_header[9] = PROTOCOL;
        with_header.extend(&packet);
        assert_eq!(parse_init(&with_header), Some((7_777, 0xdead_beef)));
        assert_eq!(parse_init(&packet[..10]), None);
    }
}
