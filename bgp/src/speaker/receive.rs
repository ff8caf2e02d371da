//! From bytes to messages to routes.

use std::time::Instant;

use super::cause::{Cause, Fault};
use super::{ConnId, LimitAction, Place, Speaker};
use crate::rib::PATHS_TO_PREFIX;
use crate::rib::attribute::Block;
use crate::rib::import::{Age, Import};
use crate::rib::sweep::Sweep;
use crate::session::collision::{self, Direction, Identity};
use crate::session::negotiate::{self, Terms};
use crate::session::state::{Event, State};
use crate::wire::{
    self, Cease, Checked, Codec, Family, FamilySet, Message, MessageKind, NextHop, Nlri,
    Notification, Open, PeerKind, Severity, Summary, Update,
};

/// What is left to do with the stream of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stream {
    Open,
    Ended,
}

impl Speaker {
    /// Takes any part of the stream of a connection.
    pub(super) fn receive(&mut self, now: Instant, conn: ConnId, bytes: &[u8]) {
        let Some(place) = self.conns.get(&conn).copied() else {
            return self.cache_received(now, conn, bytes);
        };
        self.end_delay(now, place);
        let Some(link) = self.link(place) else { return };
        link.last_heard = now;
        let mut partial = std::mem::take(&mut link.partial);
        let whole: &[u8] = if partial.is_empty() {
            bytes
        } else {
            partial.extend_from_slice(bytes);
            &partial
        };
        let used = self.messages(now, conn, whole);
        let rest = whole[used..].to_vec();
        // The line may have moved meanwhile, or be gone.
        if let Some(place) = self.conns.get(&conn).copied()
            && let Some(link) = self.link(place)
        {
            link.partial = rest;
        }
    }

    /// Handles all whole messages; says how many octets they took.
    fn messages(&mut self, now: Instant, conn: ConnId, bytes: &[u8]) -> usize {
        let mut used = 0;
        while let Some(at) = self.conns.get(&conn).copied() {
            let Some(codec) = self.link(at).map(|link| link.codec(BEFORE_OPEN)) else { break };
            let frame = match wire::frame(&bytes[used..], codec.message_size) {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(error) => {
                    self.malformed(now, at, error.notification(), error.to_string());
                    break;
                }
            };
            used += frame.len();
            if let Some(peer) = self.peers.get_mut(&at.peer) {
                peer.received.add(frame.kind, 1);
            }
            if frame.kind == MessageKind::Open
                && let Some(link) = self.link(at)
            {
                link.open_heard = bytes[used - frame.len()..used].to_vec();
            }
            match Message::parse(frame, &codec) {
                Ok(message) => match self.message(now, at, message, &codec) {
                    Stream::Open => {}
                    Stream::Ended => break,
                },
                Err(error) => {
                    self.malformed(now, at, error.notification(), error.to_string());
                    break;
                }
            }
        }
        used
    }

    fn malformed(&mut self, now: Instant, at: Place, notification: Notification, text: String) {
        let cause = Cause::ours(Fault::Error, notification, text);
        self.event(now, at, Event::Malformed, Some(&cause));
    }

    fn message(&mut self, now: Instant, at: Place, message: Message<'_>, codec: &Codec) -> Stream {
        match message {
            Message::Open(open) => self.on_open(now, at, &open),
            Message::Notification(notification) => {
                let cause = Cause::theirs(&notification);
                self.event(now, at, Event::Notification, Some(&cause));
                Stream::Ended
            }
            Message::Keepalive => self.expected(now, at, Event::Keepalive),
            Message::Update(update) => match self.expected(now, at, Event::Update) {
                Stream::Open => self.on_update(now, at, &update, codec),
                Stream::Ended => Stream::Ended,
            },
            Message::RouteRefresh(refresh) => match self.expected(now, at, Event::RouteRefresh) {
                Stream::Open => {
                    self.on_refresh(now, at, refresh);
                    Stream::Open
                }
                Stream::Ended => Stream::Ended,
            },
        }
    }

    /// Tells the table of a message; in Established nothing follows from it.
    fn expected(&mut self, now: Instant, at: Place, event: Event) -> Stream {
        let state = self.peers.get(&at.peer).map(|peer| peer.line(at.direction).state);
        if state != Some(State::Established) {
            self.event(now, at, event, None);
        }
        match self.peers.get(&at.peer).map(|peer| peer.line(at.direction).state) {
            Some(State::OpenConfirm | State::Established) => Stream::Open,
            Some(State::Idle | State::Connect | State::Active | State::OpenSent) | None => {
                Stream::Ended
            }
        }
    }

