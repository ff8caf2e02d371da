//! What a monitoring station is told is what there is.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::num::NonZeroU8;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::bmp::Table;
use crate::rib::filter::{Action, MatchOperator, Operation, PrefixMatch, Rule};
use crate::speaker::{AddPath, Monitoring, Receive, StationConfig, StationState, Verdict};
use crate::wire::{self, Codec, Message, MessageSize, PeerKind};

/// The node that is monitored, in the middle of a star.
const CENTRE: usize = 0;
const STATION: &str = "10.9.9.9:5000";

/// Whose table: a peer's, or the Loc-RIB with the address 0.0.0.0.
type Whose = (Table, String);

/// What a station knows: an AS path for each prefix and path identifier.
type Tables = BTreeMap<Whose, BTreeMap<(Prefix, u32), String>>;

/// A station that remembers.
#[derive(Debug, Default)]
struct Collector {
    up: BTreeSet<String>,
    tables: Tables,
    ends: BTreeSet<(Whose, Family)>,
    /// Peer, and reason code.
    downs: Vec<(String, u8)>,
    name: String,
    reports: usize,
    terminated: bool,
    routes: usize,
}

impl Collector {
    fn read(mut bytes: &[u8], several: bool) -> Self {
        let mut collector = Self::default();
        while let Some((head, _)) = bytes.split_first_chunk::<6>() {
            assert_eq!(head[0], 3);
            let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
            let (message, rest) = bytes.split_at(length);
            collector.message(head[5], &message[6..], several);
            bytes = rest;
        }
        assert!(bytes.is_empty(), "half a message");
        collector
    }

    fn message(&mut self, kind: u8, body: &[u8], several: bool) {
        if kind >= 4 {
            self.terminated |= kind == 5;
            self.name += &String::from_utf8_lossy(body);
            return;
        }
        let (header, body) = body.split_at(42);
        let octets: [u8; 16] = header[10..26].try_into().unwrap();
        let address = if header[1] & 0x80 == 0 || header[0] == 3 {
            Ipv4Addr::from(<[u8; 4]>::try_from(&octets[12..]).unwrap()).to_string()
        } else {
            std::net::Ipv6Addr::from(octets).to_string()
        };
        let table = match (header[0], header[1] & 0x50) {
            (3, _) => Table::LocRib,
            (_, 0) => Table::PrePolicy,
            (_, 0x40) => Table::PostPolicy,
            (_, 0x50) => Table::AdjRibOut,
            other => panic!("{other:?}"),
        };
        match kind {
            0 => self.routes((table, address), body, several),
            1 => self.reports += 1,
            2 => {
                assert!(self.up.remove(&address), "{address} was not up");
                self.tables.retain(|(_, whose), _| *whose != address);
                self.ends.retain(|((_, whose), _)| *whose != address);
                self.downs.push((address, body[0]));
            }
            3 => assert!(self.up.insert(address), "up twice"),
            other => panic!("message of type {other}"),
        }
    }

    fn routes(&mut self, whose: Whose, update: &[u8], several: bool) {
        assert!(self.up.contains(&whose.1), "{whose:?} is not up");
        self.routes += 1;
        // Node 1 sends several paths, and node 2 is sent several, where the test says so.
        let ids = several
            && (matches!(whose.0, Table::PrePolicy | Table::PostPolicy) && whose.1 == "10.0.0.2"
                || whose.0 == Table::AdjRibOut && whose.1 == "10.0.0.3");
        let families = wire::FamilySet::ALL;
        let codec = Codec {
            families,
            asn_width: wire::AsnWidth::Four,
            message_size: MessageSize::Extended,
            add_path_receive: if ids { families } else { wire::FamilySet::EMPTY },
            ..Codec::baseline(PeerKind::Internal)
        };
        let frame = wire::frame(update, MessageSize::Extended).unwrap().unwrap();
        let Ok(Message::Update(update)) = Message::parse(frame, &codec) else {
            panic!("not an UPDATE")
        };
        let mut scratch = wire::Scratch::default();
        let checked = wire::check(&update, &codec, &mut scratch);
        if let Some(family) = checked.end_of_rib {
            assert!(self.ends.insert((whose, family)), "ended twice");
            return;
        }
        let path = wire::Attributes::new(scratch.block()).as_path().to_string();
        let table = self.tables.entry(whose).or_default();
        for (identifier, prefix) in update.withdrawn {
            table.remove(&(prefix, identifier));
        }
        for (identifier, prefix) in checked.unreach.into_iter().flatten() {
            table.remove(&(prefix, identifier));
        }
        for (identifier, prefix) in update.announced {
            table.insert((prefix, identifier), path.clone());
        }
        for (identifier, prefix) in checked.reach.into_iter().flat_map(|reach| reach.nlri) {
            table.insert((prefix, identifier), path.clone());
        }
    }
}

