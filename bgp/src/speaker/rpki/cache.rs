//! One cache: its connection, and what is to be known of it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::rpki::{Client, Known, Stage};
use crate::speaker::ConnId;

/// The first wait before a cache is dialled again; it doubles with each failure.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The longest. RFC 8210 §6 would have the retry interval of the cache, 600 s by custom, which leaves an
/// operator who restarts a cache wondering.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// A cache, whether it is there or not.
#[derive(Debug)]
pub(super) struct Cache {
    pub(super) client: Client,
    pub(super) conn: Option<ConnId>,
    /// When the connection came up, or went down.
    pub(super) since: Instant,
    /// When the cache was last heard.
    pub(super) heard: Instant,
    /// When an answer was last complete.
    pub(super) completed: Option<Instant>,
    /// How many answers were.
    pub(super) answers: u64,
    pub(super) failures: u32,
    pub(super) last_error: Option<String>,
    /// The edge knows that there is something to send.
    pub(super) announced: bool,
}

/// A cache as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheSnapshot {
    /// Its address.
    pub address: SocketAddr,
    /// Where the talk with it stands.
    pub stage: Stage,
    /// For how long the connection has been up, or down.
    pub since: Duration,
    /// The version spoken on the connection.
    pub version: Option<u8>,
    /// The cache's session, and the number of the data in it that we have.
    pub session_and_serial: Option<(u16, u32)>,
    /// Records that count, by family.
    pub records: [usize; 2],
    /// How old the data are: the time since the last End of Data.
    pub age: Option<Duration>,
    /// When they are not to be used any more, unless the cache answers before.
    pub expires_in: Option<Duration>,
    /// Answers that were complete.
    pub answers: u64,
    /// Why the last connection ended, or could not be made, until the cache has answered again.
    pub last_error: Option<String>,
}

impl Cache {
    pub(super) const fn new(now: Instant) -> Self {
        Self {
            client: Client::new(),
            conn: None,
            since: now,
            heard: now,
            completed: None,
            answers: 0,
            failures: 0,
            last_error: None,
            announced: false,
        }
    }

    /// How long to wait before the next attempt.
    pub(super) fn wait(&mut self) -> Duration {
        let doublings = self.failures.min(6);
        self.failures = self.failures.saturating_add(1);
        (FIRST_WAIT * 2u32.pow(doublings)).min(LONGEST_WAIT)
    }

    pub(super) fn snapshot(
        &self,
        (address, records): (SocketAddr, [usize; 2]),
        now: Instant,
        expiry: Option<Instant>,
    ) -> CacheSnapshot {
        let known = self.client.known();
        CacheSnapshot {
            address,
            stage: self.client.stage(),
            since: now.duration_since(self.since),
            version: self.client.version().map(crate::rpki::Version::number),
            session_and_serial: known.map(|Known { session, serial, .. }| (session, serial)),
            records,
            age: self.completed.map(|completed| now.duration_since(completed)),
            expires_in: expiry.map(|expiry| expiry.saturating_duration_since(now)),
            answers: self.answers,
            last_error: self.last_error.clone(),
        }
    }
}
