//! Our netlink form against the kernel, and against nft.

use ocicat_felix::{
    dataplane::{CommitError, kernel::Nft},
    nft::{statement::*, *},
};
use proptest::{prelude::*, test_runner::TestRunner};
use std::net::Ipv4Addr;

#[path = "tables/netns.rs"]
mod netns;
mod tables;

use netns::{in_fresh_namespace, output};

/// A table with every statement and every kind of set.
fn showcase() -> Table {
    let mut table = Table::new("ocicat");
    let of = |key, kind, matching| SetType { key, kind, matching };
    let ip = |text: &str| text.parse().expect("an address");
    use {Matching::*, SetKind::*};
    let mut set = |name: &str, of, elements: Vec<Element>| {
        table.sets.insert(name.into(), Set::new(of).with(elements));
    };
    let pod = Key::exact(&[Part::Ifname("oci0123456789a"), Part::Ip(ip("10.0.0.7"))]);
    set("sources", of(tables::SOURCES, Members, Exact), vec![Element::member(pod)]);
    let pod = Key::exact(&[Part::Ifname("oci0123456789a")]);
    let goto = Verdict::goto("group-a");
    set("from-pods", of(tables::FROM_POD, Verdicts, Exact), vec![Element::verdict(pod, goto)]);
    let http = Key::exact(&[Part::Proto(6), Part::Port(80)]);
    let class = Verdict::goto("class-a");
    set("ports-a", of(tables::PORTS, Verdicts, Exact), vec![Element::verdict(http, class.clone())]);
    let wide = [
        Element::verdict(Key::range(&[Part::Proto(17), Part::Ports(1000, 2000)]), class),
        Element::verdict(Key::range(&[Part::Proto(17), Part::Port(53)]), Verdict::Return),
    ];
    set("wide-a", of(tables::PORTS, Verdicts, Ranges), wide.into());
    let peer = Element::verdict(Key::from(ip("10.0.1.1")), Verdict::Return);
    set("peers4-a", of(tables::PEERS4, Verdicts, Exact), vec![peer]);
    let blocks = ["10.0.0.0/16", "10.1.0.0/16", "255.0.0.0/8"].map(|net| {
        Element::verdict(Key::range(&[Part::Net(net.parse().expect("a block"))]), Verdict::Drop)
    });
    set("blocks4-a", of(tables::PEERS4, Verdicts, Ranges), blocks.into());
    let six = Element::member(Key::range(&[Part::Net("fd00::/8".parse().expect("a block"))]));
    set("blocks6-a", of(tables::PEERS6, Members, Ranges), vec![six]);

    let net = |text: &str| text.parse().expect("a block");
    let base = |kind, hook, priority| Base { kind, hook, priority, policy: Policy::Accept };
    let forward = [
        Rule::new([ct_state(CtState::ESTABLISHED.or(CtState::RELATED)), accept()]),
        Rule::new([ct_state(CtState::INVALID), counter(), drop()]).comment("no connection"),
        Rule::new([iifname("oci*"), jump("from-pod")]),
        Rule::new([is_not(Test::Oifname("eth0".into())), accept()]),
        Rule::new([is(Test::CtStatus(CtStatus::DNAT)), accept()]),
        Rule::new([is(Test::FibDaddrType(AddressType::Local)), accept()]),
        Rule::new([is(Test::ReversePath), return_()]),
        Rule::new([is(Test::Daddr(net("10.0.0.0/9"))), accept()]),
        Rule::new([
            is_not(Test::Saddr(net("fd00::/8"))),
            is(Test::Daddr(net("fe80::1/128"))),
            drop(),
        ]),
        Rule::new([is(Test::Nfproto(Family::Ipv6)), counter()]),
        Rule::new([is(Test::IcmpType(8)), Statement::Log { prefix: "ping ".into() }]),
        Rule::new([icmpv6_type(135), accept()]),
        Rule::new([l4proto(132), dport(179), accept()]),
        Rule::new([l4proto(6), is_not(Test::Sport(1)), accept()]),
    ];
    let from_pod = [
        Rule::new([not_in([Field::Iifname, Field::IpSaddr], "sources"), counter(), drop()]),
        Rule::new([vmap([Field::Iifname], "from-pods")]),
        Rule::new([counter(), drop()]).comment("unknown interface"),
    ];
    let group = [
        Rule::new([vmap([Field::L4proto, Field::ThDport], "ports-a")]),
        Rule::new([vmap([Field::L4proto, Field::ThDport], "wide-a")]),
        Rule::new([counter(), drop()]),
    ];
    let class = [
        Rule::new([vmap([Field::IpSaddr], "peers4-a")]),
        Rule::new([vmap([Field::IpSaddr], "blocks4-a")]),
        Rule::new([in_set([Field::Ip6Saddr], "blocks6-a"), return_()]),
        Rule::new([counter(), drop()]),
    ];
    let nat = [Rule::new([is(Test::Saddr(net("10.0.0.0/24"))), masquerade()])];
    let raw = [Rule::new([l4proto(17), dport(4789), notrack()])];
    use ChainType::{Filter, Nat};
    for (name, chain) in [
        ("on-forward", Chain::base(base(Filter, Hook::Forward, 0), forward)),
        ("on-postrouting", Chain::base(base(Nat, Hook::Postrouting, 110), nat)),
        ("on-prerouting", Chain::base(base(Filter, Hook::Prerouting, -300), raw)),
        ("from-pod", Chain::regular(from_pod)),
        ("group-a", Chain::regular(group)),
        ("class-a", Chain::regular(class)),
    ] {
        table.chains.insert(name.into(), chain);
    }
    table
}

