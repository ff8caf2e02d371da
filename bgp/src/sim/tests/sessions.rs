use std::time::Duration;

use super::*;
use crate::speaker::{
    Admin, Arrival, Dial, EndedBy, Input, LimitAction, MaxPaths, Password, PeerRestart, Start,
};
use crate::wire::HoldTime;

fn pair() -> Vec<Config> {
    configs(&[65001, 65002], &[(0, 1)])
}

fn peer_of(config: &mut Config) -> &mut PeerConfig {
    config.peers.values_mut().next().unwrap()
}

fn flaps(sim: &Simulation, node: usize) -> u64 {
    sim.node(node).speaker.peers(sim.now())[0].flaps
}

fn last_error(sim: &Simulation, node: usize) -> (EndedBy, Option<(u8, u8)>, String) {
    let peers = sim.node(node).speaker.peers(sim.now());
    let reason = peers[0].last_error.as_ref().expect("there was an error");
    (reason.by, reason.code, reason.text.clone())
}

#[test]
fn a_collision_leaves_one_session() {
    for seed in 0..20 {
        let sim = network(seed, pair());
        assert_eq!(state(&sim, 0, 1), State::Established);
        assert_eq!((flaps(&sim, 0), flaps(&sim, 1)), (0, 0), "seed {seed}");
        let opens = sim.node(0).speaker.peers(sim.now())[0].sent.open;
        assert_eq!(opens, 2, "both dial at once");
        check_adjacent(&sim, 2);
    }
}

#[test]
fn one_side_may_wait_for_the_other() {
    for (first, second) in [(Dial::Passive, Dial::Both), (Dial::Active, Dial::Passive)] {
        let mut configs = pair();
        peer_of(&mut configs[0]).dial = first;
        peer_of(&mut configs[1]).dial = second;
        let sim = network(1, configs);
        assert_eq!(state(&sim, 0, 1), State::Established);
    }
    let mut configs = pair();
    configs.iter_mut().for_each(|config| peer_of(config).dial = Dial::Passive);
    let sim = network(1, configs);
    assert_eq!(state(&sim, 0, 1), State::Active);
}

#[test]
fn a_silent_peer_is_dropped_when_the_hold_time_is_over() {
    let mut configs = pair();
    for config in &mut configs {
        peer_of(config).hold_time = HoldTime::from_secs(9).unwrap();
        peer_of(config).graceful_restart = PeerRestart::Disabled;
    }
    let mut sim = network(1, configs);
    let silent_since = sim.elapsed();
    sim.silence(0, 1);
    sim.run_for(Duration::from_secs(13));
    let down = sim.node(0).changes.last().unwrap();
    assert!(down.0 - silent_since <= Duration::from_secs(9), "{down:?}");
    assert_eq!(last_error(&sim, 0).1, Some((4, 0)));
    assert!(sim.node(0).routes.is_empty());
    sim.heal(0, 1);
    sim.run_until_quiet();
    assert_eq!(state(&sim, 0, 1), State::Established);
    assert_eq!(routes(&sim, 0).len(), 1);
}

#[test]
fn quiet_sessions_live_on_keepalives_or_without_any() {
    for seconds in [0, 3, 90] {
        let mut configs = pair();
        peer_of(&mut configs[0]).hold_time = HoldTime::from_secs(seconds).unwrap();
        let mut sim = network(1, configs);
        sim.run_for(Duration::from_secs(3600));
        assert_eq!(flaps(&sim, 0), 0);
        let sent = sim.node(0).speaker.peers(sim.now())[0].sent.keepalive;
        assert_eq!(sent > 10, seconds != 0, "{sent} keepalives with {seconds} s");
    }
}

#[test]
fn a_broken_connection_is_made_again() {
    let mut sim = network(1, pair());
    for flap in 1..=3 {
        sim.cut(0, 1);
        sim.run_until_quiet();
        assert_eq!(flaps(&sim, 0), flap);
        assert_eq!(state(&sim, 0, 1), State::Established);
        assert_eq!(routes(&sim, 0).len(), 1);
        check_adjacent(&sim, 2);
    }
}