    fn on_open(&mut self, now: Instant, at: Place, theirs: &Open) -> Stream {
        let Some(peer) = self.peers.get(&at.peer) else { return Stream::Ended };
        let line = peer.line(at.direction);
        let Some(ours) = line.link.as_ref().and_then(|link| link.open.as_ref()) else {
            return Stream::Ended;
        };
        if line.state != State::OpenSent {
            self.event(now, at, Event::OpenAccepted, None);
            return Stream::Ended;
        }
        let terms = match negotiate::agree(&peer.config, self.config.own_as(), ours, theirs) {
            Ok(terms) => terms,
            Err(refusal) => {
                self.malformed(now, at, refusal.notification, refusal.text);
                return Stream::Ended;
            }
        };
        let ours = Identity { router_id: ours.router_id, asn: ours.asn };
        if self.loses_collision(now, at, ours, terms.theirs) {
            let cause = Cause::cease(Cease::CollisionResolution, "");
            self.event(now, at, Event::CollisionLost, Some(&cause));
            return Stream::Ended;
        }
        if let Some(link) = self.link(at) {
            link.terms = Some(terms);
        }
        self.event(now, at, Event::OpenAccepted, None);
        Stream::Open
    }

    /// RFC 4271 §6.8: whether the other line is the one to keep. If it is not, it is ended here.
    fn loses_collision(
        &mut self,
        now: Instant,
        at: Place,
        ours: Identity,
        theirs: Identity,
    ) -> bool {
        let Some(peer) = self.peers.get(&at.peer) else { return false };
        let other = Place { direction: at.direction.other(), ..at };
        match peer.line(other.direction).state {
            // On a connection that waits for the peer to speak we have said nothing. Going on with both, each
            // side could keep the one that the other ends.
            State::Connect | State::Active if self.delays_open(other) => {
                self.event(now, other, Event::CollisionLost, None);
                false
            }
            State::Idle | State::Connect | State::Active | State::OpenSent => false,
            State::OpenConfirm => {
                let kept = collision::survivor(ours, theirs);
                if kept == at.direction {
                    let cause = Cause::cease(Cease::CollisionResolution, "");
                    self.event(now, other, Event::CollisionLost, Some(&cause));
                }
                kept != at.direction
            }
            State::Established => {
                let restartable = peer.terms().is_some_and(|terms| terms.restart.is_some());
                // RFC 4724 §4.2: a peer that opens again has restarted. The old session ends
                // without a word, and its routes are kept.
                if restartable && at.direction == Direction::Incoming {
                    let cause = Cause::transport("the peer has opened a new session".into());
                    self.event(now, other, Event::TransportFailed, Some(&cause));
                    return false;
                }
                true
            }
        }
    }

    fn on_update(&mut self, now: Instant, at: Place, update: &Update<'_>, codec: &Codec) -> Stream {
        let mut scratch = std::mem::take(&mut self.scratch);
        let checked = wire::check(update, codec, &mut scratch);
        let stream = match checked.fault {
            Some(fault) if fault.severity == Severity::SessionReset => {
                let notification = fault.error.notification(fault.attribute);
                self.malformed(now, at, notification, fault.error.to_string());
                Stream::Ended
            }
            fault => {
                if let Some(fault) = fault {
                    self.note_fault(at, fault);
                }
                self.apply(at, update, &checked, scratch.block());
                self.limit_paths(now, at)
            }
        };
        self.scratch = scratch;
        stream
    }

    /// RFC 7606 §2: counts the error; a family may have to be given up for the rest of the session.
    fn note_fault(&mut self, at: Place, fault: wire::Fault<'_>) {
        let Some(peer) = self.peers.get_mut(&at.peer) else { return };
        peer.faults += 1;
        peer.last_fault = Some(fault.error.to_string());
        let family = fault.error.family();
        let Some(family) = family.filter(|_| fault.severity == Severity::AfiSafiDisable) else {
            return;
        };
        peer.disabled.insert(family);
        peer.retained.remove(family);
        let all = self.rib.neighbor(at.peer).generation.map(|current| current.wrapping_add(1));
        let families = [family].into_iter().collect();
        self.sweeps.push_back(Sweep::new(at.peer, families, all));
    }

