//! Several paths for one prefix (RFC 7911), both ways.

use std::collections::BTreeSet;
use std::num::NonZeroU8;
use std::time::Duration;

use proptest::prelude::*;

use super::teller::{TOLD, Teller};
use super::*;
use crate::rib::PATHS_TO_PREFIX;
use crate::speaker::{AddPath, Receive};
use crate::wire::{self, Origin};

/// Node 0 hears from 1 to 3, each an AS of its own, and tells node 4, which takes several paths.
const SOURCES: std::ops::Range<usize> = 1..4;
const READER: usize = 4;

fn star(send: u8) -> Vec<Config> {
    let links: Vec<_> = (1..=READER).map(|node| (0, node)).collect();
    let mut configs = configs(&[65000, 65001, 65002, 65003, 65004], &links);
    configs.iter_mut().for_each(|config| config.originated.clear());
    let reader = configs[0].peers.get_mut(&name(READER)).unwrap();
    reader.add_path = AddPath { receive: Receive::One, send: NonZeroU8::new(send) };
    let teller = configs[READER].peers.get_mut(&name(0)).unwrap();
    teller.add_path.receive = Receive::Several;
    configs
}

fn shared(number: usize) -> Prefix {
    prefix(&format!("172.16.{number}.0/24"))
}

/// Who originates a prefix, as the reader sees it: the last AS of each path.
fn origins(sim: &Simulation, number: usize) -> BTreeSet<usize> {
    let Some(route) = sim.node(READER).speaker.route(shared(number)) else {
        return BTreeSet::new();
    };
    let paths = route.paths.iter().map(|path| path.attributes.as_path.as_str());
    let last = paths.map(|path| path.rsplit(' ').next().unwrap().parse::<usize>().unwrap() - 65000);
    let all: Vec<_> = last.collect();
    let distinct: BTreeSet<_> = all.iter().copied().collect();
    assert_eq!(all.len(), distinct.len(), "no path is told twice");
    distinct
}

fn originate(sim: &mut Simulation, node: usize, number: usize) {
    sim.with(node, |speaker, now| {
        speaker.originate(now, shared(number), &Originated::default());
    });
}

#[test]
fn a_reader_hears_of_every_path_and_of_its_end() {
    let mut sim = network(1, star(8));
    SOURCES.for_each(|node| originate(&mut sim, node, 0));
    sim.run_until_quiet();
    assert_eq!(origins(&sim, 0), BTreeSet::from([1, 2, 3]));
    let peers = sim.node(0).speaker.peers(sim.now());
    let reader = peers.iter().find(|peer| peer.name == name(READER)).unwrap();
    assert_eq!(reader.families[0].advertised, 3);
    assert!(reader.negotiated.as_ref().unwrap().capabilities.contains(&"add-path"));
    sim.with(2, |speaker, now| speaker.withdraw(now, shared(0)));
    sim.run_until_quiet();
    assert_eq!(origins(&sim, 0), BTreeSet::from([1, 3]));
    sim.cut(0, 1);
    sim.silence(0, 1);
    sim.run_for(Duration::from_secs(300));
    assert_eq!(origins(&sim, 0), BTreeSet::from([3]));
    // A peer without the capability hears of the best one.
    assert_eq!(sim.node(2).speaker.route(shared(0)).unwrap().paths.len(), 1);
}

#[test]
fn no_more_than_the_best_few_are_told() {
    let mut sim = network(1, star(2));
    for node in SOURCES.rev() {
        originate(&mut sim, node, 0);
        sim.run_until_quiet();
    }
    // The lower router ids are preferred.
    assert_eq!(origins(&sim, 0), BTreeSet::from([1, 2]));
    sim.with(1, |speaker, now| speaker.withdraw(now, shared(0)));
    sim.run_until_quiet();
    assert_eq!(origins(&sim, 0), BTreeSet::from([2, 3]));
}

#[test]
fn a_refresh_tells_all_paths_again() {
    let mut sim = network(1, star(8));
    SOURCES.for_each(|node| originate(&mut sim, node, 0));
    sim.run_until_quiet();
    let before = sim.node(READER).speaker.peers(sim.now())[0].received.update;
    sim.with(READER, |speaker, now| speaker.ask_again(now, &name(0), FamilySet::ALL)).unwrap();
    sim.run_until_quiet();
    assert_eq!(sim.node(READER).speaker.peers(sim.now())[0].received.update, before + 3);
    assert_eq!(origins(&sim, 0), BTreeSet::from([1, 2, 3]));
}

#[test]
fn a_limit_on_what_is_told_holds_back_and_fills_up() {
    for send in [0, 8] {
        let mut configs = star(send);
        let limit = NonZeroU32::new(2);
        configs[0].peers.get_mut(&name(READER)).unwrap().max_advertised = limit;
        let mut sim = network(1, configs);
        (0..4).for_each(|number| originate(&mut sim, 1, number));
        sim.run_until_quiet();
        let told = |sim: &Simulation| {
            (0..4).filter(|number| !origins(sim, *number).is_empty()).collect::<Vec<_>>()
        };
        let first = told(&sim);
        assert_eq!(first.len(), 2);
        originate(&mut sim, 2, first[0]);
        sim.run_until_quiet();
        assert_eq!(told(&sim), first, "what is told already may change");
        for node in [1, 2] {
            sim.with(node, |speaker, now| speaker.withdraw(now, shared(first[0])));
        }
        sim.run_until_quiet();
        let second = told(&sim);
        assert!(second.len() == 2 && second != first, "{first:?} {second:?}");
    }
}

