//! The loop that owns the speaker, the clock and every socket.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::task::{AbortHandle, JoinSet};

use super::cache;
use super::command::{Command, Goodbye};
use super::connection::{Connection, Read, Write};
use super::discovery::Discovery;
use super::event::{Event, EventQueue};
use super::listen::{Listeners, Outcome};
use super::refused::RefusedConnections;
use super::signal::{Ready, Signal};
use super::socket;
use super::station;
use super::watch::{self, Watch};
use crate::bfd;
use crate::session::State;
use crate::speaker::{
    Arrival, Config, ConnId, Input, Output, PeerConfig, PeerName, Refused, Speaker,
};
use crate::wire::PeerKind;

/// The most that is read from one connection before others, and the timers, get their turn.
const READ_TURN: usize = 64 * 1024;
/// While input keeps coming, output waits no longer than this.
const FLUSH_EVERY: Duration = Duration::from_millis(100);
/// Prefixes shown before sockets and timers get their turn again.
const ROUTES_PER_TURN: usize = 256;
/// Refused addresses that are remembered; beyond, they are refused without a line in the log.
const STRANGERS_MAX: usize = 256;
/// How many closed connections may still be saying their last words at once; beyond, connections are
/// dropped without. A peer that connects over and over, each time in the place of the connection
/// before, must not use up our descriptors.
const FAREWELLS_MAX: usize = 64;
/// How long the kernel may try to connect.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// Everything that the BGP thread owns.
pub(super) struct Driver {
    speaker: Speaker,
    /// Shared with whoever gave it: of hundreds of peers it is long.
    config: Arc<Config>,
    connections: BTreeMap<ConnId, Connection>,
    dialling: BTreeMap<ConnId, AbortHandle>,
    listeners: Listeners,
    readable: VecDeque<ConnId>,
    writable: VecDeque<ConnId>,
    last_flush: Instant,
    buffer: Vec<u8>,
    /// Addresses whose connections were refused since the last configuration.
    strangers: BTreeSet<IpAddr>,
    refused: RefusedConnections,
    events: EventQueue,
    watch: Watch,
    discovery: Discovery,
    commands: UnboundedReceiver<Command>,
    signals: UnboundedReceiver<Signal>,
    bell: UnboundedSender<Signal>,
    /// Dials under way.
    tasks: JoinSet<()>,
    /// Closed connections that say their last words.
    farewells: JoinSet<()>,
}

/// The crate's only clock.
#[expect(clippy::disallowed_methods, reason = "the edge is where time enters the core")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

impl Driver {
    pub(super) fn new(
        config: Arc<Config>,
        seed: u64,
        commands: UnboundedReceiver<Command>,
        events: mpsc::Sender<Vec<Event>>,
    ) -> Self {
        let (bell, signals) = mpsc::unbounded_channel();
        let speaker = Speaker::new(Config::clone(&config), seed, now());
        let mut listeners = Listeners::default();
        listeners.follow(&config, &speaker.keys(), now());
        Self {
            speaker,
            config,
            connections: BTreeMap::new(),
            dialling: BTreeMap::new(),
            listeners,
            readable: VecDeque::new(),
            writable: VecDeque::new(),
            last_flush: now(),
            buffer: vec![0; READ_TURN],
            strangers: BTreeSet::new(),
            refused: RefusedConnections::default(),
            events: EventQueue::new(events),
            watch: Watch::new(bell.clone()),
            discovery: Discovery::new(bell.clone()),
            commands,
            signals,
            bell,
            tasks: JoinSet::new(),
            farewells: JoinSet::new(),
        }
    }

    /// Runs until told to stop, or until every handle is gone.
    pub(super) async fn run(mut self) {
        // Before we dial: a peer's BFD session with our earlier life has to fall before the BGP
        // session of this one stands.
        self.watch.configure(&self.speaker);
        self.discovery.configure(&self.config);
        self.open_listeners();
        self.drain_outputs();
        loop {
            // Lets the runtime look at the sockets and timers, so that "bytes wait in the socket"
            // is known before a hold timer is judged.
            tokio::task::yield_now().await;
            if let Some(goodbye) = self.wait().await {
                return self.stop(goodbye).await;
            }
            self.read_turn();
            self.fire_timers();
            self.write_turn();
            self.events.flush();
        }
    }

