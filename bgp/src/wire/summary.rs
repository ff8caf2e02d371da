//! What the decision process and the export rules read of a block, without touching its bytes.

use std::net::Ipv4Addr;

use super::Origin;
use super::iana::community;

/// The well-known communities of a route, as bits: they steer every advertisement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Marks(u8);

impl Marks {
    /// RFC 1997.
    pub const NO_EXPORT: Self = Self(1);
    /// RFC 1997.
    pub const NO_ADVERTISE: Self = Self(1 << 1);
    /// RFC 1997.
    pub const NO_EXPORT_SUBCONFED: Self = Self(1 << 2);
    /// RFC 8326.
    pub const GRACEFUL_SHUTDOWN: Self = Self(1 << 3);
    /// RFC 9494.
    pub const LLGR_STALE: Self = Self(1 << 4);
    /// RFC 9494.
    pub const NO_LLGR: Self = Self(1 << 5);
    /// RFC 7999.
    pub const BLACKHOLE: Self = Self(1 << 6);

    /// Whether all marks of `other` are set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The marks of both.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The mark of one community, if it has one.
    #[must_use]
    pub const fn of(number: u32) -> Self {
        match number {
            community::NO_EXPORT => Self::NO_EXPORT,
            community::NO_ADVERTISE => Self::NO_ADVERTISE,
            community::NO_EXPORT_SUBCONFED => Self::NO_EXPORT_SUBCONFED,
            community::GRACEFUL_SHUTDOWN => Self::GRACEFUL_SHUTDOWN,
            community::LLGR_STALE => Self::LLGR_STALE,
            community::NO_LLGR => Self::NO_LLGR,
            community::BLACKHOLE => Self::BLACKHOLE,
            _ => Self(0),
        }
    }
}

/// What the decision process reads; small, so that choosing a path touches no attribute bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Summary {
    /// MULTI_EXIT_DISC.
    pub med: Option<u32>,
    /// LOCAL_PREF.
    pub local_pref: Option<u32>,
    /// The nearest AS outside of our confederation; 0 when there is none.
    pub first_as: u32,
    /// ORIGINATOR_ID; 0.0.0.0 is not a valid one.
    pub originator_id: Option<Ipv4Addr>,
    /// Number of AS numbers on the path, without those within our confederation.
    pub as_path_length: u16,
    /// Number of Member-AS Numbers on the path (RFC 5065).
    pub confederation_length: u8,
    /// Number of cluster identifiers.
    pub cluster_list_length: u8,
    /// ORIGIN.
    pub origin: Origin,
    /// Well-known communities.
    pub marks: Marks,
}
