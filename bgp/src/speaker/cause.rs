//! Why a session ends, and what that means for the next one and for the routes.

use std::sync::Arc;

use super::{DownReason, EndedBy};
use crate::wire::iana::error;
use crate::wire::{Cease, Notification};

/// Why something ends.
#[derive(Debug, Clone)]
pub(super) struct Cause {
    pub(super) reason: Arc<DownReason>,
    pub(super) fault: Fault,
    /// What we say.
    pub(super) notification: Option<Notification>,
    /// What the peer has said.
    pub(super) heard: Option<Notification>,
}

/// What kind of end it is; decides when to try again and what becomes of the routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The connection failed, or the peer began a new one.
    Transport,
    /// One side broke the protocol, or fell silent.
    Error,
    /// The peer sent more routes than it may.
    Flood,
    /// One side had enough for now.
    Cease,
    /// One side had enough for good: no graceful restart (RFC 8538 §3.1).
    HardReset,
}

impl Cause {
    pub(super) fn transport(text: String) -> Self {
        let reason = DownReason { by: EndedBy::Transport, code: None, text };
        Self { reason: Arc::new(reason), fault: Fault::Transport, notification: None, heard: None }
    }

    /// We end it; the text adds to what the notification says by itself.
    pub(super) fn ours(fault: Fault, notification: Notification, text: String) -> Self {
        let code = Some((notification.code, notification.subcode));
        let reason = DownReason { by: EndedBy::Us, code, text };
        Self { reason: Arc::new(reason), fault, notification: Some(notification), heard: None }
    }

    pub(super) fn cease(reason: Cease, text: &str) -> Self {
        let notification = Notification::cease_with_text(reason, text);
        let text = if text.is_empty() { reason.to_string() } else { text.to_owned() };
        let fault = match reason {
            // RFC 5882 §4.3: what BFD finds dead does not forward, so no restart is waited for.
            Cease::AdministrativeShutdown
            | Cease::PeerDeconfigured
            | Cease::HardReset
            | Cease::BfdDown => Fault::HardReset,
            Cease::MaximumPrefixes
            | Cease::AdministrativeReset
            | Cease::ConnectionRejected
            | Cease::OtherConfigurationChange
            | Cease::CollisionResolution
            | Cease::OutOfResources => Fault::Cease,
        };
        Self::ours(fault, notification, text)
    }

    /// An end for good is wrapped for peers that would otherwise keep our routes (RFC 8538 §3.1), and so is
    /// that of a session which will not be back soon, for too many prefixes (§5.1).
    pub(super) fn for_good(&self, survives: bool) -> Self {
        let mut cause = self.clone();
        if matches!(self.fault, Fault::HardReset | Fault::Flood) && survives {
            cause.notification = cause.notification.map(Notification::into_hard_reset);
        }
        cause
    }

    pub(super) fn theirs(notification: &Notification) -> Self {
        let fault = match (notification.code, notification.reason()) {
            (_, Some(Cease::HardReset)) => Fault::HardReset,
            (error::CEASE, _) => Fault::Cease,
            _ => Fault::Error,
        };
        let code = Some((notification.code, notification.subcode));
        let text = format!("the peer says: {notification}");
        let reason = DownReason { by: EndedBy::Peer, code, text };
        let heard = Some(notification.clone());
        Self { reason: Arc::new(reason), fault, notification: None, heard }
    }
}