fn heard(sim: &Simulation, several: bool) -> Collector {
    let (_, bytes) = sim.node(CENTRE).monitored.last_key_value().expect("a station was dialled");
    Collector::read(bytes, several)
}

/// All that the centre knows and says, as a station should know it. Identifiers are those of the
/// wire, which only the paths' AS path shows here: with several paths sets are compared.
fn truth(sim: &Simulation) -> BTreeMap<Whose, BTreeSet<(Prefix, String)>> {
    let speaker = &sim.node(CENTRE).speaker;
    let mut tables: BTreeMap<Whose, BTreeSet<(Prefix, String)>> = BTreeMap::new();
    let up: Vec<_> = speaker
        .peers(sim.now())
        .into_iter()
        .filter(|peer| peer.state == State::Established)
        .collect();
    for family in Family::ALL {
        for route in speaker.routes(family, 0, usize::MAX).0 {
            for path in route.paths {
                let after = path.attributes.as_path.clone();
                let before = path.received.map_or(after.clone(), |received| received.as_path);
                if path.verdict == Verdict::Best {
                    let whose = (Table::LocRib, "0.0.0.0".into());
                    tables.entry(whose).or_default().insert((route.prefix, after.clone()));
                }
                let Some(peer) = up.iter().find(|peer| Some(&peer.name) == path.peer.as_ref())
                else {
                    continue;
                };
                let mut tell = |table, text| {
                    let whose = (table, peer.address.to_string());
                    tables.entry(whose).or_default().insert((route.prefix, text));
                };
                tell(Table::PrePolicy, before);
                if !matches!(path.verdict, Verdict::Ineligible(_)) {
                    tell(Table::PostPolicy, after);
                }
            }
        }
        for peer in &up {
            for (prefix, attributes) in speaker.advertised(&peer.name, family) {
                let whose = (Table::AdjRibOut, peer.address.to_string());
                tables.entry(whose).or_default().insert((prefix, attributes.as_path));
            }
        }
    }
    tables
}

fn known(collector: &Collector) -> BTreeMap<Whose, BTreeSet<(Prefix, String)>> {
    let tables = collector.tables.iter().filter(|(_, table)| !table.is_empty());
    tables
        .map(|(whose, table)| {
            let paths = table.iter().map(|((prefix, _), path)| (*prefix, path.clone()));
            (whose.clone(), paths.collect())
        })
        .collect()
}

