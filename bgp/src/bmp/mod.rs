//! The BGP Monitoring Protocol (RFC 7854): messages that tell a station what a speaker hears, chooses
//! and tells. One way only; a station says nothing.
//!
//! | message | RFC | function |
//! |---|---|---|
//! | Initiation, Termination | 7854 §4.3, §4.5 | [`initiation`], [`termination`] |
//! | Peer Up, Peer Down | 7854 §4.9, §4.10 | [`peer_up`], [`peer_down`] |
//! | Route Monitoring | 7854 §4.6, 8671, 9069 | [`route_monitoring`] |
//! | Statistics Report | 7854 §4.8 | [`statistics`] |
//!
//! Each function appends one message. What is said when is a matter of `speaker::monitor`.

mod message;
mod peer;

#[cfg(test)]
mod tests;

pub use message::{
    Connection, Down, Statistic, initiation, peer_down, peer_up, route_monitoring, statistics,
    termination,
};
pub use peer::{PeerHeader, Table};
