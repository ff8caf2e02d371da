//! Origins are judged as caches tell, and judged again when they tell otherwise.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;

use super::{address, configs, name, network, own, prefix, routes};
use crate::rpki::pdu::{self, Frame};
use crate::rpki::{Change, Pdu, Stage, Timing, Validity, Vrp};
use crate::sim::Simulation;
use crate::speaker::{ConnId, Ineligible, OriginValidation, PathSnapshot, Step, Verdict};
use crate::wire::{Family, Prefix};

const CACHE: &str = "192.0.2.1:323";
/// The node that judges.
const JUDGE: usize = 0;
const SESSION: u16 = 5;

/// Three ASes in a ring, of which the first asks a cache. Nodes 1 and 2 hear each other's prefixes, so the
/// judge has two paths to each.
fn ring(policy: Option<OriginValidation>) -> Simulation {
    let mut configs = configs(&[65000, 65001, 65002], &[(0, 1), (0, 2), (1, 2)]);
    configs[JUDGE].caches.insert(CACHE.parse().unwrap());
    for peer in configs[JUDGE].peers.values_mut() {
        peer.origin_validation = policy;
    }
    network(1, configs)
}

fn said(pdus: &[Pdu<'_>]) -> Vec<u8> {
    let mut stream = Vec::new();
    pdus.iter().for_each(|pdu| pdu::put(&mut stream, 1, *pdu));
    stream
}

/// The newest connection with a cache.
fn newest(sim: &Simulation) -> ConnId {
    *sim.node(JUDGE).asked.last_key_value().expect("a cache was dialled").0
}

/// Answers the open question: this changed, and the data have that number now.
fn answer(sim: &mut Simulation, serial: u32, changes: &[(Change, Vrp)]) {
    let conn = newest(sim);
    answer_on(sim, conn, serial, changes);
}

fn answer_on(sim: &mut Simulation, conn: ConnId, serial: u32, changes: &[(Change, Vrp)]) {
    sim.cache_says(JUDGE, conn, &said(&whole_answer(serial, changes)));
    sim.run_until_quiet();
}

fn whole_answer(serial: u32, changes: &[(Change, Vrp)]) -> Vec<Pdu<'static>> {
    let records = changes.iter().map(|(change, vrp)| Pdu::Record { change: *change, vrp: *vrp });
    let timing = Some(Timing::default());
    let begin = [Pdu::CacheResponse { session: SESSION }];
    begin
        .into_iter()
        .chain(records)
        .chain([Pdu::EndOfData { session: SESSION, serial, timing }])
        .collect()
}

/// The cache has something new, and tells it at once when it is asked; in another session it tells everything. The
/// question crosses the answer, which is no matter to either.
fn tell(sim: &mut Simulation, session: u16, serial: u32, changes: &[(Change, Vrp)]) {
    let mut pdus = vec![Pdu::SerialNotify { session, serial }];
    pdus.extend(whole_answer(serial, changes));
    let conn = newest(sim);
    sim.cache_says(JUDGE, conn, &said(&pdus));
}

/// The cache has something new, which it tells when it is asked.
fn change(sim: &mut Simulation, serial: u32, changes: &[(Change, Vrp)]) {
    let conn = newest(sim);
    sim.cache_says(JUDGE, conn, &said(&[Pdu::SerialNotify { session: SESSION, serial }]));
    sim.run_until_quiet();
    answer(sim, serial, changes);
}

/// Only this AS may originate the prefix of that node.
fn only(asn: u32, node: usize) -> Vrp {
    Vrp { prefix: own(node), max_length: 24, asn }
}

fn paths(sim: &Simulation, node: usize) -> Vec<PathSnapshot> {
    sim.node(JUDGE).speaker.route(own(node)).unwrap().paths
}

fn verdicts(sim: &Simulation, node: usize) -> Vec<(Verdict, Option<Validity>)> {
    paths(sim, node).iter().map(|path| (path.verdict, path.validity)).collect()
}

fn flaps(sim: &Simulation) -> u64 {
    sim.node(JUDGE).speaker.peers(sim.now()).iter().map(|peer| peer.flaps).sum()
}

fn questions(sim: &Simulation) -> Vec<Vec<String>> {
    let of_connection = |octets: &Vec<u8>| {
        let mut rest = &octets[..];
        let mut asked = Vec::new();
        while let Some(Frame { pdu, octets, .. }) = pdu::parse(rest).unwrap() {
            asked.push(format!("{pdu:?}"));
            rest = &rest[octets.len()..];
        }
        asked
    };
    sim.node(JUDGE).asked.values().map(of_connection).collect()
}

