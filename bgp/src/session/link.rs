//! One connection with a peer, from the first byte to the last.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Instant;

use bytes::Bytes;

use super::negotiate::Terms;
use crate::speaker::ConnId;
use crate::wire::{self, Codec, MessageKind, Notification, Open, RouteRefresh};

/// A connection that is up, or being made.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) conn: ConnId,
    /// Our end, once it is known.
    pub(crate) local: Option<SocketAddr>,
    /// The part of a message whose end has not come yet.
    pub(crate) partial: Vec<u8>,
    pub(crate) outbox: Outbox,
    /// The peer's TCP port.
    pub(crate) remote_port: u16,
    /// What we said.
    pub(crate) open: Option<Open>,
    /// What the peer said, as it came; for those who monitor.
    pub(crate) open_heard: Vec<u8>,
    /// Since both OPENs are good.
    pub(crate) terms: Option<Terms>,
    pub(crate) last_heard: Instant,
    /// When the edge last took something to send, or found nothing.
    pub(crate) last_taken: Instant,
    pub(crate) transport: Transport,
}

/// Whether the connection is still there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    /// It is, or is being made.
    Up,
    /// The edge has lost it.
    Gone,
}

impl Link {
    pub(crate) fn new(conn: ConnId, local: Option<SocketAddr>, now: Instant) -> Self {
        Self {
            conn,
            local,
            partial: Vec::new(),
            outbox: Outbox::default(),
            remote_port: 0,
            open: None,
            open_heard: Vec::new(),
            terms: None,
            last_heard: now,
            last_taken: now,
            transport: Transport::Up,
        }
    }

    /// How to read what comes.
    pub(crate) fn codec(&self, before: Codec) -> Codec {
        self.terms.as_ref().map_or(before, |terms| terms.codec)
    }
}

/// Messages that wait to be sent and are for one peer only: few, since a peer that does not read
/// is not sent keepalives without end.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    messages: VecDeque<(MessageKind, Bytes)>,
}

impl Outbox {
    pub(crate) fn open(&mut self, open: &Open) {
        self.put(MessageKind::Open, |out| open.emit(out));
    }

    pub(crate) fn notification(&mut self, notification: &Notification) {
        self.put(MessageKind::Notification, |out| notification.emit(out));
    }

    pub(crate) fn refresh(&mut self, refresh: RouteRefresh) {
        self.put(MessageKind::RouteRefresh, |out| refresh.emit(out));
    }

    /// Unless one waits already.
    pub(crate) fn keepalive(&mut self) {
        if self.messages.iter().all(|(kind, _)| *kind != MessageKind::Keepalive) {
            self.put(MessageKind::Keepalive, wire::keepalive);
        }
    }

    fn put(&mut self, kind: MessageKind, emit: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = Vec::new();
        emit(&mut bytes);
        self.messages.push_back((kind, bytes.into()));
    }

    pub(crate) fn pop(&mut self) -> Option<(MessageKind, Bytes)> {
        self.messages.pop_front()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }
}
