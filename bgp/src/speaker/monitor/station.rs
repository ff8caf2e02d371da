//! One station: its connection, and what is to be known of it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::config::StationConfig;
use super::feed::Feed;
use crate::speaker::ConnId;

/// The first wait before a station is dialled again; it doubles with each failure. RFC 7854 §3.2
/// suggests 30 s to 720 s, which would leave an operator who restarts a collector wondering.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The longest.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// How long a connection must stand for the failures before it to be forgotten.
pub(super) const STEADY: Duration = Duration::from_secs(30);

/// A station, whether it is there or not.
#[derive(Debug)]
pub(super) struct Station {
    pub(super) config: StationConfig,
    pub(super) conn: Option<ConnId>,
    /// With a connection that is up.
    pub(super) feed: Option<Feed>,
    /// When it came up, or went down.
    pub(super) since: Instant,
    pub(super) failures: u32,
    pub(super) last_error: Option<String>,
    /// Messages of earlier connections.
    pub(super) messages: u64,
    pub(super) octets: u64,
    /// How often everything was told from the beginning.
    pub(super) dumps: u64,
    /// How often it was so far behind that this was better than to go on.
    pub(super) swamped: u64,
}

/// A station as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StationSnapshot {
    /// Its address.
    pub address: SocketAddr,
    /// What it is told.
    pub config: StationConfig,
    /// Where the connection stands.
    pub state: StationState,
    /// For how long it has been up, or down.
    pub since: Duration,
    /// Why the last connection ended, or could not be made.
    pub last_error: Option<String>,
    /// Messages sent, in all.
    pub messages: u64,
    /// Their octets.
    pub octets: u64,
    /// How often the tables were told from the beginning.
    pub dumps: u64,
    /// How often the connection was given up because the station was too far behind.
    pub swamped: u64,
    /// Changes that wait to be told.
    pub waiting: usize,
}

/// Where the connection with a station stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StationState {
    /// There is none; it will be tried again.
    Down,
    /// It is up, and the tables are being told.
    Telling,
    /// It is up, and only changes are left to tell.
    Current,
}

impl Station {
    pub(super) fn new(config: StationConfig, now: Instant) -> Self {
        Self {
            config,
            conn: None,
            feed: None,
            since: now,
            failures: 0,
            last_error: None,
            messages: 0,
            octets: 0,
            dumps: 0,
            swamped: 0,
        }
    }

    /// How long to wait before the next attempt.
    pub(super) fn wait(&mut self) -> Duration {
        let doublings = self.failures.min(6);
        self.failures = self.failures.saturating_add(1);
        (FIRST_WAIT * 2u32.pow(doublings)).min(LONGEST_WAIT)
    }

    pub(super) fn snapshot(&self, address: SocketAddr, now: Instant) -> StationSnapshot {
        StationSnapshot {
            address,
            config: self.config,
            state: match &self.feed {
                None => StationState::Down,
                Some(feed) if feed.is_complete() => StationState::Current,
                Some(_) => StationState::Telling,
            },
            since: now.duration_since(self.since),
            last_error: self.last_error.clone(),
            messages: self.messages + self.feed.as_ref().map_or(0, |feed| feed.messages),
            octets: self.octets,
            dumps: self.dumps,
            swamped: self.swamped,
            waiting: self.feed.as_ref().map_or(0, Feed::waiting),
        }
    }
}