#[test]
fn a_wrong_as_is_refused_with_its_subcode_and_ever_less_often() {
    let mut configs = pair();
    peer_of(&mut configs[0]).remote_as = asn(65009).into();
    let mut sim = network(1, configs);
    assert_eq!(
        last_error(&sim, 0),
        (EndedBy::Us, Some((2, 2)), "the peer is AS 65002, not AS 65009".into())
    );
    let (by, code, text) = last_error(&sim, 1);
    assert_eq!((by, code), (EndedBy::Peer, Some((2, 2))));
    assert_eq!(text, "the peer says: OPEN message error, bad peer AS");
    let opens = |sim: &Simulation| sim.node(0).speaker.peers(sim.now())[0].sent.open;
    let before = opens(&sim);
    sim.run_for(Duration::from_secs(600));
    assert!((15..60).contains(&(opens(&sim) - before)), "{}", opens(&sim) - before);
}

#[test]
fn an_operator_stops_a_session_with_a_text() {
    let mut sim = network(1, pair());
    sim.with(0, |speaker, now| speaker.shut_down(now, "back at noon"));
    sim.run_for(Duration::from_secs(60));
    assert_eq!(state(&sim, 0, 1), State::Idle);
    let mut reasons = sim.node(1).changes.iter().filter_map(|change| change.3.as_ref());
    let text = &reasons.find(|reason| reason.by == EndedBy::Peer).unwrap().text;
    assert!(text.contains("administrative shutdown: \"back at noon\""), "{text}");
    assert!(sim.node(1).routes.is_empty(), "a shutdown is no graceful restart");
}

#[test]
fn a_peer_without_its_password_stays_down() {
    let mut configs = pair();
    peer_of(&mut configs[0]).password = Password::Missing;
    let sim = network(1, configs);
    assert_eq!(state(&sim, 0, 1), State::Idle);
}

#[test]
fn a_peer_that_is_shut_down_here_is_neither_dialled_nor_accepted() {
    let mut configs = pair();
    peer_of(&mut configs[0]).admin = Admin::Down;
    let mut sim = network(1, configs.clone());
    assert_eq!(state(&sim, 0, 1), State::Idle);
    peer_of(&mut configs[0]).admin = Admin::Up;
    sim.with(0, |speaker, now| speaker.configure(now, configs[0].clone()));
    sim.run_until_quiet();
    assert_eq!(state(&sim, 0, 1), State::Established);
}

#[test]
fn bytes_that_wait_in_the_socket_keep_the_peer_alive() {
    use crate::speaker::Input;
    let mut sim = network(1, pair());
    let conn = sim.node(0).speaker.connection(&name(1)).unwrap();
    sim.silence(0, 1);
    for _ in 0..10 {
        sim.run_for(Duration::from_secs(60));
        sim.with(0, |speaker, now| speaker.handle(now, Input::Waiting { conn }));
    }
    assert_eq!(state(&sim, 0, 1), State::Established);
}

/// RFC 9687: its keepalives come, but it takes nothing.
#[test]
fn a_peer_that_takes_nothing_is_dropped_in_the_end() {
    takes_nothing(90);
}

/// With a hold time of zero nothing else would ever end such a session.
#[test]
fn with_delay_open_the_peer_speaks_first_or_waits_in_vain() {
    let delay = Some(Duration::from_secs(5));
    for (delays, expected) in
        [([None, None], 0), ([delay, None], 0), ([None, delay], 0), ([delay, delay], 5)]
    {
        let mut configs = pair();
        for (config, delay) in configs.iter_mut().zip(delays) {
            peer_of(config).delay_open = delay;
        }
        let mut sim = Simulation::new(1);
        for (number, config) in configs.into_iter().enumerate() {
            sim.add(address(number), config);
        }
        let is_up =
            |sim: &Simulation| sim.node(0).speaker.peers(sim.now())[0].state == State::Established;
        let began = sim.now();
        while !is_up(&sim) {
            sim.run_for(Duration::from_millis(100));
            assert!(sim.now() - began < Duration::from_secs(60), "{delays:?}");
        }
        assert_eq!((sim.now() - began).as_secs(), expected, "{delays:?}");
    }
}

