//! One session: the variables of RFC 5880 §6.8.1, and what a packet or the clock does to them.

use std::time::{Duration, Instant};

use super::config::{Role, SessionConfig, SessionName, Timing};
use super::packet::{Diagnostic, Discriminator, Fate, Handshake, Packet, State};
use super::snapshot::{Failures, LastDown, Why};
use super::state::{Event, step};
use crate::session::timer::Jitter;

/// RFC 5880 §6.8.3: a session that is not Up sends no faster, in microseconds.
const SLOW: u32 = 1_000_000;
/// How often the end of a session is said, since nobody is there to repeat it later.
const FAREWELLS: u8 = 3;
/// Time between these. RFC 5882 §8 would go on for a detection time; a restart is not to be held
/// up for that long.
const BETWEEN_FAREWELLS: Duration = Duration::from_millis(20);

/// Where a Poll Sequence stands (RFC 5880 §6.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Poll {
    Idle,
    /// P is set until F comes.
    Running,
    /// The parameters changed under way: what F answers is not what is said now.
    Again,
}

/// What a session asks its owner to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// Send this.
    Transmit(Packet),
    /// The session has come up.
    Up,
    /// The session was Up and is not any more.
    Down(Why),
}

/// What is known of the other end.
#[derive(Debug)]
pub(super) struct Remote {
    /// bfd.RemoteDiscr.
    pub(super) discriminator: Option<Discriminator>,
    /// bfd.RemoteSessionState.
    pub(super) state: State,
    pub(super) diagnostic: Diagnostic,
    /// bfd.RemoteMinRxInterval, in microseconds.
    pub(super) min_rx: u32,
    /// The last Desired Min TX Interval heard, in microseconds.
    pub(super) min_tx: u32,
    /// The last Detect Mult heard; zero until the first packet.
    pub(super) multiplier: u8,
    /// bfd.RemoteDemandMode.
    demand: bool,
    pub(super) fate: Fate,
}

impl Remote {
    /// RFC 5880 §6.8.1: the values before anything was heard.
    const UNKNOWN: Self = Self {
        discriminator: None,
        state: State::Down,
        diagnostic: Diagnostic::NONE,
        min_rx: 1,
        min_tx: 0,
        multiplier: 0,
        demand: false,
        fate: Fate::Shared,
    };
}

/// A session.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) name: SessionName,
    pub(super) config: SessionConfig,
    pub(super) local: Discriminator,
    pub(super) state: State,
    pub(super) since: Instant,
    pub(super) diagnostic: Diagnostic,
    pub(super) remote: Remote,
    poll: Poll,
    /// The timing that counts until a Poll Sequence ends (RFC 5880 §6.8.3), in microseconds.
    tx_in_force: u32,
    rx_in_force: u32,
    last_tx: Option<Instant>,
    next_tx: Option<Instant>,
    /// The interval that `next_tx` was drawn from.
    drawn_from: Option<Duration>,
    pub(super) last_heard: Option<Instant>,
    /// The earliest time at which the owner will look at this session.
    pub(super) wake: Option<Instant>,
    /// How often AdminDown will still be said; then the session is over.
    farewells: u8,
    pub(super) sent: u64,
    pub(super) received: u64,
    pub(super) discarded: u64,
    pub(super) failures: Failures,
    pub(super) last_down: Option<LastDown>,
    pub(super) longest_gap: Duration,
}

impl Session {
    pub(super) fn new(
        name: SessionName,
        config: SessionConfig,
        local: Discriminator,
        now: Instant,
    ) -> Self {
        let rx_in_force = config.timing.min_rx.micros();
        let mut session = Self {
            name,
            config,
            local,
            state: State::Down,
            since: now,
            diagnostic: Diagnostic::NONE,
            remote: Remote::UNKNOWN,
            poll: Poll::Idle,
            tx_in_force: SLOW,
            rx_in_force,
            last_tx: None,
            next_tx: None,
            drawn_from: None,
            last_heard: None,
            wake: None,
            farewells: 0,
            sent: 0,
            received: 0,
            discarded: 0,
            failures: Failures::default(),
            last_down: None,
            longest_gap: Duration::ZERO,
        };
        session.tx_in_force = session.desired_min_tx();
        session.next_tx = session.transmit_interval().map(|_| now);
        session
    }

    /// bfd.DesiredMinTxInterval, in microseconds.
    fn desired_min_tx(&self) -> u32 {
        let wanted = self.config.timing.min_tx.micros();
        if self.state == State::Up { wanted } else { wanted.max(SLOW) }
    }