const REJECTED: (Verdict, Option<Validity>) =
    (Verdict::Ineligible(Ineligible::OriginInvalid), Some(Validity::Invalid));

#[test]
fn an_invalid_origin_is_rejected_until_the_cache_says_otherwise() {
    let mut sim = ring(None);
    let before = routes(&sim, JUDGE);
    assert_eq!(before.len(), 2);
    assert_eq!(verdicts(&sim, 1)[0], (Verdict::Best, Some(Validity::NotFound)));
    // Somebody else may originate the prefix of node 1, nobody that of node 2 beyond what it does.
    answer(
        &mut sim,
        1,
        &[(Change::Announced, only(65009, 1)), (Change::Announced, only(65002, 2))],
    );
    assert_eq!(verdicts(&sim, 1), [REJECTED; 2]);
    assert_eq!(verdicts(&sim, 2)[0], (Verdict::Best, Some(Validity::Valid)));
    assert_eq!(routes(&sim, JUDGE).keys().collect::<Vec<_>>(), ["192.168.2.0/24"]);
    // Nor is it told to others.
    let told = sim.node(JUDGE).speaker.advertised(&name(2), Family::Ipv4);
    assert!(told.iter().all(|(prefix, _)| *prefix != own(1)), "{told:?}");

    let events = sim.node(JUDGE).route_events;
    change(&mut sim, 2, &[(Change::Announced, only(65001, 1))]);
    assert_eq!(verdicts(&sim, 1)[0], (Verdict::Best, Some(Validity::Valid)));
    assert_eq!(routes(&sim, JUDGE), before);
    assert_eq!(sim.node(JUDGE).route_events, events + 1, "no other route moved");
    assert_eq!(flaps(&sim), 0);
}

#[test]
fn data_count_while_the_cache_is_away_until_they_expire() {
    let mut sim = ring(None);
    answer(&mut sim, 1, &[(Change::Announced, only(65009, 1))]);
    let events = sim.node(JUDGE).route_events;
    let conn = newest(&sim);
    sim.cut_cache(JUDGE, conn, false);
    sim.run_for(Duration::from_secs(3600));
    let [cache] = &sim.node(JUDGE).speaker.caches(sim.now())[..] else { panic!("one") };
    assert_eq!((cache.stage, cache.records), (Stage::Down, [1, 0]));
    assert_eq!(cache.last_error.as_deref(), Some("cannot connect: connection refused"));
    assert_eq!(verdicts(&sim, 1), [REJECTED; 2]);
    assert_eq!(sim.node(JUDGE).route_events, events);

    // It is back in time, and the talk goes on where it was.
    let conn = newest(&sim);
    sim.cut_cache(JUDGE, conn, true);
    sim.run_for(Duration::from_secs(61));
    let question = format!("SerialQuery {{ session: {SESSION}, serial: 1 }}");
    assert_eq!(questions(&sim), [vec!["ResetQuery".to_owned()], vec![question]]);
    answer(&mut sim, 1, &[]);
    assert_eq!(sim.node(JUDGE).route_events, events);

    let conn = newest(&sim);
    sim.cut_cache(JUDGE, conn, false);
    sim.run_for(Timing::default().expire + Duration::from_secs(1));
    assert_eq!(verdicts(&sim, 1)[0], (Verdict::Best, Some(Validity::NotFound)));
    assert_eq!(sim.node(JUDGE).speaker.caches(sim.now())[0].records, [0, 0]);
}

#[test]
fn a_marked_path_is_chosen_only_without_another() {
    let mut sim = ring(Some(OriginValidation::Mark));
    // Of both ways to the prefix of node 1 none is better for that.
    answer(&mut sim, 1, &[(Change::Announced, only(65009, 1))]);
    let [best, other] = &paths(&sim, 1)[..] else { panic!("two") };
    assert_eq!((best.verdict, best.attributes.local_pref), (Verdict::Best, 0));
    assert_eq!(other.verdict, Verdict::Lost(Step::AsPathLength));
    assert_eq!(best.received.as_ref().map(|received| received.local_pref), Some(100));
    // Node 2 originates the prefix too, and may: it is preferred although it was not.
    sim.with(2, |speaker, now| speaker.originate(now, own(1), &Default::default()));
    sim.run_until_quiet();
    change(&mut sim, 2, &[(Change::Announced, only(65002, 1))]);
    let chosen = paths(&sim, 1);
    assert_eq!(
        (chosen[0].peer.clone(), chosen[0].validity),
        (Some(name(2)), Some(Validity::Valid))
    );
    assert_eq!(chosen[1].verdict, Verdict::Lost(Step::LocalPref));
}

