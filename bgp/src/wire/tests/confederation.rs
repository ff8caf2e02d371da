//! Confederation segments (RFC 5065), and what else passes between members.

use super::*;

const BLOCK: &str = "40 01 01 00
    40 02 10 03 01 0000fdea 02 02 0000fbf4 0000fde9 ; (65002) 64500 65001
    80 04 04 00000007
    40 05 04 000000c8
    80 09 04 0a000009                               ; ORIGINATOR_ID
    80 0a 04 01010101                               ; CLUSTER_LIST
    c0 10 08 4300000000000001                       ; not transitive";

fn rewritten(rewrite: &Rewrite) -> Vec<u8> {
    let mut out = Vec::new();
    rewrite.apply(&hex(BLOCK), &mut out).unwrap();
    out
}

/// RFC 5065 §4.1: our number in front; LOCAL_PREF, MED and what RFC 4360 §6 says go on.
#[test]
fn what_goes_to_another_member_is_these_octets() {
    let mut rewrite = Rewrite::towards(PeerKind::Confederation);
    rewrite.confederation = ConfedEdit::Prepend(65001);
    let expected = "40 01 01 00
        40 02 14 03 02 0000fde9 0000fdea 02 02 0000fbf4 0000fde9
        80 04 04 00000007
        40 05 04 000000c8
        c0 10 08 4300000000000001";
    assert_eq!(rewritten(&rewrite), hex(expected));
}

/// §4.1 (c): nothing of the confederation leaves.
#[test]
fn what_goes_outside_is_these_octets() {
    let mut rewrite = Rewrite::towards(PeerKind::External);
    rewrite.prepend = vec![65000];
    let expected = "40 01 01 00
        40 02 0e 02 03 0000fde8 0000fbf4 0000fde9
        80 04 04 00000007";
    assert_eq!(rewritten(&rewrite), hex(expected));
}

#[test]
fn edits_of_a_path_pass_over_the_members() {
    let mut rewrite = Rewrite::towards(PeerKind::Internal);
    rewrite.prepend = vec![64700];
    rewrite.replace_as = Some((65002, 1));
    rewrite.private = PrivateEdit::Replace { with: 7, but: 0 };
    let out = rewritten(&rewrite);
    let path = Attributes::new(&out).as_path();
    assert_eq!(path.to_string(), "(65002) 64700 64500 7");
}

/// RFC 6793 §3: no confederation segment stands in AS4_PATH.
#[test]
fn an_old_member_gets_the_members_in_as_path_alone() {
    let block = hex("40 01 01 00 40 02 0c 03 01 0000fdea 02 01 fa56ea00");
    let mut rewrite = Rewrite::towards(PeerKind::Confederation);
    rewrite.confederation = ConfedEdit::Prepend(65001);
    rewrite.asn_width = AsnWidth::Two;
    let mut out = Vec::new();
    rewrite.apply(&block, &mut out).unwrap();
    let expected = "40 01 01 00
        40 02 0a 03 02 fde9 fdea 02 01 5ba0
        c0 11 06 02 01 fa56ea00";
    assert_eq!(out, hex(expected));

    let (old, next_hop) =
        (Codec::baseline(PeerKind::Confederation), NextHop::V4([10, 0, 0, 1].into()));
    let mut bytes = Vec::new();
    announce(&mut bytes, &old, &out, next_hop, Family::Ipv4, [(0, p("10.0.0.0/8"))]).unwrap();
    let Ok(Message::Update(update)) = parse(&bytes, &old) else { panic!("not an UPDATE") };
    let mut scratch = Scratch::default();
    assert_eq!(check(&update, &old, &mut scratch).fault, None);
    let path = Attributes::new(scratch.block()).as_path().to_string();
    assert_eq!(path, "(65001 65002) 4200000000");
}
