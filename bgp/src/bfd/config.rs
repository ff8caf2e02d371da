//! What is wanted of BFD. Plain values, compared with those in force when they change.

use std::fmt;
use std::net::IpAddr;
use std::num::{NonZeroU8, NonZeroU32};
use std::sync::Arc;
use std::time::Duration;

/// The user's name of a session; the name of a BGP peer, most often.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionName(Arc<str>);

impl SessionName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for SessionName {
    fn from(name: &str) -> Self {
        Self(name.into())
    }
}

impl fmt::Display for SessionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Time between packets, in microseconds: 10 ms to 60 s. A user-space program cannot keep a
/// shorter one, and a longer one detects nothing that BGP's own hold timer would not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Interval(NonZeroU32);

/// A time that cannot be an [`Interval`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not between 10 ms and 60 s")]
pub struct UnusableInterval(Duration);

impl Interval {
    const LEAST: Duration = Duration::from_millis(10);
    const MOST: Duration = Duration::from_secs(60);

    /// In microseconds.
    pub const fn micros(self) -> u32 {
        self.0.get()
    }

    /// As a duration.
    pub const fn duration(self) -> Duration {
        Duration::from_micros(self.0.get() as u64)
    }
}

impl TryFrom<Duration> for Interval {
    type Error = UnusableInterval;

    fn try_from(time: Duration) -> Result<Self, UnusableInterval> {
        let micros = u32::try_from(time.as_micros()).ok().and_then(NonZeroU32::new);
        micros
            .filter(|_| (Self::LEAST..=Self::MOST).contains(&time))
            .map(Self)
            .ok_or(UnusableInterval(time))
    }
}

/// How fast the failure of a path shall be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// We send no faster (bfd.DesiredMinTxInterval).
    pub min_tx: Interval,
    /// The peer shall send no faster (bfd.RequiredMinRxInterval).
    pub min_rx: Interval,
    /// How many of our packets the peer may miss (bfd.DetectMult).
    pub multiplier: NonZeroU8,
}

impl Timing {
    /// The same interval in both directions.
    pub const fn symmetric(interval: Interval, multiplier: NonZeroU8) -> Self {
        Self { min_tx: interval, min_rx: interval, multiplier }
    }
}

impl Default for Timing {
    /// Three packets of 300 ms, which most routers do by default.
    fn default() -> Self {
        const INTERVAL: NonZeroU32 = NonZeroU32::new(300_000).expect("not zero");
        const MULTIPLIER: NonZeroU8 = NonZeroU8::new(3).expect("not zero");
        Self::symmetric(Interval(INTERVAL), MULTIPLIER)
    }
}

/// Where the peer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// On the same link (RFC 5881): UDP port 3784, packets with a TTL of 255 alone.
    SingleHop,
    /// Behind routers (RFC 5883): UDP port 4784.
    Multihop {
        /// The least TTL of a packet that is believed; 255 less the hops that lie between.
        min_ttl: u8,
    },
}

/// Who speaks first (RFC 5880 §6.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// We send from the start.
    Active,
    /// We send once the peer was heard.
    Passive,
}

/// A session that is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionConfig {
    /// The peer's address.
    pub peer: IpAddr,
    /// Our address; `None`: the one from which the kernel reaches the peer.
    pub local: Option<IpAddr>,
    /// The only interface that packets may leave and come by. A link-local peer needs one.
    pub interface: Option<Arc<str>>,
    /// Where the peer is.
    pub reach: Reach,
    /// Who speaks first.
    pub role: Role,
    /// How fast.
    pub timing: Timing,
}

impl SessionConfig {
    /// A session with a neighbour on the same link, with the customary timing.
    pub fn new(peer: IpAddr) -> Self {
        Self {
            peer,
            local: None,
            interface: None,
            reach: Reach::SingleHop,
            role: Role::Active,
            timing: Timing::default(),
        }
    }

    /// Whether the change from `self` to `new` can be made on a running session.
    pub(super) fn may_become(&self, new: &Self) -> bool {
        let fixed = |config: &Self| Self {
            timing: Timing::default(),
            role: Role::Active,
            ..config.clone()
        };
        fixed(self) == fixed(new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_neither_too_short_to_keep_nor_too_long_to_be_of_use() {
        let usable = |millis| Interval::try_from(Duration::from_millis(millis)).is_ok();
        assert_eq!([9, 10, 60_000, 60_001].map(usable), [false, true, true, false]);
    }
}