#[test]
fn nothing_follows_where_validation_is_off_and_the_policy_can_change_under_way() {
    let mut sim = ring(Some(OriginValidation::Off));
    answer(&mut sim, 1, &[(Change::Announced, only(65009, 1))]);
    assert_eq!(verdicts(&sim, 1)[0], (Verdict::Best, Some(Validity::Invalid)));
    let set = |sim: &mut Simulation, policy| {
        let mut configs = configs(&[65000, 65001, 65002], &[(0, 1), (0, 2), (1, 2)]);
        let mut config = configs.swap_remove(JUDGE);
        config.caches.insert(CACHE.parse().unwrap());
        config.peers.values_mut().for_each(|peer| peer.origin_validation = policy);
        sim.with(JUDGE, |speaker, now| speaker.configure(now, config));
        sim.run_until_quiet();
    };
    set(&mut sim, None);
    assert_eq!(verdicts(&sim, 1), [REJECTED; 2]);
    set(&mut sim, Some(OriginValidation::Off));
    assert_eq!(verdicts(&sim, 1)[0].0, Verdict::Best);
    assert_eq!(flaps(&sim), 0);
}

#[test]
fn paths_of_our_own_as_are_not_judged_unless_that_is_asked_for() {
    for (policy, expected) in [
        (None, (Verdict::Best, Some(Validity::Invalid))),
        (Some(OriginValidation::RejectInvalid), REJECTED),
    ] {
        let mut configs = configs(&[65000, 65000], &[(0, 1)]);
        configs[JUDGE].caches.insert(CACHE.parse().unwrap());
        configs[JUDGE].peers.get_mut(&name(1)).unwrap().origin_validation = policy;
        let mut sim = network(1, configs);
        answer(&mut sim, 1, &[(Change::Announced, only(65009, 1))]);
        assert_eq!(verdicts(&sim, 1), [expected]);
        // RFC 6811 §2: what has no path comes from our own AS.
        change(&mut sim, 2, &[(Change::Announced, only(65000, 1))]);
        assert_eq!(verdicts(&sim, 1), [(Verdict::Best, Some(Validity::Valid))]);
    }
}

