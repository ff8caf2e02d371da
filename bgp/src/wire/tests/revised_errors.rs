//! RFC 7606, rule by rule.

use super::*;
use Severity::{AfiSafiDisable, AttributeDiscard, SessionReset, TreatAsWithdraw};

const ORIGIN: &str = "400101 00";
const PATH: &str = "40020602010000fde9";
const NEXT_HOP: &str = "400304 0a000001";

struct Outcome {
    severity: Option<Severity>,
    text: String,
    block: Vec<u8>,
    subcode: u8,
    data: Vec<u8>,
}

/// Judges attributes in an UPDATE that announces 10.0.0.0/8, or nothing.
fn judge(dump: &str, peer: PeerKind, announced: &[u8]) -> Outcome {
    judge_with(dump, &modern(peer), announced)
}

fn judge_with(dump: &str, codec: &Codec, announced: &[u8]) -> Outcome {
    let attributes = hex(dump);
    let update = Update {
        withdrawn: Nlri::empty(Family::Ipv4),
        attributes: &attributes,
        announced: Nlri::parse(announced, Family::Ipv4, PathIds::Absent).unwrap(),
    };
    let mut scratch = Scratch::default();
    let checked = check(&update, codec, &mut scratch);
    let notification = checked
        .fault
        .map(|fault| fault.error.notification(fault.attribute))
        .unwrap_or(Notification::new(0, 0));
    Outcome {
        severity: checked.fault.map(|fault| fault.severity),
        text: checked.fault.map(|fault| fault.error.to_string()).unwrap_or_default(),
        block: scratch.block().to_vec(),
        subcode: notification.subcode,
        data: notification.data,
    }
}

const TEN: &[u8] = &[8, 10];

fn check_rule(extra: &str, peer: PeerKind, severity: Severity, text: &str) {
    let good = format!("{ORIGIN} {PATH} {NEXT_HOP}");
    let outcome = judge(&format!("{good} {extra}"), peer, TEN);
    assert_eq!((outcome.severity, outcome.text.as_str()), (Some(severity), text), "{extra}");
    let kept = hex(&format!("{ORIGIN} {PATH}"));
    let expected = if severity == AttributeDiscard { kept } else { vec![] };
    assert_eq!(outcome.block, expected, "{extra}");
}