/// With a limit, what is told follows also from what came first: two readers with the same policy need
/// not have been told the same, and then are not one group.
#[test]
fn readers_under_a_limit_that_were_told_different_things_stay_apart() {
    let links: Vec<_> = (1..4).map(|node| (0, node)).collect();
    let mut configs = configs(&[65000, 65001, 65002, 65002], &links);
    configs.iter_mut().for_each(|config| config.originated.clear());
    for reader in [2, 3] {
        configs[0].peers.get_mut(&name(reader)).unwrap().max_advertised = NonZeroU32::new(1);
    }
    let mut sim = network(1, configs.clone());
    let told = |sim: &Simulation| {
        [2, 3].map(|reader| {
            let knows = |number: &usize| sim.node(reader).speaker.route(shared(*number)).is_some();
            (0..2).filter(knows).collect::<Vec<_>>()
        })
    };
    let mut late = configs[3].clone();
    late.peers.clear();
    sim.with(3, |speaker, now| speaker.configure(now, late));
    sim.run_until_quiet();
    for number in 0..2 {
        originate(&mut sim, 1, number);
        sim.run_until_quiet();
    }
    assert_eq!(told(&sim)[0], [0]);
    sim.with(1, |speaker, now| speaker.withdraw(now, shared(0)));
    sim.run_until_quiet();
    originate(&mut sim, 1, 0);
    sim.run_until_quiet();
    assert_eq!(told(&sim)[0], [1]);
    sim.with(3, |speaker, now| speaker.configure(now, configs[3].clone()));
    sim.run_for(Duration::from_secs(60));
    assert_eq!(told(&sim).map(|told| told.len()), [1, 1]);
    sim.with(1, |speaker, now| speaker.withdraw(now, shared(0)));
    sim.run_until_quiet();
    assert_eq!(told(&sim), [[1], [1]]);
    check_adjacent(&sim, 4);
}

/// Each path is weighed against all others of its prefix, so there has to be an end to them.
#[test]
fn of_a_flood_of_paths_to_one_prefix_some_are_taken() {
    const MOST: u32 = 256;
    assert_eq!(PATHS_TO_PREFIX, MOST as usize);
    let mut teller = Teller::new();
    teller.tell(1..MOST + 1, Origin::Egp);
    assert_eq!((teller.paths(), teller.faults()), (256, (0, None)));
    teller.tell(1000..9000, Origin::Egp);
    let fault = "more than 256 paths to 172.16.0.0/24; the others are ignored";
    assert_eq!((teller.paths(), teller.faults()), (256, (1, Some(fault.into()))));
    // What is known may change, and what goes makes room.
    teller.tell(7..8, Origin::Igp);
    let best = teller.speaker.route(shared(0)).unwrap().paths.remove(0);
    assert_eq!((best.path_id, teller.faults().0), (7, 1));
    let mut bytes = Vec::new();
    wire::withdraw(&mut bytes, &Teller::codec(), Family::Ipv4, [(7, prefix(TOLD))]);
    teller.receive(&bytes);
    assert_eq!(teller.paths(), 255);
    teller.tell(1000..1001, Origin::Igp);
    assert_eq!((teller.paths(), teller.faults().0), (256, 1));
}

/// The identifiers are the peer's own affair: after a restart the same paths may have others.
#[test]
fn paths_from_before_a_restart_take_no_room_from_those_after_it() {
    let mut teller = Teller::new();
    teller.tell(1..257, Origin::Egp);
    teller.restart();
    assert_eq!(teller.paths(), 256, "they are kept for a while");
    teller.tell(1001..1257, Origin::Egp);
    assert_eq!((teller.paths(), teller.faults().0), (512, 0));
    let mut bytes = Vec::new();
    wire::end_of_rib(&mut bytes, Family::Ipv4);
    teller.receive(&bytes);
    // What was stale twice, and then what is now.
    (0..2).for_each(|_| teller.speaker.handle_timeout(teller.now));
    assert_eq!(teller.paths(), 256);
}

#[derive(Debug, Clone)]
enum Change {
    Originate(usize, usize),
    Withdraw(usize, usize),
    Cut(usize),
    Block,
    Wait(u64),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        4 => (SOURCES, 0..3usize).prop_map(|(node, number)| Change::Originate(node, number)),
        3 => (SOURCES, 0..3usize).prop_map(|(node, number)| Change::Withdraw(node, number)),
        1 => (1..=READER).prop_map(Change::Cut),
        1 => Just(Change::Block),
        2 => (0..30u64).prop_map(Change::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever happened on the way, the reader ends with exactly the paths that there are.
    #[test]
    fn the_reader_knows_every_path(
        changes in prop::collection::vec(change(), 1..40),
        seed in any::<u64>(),
    ) {
        let mut sim = network(seed, star(8));
        let mut there: BTreeSet<(usize, usize)> = BTreeSet::new();
        for change in changes {
            match change {
                Change::Originate(node, number) => {
                    there.insert((number, node));
                    originate(&mut sim, node, number);
                }
                Change::Withdraw(node, number) => {
                    there.remove(&(number, node));
                    sim.with(node, |speaker, now| speaker.withdraw(now, shared(number)));
                }
                Change::Cut(node) => sim.cut(0, node),
                Change::Block => sim.block(0, READER),
                Change::Wait(millis) => sim.run_for(Duration::from_millis(millis)),
            }
        }
        sim.unblock();
        sim.run_until_quiet();
        for number in 0..3 {
            let expected = SOURCES.filter(|node| there.contains(&(number, *node))).collect();
            prop_assert_eq!(origins(&sim, number), expected);
        }
    }
}