#[test]
fn what_a_cache_has_said_goes_with_its_configuration() {
    let mut configs = configs(&[65000, 65001], &[(0, 1)]);
    configs[JUDGE].caches.insert(CACHE.parse().unwrap());
    let without = crate::speaker::Config { caches: [].into(), ..configs[JUDGE].clone() };
    let mut sim = network(1, configs);
    answer(&mut sim, 1, &[(Change::Announced, only(65009, 1))]);
    assert_eq!(verdicts(&sim, 1), [REJECTED]);
    sim.with(JUDGE, |speaker, now| speaker.configure(now, without));
    sim.run_until_quiet();
    assert_eq!(verdicts(&sim, 1), [(Verdict::Best, None)]);
    assert!(sim.node(JUDGE).speaker.caches(sim.now()).is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever was told before, and in whichever order, and however much of it at once: a path is
    /// rejected exactly if its origin is invalid now.
    #[test]
    fn paths_are_as_the_table_says(steps in prop::collection::vec(
        ((0u32..6, any::<bool>()), 0usize..3, 20u8..=24, 0u32..3, any::<bool>()), 1..25,
    )) {
        let mut sim = ring(None);
        answer(&mut sim, 0, &[]);
        let mut said = BTreeSet::new();
        for (serial, ((what, waits), node, length, asn, from_one)) in (1..).zip(steps) {
            let part = Prefix::new(own(node).addr(), length).unwrap();
            let vrp = Vrp { prefix: part, max_length: 24, asn: 65000 + asn };
            match what {
                0 | 1 => {
                    let origin = if from_one { 1 } else { 2 };
                    sim.with(origin, |speaker, now| speaker.originate(now, part, &Default::default()));
                }
                2 => {
                    said.retain(|vrp: &Vrp| vrp.asn != 65000 + asn);
                    said.insert(vrp);
                    let all: Vec<_> = said.iter().map(|vrp| (Change::Announced, *vrp)).collect();
                    tell(&mut sim, SESSION + 1, serial, &all);
                }
                _ if said.insert(vrp) => tell(&mut sim, SESSION, serial, &[(Change::Announced, vrp)]),
                _ => {
                    said.remove(&vrp);
                    tell(&mut sim, SESSION, serial, &[(Change::Withdrawn, vrp)]);
                }
            }
            if waits {
                sim.run_until_quiet();
                let records = sim.node(JUDGE).speaker.caches(sim.now())[0].records;
                prop_assert_eq!(records, [said.len(), 0]);
                let (routes, _) = sim.node(JUDGE).speaker.routes(Family::Ipv4, 0, usize::MAX);
                for path in routes.iter().flat_map(|route| &route.paths) {
                    let rejected = path.verdict == Verdict::Ineligible(Ineligible::OriginInvalid);
                    prop_assert_eq!(rejected, path.validity == Some(Validity::Invalid), "{:?}", path);
                }
            }
        }
    }
}

#[test]
fn what_caches_say_counts_together() {
    let mut configs = configs(&[65000, 65001], &[(0, 1)]);
    configs[JUDGE].caches = [CACHE, "192.0.2.2:323"].map(|cache| cache.parse().unwrap()).into();
    let one = crate::speaker::Config {
        caches: [CACHE.parse().unwrap()].into(),
        ..configs[JUDGE].clone()
    };
    let mut sim = network(1, configs);
    let first = *sim.node(JUDGE).asked.first_key_value().expect("two caches were dialled").0;
    answer_on(&mut sim, first, 1, &[(Change::Announced, only(65009, 1))]);
    assert_eq!(verdicts(&sim, 1), [REJECTED]);
    let both = [(Change::Announced, only(65009, 1)), (Change::Announced, only(65001, 1))];
    // The other one, which may have been given up and dialled again meanwhile.
    answer(&mut sim, 1, &both);
    let caches = sim.node(JUDGE).speaker.caches(sim.now());
    assert_eq!(caches.iter().map(|cache| cache.records).collect::<Vec<_>>(), [[1, 0], [2, 0]]);
    assert_eq!(verdicts(&sim, 1), [(Verdict::Best, Some(Validity::Valid))]);
    // Of what the second has said, the first still says the one half.
    sim.with(JUDGE, |speaker, now| speaker.configure(now, one));
    sim.run_until_quiet();
    assert_eq!(verdicts(&sim, 1), [REJECTED]);
}

#[test]
fn a_cache_that_is_silent_is_given_up() {
    let mut sim = ring(None);
    sim.run_for(Duration::from_secs(62));
    let asked = questions(&sim);
    assert_eq!(asked.len(), 2, "{asked:?}");
    let [cache] = &sim.node(JUDGE).speaker.caches(sim.now())[..] else { panic!("one") };
    assert_eq!(cache.last_error.as_deref(), Some("no answer within 60 s"));
    // Nor is one that says what cannot be.
    let conn = newest(&sim);
    sim.cache_says(JUDGE, conn, &[1, 99, 0, 0, 0, 0, 0, 8]);
    sim.run_for(Duration::from_secs(5));
    let last = questions(&sim).into_iter().rev().nth(1).unwrap();
    assert!(last[1].starts_with("ErrorReport { code: 5"), "{last:?}");
}

#[test]
fn routes_told_after_the_cache_are_judged_on_import_and_large_tables_in_slices() {
    let mut sim = ring(None);
    let all = |asn| Vrp { prefix: prefix("172.16.0.0/12"), max_length: 32, asn };
    answer(&mut sim, 1, &[(Change::Announced, all(65009))]);
    let prefixes: Vec<_> =
        (0..20_000u32).map(|n| prefix(&format!("172.16.{}.{}/32", n / 256, n % 256))).collect();
    for prefix in &prefixes {
        sim.with(1, |speaker, now| speaker.originate(now, *prefix, &Default::default()));
    }
    sim.run_until_quiet();
    let (kept, _) = sim.node(JUDGE).speaker.table_size(Family::Ipv4);
    assert_eq!((kept, routes(&sim, JUDGE).len()), (20_003, 2));
    change(&mut sim, 2, &[(Change::Announced, all(65001))]);
    assert_eq!(routes(&sim, JUDGE).len(), 20_002);
    change(&mut sim, 3, &[(Change::Withdrawn, all(65001))]);
    assert_eq!(routes(&sim, JUDGE).len(), 2);
    assert_eq!(address(1), paths(&sim, 1)[0].peer_address);
}