#[test]
fn wrong_attributes_cost_what_rfc_7606_says() {
    use PeerKind::{External, Internal};
    for (extra, peer, severity, text) in [
        // §3 (c): optional or transitive bit.
        ("c00404 00000001", External, TreatAsWithdraw, "MULTI_EXIT_DISC has flags 0xc0"),
        ("800804 00000001", External, TreatAsWithdraw, "COMMUNITIES has flags 0x80"),
        // §3 (g): twice.
        ("400101 00", External, AttributeDiscard, "attribute 1 appears more than once"),
        // §4: cut off.
        ("400501", External, TreatAsWithdraw, "the attribute list ends inside attribute 5"),
        ("40", External, TreatAsWithdraw, "the attribute list ends inside attribute 0"),
        ("c008ff00", External, TreatAsWithdraw, "the attribute list ends inside attribute 8"),
        ("d00800", External, TreatAsWithdraw, "the attribute list ends inside attribute 8"),
        // A next hop of MP_REACH_NLRI that is no host, as §7.3 has it for NEXT_HOP.
        (
            "800e15 000201 10 00000000000000000000000000000000 00",
            External,
            TreatAsWithdraw,
            "NEXT_HOP :: is not a host address",
        ),
        (
            "800e15 000201 10 ff020000000000000000000000000001 00",
            External,
            TreatAsWithdraw,
            "NEXT_HOP ff02::1 is not a host address",
        ),
        // §7.4 and §7.5.
        ("800403 000000", External, TreatAsWithdraw, "MULTI_EXIT_DISC is 3 octets long"),
        ("400503 000000", Internal, TreatAsWithdraw, "LOCAL_PREF is 3 octets long"),
        ("400504 00000064", External, AttributeDiscard, "LOCAL_PREF from an external peer"),
        // §7.6 and §7.7.
        ("400601 00", External, AttributeDiscard, "ATOMIC_AGGREGATE is 1 octets long"),
        ("c00706 fde9 0a000001", External, AttributeDiscard, "AGGREGATOR is 6 octets long"),
        // §7.8: communities, and RFC 8092 §6.
        ("c00803 000000", External, TreatAsWithdraw, "COMMUNITIES is 3 octets long"),
        ("c00800", External, TreatAsWithdraw, "COMMUNITIES is 0 octets long"),
        ("c01004 00000000", External, TreatAsWithdraw, "EXTENDED_COMMUNITIES is 4 octets long"),
        ("c02004 00000000", External, TreatAsWithdraw, "LARGE_COMMUNITIES is 4 octets long"),
        (
            "c01904 00000000",
            External,
            TreatAsWithdraw,
            "IPV6_EXTENDED_COMMUNITIES is 4 octets long",
        ),
        // §7.9 and §7.10: route reflection.
        ("800904 0a000001", External, AttributeDiscard, "ORIGINATOR_ID from an external peer"),
        ("800903 0a0000", Internal, TreatAsWithdraw, "ORIGINATOR_ID is 3 octets long"),
        ("800a04 0a000001", External, AttributeDiscard, "CLUSTER_LIST from an external peer"),
        ("800a00", Internal, TreatAsWithdraw, "CLUSTER_LIST is 0 octets long"),
        // RFC 9234 §5.
        ("c02300", External, TreatAsWithdraw, "ONLY_TO_CUSTOMER is 0 octets long"),
        // RFC 6793 §6: from a new speaker.
        (
            "c01106 02 01 0000fde9",
            External,
            AttributeDiscard,
            "AS4_PATH from a peer with four-octet AS numbers",
        ),
        // RFC 7607 §2.
        ("c00708 00000000 0a000001", External, AttributeDiscard, "AGGREGATOR contains AS 0"),
        // RFC 4271 §6.3.
        ("406300", External, SessionReset, "well-known attribute 99 is not known"),
        // §5.3 and §7.11.
        ("800e04 00020100", External, SessionReset, "MP_REACH_NLRI of 4 octets is too short"),
        ("800f02 0002", External, SessionReset, "MP_UNREACH_NLRI of 2 octets is too short"),
        ("800e05 0002010400", External, AfiSafiDisable, "next hop of 4 octets for ipv6-unicast"),
        (
            "800f04 000201 81",
            External,
            AfiSafiDisable,
            "MP_UNREACH_NLRI: prefix length 129 is beyond 128 of ipv6-unicast",
        ),
        (
            "800f04 000201 20",
            External,
            AfiSafiDisable,
            "MP_UNREACH_NLRI: ipv6-unicast prefixes end in the middle of a prefix, 4 octets short",
        ),
        // §3 (g): these two may not.
        (
            "800f03000201 800f03000201",
            External,
            SessionReset,
            "MP_UNREACH_NLRI appears more than once",
        ),
    ] {
        check_rule(extra, peer, severity, text);
    }
}

#[test]
fn the_mandatory_attributes_are_needed_to_announce() {
    for (dump, text) in [
        (format!("{PATH} {NEXT_HOP}"), "ORIGIN is missing"),
        (format!("{ORIGIN} {NEXT_HOP}"), "AS_PATH is missing"),
        (format!("{ORIGIN} {PATH}"), "NEXT_HOP is missing"),
    ] {
        let outcome = judge(&dump, PeerKind::External, TEN);
        assert_eq!(outcome.severity, Some(TreatAsWithdraw));
        assert_eq!(outcome.text, text);
    }
    // MP_REACH_NLRI brings its own next hop; a withdrawal needs none of them.
    let reach = "800e15 000201 10 20010db8000000000000000000000001 00";
    let outcome = judge(&format!("{reach} {ORIGIN} {PATH}"), PeerKind::External, &[]);
    assert_eq!(outcome.text, "");
    assert_eq!(judge("800f03000201", PeerKind::External, &[]).text, "");
}