/// A star of four with a station at the centre that hears everything. What node 3 tells of
/// 172.16.1.0/24 is rejected, of 172.16.2.0/24 changed.
fn star(several: bool) -> Vec<Config> {
    let mut configs = configs(&[65000, 65001, 65002, 65003], &[(0, 1), (0, 2), (0, 3)]);
    let rule = |number, action| {
        let prefix =
            PrefixMatch { cidr: shared(number), operator: MatchOperator::Equal, lengths: None };
        Rule { prefix: Some(prefix), ..Rule::any(action) }
    };
    let longer = Action::Accept(vec![Operation::PrependAsPath(vec![65003, 65003])]);
    let from_three = configs[CENTRE].peers.get_mut(&name(3)).unwrap();
    from_three.import =
        Filter { rules: vec![rule(1, Action::Reject), rule(2, longer)], ..Filter::accept_all() };
    for peer in configs[CENTRE].peers.values_mut() {
        peer.export = Filter::accept_all();
    }
    if several {
        let send = NonZeroU8::new(4);
        let centre = &mut configs[CENTRE].peers;
        centre.get_mut(&name(1)).unwrap().add_path.receive = Receive::Several;
        centre.get_mut(&name(2)).unwrap().add_path.send = send;
        configs[1].peers.get_mut(&name(0)).unwrap().add_path =
            AddPath { send, receive: Receive::One };
        configs[2].peers.get_mut(&name(0)).unwrap().add_path.receive = Receive::Several;
    }
    let tables = [Table::PrePolicy, Table::PostPolicy, Table::AdjRibOut, Table::LocRib];
    let station = StationConfig { tables: tables.into_iter().collect(), statistics: None };
    configs[CENTRE].monitoring = Monitoring {
        name: "centre".into(),
        description: "a speaker".into(),
        stations: [(STATION.parse().unwrap(), station)].into(),
    };
    configs
}

fn shared(number: usize) -> Prefix {
    prefix(&format!("172.16.{number}.0/24"))
}

fn originate(sim: &mut Simulation, node: usize, number: usize) {
    sim.with(node, |speaker, now| {
        speaker.originate(now, shared(number), &Originated::default());
    });
}

#[test]
fn a_station_hears_of_sessions_routes_and_their_ends() {
    let mut sim = network(1, star(false));
    for node in 1..4 {
        (0..3).for_each(|number| originate(&mut sim, node, number));
    }
    sim.run_until_quiet();
    let collector = heard(&sim, false);
    assert!(collector.name.contains("centre") && collector.name.contains("a speaker"));
    let up: Vec<_> = collector.up.iter().map(String::as_str).collect();
    assert_eq!(up, ["0.0.0.0", "10.0.0.2", "10.0.0.3", "10.0.0.4"]);
    assert_eq!(known(&collector), truth(&sim));
    let of = |table, whose: &str| &collector.tables[&(table, whose.to_owned())];
    let three = "10.0.0.4";
    assert_eq!(of(Table::PrePolicy, three)[&(shared(1), 0)], "65003");
    assert!(!of(Table::PostPolicy, three).contains_key(&(shared(1), 0)));
    assert_eq!(of(Table::PrePolicy, three)[&(shared(2), 0)], "65003");
    assert_eq!(of(Table::PostPolicy, three)[&(shared(2), 0)], "65003 65003 65003");
    // Three tables of three peers, and the Loc-RIB.
    assert_eq!(collector.ends.len(), 2 * (3 * 3 + 1));

    sim.with(3, |speaker, now| speaker.shut_down(now, "for good"));
    sim.run_until_quiet();
    let collector = heard(&sim, false);
    assert_eq!(collector.downs, [(three.to_owned(), 3)], "the peer has sent a NOTIFICATION");
    assert_eq!(known(&collector), truth(&sim));
    sim.silence(0, 2);
    sim.run_for(Duration::from_secs(200));
    let collector = heard(&sim, false);
    assert_eq!(collector.downs[1], ("10.0.0.3".to_owned(), 1), "the hold timer is ours");
    sim.with(0, |speaker, now| speaker.shut_down(now, ""));
    assert!(heard(&sim, false).terminated);
}

#[test]
fn a_filter_that_changes_changes_only_what_is_after_it() {
    let mut sim = network(1, star(false));
    (0..3).for_each(|number| originate(&mut sim, 3, number));
    sim.run_until_quiet();
    let before = heard(&sim, false).routes;
    let mut config = star(false).swap_remove(CENTRE);
    config.peers.get_mut(&name(3)).unwrap().import = Filter::accept_all();
    sim.with(CENTRE, |speaker, now| speaker.configure(now, config));
    sim.run_until_quiet();
    let collector = heard(&sim, false);
    assert_eq!(known(&collector), truth(&sim));
    // Two prefixes in one message each: after policy, in the Loc-RIB, and told to two peers.
    assert_eq!(collector.routes - before, 1 + 1 + 2);
}

