//! OPEN, NOTIFICATION, KEEPALIVE and ROUTE-REFRESH, octet by octet.

use super::capability::{
    AddPathMode, Forwarding, GracefulRestart, LongLivedFamily, NotificationSupport, RestartState,
};
use super::error::{HeaderError, OpenError};
use super::*;

/// An OPEN with every capability that we know, and one that we do not.
const FULL_OPEN: &str = "
    007f 01             ; length 127, OPEN
    04 5ba0 005a        ; version 4, AS_TRANS, hold time 90
    0a000001 62         ; 10.0.0.1, 98 octets of parameters
    02 60               ; capabilities, 96 octets
    01 04 0001 00 01    ; IPv4 unicast
    01 04 0002 00 01    ; IPv6 unicast
    01 04 0019 00 46    ; L2VPN EVPN
    02 00               ; route refresh
    05 06 0001 0001 0002            ; IPv4 unicast with an IPv6 next hop
    06 00               ; extended messages
    09 01 03            ; role: customer
    40 0a c078 0001 01 80 0002 01 00 ; R and N, 120 s, IPv4 preserved, IPv6 lost
    41 04 fa56ea00      ; AS 4200000000
    45 08 0001 01 03 0002 01 01     ; paths: IPv4 both ways, IPv6 receive
    46 00               ; enhanced route refresh
    47 0e 0001 01 80 015180 0002 01 00 ffffff ; stale for a day; for 194 days
    49 06 04 6c656166 00            ; FQDN: leaf, without a domain
    4b 03 02 7631       ; software: v1
    80 02 abcd          ; not known here
";

fn full_open() -> Open {
    let v4 = AfiSafi::from(Family::Ipv4);
    let v6 = AfiSafi::from(Family::Ipv6);
    Open {
        asn: 4_200_000_000,
        hold_time: HoldTime::from_secs(90).unwrap(),
        router_id: "10.0.0.1".parse().unwrap(),
        capabilities: vec![
            Capability::family(Family::Ipv4),
            Capability::family(Family::Ipv6),
            Capability::MultiProtocol(AfiSafi { afi: 25, safi: 70 }),
            Capability::RouteRefresh,
            Capability::ExtendedNextHop(vec![(v4, 2)]),
            Capability::ExtendedMessage,
            Capability::Role(3),
            Capability::GracefulRestart(GracefulRestart {
                state: RestartState::Restarted,
                notification: NotificationSupport::Graceful,
                restart_secs: 120,
                families: vec![(v4, Forwarding::Preserved), (v6, Forwarding::Lost)],
            }),
            Capability::FourOctetAs(4_200_000_000),
            Capability::AddPath(vec![(v4, AddPathMode::Both), (v6, AddPathMode::Receive)]),
            Capability::EnhancedRouteRefresh,
            Capability::LongLivedGracefulRestart(vec![
                LongLivedFamily {
                    family: v4,
                    forwarding: Forwarding::Preserved,
                    stale_secs: 86400,
                },
                LongLivedFamily {
                    family: v6,
                    forwarding: Forwarding::Lost,
                    stale_secs: capability::STALE_SECS_MAX,
                },
            ]),
            Capability::Fqdn { host: "leaf".to_owned(), domain: String::new() },
            Capability::SoftwareVersion("v1".to_owned()),
            Capability::Unknown { code: 0x80, value: vec![0xab, 0xcd] },
        ],
    }
}

#[test]
fn an_open_with_every_capability_is_these_octets() {
    let bytes = message(FULL_OPEN);
    let codec = Codec::baseline(PeerKind::External);
    assert_eq!(parse(&bytes, &codec), Ok(Message::Open(full_open())));
    let mut out = Vec::new();
    full_open().emit(&mut out);
    assert_eq!(out, bytes);
}

#[test]
fn an_open_of_an_old_speaker_has_no_parameters() {
    let bytes = message("001d 01 04 fde9 00b4 0a000002 00");
    let open = Open {
        asn: 65001,
        hold_time: HoldTime::from_secs(180).unwrap(),
        router_id: "10.0.0.2".parse().unwrap(),
        capabilities: vec![],
    };
    let mut out = Vec::new();
    open.emit(&mut out);
    assert_eq!(out, bytes);
    assert_eq!(Open::parse(&bytes[19..]), Ok(open));
}

#[test]
fn capabilities_may_be_spread_over_parameters() {
    let open = Open::parse(&hex("04 fde9 005a 0a000001 0c  02 02 02 00  02 06 01 04 0001 00 01"));
    let expected = [Capability::RouteRefresh, Capability::family(Family::Ipv4)];
    assert_eq!(open.unwrap().capabilities, expected);
}