#[test]
fn wrong_values_of_the_mandatory_attributes_withdraw_the_routes() {
    for (dump, text) in [
        (format!("400101 03 {PATH} {NEXT_HOP}"), "ORIGIN 3 is not defined"),
        (format!("400102 0000 {PATH} {NEXT_HOP}"), "ORIGIN is 2 octets long"),
        (format!("{ORIGIN} {PATH} 400303 0a0000"), "NEXT_HOP is 3 octets long"),
        (format!("{ORIGIN} {PATH} 400304 e0000001"), "NEXT_HOP 224.0.0.1 is not a host address"),
        (format!("{ORIGIN} {PATH} 400304 00000000"), "NEXT_HOP 0.0.0.0 is not a host address"),
        (format!("{ORIGIN} {NEXT_HOP} 400202 0200"), "AS_PATH cannot be read"),
        (format!("{ORIGIN} {NEXT_HOP} 400206 0901 0000fde9"), "AS_PATH cannot be read"),
        (format!("{ORIGIN} {NEXT_HOP} 400206 0101 0000fde9"), "AS_PATH contains an AS_SET"),
        (format!("{ORIGIN} {NEXT_HOP} 400206 0401 0000fde9"), "AS_PATH contains an AS_SET"),
        (
            format!("{ORIGIN} {NEXT_HOP} 400206 0301 0000fde9"),
            "AS_PATH contains a confederation segment",
        ),
        (format!("{ORIGIN} {NEXT_HOP} 400206 0201 00000000"), "AS_PATH contains AS 0"),
    ] {
        let outcome = judge(&dump, PeerKind::External, TEN);
        assert_eq!((outcome.severity, outcome.text.as_str()), (Some(TreatAsWithdraw), text));
        assert_eq!(outcome.block, []);
    }
}

/// RFC 5065 §4 and §5: what stays within an AS goes from member to member, clusters do not.
#[test]
fn another_member_of_a_confederation_is_nearly_internal() {
    const MEMBER: &str = "400206 0301 0000fdea";
    let good = format!("{ORIGIN} {MEMBER} {NEXT_HOP} 400504 00000064");
    let outcome = judge(&good, PeerKind::Confederation, TEN);
    assert_eq!((outcome.severity, outcome.text.as_str()), (None, ""));
    let attributes = Attributes::new(&outcome.block);
    assert_eq!(attributes.local_pref(), Some(100));
    assert_eq!(attributes.as_path().to_string(), "(65002)");
    for (dump, severity, text) in [
        (
            format!("{good} 800904 0a000001"),
            AttributeDiscard,
            "ORIGINATOR_ID from an external peer",
        ),
        (format!("{good} 800a04 0a000001"), AttributeDiscard, "CLUSTER_LIST from an external peer"),
        (
            format!("{ORIGIN} {PATH} {NEXT_HOP}"),
            TreatAsWithdraw,
            "AS_PATH does not begin with a confederation segment",
        ),
        (
            format!("{ORIGIN} 400206 0401 0000fdea {NEXT_HOP}"),
            TreatAsWithdraw,
            "AS_PATH contains an AS_SET",
        ),
    ] {
        let outcome = judge(&dump, PeerKind::Confederation, TEN);
        assert_eq!((outcome.severity, outcome.text.as_str()), (Some(severity), text));
    }
}

#[test]
fn attributes_of_an_old_peer_are_dropped_when_wrong() {
    let old = Codec::baseline(PeerKind::External);
    let good = format!("{ORIGIN} 400204 0201 5ba0 {NEXT_HOP}");
    for (extra, severity, text) in [
        ("c01100", AttributeDiscard, "AS4_PATH is 0 octets long"),
        ("c01106 0901 0000fde9", AttributeDiscard, "AS4_PATH cannot be read"),
        ("c01106 0201 00000000", AttributeDiscard, "AS4_PATH contains AS 0"),
        ("c01106 0101 0000fde9", TreatAsWithdraw, "AS4_PATH contains an AS_SET"),
        ("c01206 00000000 0000", AttributeDiscard, "AS4_AGGREGATOR is 6 octets long"),
        ("c01208 00000000 0a000001", AttributeDiscard, "AS4_AGGREGATOR contains AS 0"),
        ("c00708 0000fde9 0a000001", AttributeDiscard, "AGGREGATOR is 8 octets long"),
    ] {
        let outcome = judge_with(&format!("{good} {extra}"), &old, TEN);
        assert_eq!((outcome.severity, outcome.text.as_str()), (Some(severity), text), "{extra}");
        if severity == AttributeDiscard {
            let path = Attributes::new(&outcome.block).as_path().to_string();
            assert_eq!(path, "23456", "{extra}");
        }
    }
}

