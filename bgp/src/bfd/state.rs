//! The finite state machine of RFC 5880 §6.8.6 as one table. It decides, and does nothing itself.

use super::packet::{Diagnostic, State};

/// What can happen to a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// A packet came, with the sender's state.
    Heard(State),
    /// Nothing came for the detection time (RFC 5880 §6.8.4).
    Expired,
    /// The operator, or the end of the program (RFC 5880 §6.8.16).
    Disable,
}

/// The next state, and the diagnostic if the state changes.
pub(super) const fn step(state: State, event: Event) -> (State, Diagnostic) {
    use Event::{Disable, Expired, Heard};
    use State::{AdminDown, Down, Init, Up};
    match (state, event) {
        (_, Disable) => (AdminDown, Diagnostic::ADMIN_DOWN),
        // RFC 5880 §6.8.6: a session that is held down discards what it hears.
        (AdminDown, Heard(_) | Expired) => (AdminDown, Diagnostic::ADMIN_DOWN),

        (Down, Heard(Down)) => (Init, Diagnostic::NONE),
        (Down, Heard(Init)) => (Up, Diagnostic::NONE),
        // A peer that believes to be Up has yet to notice that we are not.
        (Down, Heard(Up | AdminDown) | Expired) => (Down, Diagnostic::NONE),

        (Init, Heard(Init | Up)) => (Up, Diagnostic::NONE),
        (Init, Heard(Down)) => (Init, Diagnostic::NONE),

        (Up, Heard(Init | Up)) => (Up, Diagnostic::NONE),
        (Up, Heard(Down)) => (Down, Diagnostic::NEIGHBOR_DOWN),

        (Init | Up, Heard(AdminDown)) => (Down, Diagnostic::NEIGHBOR_DOWN),
        (Init | Up, Expired) => (Down, Diagnostic::TIME_EXPIRED),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_packets_bring_two_ends_up() {
        let heard = |state, other| step(state, Event::Heard(other)).0;
        let (mut left, mut right) = (State::Down, State::Down);
        right = heard(right, left);
        left = heard(left, right);
        right = heard(right, left);
        assert_eq!((left, right), (State::Up, State::Up));
    }

    #[test]
    fn nothing_but_the_peers_word_leads_to_up() {
        for state in [State::AdminDown, State::Down, State::Init] {
            for event in [Event::Expired, Event::Disable, Event::Heard(State::AdminDown)] {
                assert_ne!(step(state, event).0, State::Up);
            }
        }
        assert_eq!(step(State::Down, Event::Heard(State::Up)).0, State::Down);
    }
}
