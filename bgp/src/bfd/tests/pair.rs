//! Two engines and what becomes of their sessions.

use std::time::Duration;

use proptest::prelude::*;

use super::link::{Link, ms, timing};
use crate::bfd::{Diagnostic, Event, Failures, Handshake, Role, State, Why};

fn up(timings: [crate::bfd::Timing; 2]) -> Link {
    let mut link = Link::new(1, timings);
    link.run(ms(5000));
    assert!(link.is_up(0) && link.is_up(1));
    link
}

/// The times between the packets that one end sent, without those out of turn.
fn gaps(link: &Link, end: usize) -> Vec<Duration> {
    let periodic = link.sent[end].iter().filter(|(_, packet)| packet.handshake != Handshake::Final);
    let times: Vec<_> = periodic.map(|(at, _)| *at).collect();
    times.windows(2).map(|pair| pair[1] - pair[0]).collect()
}

#[test]
fn two_ends_come_up_within_some_latencies_and_then_speak_as_fast_as_the_slower_one_can() {
    let mut link = Link::new(1, [timing(50, 3), timing(80, 5)]);
    link.run(ms(10));
    assert!(link.is_up(0) && link.is_up(1), "three packets are enough");
    link.run(ms(1000));
    let [left, right] = [0, 1].map(|end| link.look(end));
    for session in [&left, &right] {
        assert_eq!(session.transmit_every, Some(ms(80)));
    }
    assert_eq!(left.detect_after, Some(ms(5 * 80)), "by the multiplier of the other end");
    assert_eq!(right.detect_after, Some(ms(3 * 80)));
    assert_eq!(left.remote_discriminator, Some(right.local_discriminator));
    link.sent[0].clear();
    link.run(ms(10_000));
    let gaps = gaps(&link, 0);
    assert!(gaps.iter().all(|gap| *gap >= ms(60) && *gap < ms(80)), "{gaps:?}");
    assert!(gaps.len() > 130);
}

#[test]
fn a_single_packet_is_never_awaited_for_the_whole_interval() {
    let mut link = up([timing(100, 1), timing(100, 3)]);
    link.sent[0].clear();
    link.run(ms(20_000));
    assert!(gaps(&link, 0).iter().all(|gap| *gap >= ms(75) && *gap < ms(90)));
    assert!(link.downs(1).is_empty());
}

#[test]
fn while_not_up_a_packet_a_second_is_sent() {
    let mut link = Link::new(1, [timing(50, 3), timing(50, 3)]);
    link.loss = [1000, 1000];
    link.run(ms(20_000));
    let gaps = gaps(&link, 0);
    assert!(gaps.iter().all(|gap| *gap >= ms(750) && *gap <= ms(1000)), "{gaps:?}");
    assert!(link.sent[0].iter().all(|(_, packet)| packet.desired_min_tx == 1_000_000));
    assert_eq!(link.events[0], [], "what never was up does not go down");
}

#[test]
fn a_dead_path_is_seen_within_the_detection_time_and_no_sooner() {
    let mut link = up([timing(50, 3), timing(50, 3)]);
    let cut = link.now;
    link.loss = [1000, 1000];
    link.run(ms(1000));
    for end in [0, 1] {
        assert_eq!(link.downs(end), [Why::Expired]);
        let (at, event) = link.events[end].last().unwrap();
        let Event::Down { last_heard, .. } = event else { panic!("{event:?}") };
        assert_eq!(*at - *last_heard, ms(150));
        assert!(*at - cut <= ms(151) && *at - cut > ms(99), "{:?}", *at - cut);
        let session = link.look(end);
        assert_eq!((session.state, session.remote_discriminator), (State::Down, None));
        let failures = Failures { expired: 1, peer_down: 0 };
        assert_eq!((session.diagnostic, session.failures), (Diagnostic::TIME_EXPIRED, failures));
    }
    link.loss = [0, 0];
    link.run(ms(3000));
    assert!(link.is_up(0) && link.is_up(1), "and it comes back");
}

#[test]
fn one_dead_direction_takes_both_ends_down() {
    let mut link = up([timing(50, 3), timing(50, 3)]);
    link.loss = [1000, 0];
    link.run(ms(1000));
    assert_eq!(link.downs(1)[0], Why::Expired, "it hears nothing");
    assert_eq!(link.downs(0)[0], Why::PeerDown(Diagnostic::TIME_EXPIRED), "it is told");
}