#[test]
fn a_connection_that_waits_for_the_peer_to_speak_ends_as_any_other() {
    use crate::speaker::{Input, Output, Refused, Speaker};

    let mut config = pair().remove(0);
    peer_of(&mut config).delay_open = Some(Duration::from_secs(5));
    peer_of(&mut config).dial = Dial::Passive;
    let now = network(1, vec![]).now();
    let mut speaker = Speaker::new(config, 1, now);
    let accept = |speaker: &mut Speaker, port| -> Result<_, Refused> {
        let ends = ((address(0), 179).into(), (address(1), port).into());
        speaker.accept(now, Arrival::new(ends.0, ends.1))
    };
    let closed = |speaker: &mut Speaker| {
        let outputs = std::iter::from_fn(|| speaker.poll_output());
        outputs
            .filter_map(
                |output| if let Output::Close { conn } = output { Some(conn) } else { None },
            )
            .collect::<Vec<_>>()
    };
    let first = accept(&mut speaker, 4000).unwrap();
    assert_eq!(speaker.poll_transmit(now, first), None, "nothing is said yet");
    // The peer has dialled again: it does not care for the first any more.
    let second = accept(&mut speaker, 4001).unwrap();
    assert_eq!(closed(&mut speaker), [first]);
    // Bytes of the first, on their way still, are nobody's.
    speaker.handle(now, Input::Received { conn: first, bytes: &[0; 19] });
    assert_eq!(speaker.poll_transmit(now, second), None);
    speaker.handle(now, Input::Closed { conn: second, error: None });
    assert_eq!(closed(&mut speaker), []);
    // Garbage is answered as ever.
    let third = accept(&mut speaker, 4002).unwrap();
    speaker.handle(now, Input::Received { conn: third, bytes: &[0; 19] });
    let said: Vec<u8> =
        std::iter::from_fn(|| speaker.poll_transmit(now, third)).flatten().collect();
    assert!(said.len() > 40 && said[18] == 1, "an OPEN, then a NOTIFICATION: {said:?}");
    assert_eq!(closed(&mut speaker), [third]);
    assert!(accept(&mut speaker, 4003).is_err(), "it has to wait after an error");
}

/// Names change nothing, so a change of who may know them waits for the next session.
#[test]
fn peers_know_each_other_by_name_where_they_may() {
    use crate::speaker::{Disclosure, Introduction};

    let mut configs = pair();
    for (number, config) in configs.iter_mut().enumerate() {
        let hostname = Some(format!("node-{number}.example.com").into());
        config.introduction = Introduction { hostname, software: Some("ocicat/1".into()) };
    }
    peer_of(&mut configs[1]).introduce.software = Disclosure::Told;
    let mut silent = configs[1].clone();
    peer_of(&mut silent).introduce.hostname = Disclosure::Withheld;
    let mut sim = network(1, configs);
    let heard = |sim: &Simulation, node: usize| {
        let peer = sim.node(node).speaker.peers(sim.now()).remove(0);
        let who = peer.negotiated.expect("a session stands").who;
        (who.hostname.as_deref().map(str::to_owned), who.software, peer.flaps)
    };
    let name = |text: &str| Some(text.to_owned());
    assert_eq!(heard(&sim, 1), (name("node-0.example.com"), None, 0));
    assert_eq!(heard(&sim, 0), (name("node-1.example.com"), Some("ocicat/1".into()), 0));
    sim.with(1, |speaker, now| speaker.configure(now, silent));
    sim.run_until_quiet();
    assert_eq!(heard(&sim, 0), (name("node-1.example.com"), Some("ocicat/1".into()), 0));
    let peer = super::name(0);
    sim.with(1, |speaker, now| speaker.reset(now, &peer));
    sim.run_until_quiet();
    assert_eq!(heard(&sim, 0), (None, Some("ocicat/1".into()), 1));
}

#[test]
fn a_peer_without_keepalives_that_takes_nothing_is_dropped_in_the_end() {
    takes_nothing(0);
}

