//! What the daemon hears of the BGP thread, in batches.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use crate::session::State;
use crate::speaker::{DownReason, PeerName, Route};
use crate::wire::{Family, Prefix};

/// News.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The chosen paths of a prefix changed.
    RouteChanged(Route),
    /// No path heard from a peer leads to the prefix any longer.
    RouteWithdrawn(Prefix),
    /// An aggregate is told from now on; see [`crate::speaker::Output::AggregateFormed`].
    AggregateFormed(Prefix),
    /// It is not told any longer.
    AggregateGone(Prefix),
    /// A peer's session changed its state.
    PeerStateChanged {
        /// Whose.
        peer: PeerName,
        /// From.
        old: State,
        /// To.
        new: State,
        /// Why, when it went down.
        reason: Option<Arc<DownReason>>,
    },
    /// The first choice of routes of this family is complete; said once.
    Synced(Family),
    /// We listen.
    Listening {
        /// As configured.
        address: SocketAddr,
        /// With the real port.
        local: SocketAddr,
        /// Keys of TCP MD5 or TCP-AO that the kernel does not take, so that peers from there cannot
        /// connect to us: where they are for, and the system's words.
        refused: Vec<(Prefix, String)>,
    },
    /// We cannot listen; it will be tried again, and told again when the reason is another.
    ListenFailed {
        /// As configured.
        address: SocketAddr,
        /// The system's words.
        error: String,
    },
}

/// More events than this wait for the daemon: no input is read until it has caught up.
const BACKLOG_MAX: usize = 16 * 1024;

/// The sending end. A batch goes out whenever there is room; what does not fit waits here.
#[derive(Debug)]
pub(super) struct EventQueue {
    sender: mpsc::Sender<Vec<Event>>,
    backlog: Vec<Event>,
}

impl EventQueue {
    pub(super) const fn new(sender: mpsc::Sender<Vec<Event>>) -> Self {
        Self { sender, backlog: Vec::new() }
    }

    pub(super) fn push(&mut self, event: Event) {
        self.backlog.push(event);
    }

    /// Sends the backlog, if there is room.
    pub(super) fn flush(&mut self) {
        if self.backlog.is_empty() {
            return;
        }
        match self.sender.try_send(std::mem::take(&mut self.backlog)) {
            // Closed: the daemon does not want to know.
            Ok(()) | Err(TrySendError::Closed(_)) => {}
            Err(TrySendError::Full(batch)) => self.backlog = batch,
        }
    }

    /// Whether the daemon is so far behind that input has to wait.
    pub(super) const fn is_congested(&self) -> bool {
        self.backlog.len() > BACKLOG_MAX
    }

    /// Waits until a flush can succeed; for ever when there is nothing to send.
    pub(super) async fn room(&self) {
        if self.backlog.is_empty() {
            std::future::pending::<()>().await;
        } else {
            // An error says that the receiver is gone: the next flush drops the backlog.
            let _ = self.sender.reserve().await;
        }
    }
}
