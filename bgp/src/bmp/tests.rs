//! Messages against bytes made by hand from the figures of the RFCs.

use std::time::Duration;

use super::*;
use crate::wire::iana::bmp::statistic;
use crate::wire::{AsnWidth, Family};

const TIME: Option<Duration> = Some(Duration::new(0x6000_0001, 7_000));

fn peer(address: &str) -> PeerHeader {
    let router_id = "192.0.2.9".parse().unwrap();
    PeerHeader { address: address.parse().unwrap(), asn: 65_001, router_id }
}

/// Hexadecimal digits; spaces are for the reader.
fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let pairs = digits.chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
    pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}

/// The per-peer header of 10.0.0.1 in AS 65001.
fn header(kind: &str, flags: &str) -> String {
    let address = "00000000 00000000 00000000 0a000001";
    format!("{kind} {flags} 0000000000000000 {address} 0000fde9 c0000209 60000001 00000007")
}

#[test]
fn an_initiation_says_who_speaks() {
    let mut out = Vec::new();
    initiation(&mut out, "node1", "it");
    assert_eq!(out, hex("03 00000015 04 0001 0002 6974 0002 0005 6e6f646531"));
}

#[test]
fn a_termination_has_reason_and_text() {
    let mut out = Vec::new();
    termination(&mut out, "bye");
    assert_eq!(out, hex("03 00000013 05 0000 0003 627965 0001 0002 0000"));
}

#[test]
fn a_peer_comes_up_with_both_opens() {
    let mut out = Vec::new();
    let (sent, received) = (&hex("aa")[..], &hex("bb cc")[..]);
    let local = Some("10.0.0.2:179".parse().unwrap());
    let connection = Connection { local, remote_port: 40_000, sent, received };
    peer_up(&mut out, &peer("10.0.0.1"), Table::PrePolicy, TIME, connection);
    let local = "000000000000000000000000 0a000002 00b3 9c40";
    assert_eq!(out, hex(&format!("03 00000047 03 {} {local} aa bbcc", header("00", "00"))));
}

#[test]
fn the_loc_rib_comes_up_without_addresses_and_with_its_name() {
    let mut out = Vec::new();
    let connection = Connection { local: None, remote_port: 0, sent: &[1], received: &[1] };
    peer_up(&mut out, &peer("10.0.0.1"), Table::LocRib, None, connection);
    let header = format!("03 00 {} 0000fde9 c0000209 {}", "00".repeat(24), "00".repeat(8));
    let local = "00".repeat(20);
    let name = "0003 0006 676c6f62616c";
    assert_eq!(out, hex(&format!("03 00000050 03 {header} {local} 01 01 {name}")));
}

#[test]
fn each_end_of_a_session_has_its_reason() {
    for (why, body) in [
        (Down::SentNotification(vec![0xAA]), "01 aa"),
        (Down::Closed(2), "02 0002"),
        (Down::ReceivedNotification(vec![0xBB]), "03 bb"),
        (Down::Lost, "04"),
        (Down::NoLongerMonitored, "05"),
    ] {
        let mut out = Vec::new();
        peer_down(&mut out, &peer("10.0.0.1"), Table::PrePolicy, TIME, &why);
        let body = hex(body);
        let length = u32::try_from(48 + body.len()).unwrap().to_be_bytes();
        let expected = [&[3][..], &length, &[2], &hex(&header("00", "00")), &body].concat();
        assert_eq!(out, expected, "{why:?}");
    }
}

#[test]
fn the_table_is_told_by_type_and_flags() {
    for (table, width, kind_and_flags) in [
        (Table::PrePolicy, AsnWidth::Four, "00 80"),
        (Table::PostPolicy, AsnWidth::Four, "00 c0"),
        (Table::AdjRibOut, AsnWidth::Four, "00 d0"),
        (Table::AdjRibOut, AsnWidth::Two, "00 f0"),
        (Table::LocRib, AsnWidth::Four, "03 00"),
    ] {
        let mut out = Vec::new();
        route_monitoring(&mut out, &peer("2001:db8::1"), (table, width), TIME, |out| out.push(9));
        assert_eq!(out[..6], hex("03 00000031 00"));
        assert_eq!(out[6..8], hex(kind_and_flags), "{table:?}");
        let address = if table == Table::LocRib {
            "00".repeat(16)
        } else {
            "20010db8000000000000000000000001".into()
        };
        assert_eq!(out[16..32], hex(&address), "{table:?}");
        assert_eq!(out[48..], [9]);
    }
}

#[test]
fn a_report_has_gauges_with_and_without_family() {
    let mut out = Vec::new();
    let gauges = [
        Statistic { kind: statistic::ADJ_RIB_IN, family: None, value: 5 },
        Statistic { kind: statistic::FAMILY_ADJ_RIB_IN, family: Some(Family::Ipv6), value: 3 },
    ];
    statistics(&mut out, &peer("10.0.0.1"), Table::PrePolicy, TIME, &gauges);
    let body = "00000002 0007 0008 0000000000000005 0009 000b 0002 01 0000000000000003";
    assert_eq!(out, hex(&format!("03 0000004f 01 {} {body}", header("00", "00"))));
}
