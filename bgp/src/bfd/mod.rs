//! Bidirectional Forwarding Detection: whether the path to a peer forwards, asked many times a
//! second (RFC 5880), of a neighbour on the link (RFC 5881) or behind routers (RFC 5883).
//!
//! [`Engine`] is driven as the speaker is: configuration, datagrams and time in; datagrams,
//! [`Event`]s and the next deadline out. No socket, clock or thread inside, and no allocation on
//! the path of a packet. `net` (feature `tokio`) is the thread that owns sockets and clock.
//!
//! ```text
//! configure -----+                              +--> poll_output    Transmit, Opened, Closed, Event
//! handle --------+--> Engine { Session, ... } --+
//! handle_timeout +                              +--> poll_timeout   when to call handle_timeout
//! ```
//!
//! Deviations: no authentication (RFC 5880 §6.7: a packet that has one is discarded), no echo
//! function (§6.4: we say that we send none back), no Demand mode of our own (§6.6: a peer's is
//! honoured). The end of a session is said three times within 40 ms instead of for a detection
//! time (RFC 5882 §8). A session is bound to the peer's address (§6.3 binds it to the
//! discriminator alone).
//!
//! # With graceful restart
//!
//! Our packets carry C = 0: this thread lives and dies with the BGP speaker beside it. What the
//! silence of a peer means for its routes depends on two things, the C bit of its last packet and
//! whether its TCP connection has ended. RFC 5882 §4.3.2 asks not to abort a graceful restart for
//! a failure that the restart itself causes, and §4.3.1 to abort it for one that it does not.
//!
//! | BFD goes down while | peer's C = 0 | peer's C = 1 |
//! |---|---|---|
//! | BGP is Established, TCP stands | link or box is dead: Cease 6/10, routes dropped at once | the same |
//! | the connection has just ended, or the peer is awaited (RFC 4724 §4.2) | its daemon restarts: retained routes stay for the restart time | it does not forward: retained routes are dropped at once |
//! | the peer is back with the R bit, and was last heard by BFD before that | the old daemon's session: nothing | Cease 6/10, routes dropped at once |
//!
//! A kernel closes the connections of a daemon that was killed within a millisecond, and BFD takes
//! its detection time, so the order of the two tells them apart. A session that never was Up does
//! nothing, and AdminDown is no failure (RFC 5882 §3.2): BGP's own timers watch from then on.
//!
//! When we stop as planned, AdminDown goes out before the connections are closed, so that a helper
//! knows it for what it is. After `kill -9` nobody says it: the peer sees the connection close,
//! then BFD fail with our C = 0, and keeps our routes if it follows the table above; one that does
//! not drops them until we are back. A new process begins with a new discriminator before it
//! dials, so that a peer's old session falls before the new BGP session stands.

mod config;
mod engine;
mod fuzz;
#[cfg(feature = "tokio")]
pub mod net;
mod packet;
mod session;
mod snapshot;
mod state;
#[cfg(test)]
mod tests;

pub use config::{Interval, Reach, Role, SessionConfig, SessionName, Timing, UnusableInterval};
pub use engine::{Datagram, Engine, Output, Port, Strays};
pub use fuzz::drive;
pub use packet::{
    Diagnostic, Discriminator, Fate, Handshake, Malformed, PACKET_LEN, Packet, State,
    reencode_is_stable,
};
pub use snapshot::{Event, Failures, LastDown, SessionSnapshot, Why};
