//! Connections that nobody took, counted. Who came is in the log; a metric with addresses would grow with them.

use crate::speaker::Refused;

/// How many connections were refused, and why.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RefusedConnections {
    /// They came from an address that no peer has.
    pub unknown: u64,
    /// They came from a range of peers that is full.
    pub full: u64,
    /// They came from a peer that is not to connect, or not now.
    pub not_now: u64,
}

impl RefusedConnections {
    pub(super) fn count(&mut self, reason: &Refused) {
        match reason {
            Refused::Unknown(_) => self.unknown += 1,
            Refused::Full { .. } => self.full += 1,
            Refused::NotNow { .. } => self.not_now += 1,
        }
    }
}
