//! The finite state machine of RFC 4271 §8.2.2 as one table. It decides, and does nothing itself:
//! [`super::Peer`] carries the actions out.
//!
//! Each peer has two lines, one that dials and one that answers, each in a state of its own
//! (RFC 4271 §8.2.1); they meet in [`super::collision`]. While DelayOpen runs, the line stays where
//! it is, and the connection counts as up once that is over.

use std::fmt;

/// RFC 4271 §8.2.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// No connection is made or accepted.
    Idle,
    /// Dialling.
    Connect,
    /// Waiting for a connection, or to dial again.
    Active,
    /// Our OPEN is sent.
    OpenSent,
    /// Both OPENs are good; waiting for the KEEPALIVE.
    OpenConfirm,
    /// Routes flow.
    Established,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// RFC 4271 §8.1, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// 1, 3: begin to dial.
    Start,
    /// 4, 5: begin to wait for a connection.
    StartPassive,
    /// 2, 8: the operator, or the configuration.
    Stop,
    /// 9.
    RetryExpired,
    /// 10, and the SendHoldTimer of RFC 9687.
    HoldExpired,
    /// 11.
    KeepaliveExpired,
    /// 16, 17.
    TransportUp,
    /// 18.
    TransportFailed,
    /// 19.
    OpenAccepted,
    /// 21, 22, 28: a message that cannot be used.
    Malformed,
    /// 23: the other line won the collision.
    CollisionLost,
    /// 24, 25.
    Notification,
    /// 26.
    Keepalive,
    /// 27.
    Update,
    /// RFC 2918.
    RouteRefresh,
}

/// What the table asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Open a TCP connection.
    Dial,
    /// Dial again after a while.
    ArmRetry,
    /// Say who we are, and give the peer four minutes to do so.
    SendOpen,
    /// Send a KEEPALIVE, and the next one in time.
    SendKeepalive,
    /// The session stands: tell it the routes.
    Up,
    /// Tell the peer the reason, which the cause of the event carries.
    Notify,
    /// Tell the peer that its message does not fit the state (RFC 6608).
    NotifyUnexpected,
    /// Close the connection.
    Hangup,
}

/// The next state, and what to do on the way.
pub(crate) const fn step(state: State, event: Event) -> (State, &'static [Action]) {
    use Action::{ArmRetry, Dial, Hangup, Notify, NotifyUnexpected, SendKeepalive, SendOpen, Up};
    use Event as E;
    use State::{Active, Connect, Established, Idle, OpenConfirm, OpenSent};
    match (state, event) {
        (Idle, E::Start) => (Connect, &[Dial]),
        (Idle, E::StartPassive) => (Active, &[]),

        (Connect, E::RetryExpired) => (Connect, &[Hangup, Dial]),
        (Connect | Active, E::TransportUp) => (OpenSent, &[SendOpen]),
        // As if DelayOpen were running: the RFC goes to Idle otherwise, and back here at once.
        (Connect | Active, E::TransportFailed) => (Active, &[ArmRetry]),
        (Active, E::RetryExpired) => (Connect, &[Dial]),

        (OpenSent, E::OpenAccepted) => (OpenConfirm, &[SendKeepalive]),
        (OpenSent, E::TransportFailed) => (Active, &[Hangup, ArmRetry]),

        (OpenConfirm, E::Keepalive) => (Established, &[Up]),
        (OpenConfirm | Established, E::KeepaliveExpired) => (state, &[SendKeepalive]),
        (Established, E::Keepalive | E::Update | E::RouteRefresh) => (Established, &[]),

        // Endings.
        (OpenSent | OpenConfirm | Established, E::Stop | E::HoldExpired | E::Malformed)
        | (OpenSent | OpenConfirm | Established, E::CollisionLost) => (Idle, &[Notify, Hangup]),
        (Connect | Active, E::Stop | E::CollisionLost) => (Idle, &[Hangup]),
        (OpenSent | OpenConfirm | Established, E::Notification)
        | (OpenConfirm | Established, E::TransportFailed) => (Idle, &[Hangup]),

        // RFC 4271 §6.6: a message that the state does not expect ends the session.
        (OpenSent, E::Keepalive | E::Update | E::RouteRefresh)
        | (OpenConfirm, E::OpenAccepted | E::Update | E::RouteRefresh)
        | (Established, E::OpenAccepted) => (Idle, &[NotifyUnexpected, Hangup]),

        // Nothing to do: no such timer runs, no such connection is there.
        (Idle, E::Stop | E::TransportUp | E::TransportFailed | E::CollisionLost)
        | (Connect | Active | OpenSent | OpenConfirm | Established, E::Start | E::StartPassive)
        | (OpenSent | OpenConfirm | Established, E::RetryExpired | E::TransportUp)
        | (Idle, E::RetryExpired)
        | (Idle | Connect | Active, E::HoldExpired | E::KeepaliveExpired)
        | (OpenSent, E::KeepaliveExpired)
        | (Idle | Connect | Active, E::OpenAccepted | E::Malformed | E::Notification)
        | (Idle | Connect | Active, E::Keepalive | E::Update | E::RouteRefresh) => (state, &[]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_comes_up_by_the_book() {
        let mut state = State::Idle;
        let mut done = Vec::new();
        for event in [Event::Start, Event::TransportUp, Event::OpenAccepted, Event::Keepalive] {
            let (next, actions) = step(state, event);
            state = next;
            done.extend_from_slice(actions);
        }
        assert_eq!(state, State::Established);
        assert_eq!(done, [Action::Dial, Action::SendOpen, Action::SendKeepalive, Action::Up]);
    }

    #[test]
    fn whoever_leaves_an_open_connection_for_idle_hangs_up() {
        use Event as E;
        let events = [
            E::Start,
            E::StartPassive,
            E::Stop,
            E::RetryExpired,
            E::HoldExpired,
            E::KeepaliveExpired,
            E::TransportUp,
            E::TransportFailed,
            E::OpenAccepted,
            E::Malformed,
            E::CollisionLost,
            E::Notification,
            E::Keepalive,
            E::Update,
            E::RouteRefresh,
        ];
        for state in [State::OpenSent, State::OpenConfirm, State::Established] {
            for event in events {
                let (next, actions) = step(state, event);
                assert_eq!(next < State::OpenSent, actions.contains(&Action::Hangup));
            }
        }
    }
}
