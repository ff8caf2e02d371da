//! Sessions: from the configuration of a peer to agreed terms, and back down again.
//!
//! `state` is the table of RFC 4271 §8; `Peer` holds the two lines it applies to and what is
//! known of a peer beyond one session. Timers and routes belong to the speaker, which carries out
//! what the table says.

pub(crate) mod collision;
pub(crate) mod link;
pub(crate) mod negotiate;
mod peer;
pub(crate) mod state;
pub(crate) mod timer;

pub(crate) use peer::{Peer, Quarantine};
pub use state::State;
