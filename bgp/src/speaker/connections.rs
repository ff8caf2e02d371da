//! Connections: made, accepted, lost, and where each belongs.

use std::net::SocketAddr;
use std::time::Instant;

use super::cause::Cause;
use super::found::Arrival;
use super::{ConnId, Dial, Place, Refused, Speaker, Timer};
use crate::rib::path::PeerIndex;
use crate::session::Quarantine;
use crate::session::collision::Direction;
use crate::session::link::{Link, Transport};
use crate::session::state::{Event, State};
use crate::wire::Cease;

impl Speaker {
    /// Takes a connection that the edge accepted.
    ///
    /// # Errors
    /// When nobody wants it; the edge closes it.
    pub fn accept(&mut self, now: Instant, arrival: Arrival<'_>) -> Result<ConnId, Refused> {
        self.clock = now;
        let index = self.receive_guest(now, arrival)?;
        let peer = &self.peers[&index];
        let refused = |why| Refused::NotNow { peer: peer.name.clone(), why };
        peer.wanted().map_err(refused)?;
        match peer.config.dial {
            Dial::Both | Dial::Passive => {}
            Dial::Active => return Err(refused("we dial, it does not")),
        }
        match peer.quarantine {
            Quarantine::No => {}
            Quarantine::Yes => return Err(refused("it has to wait after an error")),
            Quarantine::UntilReset => {
                return Err(refused("it told too many paths, and waits for the operator"));
            }
        }
        self.free_incoming(now, index);
        let conn = self.new_conn();
        let place = Place { peer: index, direction: Direction::Incoming };
        self.attach(now, place, conn, Some(arrival.local));
        if let Some(link) = self.link(place) {
            link.remote_port = arrival.remote.port();
        }
        self.event(now, place, Event::StartPassive, None);
        self.transport_up(now, place);
        self.after(now);
        Ok(conn)
    }

    /// Makes the answering line free. A session on it moves over; an attempt gives way to the new
    /// one, since the peer would not have dialled again if it still cared for the old one.
    fn free_incoming(&mut self, now: Instant, index: PeerIndex) {
        let Some(peer) = self.peers.get(&index) else { return };
        let incoming = Place { peer: index, direction: Direction::Incoming };
        match peer.line(Direction::Incoming).state {
            State::Idle | State::Connect => {}
            State::Active if !self.delays_open(incoming) => {}
            State::Active => self.event(now, incoming, Event::CollisionLost, None),
            State::OpenSent | State::OpenConfirm => {
                let cause = Cause::cease(Cease::CollisionResolution, "");
                self.event(now, incoming, Event::CollisionLost, Some(&cause));
            }
            State::Established => {
                let outgoing = Place { peer: index, direction: Direction::Outgoing };
                let cause = Cause::cease(Cease::CollisionResolution, "");
                self.event(now, outgoing, Event::CollisionLost, Some(&cause));
                self.swap_lines(index);
            }
        }
    }

    fn swap_lines(&mut self, index: PeerIndex) {
        let Some(peer) = self.peers.get_mut(&index) else { return };
        peer.swap_lines();
        for place in self.conns.values_mut().filter(|place| place.peer == index) {
            place.direction = place.direction.other();
        }
        self.timers
            .swap(Timer::Hold(index, Direction::Incoming), Timer::Hold(index, Direction::Outgoing));
        self.timers.swap(
            Timer::Keepalive(index, Direction::Incoming),
            Timer::Keepalive(index, Direction::Outgoing),
        );
        self.timers.swap(
            Timer::DelayOpen(index, Direction::Incoming),
            Timer::DelayOpen(index, Direction::Outgoing),
        );
        self.timers.swap(
            Timer::SendHold(index, Direction::Incoming),
            Timer::SendHold(index, Direction::Outgoing),
        );
    }

    pub(super) const fn new_conn(&mut self) -> ConnId {
        self.next_conn += 1;
        ConnId(self.next_conn)
    }

    pub(super) fn attach(
        &mut self,
        now: Instant,
        place: Place,
        conn: ConnId,
        local: Option<SocketAddr>,
    ) {
        self.conns.insert(conn, place);
        if let Some(peer) = self.peers.get_mut(&place.peer) {
            peer.line_mut(place.direction).link = Some(Link::new(conn, local, now));
            peer.announced_output[place.direction as usize] = false;
        }
    }