    /// Ends the session of a peer that sends more than it may, or notes it.
    pub(super) fn limit_paths(&mut self, now: Instant, at: Place) -> Stream {
        let Some(peer) = self.peers.get_mut(&at.peer) else { return Stream::Open };
        let Some(limit) = peer.config.max_paths else { return Stream::Open };
        let max = limit.limit.get();
        let paths = self.rib.neighbor(at.peer).paths;
        let any_over = paths.iter().any(|paths| *paths > max);
        if !any_over && peer.over_limit.is_empty() {
            return Stream::Open;
        }
        // What is stale is about to go: until then there may be as many of these as of the others.
        let sweeping = self.sweeps.iter().any(|sweep| sweep.peer() == at.peer);
        let kept = peer.retained.iter().chain(peer.refreshing.iter()).collect::<FamilySet>();
        let over = |family: &Family| {
            let stale = if sweeping || kept.contains(*family) { max } else { 0 };
            paths[family.index()] > max.saturating_add(stale)
        };
        if limit.then == LimitAction::Warn {
            for family in Family::ALL {
                if !over(&family) {
                    peer.over_limit.remove(family);
                } else if !peer.over_limit.contains(family) {
                    peer.over_limit.insert(family);
                    peer.faults += 1;
                    peer.last_fault = Some(format!("more than {max} {family} paths"));
                }
            }
            return Stream::Open;
        }
        let Some(family) = Family::ALL.into_iter().find(over) else { return Stream::Open };
        let mut notification = Notification::cease(Cease::MaximumPrefixes);
        // RFC 4486 §4: the family and its limit.
        let [high, low] = wire::AfiSafi::from(family).afi.to_be_bytes();
        notification.data = [&[high, low, 1][..], &max.to_be_bytes()].concat();
        let text = format!("the peer has sent more than {max} {family} paths");
        let survives = peer.terms().is_some_and(Terms::survives_notification);
        let cause = Cause::ours(Fault::Flood, notification, text).for_good(survives);
        self.event(now, at, Event::Stop, Some(&cause));
        // A second connection would be a way round the wait.
        let other = Place { direction: at.direction.other(), ..at };
        self.event(now, other, Event::Stop, Some(&cause));
        Stream::Ended
    }

    /// Enters the routes of an UPDATE into the table.
    fn apply(&mut self, at: Place, update: &Update<'_>, checked: &Checked<'_>, block: &[u8]) {
        if let Some(family) = checked.end_of_rib {
            return self.end_of_rib(at.peer, family);
        }
        self.withdraw_all(at, update.withdrawn);
        if let Some(unreach) = checked.unreach {
            self.withdraw_all(at, unreach);
        }
        let good = checked.fault.is_none_or(|f| f.severity <= Severity::AttributeDiscard);
        let classic = checked.next_hop.map(NextHop::V4);
        let announced = [
            (update.announced, classic.filter(|_| good)),
            checked.reach.map_or((update.announced, None), |reach| {
                (reach.nlri, Some(reach.next_hop).filter(|_| good))
            }),
        ];
        let count = if checked.reach.is_some() { 2 } else { 1 };
        for (nlri, next_hop) in announced.into_iter().take(count) {
            match next_hop {
                // RFC 7606 §2: treat-as-withdraw.
                None => self.withdraw_all(at, nlri),
                Some(next_hop) => self.announce_all(at, nlri, next_hop, checked.summary, block),
            }
        }
    }

    fn ignores(&self, at: Place, nlri: Nlri<'_>) -> bool {
        let disabled = self.peers.get(&at.peer).map(|peer| peer.disabled);
        nlri.is_empty() || disabled.is_some_and(|disabled| disabled.contains(nlri.family()))
    }

    fn withdraw_all(&mut self, at: Place, nlri: Nlri<'_>) {
        if self.ignores(at, nlri) {
            return;
        }
        for (identifier, prefix) in nlri {
            self.rib.withdraw(at.peer, identifier, prefix);
        }
    }

    fn announce_all(
        &mut self,
        at: Place,
        nlri: Nlri<'_>,
        next_hop: NextHop,
        summary: Summary,
        raw: &[u8],
    ) {
        if self.ignores(at, nlri) {
            return;
        }
        let block = Block { next_hop: Some(next_hop), summary, raw };
        let received = self.rib.attributes.intern(block);
        let mut import = Import::new(&self.rib, at.peer, received, Age::Current);
        let mut crowded = None;
        for (identifier, prefix) in nlri {
            let imported = import.judge(&mut self.rib, prefix);
            if !self.rib.announce(at.peer, identifier, prefix, received, imported) {
                crowded = Some(prefix);
            }
        }
        import.finish(&mut self.rib);
        if let (Some(prefix), Some(peer)) = (crowded, self.peers.get_mut(&at.peer)) {
            peer.faults += 1;
            peer.last_fault = Some(format!(
                "more than {PATHS_TO_PREFIX} paths to {prefix}; the others are ignored"
            ));
        }
    }
}

/// How to read what comes before the OPENs are compared; only the sizes matter.
const BEFORE_OPEN: Codec = Codec {
    peer: PeerKind::External,
    confed_segments: wire::ConfedSegments::Refused,
    asn_width: wire::AsnWidth::Two,
    families: FamilySet::EMPTY,
    add_path_receive: FamilySet::EMPTY,
    add_path_send: FamilySet::EMPTY,
    extended_next_hop: FamilySet::EMPTY,
    message_size: wire::MessageSize::Standard,
};
