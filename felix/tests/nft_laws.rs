//! The laws of tables and transactions, on random tables.

use ocicat_felix::nft::{statement::*, *};
use proptest::prelude::*;

mod tables;

proptest! {
    #[test]
    fn applying_the_difference_reaches_the_goal(
        goal in tables::any_table(),
        mut now in tables::any_table(),
    ) {
        let change = diff(&goal, &now);
        prop_assert_eq!(change.apply_to(&mut now), Ok(()), "{}", change);
        prop_assert_eq!(&now, &goal);
        prop_assert!(diff(&goal, &now).is_empty());
    }

    #[test]
    fn a_rebuild_reaches_the_goal_from_anywhere(
        goal in tables::any_table(),
        mut now in tables::any_table(),
    ) {
        Transaction::rebuild(&goal).apply_to(&mut now).unwrap();
        prop_assert_eq!(&now, &goal);
    }
}

/// What a kernel would send back of a batch: the bodies of its messages, which have the same form.
fn push_all(bytes: &[u8]) -> Table {
    let mut dump = Dump::new("ocicat");
    let mut rest = bytes;
    while let Some((header, _)) = rest.split_first_chunk::<16>() {
        let len = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let Some(message) = rest.get(..len).filter(|_| len >= 16) else { break };
        // What is incomplete is refused; it must not panic.
        let _ = dump.push(header[4], &message[16..]);
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    dump.finish()
}

proptest! {
    #[test]
    fn what_is_encoded_decodes_to_the_same_table(table in tables::any_table()) {
        let batch = encode(&diff(&table, &Table::new("ocicat")), None, 1);
        let decoded = push_all(&batch.bytes);
        prop_assert_eq!(decoded.to_string(), table.to_string());
        prop_assert_eq!(decoded, table);
    }

    #[test]
    fn damaged_messages_are_refused_or_read_as_something_else(
        table in tables::any_table(),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..40),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = encode(&diff(&table, &Table::new("ocicat")), None, 1).bytes;
        for (at, byte) in damage {
            // The headers stay, so that the damage reaches the attributes.
            let at = at.index(bytes.len());
            if at % 4 != 0 {
                bytes[at] ^= byte;
            }
        }
        bytes.truncate(cut.index(bytes.len()) + 1);
        let read = push_all(&bytes);
        let _ = read.to_string();
        let _ = encode(&diff(&read, &table), Some(1), 1);
    }

    #[test]
    fn any_bytes_at_all_are_no_panic(kind in 0..20u8, bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let mut dump = Dump::new("ocicat");
        let _ = dump.push(kind, &bytes);
        let _ = dump.finish().to_string();
    }
}

#[test]
fn a_long_list_of_elements_is_split_and_every_message_knows_its_change() {
    let of = SetType { key: tables::PEERS6, kind: SetKind::Members, matching: Matching::Exact };
    let peers =
        (0..5_000u32).map(|n| Element::member(Key::from(std::net::Ipv6Addr::from(u128::from(n)))));
    let mut change = Transaction::new("ocicat");
    change.add_elements("peers", of, peers);
    change.delete_elements("peers", of, [Key::from(std::net::Ipv6Addr::LOCALHOST)]);
    let batch = encode(&change, Some(7), 100);
    assert!(batch.ops.len() > 3);
    assert_eq!(batch.op_of(100), None, "the batch itself");
    assert_eq!(batch.op_of(101), Some(0));
    assert_eq!(batch.op_of(batch.acknowledged()), Some(1));
    assert_eq!(batch.op_of(batch.acknowledged() + 1), None, "the end of the batch");
    assert!(change.ops[0].summary("ocicat").ends_with('…'));
}

