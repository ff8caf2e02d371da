//! Records against bytes made by hand from the figures of RFC 6396.

use super::*;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let pairs = digits.chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
    pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}

/// ORIGIN IGP, AS_PATH 65001, MED 7.
const ATTRIBUTES: &str = "40 01 01 00  40 02 06 02 01 0000fde9  80 04 04 00000007";

#[test]
fn the_index_numbers_peers_of_both_families() {
    let peer = |router_id: &str, address: &str, asn| IndexedPeer {
        router_id: router_id.parse().unwrap(),
        address: address.parse().unwrap(),
        asn,
    };
    let peers = [peer("192.0.2.1", "10.0.0.1", 65_001), peer("192.0.2.2", "2001:db8::2", 400_000)];
    let mut out = Vec::new();
    peer_index_table(&mut out, 0x6000_0000, "192.0.2.9".parse().unwrap(), peers.into_iter());
    let first = "02 c0000201 0a000001 0000fde9";
    let second = "03 c0000202 20010db8000000000000000000000002 00061a80";
    let body = format!("c0000209 0000 0002 {first} {second}");
    assert_eq!(out, hex(&format!("60000000 000d 0001 0000002e {body}")));
}

#[test]
fn an_ipv4_prefix_has_its_next_hop_among_the_attributes() {
    let raw = hex(ATTRIBUTES);
    let next_hop = NextHop::V4("10.0.0.1".parse().unwrap());
    let entry = RibEntry { peer: 1, identifier: 0, next_hop, attributes: &raw };
    let mut out = Vec::new();
    rib(&mut out, 0x6000_0000, 5, "10.1.0.0/16".parse().unwrap(), &[entry]);
    let with_next_hop =
        "40 01 01 00  40 02 06 02 01 0000fde9  40 03 04 0a000001  80 04 04 00000007";
    let entry = format!("0001 60000000 001b {with_next_hop}");
    assert_eq!(out, hex(&format!("60000000 000d 0002 0000002c 00000005 10 0a01 0001 {entry}")));
}

#[test]
fn an_ipv6_prefix_has_nothing_but_the_next_hop_in_mp_reach_nlri() {
    let raw = hex(ATTRIBUTES);
    let next_hop = NextHop::V6("2001:db8::1".parse().unwrap());
    let entry = RibEntry { peer: 0, identifier: 0, next_hop, attributes: &raw };
    let mut out = Vec::new();
    rib(&mut out, 0, 0, "2001:db8::/32".parse().unwrap(), &[entry]);
    let mp_reach = "80 0e 11 10 20010db8000000000000000000000001";
    let entry = format!("0000 00000000 0028 {ATTRIBUTES} {mp_reach}");
    assert_eq!(out, hex(&format!("00000000 000d 0004 0000003b 00000000 20 20010db8 0001 {entry}")));
}

#[test]
fn with_one_path_identifier_all_paths_have_theirs() {
    let next_hop = NextHop::V4("10.0.0.1".parse().unwrap());
    let entry = |identifier| RibEntry { peer: 2, identifier, next_hop, attributes: &[] };
    let mut out = Vec::new();
    rib(&mut out, 0, 0, "0.0.0.0/0".parse().unwrap(), &[entry(0), entry(9)]);
    let attributes = "0007 40 03 04 0a000001";
    let entries =
        format!("0002 00000000 00000000 {attributes} 0002 00000000 00000009 {attributes}");
    assert_eq!(out, hex(&format!("00000000 000d 0008 0000002d 00000000 00 0002 {entries}")));
}
