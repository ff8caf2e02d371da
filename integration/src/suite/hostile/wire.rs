//! Bytes of BGP, written by hand: what a hostile peer sends must not come from the code under test.

use std::net::Ipv4Addr;

/// RFC 4271 §4.1.
const OPEN: u8 = 1;
const UPDATE: u8 = 2;
const KEEPALIVE: u8 = 4;

/// The longest message (RFC 4271 §4.1).
pub(super) const MAX: usize = 4096;

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(19 + body.len()).expect("a message of BGP");
    let mut message = vec![0xff; 16];
    message.extend(length.to_be_bytes());
    message.push(kind);
    message.extend(body);
    message
}

/// An OPEN for IPv4 unicast with four-octet AS numbers.
pub(super) fn open(as_number: u32, router_id: Ipv4Addr, hold_time: u16) -> Vec<u8> {
    let mut capabilities = vec![1, 4, 0, 1, 0, 1, 65, 4];
    capabilities.extend(as_number.to_be_bytes());
    let mut body = vec![4];
    body.extend(u16::try_from(as_number).unwrap_or(23_456).to_be_bytes());
    body.extend(hold_time.to_be_bytes());
    body.extend(router_id.octets());
    let length = u8::try_from(capabilities.len()).expect("a few octets");
    body.extend([length + 2, 2, length]);
    body.extend(capabilities);
    message(OPEN, &body)
}

pub(super) fn keepalive() -> Vec<u8> {
    message(KEEPALIVE, &[])
}

/// An UPDATE with one /24, by its first three octets.
pub(super) fn update(
    path: &[u32],
    next_hop: Ipv4Addr,
    communities: &[u32],
    net: [u8; 3],
) -> Vec<u8> {
    let mut attributes = vec![0x40, 1, 1, 0];
    let mut segments = Vec::new();
    for segment in path.chunks(255) {
        segments.extend([2, u8::try_from(segment.len()).expect("at most 255")]);
        segments.extend(segment.iter().flat_map(|number| number.to_be_bytes()));
    }
    // Flags of AS_PATH and COMMUNITIES with the bit for a length of two octets.
    put_long(&mut attributes, 0x50, 2, &segments);
    attributes.extend([0x40, 3, 4]);
    attributes.extend(next_hop.octets());
    if !communities.is_empty() {
        let values: Vec<u8> = communities.iter().flat_map(|value| value.to_be_bytes()).collect();
        put_long(&mut attributes, 0xd0, 8, &values);
    }
    let mut body = vec![0, 0];
    body.extend(u16::try_from(attributes.len()).expect("fits a message").to_be_bytes());
    body.extend(attributes);
    body.push(24);
    body.extend(net);
    message(UPDATE, &body)
}

fn put_long(out: &mut Vec<u8>, flags: u8, code: u8, value: &[u8]) {
    out.extend([flags, code]);
    out.extend(u16::try_from(value.len()).expect("fits a message").to_be_bytes());
    out.extend(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_as_the_header_says() {
        let path: Vec<u32> = (1..=1000).collect();
        let all = [
            open(4_200_000_000, Ipv4Addr::LOCALHOST, 9),
            keepalive(),
            update(&path, Ipv4Addr::LOCALHOST, &[1, 2], [198, 51, 100]),
        ];
        for message in all {
            assert_eq!(usize::from(u16::from_be_bytes([message[16], message[17]])), message.len());
            assert!(message.len() <= MAX);
        }
    }
}
