//! What goes into the speaker and what comes out of it.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use super::config::PeerName;
use super::snapshot::DownReason;
use crate::bfd::Fate;
use crate::session::State;
use crate::wire::{Family, PeerKind, Prefix};

/// A TCP connection, dialled or accepted. Never used twice by one speaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub(crate) u64);

/// What happened at the edge. Accepted connections enter by [`super::Speaker::accept`].
#[derive(Debug, Clone)]
pub enum Input<'a> {
    /// The connection asked for by [`Output::Connect`] is up.
    Connected {
        /// Which.
        conn: ConnId,
        /// Our end.
        local: SocketAddr,
    },
    /// The connection asked for by [`Output::Connect`] could not be made.
    ConnectFailed {
        /// Which.
        conn: ConnId,
        /// The system's words.
        error: &'a str,
    },
    /// Bytes came. Hand over at most some 64 KiB of one connection before looking at the timers.
    Received {
        /// From where.
        conn: ConnId,
        /// Any part of the stream.
        bytes: &'a [u8],
    },
    /// Bytes wait in the socket but were not read yet: the peer is alive. To be said before
    /// [`super::Speaker::handle_timeout`] for each readable connection that was not drained.
    Waiting {
        /// From where.
        conn: ConnId,
    },
    /// The connection ended, and it was not we who closed it.
    Closed {
        /// Which.
        conn: ConnId,
        /// The system's words, or `None` when the peer closed in good order.
        error: Option<&'a str>,
    },
    /// BFD says that the path to the peer has failed. What follows is in the table of
    /// [`crate::bfd`].
    PeerUnreachable {
        /// Whom.
        peer: PeerName,
        /// What is known of the failure.
        failure: PathFailure,
    },
    /// A router has advertised itself on a link (RFC 4861 §4.2).
    RouterFound {
        /// On which.
        interface: &'a str,
        /// Its link-local address.
        address: Ipv6Addr,
    },
}

/// How BFD went down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathFailure {
    /// Whether the peer's BFD could have died with its BGP speaker.
    pub fate: Fate,
    /// When the peer's BFD was last heard.
    pub last_heard: Instant,
    /// The reason, for the operator.
    pub text: String,
}

/// What the edge shall do, or may want to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Dial. Answer with [`Input::Connected`] or [`Input::ConnectFailed`].
    Connect {
        /// The name of the new connection.
        conn: ConnId,
        /// Whose [`super::PeerConfig`] tells source address, TTL and password.
        peer: PeerName,
        /// Where to.
        remote: SocketAddr,
    },
    /// Dial a monitoring station, with ordinary TCP options. Answer as for [`Self::Connect`]; from
    /// then on it is a connection like any other.
    ConnectStation {
        /// The name of the new connection.
        conn: ConnId,
        /// Where to.
        station: SocketAddr,
    },
    /// A monitoring station is there, and is told everything.
    StationUp {
        /// Which.
        station: SocketAddr,
    },
    /// A monitoring station is gone, or cannot be reached; it is dialled again. Said once.
    StationDown {
        /// Which.
        station: SocketAddr,
        /// Why.
        reason: String,
    },
    /// Dial a cache of the RPKI, with ordinary TCP options. Answer as for [`Self::Connect`]; from then on
    /// it is a connection like any other.
    ConnectCache {
        /// The name of the new connection.
        conn: ConnId,
        /// Where to.
        cache: SocketAddr,
    },
    /// A cache has told all that it has, for the first time or since it was gone.
    CacheUp {
        /// Which.
        cache: SocketAddr,
        /// Records that it has told.
        records: usize,
    },
    /// A cache is gone, or cannot be reached; it is dialled again, and what it has told counts on. Said
    /// once.
    CacheDown {
        /// Which.
        cache: SocketAddr,
        /// Why.
        reason: String,
    },
    /// What a cache has told is too old to be used, and does not count any more.
    CacheExpired {
        /// Which.
        cache: SocketAddr,
    },
    /// There is something to send: call [`super::Speaker::poll_transmit`] whenever the socket can
    /// take more, until it gives nothing. Said once for each change from nothing to something.
    Transmit {
        /// Where to.
        conn: ConnId,
    },
    /// Close, after a last round of [`super::Speaker::poll_transmit`] (a NOTIFICATION may be
    /// waiting; do not wait for it longer than some seconds). No answer is expected.
    Close {
        /// Which.
        conn: ConnId,
    },
    /// The chosen paths of a prefix changed. Only for prefixes heard from peers.
    RouteChanged(Route),
    /// No path heard from a peer leads to the prefix any longer.
    RouteWithdrawn {
        /// Which.
        prefix: Prefix,
    },
    /// There is a route to a part of an aggregate: it is told from now on, and what goes into it and
    /// fits no part has to end here.
    AggregateFormed {
        /// Which.
        prefix: Prefix,
    },
    /// No part of an aggregate is left.
    AggregateGone {
        /// Which.
        prefix: Prefix,
    },
    /// A peer's session changed its state.
    PeerStateChanged {
        /// Whose.
        peer: PeerName,
        /// From.
        old: State,
        /// To.
        new: State,
        /// Why, when it went down.
        reason: Option<Arc<DownReason>>,
    },
    /// A peer whose address nobody configured was found, came or went: the keys of listening sockets
    /// and BFD follow [`super::Speaker::hosts`].
    HostsChanged,
    /// Every peer that could answer has told all its routes of this family, or we stopped waiting.
    /// Until then the daemon keeps the routes of its earlier life. Said once per family.
    Synced {
        /// Which.
        family: Family,
    },
}

/// A prefix and where its packets go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Which.
    pub prefix: Prefix,
    /// One, or several of equal rank; never empty. The best one stands first.
    pub next_hops: Vec<NextHopVia>,
}

/// One next hop of a [`Route`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NextHopVia {
    /// The address. For IPv6 prefixes the global one.
    pub address: IpAddr,
    /// The link-local address (RFC 2545 §3), valid on the interface of the session with `peer`.
    pub link_local: Option<Ipv6Addr>,
    /// Who told us.
    pub peer: PeerName,
    /// Heard over eBGP or iBGP.
    pub kind: PeerKind,
    /// The interface of a session by link-local addresses; a link-local next hop is valid there.
    pub interface: Option<Arc<str>>,
}
