//! Two engines and the link between them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::bfd::{
    Datagram, Engine, Event, Interval, Output, PACKET_LEN, Packet, Port, SessionConfig,
    SessionSnapshot, Timing, Why,
};
use crate::session::timer::Jitter;

/// A test's view of time and chance: two engines, 0 and 1, and what is under way between them.
pub(super) struct Link {
    pub(super) engines: [Engine; 2],
    configs: [SessionConfig; 2],
    pub(super) now: Instant,
    under_way: BTreeMap<(Instant, u64), (usize, [u8; PACKET_LEN])>,
    sequence: u64,
    chance: Jitter,
    seed: u64,
    /// Lost packets of a thousand, by sender.
    pub(super) loss: [u64; 2],
    pub(super) latency: Duration,
    /// What each told, with the time.
    pub(super) events: [Vec<(Instant, Event)>; 2],
    /// When each sent, and what.
    pub(super) sent: [Vec<(Instant, Packet)>; 2],
    /// When the last packet reached each.
    pub(super) heard: [Option<Instant>; 2],
}

pub(super) const NAME: &str = "peer";

fn address(end: usize) -> IpAddr {
    [10, 0, 0, if end == 0 { 1 } else { 2 }].into()
}

pub(super) fn timing(millis: u64, multiplier: u8) -> Timing {
    let interval = Interval::try_from(Duration::from_millis(millis)).unwrap();
    Timing::symmetric(interval, multiplier.try_into().unwrap())
}

pub(super) fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

impl Link {
    #[expect(clippy::disallowed_methods, reason = "an epoch; only differences from it matter")]
    pub(super) fn new(seed: u64, timings: [Timing; 2]) -> Self {
        let config = |end: usize| {
            let mut config = SessionConfig::new(address(1 - end));
            config.local = Some(address(end));
            config.timing = timings[end];
            config
        };
        let mut link = Self {
            engines: [Engine::new(seed), Engine::new(seed + 1)],
            configs: [config(0), config(1)],
            now: Instant::now(),
            under_way: BTreeMap::new(),
            sequence: 0,
            chance: Jitter::new(seed),
            seed,
            loss: [0; 2],
            latency: ms(1),
            events: Default::default(),
            sent: Default::default(),
            heard: [None; 2],
        };
        link.configure(0);
        link.configure(1);
        link
    }

    pub(super) fn change(&mut self, end: usize, change: impl FnOnce(&mut SessionConfig)) {
        change(&mut self.configs[end]);
        self.configure(end);
    }

    fn configure(&mut self, end: usize) {
        let wanted = BTreeMap::from([(NAME.into(), self.configs[end].clone())]);
        self.engines[end].configure(self.now, wanted);
        self.attend(end);
    }

    /// A process that is killed and comes back at once.
    pub(super) fn restart(&mut self, end: usize) {
        self.seed += 100;
        self.engines[end] = Engine::new(self.seed);
        self.configure(end);
    }

    pub(super) fn shut_down(&mut self, end: usize) {
        self.engines[end].shut_down(self.now);
        self.attend(end);
    }

    pub(super) fn look(&self, end: usize) -> SessionSnapshot {
        self.engines[end].snapshot(self.now).pop().unwrap()
    }

    pub(super) fn is_up(&self, end: usize) -> bool {
        let sessions = self.engines[end].snapshot(self.now);
        sessions.iter().any(|session| session.state == crate::bfd::State::Up)
    }

    /// Why a session went down, in order.
    pub(super) fn downs(&self, end: usize) -> Vec<Why> {
        let downs = self.events[end].iter().filter_map(|(_, event)| match event {
            Event::Down { why, .. } => Some(*why),
            Event::Up { .. } => None,
        });
        downs.collect()
    }

    pub(super) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.step(end) {}
        self.now = end;
    }

    pub(super) fn step(&mut self, end: Instant) -> bool {
        let delivery = self.under_way.keys().next().map(|(at, _)| *at);
        let timeouts = [0, 1].map(|end| self.engines[end].poll_timeout());
        let Some(next) = delivery.into_iter().chain(timeouts.into_iter().flatten()).min() else {
            return false;
        };
        if next > end {
            return false;
        }
        self.now = self.now.max(next);
        if delivery.is_some_and(|at| at <= self.now) {
            let (_, (to, bytes)) = self.under_way.pop_first().unwrap();
            self.deliver(to, &bytes);
            self.attend(to);
        } else {
            for end in [0, 1] {
                self.engines[end].handle_timeout(self.now);
                self.attend(end);
            }
        }
        true
    }

    fn deliver(&mut self, to: usize, bytes: &[u8]) {
        self.heard[to] = Some(self.now);
        let datagram = Datagram {
            source: address(1 - to),
            destination: address(to),
            interface: "eth0",
            ttl: 255,
            port: Port::SingleHop,
            bytes,
        };
        self.engines[to].handle(self.now, &datagram);
    }

    fn attend(&mut self, end: usize) {
        while let Some(output) = self.engines[end].poll_output() {
            match output {
                Output::Transmit { bytes, .. } => {
                    self.sent[end].push((self.now, Packet::parse(&bytes).unwrap()));
                    if self.chance.next() % 1000 >= self.loss[end] {
                        self.sequence += 1;
                        let at = self.now + self.latency;
                        self.under_way.insert((at, self.sequence), (1 - end, bytes));
                    }
                }
                Output::Event(event) => self.events[end].push((self.now, event)),
                Output::Opened { .. } | Output::Closed { .. } => {}
            }
        }
    }
}