/// §3 (h).
#[test]
fn of_several_errors_the_gravest_decides() {
    let dump = format!("{ORIGIN} {PATH} {NEXT_HOP} 400601 00 800403 000000 400101 00");
    let outcome = judge(&dump, PeerKind::External, TEN);
    assert_eq!(outcome.severity, Some(TreatAsWithdraw));
    assert_eq!(outcome.text, "MULTI_EXIT_DISC is 3 octets long");
}

/// §5.2.
#[test]
fn an_error_without_reachable_prefixes_ends_the_session() {
    for (dump, severity) in [
        ("800403 000000", Some(SessionReset)),
        ("800f03000201 800403 000000", Some(SessionReset)),
        ("400501", Some(SessionReset)),
        ("400601 00", Some(AttributeDiscard)),
        ("800f03000201", None),
        // MP_UNREACH_NLRI alone, with wrong flags: its routes can be withdrawn.
        ("c00f03000201", Some(TreatAsWithdraw)),
    ] {
        assert_eq!(judge(dump, PeerKind::External, &[]).severity, severity, "{dump}");
    }
}

#[test]
fn the_notification_shows_the_attribute() {
    let outcome = judge("406302 beef", PeerKind::External, TEN);
    assert_eq!((outcome.subcode, outcome.data), (2, hex("406302 beef")));
    let outcome = judge("800403 000000", PeerKind::External, &[]);
    assert_eq!((outcome.subcode, outcome.data), (5, hex("800403 000000")));
}

#[test]
fn unknown_attributes_are_passed_on_as_partial_or_dropped() {
    let good = format!("{ORIGIN} {PATH} {NEXT_HOP}");
    let outcome = judge(&format!("{good} c06302 beef 806401 00"), PeerKind::External, TEN);
    assert_eq!(outcome.severity, None);
    assert_eq!(outcome.block, hex(&format!("{ORIGIN} {PATH} e06302 beef")));
}

#[test]
fn families_that_the_session_does_not_carry_are_ignored() {
    let codec = Codec::baseline(PeerKind::External);
    let attributes = hex("800f04 000201 81");
    let update = Update { attributes: &attributes, ..empty() };
    let checked = check(&update, &codec, &mut Scratch::default());
    assert_eq!((checked.fault, checked.unreach), (None, None));
    assert_eq!(checked.ignored, Some(Family::Ipv6.into()));
    assert_eq!(checked.end_of_rib, None);
}

fn empty() -> Update<'static> {
    Update {
        withdrawn: Nlri::empty(Family::Ipv4),
        attributes: &[],
        announced: Nlri::empty(Family::Ipv4),
    }
}

/// The peer's AS numbers take two octets, ours four: a path of 32 KB has no room in an attribute then.
#[test]
fn a_path_of_an_old_peer_that_gets_too_long_withdraws_the_routes() {
    let codec =
        Codec { message_size: MessageSize::Extended, ..Codec::baseline(PeerKind::External) };
    for (count, severity) in [(16_351, None), (16_352, Some(TreatAsWithdraw))] {
        let numbers: Vec<u32> = (1..=count).collect();
        let mut path = Vec::new();
        as_path::put_segments(&mut path, 2, &numbers, AsnWidth::Two);
        let mut attributes = hex(&format!("{ORIGIN} {NEXT_HOP}"));
        attribute::emit(&mut attributes, attribute::flags::TRANSITIVE, 2, &path);
        let announced = Nlri::parse(TEN, Family::Ipv4, PathIds::Absent).unwrap();
        let withdrawn = Nlri::empty(Family::Ipv4);
        let update = Update { withdrawn, attributes: &attributes, announced };
        let mut scratch = Scratch::default();
        let fault = check(&update, &codec, &mut scratch).fault;
        assert_eq!(fault.map(|fault| fault.severity), severity);
        let length = Attributes::new(scratch.block()).as_path().length();
        assert_eq!(length, if severity.is_none() { 16_351 } else { 0 });
    }
}
