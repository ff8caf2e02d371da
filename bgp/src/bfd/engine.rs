//! The boundary of the core: datagrams, configuration and time in; datagrams, news and the next
//! deadline out. It finds the session of a datagram and keeps the deadlines of all.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Instant;

use super::config::{Reach, SessionConfig, SessionName};
use super::packet::{Discriminator, PACKET_LEN, Packet};
use super::session::{Action, Session};
use super::snapshot::{Event, SessionSnapshot};
use crate::session::timer::Jitter;

/// A datagram that came to one of the two ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// Its source address.
    pub source: IpAddr,
    /// Its destination address.
    pub destination: IpAddr,
    /// The interface that it came by.
    pub interface: &'a str,
    /// Its TTL or hop limit.
    pub ttl: u8,
    /// The port that it came to.
    pub port: Port,
    /// What it carries.
    pub bytes: &'a [u8],
}

/// A well-known port of BFD.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Port {
    /// 3784 (RFC 5881).
    SingleHop,
    /// 4784 (RFC 5883).
    Multihop,
}

impl Port {
    /// The port that serves a session.
    pub const fn of(reach: Reach) -> Self {
        match reach {
            Reach::SingleHop => Self::SingleHop,
            Reach::Multihop { .. } => Self::Multihop,
        }
    }
}

/// What the edge shall do, or may want to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// A session begins: what is sent for it leaves from a port of its own.
    Opened {
        /// Its name from now on; never used twice.
        session: Discriminator,
        /// Where its packets go.
        config: SessionConfig,
    },
    /// Send.
    Transmit {
        /// For which session.
        session: Discriminator,
        /// The packet.
        bytes: [u8; PACKET_LEN],
    },
    /// A session is over; nothing more will be sent for it.
    Closed {
        /// Which.
        session: Discriminator,
    },
    /// News for the clients.
    Event(Event),
}

/// Datagrams that belong to no session, by what was wrong with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Strays {
    /// They are no BFD Control packets that we can use.
    pub malformed: u64,
    /// They name a session, or come from an address, that we do not know.
    pub unknown: u64,
}

/// All sessions of a program, without sockets and clock.
#[derive(Debug)]
pub struct Engine {
    sessions: BTreeMap<Discriminator, Session>,
    /// Those that are configured; the others are saying their last words.
    by_name: BTreeMap<SessionName, Discriminator>,
    by_peer: BTreeSet<(IpAddr, Discriminator)>,
    /// When to look at which session. An entry that is not its session's `wake` is out of date.
    deadlines: BinaryHeap<Reverse<(Instant, Discriminator)>>,
    outputs: VecDeque<Output>,
    jitter: Jitter,
    strays: Strays,
}

impl Engine {
    /// An engine without sessions. The seed decides discriminators and jitter; discriminators are
    /// what keeps strangers out, so it should be hard to guess.
    pub fn new(seed: u64) -> Self {
        Self {
            sessions: BTreeMap::new(),
            by_name: BTreeMap::new(),
            by_peer: BTreeSet::new(),
            deadlines: BinaryHeap::new(),
            outputs: VecDeque::new(),
            jitter: Jitter::new(seed),
            strays: Strays::default(),
        }
    }

    /// Takes a new configuration into force: a session whose part is unchanged goes on, so does one
    /// of which only timing or role changed; one that is not wanted any more says AdminDown.
    pub fn configure(&mut self, now: Instant, wanted: BTreeMap<SessionName, SessionConfig>) {
        let gone = self.by_name.keys().filter(|name| !wanted.contains_key(*name));
        let gone: Vec<SessionName> = gone.cloned().collect();
        gone.iter().for_each(|name| self.disable(now, name));
        for (name, config) in wanted {
            let running = self.by_name.get(&name).and_then(|id| self.sessions.get_mut(id));
            match running {
                Some(session) if session.config == config => {}
                Some(session) if session.config.may_become(&config) => {
                    session.retime(now, config, &mut self.jitter);
                    let id = session.local;
                    self.arm(id);
                }
                Some(_) => {
                    self.disable(now, &name);
                    self.open(now, name, config);
                }
                None => self.open(now, name, config),
            }
        }
    }

