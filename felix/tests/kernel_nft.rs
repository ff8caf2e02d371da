//! Our netlink form against the kernel, and against nft.

use ocicat_felix::{
    dataplane::kernel::Nft,
    nft::{statement::*, *},
};
use proptest::{prelude::*, test_runner::TestRunner};

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
    in_fresh_namespace(|| {
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
    in_fresh_namespace(|| {
        let table = showcase();
        let text = create(&table).to_string();
        match output("nft", &["-f", "-"], &text) {
            Err(error) if error.contains("No such file") => eprintln!("skipped: no nft"),
            loaded => {
                loaded.unwrap_or_else(|error| panic!("{error}\n{text}"));
                let there = Nft::open("ocicat").unwrap().read().unwrap();
                assert_eq!(there.to_string(), table.to_string());
                assert_eq!(there, table);
            }
        }
    });
}

#[test]
fn random_changes_reach_the_goal_in_the_kernel() {
    in_fresh_namespace(|| {
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
fn nft_accepts_the_text_of_every_change() {
    in_fresh_namespace(|| {
        let mut runner = TestRunner::new(ProptestConfig { cases: 60, ..ProptestConfig::default() });
        let tables = (tables::any_table(), tables::any_table());
        runner
            .run(&tables, |(from, to)| {
                let text =
                    [create(&from), diff(&to, &from)].map(|change| change.to_string()).concat();
                let checked = output("nft", &["-c", "-f", "-"], &text);
                prop_assert!(checked.is_ok(), "{}\n{}", checked.unwrap_err(), text);
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
    in_fresh_namespace(|| {
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
