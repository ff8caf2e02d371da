//! Random values survive the wire; random bytes do no harm.

use proptest::collection::vec;
use proptest::prelude::*;

use super::attribute::flags;
use super::*;

fn codecs() -> impl Strategy<Value = Codec> {
    let kinds = vec![PeerKind::Internal, PeerKind::Confederation, PeerKind::External];
    let peer = prop::sample::select(kinds);
    let width = prop_oneof![Just(AsnWidth::Two), Just(AsnWidth::Four)];
    let size = prop_oneof![Just(MessageSize::Standard), Just(MessageSize::Extended)];
    (peer, width, size, families(), families(), families()).prop_map(
        |(peer, asn_width, message_size, families, paths, next_hop)| Codec {
            asn_width,
            families,
            add_path_receive: paths,
            add_path_send: paths,
            extended_next_hop: next_hop,
            message_size,
            ..Codec::baseline(peer)
        },
    )
}

fn families() -> impl Strategy<Value = FamilySet> {
    prop::sample::subsequence(Family::ALL.to_vec(), 0..=2).prop_map(FamilySet::from_iter)
}

fn prefixes(family: Family) -> impl Strategy<Value = Prefix> {
    (any::<u128>(), 0..=family.max_len())
        .prop_map(move |(bits, len)| Prefix::from_bits(family, bits, len))
}

/// A list of attributes most of which are nearly right.
fn attribute_lists() -> impl Strategy<Value = Vec<u8>> {
    let lengths =
        prop_oneof![Just(0usize), Just(1), Just(4), Just(6), Just(8), Just(12), 0..40usize];
    let one = (0u8..40, any::<u8>(), lengths, any::<u64>()).prop_map(|(code, flags, len, seed)| {
        let class = attribute::class(code).filter(|_| flags < 240).unwrap_or(flags);
        let bytes = seed.to_be_bytes();
        let mut value: Vec<u8> = (0..len).map(|i| bytes[i % 8] % 7).collect();
        if matches!(code, 2 | 17) && value.len() > 2 {
            value[0] = 2;
            let width = if code == 2 && seed & 1 == 0 { AsnWidth::Two } else { AsnWidth::Four };
            value[1] = u8::try_from((value.len() - 2) / width.octets()).unwrap();
        }
        (class, code, value)
    });
    (vec(one, 0..8), any::<bool>()).prop_map(|(list, good)| {
        let mut out = if good { originated(Origin::Egp) } else { Vec::new() };
        list.iter()
            .for_each(|(flags, code, value)| attribute::emit(&mut out, *flags, *code, value));
        out
    })
}