#[test]
fn an_unchanged_chain_is_not_rewritten() {
    let chain = |port| Chain::regular([Rule::new([dport(port), counter(), accept()])]);
    let mut now = Table::new("ocicat");
    now.chains.extend([("a".into(), chain(80)), ("b".into(), chain(53))]);
    let mut goal = now.clone();
    goal.chains.insert("b".into(), chain(54));
    assert_eq!(
        diff(&goal, &now).to_string(),
        "flush chain inet ocicat b\nadd rule inet ocicat b th dport 54 counter accept\n"
    );
}

#[test]
fn a_chain_in_use_is_not_deleted() {
    let mut table = Table::new("ocicat");
    table.chains.insert("to".into(), Chain::default());
    table.chains.insert("from".into(), Chain::regular([Rule::new([jump("to")])]));
    let delete = Transaction { table: "ocicat".into(), ops: vec![Op::DeleteChain("to".into())] };
    let refused = delete.apply_to(&mut table).unwrap_err();
    assert_eq!(refused.to_string(), "change 0 of the transaction: to is still in use");
}

#[test]
fn a_map_that_becomes_a_set_is_made_again_and_its_users_are_rewritten() {
    let of = |kind| SetType { key: tables::PEERS4, kind, matching: Matching::Exact };
    let mut now = Table::new("ocicat");
    now.chains.insert("to".into(), Chain::default());
    let peer = Key::from(std::net::Ipv4Addr::new(10, 0, 0, 1));
    let element = Element::verdict(peer.clone(), Verdict::goto("to"));
    now.sets.insert("peers".into(), Set::new(of(SetKind::Verdicts)).with([element]));
    now.chains
        .insert("from".into(), Chain::regular([Rule::new([vmap([Field::IpSaddr], "peers")])]));
    let mut goal = now.clone();
    goal.sets.insert("peers".into(), Set::new(of(SetKind::Members)).with([Element::member(peer)]));
    goal.chains.insert(
        "from".into(),
        Chain::regular([Rule::new([in_set([Field::IpSaddr], "peers"), jump("to")])]),
    );
    assert_eq!(
        diff(&goal, &now).to_string(),
        "\
flush chain inet ocicat from
flush map inet ocicat peers
delete map inet ocicat peers
add set inet ocicat peers { type ipv4_addr; }
add rule inet ocicat from ip saddr @peers jump to
add element inet ocicat peers { 10.0.0.1 }
"
    );
}

#[test]
fn elements_print_as_nft_reads_them() {
    use Matching::{Exact, Ranges};
    let check = |key: KeyType, matching, parts: &[Part<'_>], expected: &str| {
        let made = match matching {
            Exact => Key::exact(parts),
            Ranges => Key::range(parts),
        };
        assert_eq!(made.text(SetType { key, kind: SetKind::Members, matching }), expected);
    };
    let ip = |text: &str| text.parse().unwrap();
    check(tables::PEERS4, Exact, &[Part::Ip(ip("10.0.0.7"))], "10.0.0.7");
    check(tables::PEERS6, Exact, &[Part::Ip(ip("fd00::7"))], "fd00::7");
    check(tables::PEERS4, Ranges, &[Part::Net("10.0.0.0/8".parse().unwrap())], "10.0.0.0/8");
    check(tables::PEERS4, Ranges, &[Part::Net("0.0.0.0/0".parse().unwrap())], "0.0.0.0/0");
    check(tables::PEERS6, Ranges, &[Part::Net("::/0".parse().unwrap())], "::/0");
    check(tables::PEERS4, Ranges, &[Part::Ip(ip("10.0.0.7"))], "10.0.0.7");
    let odd = Part::IpRange(ip("10.0.0.1"), ip("10.0.0.2"));
    check(tables::PEERS4, Ranges, &[odd], "10.0.0.1-10.0.0.2");
    check(tables::FROM_POD, Exact, &[Part::Ifname("oci0")], "\"oci0\"");
    check(tables::PORTS, Exact, &[Part::Proto(6), Part::Port(80)], "tcp . 80");
    check(tables::PORTS, Ranges, &[Part::Proto(17), Part::Ports(1, 99)], "udp . 1-99");
}
