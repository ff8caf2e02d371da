//! The boundary of the core: bytes, configuration and time in; bytes, routes and the next deadline
//! out. No socket, clock, task or lock inside; the same inputs and seed give the same outputs.
//!
//! The driver's loop: hand every event to [`Speaker::handle`]; when [`Speaker::poll_timeout`] is
//! due, call [`Speaker::handle_timeout`]; after either, drain [`Speaker::poll_output`]. It calls
//! [`Speaker::poll_transmit`] for connections whose socket can take more, best after all input
//! that is ready was handed over, so that changes of mind are never sent.
//!
//! ```text
//! accept ----+                                   +--> poll_output     Connect, Close, RouteChanged, ...
//! handle ----+--> Speaker { sessions, rib } -----+--> poll_transmit   whole messages
//! configure -+                                   +--> poll_timeout    when to call handle_timeout
//! ```

mod aggregate;
mod as_rules;
mod cause;
mod confederation;
mod config;
mod configure;
mod connections;
mod drive;
mod dump;
mod event;
mod found;
pub(crate) mod introduction;
mod limit;
mod look;
mod monitor;
mod receive;
mod refresh;
mod restart;
mod retain;
mod role;
mod rpki;
mod signing;
mod snapshot;
mod up_down;

pub use crate::rib::best::{Ineligible, Step};
pub use crate::rib::links::Links;
pub use crate::rib::reach::Unreachable;
pub use crate::session::State;
pub use aggregate::Specifics;
pub use as_rules::{AsOverride, LocalAs, LocalAsMode, RemoteAs, RemovePrivate};
pub use confederation::{Confederation, OwnAs};
pub use config::{
    AddPath, Admin, Between, Chosen, Config, DefaultRoute, Dial, GracefulRestart, Multipath,
    NextHopMode, Originated, Password, PeerBfd, PeerConfig, PeerName, PeerRange, PeerRestart,
    Receive, Reflection, Start, Ttl,
};
pub use dump::DumpCursor;
pub use event::{ConnId, Input, NextHopVia, Output, PathFailure, Route};
pub use found::{Arrival, Host};
pub use introduction::{Disclosure, Introduce, Introduction};
pub use limit::{LimitAction, MaxPaths};
pub use monitor::{Monitoring, StationConfig, StationSnapshot, StationState, TableSet};
pub use refresh::{Asked, NotAsked};
pub use role::{PeerRole, Role, SilentPeer};
pub use rpki::{CacheSnapshot, OriginValidation};
pub use signing::{AoAlgorithm, Signing, SigningKey, TcpAo};
pub use snapshot::{
    AttributeSnapshot, DownReason, EndedBy, FamilySnapshot, MessageCounts, NegotiatedSnapshot,
    PathSnapshot, PeerSnapshot, RouteSnapshot, Verdict,
};

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Instant;

use bytes::Bytes;

use crate::rib::Rib;
use crate::rib::group::Groups;
use crate::rib::path::PeerIndex;
use crate::rib::slab::Column;
use crate::rib::sweep::{Progress, Sweep};
use crate::session::Peer;
use crate::session::collision::Direction;
use crate::session::link::Outbox;
use crate::session::timer::{Jitter, Timers};
use crate::wire::{Family, MessageKind, Scratch};
use aggregate::Aggregates;
use monitor::Stations;
use restart::Restart;
use rpki::{CacheTimer, Caches};

/// How many times more prefixes without paths are kept while peers wait to be told.
const BUSY_PATIENCE: usize = 64;

/// A BGP speaker without sockets and clock.
#[derive(Debug)]
pub struct Speaker {
    config: Config,
    /// Apart from the tree, whose nodes are half empty and would take room for as many again.
    peers: BTreeMap<PeerIndex, Box<Peer>>,
    /// Every peer that ever was; a name keeps its number.
    names: BTreeMap<PeerName, PeerIndex>,
    conns: BTreeMap<ConnId, Place>,
    /// Last words on connections that are to be closed.
    closing: BTreeMap<ConnId, Outbox>,
    next_conn: u64,
    rib: Rib,
    groups: Groups,
    aggregates: Aggregates,
    stations: Stations,
    caches: Caches,
    sweeps: VecDeque<Sweep>,
    restart: Restart,
    timers: Timers<Timer>,
    jitter: Jitter,
    outputs: VecDeque<Output>,
    /// Prefixes of which the driver was told a route.
    routed: [Column<bool>; 2],
    scratch: Scratch,
    /// The latest time that we were told.
    clock: Instant,
}

