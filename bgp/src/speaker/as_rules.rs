//! AS numbers between us and a peer: which one it may have, which one we show, and what becomes of
//! the numbers on the paths that we tell.

use std::fmt;
use std::num::NonZeroU32;

use crate::wire::PeerKind;

/// Which AS number the peer may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RemoteAs {
    /// Exactly this one. Equal to ours: iBGP.
    Number(NonZeroU32),
    /// Any but ours: eBGP with whoever is at the other end of the link, outside of our confederation.
    External,
    /// Ours: iBGP.
    Internal,
    /// Any; whether the session is iBGP or eBGP follows from the peer's OPEN. In a confederation any
    /// outside.
    Any,
}

impl From<NonZeroU32> for RemoteAs {
    fn from(number: NonZeroU32) -> Self {
        Self::Number(number)
    }
}

impl fmt::Display for RemoteAs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::External => f.write_str("external"),
            Self::Internal => f.write_str("internal"),
            Self::Any => f.write_str("any"),
        }
    }
}

impl RemoteAs {
    /// Whether a peer with this number will do for us, who are `local_as` to it.
    #[must_use]
    pub const fn admits(self, remote: u32, local_as: u32) -> bool {
        match self {
            Self::Number(number) => number.get() == remote,
            Self::External => remote != local_as,
            Self::Internal => remote == local_as,
            Self::Any => true,
        }
    }

    /// The kind of session to expect before the peer has said its number.
    #[must_use]
    pub const fn expected_kind(self, local_as: u32) -> PeerKind {
        match self {
            Self::Number(number) if number.get() == local_as => PeerKind::Internal,
            Self::Internal => PeerKind::Internal,
            Self::Number(_) | Self::External | Self::Any => PeerKind::External,
        }
    }
}

/// The AS number that we show to one peer instead of our own, as in the middle of a renumbering.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LocalAs {
    /// What our OPEN says.
    pub number: NonZeroU32,
    /// Which of our two numbers stand on the paths.
    pub mode: LocalAsMode,
}

/// Which of our two AS numbers stand on the paths of a peer to which we are another AS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LocalAsMode {
    /// What we tell begins with the shown number alone; what we hear stays as it is.
    Replace,
    /// What we tell begins with the shown number, then our own; what we hear stays as it is.
    NoPrepend,
    /// What we tell begins with the shown number, then our own; what we hear gets the shown number
    /// put before it, as if that AS stood between us and the peer.
    Prepend,
}

impl From<NonZeroU32> for LocalAs {
    fn from(number: NonZeroU32) -> Self {
        Self { number, mode: LocalAsMode::Replace }
    }
}

/// What becomes of the peer's own AS number on the paths that we tell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AsOverride {
    /// It stays, and the peer may take the path for a loop.
    Keep,
    /// Ours stands in its place: sites that share an AS number reach each other through us.
    Replace,
}

/// What becomes of private AS numbers (RFC 6996) on the paths that we tell an eBGP peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RemovePrivate {
    /// They stay.
    Keep,
    /// They go from paths that hold no public number; mixed paths stay as they are.
    WhenAll,
    /// They go.
    Remove,
    /// Ours stands in their place, so that the length of the path says what it did.
    Replace,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remote_as_admits_whom_it_names() {
        let number = RemoteAs::from(NonZeroU32::new(65002).unwrap());
        let cases = [
            (number, [false, true, false]),
            (RemoteAs::External, [false, true, true]),
            (RemoteAs::Internal, [true, false, false]),
            (RemoteAs::Any, [true; 3]),
        ];
        for (remote_as, expected) in cases {
            let admitted = [65001, 65002, 65003].map(|asn| remote_as.admits(asn, 65001));
            assert_eq!(admitted, expected, "{remote_as}");
        }
    }
}
