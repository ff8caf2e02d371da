//! Carries out what the table of [`crate::session::state`] says: connections, timers, and the
//! order in which a peer's lines are tried.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::cause::{Cause, Fault};
use super::{Output, Place, Speaker, Timer, introduction};
use crate::rib::path::PeerIndex;
use crate::session::Quarantine;
use crate::session::collision::Direction;
use crate::session::link::Transport;
use crate::session::negotiate;
use crate::session::state::{Action, Event, State, step};
use crate::speaker::{Dial, LimitAction};
use crate::wire::capability::{Forwarding, RestartState};
use crate::wire::iana::{error, fsm_error};
use crate::wire::{FamilySet, Notification};

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a peer without a name is remembered without a session, so that its errors slow it down.
const STRANGER_STAYS: Duration = Duration::from_secs(60);
/// RFC 4271 §8.2.2: the hold time until the peer's OPEN is there.
const OPEN_TIMEOUT: Duration = Duration::from_secs(240);

impl Speaker {
    /// Feeds one event to one line and carries out what follows.
    pub(super) fn event(&mut self, now: Instant, at: Place, event: Event, cause: Option<&Cause>) {
        let Some(peer) = self.peers.get_mut(&at.peer) else { return };
        let line = peer.line_mut(at.direction);
        let old = line.state;
        let (new, actions) = step(old, event);
        line.state = new;
        let ends = old >= State::OpenSent && new < State::OpenSent && event != Event::CollisionLost;
        // Without a cause it was a message that the state does not expect.
        let misfit = (ends && cause.is_none()).then(|| {
            let text = format!("the peer sent a message that does not fit the state {old}");
            Cause::ours(Fault::Error, unexpected(old), text)
        });
        let cause = cause.or(misfit.as_ref());
        if old == State::Established && new != old {
            // While the terms are still at hand.
            self.session_down(now, at, cause);
        }
        if let Some(cause) = cause.filter(|_| ends) {
            self.note_end(now, at, new, cause);
        }
        for action in actions {
            self.act(now, at, old, *action, cause);
        }
        self.settle(now, at.peer, cause);
    }

    fn act(&mut self, now: Instant, at: Place, old: State, action: Action, cause: Option<&Cause>) {
        match action {
            Action::Dial => self.dial(now, at),
            // Only one of the two lines dials.
            Action::ArmRetry if at.direction == Direction::Incoming => {}
            Action::ArmRetry => {
                let Some(peer) = self.peers.get_mut(&at.peer) else { return };
                let wait = self.jitter.of(peer.retry_after());
                self.timers.set(Timer::Retry(at.peer), now + wait);
            }
            Action::SendOpen => self.send_open(now, at),
            Action::SendKeepalive => self.send_keepalive(now, at, old),
            Action::Up => self.session_up(now, at),
            Action::Notify => {
                if let Some(notification) = cause.and_then(|cause| cause.notification.clone())
                    && let Some(link) = self.link(at)
                {
                    link.outbox.notification(&notification);
                }
            }
            Action::NotifyUnexpected => {
                if let Some(link) = self.link(at) {
                    link.outbox.notification(&unexpected(old));
                }
            }
            Action::Hangup => self.hang_up(at),
        }
    }

    fn dial(&mut self, now: Instant, at: Place) {
        let conn = self.new_conn();
        self.attach(now, at, conn, None);
        self.timers.set(Timer::Retry(at.peer), now + CONNECT_TIMEOUT);
        let Some(peer) = self.peers.get(&at.peer) else { return };
        let Some(address) = peer.address() else { return };
        let (port, peer) = (peer.config.port, peer.name.clone());
        if let Some(link) = self.link(at) {
            link.remote_port = port;
        }
        let remote = SocketAddr::new(address, port);
        self.outputs.push_back(Output::Connect { conn, peer, remote });
    }

    fn send_open(&mut self, now: Instant, at: Place) {
        if at.direction == Direction::Outgoing {
            self.timers.cancel(Timer::Retry(at.peer));
        }
        self.timers.set(Timer::Hold(at.peer, at.direction), now + OPEN_TIMEOUT);
        let restarting = self.restart.is_restarting();
        let Some(peer) = self.peers.get_mut(&at.peer) else { return };
        let state = if restarting { RestartState::Restarted } else { RestartState::Running };
        // Between two sessions of one life nothing stopped forwarding.
        let kept = self.restart.kept_forwarding() || peer.established_before;
        let forwarding = if kept { Forwarding::Preserved } else { Forwarding::Lost };
        let own = self.config.own_as();
        let ours = negotiate::identity(self.config.router_id, own, &peer.config);
        let kind = own.expected_kind(&peer.config);
        let mut open = negotiate::our_open(&peer.config, ours, kind, (state, forwarding));
        introduction::introduce(&mut open, &self.config.introduction, peer.config.introduce);
        if let Some(link) = peer.link_mut(at.direction) {
            link.outbox.open(&open);
            link.open = Some(open);
            link.last_heard = now;
        }
    }

