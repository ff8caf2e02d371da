//! A peer: its two lines, and what outlives its sessions.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::collision::Direction;
use super::link::Link;
use super::negotiate::Terms;
use super::state::State;
use crate::rib::path::PeerIndex;
use crate::speaker::{
    Admin, Dial, DownReason, MessageCounts, Password, PeerConfig, PeerName, RemoteAs, Signing,
};
use crate::wire::{self, Family, FamilySet, MessageKind, Refresh, RouteRefresh};

/// One of the two lines of a peer (RFC 4271 §8.2.1).
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) state: State,
    pub(crate) link: Option<Link>,
}

/// Whether a peer has to wait after an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Quarantine {
    /// It may connect.
    No,
    /// It may not, until the idle hold timer fires (RFC 4271 §8.1.1 DampPeerOscillations).
    Yes,
    /// It may not, until the operator resets or changes it.
    UntilReset,
}

/// What is known of a peer.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) name: PeerName,
    pub(crate) index: PeerIndex,
    pub(crate) config: PeerConfig,
    /// The address of an unnumbered peer, once it is known.
    pub(crate) found: Option<Ipv6Addr>,
    /// The range that a peer is of which is not named.
    pub(crate) range: Option<PeerName>,
    /// By [`Direction`].
    lines: [Line; 2],
    pub(crate) quarantine: Quarantine,
    /// Errors in a row, each of which lengthens the next wait.
    pub(crate) errors: u32,
    /// Failed attempts to connect in a row.
    pub(crate) failures: u32,
    /// The state that was last reported.
    pub(crate) reported: State,
    pub(crate) since: Instant,
    pub(crate) flaps: u64,
    pub(crate) established_before: bool,
    pub(crate) last_error: Option<Arc<DownReason>>,
    /// Why the last attempt to connect failed, until one does not.
    pub(crate) connect_error: Option<String>,
    /// Families whose paths of an earlier session are kept (RFC 4724 §4.2).
    pub(crate) retained: FamilySet,
    /// Per family, how long they may be kept after the restart time (RFC 9494 §4.2).
    pub(crate) long_lived: [Duration; 2],
    /// Families of which the peer is telling all its routes again (RFC 7313 §4).
    pub(crate) refreshing: FamilySet,
    /// Families that the peer asked to be told again, and that is to begin.
    pub(crate) refresh_wanted: FamilySet,
    /// Families that it is being told again.
    pub(crate) refresh_due: FamilySet,
    /// Families with more paths than the peer should send, of which was warned.
    pub(crate) over_limit: FamilySet,
    /// Families whose End-of-RIB the peer has sent in this session.
    pub(crate) end_of_rib: FamilySet,
    /// Families whose End-of-RIB we owe the peer.
    pub(crate) end_of_rib_due: FamilySet,
    /// Families that an error has silenced for this session (RFC 7606 §2).
    pub(crate) disabled: FamilySet,
    /// The peer without the capability has had its time to tell its routes.
    pub(crate) presumed_complete: bool,
    /// UPDATEs with errors that did not end the session (RFC 7606), and the last such error.
    pub(crate) faults: u64,
    pub(crate) last_fault: Option<String>,
    pub(crate) received: MessageCounts,
    pub(crate) sent: MessageCounts,
    /// The edge knows that there is something to send.
    pub(crate) announced_output: [bool; 2],
}

const IDLE: Line = Line { state: State::Idle, link: None };

impl Peer {
    pub(crate) fn new(name: PeerName, index: PeerIndex, config: PeerConfig, now: Instant) -> Self {
        Self {
            name,
            index,
            config,
            found: None,
            range: None,
            lines: [IDLE; 2],
            quarantine: Quarantine::No,
            errors: 0,
            failures: 0,
            reported: State::Idle,
            since: now,
            flaps: 0,
            established_before: false,
            last_error: None,
            connect_error: None,
            retained: FamilySet::EMPTY,
            long_lived: [Duration::ZERO; 2],
            refreshing: FamilySet::EMPTY,
            refresh_wanted: FamilySet::EMPTY,
            refresh_due: FamilySet::EMPTY,
            over_limit: FamilySet::EMPTY,
            end_of_rib: FamilySet::EMPTY,
            end_of_rib_due: FamilySet::EMPTY,
            disabled: FamilySet::EMPTY,
            presumed_complete: false,
            faults: 0,
            last_fault: None,
            received: MessageCounts::default(),
            sent: MessageCounts::default(),
            announced_output: [false; 2],
        }
    }

    pub(crate) const fn line(&self, direction: Direction) -> &Line {
        &self.lines[direction as usize]
    }

    pub(crate) const fn line_mut(&mut self, direction: Direction) -> &mut Line {
        &mut self.lines[direction as usize]
    }

    pub(crate) fn link_mut(&mut self, direction: Direction) -> Option<&mut Link> {
        self.line_mut(direction).link.as_mut()
    }

