//! How many prefixes a peer may tell and be told.

use std::num::NonZeroU32;
use std::time::Duration;

/// The most paths per family that a peer may have in our table, rejected ones included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MaxPaths {
    /// How many.
    pub limit: NonZeroU32,
    /// What one more means.
    pub then: LimitAction,
}

/// What happens to a peer that tells more paths than it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LimitAction {
    /// It is noted as a fault of the peer, and the paths are used.
    Warn,
    /// The session ends (RFC 4486 §4), and the peer may come back after so long.
    Restart(Duration),
    /// The session ends, and stays down until the operator resets it or changes the peer.
    StayDown,
}

impl From<NonZeroU32> for MaxPaths {
    /// The session ends, for a minute.
    fn from(limit: NonZeroU32) -> Self {
        Self { limit, then: LimitAction::Restart(Duration::from_secs(60)) }
    }
}
