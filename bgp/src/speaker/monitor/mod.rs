//! Monitoring stations (BMP, RFC 7854): dialled and dialled again, and told what changes.
//!
//! The table notes changes only while a station is connected ([`crate::rib::watch`]); without one a
//! route costs nothing more than it did.

mod compose;
mod config;
mod feed;
mod source;
mod station;
mod walk;

pub use config::{Monitoring, StationConfig, TableSet};
pub use station::{StationSnapshot, StationState};

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::cause::Cause;
use super::{ConnId, EndedBy, Output, Speaker, Timer};
use crate::bmp::{self, Down};
use crate::rib::path::PeerIndex;
use crate::rib::prefix::PrefixId;
use crate::rib::watch::Side;
use crate::session::Peer;
use feed::Feed;
use source::Source;
pub(super) use source::own_next_hop;
use station::{STEADY, Station};

/// All stations.
#[derive(Debug, Default)]
pub(super) struct Stations {
    stations: BTreeMap<SocketAddr, Station>,
    conns: BTreeMap<ConnId, SocketAddr>,
    /// Last words on connections that are to be closed.
    closing: BTreeMap<ConnId, Bytes>,
    /// A moment, and the time since the Unix epoch then.
    wall_clock: Option<(Instant, Duration)>,
}

impl Stations {
    fn feeds(&mut self) -> impl Iterator<Item = &mut Feed> {
        self.stations.values_mut().filter_map(|station| station.feed.as_mut())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.stations.is_empty()
    }

    /// A session has come up, maybe with paths that were kept.
    pub(super) fn session_up(&mut self, peer: PeerIndex, has_paths: bool) {
        self.feeds().for_each(|feed| feed.session_up(peer, has_paths));
    }

    /// A session is over.
    pub(super) fn session_down(&mut self, peer: PeerIndex, cause: Option<&Cause>) {
        if self.feeds().next().is_some() {
            let why = down(cause);
            self.feeds().for_each(|feed| feed.session_down(peer, &why));
        }
    }

    /// What a peer has told or was told is complete, or may be.
    pub(super) fn stir(&mut self) {
        self.feeds().for_each(|feed| feed.stirred = true);
    }

    /// Whether a station has yet to hear of a prefix.
    pub(super) fn concern(&self, prefix: PrefixId) -> bool {
        let mut feeds = self.stations.values().filter_map(|station| station.feed.as_ref());
        feeds.any(|feed| feed.concerns(prefix))
    }
}

/// The end of a session as a station hears of it.
fn down(cause: Option<&Cause>) -> Down {
    let message = |notification: &crate::wire::Notification| {
        let mut out = Vec::new();
        notification.emit(&mut out);
        out
    };
    let Some(cause) = cause else {
        // A message that does not fit the state; Established is the only one that counts here.
        return Down::SentNotification(message(&super::drive::unexpected_in_session()));
    };
    match (cause.reason.by, &cause.notification, &cause.heard) {
        (EndedBy::Us, Some(sent), _) => Down::SentNotification(message(sent)),
        (EndedBy::Peer, _, Some(heard)) => Down::ReceivedNotification(message(heard)),
        (EndedBy::Us, None, _) => Down::Closed(0),
        (EndedBy::Peer, _, None) | (EndedBy::Transport, _, _) => Down::Lost,
    }
}

impl Speaker {
    /// Tells what time it is, for the time stamps in what stations are told: so long after the Unix
    /// epoch. Without it they say "not known".
    pub const fn set_wall_clock(&mut self, now: Instant, since_epoch: Duration) {
        self.stations.wall_clock = Some((now, since_epoch));
    }

    /// Every monitoring station as it is now.
    pub fn stations(&self, now: Instant) -> Vec<StationSnapshot> {
        let all = self.stations.stations.iter();
        all.map(|(address, station)| station.snapshot(*address, now)).collect()
    }