    /// Ends all sessions and tells the peers, who then know that it is no failure of the path.
    /// Done when [`Self::is_quiet`].
    pub fn shut_down(&mut self, now: Instant) {
        self.configure(now, BTreeMap::new());
    }

    /// Whether no session is left, not even one that says its last words.
    pub fn is_quiet(&self) -> bool {
        self.sessions.is_empty()
    }

    /// Takes in a datagram (RFC 5880 §6.8.6).
    pub fn handle(&mut self, now: Instant, datagram: &Datagram<'_>) {
        let Ok(packet) = Packet::parse(datagram.bytes) else {
            self.strays.malformed += 1;
            return;
        };
        let Some(id) = self.find(&packet, datagram) else {
            self.strays.unknown += 1;
            return;
        };
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if !is_acceptable(&session.config, datagram) {
            session.discarded += 1;
            return;
        }
        let mut actions = Actions::default();
        session.receive(now, &packet, &mut self.jitter, &mut |action| actions.push(action));
        self.carry_out(id, &actions);
    }

    /// Fires every deadline that is due. Datagrams that have come already are to be handed over
    /// first: silence is judged here.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(Reverse((at, id))) = self.deadlines.peek().copied()
            && at <= now
        {
            self.deadlines.pop();
            let Some(session) = self.sessions.get_mut(&id) else { continue };
            if session.wake != Some(at) {
                continue;
            }
            session.wake = None;
            let mut actions = Actions::default();
            session.fire(now, &mut self.jitter, &mut |action| actions.push(action));
            self.carry_out(id, &actions);
        }
    }

    /// When to call [`Self::handle_timeout`] next; it may lie in the past.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.deadlines.peek().map(|Reverse((at, _))| *at)
    }

    /// The next thing for the edge to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Every configured session as it is now, by name.
    pub fn snapshot(&self, now: Instant) -> Vec<SessionSnapshot> {
        let sessions = self.by_name.values().filter_map(|id| self.sessions.get(id));
        sessions.map(|session| look(session, now)).collect()
    }

    /// Datagrams that belonged to no session.
    pub const fn strays(&self) -> Strays {
        self.strays
    }

    /// RFC 5880 §6.8.6, RFC 5881 §3, RFC 5883 §4: by our discriminator, and without it by the
    /// address of the peer and what the session is tied to.
    fn find(&self, packet: &Packet, datagram: &Datagram<'_>) -> Option<Discriminator> {
        if let Some(id) = packet.your_discriminator {
            return self.sessions.contains_key(&id).then_some(id);
        }
        const LEAST: Discriminator = Discriminator(NonZeroU32::MIN);
        const MOST: Discriminator = Discriminator(NonZeroU32::MAX);
        let peer = datagram.source;
        let of_peer = self.by_peer.range((peer, LEAST)..=(peer, MOST)).map(|(_, id)| *id);
        let fits = |id: &Discriminator| {
            let session = self.sessions.get(id);
            session.is_some_and(|session| is_tied_to(&session.config, datagram))
        };
        of_peer.into_iter().find(fits)
    }

    fn open(&mut self, now: Instant, name: SessionName, config: SessionConfig) {
        let id = self.fresh_discriminator();
        self.by_name.insert(name.clone(), id);
        self.by_peer.insert((config.peer, id));
        self.outputs.push_back(Output::Opened { session: id, config: config.clone() });
        self.sessions.insert(id, Session::new(name, config, id, now));
        self.arm(id);
    }

    /// RFC 5880 §6.3: unique on this system; random, so that it cannot be guessed.
    fn fresh_discriminator(&mut self) -> Discriminator {
        loop {
            let number =
                u32::try_from(self.jitter.next() >> 32).expect("the upper half of 64 bits");
            let id = NonZeroU32::new(number).map(Discriminator);
            if let Some(id) = id.filter(|id| !self.sessions.contains_key(id)) {
                return id;
            }
        }
    }

    fn disable(&mut self, now: Instant, name: &SessionName) {
        let Some(id) = self.by_name.remove(name) else { return };
        let Some(session) = self.sessions.get_mut(&id) else { return };
        self.by_peer.remove(&(session.config.peer, id));
        let mut actions = Actions::default();
        session.disable(now, &mut |action| actions.push(action));
        self.carry_out(id, &actions);
    }

    fn carry_out(&mut self, id: Discriminator, actions: &Actions) {
        let Some(session) = self.sessions.get(&id) else { return };
        for action in actions.0.iter().flatten().copied() {
            let output = match action {
                Action::Transmit(packet) => Output::Transmit { session: id, bytes: packet.emit() },
                Action::Up => Output::Event(Event::Up { session: session.name.clone() }),
                Action::Down(why) => Output::Event(Event::Down {
                    session: session.name.clone(),
                    why,
                    fate: session.remote.fate,
                    // A session that is Up was heard.
                    last_heard: session.last_heard.unwrap_or(session.since),
                }),
            };
            self.outputs.push_back(output);
        }
        if session.is_over() {
            self.sessions.remove(&id);
            self.outputs.push_back(Output::Closed { session: id });
        } else {
            self.arm(id);
        }
    }

    /// Looks at a session again no later than it needs.
    fn arm(&mut self, id: Discriminator) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let Some(deadline) = session.deadline() else { return };
        if session.wake.is_none_or(|wake| deadline < wake) {
            session.wake = Some(deadline);
            self.deadlines.push(Reverse((deadline, id)));
        }
    }
}

