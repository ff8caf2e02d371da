//! The virtual network and its clock.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::session::timer::Jitter;
use crate::speaker::{
    Arrival, Config, ConnId, DownReason, Input, Output, PeerName, Route, Speaker, Start, State,
};
use crate::wire::{Family, HEADER_LEN, Prefix};

/// A speaker and what it has told its driver.
#[derive(Debug)]
pub struct Node {
    /// Where others find it.
    pub address: IpAddr,
    /// The speaker itself.
    pub speaker: Speaker,
    /// The routes that its driver would have put into the kernel. They outlive the speaker.
    pub routes: BTreeMap<Prefix, Route>,
    /// The families that were said to be complete.
    pub synced: BTreeSet<Family>,
    /// State changes, with the time since the beginning and the reason.
    pub changes: Vec<(Duration, PeerName, State, Option<DownReason>)>,
    /// How often a route was changed or withdrawn.
    pub route_events: usize,
    /// What monitoring stations were told, by connection.
    pub monitored: BTreeMap<ConnId, Vec<u8>>,
    /// What caches of the RPKI were asked, by connection.
    pub asked: BTreeMap<ConnId, Vec<u8>>,
}

/// The name of the link between nodes with link-local addresses.
pub const LINK: &str = "link";

/// One end of a connection.
type End = (usize, ConnId);

#[derive(Debug)]
enum Delivery {
    Dial { from: End, remote: SocketAddr },
    Answer { to: End, local: SocketAddr, peer: Result<End, String> },
    Bytes { to: End, bytes: Vec<u8> },
    Closed { to: End, error: Option<&'static str> },
}

/// Speakers, and the links between them.
#[derive(Debug)]
pub struct Simulation {
    nodes: Vec<Node>,
    now: Instant,
    began: Instant,
    deliveries: BTreeMap<(Instant, u64), Delivery>,
    sequence: u64,
    /// The other end of each end of a connection.
    others: BTreeMap<End, End>,
    /// Pairs of nodes between which packets vanish.
    silent: BTreeSet<(usize, usize)>,
    /// Ends whose socket takes nothing.
    blocked: BTreeSet<End>,
    /// Whether monitoring stations answer.
    collects: bool,
    /// Whether caches of the RPKI answer when they are dialled.
    validates: bool,
    /// Whether they read from the beginning.
    reads: bool,
    latency: Duration,
    chance: Jitter,
    last_activity: Instant,
    seed: u64,
}

fn pair(a: usize, b: usize) -> (usize, usize) {
    (a.min(b), a.max(b))
}

impl Simulation {
    /// A network without nodes.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "an epoch; only differences from it matter")]
    pub fn new(seed: u64) -> Self {
        let now = Instant::now();
        Self {
            nodes: Vec::new(),
            now,
            began: now,
            deliveries: BTreeMap::new(),
            sequence: 0,
            others: BTreeMap::new(),
            silent: BTreeSet::new(),
            blocked: BTreeSet::new(),
            collects: true,
            validates: true,
            reads: true,
            latency: Duration::from_millis(1),
            chance: Jitter::new(seed),
            last_activity: now,
            seed,
        }
    }

    /// Adds a speaker at an address; its number is the count of those before it.
    pub fn add(&mut self, address: IpAddr, config: Config) -> usize {
        let number = self.nodes.len();
        let speaker = Speaker::new(config, self.seed + number as u64, self.now);
        self.nodes.push(Node {
            address,
            speaker,
            routes: BTreeMap::new(),
            synced: BTreeSet::new(),
            changes: Vec::new(),
            route_events: 0,
            monitored: BTreeMap::new(),
            asked: BTreeMap::new(),
        });
        self.attend(number);
        number
    }

    /// A node.
    #[must_use]
    pub fn node(&self, number: usize) -> &Node {
        &self.nodes[number]
    }

    /// The virtual time.
    #[must_use]
    pub const fn now(&self) -> Instant {
        self.now
    }

    /// The virtual time since the beginning.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.now.duration_since(self.began)
    }

    /// Does something to a speaker, and then what follows from it.
    pub fn with<T>(&mut self, number: usize, act: impl FnOnce(&mut Speaker, Instant) -> T) -> T {
        let result = act(&mut self.nodes[number].speaker, self.now);
        self.attend(number);
        result
    }