/// RFC 9072 §2: the length octet is 255 when we write it, and anything but 0 when we read it.
#[test]
fn parameters_of_more_than_255_octets_take_the_extended_form() {
    let mut open = Open { asn: 65001, ..full_open() };
    let value = vec![7; 250];
    open.capabilities = vec![Capability::Unknown { code: 200, value }; 2];
    let mut out = Vec::new();
    open.emit(&mut out);
    assert_eq!(out[28..36], hex("ff ff 01fb 02 01f8 c8"));
    assert_eq!(Open::parse(&out[19..]), Ok(open.clone()));
    out[28] = 17;
    assert_eq!(Open::parse(&out[19..]), Ok(open));
}

#[test]
fn a_bad_open_names_what_is_wrong_with_it() {
    use OpenError::*;
    for (dump, expected, subcode, data) in [
        ("03 fde9 005a 0a000001 00", Version(3), 1, "0004"),
        ("04 0000 005a 0a000001 00", ZeroAs, 2, ""),
        ("04 5ba0 005a 0a000001 08 02 06 41 04 00000000", ZeroAs, 2, ""),
        ("04 fde9 005a 00000000 00", ZeroIdentifier, 3, ""),
        ("04 fde9 0002 0a000001 00", HoldTime(2), 6, ""),
        ("04 fde9 005a 0a000001 03 01 01 00", Parameter(1), 4, ""),
        ("04 fde9 005a 0a0000", Malformed("shorter than its fixed fields"), 0, ""),
        ("04 fde9 005a 0a000001 04", Malformed("parameters do not fill the message"), 0, ""),
        (
            "04 fde9 005a 0a000001 02 02 05",
            Malformed("an optional parameter overruns the message"),
            0,
            "",
        ),
        (
            "04 fde9 005a 0a000001 04 02 02 41 04",
            Malformed("a capability overruns its parameter"),
            0,
            "",
        ),
        (
            "04 fde9 005a 0a000001 05 02 03 41 01 00",
            Malformed("a capability has a length that it cannot have"),
            0,
            "",
        ),
    ] {
        let error = Open::parse(&hex(dump)).unwrap_err();
        assert_eq!(error, expected, "{dump}");
        let sent = error.notification();
        assert_eq!((sent.code, sent.subcode, sent.data), (2, subcode, hex(data)), "{dump}");
    }
}

#[test]
fn an_add_path_entry_of_an_unknown_mode_is_left_out() {
    let open = Open::parse(&hex("04 fde9 005a 0a000001 0c 02 0a 45 08 0001 01 07 0002 01 02"));
    let expected = Capability::AddPath(vec![(Family::Ipv6.into(), AddPathMode::Send)]);
    assert_eq!(open.unwrap().capabilities, [expected]);
}

#[test]
fn a_keepalive_is_a_bare_header() {
    let mut out = Vec::new();
    keepalive(&mut out);
    assert_eq!(out, message("0013 04"));
    assert_eq!(parse(&out, &modern(PeerKind::External)), Ok(Message::Keepalive));
}

#[test]
fn a_notification_keeps_its_data() {
    let bytes = message("0019 03 06 02 03 627965"); // cease, administrative shutdown, "bye"
    let Ok(Message::Notification(got)) = parse(&bytes, &modern(PeerKind::External)) else {
        panic!("not a NOTIFICATION");
    };
    assert_eq!(got.reason(), Some(Cease::AdministrativeShutdown));
    assert_eq!(got.text().as_deref(), Some("bye"));
    let mut out = Vec::new();
    got.emit(&mut out);
    assert_eq!(out, bytes);
}

#[test]
fn header_errors_carry_what_was_wrong() {
    for (error, expected) in [
        (HeaderError::NotSynchronized, (1, 1, vec![])),
        (HeaderError::BadLength(18), (1, 2, vec![0, 18])),
        (HeaderError::BadType(9), (1, 3, vec![9])),
    ] {
        let sent = MessageError::from(error).notification();
        assert_eq!((sent.code, sent.subcode, sent.data), expected);
    }
}

#[test]
fn a_route_refresh_names_a_family_and_a_side_of_the_answer() {
    let bytes = message("0017 05 0002 01 01"); // IPv6 unicast, begin of routes
    let expected = RouteRefresh { family: Family::Ipv6.into(), refresh: Refresh::BeginOfRoutes };
    let codec = modern(PeerKind::External);
    assert_eq!(parse(&bytes, &codec), Ok(Message::RouteRefresh(expected)));
}