    /// Waits for anything, and takes in what is ready.
    async fn wait(&mut self) -> Option<Goodbye> {
        while self.tasks.try_join_next().is_some() {}
        while self.farewells.try_join_next().is_some() {}
        let busy = self.has_input() || !self.writable.is_empty();
        let deadline = [self.speaker.poll_timeout(), self.listeners.deadline()];
        let deadline = deadline.into_iter().flatten().min();
        if !busy && deadline.is_none_or(|deadline| deadline > now()) {
            tokio::select! {
                command = self.commands.recv() => return self.command(command),
                Some(signal) = self.signals.recv() => self.signal(signal),
                () = self.events.room() => {}
                () = sleep_until(deadline) => {}
            }
        }
        while let Ok(signal) = self.signals.try_recv() {
            self.signal(signal);
        }
        loop {
            match self.commands.try_recv() {
                Ok(command) => {
                    let goodbye = self.command(Some(command));
                    if goodbye.is_some() {
                        return goodbye;
                    }
                }
                Err(mpsc::error::TryRecvError::Empty) => return None,
                Err(mpsc::error::TryRecvError::Disconnected) => return self.command(None),
            }
        }
    }

    /// Whether there is something to read that may be read now.
    fn has_input(&self) -> bool {
        !self.readable.is_empty() && !self.events.is_congested()
    }

    fn signal(&mut self, signal: Signal) {
        match signal {
            Signal::Ready(Ready::Read(conn)) => self.readable.push_back(conn),
            Signal::Ready(Ready::Write(conn)) => self.writable.push_back(conn),
            Signal::Ready(Ready::Accept(address)) => self.accept(address),
            Signal::Dialled(conn, result) => self.dialled(conn, result),
            Signal::Bfd(event) => self.bfd(event),
            Signal::RouterFound(interface, address) => {
                let input = Input::RouterFound { interface: &interface, address };
                self.speaker.handle(now(), input);
                self.drain_outputs();
            }
        }
    }

    /// Peers, or their addresses, have changed: who has to sign, and whom BFD watches.
    fn follow_hosts(&mut self) {
        self.listeners.follow(&self.config, &self.speaker.keys(), now());
        self.open_listeners();
        self.watch.configure(&self.speaker);
    }

    /// BFD has news: a failure of the path ends the session, unless the peer's own end came first
    /// and only waits to be read behind its routes.
    fn bfd(&mut self, event: bfd::Event) {
        watch::log(&event);
        let Some((peer, failure)) = watch::failure(event) else { return };
        let conn = self.speaker.connection(&peer);
        let ended = conn
            .and_then(|conn| self.connections.get(&conn))
            .is_some_and(Connection::was_ended_by_peer);
        if ended && failure.fate == bfd::Fate::Shared {
            return;
        }
        self.speaker.handle(now(), Input::PeerUnreachable { peer, failure });
        self.drain_outputs();
    }

