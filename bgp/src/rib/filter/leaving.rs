//! Taking leave (RFC 8326).

use super::{AnyCommunity, Operation};
use crate::wire::Community;
use crate::wire::iana::community::GRACEFUL_SHUTDOWN;

/// What is done to a route that is about to go, while it may still be used: within the AS LOCAL_PREF 0 says so (RFC 8326
/// §4.2), and another AS sees the community alone (§5). Which of the two a peer is may be known by its OPEN alone.
pub static LEAVING: [Operation; 2] = [
    Operation::AddCommunity(AnyCommunity::Standard(Community(GRACEFUL_SHUTDOWN))),
    Operation::SetLocalPref(0),
];