    fn send_keepalive(&mut self, now: Instant, at: Place, old: State) {
        let Some(link) = self.link(at) else { return };
        link.outbox.keepalive();
        let Some(terms) = &link.terms else { return };
        let (hold, keepalive) = (terms.hold_time.secs(), terms.keepalive);
        if let Some(interval) = keepalive {
            let wait = self.jitter.of(interval);
            self.timers.set(Timer::Keepalive(at.peer, at.direction), now + wait);
        } else {
            self.timers.set(Timer::SendHold(at.peer, at.direction), now + SEND_HOLD_LOOK);
        }
        // RFC 4271 §8.2.2: in OpenSent the hold timer is still that of the OPEN.
        if old == State::OpenSent {
            let timer = Timer::Hold(at.peer, at.direction);
            if hold == 0 {
                self.timers.cancel(timer);
            } else {
                self.timers.set(timer, now + Duration::from_secs(hold.into()));
            }
        }
    }

    fn hang_up(&mut self, at: Place) {
        if let Some(link) = self.detach(at).filter(|link| link.transport == Transport::Up) {
            self.outputs.push_back(Output::Close { conn: link.conn });
            if !link.outbox.is_empty() {
                self.closing.insert(link.conn, link.outbox);
            }
        }
    }

    /// Decides when to try again after something ended.
    fn note_end(&mut self, now: Instant, at: Place, new: State, cause: &Cause) {
        let Some(peer) = self.peers.get_mut(&at.peer) else { return };
        peer.last_error = Some(cause.reason.clone());
        // Who is down until somebody lets it in again earns nothing by further errors.
        if new != State::Idle || peer.quarantine == Quarantine::UntilReset {
            return;
        }
        let timer = Timer::IdleHold(at.peer);
        let wait = match cause.fault {
            Fault::Error => {
                peer.quarantine = Quarantine::Yes;
                self.jitter.of(peer.idle_hold())
            }
            Fault::Flood => match peer.config.max_paths.map(|max| max.then) {
                // The time that an operator has set is not made shorter.
                Some(LimitAction::Restart(wait)) => {
                    peer.quarantine = Quarantine::Yes;
                    wait
                }
                Some(LimitAction::StayDown | LimitAction::Warn) | None => {
                    peer.quarantine = Quarantine::UntilReset;
                    self.timers.cancel(timer);
                    return;
                }
            },
            Fault::Transport | Fault::Cease | Fault::HardReset => {
                self.jitter.of(peer.retry_after())
            }
        };
        // Nor is a wait made shorter by what happens on the other line.
        let until = self.timers.at(timer).map_or(now + wait, |set| set.max(now + wait));
        self.timers.set(timer, until);
    }

    /// Starts to dial when nothing speaks against it, and reports a change of state.
    pub(super) fn settle(&mut self, now: Instant, index: PeerIndex, cause: Option<&Cause>) {
        let waits = self.timers.is_set(Timer::IdleHold(index));
        let Some(peer) = self.peers.get_mut(&index) else { return };
        let start = peer.wanted().is_ok()
            && peer.quarantine == Quarantine::No
            && peer.config.dial != Dial::Passive
            && peer.line(Direction::Outgoing).state == State::Idle
            && peer.line(Direction::Incoming).link.is_none()
            && !waits;
        if start {
            let outgoing = Place { peer: index, direction: Direction::Outgoing };
            return self.event(now, outgoing, Event::Start, cause);
        }
        let (old, new) = (peer.reported, peer.state());
        let leaves = peer.range.is_some() && new < State::OpenSent;
        if leaves && !self.timers.is_set(Timer::Leave(index)) {
            self.timers.set(Timer::Leave(index), now + STRANGER_STAYS);
        }
        if old != new {
            peer.reported = new;
            peer.since = now;
            let reason = cause.filter(|_| new < old).map(|cause| cause.reason.clone());
            let peer = peer.name.clone();
            self.outputs.push_back(Output::PeerStateChanged { peer, old, new, reason });
        }
    }

