//! UPDATEs of both families, from bytes to canonical block and back to bytes.

use super::error::UpdateError;
use super::*;

/// Path attributes as a first-hop router sends them, without next hop and prefixes.
const ATTRIBUTES: &str = "
    40 01 01 00                     ; ORIGIN igp
    40 02 0a 02 02 0000fde9 fa56ea00 ; AS_PATH 65001 4200000000
    80 04 04 00000064               ; MULTI_EXIT_DISC 100
    c0 08 08 fde90001 ffffff01      ; COMMUNITIES 65001:1 no-export
    c0 20 0c 0000fde9 00000001 00000002 ; LARGE_COMMUNITIES 65001:1:2
";
const NEXT_HOP: &str = "40 03 04 0a000001 ; 10.0.0.1\n";

/// What came out of a parsed UPDATE, owned.
struct Seen {
    withdrawn: Vec<(u32, Prefix)>,
    announced: Vec<(u32, Prefix)>,
    block: Vec<u8>,
}

fn take_apart(bytes: &[u8], codec: &Codec) -> (Seen, Option<NextHop>, Summary, Option<Family>) {
    let Ok(Message::Update(update)) = parse(bytes, codec) else { panic!("not an UPDATE") };
    let mut scratch = Scratch::default();
    let checked = check(&update, codec, &mut scratch);
    assert_eq!(checked.fault, None);
    let reach = checked.reach.map(|reach| reach.nlri);
    let announced = update.announced.into_iter().chain(reach.into_iter().flatten()).collect();
    let withdrawn =
        update.withdrawn.into_iter().chain(checked.unreach.into_iter().flatten()).collect();
    let next_hop = checked.reach.map(|reach| reach.next_hop).or(checked.next_hop.map(NextHop::V4));
    let seen = Seen { withdrawn, announced, block: scratch.block().to_vec() };
    (seen, next_hop, checked.summary, checked.end_of_rib)
}

/// ATTRIBUTES with NEXT_HOP at its place, in an UPDATE that announces two prefixes.
fn classic() -> Vec<u8> {
    let (before, after) = ATTRIBUTES.split_at(ATTRIBUTES.find("80 04").unwrap());
    let announced = "
        18 0a0102       ; 10.1.2.0/24
        0f 0a04         ; 10.4.0.0/15
    ";
    update("", &format!("{before} {NEXT_HOP} {after}"), announced)
}

#[test]
fn a_classic_update_reads_and_writes_as_these_octets() {
    let codec = modern(PeerKind::External);
    let bytes = classic();
    let (seen, next_hop, summary, _) = take_apart(&bytes, &codec);
    assert_eq!(seen.announced, [(0, p("10.1.2.0/24")), (0, p("10.4.0.0/15"))]);
    assert_eq!(next_hop, Some(NextHop::V4("10.0.0.1".parse().unwrap())));
    assert_eq!(seen.block, hex(ATTRIBUTES));
    let expected = Summary {
        med: Some(100),
        local_pref: None,
        first_as: 65001,
        originator_id: None,
        as_path_length: 2,
        confederation_length: 0,
        cluster_list_length: 0,
        origin: Origin::Igp,
        marks: Marks::NO_EXPORT,
    };
    assert_eq!(summary, expected);

    let mut out = Vec::new();
    let count =
        announce(&mut out, &codec, &seen.block, next_hop.unwrap(), Family::Ipv4, seen.announced);
    assert_eq!((count, out), (Ok(2), bytes));
}

#[test]
fn the_canonical_block_reads_as_attributes() {
    let block = hex(ATTRIBUTES);
    let attributes = Attributes::new(&block);
    assert_eq!(attributes.origin(), Origin::Igp);
    assert_eq!(attributes.as_path().to_string(), "65001 4200000000");
    assert_eq!(attributes.med(), Some(100));
    assert_eq!(attributes.local_pref(), None);
    let communities: Vec<_> =
        attributes.communities().map(|number| Community(number).to_string()).collect();
    assert_eq!(communities, ["65001:1", "no-export"]);
    let large: Vec<_> = attributes.large_communities().map(|c| c.to_string()).collect();
    assert_eq!(large, ["65001:1:2"]);
}

