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

mod config;
mod event;
mod snapshot;

pub use config::{
    Admin, Config, Dial, GracefulRestart, HoldTime, Multipath, NextHopMode, Originated, Password,
    PeerConfig, PeerName, PeerRestart, Reflection, Start, Ttl, UnacceptableHoldTime,
};
pub use event::{ConnId, Input, NextHopVia, Output, PeerKind, Route};
pub use snapshot::{
    AttributeSnapshot, DownReason, EndedBy, FamilySnapshot, MessageCounts, NegotiatedSnapshot,
    PathSnapshot, PeerSnapshot, RouteSnapshot, SessionState, Verdict,
};

use std::net::SocketAddr;
use std::time::Instant;

use bytes::Bytes;

use crate::wire::{Family, Prefix};

/// A BGP speaker without sockets and clock.
#[derive(Debug)]
pub struct Speaker {}

/// Why [`Speaker::accept`] refuses a connection. The edge closes it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// No peer has this address.
    #[error("{0} is not a peer")]
    Unknown(SocketAddr),
    /// The peer is shut down, shall only be dialled, lacks its password, or is being held down
    /// after an error.
    #[error("{peer} is not to be accepted: {why}")]
    NotNow {
        /// Who.
        peer: PeerName,
        /// Why.
        why: &'static str,
    },
}

impl Speaker {
    /// A speaker that has done nothing yet; its first outputs are ready to be polled. The seed
    /// decides the jitter of timers and the layout of hash tables.
    pub fn new(config: Config, seed: u64, now: Instant) -> Self;
    /// Takes a new configuration into force, peer by peer: a peer whose configuration stays keeps
    /// its session, and one whose filters change keeps it too. Originated prefixes that differ are
    /// announced or withdrawn. `local_as` and `router_id` concern all sessions.
    pub fn configure(&mut self, now: Instant, config: Config);
    /// Takes a connection that the edge accepted.
    ///
    /// # Errors
    /// When nobody wants it; the edge closes it.
    pub fn accept(&mut self, now: Instant, local: SocketAddr, remote: SocketAddr) -> Result<ConnId, Refused>;
    /// Feeds one event.
    pub fn handle(&mut self, now: Instant, input: Input<'_>);
    /// Fires every timer that is due and does a slice of the work that waits (sweeps).
    pub fn handle_timeout(&mut self, now: Instant);
    /// When to call [`Self::handle_timeout`] next; it may lie in the past.
    pub fn poll_timeout(&self) -> Option<Instant>;
    /// The next thing for the edge to do.
    pub fn poll_output(&mut self) -> Option<Output>;
    /// The next whole messages for a connection, some KiB of them, shared between the peers that
    /// are told the same. A connection that is not asked makes nothing grow.
    pub fn poll_transmit(&mut self, now: Instant, conn: ConnId) -> Option<Bytes>;
    /// Originates a prefix, or changes its attributes.
    pub fn originate(&mut self, now: Instant, prefix: Prefix, originated: Originated);
    /// Ends what [`Self::originate`] or the configuration began.
    pub fn withdraw(&mut self, now: Instant, prefix: Prefix);
    /// Ends all sessions with a Cease (RFC 9003 text). Not for a planned restart: there, just drop
    /// the connections without a word, and the peers keep our routes (RFC 4724).
    pub fn shut_down(&mut self, now: Instant, text: &str);
    /// Every peer as it is now.
    pub fn peers(&self, now: Instant) -> Vec<PeerSnapshot>;
    /// Up to `limit` prefixes with all their paths, beginning after `after`, in no special order.
    pub fn routes(&self, family: Family, after: Option<Prefix>, limit: usize) -> Vec<RouteSnapshot>;
    /// One prefix with all its paths.
    pub fn route(&self, prefix: Prefix) -> Option<RouteSnapshot>;
}
