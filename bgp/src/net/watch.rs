//! BFD beside the speaker: a session for each peer that wants one, and what its news mean.

use std::collections::BTreeMap;

use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;

use super::signal::Signal;
use crate::bfd::net::Handle;
use crate::bfd::{self, Event, Role, SessionConfig, SessionName, SessionSnapshot};
use crate::speaker::{Admin, Host, PathFailure, PeerName, Speaker};

/// The BFD thread, once there is something to watch.
#[derive(Debug)]
pub(super) struct Watch {
    handle: Option<Handle>,
    bell: UnboundedSender<Signal>,
}

impl Watch {
    pub(super) const fn new(bell: UnboundedSender<Signal>) -> Self {
        Self { handle: None, bell }
    }

    /// Watches the speaker's peers, of which the address has to be known.
    pub(super) fn configure(&mut self, speaker: &Speaker) {
        let sessions = sessions(speaker);
        if self.handle.is_none() && !sessions.is_empty() {
            let bell = self.bell.clone();
            // Fails when the BGP thread is gone, and nobody needs to know.
            match bfd::net::spawn(move |event| drop(bell.send(Signal::Bfd(event)))) {
                Ok(handle) => self.handle = Some(handle),
                Err(error) => tracing::error!(%error, "BFD cannot be started"),
            }
        }
        if let Some(handle) = &self.handle
            && let Err(error) = handle.configure(sessions)
        {
            tracing::error!(%error, "BFD is not to be had");
            self.handle = None;
        }
    }

    /// Has the BFD thread answer. Without one there are no sessions.
    pub(super) fn snapshot(&self, answer: oneshot::Sender<Vec<SessionSnapshot>>) {
        // Whoever asked may have gone; then the answer is not needed.
        match &self.handle {
            None => drop(answer.send(Vec::new())),
            Some(handle) => drop(handle.snapshot(|sessions| drop(answer.send(sessions)))),
        }
    }

    /// Says AdminDown to all peers.
    pub(super) fn stop(&mut self) {
        if let Some(handle) = self.handle.take() {
            handle.stop();
        }
    }
}

/// The sessions that are asked for.
fn sessions(speaker: &Speaker) -> BTreeMap<SessionName, SessionConfig> {
    let wanted = speaker.hosts().filter(|host| host.config.admin == Admin::Up);
    wanted.filter_map(|host| Some((host.name.as_str().into(), session(host)?))).collect()
}

/// Between the addresses of the BGP session (RFC 5882 §10.2).
fn session(Host { address, config: peer, .. }: Host<'_>) -> Option<SessionConfig> {
    let bfd = peer.bfd?;
    Some(SessionConfig {
        peer: address,
        local: peer.source,
        interface: peer.interface.clone(),
        reach: bfd.reach,
        role: Role::Active,
        timing: bfd.timing,
    })
}

/// Whose path has failed; AdminDown on either side is no failure (RFC 5882 §3.2).
pub(super) fn failure(event: Event) -> Option<(PeerName, PathFailure)> {
    match event {
        Event::Down { session, why, fate, last_heard } if why.is_failure() => {
            let text = format!("BFD: {why}");
            Some((session.as_str().into(), PathFailure { fate, last_heard, text }))
        }
        Event::Up { .. } | Event::Down { .. } => None,
    }
}

/// One line for each session that comes up or goes down.
pub(super) fn log(event: &Event) {
    match event {
        Event::Up { session } => tracing::info!(peer = %session, "BFD session up"),
        Event::Down { session, why, .. } if why.is_failure() => {
            tracing::warn!(peer = %session, reason = %why, "BFD session down");
        }
        Event::Down { session, why, .. } => {
            tracing::info!(peer = %session, reason = %why, "BFD session ended");
        }
    }
}