#[test]
fn order_and_length_form_do_not_change_the_canonical_block() {
    let shuffled = update(
        "",
        "80 04 04 00000064               ; MULTI_EXIT_DISC first
        40 03 04 0a000001               ; NEXT_HOP
        50 02 000a 02 02 0000fde9 fa56ea00 ; AS_PATH with a two-octet length
        60 01 01 00                     ; ORIGIN with a stray partial bit",
        "18 0a0102",
    );
    let (seen, ..) = take_apart(&shuffled, &modern(PeerKind::External));
    let expected = "40 01 01 00 40 02 0a 02 02 0000fde9 fa56ea00 80 04 04 00000064";
    assert_eq!(seen.block, hex(expected));
}

/// Found by the fuzzer: a well-known attribute with the partial bit went on as it came.
#[test]
fn only_optional_transitive_attributes_stay_partial() {
    let list = |path: &str, communities: &str| {
        format!("40 01 01 00 {path} 02 00 40 03 04 0a000001 {communities} 08 04 fde80001")
    };
    let block = |attributes: &str| {
        let codec = modern(PeerKind::External);
        let bytes = update("", attributes, "18 c00002");
        let Message::Update(update) = parse(&bytes, &codec).unwrap() else { panic!("an UPDATE") };
        let mut scratch = Scratch::default();
        let _verdict = check(&update, &codec, &mut scratch);
        scratch.block().to_vec()
    };
    assert_eq!(block(&list("60", "c0")), block(&list("40", "c0")));
    assert_ne!(block(&list("40", "e0")), block(&list("40", "c0")));
}

#[test]
fn ipv6_prefixes_travel_in_mp_reach_with_two_next_hops() {
    let codec = modern(PeerKind::Internal);
    let bytes = update(
        "",
        "90 0e 0031 0002 01          ; MP_REACH_NLRI, IPv6 unicast
           20 20010db8000000000000000000000001 fe800000000000000000000000000001 00
           30 20010db80001          ; 2001:db8:1::/48
           00                       ; ::/0
           12 2001c0                ; 2001:c000::/18
        40 01 01 00
        40 02 06 02 01 0000fde9
        80 04 04 00000064
        40 05 04 00000000",
        "",
    );
    let (seen, next_hop, ..) = take_apart(&bytes, &codec);
    let expected = [(0, p("2001:db8:1::/48")), (0, p("::/0")), (0, p("2001:c000::/18"))];
    assert_eq!(seen.announced, expected);
    let pair = NextHop::V6WithLinkLocal {
        global: "2001:db8::1".parse().unwrap(),
        link_local: "fe80::1".parse().unwrap(),
    };
    assert_eq!(next_hop, Some(pair));
    let mut out = Vec::new();
    let count = announce(&mut out, &codec, &seen.block, pair, Family::Ipv6, seen.announced);
    assert_eq!((count, out), (Ok(3), bytes));
}

