//! Both sides dialled, and there are two connections: which one stays (RFC 4271 §6.8).

use std::net::Ipv4Addr;

/// The two lines of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Direction {
    /// We dialled.
    Outgoing,
    /// The peer did.
    Incoming,
}

impl Direction {
    pub(crate) const BOTH: [Self; 2] = [Self::Outgoing, Self::Incoming];

    pub(crate) const fn other(self) -> Self {
        match self {
            Self::Outgoing => Self::Incoming,
            Self::Incoming => Self::Outgoing,
        }
    }
}

/// Who a speaker is: its BGP Identifier, and its AS number where those are equal (RFC 6286 §2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Identity {
    pub(crate) router_id: Ipv4Addr,
    pub(crate) asn: u32,
}

/// The line to keep: the one that the speaker with the higher identity dialled. Both sides come to
/// the same answer.
pub(crate) fn survivor(ours: Identity, theirs: Identity) -> Direction {
    if ours > theirs { Direction::Outgoing } else { Direction::Incoming }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_keep_the_same_connection() {
        let id = |last, asn| Identity { router_id: Ipv4Addr::new(10, 0, 0, last), asn };
        for (a, b) in [(id(1, 1), id(2, 1)), (id(9, 1), id(2, 7)), (id(3, 64512), id(3, 64513))] {
            assert_ne!(survivor(a, b), survivor(b, a));
        }
        assert_eq!(survivor(id(2, 1), id(1, 9)), Direction::Outgoing);
    }
}