#[test]
fn a_restarted_peer_is_noticed_at_once_and_comes_up_under_another_name() {
    let mut link = up([timing(50, 3), timing(50, 3)]);
    let before = link.look(1).local_discriminator;
    link.restart(1);
    link.run(ms(2));
    assert_eq!(link.downs(0), [Why::PeerDown(Diagnostic::NONE)]);
    assert_eq!(link.look(0).failures, Failures { expired: 0, peer_down: 1 });
    link.run(ms(3000));
    assert!(link.is_up(0) && link.is_up(1));
    assert_ne!(link.look(1).local_discriminator, before);
}

#[test]
fn a_planned_end_is_no_failure_even_if_two_of_its_packets_are_lost() {
    for (lost, seed) in [(0, 1), (300, 4)] {
        let mut link = Link::new(seed, [timing(50, 3), timing(50, 3)]);
        link.run(ms(3000));
        link.loss = [0, lost];
        let first = link.sent[1].len();
        link.shut_down(1);
        link.run(ms(1000));
        assert_eq!(link.downs(0), [Why::PeerAdminDown]);
        assert_eq!(link.look(0).failures.total(), 0);
        let last_words = &link.sent[1][first..];
        let says = last_words.iter().filter(|(_, packet)| packet.state == State::AdminDown);
        assert_eq!((says.count(), last_words.len()), (3, 3));
        assert!(link.engines[1].is_quiet());
    }
}

#[test]
fn a_new_interval_takes_force_by_a_poll_and_the_session_stays() {
    let mut link = up([timing(50, 3), timing(50, 3)]);
    // Slower: it may not be so before the peer knows, or the peer would give us up.
    link.change(0, |config| config.timing = timing(400, 3));
    assert_eq!(link.look(0).transmit_every, Some(ms(50)));
    link.run(ms(1000));
    assert_eq!([0, 1].map(|end| link.look(end).transmit_every), [Some(ms(400)); 2]);
    // Faster.
    link.change(0, |config| config.timing = timing(20, 3));
    assert_eq!(link.look(0).detect_after, Some(ms(1200)), "until the peer has agreed");
    link.change(0, |config| config.timing = timing(30, 3));
    link.change(1, |config| config.timing = timing(10, 4));
    link.run(ms(2000));
    assert_eq!([0, 1].map(|end| link.look(end).transmit_every), [Some(ms(30)); 2]);
    assert_eq!(link.look(0).detect_after, Some(ms(120)));
    assert_eq!((link.downs(0), link.downs(1)), (vec![], vec![]));
    let polling = |end: usize| {
        link.sent[end].iter().rev().take(5).any(|(_, packet)| packet.handshake == Handshake::Poll)
    };
    assert!(!polling(0) && !polling(1), "every Poll Sequence has ended");
}

#[test]
fn a_passive_end_waits_until_it_is_spoken_to() {
    let mut link = Link::new(1, [timing(50, 3), timing(50, 3)]);
    link.loss = [1000, 0];
    link.change(1, |config| config.role = Role::Passive);
    link.sent[1].clear();
    link.run(ms(5000));
    assert_eq!(link.sent[1], []);
    link.loss = [0, 0];
    link.run(ms(2000));
    assert!(link.is_up(0) && link.is_up(1));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is lost, an end is Up only as long as it has heard the other within the detection
    /// time, its news alternate, and a whole link brings both up again.
    #[test]
    fn the_state_is_never_wrong(
        seed in 0..10_000u64,
        latency in 0..40u64,
        steps in prop::collection::vec((0..4usize, 0..1000u64, 10..2000u64), 1..20),
    ) {
        let mut link = Link::new(seed, [timing(50, 3), timing(100, 2)]);
        link.latency = ms(latency);
        for (what, loss, time) in steps {
            match what {
                0 => link.loss = [loss, loss],
                1 => link.loss = [loss, 0],
                2 => link.restart(1),
                _ => link.change(0, |config| config.timing = timing(20 + loss / 10, 3)),
            }
            let end = link.now + ms(time);
            while link.step(end) {
                for side in [0, 1] {
                    let session = link.look(side);
                    if session.state == State::Up {
                        let limit = session.detect_after.unwrap();
                        prop_assert!(link.now - link.heard[side].unwrap() <= limit);
                    }
                }
            }
            link.now = end;
        }
        for side in [0, 1] {
            let ups = link.events[side].iter().map(|(_, event)| matches!(event, Event::Up { .. }));
            let ups: Vec<bool> = ups.collect();
            if side == 0 {
                prop_assert!(ups.windows(2).all(|pair| pair[0] != pair[1]));
            }
        }
        link.loss = [0, 0];
        link.run(ms(6000));
        prop_assert!(link.is_up(0) && link.is_up(1));
        let [left, right] = [0, 1].map(|side| link.look(side));
        prop_assert_eq!(left.remote_discriminator, Some(right.local_discriminator));
        prop_assert_eq!(right.remote_discriminator, Some(left.local_discriminator));
    }
}