#[test]
fn next_hops_of_mp_reach_have_the_lengths_of_their_family() {
    let link = "fe80::1".parse().unwrap();
    let global = "2001:db8::1".parse().unwrap();
    let v4 = NextHop::V4("10.0.0.1".parse().unwrap());
    let octets = |addr: std::net::Ipv6Addr| addr.octets();
    let pair = |a, b| [octets(a), octets(b)].concat();
    let unspecified = std::net::Ipv6Addr::UNSPECIFIED;
    let plain = modern(PeerKind::External);
    let extended = Codec { extended_next_hop: FamilySet::ALL, ..plain };
    for (family, field, codec, expected) in [
        (Family::Ipv4, vec![10, 0, 0, 1], plain, Some(v4)),
        (Family::Ipv4, octets(global).to_vec(), plain, None),
        (Family::Ipv4, octets(global).to_vec(), extended, Some(NextHop::V6(global))),
        (Family::Ipv6, octets(link).to_vec(), plain, Some(NextHop::V6(link))),
        (
            Family::Ipv6,
            pair(global, link),
            plain,
            Some(NextHop::V6WithLinkLocal { global, link_local: link }),
        ),
        (Family::Ipv6, pair(link, link), plain, Some(NextHop::V6(link))),
        (Family::Ipv6, pair(unspecified, link), plain, Some(NextHop::V6(link))),
        (Family::Ipv6, vec![10, 0, 0, 1], plain, None),
        (Family::Ipv6, vec![0; 24], plain, None),
        (Family::Ipv6, vec![], plain, None),
    ] {
        assert_eq!(NextHop::parse(&field, family, &codec), expected, "{family} {field:?}");
    }
}

#[test]
fn ipv4_with_an_ipv6_next_hop_goes_into_mp_reach() {
    let codec = Codec { extended_next_hop: FamilySet::ALL, ..modern(PeerKind::External) };
    let block = originated(Origin::Igp);
    let mut out = Vec::new();
    let next_hop = NextHop::V6("fe80::1".parse().unwrap());
    let prefixes = [(0, p("10.1.0.0/16"))];
    let count = announce(&mut out, &codec, &block, next_hop, Family::Ipv4, prefixes);
    assert_eq!(count, Ok(1));
    let expected = message(
        "003a 02 0000 0023
        90 0e 0018 0001 01 10 fe800000000000000000000000000001 00 10 0a01
        40 01 01 00 40 02 00",
    );
    assert_eq!(out, expected);
    let (seen, got, ..) = take_apart(&out, &codec);
    assert_eq!((seen.announced.as_slice(), got), (&prefixes[..], Some(next_hop)));
}

#[test]
fn withdrawals_of_both_families_are_these_octets() {
    let codec = modern(PeerKind::External);
    for (prefix, dump) in [
        ("10.1.0.0/16", "001a 02 0003 10 0a01 0000"),
        ("2001:db8::/32", "0023 02 0000 000c 90 0f 0008 0002 01 20 20010db8"),
    ] {
        let mut out = Vec::new();
        let prefix = p(prefix);
        assert_eq!(withdraw(&mut out, &codec, prefix.family(), [(0, prefix)]), 1);
        assert_eq!(out, message(dump));
        assert_eq!(take_apart(&out, &codec).0.withdrawn, [(0, prefix)]);
    }
}

#[test]
fn end_of_rib_of_both_families_is_these_octets() {
    let codec = modern(PeerKind::External);
    for (family, dump) in [
        (Family::Ipv4, "0017 02 0000 0000"),
        (Family::Ipv6, "001e 02 0000 0007 90 0f 0003 0002 01"),
    ] {
        let mut out = Vec::new();
        end_of_rib(&mut out, family);
        assert_eq!(out, message(dump));
        assert_eq!(take_apart(&out, &codec).3, Some(family));
    }
    // The short form that others send.
    let short = message("001d 02 0000 0006 80 0f 03 0002 01");
    assert_eq!(take_apart(&short, &codec).3, Some(Family::Ipv6));
}

#[test]
fn path_identifiers_precede_prefixes_only_where_agreed() {
    let v4 = FamilySet::from_iter([Family::Ipv4]);
    let codec = Codec { add_path_send: v4, add_path_receive: v4, ..modern(PeerKind::External) };
    let mut out = Vec::new();
    withdraw(&mut out, &codec, Family::Ipv4, [(7, p("10.0.0.0/8")), (8, p("10.0.0.0/8"))]);
    assert_eq!(out[19..33], hex("000c 00000007 08 0a 00000008 08 0a"));
    let seen = take_apart(&out, &codec).0.withdrawn;
    assert_eq!(seen, [(7, p("10.0.0.0/8")), (8, p("10.0.0.0/8"))]);
    out.clear();
    withdraw(&mut out, &codec, Family::Ipv6, [(7, p("2001:db8::/32"))]);
    assert_eq!(take_apart(&out, &codec).0.withdrawn, [(0, p("2001:db8::/32"))]);
}