fn create(table: &Table) -> Transaction {
    diff(table, &Table::new(table.name.clone()))
}

#[test]
fn what_is_written_to_the_kernel_is_read_back() {
    in_fresh_namespace(&[], || {
        let table = showcase();
        let mut nft = Nft::open("ocicat").unwrap();
        assert!(nft.read().unwrap().is_empty());
        nft.commit(&create(&table)).unwrap();
        let there = nft.read().unwrap();
        assert_eq!(there.to_string(), table.to_string());
        assert_eq!(there, table);
        nft.commit(&Transaction::uninstall("ocicat")).unwrap();
        assert!(nft.read().unwrap().is_empty());
    });
}

#[test]
fn nft_loads_our_text_into_the_same_table() {
    in_fresh_namespace(&["nft"], || {
        let table = showcase();
        let text = create(&table).to_string();
        output("nft", &["-f", "-"], &text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        let there = Nft::open("ocicat").unwrap().read().unwrap();
        assert_eq!(there.to_string(), table.to_string());
        assert_eq!(there, table);
    });
}

#[test]
fn random_changes_reach_the_goal_in_the_kernel() {
    in_fresh_namespace(&[], || {
        let mut nft = Nft::open("ocicat").unwrap();
        let mut runner =
            TestRunner::new(ProptestConfig { cases: 300, ..ProptestConfig::default() });
        let mut mirror = nft.read().unwrap();
        let tables = proptest::collection::vec(tables::any_table(), 1..3);
        let mirror = std::cell::RefCell::new((&mut nft, &mut mirror));
        runner
            .run(&tables, |goals| {
                let (nft, mirror) = &mut *mirror.borrow_mut();
                for goal in goals {
                    let change = diff(&goal, mirror);
                    if let Err(error) = nft.commit(&change) {
                        prop_assert!(false, "{error}\n{change}\nfrom\n{mirror}");
                    }
                    **mirror = nft.read().unwrap();
                    prop_assert_eq!(mirror.to_string(), goal.to_string(), "{}", change);
                    prop_assert_eq!(&**mirror, &goal);
                }
                Ok(())
            })
            .unwrap();
    });
}

#[test]
fn nft_does_what_the_text_of_a_change_says() {
    in_fresh_namespace(&["nft"], || {
        let mut runner =
            TestRunner::new(ProptestConfig { cases: 100, ..ProptestConfig::default() });
        let tables = (tables::any_table(), tables::any_table());
        runner
            .run(&tables, |(from, to)| {
                for change in [create(&from), diff(&to, &from)] {
                    let loaded = output("nft", &["-f", "-"], &change.to_string());
                    prop_assert!(loaded.is_ok(), "{}\n{}", loaded.unwrap_err(), change);
                }
                let mut nft = Nft::open("ocicat").unwrap();
                let there = nft.read().unwrap();
                nft.commit(&Transaction::uninstall("ocicat")).unwrap();
                prop_assert_eq!(there.to_string(), to.to_string());
                Ok(())
            })
            .unwrap();
    });
}

/// The lines of `nft list ruleset` or of our text, without what is only layout.
fn rules(text: &str) -> Vec<String> {
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    text.lines().map(words).filter(|line| !line.is_empty()).collect()
}

#[test]
fn nft_lists_what_we_wrote_as_we_print_it() {
    in_fresh_namespace(&["nft"], || {
        let table = showcase();
        let mut nft = Nft::open("ocicat").unwrap();
        nft.commit(&create(&table)).unwrap();
        let listed = output("nft", &["list", "ruleset"], "").unwrap();
        output("nft", &["-j", "list", "ruleset"], "").unwrap();
        let ours = rules(&listed.replace("counter packets 0 bytes 0", "counter"));
        for rule in table.chains.values().flat_map(|chain| &chain.rules) {
            // nft prints the names of ports and ICMP types that it knows.
            let plain = rule
                .to_string()
                .replace("meta l4proto sctp th dport", "sctp dport")
                .replace("meta l4proto tcp th sport", "tcp sport")
                .replace("meta l4proto udp th dport", "udp dport")
                .replace("icmp type 8", "icmp type echo-request")
                .replace("icmpv6 type 135", "icmpv6 type nd-neighbor-solicit");
            assert!(ours.contains(&plain), "{plain}\n{listed}");
        }
        for line in [
            "type inet_proto . inet_service : verdict",
            "elements = { \"oci0123456789a\" . 10.0.0.7 }",
            "elements = { udp . 53 : return,",
            "elements = { 10.0.0.0/16 : drop, 10.1.0.0/16 : drop,",
            "elements = { fd00::/8 }",
        ] {
            assert!(ours.contains(&line.to_owned()), "{line}\n{listed}");
        }
    });
}

fn port_map(range: std::ops::Range<u16>) -> Vec<Element> {
    let port = |port| Key::exact(&[Part::Proto(6), Part::Port(port)]);
    range.map(|n| Element::verdict(port(n), Verdict::Drop)).collect()
}

const PORT_MAP: SetType =
    SetType { key: tables::PORTS, kind: SetKind::Verdicts, matching: Matching::Exact };

#[test]
fn a_refused_transaction_changes_nothing_and_names_each_change_that_failed() {
    in_fresh_namespace(&[], || {
        let mut nft = Nft::open("ocicat").unwrap();
        nft.commit(&create(&showcase())).unwrap();
        let mut change = Transaction::new("ocicat");
        change.add_elements("ports-a", PORT_MAP, port_map(1..3));
        change.add_elements("nowhere", PORT_MAP, port_map(1..2));
        change.ops.push(Op::DeleteChain("class-a".into()));
        let error = nft.commit(&change).unwrap_err();
        let CommitError::Rejected(rejections) = error else { panic!("{error}") };
        let failed: Vec<String> = rejections.iter().map(ToString::to_string).collect();
        assert_eq!(
            failed,
            [
                "add element inet ocicat nowhere { tcp . 1 : drop }: \
                 No such file or directory (os error 2)",
                "delete chain inet ocicat class-a: Device or resource busy (os error 16)",
            ]
        );
        assert_eq!(nft.read().unwrap(), showcase());
    });
}

#[test]
fn commits_of_others_to_other_tables_do_not_disturb() {
    in_fresh_namespace(&[], || {
        let (mut ours, mut theirs) = (Nft::open("ocicat").unwrap(), Nft::open("other").unwrap());
        ours.commit(&create(&showcase())).unwrap();
        let other = Table { name: "other".into(), ..showcase() };
        for n in 0..20 {
            theirs.commit(&create(&other)).unwrap();
            theirs.commit(&Transaction::uninstall("other")).unwrap();
            let mut change = Transaction::new("ocicat");
            change.add_elements("ports-a", PORT_MAP, port_map(1000 + n..1001 + n));
            ours.commit(&change).unwrap();
        }
        assert_eq!(ours.read().unwrap().sets["ports-a"].elements.len(), 21);
    });
}

#[test]
fn what_others_do_to_our_table_is_noticed_before_the_next_commit_and_repaired() {
    in_fresh_namespace(&[], || {
        let goal = showcase();
        let (mut ours, mut theirs) = (Nft::open("ocicat").unwrap(), Nft::open("ocicat").unwrap());
        ours.commit(&create(&goal)).unwrap();
        theirs.read().unwrap();
        let mut foreign = Transaction::new("ocicat");
        foreign.ops.push(Op::FlushChain("group-a".into()));
        foreign.ops.push(Op::AddChain("intruder".into(), None));
        foreign.add_elements("ports-a", PORT_MAP, port_map(100..1000));
        theirs.commit(&foreign).unwrap();
        let mut change = Transaction::new("ocicat");
        change.add_elements("ports-a", PORT_MAP, port_map(2000..2001));
        assert!(matches!(ours.commit(&change), Err(CommitError::Drifted(_))));
        let repair = diff(&goal, &ours.read().unwrap());
        ours.commit(&repair).unwrap();
        assert_eq!(ours.read().unwrap(), goal);
    });
}

#[test]
fn rules_and_sets_that_are_not_ours_to_make_are_replaced() {
    in_fresh_namespace(&["nft"], || {
        let goal = showcase();
        let mut nft = Nft::open("ocicat").unwrap();
        nft.commit(&create(&goal)).unwrap();
        let intrusion = "\
add set inet ocicat stamps { type mark; flags timeout; }
add rule inet ocicat group-a limit rate 5/second accept
add rule inet ocicat group-a tcp dport { 1, 2, 3 } accept
add rule inet ocicat group-a tcp flags syn meta mark set 7
insert rule inet ocicat class-a ip saddr 10.0.0.1-10.0.0.9 accept
add chain inet ocicat theirs { type filter hook ingress device lo priority 5; }
add rule inet ocicat theirs ether type arp accept
";
        output("nft", &["-f", "-"], intrusion).unwrap();
        let there = nft.read().unwrap();
        assert_ne!(there, goal);
        let repair = diff(&goal, &there);
        nft.commit(&repair).unwrap();
        assert_eq!(nft.read().unwrap(), goal, "{there}\n{repair}");
    });
}

fn many_peers(count: u32) -> Table {
    let mut table = Table::new("ocicat");
    let peers = (0..count).map(|n| Element::verdict(Key::from(Ipv4Addr::from(n)), Verdict::Return));
    table.sets.insert("peers".into(), Set::new(PEERS).with(peers));
    table
}

const PEERS: SetType =
    SetType { key: tables::PEERS4, kind: SetKind::Verdicts, matching: Matching::Exact };

#[test]
fn a_hundred_thousand_elements_are_one_transaction_and_read_back_at_once() {
    in_fresh_namespace(&[], || {
        let mut goal = many_peers(100_000);
        let mut nft = Nft::open("ocicat").unwrap();
        nft.commit(&create(&goal)).unwrap();
        // The kernel's hash table still grows now, which tears dumps.
        assert!(nft.read().unwrap() == goal);
        let mut one = Transaction::new("ocicat");
        one.delete_elements("peers", PEERS, [Key::from(Ipv4Addr::from(7))]);
        nft.commit(&one).unwrap();
        one.apply_to(&mut goal).unwrap();
        assert!(nft.read().unwrap() == goal);
    });
}

#[test]
fn a_dump_that_the_growing_hash_table_tears_is_never_taken_for_the_truth() {
    in_fresh_namespace(&[], || {
        let mut nft = Nft::open("ocicat").unwrap();
        for count in [2_000, 5_000, 12_000, 30_000].repeat(5) {
            let goal = many_peers(count);
            nft.commit(&Transaction::rebuild(&goal)).unwrap();
            assert!(nft.read().unwrap() == goal, "{count}");
        }
    });
}

#[test]
fn rules_count_packets_and_keep_their_counts_when_others_change() {
    in_fresh_namespace(&["ip"], || {
        let base = Base {
            kind: ChainType::Filter,
            hook: Hook::Output,
            priority: 0,
            policy: Policy::Accept,
        };
        let dropped = Rule::new([l4proto(17), counter(), drop()]).comment("no policy allows it");
        let mut table = Table::new("ocicat");
        table.chains.insert("on-output".into(), Chain::base(base, [dropped]));
        let mut nft = Nft::open("ocicat").unwrap();
        nft.commit(&create(&table)).unwrap();
        output("ip", &["link", "set", "lo", "up"], "").unwrap();
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        for _ in 0..3 {
            // The drop shows as an error of the sender.
            let _ = socket.send_to(b"hello", "127.0.0.1:9");
        }
        let mut goal = table.clone();
        goal.chains.insert("other".into(), Chain::default());
        nft.commit(&diff(&goal, &table)).unwrap();
        let counted = Counted {
            chain: "on-output".into(),
            comment: Some("no policy allows it".into()),
            packets: 3,
            bytes: 3 * (20 + 8 + 5),
        };
        assert_eq!(nft.counters().unwrap(), [counted]);
    });
}

/// `chains` group chains of three rules behind one dispatch map, and peers in sets or maps of 1,000.
fn large(chains: u32, peers: u32, kind: SetKind) -> Table {
    let of = SetType { kind, ..PEERS };
    let is_map = kind == SetKind::Verdicts;
    let mut table = Table::new("ocicat");
    let mut pods = Set::new(SetType {
        key: tables::FROM_POD,
        kind: SetKind::Verdicts,
        matching: Matching::Exact,
    });
    for n in 0..chains {
        let peers = format!("peers-{}", n % peers.div_ceil(1_000));
        let lookup = if is_map {
            vec![vmap([Field::IpSaddr], peers)]
        } else {
            vec![in_set([Field::IpSaddr], peers), return_()]
        };
        let rules = [
            Rule::new([l4proto(6), dport(80), accept()]),
            Rule::new(lookup),
            Rule::new([counter(), drop()]),
        ];
        let name = format!("group-{n}");
        table.chains.insert(name.as_str().into(), Chain::regular(rules));
        let pod = Key::exact(&[Part::Ifname(&format!("oci{n:011x}"))]);
        pods.elements.insert(pod, Some(Verdict::goto(name)));
    }
    for n in 0..peers {
        let map = table.sets.entry(format!("peers-{}", n / 1_000).into());
        let key = Key::from(Ipv4Addr::from(n));
        let answer = is_map.then_some(Verdict::Return);
        map.or_insert_with(|| Set::new(of)).elements.insert(key, answer);
    }
    table.sets.insert("from-pods".into(), pods);
    let base =
        Base { kind: ChainType::Filter, hook: Hook::Forward, priority: 0, policy: Policy::Accept };
    let dispatch = Rule::new([vmap([Field::Iifname], "from-pods")]);
    table.chains.insert("on-forward".into(), Chain::base(base, [dispatch]));
    table
}

#[test]
#[ignore = "a measurement: run it alone, with --release and --nocapture"]
fn how_long_changes_take_in_a_large_table() {
    for kind in [SetKind::Verdicts, SetKind::Members] {
        eprintln!("peers in {kind:?}:");
        in_fresh_namespace(&[], || measure(kind));
    }
}

fn measure(kind: SetKind) {
    let table = large(2_000, 100_000, kind);
    let of = SetType { kind, ..PEERS };
    let mut nft = Nft::open("ocicat").expect("a socket");
    let all = create(&table);
    timed("diff of nothing and all", 1, |_| assert!(!create(&table).is_empty()));
    timed("diff of equals", 1, |_| assert!(diff(&table, &table).is_empty()));
    timed("encode", 1, |_| assert!(encode(&all, None, 1).ops.len() > 8_000));
    timed("load", 1, |_| nft.commit(&all).expect("a commit"));
    timed("read back", 3, |_| assert!(nft.read().expect("a table") == table));
    let key = || Key::from(Ipv4Addr::new(192, 0, 2, 1));
    let answer = (kind == SetKind::Verdicts).then_some(Verdict::Return);
    timed("one element", 400, |n| {
        let mut one = Transaction::new("ocicat");
        if n % 2 == 0 {
            one.add_elements("peers-7", of, [Element { key: key(), verdict: answer.clone() }]);
        } else {
            one.delete_elements("peers-7", of, [key()]);
        }
        nft.commit(&one).expect("a commit");
    });
    let mut goal = table.clone();
    goal.chains.insert("group-7".into(), Chain::regular([Rule::new([counter(), drop()])]));
    let changes = [diff(&goal, &table), diff(&table, &goal)];
    timed("one chain rewritten", 40, |n| nft.commit(&changes[n % 2]).expect("a commit"));
}

fn timed(what: &str, times: usize, mut work: impl FnMut(usize)) {
    let mut taken: Vec<_> = (0..times)
        .map(|n| {
            let start = std::time::Instant::now();
            work(n);
            start.elapsed()
        })
        .collect();
    taken.sort();
    let at = |percent: usize| taken[(times - 1) * percent / 100];
    eprintln!("  {what}: p50 {:?}, p99 {:?}, of {times}", at(50), at(99));
}