    fn command(&mut self, command: Option<Command>) -> Option<Goodbye> {
        let now = now();
        match command {
            None => return Some(Goodbye::Restart),
            Some(Command::Stop(goodbye)) => return Some(goodbye),
            Some(Command::Configure(config)) => {
                self.strangers.clear();
                self.speaker.configure(now, Config::clone(&config));
                self.config = config;
                self.discovery.configure(&self.config);
                self.follow_hosts();
            }
            Some(Command::Originate(prefix, originated)) => {
                self.speaker.originate(now, prefix, &originated);
            }
            Some(Command::Withdraw(prefix)) => self.speaker.withdraw(now, prefix),
            Some(Command::Unreachable(unreachable)) => {
                self.speaker.set_unreachable(now, &unreachable);
            }
            Some(Command::Links(links)) => self.speaker.set_links(now, &links),
            // Whoever asked may have gone away since; then the answer is not needed.
            Some(Command::Peers(answer)) => drop(answer.send(self.speaker.peers(now))),
            Some(Command::Refused(answer)) => drop(answer.send(self.refused)),
            Some(Command::Caches(answer)) => drop(answer.send(self.speaker.caches(now))),
            Some(Command::Stations(answer)) => drop(answer.send(self.speaker.stations(now))),
            Some(Command::Bfd(answer)) => self.watch.snapshot(answer),
            Some(Command::Routes { family, from, answer }) => {
                drop(answer.send(self.speaker.routes(family, from, ROUTES_PER_TURN)));
            }
            Some(Command::Advertised(peer, family, answer)) => {
                drop(answer.send(self.speaker.advertised(&peer, family)));
            }
            Some(Command::Dump { families, from, answer }) => {
                let seconds = station::since_epoch().as_secs();
                let time = u32::try_from(seconds).unwrap_or(u32::MAX);
                drop(answer.send(self.speaker.dump(time, families, from)));
            }
            Some(Command::Route(prefix, answer)) => {
                drop(answer.send(self.speaker.route(prefix)));
            }
            Some(Command::AskAgain(peer, families, answer)) => {
                drop(answer.send(self.speaker.ask_again(now, &peer, families)));
            }
        }
        self.drain_outputs();
        None
    }

    /// One read of each connection that has something.
    fn read_turn(&mut self) {
        for _ in 0..self.readable.len() {
            if !self.has_input() {
                return;
            }
            let Some(conn) = self.readable.pop_front() else { return };
            let Some(connection) = self.connections.get_mut(&conn) else { continue };
            match connection.read(&mut self.buffer) {
                Read::Blocked => continue,
                Read::Octets(count) => {
                    let bytes = &self.buffer[..count];
                    self.speaker.handle(now(), Input::Received { conn, bytes });
                    self.readable.push_back(conn);
                }
                Read::Ended(error) => self.lost(conn, error.as_ref()),
            }
            self.drain_outputs();
        }
    }

    fn lost(&mut self, conn: ConnId, error: Option<&io::Error>) {
        self.connections.remove(&conn);
        let text = error.map(ToString::to_string);
        self.speaker.handle(now(), Input::Closed { conn, error: text.as_deref() });
    }

    fn fire_timers(&mut self) {
        let now = now();
        if self.listeners.deadline().is_some_and(|at| at <= now) {
            self.open_listeners();
        }
        if self.speaker.poll_timeout().is_some_and(|at| at <= now) {
            for conn in self.readable.iter().filter(|conn| self.connections.contains_key(conn)) {
                self.speaker.handle(now, Input::Waiting { conn: *conn });
            }
            // Now and then: the system's clock may be set.
            self.speaker.set_wall_clock(now, station::since_epoch());
            self.speaker.handle_timeout(now);
            self.drain_outputs();
        }
    }

    /// Writes what the speaker has to say, once the input at hand is read: what changes again in
    /// the meantime is never sent.
    fn write_turn(&mut self) {
        if self.has_input() && now() - self.last_flush < FLUSH_EVERY {
            return;
        }
        self.last_flush = now();
        for _ in 0..self.writable.len() {
            let Some(conn) = self.writable.pop_front() else { return };
            let Some(connection) = self.connections.get_mut(&conn) else { continue };
            let speaker = &mut self.speaker;
            match connection.write(|| speaker.poll_transmit(now(), conn)) {
                Write::Done | Write::Blocked => {}
                Write::TurnOver => self.writable.push_back(conn),
                Write::Failed(error) => self.lost(conn, Some(&error)),
            }
        }
        self.drain_outputs();
    }