fn takes_nothing(hold_time: u16) {
    use crate::session::negotiate::our_open;
    use crate::speaker::{Input, Speaker};
    use crate::wire::capability::{Forwarding, RestartState};

    let mut config = pair().remove(0);
    peer_of(&mut config).hold_time = HoldTime::from_secs(hold_time).unwrap();
    let start = network(1, vec![]).now();
    let mut speaker = Speaker::new(config.clone(), 1, start);
    let conn = speaker
        .accept(start, Arrival::new((address(0), 179).into(), (address(1), 4000).into()))
        .unwrap();
    let theirs =
        crate::session::collision::Identity { router_id: Ipv4Addr::new(10, 0, 0, 2), asn: 65002 };
    let mut bytes = Vec::new();
    let peer = &config.peers[&name(1)];
    let kind = crate::wire::PeerKind::External;
    our_open(peer, theirs, kind, (RestartState::Running, Forwarding::Lost)).emit(&mut bytes);
    crate::wire::keepalive(&mut bytes);
    speaker.handle(start, Input::Received { conn, bytes: &bytes });
    while speaker.poll_transmit(start, conn).is_some() {}
    speaker.originate(start, own(5), &Originated::default());

    let mut keepalive = Vec::new();
    crate::wire::keepalive(&mut keepalive);
    let peer_at = |speaker: &Speaker, now| speaker.peers(now).remove(0);
    for seconds in (0..470).step_by(10) {
        let now = start + Duration::from_secs(seconds);
        speaker.handle(now, Input::Received { conn, bytes: &keepalive });
        speaker.handle_timeout(now);
        assert_eq!(peer_at(&speaker, now).state, State::Established, "{seconds}");
    }
    let end = start + Duration::from_secs(520);
    speaker.handle(end, Input::Received { conn, bytes: &keepalive });
    speaker.handle_timeout(end);
    assert_eq!(peer_at(&speaker, end).last_error.unwrap().code, Some((8, 0)));
}

#[test]
fn a_peer_that_sends_more_than_it_may_has_to_wait() {
    let mut configs = pair();
    configs[1].originated.insert(own(70), Originated::default());
    peer_of(&mut configs[0]).max_paths = Some(MaxPaths::from(asn(2)));
    let mut sim = network(1, configs.clone());
    assert_eq!(routes(&sim, 0).len(), 2);
    sim.with(1, |speaker, now| speaker.originate(now, own(71), &Originated::default()));
    sim.run_for(Duration::from_millis(10));
    let (by, code, text) = last_error(&sim, 0);
    assert_eq!((by, code), (EndedBy::Us, Some((6, 1))));
    assert_eq!(text, "the peer has sent more than 2 ipv4-unicast paths");
    assert!(routes(&sim, 0).is_empty());
    sim.with(1, |speaker, now| speaker.withdraw(now, own(71)));
    sim.run_for(Duration::from_secs(59));
    assert_eq!(state(&sim, 0, 1), State::Idle, "it waits a minute");
    sim.run_for(Duration::from_secs(15));
    assert_eq!(routes(&sim, 0).len(), 2);
}

/// Three paths where two are allowed.
fn flood(then: LimitAction) -> (Vec<Config>, Simulation) {
    let mut configs = pair();
    for number in [70, 71] {
        configs[1].originated.insert(own(number), Originated::default());
    }
    peer_of(&mut configs[0]).max_paths = Some(MaxPaths { limit: asn(2), then });
    let sim = network(1, configs.clone());
    (configs, sim)
}

#[test]
fn a_limit_that_only_warns_is_a_fault_of_the_peer_and_no_more() {
    let (_, sim) = flood(LimitAction::Warn);
    assert_eq!((routes(&sim, 0).len(), flaps(&sim, 0)), (3, 0));
    let peer = &sim.node(0).speaker.peers(sim.now())[0];
    assert_eq!(peer.faults, 1);
    assert_eq!(peer.last_fault.as_deref(), Some("more than 2 ipv4-unicast paths"));
}

#[test]
fn a_peer_that_told_too_much_stays_down_until_somebody_looks() {
    let (mut configs, mut sim) = flood(LimitAction::StayDown);
    sim.run_for(Duration::from_secs(3600));
    assert_eq!((state(&sim, 0, 1), flaps(&sim, 0)), (State::Idle, 1));
    sim.with(0, |speaker, now| speaker.reset(now, &name(1)));
    sim.run_for(Duration::from_secs(60));
    assert_eq!((state(&sim, 0, 1), flaps(&sim, 0)), (State::Idle, 2), "too much again");
    // A higher limit is a reason to try again; a lower one takes effect at once.
    let max = |limit| Some(MaxPaths { limit: asn(limit), then: LimitAction::StayDown });
    peer_of(&mut configs[0]).max_paths = max(3);
    sim.with(0, |speaker, now| speaker.configure(now, configs[0].clone()));
    sim.run_for(Duration::from_secs(60));
    assert_eq!((state(&sim, 0, 1), routes(&sim, 0).len()), (State::Established, 3));
    peer_of(&mut configs[0]).max_paths = max(1);
    sim.with(0, |speaker, now| speaker.configure(now, configs[0].clone()));
    assert_eq!((state(&sim, 0, 1), flaps(&sim, 0)), (State::Idle, 3));
}