    /// The line with the session.
    pub(crate) fn established(&self) -> Option<Direction> {
        Direction::BOTH.into_iter().find(|each| self.line(*each).state == State::Established)
    }

    /// The terms of the session.
    pub(crate) fn terms(&self) -> Option<&Terms> {
        self.line(self.established()?).link.as_ref()?.terms.as_ref()
    }

    /// The state of the line that has come furthest. A peer that we only wait for is Active.
    pub(crate) fn state(&self) -> State {
        let furthest = self.lines[0].state.max(self.lines[1].state);
        let waiting = self.wanted().is_ok()
            && self.config.dial == Dial::Passive
            && self.quarantine == Quarantine::No;
        if waiting { furthest.max(State::Active) } else { furthest }
    }

    /// The peer's address, unless it has to be found out yet.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        if self.config.is_unnumbered() {
            self.found.map(IpAddr::V6)
        } else {
            Some(self.config.address)
        }
    }

    /// The peer's AS number, as far as it is known.
    pub(crate) fn remote_as(&self) -> Option<u32> {
        let told = self.terms().map(|terms| terms.theirs.asn);
        told.or(match self.config.remote_as {
            RemoteAs::Number(number) => Some(number.get()),
            RemoteAs::External | RemoteAs::Internal | RemoteAs::Any => None,
        })
    }

    /// Whether a session can be had, or why not.
    pub(crate) const fn wanted(&self) -> Result<(), &'static str> {
        match self.is_barred() {
            Some(why) => Err(why),
            None if self.config.is_unnumbered() && self.found.is_none() => {
                Err("no router has advertised itself on its link")
            }
            None => Ok(()),
        }
    }

    /// Why no session is wanted, if so.
    pub(crate) const fn is_barred(&self) -> Option<&'static str> {
        match (self.config.admin, &self.config.password, self.config.signing) {
            (Admin::Down, _, _) => Some("administratively down"),
            (Admin::Up, Password::Missing, _) => Some("its password is missing"),
            (Admin::Up, _, Signing::Unreadable) => Some("how to sign its session is not known"),
            (Admin::Up, Password::None, Signing::TcpAo(_)) => {
                Some("TCP-AO is asked for, and there is no password")
            }
            (Admin::Up, Password::None, Signing::Md5) | (Admin::Up, Password::Key(_), _) => None,
        }
    }

    /// How long to wait after another error: five seconds, then longer, at most thirty.
    pub(crate) fn idle_hold(&mut self) -> Duration {
        self.errors = self.errors.saturating_add(1);
        Duration::from_secs(5 * u64::from(self.errors.min(6)))
    }

    /// How long to wait before dialling again; longer after each failure, up to fourfold.
    pub(crate) fn retry_after(&mut self) -> Duration {
        let doublings = self.failures.min(2);
        self.failures = self.failures.saturating_add(1);
        self.config.connect_retry * 2u32.pow(doublings)
    }
}

impl MessageCounts {
    /// Counts messages of one kind.
    pub(crate) const fn add(&mut self, kind: MessageKind, count: u64) {
        let counter = match kind {
            MessageKind::Open => &mut self.open,
            MessageKind::Update => &mut self.update,
            MessageKind::Notification => &mut self.notification,
            MessageKind::Keepalive => &mut self.keepalive,
            MessageKind::RouteRefresh => &mut self.route_refresh,
        };
        *counter += count;
    }
}

impl Peer {
    /// Whether we owe the peer an End-of-RIB that need not wait.
    pub(crate) fn owes_end_of_rib(&self, deferred: FamilySet) -> bool {
        self.end_of_rib_due.iter().any(|family| !deferred.contains(family))
    }

    /// The End-of-RIB of one family (RFC 4724 §3), once it is known that all routes were told.
    pub(crate) fn end_of_rib(&mut self, deferred: FamilySet) -> Option<Bytes> {
        let family = self.end_of_rib_due.iter().find(|family| !deferred.contains(*family))?;
        self.end_of_rib_due.remove(family);
        self.sent.add(MessageKind::Update, 1);
        let mut bytes = Vec::new();
        wire::end_of_rib(&mut bytes, family);
        Some(bytes.into())
    }

    /// Whether we owe the peer the rest of an answer to its route refresh.
    pub(crate) fn owes_end_of_refresh(&self) -> bool {
        !self.refresh_due.is_empty()
    }

    /// RFC 7313 §4: the end of the answer for one family, once it is known that all routes were told.
    pub(crate) fn end_of_refresh(&mut self, family: Family) -> Bytes {
        self.sent.add(MessageKind::RouteRefresh, 1);
        let mut bytes = Vec::new();
        RouteRefresh { family: family.into(), refresh: Refresh::EndOfRoutes }.emit(&mut bytes);
        bytes.into()
    }

    /// Exchanges the two lines, so that the answering one is free for a new connection.
    pub(crate) const fn swap_lines(&mut self) {
        self.lines.swap(0, 1);
        self.announced_output.swap(0, 1);
    }
}
