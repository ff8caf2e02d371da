//! One engine and datagrams made by hand: which session they belong to, and which are refused.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::num::{NonZeroU8, NonZeroU32};
use std::time::Instant;

use super::link::ms;
use crate::bfd::{
    Datagram, Diagnostic, Discriminator, Engine, Event, Fate, Handshake, Output, Packet, Port,
    Reach, SessionConfig, SessionSnapshot, State, Strays, Why,
};

const THEIRS: Discriminator = Discriminator(NonZeroU32::MIN);

fn packet(state: State, yours: Option<Discriminator>) -> Packet {
    Packet {
        diagnostic: Diagnostic::NONE,
        state,
        handshake: Handshake::None,
        fate: Fate::Shared,
        demand: false,
        multiplier: NonZeroU8::new(3).unwrap(),
        my_discriminator: THEIRS,
        your_discriminator: yours,
        desired_min_tx: 50_000,
        required_min_rx: 50_000,
        required_min_echo_rx: 0,
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

struct Bench {
    engine: Engine,
    now: Instant,
}

impl Bench {
    #[expect(clippy::disallowed_methods, reason = "an epoch; only differences from it matter")]
    fn new(sessions: &[(&str, SessionConfig)]) -> Self {
        let mut bench = Self { engine: Engine::new(3), now: Instant::now() };
        let wanted: BTreeMap<_, _> =
            sessions.iter().map(|(name, config)| ((*name).into(), config.clone())).collect();
        bench.engine.configure(bench.now, wanted);
        bench
    }

    fn hear(&mut self, packet: Packet, change: impl FnOnce(&mut Datagram<'_>)) {
        let bytes = packet.emit();
        let mut datagram = Datagram {
            source: ip("10.0.0.2"),
            destination: ip("10.0.0.1"),
            interface: "eth0",
            ttl: 255,
            port: Port::SingleHop,
            bytes: &bytes,
        };
        change(&mut datagram);
        self.engine.handle(self.now, &datagram);
    }

    fn look(&self, name: &str) -> SessionSnapshot {
        let all = self.engine.snapshot(self.now);
        all.into_iter().find(|session| session.name.as_str() == name).unwrap()
    }

    fn state(&self, name: &str) -> State {
        self.look(name).state
    }

    fn outputs(&mut self) -> Vec<Output> {
        std::iter::from_fn(|| self.engine.poll_output()).collect()
    }

    fn sent(&mut self) -> Vec<Packet> {
        let outputs = self.outputs().into_iter();
        let packets = outputs.filter_map(|output| match output {
            Output::Transmit { bytes, .. } => Some(Packet::parse(&bytes).unwrap()),
            Output::Opened { .. } | Output::Closed { .. } | Output::Event(_) => None,
        });
        packets.collect()
    }
}

fn near() -> SessionConfig {
    SessionConfig::new(ip("10.0.0.2"))
}

#[test]
fn a_datagram_that_has_crossed_a_router_is_not_of_a_neighbour() {
    let mut bench = Bench::new(&[("near", near())]);
    bench.hear(packet(State::Down, None), |datagram| datagram.ttl = 254);
    assert_eq!((bench.state("near"), bench.look("near").discarded), (State::Down, 1));
    bench.hear(packet(State::Down, None), |_| ());
    assert_eq!(bench.state("near"), State::Init);
}

#[test]
fn a_distant_peer_may_be_as_far_as_is_configured() {
    let far = SessionConfig { reach: Reach::Multihop { min_ttl: 250 }, ..near() };
    let mut bench = Bench::new(&[("far", far)]);
    bench.hear(packet(State::Down, None), |datagram| datagram.port = Port::SingleHop);
    assert_eq!(bench.engine.strays(), Strays { malformed: 0, unknown: 1 });
    for (ttl, state) in [(249, State::Down), (250, State::Init)] {
        bench.hear(packet(State::Down, None), |datagram| {
            (datagram.ttl, datagram.port) = (ttl, Port::Multihop);
        });
        assert_eq!(bench.state("far"), state);
    }
}

#[test]
fn the_same_link_local_peer_on_two_links_is_two_peers() {
    let on = |interface: &str| SessionConfig {
        peer: ip("fe80::2"),
        interface: Some(interface.into()),
        ..near()
    };
    let mut bench = Bench::new(&[("left", on("eth0")), ("right", on("eth1"))]);
    bench.hear(packet(State::Down, None), |datagram| {
        (datagram.source, datagram.interface) = (ip("fe80::2"), "eth1");
    });
    assert_eq!((bench.state("left"), bench.state("right")), (State::Down, State::Init));
    // Nor does it help to know the name of the other.
    let name = Some(bench.look("left").local_discriminator);
    bench.hear(packet(State::Down, name), |datagram| {
        (datagram.source, datagram.interface) = (ip("fe80::2"), "eth1");
    });
    assert_eq!((bench.state("left"), bench.look("left").discarded), (State::Down, 1));
}

#[test]
fn a_stranger_who_knows_our_discriminator_is_still_a_stranger() {
    let mut bench = Bench::new(&[("near", near())]);
    let ours = Some(bench.look("near").local_discriminator);
    bench.hear(packet(State::Init, ours), |datagram| datagram.source = ip("10.0.0.9"));
    assert_eq!((bench.state("near"), bench.look("near").discarded), (State::Down, 1));
    let wrong = Discriminator(NonZeroU32::MAX);
    bench.hear(packet(State::Init, Some(wrong)), |_| ());
    assert_eq!(bench.engine.strays().unknown, 1);
    bench.hear(packet(State::Init, ours), |_| ());
    assert_eq!(bench.state("near"), State::Up);
}

#[test]
fn a_poll_is_answered_at_once_and_by_nothing_but_a_final() {
    let mut bench = Bench::new(&[("near", near())]);
    let ours = Some(bench.look("near").local_discriminator);
    bench.hear(packet(State::Init, ours), |_| ());
    bench.engine.handle_timeout(bench.now);
    bench.outputs();
    bench.hear(Packet { handshake: Handshake::Poll, ..packet(State::Up, ours) }, |_| ());
    let sent = bench.sent();
    let handshakes: Vec<_> = sent.iter().map(|packet| packet.handshake).collect();
    assert_eq!(handshakes, [Handshake::Final]);
    assert_eq!(sent[0].your_discriminator, Some(THEIRS));
}

#[test]
fn a_peer_that_wants_no_packets_gets_none_and_may_change_its_mind() {
    let mut bench = Bench::new(&[("near", near())]);
    let ours = Some(bench.look("near").local_discriminator);
    bench.hear(packet(State::Init, ours), |_| ());
    bench.hear(Packet { required_min_rx: 0, ..packet(State::Up, ours) }, |_| ());
    bench.engine.handle_timeout(bench.now);
    bench.outputs();
    bench.now += ms(120);
    bench.engine.handle_timeout(bench.now);
    assert_eq!((bench.sent(), bench.look("near").transmit_every), (vec![], None));
    bench.hear(packet(State::Up, ours), |_| ());
    bench.now += ms(300);
    bench.engine.handle_timeout(bench.now);
    assert!(!bench.sent().is_empty());
}

#[test]
fn a_peer_in_demand_mode_is_left_alone_once_both_are_up() {
    let mut bench = Bench::new(&[("near", near())]);
    let ours = Some(bench.look("near").local_discriminator);
    bench.hear(packet(State::Init, ours), |_| ());
    // The Poll Sequence of the way up has to end first.
    bench.hear(
        Packet { handshake: Handshake::Final, demand: true, ..packet(State::Up, ours) },
        |_| (),
    );
    assert_eq!(bench.look("near").transmit_every, None);
}

#[test]
fn the_peers_c_bit_and_last_word_come_with_the_news() {
    let mut bench = Bench::new(&[("near", near())]);
    let ours = Some(bench.look("near").local_discriminator);
    bench.hear(packet(State::Init, ours), |_| ());
    bench.hear(Packet { fate: Fate::Independent, ..packet(State::Up, ours) }, |_| ());
    let heard = bench.now;
    bench.now += ms(2000);
    bench.engine.handle_timeout(bench.now);
    let down = bench.outputs().into_iter().find_map(|output| match output {
        Output::Event(event @ Event::Down { .. }) => Some(event),
        Output::Event(Event::Up { .. })
        | Output::Opened { .. }
        | Output::Closed { .. }
        | Output::Transmit { .. } => None,
    });
    let expected = Event::Down {
        session: "near".into(),
        why: Why::Expired,
        fate: Fate::Independent,
        last_heard: heard,
    };
    assert_eq!(down, Some(expected));
}

#[test]
fn another_address_is_another_session() {
    let mut bench = Bench::new(&[("near", near())]);
    let before = bench.look("near").local_discriminator;
    bench.outputs();
    let moved = SessionConfig::new(ip("10.0.0.3"));
    bench.engine.configure(bench.now, BTreeMap::from([("near".into(), moved)]));
    assert_ne!(bench.look("near").local_discriminator, before);
    let outputs = bench.outputs();
    assert!(matches!(outputs[0], Output::Closed { session } if session == before), "{outputs:?}");
    assert!(matches!(outputs[1], Output::Opened { .. }), "{outputs:?}");
}