/// Scripts for [`stretched`]: mostly an attribute as it should be, and mostly a very long one.
pub(crate) fn long_attributes() -> impl Strategy<Value = Vec<u8>> {
    let codes = prop::sample::select(vec![1, 2, 7, 8, 10, 16, 17, 25, 32, 99]);
    let share = prop_oneof![2 => 250u8.., 2 => 120u8..136, 1 => any::<u8>()];
    let unit = (1u8..=8).prop_flat_map(|n| vec(1u8..9, usize::from(n) * 4));
    (codes, share, unit, any::<bool>()).prop_map(|(code, share, mut unit, old)| {
        let class = attribute::class(code).unwrap_or(flags::CLASS);
        if code == 2 || code == 17 {
            let width = if old && code == 2 { AsnWidth::Two } else { AsnWidth::Four };
            unit.splice(0..0, [2, u8::try_from(unit.len() / width.octets()).unwrap()]);
        }
        [&[class, code, share][..], &unit].concat()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// An AS_PATH of an old speaker takes twice the octets in a canonical block, and import and export
    /// add to what is there: what has no room any more is refused.
    #[test]
    fn long_attributes_do_no_harm(script in long_attributes(), codec in codecs()) {
        let attributes = stretched(&script);
        let update = Update { withdrawn: Nlri::empty(Family::Ipv4), attributes: &attributes, announced: Nlri::empty(Family::Ipv4) };
        canonical_form_is_stable(&update, &codec);
    }
}

proptest! {
    #[test]
    fn random_messages_do_no_harm(kind in 0u8..7, body in vec(any::<u8>(), 0..300), codec in codecs()) {
        let mut bytes = vec![0xFF; 16];
        bytes.extend_from_slice(&u16::try_from(19 + body.len()).unwrap().to_be_bytes());
        bytes.push(kind);
        bytes.extend_from_slice(&body);
        reencode_is_stable(&bytes, &codec);
    }

    #[test]
    fn random_bytes_do_no_harm(bytes in vec(any::<u8>(), 0..600), codec in codecs()) {
        reencode_is_stable(&bytes, &codec);
        as_path::reencode_is_stable(&bytes, &codec);
        for family in Family::ALL {
            nlri::reencode_is_stable(&bytes, family, codec.received_path_ids(family));
        }
        let update = Update { withdrawn: Nlri::empty(Family::Ipv4), attributes: &bytes, announced: Nlri::empty(Family::Ipv4) };
        canonical_form_is_stable(&update, &codec);
    }

    #[test]
    fn nearly_right_attributes_do_no_harm(list in attribute_lists(), codec in codecs()) {
        let update = Update { withdrawn: Nlri::empty(Family::Ipv4), attributes: &list, announced: Nlri::empty(Family::Ipv4) };
        canonical_form_is_stable(&update, &codec);
    }

    #[test]
    fn prefixes_survive_announcing_and_withdrawing(
        list in vec((any::<u32>(), prefixes(Family::Ipv6)), 1..400),
        codec in codecs(),
        path in vec(1u32.., 0..6),
    ) {
        let codec = Codec { families: FamilySet::ALL, ..codec };
        let expected: Vec<_> = match codec.sent_path_ids(Family::Ipv6) {
            PathIds::Present => list.clone(),
            PathIds::Absent => list.iter().map(|(_, prefix)| (0, *prefix)).collect(),
        };
        let mut rewrite = Rewrite { prepend: path.clone(), asn_width: codec.asn_width, ..Rewrite::towards(codec.peer) };
        if codec.peer == PeerKind::Confederation {
            rewrite.confederation = ConfedEdit::Prepend(65001);
        }
        let mut attributes = Vec::new();
        rewrite.apply(&originated(Origin::Igp), &mut attributes).unwrap();
        let next_hop = NextHop::V6("2001:db8::1".parse().unwrap());
        let (mut announced, mut withdrawn) = (Vec::new(), Vec::new());
        while announced.len() < list.len() {
            let mut out = Vec::new();
            let rest = list[announced.len()..].iter().copied();
            let count = announce(&mut out, &codec, &attributes, next_hop, Family::Ipv6, rest).unwrap();
            prop_assert!(out.len() <= codec.message_size.octets());
            let Ok(Message::Update(update)) = parse(&out, &codec) else { panic!("not an UPDATE") };
            let mut scratch = Scratch::default();
            let checked = check(&update, &codec, &mut scratch);
            prop_assert_eq!(checked.fault, None);
            prop_assert!(Attributes::new(scratch.block()).as_path().asns().eq(path.iter().copied()));
            let reach = checked.reach.unwrap();
            prop_assert_eq!(reach.next_hop, next_hop);
            prop_assert_eq!(reach.nlri.into_iter().count(), count);
            announced.extend(reach.nlri);
        }
        prop_assert_eq!(&announced, &expected);
        while withdrawn.len() < list.len() {
            let mut out = Vec::new();
            withdraw(&mut out, &codec, Family::Ipv6, list[withdrawn.len()..].iter().copied());
            let Ok(Message::Update(update)) = parse(&out, &codec) else { panic!("not an UPDATE") };
            let checked = check(&update, &codec, &mut Scratch::default());
            withdrawn.extend(checked.unreach.unwrap());
        }
        prop_assert_eq!(&withdrawn, &expected);
    }

    #[test]
    fn a_prefix_and_an_ip_net_are_the_same(prefix in prop_oneof![prefixes(Family::Ipv4), prefixes(Family::Ipv6)]) {
        let net = ipnet::IpNet::from(prefix);
        prop_assert_eq!(net.trunc(), net);
        prop_assert_eq!(Prefix::from(net), prefix);
        prop_assert_eq!(prefix.to_string().parse::<Prefix>().unwrap(), prefix);
    }
}