#[test]
fn a_station_that_comes_back_is_told_everything_again_and_is_dialled_with_patience() {
    let mut sim = network(1, star(false));
    (1..4).for_each(|node| originate(&mut sim, node, 0));
    sim.run_until_quiet();
    sim.cut_station(CENTRE, false);
    sim.run_for(Duration::from_secs(600));
    let [station] = &sim.node(CENTRE).speaker.stations(sim.now())[..] else { panic!("one") };
    assert_eq!((station.state, station.dumps), (StationState::Down, 1));
    assert_eq!(station.last_error.as_deref(), Some("cannot connect: connection refused"));
    sim.with(1, |speaker, now| speaker.withdraw(now, shared(0)));
    sim.cut_station(CENTRE, true);
    sim.run_for(Duration::from_secs(61));
    assert_eq!(sim.node(CENTRE).monitored.len(), 2);
    assert_eq!(known(&heard(&sim, false)), truth(&sim));
    let [station] = &sim.node(CENTRE).speaker.stations(sim.now())[..] else { panic!("one") };
    assert_eq!((station.state, station.dumps), (StationState::Current, 2));
}

#[test]
fn routes_kept_over_a_restart_are_told_again_with_the_new_session() {
    let configs = star(false);
    let mut sim = network(1, configs);
    originate(&mut sim, 1, 0);
    sim.run_until_quiet();
    sim.cut(0, 1);
    sim.run_until_quiet();
    let collector = heard(&sim, false);
    assert_eq!(collector.downs, [("10.0.0.2".to_owned(), 4)]);
    assert_eq!(known(&collector), truth(&sim));
    assert!(truth(&sim)[&(Table::PrePolicy, "10.0.0.2".to_owned())].len() == 2);
}

#[test]
fn a_station_that_does_not_read_is_told_the_last_word_only() {
    let mut sim = network(1, star(false));
    originate(&mut sim, 1, 0);
    sim.run_until_quiet();
    let before = heard(&sim, false).routes;
    sim.block_station(CENTRE);
    for _ in 0..50 {
        sim.with(1, |speaker, now| speaker.withdraw(now, shared(0)));
        sim.run_for(Duration::from_secs(1));
        originate(&mut sim, 1, 0);
        sim.run_for(Duration::from_secs(1));
    }
    let [station] = &sim.node(CENTRE).speaker.stations(sim.now())[..] else { panic!("one") };
    assert_eq!(station.waiting, 4, "heard, chosen, told to two");
    sim.unblock();
    sim.run_until_quiet();
    // What was heard is told as it was before and after policy.
    assert_eq!(heard(&sim, false).routes - before, 5);
    assert_eq!(known(&heard(&sim, false)), truth(&sim));
}

#[test]
fn a_station_too_far_behind_begins_anew() {
    let mut configs = star(false);
    let station: SocketAddr = STATION.parse().unwrap();
    let tables = [Table::PrePolicy, Table::LocRib].into_iter().collect();
    let config = StationConfig { tables, statistics: None };
    configs[CENTRE].monitoring.stations.insert(station, config);
    let mut sim = network(1, configs);
    sim.block_station(CENTRE);
    let many = |number: u32| {
        Prefix::new(Ipv4Addr::from_bits(0x1400_0000 + (number << 8)).into(), 24).unwrap()
    };
    for number in 0..33_000 {
        sim.with(1, |speaker, now| speaker.originate(now, many(number), &Originated::default()));
    }
    sim.run_for(Duration::from_secs(1));
    let swamped = |sim: &Simulation| sim.node(CENTRE).speaker.stations(sim.now())[0].swamped;
    assert_eq!(swamped(&sim), 0, "as much as the table holds may wait");
    for number in 0..33_000 {
        sim.with(1, |speaker, now| speaker.withdraw(now, many(number)));
    }
    sim.run_for(Duration::from_millis(500));
    assert_eq!(swamped(&sim), 1);
    assert_eq!(state(&sim, 0, 1), State::Established);
    sim.run_for(Duration::from_secs(10));
    assert_eq!(sim.node(CENTRE).monitored.len(), 2);
    let mut expected = truth(&sim);
    expected.retain(|(table, _), _| matches!(table, Table::PrePolicy | Table::LocRib));
    assert_eq!(known(&heard(&sim, false)), expected);
}