    /// Breaks all connections between two nodes; both notice at once, and may connect again.
    pub fn cut(&mut self, a: usize, b: usize) {
        let between =
            |(this, that): (&End, &End)| (pair(this.0, that.0) == pair(a, b)).then_some(*this);
        let ends: Vec<End> = self.others.iter().filter_map(between).collect();
        for end in ends {
            self.others.remove(&end);
            self.drop_deliveries(|other| other == end);
            self.schedule(Duration::ZERO, Delivery::Closed { to: end, error: Some("reset") });
        }
    }

    /// Lets every packet between two nodes vanish, without anybody being told.
    pub fn silence(&mut self, a: usize, b: usize) {
        self.silent.insert(pair(a, b));
    }

    /// Ends a silence. What was under way is lost, so old connections stay broken.
    pub fn heal(&mut self, a: usize, b: usize) {
        self.silent.remove(&pair(a, b));
    }

    /// Stops the sockets of a node from taking more to send to another.
    pub fn block(&mut self, from: usize, to: usize) {
        let ends = self.others.iter().filter(|(this, that)| this.0 == from && that.0 == to);
        self.blocked.extend(ends.map(|(this, _)| *this));
    }

    /// The connection of a node with its monitoring station, if there is one.
    fn station(&self, number: usize) -> Option<ConnId> {
        self.nodes[number].monitored.last_key_value().map(|(conn, _)| *conn)
    }

    /// Stops a monitoring station from reading.
    pub fn block_station(&mut self, number: usize) {
        self.blocked.extend(self.station(number).map(|conn| (number, conn)));
    }

    /// Lets stations that are dialled from now on read nothing but what [`Self::trickle`] gives them.
    pub fn hold_stations(&mut self) {
        self.reads = false;
    }

    /// Gives a station that does not read some pieces of what there is; says how many there were.
    pub fn trickle(&mut self, number: usize, pieces: usize) -> usize {
        let Some(conn) = self.station(number) else { return 0 };
        let Node { speaker, monitored, .. } = &mut self.nodes[number];
        let now = self.now;
        let given = std::iter::from_fn(|| speaker.poll_transmit(now, conn)).take(pieces);
        let heard = monitored.entry(conn).or_default();
        given.map(|bytes| heard.extend_from_slice(&bytes)).count()
    }

    /// Lets a cache of a node say something.
    pub fn cache_says(&mut self, number: usize, conn: ConnId, bytes: &[u8]) {
        let to = (number, conn);
        self.schedule(self.latency, Delivery::Bytes { to, bytes: bytes.to_vec() });
    }

    /// Breaks a connection of a node with a cache; caches answer again when they are dialled, or refuse.
    pub fn cut_cache(&mut self, number: usize, conn: ConnId, answers: bool) {
        self.validates = answers;
        self.schedule(self.latency, Delivery::Closed { to: (number, conn), error: None });
    }

    /// Breaks the connection of a node with its station; it answers again when it is dialled, or
    /// does not.
    pub fn cut_station(&mut self, number: usize, answers: bool) {
        self.collects = answers;
        if let Some(conn) = self.station(number) {
            self.blocked.remove(&(number, conn));
            self.input((number, conn), |conn| Input::Closed { conn, error: Some("reset") });
        }
    }

    /// Lets all sockets take everything again.
    pub fn unblock(&mut self) {
        for end in std::mem::take(&mut self.blocked) {
            self.transmit(end);
        }
    }

    /// Ends a process without a word, as `kill -9` would; its connections close. The kernel's
    /// routes stay. It starts again as `start` says.
    pub fn restart(&mut self, number: usize, mut config: Config, start: Start) {
        config.graceful_restart.start = start;
        let ends: Vec<End> = self.others.keys().filter(|end| end.0 == number).copied().collect();
        // The new process counts its connections from one again.
        self.drop_deliveries(|end| end.0 == number);
        for end in ends {
            if let Some(other) = self.others.remove(&end) {
                self.others.remove(&other);
                if !self.silent.contains(&pair(number, other.0)) {
                    let error = Some("reset");
                    self.schedule(self.latency, Delivery::Closed { to: other, error });
                }
            }
        }
        self.seed += 1000;
        let node = &mut self.nodes[number];
        node.speaker = Speaker::new(config, self.seed, self.now);
        node.synced.clear();
        self.attend(number);
    }