/// The place of a connection: whose it is, and on which line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    peer: PeerIndex,
    direction: Direction,
}

/// What a deadline is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// RFC 4271 §8.1.3: ConnectRetryTimer.
    Retry(PeerIndex),
    /// IdleHoldTimer.
    IdleHold(PeerIndex),
    /// HoldTimer.
    Hold(PeerIndex, Direction),
    /// KeepaliveTimer.
    Keepalive(PeerIndex, Direction),
    /// RFC 4271 §8.1.3: DelayOpenTimer.
    DelayOpen(PeerIndex, Direction),
    /// RFC 9687: SendHoldTimer, where no keepalive looks after it.
    SendHold(PeerIndex, Direction),
    /// RFC 4724 §4.2: how long to wait for the peer to come back.
    Restart(PeerIndex),
    /// RFC 4724 §4.2: how long to wait for the End-of-RIB of a peer that is back.
    Stale(PeerIndex),
    /// Time to look whether a peer that was not named is still wanted.
    Leave(PeerIndex),
    /// A peer without End-of-RIB has told its routes by now.
    Presume(PeerIndex),
    /// RFC 7313 §4: how long to wait for the end of an answer to a route refresh.
    Refresh(PeerIndex),
    /// RFC 9494 §4.2: how long stale routes are kept after the restart time.
    LongLived(PeerIndex, Family),
    /// A monitoring station is dialled again.
    Station(SocketAddr),
    /// A monitoring station is told statistics.
    Report(SocketAddr),
    /// Something about a cache of the RPKI.
    Cache(SocketAddr, CacheTimer),
    /// Peers that have not come up by now are not waited for.
    Answer,
    /// RFC 4724 §4.1: Selection_Deferral_Timer.
    Deferral,
}

/// Why [`Speaker::accept`] refuses a connection. The edge closes it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// No peer has this address.
    #[error("{0} is not a peer")]
    Unknown(SocketAddr),
    /// The address lies in a range of peers that is full.
    #[error("{remote} is one peer too many for {range}")]
    Full {
        /// Who came.
        remote: SocketAddr,
        /// The range.
        range: PeerName,
    },
    /// The peer is shut down, shall only be dialled, lacks its password, or has to wait after an
    /// error.
    #[error("{peer} is not to be accepted: {why}")]
    NotNow {
        /// Who.
        peer: PeerName,
        /// Why.
        why: &'static str,
    },
}

impl Speaker {
    /// Feeds one event.
    pub fn handle(&mut self, now: Instant, input: Input<'_>) {
        self.clock = now;
        match input {
            Input::Connected { conn, local } => self.connected(now, conn, local),
            Input::ConnectFailed { conn, error } => self.connect_failed(now, conn, error),
            Input::Received { conn, bytes } => self.receive(now, conn, bytes),
            Input::Waiting { conn } => self.still_alive(now, conn),
            Input::Closed { conn, error } => self.closed(now, conn, error),
            Input::PeerUnreachable { peer, failure } => self.unreachable(now, &peer, &failure),
            Input::RouterFound { interface, address } => {
                self.router_found(now, interface, address);
            }
        }
        self.after(now);
    }