#[test]
fn statistics_come_in_time() {
    let mut configs = star(false);
    let station: SocketAddr = STATION.parse().unwrap();
    let statistics = Some(Duration::from_secs(10));
    configs[CENTRE]
        .monitoring
        .stations
        .insert(station, StationConfig { statistics, ..StationConfig::default() });
    let mut sim = Simulation::new(1);
    for (number, config) in configs.into_iter().enumerate() {
        sim.add(address(number), config);
    }
    sim.run_for(Duration::from_secs(45));
    // Three peers and the Loc-RIB, at 10, 20, 30 and 40 s.
    assert_eq!(heard(&sim, false).reports, 16);
}

#[derive(Debug, Clone)]
enum Change {
    Originate(usize, usize),
    Withdraw(usize, usize),
    Cut(usize),
    CutStation,
    Block,
    Unblock,
    Wait(u64),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        5 => (0..4usize, 0..4usize).prop_map(|(node, number)| Change::Originate(node, number)),
        4 => (0..4usize, 0..4usize).prop_map(|(node, number)| Change::Withdraw(node, number)),
        1 => (1..4usize).prop_map(Change::Cut),
        1 => Just(Change::CutStation),
        1 => Just(Change::Block),
        1 => Just(Change::Unblock),
        3 => (0..3000u64).prop_map(Change::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Whatever happened on the way, the station ends with exactly what there is.
    #[test]
    fn the_station_knows_every_table(
        changes in prop::collection::vec(change(), 1..40),
        several in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let mut sim = network(seed, star(several));
        for change in changes {
            match change {
                Change::Originate(node, number) => originate(&mut sim, node, number),
                Change::Withdraw(node, number) => {
                    sim.with(node, |speaker, now| speaker.withdraw(now, shared(number)));
                }
                Change::Cut(node) => sim.cut(0, node),
                Change::CutStation => sim.cut_station(CENTRE, true),
                Change::Block => sim.block_station(CENTRE),
                Change::Unblock => sim.unblock(),
                Change::Wait(millis) => sim.run_for(Duration::from_millis(millis)),
            }
        }
        sim.unblock();
        sim.run_until_quiet();
        prop_assert_eq!(known(&heard(&sim, several)), truth(&sim));
    }
}

/// The walk over a large table in search of the paths of one peer takes several turns.
#[test]
fn few_kept_paths_are_found_in_a_large_table() {
    let mut configs = star(false);
    for number in 0..40_000_u32 {
        let address = Ipv4Addr::from_bits(0x1400_0000 + (number << 8));
        let prefix = Prefix::new(address.into(), 24).unwrap();
        configs[CENTRE].originated.insert(prefix, Originated::default());
    }
    let mut sim = network(1, configs);
    originate(&mut sim, 3, 0);
    sim.run_until_quiet();
    sim.cut(0, 3);
    sim.run_until_quiet();
    let collector = heard(&sim, false);
    assert_eq!(collector.downs, [("10.0.0.4".to_owned(), 4)]);
    let whose = (Table::PrePolicy, "10.0.0.4".to_owned());
    assert_eq!(known(&collector)[&whose], truth(&sim)[&whose]);
    assert!(truth(&sim)[&whose].contains(&(shared(0), "65003".to_owned())));
}