    /// Forgets a connection that is gone.
    pub(super) fn detach(&mut self, place: Place) -> Option<Link> {
        let link = self.peers.get_mut(&place.peer)?.line_mut(place.direction).link.take()?;
        self.conns.remove(&link.conn);
        self.timers.cancel(Timer::Hold(place.peer, place.direction));
        self.timers.cancel(Timer::Keepalive(place.peer, place.direction));
        self.timers.cancel(Timer::SendHold(place.peer, place.direction));
        self.timers.cancel(Timer::DelayOpen(place.peer, place.direction));
        Some(link)
    }

    pub(super) fn connected(&mut self, now: Instant, conn: ConnId, local: SocketAddr) {
        let Some(place) = self.conns.get(&conn).copied() else {
            if self.caches.has(conn) {
                return self.cache_connected(now, conn);
            }
            return self.station_connected(now, conn);
        };
        if let Some(link) = self.link(place) {
            link.local = Some(local);
            link.last_heard = now;
        }
        self.transport_up(now, place);
    }

    /// A connection stands. With DelayOpen the peer is to speak first (RFC 4271 §8.1.1), which it has the
    /// delay for.
    fn transport_up(&mut self, now: Instant, place: Place) {
        let delay = self.peers.get(&place.peer).and_then(|peer| peer.config.delay_open);
        match delay {
            None => self.event(now, place, Event::TransportUp, None),
            Some(delay) => {
                if place.direction == Direction::Outgoing {
                    self.timers.cancel(Timer::Retry(place.peer));
                }
                self.timers.set(Timer::DelayOpen(place.peer, place.direction), now + delay);
            }
        }
    }

    /// Whether a connection waits for the peer to speak.
    pub(super) fn delays_open(&self, place: Place) -> bool {
        self.timers.is_set(Timer::DelayOpen(place.peer, place.direction))
    }

    /// Something happens to the connection: there is nothing to wait for any more.
    pub(super) fn end_delay(&mut self, now: Instant, place: Place) {
        if self.delays_open(place) {
            self.timers.cancel(Timer::DelayOpen(place.peer, place.direction));
            self.event(now, place, Event::TransportUp, None);
        }
    }

    pub(super) fn connect_failed(&mut self, now: Instant, conn: ConnId, error: &str) {
        let Some(place) = self.conns.get(&conn).copied() else {
            let text = format!("cannot connect: {error}");
            if self.caches.has(conn) {
                return self.cache_lost(now, conn, &text);
            }
            return self.station_lost(now, conn, &text);
        };
        self.detach(place);
        if let Some(peer) = self.peers.get_mut(&place.peer) {
            peer.connect_error = Some(error.to_owned());
        }
        let cause = Cause::transport(format!("cannot connect: {error}"));
        self.event(now, place, Event::TransportFailed, Some(&cause));
    }

    pub(super) fn closed(&mut self, now: Instant, conn: ConnId, error: Option<&str>) {
        self.closing.remove(&conn);
        let Some(place) = self.conns.get(&conn).copied() else {
            let of_cache = self.caches.has(conn);
            let who = if of_cache { "cache" } else { "station" };
            let text = error.map_or_else(
                || format!("the {who} closed the connection"),
                |error| format!("the connection failed: {error}"),
            );
            if of_cache {
                return self.cache_lost(now, conn, &text);
            }
            return self.station_lost(now, conn, &text);
        };
        let text = error.map_or("the peer closed the connection".into(), |error| {
            format!("the connection failed: {error}")
        });
        self.end_delay(now, place);
        if let Some(link) = self.link(place) {
            link.transport = Transport::Gone;
        }
        self.event(now, place, Event::TransportFailed, Some(&Cause::transport(text)));
        self.detach(place);
    }

    pub(super) fn still_alive(&mut self, now: Instant, conn: ConnId) {
        let Some(place) = self.conns.get(&conn).copied() else {
            return self.cache_alive(now, conn);
        };
        if let Some(link) = self.link(place) {
            link.last_heard = now;
        }
    }

    pub(super) fn link(&mut self, place: Place) -> Option<&mut Link> {
        self.peers.get_mut(&place.peer)?.link_mut(place.direction)
    }
}