    /// Time between periodic packets before jitter (RFC 5880 §6.8.7); `None`: none are sent.
    pub(super) fn transmit_interval(&self) -> Option<Duration> {
        let unheard = self.remote.discriminator.is_none();
        let waits = self.config.role == Role::Passive && unheard;
        // RFC 5880 §6.6: the peer asks for silence, which a Poll Sequence breaks.
        let silent = self.remote.demand
            && self.state == State::Up
            && self.remote.state == State::Up
            && self.poll == Poll::Idle;
        let over = self.state == State::AdminDown;
        if waits || silent || over || self.remote.min_rx == 0 {
            return None;
        }
        Some(Duration::from_micros(self.tx_in_force.max(self.remote.min_rx).into()))
    }

    /// RFC 5880 §6.8.4; `None` until the peer was heard.
    pub(super) fn detection_time(&self) -> Option<Duration> {
        self.remote.discriminator?;
        let interval = Duration::from_micros(self.rx_in_force.max(self.remote.min_tx).into());
        Some(interval * u32::from(self.remote.multiplier))
    }

    /// When [`Self::fire`] has something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let expiry = self.expiry();
        self.next_tx.into_iter().chain(expiry).min()
    }

    fn expiry(&self) -> Option<Instant> {
        Some(self.last_heard? + self.detection_time()?)
    }

    /// Whether the session has said its last word.
    pub(super) const fn is_over(&self) -> bool {
        matches!(self.state, State::AdminDown) && self.farewells == 0
    }

    /// Takes in a packet that is ours (RFC 5880 §6.8.6).
    pub(super) fn receive(
        &mut self,
        now: Instant,
        packet: &Packet,
        jitter: &mut Jitter,
        act: &mut impl FnMut(Action),
    ) {
        if self.state == State::AdminDown {
            return;
        }
        self.received += 1;
        if self.state == State::Up
            && let Some(before) = self.last_heard
        {
            self.longest_gap = self.longest_gap.max(now.duration_since(before));
        }
        self.last_heard = Some(now);
        self.remote = Remote {
            discriminator: Some(packet.my_discriminator),
            state: packet.state,
            diagnostic: packet.diagnostic,
            min_rx: packet.required_min_rx,
            min_tx: packet.desired_min_tx,
            multiplier: packet.multiplier.get(),
            demand: packet.demand,
            fate: packet.fate,
        };
        if packet.handshake == Handshake::Final {
            self.end_poll();
        }
        let why = match packet.state {
            State::AdminDown => Why::PeerAdminDown,
            State::Down | State::Init | State::Up => Why::PeerDown(packet.diagnostic),
        };
        self.advance(now, Event::Heard(packet.state), why, act);
        if packet.handshake == Handshake::Poll {
            act(Action::Transmit(self.packet(Handshake::Final)));
        }
        self.schedule(now, jitter);
    }

    /// Does what is due.
    pub(super) fn fire(&mut self, now: Instant, jitter: &mut Jitter, act: &mut impl FnMut(Action)) {
        if self.expiry().is_some_and(|at| at <= now) {
            // RFC 5880 §6.8.1: a peer that was not heard for a detection time has no name.
            let fate = self.remote.fate;
            self.remote = Remote { fate, ..Remote::UNKNOWN };
            self.advance(now, Event::Expired, Why::Expired, act);
            self.schedule(now, jitter);
        }
        if self.next_tx.is_some_and(|at| at <= now) {
            self.transmit(now, act);
            self.draw(now, jitter);
        }
    }

    /// Changes how fast, or who speaks first; on a session that is Up by a Poll Sequence.
    pub(super) fn retime(&mut self, now: Instant, config: SessionConfig, jitter: &mut Jitter) {
        let Timing { min_tx, min_rx, .. } = self.config.timing;
        self.config = config;
        let new = self.config.timing;
        if self.state != State::Up {
            self.adopt_timing();
        } else if (new.min_tx, new.min_rx) != (min_tx, min_rx) {
            // RFC 5880 §6.8.3: slower sending and a shorter detection time wait for the peer's
            // Final; the other two directions need no leave.
            self.tx_in_force = self.tx_in_force.min(self.desired_min_tx());
            self.rx_in_force = self.rx_in_force.max(new.min_rx.micros());
            self.poll = match self.poll {
                Poll::Idle => Poll::Running,
                Poll::Running | Poll::Again => Poll::Again,
            };
        }
        if self.poll != Poll::Idle {
            self.next_tx = Some(now);
        }
        self.schedule(now, jitter);
    }

    /// Ends the session and says so (RFC 5880 §6.8.16).
    pub(super) fn disable(&mut self, now: Instant, act: &mut impl FnMut(Action)) {
        self.advance(now, Event::Disable, Why::Disabled, act);
        self.poll = Poll::Idle;
        // Whoever was never heard is not told that it is over.
        self.farewells = if self.remote.discriminator.is_some() { FAREWELLS } else { 0 };
        self.next_tx = (self.farewells > 0).then_some(now);
        self.last_heard = None;
    }

    fn advance(&mut self, now: Instant, event: Event, why: Why, act: &mut impl FnMut(Action)) {
        let old = self.state;
        let (new, diagnostic) = step(old, event);
        if old == new {
            return;
        }
        self.state = new;
        self.since = now;
        self.diagnostic = diagnostic;
        self.poll = Poll::Idle;
        self.adopt_timing();
        // RFC 5880 §6.8.7: news does not wait for the next period.
        self.next_tx = Some(now);
        if new == State::Up {
            self.longest_gap = Duration::ZERO;
            // Our interval falls from the slow one to the wanted one.
            self.poll = Poll::Running;
            act(Action::Up);
        } else if old == State::Up {
            self.failures.count(why);
            self.last_down = Some(LastDown { why, at: now });
            act(Action::Down(why));
        }
    }

    fn adopt_timing(&mut self) {
        self.tx_in_force = self.desired_min_tx();
        self.rx_in_force = self.config.timing.min_rx.micros();
    }

    fn end_poll(&mut self) {
        match self.poll {
            Poll::Idle => {}
            Poll::Running => {
                self.poll = Poll::Idle;
                self.adopt_timing();
            }
            Poll::Again => self.poll = Poll::Running,
        }
    }

    fn transmit(&mut self, now: Instant, act: &mut impl FnMut(Action)) {
        let handshake = match self.poll {
            Poll::Idle => Handshake::None,
            Poll::Running | Poll::Again => Handshake::Poll,
        };
        self.last_tx = Some(now);
        act(Action::Transmit(self.packet(handshake)));
    }

    /// The next period begins now.
    fn draw(&mut self, now: Instant, jitter: &mut Jitter) {
        if self.state == State::AdminDown {
            self.farewells = self.farewells.saturating_sub(1);
            self.next_tx = (self.farewells > 0).then(|| now + BETWEEN_FAREWELLS);
            return;
        }
        self.drawn_from = self.transmit_interval();
        let multiplier = self.config.timing.multiplier.get();
        self.next_tx = self.drawn_from.map(|interval| now + jittered(interval, multiplier, jitter));
    }

    /// Moves the next packet when the interval has changed; one that is due stays.
    fn schedule(&mut self, now: Instant, jitter: &mut Jitter) {
        let interval = self.transmit_interval();
        if interval.is_none() {
            (self.next_tx, self.drawn_from) = (None, None);
            return;
        }
        let due = self.next_tx.is_some_and(|at| at <= now);
        if self.drawn_from == interval || due {
            return;
        }
        let began = self.last_tx.unwrap_or(now);
        self.draw(began, jitter);
        self.next_tx = self.next_tx.map(|at| at.max(now));
    }

    /// RFC 5880 §6.8.7.
    fn packet(&mut self, handshake: Handshake) -> Packet {
        self.sent += 1;
        Packet {
            diagnostic: self.diagnostic,
            state: self.state,
            handshake,
            // We die with the BGP speaker beside us.
            fate: Fate::Shared,
            demand: false,
            multiplier: self.config.timing.multiplier,
            my_discriminator: self.local,
            your_discriminator: self.remote.discriminator,
            desired_min_tx: self.desired_min_tx(),
            required_min_rx: self.config.timing.min_rx.micros(),
            required_min_echo_rx: 0,
        }
    }
}

/// RFC 5880 §6.8.7: less by up to a quarter at random; with a multiplier of one also by at least
/// a tenth, so that the peer's detection time is not met exactly.
fn jittered(interval: Duration, multiplier: u8, jitter: &mut Jitter) -> Duration {
    let most: u32 = if multiplier == 1 { 150 } else { 250 };
    let part = u32::try_from(jitter.next() % u64::from(most)).expect("less than 250");
    interval * (750 + part) / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_takes_up_to_a_quarter_and_at_least_a_tenth_from_a_single_packet() {
        let mut jitter = Jitter::new(1);
        let whole = Duration::from_millis(1000);
        let millis = Duration::from_millis;
        let mut extremes = [(whole, Duration::ZERO); 2];
        for (multiplier, extreme) in [1, 3].into_iter().zip(&mut extremes) {
            for _ in 0..5000 {
                let time = jittered(whole, multiplier, &mut jitter);
                *extreme = (extreme.0.min(time), extreme.1.max(time));
            }
        }
        assert_eq!(extremes, [(millis(750), millis(899)), (millis(750), millis(999))]);
    }
}