/// A peer with a session makes another connection, says something on it or not, and then tells too much.
#[test]
fn a_second_connection_is_no_way_round_the_wait() {
    for garbage in [&[0; 19][..], &[]] {
        let mut configs = pair();
        let max = MaxPaths { limit: asn(2), then: LimitAction::StayDown };
        peer_of(&mut configs[0]).max_paths = Some(max);
        let mut sim = network(1, configs);
        sim.with(0, |speaker, now| {
            let arrival = Arrival::new((address(0), 179).into(), (address(1), 5000).into());
            let conn = speaker.accept(now, arrival).unwrap();
            speaker.handle(now, Input::Received { conn, bytes: garbage });
        });
        assert_eq!((state(&sim, 0, 1), flaps(&sim, 0)), (State::Established, 0));
        for number in [70, 71] {
            sim.with(1, |speaker, now| speaker.originate(now, own(number), &Originated::default()));
        }
        sim.run_for(Duration::from_millis(10));
        assert_eq!((state(&sim, 0, 1), flaps(&sim, 0)), (State::Idle, 1));
        sim.run_for(Duration::from_secs(3600));
        assert_eq!((state(&sim, 0, 1), flaps(&sim, 0)), (State::Idle, 1));
    }
}

/// RFC 8538 §5.1: who is sent away for a while is told so in a hard reset, and keeps none of our routes.
#[test]
fn a_peer_that_told_too_much_forgets_what_it_was_told() {
    let (_, mut sim) = flood(LimitAction::StayDown);
    sim.run_for(Duration::from_secs(1));
    assert!(routes(&sim, 1).is_empty());
    let (by, code, text) = last_error(&sim, 1);
    assert_eq!((by, code), (EndedBy::Peer, Some((6, 9))), "{text}");
    assert!(text.contains("maximum number of prefixes"), "{text}");
}

/// What a peer kept from before its restart does not count beside what it tells now.
#[test]
fn a_restart_with_other_prefixes_is_within_the_limit() {
    let mut configs = pair();
    peer_of(&mut configs[0]).max_paths = Some(MaxPaths::from(asn(3)));
    let numbers = |config: &mut Config, numbers: std::ops::Range<usize>| {
        config.originated = numbers.map(|n| (own(n), Originated::default())).collect();
    };
    numbers(&mut configs[1], 70..73);
    let mut sim = network(1, configs.clone());
    assert_eq!(routes(&sim, 0).len(), 3);
    numbers(&mut configs[1], 80..83);
    sim.restart(1, configs[1].clone(), Start::Restarting);
    sim.run_until_quiet();
    assert_eq!((state(&sim, 0, 1), routes(&sim, 0).len()), (State::Established, 3));
    assert!(routes(&sim, 0).contains_key(&own(82).to_string()));
    // Once they are gone the limit is what it was.
    sim.with(1, |speaker, now| speaker.originate(now, own(90), &Originated::default()));
    sim.run_for(Duration::from_millis(10));
    assert_eq!(last_error(&sim, 0).1, Some((6, 1)));
}

#[test]
fn a_second_open_on_a_session_ends_it_with_a_reason() {
    let mut sim = network(1, pair());
    let conn = sim.node(0).speaker.connection(&name(1)).unwrap();
    // A message of type 1, an OPEN: version, AS, hold time, identifier, no parameters.
    let head = [&[0xff; 16][..], &[0, 29, 1]].concat();
    let open = [&head[..], &[4, 0xfd, 0xea, 0, 90, 10, 0, 0, 2, 0]].concat();
    sim.with(0, |speaker, now| speaker.handle(now, Input::Received { conn, bytes: &open }));
    let (by, code, text) = last_error(&sim, 0);
    assert_eq!((by, code), (EndedBy::Us, Some((5, 3))));
    assert!(text.contains("does not fit the state Established"), "{text}");
    let changes = &sim.node(0).changes;
    let said = changes.iter().rev().find_map(|(_, _, state, reason)| {
        (*state < State::Established).then_some(reason.as_ref()).flatten()
    });
    assert_eq!(said.map(|reason| &reason.text), Some(&text));
}
