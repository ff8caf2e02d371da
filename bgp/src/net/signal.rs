//! How sockets tell the driver that they are ready: each waker puts one signal into one queue.
//!
//! The driver is a single task that owns every connection, so that no lock guards the speaker. To
//! learn *which* socket woke it without asking all of them, each socket gets a waker of its own.

use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::task::{Wake, Waker};

use tokio::net::TcpStream;
use tokio::sync::mpsc::UnboundedSender;

use crate::bfd;
use crate::speaker::ConnId;

/// What a socket has to say.
#[derive(Debug)]
pub(super) enum Signal {
    /// A socket is ready.
    Ready(Ready),
    /// An attempt to connect has ended.
    Dialled(ConnId, io::Result<TcpStream>),
    /// BFD has news of a peer.
    Bfd(bfd::Event),
    /// A router has advertised itself on an interface.
    RouterFound(Arc<str>, Ipv6Addr),
}

/// What a socket is ready for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Ready {
    /// Bytes can be read.
    Read(ConnId),
    /// Bytes can be written.
    Write(ConnId),
    /// A connection can be accepted.
    Accept(SocketAddr),
}

struct Bell {
    ready: Ready,
    signals: UnboundedSender<Signal>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // The driver may be gone already; then nobody needs to know.
        let _ = self.signals.send(Signal::Ready(self.ready));
    }
}

/// A waker that says `ready`. The queue stays short: a socket wakes once for each time that the
/// driver found it blocked.
pub(super) fn waker(ready: Ready, signals: &UnboundedSender<Signal>) -> Waker {
    Arc::new(Bell { ready, signals: signals.clone() }).into()
}