    /// Follows the configuration: whoever is not told the same any more is called again.
    pub(super) fn configure_stations(&mut self, now: Instant, renamed: bool) {
        let wanted = self.config.monitoring.stations.clone();
        let known: Vec<SocketAddr> = self.stations.stations.keys().copied().collect();
        for address in known {
            let config = self.stations.stations.get(&address).map(|station| station.config);
            match wanted.get(&address) {
                None => {
                    self.end_station(now, address, "no longer configured");
                    self.stations.stations.remove(&address);
                    self.timers.cancel(Timer::Station(address));
                }
                Some(new) if renamed || config.as_ref() != Some(new) => {
                    self.end_station(now, address, "the configuration has changed");
                    if let Some(station) = self.stations.stations.get_mut(&address) {
                        station.config = *new;
                        station.failures = 0;
                    }
                    self.dial_station(address);
                }
                Some(_) => {}
            }
        }
        for (address, config) in wanted {
            if let Entry::Vacant(place) = self.stations.stations.entry(address) {
                place.insert(Station::new(config, now));
                self.dial_station(address);
            }
        }
    }

    /// Says goodbye to all stations.
    pub(super) fn end_stations(&mut self, now: Instant) {
        let all: Vec<SocketAddr> = self.stations.stations.keys().copied().collect();
        for address in all {
            self.end_station(now, address, "the speaker shuts down");
            self.timers.cancel(Timer::Station(address));
        }
    }

    fn end_station(&mut self, now: Instant, address: SocketAddr, text: &str) {
        let time = self.wall_clock(now);
        let Self { stations: Stations { stations, conns, closing, .. }, .. } = self;
        let Some(station) = stations.get_mut(&address) else { return };
        let Some(conn) = station.conn.take() else { return };
        conns.remove(&conn);
        if let Some(mut feed) = station.feed.take() {
            let mut last_words = Vec::new();
            let source = Source {
                config: &self.config,
                rib: &self.rib,
                groups: &self.groups,
                peers: &self.peers,
                time,
            };
            feed.tell_sessions(now, &source, &mut last_words);
            bmp::termination(&mut last_words, text);
            station.messages += feed.messages + 1;
            station.octets += last_words.len() as u64;
            station.since = now;
            closing.insert(conn, last_words.into());
        }
        self.timers.cancel(Timer::Report(address));
        self.outputs.push_back(Output::Close { conn });
        self.update_watch();
    }

    pub(super) fn dial_station(&mut self, address: SocketAddr) {
        let conn = self.new_conn();
        let Some(station) = self.stations.stations.get_mut(&address) else { return };
        station.conn = Some(conn);
        self.timers.cancel(Timer::Station(address));
        self.stations.conns.insert(conn, address);
        self.outputs.push_back(Output::ConnectStation { conn, station: address });
    }

    /// A connection that is no peer's has come up: a station's, or one that is not wanted any more.
    pub(super) fn station_connected(&mut self, now: Instant, conn: ConnId) {
        let address = self.stations.conns.get(&conn).copied();
        let station = address.and_then(|address| self.stations.stations.get_mut(&address));
        let Some((address, station)) = address.zip(station) else {
            self.outputs.push_back(Output::Close { conn });
            return;
        };
        station.feed = Some(Feed::new(station.config));
        station.since = now;
        station.dumps += 1;
        self.outputs.push_back(Output::StationUp { station: address });
        self.rearm_report(now, address);
        self.update_watch();
    }

    fn rearm_report(&mut self, now: Instant, address: SocketAddr) {
        let station = self.stations.stations.get(&address);
        if let Some(interval) = station.and_then(|station| station.config.statistics) {
            self.timers.set(Timer::Report(address), now + interval);
        }
    }

    /// It is time for statistics.
    pub(super) fn report_to_station(&mut self, now: Instant, address: SocketAddr) {
        let station = self.stations.stations.get_mut(&address);
        if let Some(feed) = station.and_then(|station| station.feed.as_mut()) {
            feed.report_due = true;
            self.rearm_report(now, address);
        }
    }