    /// Lets time pass.
    pub fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        while self.step(end) {}
        self.now = end;
    }

    /// Runs until nothing but keepalives has happened for a while.
    ///
    /// # Panics
    /// When that takes more than an hour, or millions of steps.
    pub fn run_until_quiet(&mut self) {
        const QUIET: Duration = Duration::from_secs(40);
        let limit = self.now + Duration::from_secs(3600);
        self.last_activity = self.now;
        let mut steps = 0u32;
        while self.step(self.last_activity + QUIET) {
            steps += 1;
            assert!(self.now < limit && steps < 2_000_000, "the network does not come to rest");
        }
        self.now = self.last_activity + QUIET;
    }

    /// Does the next thing that is due before `end`.
    fn step(&mut self, end: Instant) -> bool {
        let delivery = self.deliveries.keys().next().map(|(at, _)| *at);
        let timeouts = self.nodes.iter().enumerate();
        let timeout =
            timeouts.filter_map(|(n, node)| Some((node.speaker.poll_timeout()?, n))).min();
        let next_timeout = timeout.map(|(at, _)| at.max(self.now));
        match (delivery, next_timeout) {
            (None, None) => false,
            (Some(at), other) if other.is_none_or(|other| at <= other) => {
                at <= end && self.deliver_next(at)
            }
            (_, Some(at)) => {
                if at > end {
                    return false;
                }
                let (_, number) = timeout.expect("it was just looked at");
                self.now = at;
                self.nodes[number].speaker.handle_timeout(at);
                self.attend(number);
                true
            }
            (Some(_), None) => unreachable!("the second arm takes it"),
        }
    }

    fn deliver_next(&mut self, at: Instant) -> bool {
        self.now = self.now.max(at);
        let Some((_, delivery)) = self.deliveries.pop_first() else { return false };
        match delivery {
            Delivery::Dial { from, remote } => self.answer(from, remote),
            Delivery::Answer { to, local, peer } => match peer {
                Ok(_) => self.input(to, |conn| Input::Connected { conn, local }),
                Err(error) => {
                    self.input(to, |conn| Input::ConnectFailed { conn, error: &error });
                }
            },
            Delivery::Bytes { to, bytes } => self.bytes(to, &bytes),
            Delivery::Closed { to, error } => {
                self.input(to, |conn| Input::Closed { conn, error });
            }
        }
        true
    }

    fn input<'a>(&mut self, (number, conn): End, input: impl FnOnce(ConnId) -> Input<'a>) {
        self.nodes[number].speaker.handle(self.now, input(conn));
        self.attend(number);
    }

    /// Bytes arrive in pieces, since TCP knows no messages.
    fn bytes(&mut self, to: End, mut bytes: &[u8]) {
        if bytes.len() != HEADER_LEN {
            self.last_activity = self.now;
        }
        while !bytes.is_empty() {
            let most = bytes.len().min(1 + usize::try_from(self.chance.next() % 5000).unwrap_or(0));
            let (piece, rest) = bytes.split_at(most);
            bytes = rest;
            self.nodes[to.0].speaker.handle(self.now, Input::Received { conn: to.1, bytes: piece });
        }
        self.attend(to.0);
    }

    fn answer(&mut self, from: End, remote: SocketAddr) {
        let local = SocketAddr::new(self.nodes[from.0].address, 40_000);
        let Some(to) = self.nodes.iter().position(|node| node.address == remote.ip()) else {
            let peer = Err("connection refused".into());
            return self.schedule(self.latency, Delivery::Answer { to: from, local, peer });
        };
        if self.silent.contains(&pair(from.0, to)) {
            return;
        }
        // All link-local addresses are on one link.
        let is_local = matches!(local.ip(), IpAddr::V6(ip) if ip.is_unicast_link_local());
        let interface = is_local.then_some(LINK);
        let arrival = Arrival { interface, ..Arrival::new(remote, local) };
        let accepted = self.nodes[to].speaker.accept(self.now, arrival);
        let peer = accepted.map(|conn| (to, conn)).map_err(|refused| refused.to_string());
        if let Ok(end) = &peer {
            self.others.insert(*end, from);
            self.others.insert(from, *end);
        }
        self.schedule(self.latency, Delivery::Answer { to: from, local, peer });
        self.attend(to);
    }

    fn schedule(&mut self, after: Duration, delivery: Delivery) {
        self.sequence += 1;
        self.deliveries.insert((self.now + after, self.sequence), delivery);
    }

    /// Loses what is under way to some ends, and what they are waiting for.
    fn drop_deliveries(&mut self, lost: impl Fn(End) -> bool) {
        self.deliveries.retain(|_, delivery| match delivery {
            Delivery::Bytes { to, .. }
            | Delivery::Closed { to, .. }
            | Delivery::Answer { to, .. }
            | Delivery::Dial { from: to, .. } => !lost(*to),
        });
    }

    /// Does what a speaker asks for.
    fn attend(&mut self, number: usize) {
        while let Some(output) = self.nodes[number].speaker.poll_output() {
            match output {
                Output::Connect { conn, remote, .. } => {
                    let from = (number, conn);
                    self.schedule(self.latency, Delivery::Dial { from, remote });
                }
                Output::Transmit { conn } => self.transmit((number, conn)),
                Output::Close { conn } => self.close((number, conn)),
                // Nobody signs here.
                Output::HostsChanged
                | Output::AggregateFormed { .. }
                | Output::AggregateGone { .. } => {}
                Output::ConnectStation { conn, station } => {
                    self.dial_station((number, conn), station);
                }
                Output::ConnectCache { conn, cache } => self.dial_cache((number, conn), cache),
                Output::StationUp { .. }
                | Output::StationDown { .. }
                | Output::CacheUp { .. }
                | Output::CacheDown { .. }
                | Output::CacheExpired { .. } => {
                    self.last_activity = self.now;
                }
                told @ (Output::RouteChanged(_)
                | Output::RouteWithdrawn { .. }
                | Output::PeerStateChanged { .. }
                | Output::Synced { .. }) => self.note(number, told),
            }
        }
    }

    fn note(&mut self, number: usize, output: Output) {
        let elapsed = self.elapsed();
        let node = &mut self.nodes[number];
        match output {
            Output::RouteChanged(route) => {
                node.routes.insert(route.prefix, route);
                node.route_events += 1;
                self.last_activity = self.now;
            }
            Output::RouteWithdrawn { prefix } => {
                node.routes.remove(&prefix);
                node.route_events += 1;
                self.last_activity = self.now;
            }
            Output::PeerStateChanged { peer, old, new, reason } => {
                if old.max(new) >= State::OpenSent {
                    self.last_activity = self.now;
                }
                let reason = reason.map(|reason| (*reason).clone());
                node.changes.push((elapsed, peer, new, reason));
            }
            Output::Synced { family } => {
                node.synced.insert(family);
                self.last_activity = self.now;
            }
            Output::Connect { .. }
            | Output::ConnectStation { .. }
            | Output::StationUp { .. }
            | Output::StationDown { .. }
            | Output::ConnectCache { .. }
            | Output::CacheUp { .. }
            | Output::CacheDown { .. }
            | Output::CacheExpired { .. }
            | Output::Transmit { .. }
            | Output::Close { .. }
            | Output::HostsChanged
            | Output::AggregateFormed { .. }
            | Output::AggregateGone { .. } => {
                unreachable!("the caller does these")
            }
        }
    }

    fn dial_station(&mut self, from: End, station: SocketAddr) {
        let peer = if self.collects { Ok(from) } else { Err("connection refused".into()) };
        if !self.reads {
            self.blocked.insert(from);
        }
        if self.collects {
            self.nodes[from.0].monitored.insert(from.1, Vec::new());
        }
        self.schedule(self.latency, Delivery::Answer { to: from, local: station, peer });
    }

    fn dial_cache(&mut self, from: End, cache: SocketAddr) {
        let peer = if self.validates { Ok(from) } else { Err("connection refused".into()) };
        if self.validates {
            self.nodes[from.0].asked.insert(from.1, Vec::new());
        }
        self.schedule(self.latency, Delivery::Answer { to: from, local: cache, peer });
    }

    fn transmit(&mut self, from: End) {
        if self.blocked.contains(&from) {
            return;
        }
        while let Some(bytes) = self.nodes[from.0].speaker.poll_transmit(self.now, from.1) {
            let Node { monitored, asked, .. } = &mut self.nodes[from.0];
            let heard = monitored.get_mut(&from.1).or_else(|| asked.get_mut(&from.1));
            if let Some(heard) = heard {
                heard.extend_from_slice(&bytes);
                self.last_activity = self.now;
            }
            let Some(to) = self.others.get(&from).copied() else { continue };
            if !self.silent.contains(&pair(from.0, to.0)) {
                self.schedule(self.latency, Delivery::Bytes { to, bytes: bytes.to_vec() });
            }
        }
    }

    fn close(&mut self, from: End) {
        self.blocked.remove(&from);
        self.transmit(from);
        let Some(to) = self.others.remove(&from) else { return };
        self.others.remove(&to);
        if !self.silent.contains(&pair(from.0, to.0)) {
            self.schedule(self.latency, Delivery::Closed { to, error: None });
        }
    }
}
