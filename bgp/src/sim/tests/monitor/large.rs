//! Tables that take more than one turn to tell.

use super::*;

fn numbered(block: u32, number: u32) -> Prefix {
    Prefix::new(Ipv4Addr::from_bits((block << 24) + (number << 8)).into(), 24).unwrap()
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
    for number in 0..33_000 {
        sim.with(1, |speaker, now| {
            speaker.originate(now, numbered(20, number), &Originated::default());
        });
    }
    sim.run_for(Duration::from_secs(1));
    let swamped = |sim: &Simulation| sim.node(CENTRE).speaker.stations(sim.now())[0].swamped;
    assert_eq!(swamped(&sim), 0, "as much as the table holds may wait");
    for number in 0..33_000 {
        sim.with(1, |speaker, now| speaker.withdraw(now, numbered(20, number)));
    }
    sim.run_for(Duration::from_millis(500));
    assert_eq!(swamped(&sim), 1);
    assert_eq!(state(&sim, 0, 1), State::Established);
    sim.run_for(Duration::from_secs(10));
    assert_eq!(sim.node(CENTRE).monitored.len(), 2);
    let mut expected = truth(&sim);
    expected.retain(|(table, _), _| matches!(table, Table::PrePolicy | Table::LocRib));
    assert!(known(&heard(&sim, false)) == expected);
}

/// The walk over a large table in search of the paths of one peer takes several turns.
#[test]
fn few_kept_paths_are_found_in_a_large_table() {
    let mut configs = star(false);
    for number in 0..40_000_u32 {
        configs[CENTRE].originated.insert(numbered(20, number), Originated::default());
    }
    let mut sim = network(1, configs);
    originate(&mut sim, 3, 0);
    sim.run_until_quiet();
    sim.cut(0, 3);
    sim.run_until_quiet();
    let collector = heard(&sim, false);
    assert_eq!(collector.downs, [("10.0.0.4".to_owned(), 4)]);
    let whose = (Table::PrePolicy, "10.0.0.4".to_owned());
    assert!(known(&collector)[&whose] == truth(&sim)[&whose]);
    assert!(truth(&sim)[&whose].contains(&(shared(0), "65003".to_owned())));
}

#[test]
fn what_changes_while_the_tables_are_told_is_told_once_and_not_lost() {
    const MANY: u32 = 3000;
    let mut configs = star(false);
    for number in 0..MANY {
        configs[1].originated.insert(numbered(20, number), Originated::default());
    }
    let mut sim = network(1, configs);
    sim.hold_stations();
    sim.cut_station(CENTRE, true);
    sim.run_for(Duration::from_secs(3));
    assert_eq!(sim.trickle(CENTRE, 6), 6);
    let waiting = |sim: &Simulation| sim.node(CENTRE).speaker.stations(sim.now())[0].waiting;
    assert_eq!(waiting(&sim), 0);
    // Of the first it was told, of the last not yet.
    for number in (0..10).chain(MANY - 10..MANY) {
        sim.with(1, |speaker, now| speaker.withdraw(now, numbered(20, number)));
    }
    sim.run_for(Duration::from_secs(1));
    assert_eq!(waiting(&sim), 10 * (1 + 1 + 2), "heard, chosen, told to two");
    assert!(sim.trickle(CENTRE, 3) == 3 && known(&heard(&sim, false)) != truth(&sim));
    for number in 0..5 {
        sim.with(1, |speaker, now| {
            speaker.originate(now, numbered(20, number), &Originated::default());
        });
    }
    sim.run_for(Duration::from_secs(1));
    sim.unblock();
    sim.run_until_quiet();
    assert!(known(&heard(&sim, false)) == truth(&sim));
}

/// Prefixes that are gone are forgotten and their numbers used again, but not before a station that
/// does not read has heard of their end.
#[test]
fn the_end_of_a_prefix_is_told_of_that_prefix_however_late() {
    const MANY: u32 = 3000;
    let mut configs = star(false);
    for number in 0..MANY {
        configs[1].originated.insert(numbered(20, number), Originated::default());
    }
    let mut sim = network(1, configs);
    sim.block_station(CENTRE);
    for block in 20..23 {
        for number in 0..MANY {
            sim.with(1, |speaker, now| speaker.withdraw(now, numbered(block, number)));
        }
        sim.run_for(Duration::from_secs(1));
        for number in 0..MANY {
            sim.with(1, |speaker, now| {
                speaker.originate(now, numbered(block + 1, number), &Originated::default());
            });
        }
        sim.run_for(Duration::from_secs(1));
    }
    sim.unblock();
    sim.run_until_quiet();
    assert!(known(&heard(&sim, false)) == truth(&sim));
}