    /// The connection of a station is gone, or could not be made.
    pub(super) fn station_lost(&mut self, now: Instant, conn: ConnId, error: &str) {
        self.stations.closing.remove(&conn);
        let Some(address) = self.stations.conns.remove(&conn) else { return };
        let Some(station) = self.stations.stations.get_mut(&address) else { return };
        station.conn = None;
        let was_up = station.feed.is_some();
        // That a station does not answer is said once.
        let news = was_up || station.last_error.is_none();
        station.last_error = Some(error.to_owned());
        if let Some(feed) = station.feed.take() {
            station.messages += feed.messages;
            if now.duration_since(station.since) >= STEADY {
                station.failures = 0;
            }
            station.since = now;
        }
        let wait = self.jitter.of(station.wait());
        self.timers.set(Timer::Station(address), now + wait);
        self.timers.cancel(Timer::Report(address));
        if news {
            let reason = error.to_owned();
            self.outputs.push_back(Output::StationDown { station: address, reason });
        }
        self.update_watch();
    }

    /// The table notes what some station wants to hear of, and nothing else.
    fn update_watch(&mut self) {
        let stations = self.stations.stations.values().filter(|station| station.feed.is_some());
        let tables: Vec<TableSet> = stations.map(|station| station.config.tables).collect();
        self.rib.watch.paths = tables.iter().any(|tables| tables.of_paths());
        self.rib.watch.out = tables.iter().any(|tables| tables.contains(bmp::Table::AdjRibOut));
    }

    /// Lets the stations know of what the table has noted.
    pub(super) fn tell_stations(&mut self, now: Instant) {
        if self.rib.watch.is_empty() {
            return;
        }
        let mut noted = self.rib.watch.take();
        let is_up =
            |index: &PeerIndex| self.peers.get(index).is_some_and(|peer| is_established(peer));
        let mut last = None;
        noted.retain(|(topic, _)| match topic.side {
            Side::Best => true,
            // A peer that is down has no tables; when it is back, what was kept is told.
            Side::In(peer) | Side::Out(peer) => match last {
                Some((known, up)) if known == peer => up,
                Some(_) | None => {
                    let up = is_up(&peer);
                    last = Some((peer, up));
                    up
                }
            },
        });
        let mut swamped = Vec::new();
        for (address, station) in &mut self.stations.stations {
            let Some(feed) = &mut station.feed else { continue };
            noted.iter().for_each(|(topic, change)| feed.mark(*topic, *change));
            if feed.is_swamped(&self.rib, &self.groups) {
                swamped.push(*address);
            }
        }
        for address in swamped {
            self.give_up_station(now, address);
        }
    }

    /// Ends a connection over which more waits than everything there is.
    fn give_up_station(&mut self, now: Instant, address: SocketAddr) {
        let Some(station) = self.stations.stations.get_mut(&address) else { return };
        station.swamped += 1;
        let Some(conn) = station.conn else { return };
        self.outputs.push_back(Output::Close { conn });
        self.station_lost(now, conn, "the station is too far behind and is told anew");
    }

    /// Tells the edge which stations have something to hear.
    pub(super) fn announce_stations(&mut self) {
        for station in self.stations.stations.values_mut() {
            if let (Some(conn), Some(feed)) = (station.conn, &mut station.feed)
                && !feed.announced
                && feed.has_news()
            {
                feed.announced = true;
                self.outputs.push_back(Output::Transmit { conn });
            }
        }
    }

    /// The next messages for a station.
    pub(super) fn transmit_to_station(&mut self, now: Instant, conn: ConnId) -> Option<Bytes> {
        if let Some(last_words) = self.stations.closing.remove(&conn) {
            return Some(last_words);
        }
        let time = self.wall_clock(now);
        let address = self.stations.conns.get(&conn)?;
        let station = self.stations.stations.get_mut(address)?;
        let source = Source {
            config: &self.config,
            rib: &self.rib,
            groups: &self.groups,
            peers: &self.peers,
            time,
        };
        let feed = station.feed.as_mut()?;
        let bytes = feed.next(now, &source);
        if let Some(bytes) = &bytes {
            station.octets += bytes.len() as u64;
        } else {
            feed.announced = false;
        }
        bytes.map(Bytes::from)
    }

    fn wall_clock(&self, now: Instant) -> Option<Duration> {
        let (then, since_epoch) = self.stations.wall_clock?;
        Some(since_epoch + now.duration_since(then))
    }
}

fn is_established(peer: &Peer) -> bool {
    peer.established().is_some()
}