    /// Fires every timer that is due and does a slice of the work that waits.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.clock = now;
        while let Some(timer) = self.timers.pop(now) {
            self.fire(now, timer);
        }
        if let Some(mut sweep) = self.sweeps.pop_front() {
            match sweep.advance(&mut self.rib) {
                Progress::More => self.sweeps.push_front(sweep),
                Progress::Done => self.swept(now, sweep.peer()),
            }
        }
        self.revalidate();
        self.groups.walk(&self.rib);
        self.after(now);
    }

    /// When to call [`Self::handle_timeout`] next; it may lie in the past.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let works =
            !self.sweeps.is_empty() || self.caches.is_revalidating() || self.groups.are_walking();
        if works { Some(self.clock) } else { self.timers.next() }
    }

    /// The next thing for the edge to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        if let Some(output) = self.outputs.pop_front() {
            return Some(output);
        }
        if !self.stations.is_empty() {
            // What peers were sent since the last input is news for stations.
            self.tell_stations(self.clock);
            self.announce_stations();
            if let Some(output) = self.outputs.pop_front() {
                return Some(output);
            }
        }
        while let Some(prefix) = self.rib.hops_changed.pop() {
            let route = self.route_of(prefix);
            let routed = &mut self.routed[prefix.family().index()];
            let before = routed.replace(prefix.row(), route.is_some());
            match route {
                Some(route) => return Some(Output::RouteChanged(route)),
                None if before => {
                    let prefix = self.rib.prefixes.prefix(prefix);
                    return Some(Output::RouteWithdrawn { prefix });
                }
                None => {}
            }
        }
        self.restart.announce().map(|family| Output::Synced { family })
    }

    /// The next whole messages for a connection, some KiB of them, shared between the peers that
    /// are told the same. A connection that is not asked makes nothing grow.
    pub fn poll_transmit(&mut self, now: Instant, conn: ConnId) -> Option<Bytes> {
        self.clock = now;
        if let Some(outbox) = self.closing.get_mut(&conn) {
            let last_words = outbox.pop();
            if last_words.is_none() {
                self.closing.remove(&conn);
            }
            return last_words.map(|(_, bytes)| bytes);
        }
        let Some(Place { peer, direction }) = self.conns.get(&conn).copied() else {
            if self.caches.has(conn) {
                return self.transmit_to_cache(conn);
            }
            return self.transmit_to_station(now, conn);
        };
        let state = self.peers.get_mut(&peer)?;
        let link = state.link_mut(direction)?;
        link.last_taken = now;
        let found = link.outbox.pop();
        if let Some((kind, bytes)) = found {
            state.sent.add(kind, 1);
            return Some(bytes);
        }
        if state.established() == Some(direction)
            && let Some(bytes) = self.tell(peer)
        {
            return Some(bytes);
        }
        self.peers.get_mut(&peer)?.announced_output[direction as usize] = false;
        None
    }

    /// The next of the routes for a peer with a session, or the mark at their end.
    fn tell(&mut self, index: PeerIndex) -> Option<Bytes> {
        loop {
            let peer = self.peers.get_mut(&index)?;
            if let Some(chunk) = self.groups.pull(&mut self.rib, index) {
                peer.sent.add(MessageKind::Update, chunk.messages.into());
                return Some(chunk.bytes);
            }
            let unsettled = self.groups.unsettled(index, self.rib.deferred);
            if let Some(bytes) = peer.end_of_rib(unsettled) {
                self.begin_refresh(index);
                self.stations.stir();
                return Some(bytes);
            }
            let end = self.finish_refresh(index)?;
            if end.is_some() {
                return end;
            }
        }
    }

    /// What follows from everything that was done.
    fn after(&mut self, now: Instant) {
        let deferred = self.rib.deferred;
        self.check_synced(now);
        let mut changed = self.rib.deferred != deferred;
        while let Some(prefix) = self.rib.best_changed.pop() {
            changed = true;
            self.groups.mark(prefix);
            if !self.aggregates.is_empty() {
                self.contribute(prefix);
            }
        }
        if changed {
            self.groups.follow_conditions(&self.rib);
        }
        self.tell_stations(now);
        // While groups have something to say most orphans are still theirs, and peers come first.
        let (orphans, allowed) = (self.rib.orphans.len(), self.restart.orphans_allowed);
        if orphans > allowed && (orphans / BUSY_PATIENCE > allowed || self.groups.are_idle()) {
            self.forget_orphans();
        }
        self.announce_output();
        self.announce_stations();
        self.announce_caches();
    }

    fn forget_orphans(&mut self) {
        let (groups, stations) = (&self.groups, &self.stations);
        self.rib.forget_orphans(|prefix| groups.concern(prefix) || stations.concern(prefix));
        // Twice what could not be forgotten now: the work stays proportional to the changes.
        self.restart.orphans_allowed = 2 * self.rib.orphans.len() + 1024;
    }

    /// Tells the edge which connections have something to send.
    fn announce_output(&mut self) {
        let unsettled = |peer| self.groups.unsettled(peer, self.rib.deferred);
        for peer in self.peers.values_mut() {
            for direction in Direction::BOTH {
                let line = peer.line(direction);
                let Some(link) = &line.link else { continue };
                let conn = link.conn;
                let waiting = !link.outbox.is_empty()
                    || line.state == State::Established
                        && (self.groups.has_news(peer.index)
                            || !peer.end_of_rib_due.is_empty()
                                && peer.owes_end_of_rib(unsettled(peer.index))
                            || peer.owes_end_of_refresh());
                let told = &mut peer.announced_output[direction as usize];
                if waiting && !*told {
                    *told = true;
                    self.outputs.push_back(Output::Transmit { conn });
                }
            }
        }
    }

    /// Families in the order in which they are worked on.
    const FAMILIES: [Family; 2] = Family::ALL;
}