#[test]
fn host_bits_of_received_prefixes_are_ignored() {
    let bytes = update("12 0affff", "", ""); // 10.255.255/18
    let (seen, ..) = take_apart(&bytes, &modern(PeerKind::External));
    assert_eq!(seen.withdrawn, [(0, p("10.255.192.0/18"))]);
}

#[test]
fn an_old_peer_gets_as_trans_and_as4_path() {
    let block = hex("40 01 01 00
        40 02 0a 02 02 0000fde9 fa56ea00            ; 65001 4200000000
        c0 07 08 fa56ea00 0a000001                  ; aggregated by AS 4200000000
        c0 08 04 fde90001");
    let old = Codec::baseline(PeerKind::External);
    let rewrite = Rewrite {
        prepend: vec![65000],
        asn_width: AsnWidth::Two,
        ..Rewrite::towards(PeerKind::External)
    };
    let mut out = Vec::new();
    rewrite.apply(&block, &mut out).unwrap();
    let expected = hex("40 01 01 00
        40 02 08 02 03 fde8 fde9 5ba0               ; 65000 65001 AS_TRANS
        c0 07 06 5ba0 0a000001
        c0 08 04 fde90001
        c0 11 0e 02 03 0000fde8 0000fde9 fa56ea00   ; AS4_PATH
        c0 12 08 fa56ea00 0a000001                  ; AS4_AGGREGATOR");
    assert_eq!(out, expected);

    // And back: the canonical block is what a new speaker would have sent.
    let mut bytes = Vec::new();
    let next_hop = NextHop::V4("10.0.0.1".parse().unwrap());
    announce(&mut bytes, &old, &out, next_hop, Family::Ipv4, [(0, p("10.0.0.0/8"))]).unwrap();
    let (seen, ..) = take_apart(&bytes, &old);
    let wide = Rewrite { asn_width: AsnWidth::Four, ..rewrite };
    let mut expected = Vec::new();
    wide.apply(&block, &mut expected).unwrap();
    assert_eq!(seen.block, expected);
}

/// The path and the aggregator that come of `65001 AS_TRANS`, the AS4_PATH `70000` and these.
fn from_old(aggregators: &str, severity: Option<Severity>) -> (String, Option<u32>) {
    let attributes = format!(
        "40 01 01 00
        40 02 06 02 02 fde9 5ba0
        40 03 04 0a000001
        c0 11 06 02 01 00011170
        {aggregators}"
    );
    let bytes = update("", &attributes, "00");
    let codec = Codec::baseline(PeerKind::External);
    let Ok(Message::Update(update)) = parse(&bytes, &codec) else { panic!("not an UPDATE") };
    let mut scratch = Scratch::default();
    let fault = check(&update, &codec, &mut scratch).fault;
    assert_eq!(fault.map(|fault| fault.severity), severity, "{aggregators}");
    let attributes = Attributes::new(scratch.block());
    (attributes.as_path().to_string(), attributes.aggregator().map(|who| who.asn))
}

/// RFC 6793 §4.2.3: who changed AGGREGATOR without knowing AS4_AGGREGATOR made both stale. That takes
/// both: a route that was aggregated by an AS of two octets has no AS4_AGGREGATOR.
#[test]
fn an_aggregator_other_than_as_trans_makes_as4_path_stale_beside_as4_aggregator() {
    const OLD: &str = "c0 07 06 fde9 0a000001";
    const TRANS: &str = "c0 07 06 5ba0 0a000001";
    const LONG: &str = "c0 12 08 00011170 0a000001";
    const DISCARDED: Option<Severity> = Some(Severity::AttributeDiscard);
    for (aggregators, severity, path, who) in [
        (format!("{TRANS} {LONG}"), None, "65001 70000", Some(70000)),
        (format!("{OLD} {LONG}"), None, "65001 23456", Some(65001)),
        (format!("{LONG} {OLD}"), None, "65001 23456", Some(65001)),
        (OLD.into(), None, "65001 70000", Some(65001)),
        (TRANS.into(), None, "65001 70000", Some(23456)),
        (LONG.into(), None, "65001 70000", None),
        // What is discarded (RFC 7607 §2, RFC 6793 §6) says nothing about the others.
        (format!("c0 07 06 0000 0a000001 {LONG}"), DISCARDED, "65001 70000", None),
        (format!("{OLD} c0 12 07 00011170 0a0000"), DISCARDED, "65001 70000", Some(65001)),
    ] {
        assert_eq!(from_old(&aggregators, severity), (path.into(), who), "{aggregators}");
    }
}

/// The nearest AS is the one that the peer means, not what stands for it in two octets: MED is compared
/// by it.
#[test]
fn the_first_as_of_an_old_peer_is_the_long_one() {
    let bytes = update(
        "",
        "40 01 01 00
        40 02 06 02 02 5ba0 fde9
        40 03 04 0a000001
        c0 11 0a 02 02 00011170 0000fde9",
        "00",
    );
    let (seen, _, summary, _) = take_apart(&bytes, &Codec::baseline(PeerKind::External));
    assert_eq!(Attributes::new(&seen.block).as_path().to_string(), "70000 65001");
    assert_eq!(summary.first_as, 70000);
}

#[test]
fn a_rewrite_edits_each_attribute_at_its_place() {
    let block = hex("40 01 01 02
        40 02 06 02 01 0000fde9
        80 04 04 00000064
        40 05 04 000000c8
        c0 08 08 fde90001 ffff0000
        80 09 04 0a000009
        c0 10 10 0002fde900000001 4300000000000001  ; the second one is not transitive
        c0 19 28 0002 20010db8000000000000000000000001 0007
                 4002 20010db8000000000000000000000001 0007 ; nor is this one
        e0 63 01 2a                                 ; unknown, transitive, partial");
    let edits = Rewrite {
        prepend: vec![65000, 65000],
        replace_as: Some((65001, 65000)),
        med: Edit::Remove,
        local_pref: Edit::Set(50),
        communities: ListEdit { remove: vec![0xffff_0000], add: vec![0xfde9_0002, 0xfde9_0001] },
        large_communities: ListEdit { remove: vec![], add: vec!["1:2:3".parse().unwrap()] },
        ..Rewrite::towards(PeerKind::External)
    };
    let mut out = Vec::new();
    edits.apply(&block, &mut out).unwrap();
    let expected = "
        40 01 01 02
        40 02 0e 02 03 0000fde8 0000fde8 0000fde8
        c0 08 08 fde90001 fde90002
        c0 10 08 0002fde900000001
        c0 19 14 0002 20010db8000000000000000000000001 0007
        c0 20 0c 00000001 00000002 00000003
        e0 63 01 2a";
    assert_eq!(out, hex(expected));

    let reflect = Rewrite {
        local_pref: Edit::Set(50),
        origin: Edit::Set(Origin::Igp),
        reflection: Some(Reflection {
            originator_id: "10.0.0.7".parse().unwrap(),
            cluster_id: "10.0.0.8".parse().unwrap(),
        }),
        ..Rewrite::towards(PeerKind::Internal)
    };
    out.clear();
    reflect.apply(&block, &mut out).unwrap();
    let attributes = Attributes::new(&out);
    assert_eq!(attributes.local_pref(), Some(50));
    assert_eq!(attributes.med(), Some(100));
    assert_eq!(attributes.origin(), Origin::Igp);
    let first = "10.0.0.9".parse().unwrap();
    assert_eq!(attributes.originator_id(), Some(first), "who originated it stays");
    let clusters: Vec<_> = attributes.cluster_list().collect();
    assert_eq!(clusters, ["10.0.0.8".parse::<std::net::Ipv4Addr>().unwrap()]);
    assert_eq!(attributes.extended_communities().count(), 2);
    assert_eq!(attributes.ipv6_extended_communities().count(), 2);
}

/// RFC 8654 §4: what does not fit cannot be told; nothing of it is written.
#[test]
fn edits_that_make_an_attribute_too_long_are_refused() {
    let numbers = |count| (1..=count).collect::<Vec<u32>>();
    let with = |rewrite: Rewrite| {
        let mut out = vec![1, 2, 3];
        rewrite.apply(&originated(Origin::Igp), &mut out).inspect_err(|_| assert_eq!(out.len(), 3))
    };
    let external = || Rewrite::towards(PeerKind::External);
    let path = |count| with(Rewrite { prepend: numbers(count), ..external() });
    let communities = |count| {
        let communities = ListEdit { remove: vec![], add: numbers(count) };
        with(Rewrite { communities, ..external() })
    };
    assert_eq!((path(16_351), communities(16_383)), (Ok(()), Ok(())));
    let long = AttributeOverflow { code: 2, len: 4 * 16_352 + 2 * 65 };
    assert_eq!(path(16_352), Err(long));
    assert_eq!(
        long.to_string(),
        "AS_PATH would take 65538 octets, more than an attribute can have"
    );
    assert_eq!(communities(16_384), Err(AttributeOverflow { code: 8, len: 65_536 }));
    // To an old peer the path itself would fit, but not AS4_PATH beside it.
    let prepend = numbers(16_351).into_iter().chain([70_000]).collect();
    let old = Rewrite { asn_width: AsnWidth::Two, prepend, ..external() };
    assert_eq!(with(old), Err(AttributeOverflow { code: 17, ..long }));
}

#[test]
fn removing_the_last_community_removes_the_attribute() {
    let mut block = originated(Origin::Igp);
    let bare = block.clone();
    block.extend(hex("c0 08 04 fde90001"));
    let edits = Rewrite {
        communities: ListEdit { remove: vec![0xfde9_0001], add: vec![] },
        ..Rewrite::towards(PeerKind::Internal)
    };
    let mut out = Vec::new();
    edits.apply(&block, &mut out).unwrap();
    assert_eq!(out, bare);
}

#[test]
fn a_message_is_filled_to_the_octet_and_no_further() {
    let codec = modern(PeerKind::External);
    let block = originated(Origin::Igp); // 7 octets
    let next_hop = NextHop::V4("10.0.0.1".parse().unwrap());
    let all = |n: u32| {
        (0..n).map(|i| (0, Prefix::new((0x0a00_0000 + i).to_be_bytes().into(), 32).unwrap()))
    };
    // 4096 - 19 - 4 - 7 - 7 = 4059 octets for prefixes of 5 octets each: 811, and 4 to spare.
    let mut out = Vec::new();
    assert_eq!(announce(&mut out, &codec, &block, next_hop, Family::Ipv4, all(2000)), Ok(811));
    assert_eq!(out.len(), 4092);
    let large = Codec { message_size: MessageSize::Extended, ..codec };
    out.clear();
    assert_eq!(announce(&mut out, &large, &block, next_hop, Family::Ipv4, all(20000)), Ok(13099));
    assert_eq!(out.len(), 19 + 4 + 14 + 13099 * 5);
    assert!(out.len() <= 65535);
    out.clear();
    assert_eq!(withdraw(&mut out, &codec, Family::Ipv4, all(2000)), (4096 - 23) / 5);
    let v6 = (0..2000u32).map(|i| {
        (0, Prefix::new(std::net::Ipv6Addr::from_bits(u128::from(i)).into(), 128).unwrap())
    });
    out.clear();
    let next_hop = NextHop::V6("2001:db8::1".parse().unwrap());
    let count = announce(&mut out, &codec, &block, next_hop, Family::Ipv6, v6.clone()).unwrap();
    assert_eq!((count, out.len()), (237, 23 + 7 + 4 + 3 + 1 + 16 + 1 + 237 * 17));
    assert!(4096 - out.len() < 17);
    out.clear();
    assert_eq!(withdraw(&mut out, &codec, Family::Ipv6, v6), (4096 - 23 - 7) / 17);
    assert!(4096 - out.len() < 17);
}

#[test]
fn attributes_that_leave_no_room_are_refused_and_nothing_is_written() {
    let codec = modern(PeerKind::External);
    let mut block = originated(Origin::Igp);
    attribute::emit(&mut block, 0xe0, 99, &vec![0; 4054]);
    let mut out = vec![1, 2, 3];
    let next_hop = NextHop::V4("10.0.0.1".parse().unwrap());
    let prefixes = [(0, p("10.0.0.0/8"))];
    let error = announce(&mut out, &codec, &block, next_hop, Family::Ipv4, prefixes).unwrap_err();
    assert_eq!(error.prefixes, 1);
    assert_eq!(
        error.to_string(),
        "4065 octets of path attributes leave no room for a prefix in an UPDATE of 4096"
    );
    assert_eq!(out, [1, 2, 3]);
    assert_eq!(announce(&mut out, &codec, &block, next_hop, Family::Ipv4, []), Ok(0));
    assert_eq!(withdraw(&mut out, &codec, Family::Ipv4, []), 0);
    assert_eq!(out, [1, 2, 3]);
}

/// Only those that stand in the way are named: the next may be shorter. What is named is enough for a
/// whole message of withdrawals.
#[test]
fn prefixes_that_fit_beside_long_attributes_are_told_when_others_do_not() {
    let codec = modern(PeerKind::External);
    let next_hop = NextHop::V4("10.0.0.1".parse().unwrap());
    let mut block = originated(Origin::Igp);
    // 4096 - 19 - 4 - 7 - 7 - 4 = 4055, of which two octets are left.
    attribute::emit(&mut block, 0xe0, 99, &vec![0; 4053]);
    let [long, short] = [p("10.1.0.0/16"), p("10.0.0.0/8")].map(|prefix| (0, prefix));
    let told = |prefixes: &[(u32, Prefix)]| {
        let prefixes = prefixes.iter().copied();
        announce(&mut vec![], &codec, &block, next_hop, Family::Ipv4, prefixes)
            .map_err(|error| error.prefixes)
    };
    assert_eq!(told(&[short, long]), Ok(1));
    assert_eq!(told(&[long, long, short, long]), Err(2));
    assert_eq!(told(&[long, long]), Err(2));
    assert_eq!(told(&vec![long; 10_000]), Err(4096));
}

#[test]
fn inner_lengths_that_do_not_fit_end_the_session() {
    let codec = modern(PeerKind::External);
    for dump in ["0017 02 0001 0000", "0017 02 0000 0001", "0017 02 ffff ffff"] {
        let error = parse(&message(dump), &codec).unwrap_err();
        assert_eq!(error, UpdateError::Lengths.into());
        let sent = error.notification();
        assert_eq!((sent.code, sent.subcode, sent.data), (3, 1, vec![]));
    }
}

#[test]
fn classic_prefixes_that_cannot_be_read_end_the_session() {
    let codec = modern(PeerKind::External);
    for (dump, expected) in [
        ("001d 02 0000 0000 21 0a000000 00", "prefix length 33 is beyond 32 of ipv4-unicast"),
        (
            "001a 02 0000 0000 18 0a01",
            "ipv4-unicast prefixes end in the middle of a prefix, 1 octets short",
        ),
        ("0018 02 0001 21 0000", "prefix length 33 is beyond 32 of ipv4-unicast"),
    ] {
        let error = parse(&message(dump), &codec).unwrap_err();
        assert_eq!(error.to_string(), expected);
        let sent = error.notification();
        assert_eq!((sent.code, sent.subcode), (3, 10));
    }
}
