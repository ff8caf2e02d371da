//! BGP roles (RFC 9234): what two ASes are to each other, so that a route that was told to a customer
//! does not leak to somebody else's provider.

use std::fmt;

/// What we are to the peer (RFC 9234 §3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// The peer is our customer.
    Provider,
    /// The peer is a client of our route server.
    RouteServer,
    /// The peer is a route server.
    RouteServerClient,
    /// The peer is our provider.
    Customer,
    /// Neither pays the other.
    Peer,
}

/// A role towards one peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PeerRole {
    /// Ours.
    pub role: Role,
    /// What becomes of a peer that says nothing of its own.
    pub silent: SilentPeer,
}

/// A peer without the role capability (RFC 9234 §4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SilentPeer {
    /// It is what it is configured to be.
    Accepted,
    /// No session (strict mode).
    Refused,
}

impl Role {
    /// The octet of the capability (RFC 9234 §4.1).
    pub(crate) const fn octet(self) -> u8 {
        match self {
            Self::Provider => 0,
            Self::RouteServer => 1,
            Self::RouteServerClient => 2,
            Self::Customer => 3,
            Self::Peer => 4,
        }
    }

    /// What the peer has to be (RFC 9234 §4.2).
    pub(crate) const fn counterpart(self) -> Self {
        match self {
            Self::Provider => Self::Customer,
            Self::RouteServer => Self::RouteServerClient,
            Self::RouteServerClient => Self::RouteServer,
            Self::Customer => Self::Provider,
            Self::Peer => Self::Peer,
        }
    }

    /// Whether the peer is above us, or beside us: a route from there must go to nobody but customers
    /// from here on, and no such route may go there (RFC 9234 §5).
    pub(crate) const fn receives_from_above(self) -> bool {
        matches!(self, Self::Customer | Self::RouteServerClient | Self::Peer)
    }

    /// Whether what is told to the peer has to be marked.
    pub(crate) const fn marks(self) -> bool {
        matches!(self, Self::Provider | Self::RouteServer | Self::Peer)
    }

    /// Whether a route from the peer with this mark has leaked (RFC 9234 §5).
    pub(crate) const fn is_leak(self, only_to_customer: u32, remote_as: u32) -> bool {
        match self {
            Self::Provider | Self::RouteServer => true,
            Self::Peer => only_to_customer != remote_as,
            Self::Customer | Self::RouteServerClient => false,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Provider => "provider",
            Self::RouteServer => "route server",
            Self::RouteServerClient => "route server client",
            Self::Customer => "customer",
            Self::Peer => "peer",
        })
    }
}