    fn drain_outputs(&mut self) {
        while let Some(output) = self.speaker.poll_output() {
            match output {
                Output::Connect { conn, peer, remote } => self.dial(conn, &peer, remote),
                Output::ConnectStation { conn, station } => {
                    self.speaker.set_wall_clock(now(), station::since_epoch());
                    self.spawn_dial(conn, station::connect(station));
                }
                Output::ConnectCache { conn, cache } => {
                    self.spawn_dial(conn, cache::connect(cache));
                }
                Output::CacheUp { cache, records } => cache::log_up(cache, records),
                Output::CacheDown { cache, reason } => cache::log_down(cache, &reason),
                Output::CacheExpired { cache } => cache::log_expired(cache),
                Output::StationUp { station } => station::log_up(station),
                Output::StationDown { station, reason } => station::log_down(station, &reason),
                Output::Transmit { conn } => self.writable.push_back(conn),
                Output::Close { conn } => self.close(conn),
                Output::RouteChanged(route) => self.events.push(Event::RouteChanged(route)),
                Output::RouteWithdrawn { prefix } => {
                    self.events.push(Event::RouteWithdrawn(prefix));
                }
                Output::PeerStateChanged { peer, old, new, reason } => {
                    let event = Event::PeerStateChanged { peer, old, new, reason };
                    log_state(&event);
                    self.events.push(event);
                }
                Output::HostsChanged => self.follow_hosts(),
                Output::AggregateFormed { prefix } => {
                    self.events.push(Event::AggregateFormed(prefix));
                }
                Output::AggregateGone { prefix } => self.events.push(Event::AggregateGone(prefix)),
                Output::Synced { family } => self.events.push(Event::Synced(family)),
            }
        }
    }

    fn dial(&mut self, conn: ConnId, name: &PeerName, remote: SocketAddr) {
        let socket = self
            .config
            .peers
            .get(name)
            .ok_or_else(|| io::Error::other("the peer is not configured any more"))
            .and_then(|peer| socket::dialler(peer, remote, kind(&self.config, peer)));
        self.spawn_dial(conn, async move { socket?.connect(remote).await });
    }

    fn spawn_dial(
        &mut self,
        conn: ConnId,
        connect: impl Future<Output = io::Result<TcpStream>> + Send + 'static,
    ) {
        let bell = self.bell.clone();
        let dial = async move {
            let result = tokio::time::timeout(CONNECT_WITHIN, connect)
                .await
                .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
            // The driver may have stopped.
            let _ = bell.send(Signal::Dialled(conn, result));
        };
        self.dialling.insert(conn, self.tasks.spawn(dial));
    }

    fn dialled(&mut self, conn: ConnId, result: io::Result<TcpStream>) {
        if self.dialling.remove(&conn).is_none() {
            return; // Closed in the meantime.
        }
        match result.and_then(|stream| Ok((stream.local_addr()?, stream))) {
            Ok((local, stream)) => {
                self.adopt(conn, stream);
                self.speaker.handle(now(), Input::Connected { conn, local });
            }
            Err(error) => {
                let error = &error.to_string();
                self.speaker.handle(now(), Input::ConnectFailed { conn, error });
            }
        }
        self.drain_outputs();
    }

    fn adopt(&mut self, conn: ConnId, stream: TcpStream) {
        self.connections.insert(conn, Connection::new(conn, stream, &self.bell));
        // The first read finds nothing, most likely, and arms the waker.
        self.readable.push_back(conn);
    }

    fn accept(&mut self, address: SocketAddr) {
        while let Some(accepted) = self.listeners.accept(address, &self.bell, now()) {
            match accepted {
                Ok((stream, remote)) => self.accepted(stream, remote),
                Err(error) => {
                    tracing::warn!(%address, %error, "cannot accept BGP connections");
                    return;
                }
            }
        }
    }

    fn accepted(&mut self, stream: TcpStream, remote: SocketAddr) {
        match self.welcome(&stream, remote) {
            Ok(Ok(conn)) => self.adopt(conn, stream),
            Ok(Err(reason)) => self.refuse(remote.ip(), &reason),
            Err(error) => tracing::warn!(%remote, %error, "dropped a BGP connection"),
        }
        self.drain_outputs();
    }