/// What one packet or deadline can lead to: at most an event and two packets. No allocation.
#[derive(Debug, Default)]
struct Actions([Option<Action>; 3]);

impl Actions {
    fn push(&mut self, action: Action) {
        let free = self.0.iter_mut().find(|place| place.is_none());
        *free.expect("a session asks for three things at most") = Some(action);
    }
}

/// Whether a datagram can be of a session that it does not name.
fn is_tied_to(config: &SessionConfig, datagram: &Datagram<'_>) -> bool {
    let interface = config.interface.as_deref();
    Port::of(config.reach) == datagram.port
        && interface.is_none_or(|interface| interface == datagram.interface)
        && config.local.is_none_or(|local| local == datagram.destination)
}

/// Whether a datagram comes from where the peer is. RFC 5880 §6.3 would let a peer that names the
/// session come from any address; ours do not move, so we hold them to theirs.
fn is_acceptable(config: &SessionConfig, datagram: &Datagram<'_>) -> bool {
    let near = match config.reach {
        // RFC 5881 §5: no router lies between.
        Reach::SingleHop => datagram.ttl == u8::MAX,
        Reach::Multihop { min_ttl } => datagram.ttl >= min_ttl,
    };
    near && config.peer == datagram.source && is_tied_to(config, datagram)
}

fn look(session: &Session, now: Instant) -> SessionSnapshot {
    let Session { config, remote, .. } = session;
    let down = session.last_down;
    SessionSnapshot {
        name: session.name.clone(),
        peer: config.peer,
        local: config.local,
        interface: config.interface.clone(),
        reach: config.reach,
        role: config.role,
        state: session.state,
        since: now.duration_since(session.since),
        remote_state: remote.state,
        diagnostic: session.diagnostic,
        remote_diagnostic: remote.diagnostic,
        local_discriminator: session.local,
        remote_discriminator: remote.discriminator,
        transmit_every: session.transmit_interval(),
        detect_after: session.detection_time(),
        multiplier: config.timing.multiplier.get(),
        remote_multiplier: remote.multiplier,
        fate: remote.fate,
        failures: session.failures,
        last_down: down.map(|down| (down.why, now.duration_since(down.at))),
        sent: session.sent,
        received: session.received,
        discarded: session.discarded,
        longest_gap: session.longest_gap,
        error: None,
    }
}
