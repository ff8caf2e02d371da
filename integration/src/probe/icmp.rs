//! ICMP and ICMPv6 echo over raw sockets.

use std::net::IpAddr;

/// An echo request. The kernel fills the checksum of ICMPv6; of ICMP we do.
pub(crate) fn echo_request(family: IpAddr, identifier: u16, nonce: u32) -> Vec<u8> {
    let kind = if family.is_ipv4() { 8 } else { 128 }; // RFC 792; RFC 4443 §4.1
    let mut packet = vec![kind, 0, 0, 0];
    packet.extend(identifier.to_be_bytes());
    packet.extend([0, 1]); // sequence
    packet.extend(nonce.to_be_bytes());
    if family.is_ipv4() {
        let sum = checksum(&packet);
        packet[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    packet
}

/// What an ICMP message tells a probe that waits for an answer to its nonce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Echo,
    Unreachable,
}

/// Reads what a raw socket gives: with the IPv4 header, or without the IPv6 one. `None` if it is not
/// about our request.
pub(crate) fn parse_answer(family: IpAddr, received: &[u8], nonce: u32) -> Option<Answer> {
    let header = if family.is_ipv4() { usize::from(received.first()? & 0xf) * 4 } else { 0 };
    let packet = received.get(header..)?;
    let nonce = nonce.to_be_bytes();
    match (family.is_ipv4(), packet.first()?) {
        (true, 0) | (false, 129) => (packet.get(8..12)? == nonce).then_some(Answer::Echo),
        // The message quotes the packet that it is about, ours with the nonce in it.
        (true, 3) | (false, 1) => {
            packet.windows(4).any(|bytes| bytes == nonce).then_some(Answer::Unreachable)
        }
        _ => None,
    }
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum = 0_u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("folded to 16 bits")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_with_its_checksum_sums_to_zero() {
        assert_eq!(checksum(&echo_request(IpAddr::from([127, 0, 0, 1]), 7, 9)), 0);
    }
}
