//! An engine driven by arbitrary datagrams, for the fuzz target and for property tests.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::num::{NonZeroU8, NonZeroU32};
use std::time::{Duration, Instant};

use super::config::{Reach, Role, SessionConfig};
use super::engine::{Datagram, Engine, Output, Port};
use super::packet::{Diagnostic, Discriminator, Fate, Handshake, PACKET_LEN, Packet, State};
use super::snapshot::Event;

const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));
const OWN: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));

/// Plays a script against an engine with one session on the link and one behind routers: each step
/// is an opcode, a length and so many octets of argument. A step can ask for a packet that names
/// our session, so that a random script gets as far as Up.
///
/// # Panics
/// When the engine does, when what it sends does not parse, or when its news do not alternate.
#[expect(clippy::disallowed_methods, reason = "an epoch; only differences from it matter")]
pub fn drive(script: &[u8]) {
    let mut player = Player::new(Instant::now());
    let mut rest = script;
    while let [opcode, length, after @ ..] = rest {
        let (argument, after) = after.split_at(usize::from(*length).min(after.len()));
        rest = after;
        player.play(*opcode, argument);
    }
    player.now += Duration::from_secs(100_000);
    player.engine.handle_timeout(player.now);
    player.engine.shut_down(player.now);
    for _ in 0..10 {
        player.now += Duration::from_secs(1);
        player.engine.handle_timeout(player.now);
    }
    player.attend();
    assert!(player.engine.is_quiet(), "a session outlives the shutdown");
}

struct Player {
    engine: Engine,
    now: Instant,
    ours: Vec<Discriminator>,
    up: BTreeMap<String, bool>,
}

impl Player {
    fn new(now: Instant) -> Self {
        let mut player =
            Self { engine: Engine::new(7), now, ours: Vec::new(), up: BTreeMap::new() };
        player.configure(0);
        player
    }

    fn configure(&mut self, variant: u8) {
        let mut near = SessionConfig::new(PEER);
        let mut far = SessionConfig::new(PEER);
        far.reach = Reach::Multihop { min_ttl: 250 };
        near.timing.multiplier = NonZeroU8::new(variant | 1).expect("odd numbers are not zero");
        near.role = if variant & 2 == 0 { Role::Active } else { Role::Passive };
        far.local = (variant & 4 != 0).then_some(OWN);
        let mut wanted = BTreeMap::from([("near".into(), near)]);
        if variant & 8 == 0 {
            wanted.insert("far".into(), far);
        }
        self.engine.configure(self.now, wanted);
        self.attend();
    }

    fn play(&mut self, opcode: u8, argument: &[u8]) {
        let head = argument.first().copied().unwrap_or_default();
        match opcode % 4 {
            0 => {
                self.now += Duration::from_millis(u64::from(head) * 10);
                self.engine.handle_timeout(self.now);
            }
            1 => self.receive(opcode, argument),
            2 => self.receive(opcode, &self.fitting(argument).emit()),
            _ if opcode > 200 => self.configure(head),
            _ => self.receive(opcode, &self.fitting(argument).emit()),
        }
        self.attend();
    }

    fn receive(&mut self, opcode: u8, bytes: &[u8]) {
        let port = if opcode & 16 == 0 { Port::SingleHop } else { Port::Multihop };
        let ttl = if opcode & 32 == 0 { 255 } else { 251 };
        let (source, destination) = if opcode & 64 == 0 { (PEER, OWN) } else { (OWN, PEER) };
        let datagram = Datagram { source, destination, interface: "eth0", ttl, port, bytes };
        self.engine.handle(self.now, &datagram);
    }

    /// A packet that a peer could send.
    fn fitting(&self, argument: &[u8]) -> Packet {
        let at = |index: usize| argument.get(index).copied().unwrap_or_default();
        let all = [State::AdminDown, State::Down, State::Init, State::Up];
        let state = all[usize::from(at(0) & 3)];
        let named = self.ours.get(usize::from(at(1)) % self.ours.len().max(1)).copied();
        let handshakes = [Handshake::None, Handshake::Poll, Handshake::Final];
        Packet {
            diagnostic: Diagnostic::NONE,
            state,
            handshake: handshakes[usize::from(at(2)) % 3],
            fate: if at(2) & 4 == 0 { Fate::Shared } else { Fate::Independent },
            demand: at(2) & 8 != 0,
            multiplier: NonZeroU8::new(at(3)).unwrap_or(NonZeroU8::MAX),
            my_discriminator: Discriminator(NonZeroU32::MIN),
            your_discriminator: named,
            desired_min_tx: u32::from(at(4)) << (at(5) % 25),
            required_min_rx: u32::from(at(6)) << (at(7) % 25),
            required_min_echo_rx: 0,
        }
    }

    fn attend(&mut self) {
        while let Some(output) = self.engine.poll_output() {
            match output {
                Output::Opened { session, .. } => self.ours.push(session),
                Output::Closed { session } => self.ours.retain(|id| *id != session),
                Output::Transmit { session, bytes } => self.check_sent(session, &bytes),
                Output::Event(Event::Up { session }) => {
                    let before = self.up.insert(session.to_string(), true);
                    assert_ne!(before, Some(true), "{session} came up twice");
                }
                Output::Event(Event::Down { session, .. }) => {
                    let before = self.up.insert(session.to_string(), false);
                    assert_eq!(before, Some(true), "{session} went down without having been up");
                }
            }
        }
    }

    fn check_sent(&self, session: Discriminator, bytes: &[u8; PACKET_LEN]) {
        let packet = Packet::parse(bytes).expect("what we send can be used");
        assert_eq!(packet.my_discriminator, session);
        assert!(self.ours.contains(&session), "sent for a session that is not open");
        // RFC 5880 §6.8.3.
        assert!(packet.state == State::Up || packet.desired_min_tx >= 1_000_000);
    }
}
