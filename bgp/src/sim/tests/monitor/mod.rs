//! What a monitoring station is told is what there is.

mod collector;
mod large;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::num::NonZeroU8;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::bmp::Table;
use crate::rib::filter::{Action, MatchOperator, Operation, PrefixMatch, Rule};
use crate::speaker::{AddPath, Monitoring, Receive, StationConfig, StationState, Verdict};

use collector::{Collector, Whose};

/// The node that is monitored, in the middle of a star.
const CENTRE: usize = 0;
const STATION: &str = "10.9.9.9:5000";

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