    /// Sets the options of an accepted connection, then lets the speaker have it.
    fn welcome(
        &mut self,
        stream: &TcpStream,
        remote: SocketAddr,
    ) -> io::Result<Result<ConnId, Refused>> {
        let socket = SockRef::from(stream);
        // The kernel ties the sockets of link-local connections to the link that they came over.
        let device = socket.device()?;
        let interface = device.as_deref().and_then(|name| std::str::from_utf8(name).ok());
        let arrival = Arrival { local: stream.local_addr()?, remote, interface };
        if let Some(peer) = self.speaker.host_of(arrival) {
            let kind = kind(&self.config, &peer);
            socket::set_session_options(&socket, &peer, remote.ip(), kind)?;
        }
        Ok(self.speaker.accept(now(), arrival))
    }

    /// One line for each address, however often it knocks.
    fn refuse(&mut self, remote: IpAddr, reason: &Refused) {
        self.refused.count(reason);
        if self.strangers.len() < STRANGERS_MAX && self.strangers.insert(remote) {
            tracing::info!(%reason, "refused a BGP connection");
        }
    }

    fn open_listeners(&mut self) {
        for (address, outcome) in self.listeners.retry(&self.speaker.keys(), now()) {
            match outcome {
                Outcome::Open(local, refused) => {
                    tracing::info!(%local, "listening for BGP");
                    for (peer, error) in &refused {
                        tracing::warn!(%address, %peer, %error, "the kernel refuses a key");
                    }
                    let text = |(peer, error): (_, io::Error)| (peer, error.to_string());
                    let refused = refused.into_iter().map(text).collect();
                    self.events.push(Event::Listening { address, local, refused });
                    self.accept(address);
                }
                Outcome::Failed(error) => {
                    tracing::warn!(%address, %error, "cannot listen for BGP");
                    let error = error.to_string();
                    self.events.push(Event::ListenFailed { address, error });
                }
            }
        }
    }

    fn close(&mut self, conn: ConnId) {
        if let Some(dial) = self.dialling.remove(&conn) {
            dial.abort();
        }
        if let Some(connection) = self.connections.remove(&conn) {
            let last_words: Vec<Bytes> =
                std::iter::from_fn(|| self.speaker.poll_transmit(now(), conn)).collect();
            if self.farewells.len() < FAREWELLS_MAX {
                self.farewells.spawn(connection.close(last_words));
            }
        }
    }

    /// A restart drops the connections without a word, so that the peers keep our routes
    /// (RFC 4724); the end tells them first.
    async fn stop(mut self, goodbye: Goodbye) {
        // First, so that no peer takes the end of BFD for a failure of the path.
        self.watch.stop();
        match goodbye {
            Goodbye::Restart => {}
            Goodbye::Cease(text) => {
                self.dialling.values().for_each(AbortHandle::abort);
                self.speaker.shut_down(now(), &text);
                self.drain_outputs();
                self.events.flush();
                while self.tasks.join_next().await.is_some() {}
                while self.farewells.join_next().await.is_some() {}
            }
        }
    }
}

fn kind(config: &Config, peer: &PeerConfig) -> PeerKind {
    config.own_as().expected_kind(peer)
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

/// One line for each session that comes up, goes down, or is turned down by a NOTIFICATION. That a
/// peer does not answer is no news each time that it is tried; its snapshot tells.
fn log_state(event: &Event) {
    let Event::PeerStateChanged { peer, old, new, reason } = event else { return };
    let text = reason.as_ref().map_or("", |reason| reason.text.as_str());
    let code = reason.as_ref().and_then(|reason| reason.code);
    let notified = code.is_some();
    // As routers write it: code/subcode of the NOTIFICATION (RFC 4271 §4.5).
    let code = code.map(|(code, subcode)| format!("{code}/{subcode}"));
    match (old, new) {
        (_, State::Established) => tracing::info!(%peer, "BGP session up"),
        (State::Established, _) => tracing::warn!(%peer, code, reason = text, "BGP session down"),
        _ if notified => tracing::warn!(%peer, code, reason = text, "BGP session refused"),
        _ => tracing::debug!(%peer, ?old, ?new, reason = text, "BGP session"),
    }
}