    pub(super) fn fire(&mut self, now: Instant, timer: Timer) {
        let outgoing = |peer| Place { peer, direction: Direction::Outgoing };
        match timer {
            Timer::Retry(peer) => self.event(now, outgoing(peer), Event::RetryExpired, None),
            Timer::IdleHold(index) => {
                if let Some(peer) = self.peers.get_mut(&index) {
                    peer.quarantine = Quarantine::No;
                }
                self.settle(now, index, None);
            }
            Timer::DelayOpen(peer, direction) => {
                self.event(now, Place { peer, direction }, Event::TransportUp, None);
            }
            Timer::Hold(peer, direction) => self.hold_fired(now, Place { peer, direction }),
            Timer::Keepalive(peer, direction) => {
                let at = Place { peer, direction };
                if !self.send_hold_expired(now, at) {
                    self.event(now, at, Event::KeepaliveExpired, None);
                }
            }
            Timer::SendHold(peer, direction) => {
                if !self.send_hold_expired(now, Place { peer, direction }) {
                    self.timers.set(timer, now + SEND_HOLD_LOOK);
                }
            }
            Timer::Restart(peer) => self.restart_time_over(now, peer, FamilySet::ALL),
            Timer::Stale(peer) => self.drop_retained(peer),
            Timer::LongLived(peer, family) => self.drop_long_lived(peer, family),
            Timer::Leave(peer) => self.leave_if_idle(now, peer),
            Timer::Refresh(peer) => self.end_of_refresh(peer, FamilySet::ALL),
            Timer::Presume(index) => {
                if let Some(peer) = self.peers.get_mut(&index) {
                    peer.presumed_complete = true;
                }
                self.stations.stir();
            }
            Timer::Station(address) => self.dial_station(address),
            Timer::Report(address) => self.report_to_station(now, address),
            Timer::Cache(address, timer) => self.fire_cache(now, address, timer),
            // What they mean is looked at after every event.
            Timer::Answer | Timer::Deferral => {}
        }
    }

    /// The timer is not moved with every message; it looks back when it fires.
    fn hold_fired(&mut self, now: Instant, at: Place) {
        let Some(link) = self.link(at) else { return };
        let hold = link
            .terms
            .as_ref()
            .map_or(OPEN_TIMEOUT, |terms| Duration::from_secs(terms.hold_time.secs().into()));
        let due = link.last_heard + hold;
        if due > now {
            self.timers.set(Timer::Hold(at.peer, at.direction), due);
            return;
        }
        let expired = Notification::new(error::HOLD_TIMER_EXPIRED, 0);
        let text = format!("nothing heard for {} s (hold timer expired)", hold.as_secs());
        let cause = Cause::ours(Fault::Error, expired, text);
        self.event(now, at, Event::HoldExpired, Some(&cause));
    }

    /// RFC 9687 §3: a peer that takes nothing for eight minutes, or twice the hold time, or as long as
    /// was configured, is lost, however alive it looks. Looked at with every keepalive, and without keepalives now and then.
    fn send_hold_expired(&mut self, now: Instant, at: Place) -> bool {
        let Some(peer) = self.peers.get_mut(&at.peer) else { return false };
        let waiting = peer.announced_output[at.direction as usize];
        let configured = peer.config.send_hold;
        let Some(link) = peer.link_mut(at.direction) else { return false };
        if !waiting {
            link.last_taken = now;
        }
        let hold = link.terms.as_ref().map_or(0, |terms| u64::from(terms.hold_time.secs()));
        let hold = Duration::from_secs(hold);
        let limit = configured.map_or((2 * hold).max(SEND_HOLD), |limit| limit.max(hold));
        if now.duration_since(link.last_taken) < limit {
            return false;
        }
        let expired = Notification::new(error::SEND_HOLD_TIMER_EXPIRED, 0);
        let text = format!("the peer has taken nothing for {} s", limit.as_secs());
        let cause = Cause::ours(Fault::Error, expired, text);
        self.event(now, at, Event::HoldExpired, Some(&cause));
        true
    }

    /// Our address on a session.
    pub(super) fn local_address(&mut self, at: Place) -> Option<IpAddr> {
        self.link(at)?.local.map(|local| local.ip().to_canonical())
    }
}

/// The least send hold time that is used where none is configured (RFC 9687 §3).
const SEND_HOLD: Duration = Duration::from_secs(480);
/// How often that is looked at where a hold time of zero leaves no keepalives to send.
const SEND_HOLD_LOOK: Duration = Duration::from_secs(5);

/// What we say to a peer that says in Established what does not belong there.
pub(super) const fn unexpected_in_session() -> Notification {
    unexpected(State::Established)
}

/// RFC 6608: what to say of a message that the state does not expect.
const fn unexpected(state: State) -> Notification {
    let subcode = match state {
        State::OpenConfirm => fsm_error::OPEN_CONFIRM,
        State::Established => fsm_error::ESTABLISHED,
        State::Idle | State::Connect | State::Active | State::OpenSent => fsm_error::OPEN_SENT,
    };
    Notification::new(error::FINITE_STATE_MACHINE, subcode)
}
