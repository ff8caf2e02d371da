//! What an operator, or a client of BFD, gets to know of a session.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::config::{Reach, Role, SessionName};
use super::packet::{Diagnostic, Discriminator, Fate, State};

/// Why a session that was Up is not any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Nothing was heard for the detection time.
    Expired,
    /// The peer went down, and says why.
    PeerDown(Diagnostic),
    /// The peer's operator ended it, or the peer's program in good order.
    PeerAdminDown,
    /// We ended it.
    Disabled,
}

impl Why {
    /// Whether the path has failed. That somebody switched BFD off says nothing of the path
    /// (RFC 5882 §3.2).
    pub const fn is_failure(self) -> bool {
        match self {
            Self::Expired | Self::PeerDown(_) => true,
            Self::PeerAdminDown | Self::Disabled => false,
        }
    }
}

/// How often the path of a session failed while it was Up, by who noticed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Failures {
    /// We: nothing was heard for the detection time.
    pub expired: u64,
    /// The peer, which said so. Also one that has begun its session anew, as routers do that make
    /// it together with a BGP session.
    pub peer_down: u64,
}

impl Failures {
    pub(super) const fn count(&mut self, why: Why) {
        match why {
            Why::Expired => self.expired += 1,
            Why::PeerDown(_) => self.peer_down += 1,
            // No failure ([`Why::is_failure`]).
            Why::PeerAdminDown | Why::Disabled => {}
        }
    }

    /// All of them.
    pub const fn total(self) -> u64 {
        self.expired + self.peer_down
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expired => f.write_str("nothing heard for the detection time"),
            Self::PeerDown(diagnostic) => write!(f, "the peer says: down ({diagnostic})"),
            Self::PeerAdminDown => f.write_str("the peer says: administratively down"),
            Self::Disabled => f.write_str("ended here"),
        }
    }
}

/// News of a session. A session that never was Up makes none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It has come up.
    Up {
        /// Which.
        session: SessionName,
    },
    /// It was Up and is not any more.
    Down {
        /// Which.
        session: SessionName,
        /// Why.
        why: Why,
        /// The C bit of the peer's last packet.
        fate: Fate,
        /// When the peer's last packet came.
        last_heard: Instant,
    },
}

/// When and why a session last left Up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastDown {
    /// Why.
    pub why: Why,
    /// When.
    pub at: Instant,
}

/// One session, as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionSnapshot {
    /// Its name.
    pub name: SessionName,
    /// The peer's address.
    pub peer: IpAddr,
    /// Our address, if it was configured.
    pub local: Option<IpAddr>,
    /// The interface, if it was configured.
    pub interface: Option<Arc<str>>,
    /// Where the peer is.
    pub reach: Reach,
    /// Who speaks first.
    pub role: Role,
    /// Our state.
    pub state: State,
    /// How long it has been so.
    pub since: Duration,
    /// The state that the peer told last.
    pub remote_state: State,
    /// Why we left Up the last time, as we tell it.
    pub diagnostic: Diagnostic,
    /// The same of the peer.
    pub remote_diagnostic: Diagnostic,
    /// Our name of the session.
    pub local_discriminator: Discriminator,
    /// The peer's name of the session, while it is heard.
    pub remote_discriminator: Option<Discriminator>,
    /// Time between our packets before jitter; `None`: none are sent.
    pub transmit_every: Option<Duration>,
    /// Silence for so long ends the session; `None` until the peer was heard.
    pub detect_after: Option<Duration>,
    /// Our detection multiplier, by which the peer detects.
    pub multiplier: u8,
    /// The peer's, by which we detect; zero until it was heard.
    pub remote_multiplier: u8,
    /// The peer's C bit.
    pub fate: Fate,
    /// How often the path failed while the session was Up.
    pub failures: Failures,
    /// The last time that the session left Up: why, and how long ago.
    pub last_down: Option<(Why, Duration)>,
    /// Packets sent.
    pub sent: u64,
    /// Packets taken in.
    pub received: u64,
    /// Packets of the peer that failed a check.
    pub discarded: u64,
    /// The longest silence of the peer since the session last came up.
    pub longest_gap: Duration,
    /// What keeps the edge from sending; the core never sets it.
    pub error: Option<Arc<str>>,
}
