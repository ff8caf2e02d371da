//! Caches of the RPKI (RFC 8210): dialled and dialled again, asked, and what they say made known to the
//! table.
//!
//! All caches are asked, and what any of them says counts: there is no preference among them, so that the
//! loss of one changes nothing that the others say too. What a cache has said stays until it says
//! otherwise or the data expire, whatever becomes of the connection. Until the first answer nothing is
//! invalid.

mod cache;
mod config;

pub use cache::CacheSnapshot;
pub use config::OriginValidation;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{ConnId, Output, Speaker, Timer};
use crate::rib::sweep::Progress;
use crate::rib::validation::Revalidation;
use crate::rpki::{Ending, News, Outcome, Redial, Stage, Vrps};
use cache::Cache;

/// How long a cache may be silent in the middle of an answer, or before it.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// All caches.
#[derive(Debug, Default)]
pub(super) struct Caches {
    caches: BTreeMap<SocketAddr, Cache>,
    conns: BTreeMap<ConnId, SocketAddr>,
    /// Last words on connections that are to be closed.
    closing: BTreeMap<ConnId, Bytes>,
    revalidations: VecDeque<Revalidation>,
}

/// What a deadline of a cache is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum CacheTimer {
    /// It is dialled again.
    Dial,
    /// It is asked again.
    Ask,
    /// It has to have answered.
    Answer,
    /// Its data are too old.
    Expire,
}

impl Caches {
    /// Whether a connection is with a cache.
    pub(super) fn has(&self, conn: ConnId) -> bool {
        self.conns.contains_key(&conn) || self.closing.contains_key(&conn)
    }

    /// Whether there are paths to be judged again.
    pub(super) fn is_revalidating(&self) -> bool {
        !self.revalidations.is_empty()
    }

    fn of(&mut self, conn: ConnId) -> Option<(SocketAddr, &mut Cache)> {
        let address = *self.conns.get(&conn)?;
        Some((address, self.caches.get_mut(&address)?))
    }
}

impl Speaker {
    /// Every cache as it is now.
    pub fn caches(&self, now: Instant) -> Vec<CacheSnapshot> {
        let all = self.caches.caches.iter();
        let expiry = |address| self.timers.at(Timer::Cache(address, CacheTimer::Expire));
        let records = |address| self.rib.origins.get(address).map(Vrps::counts).unwrap_or_default();
        let snapshot = |(address, cache): (&SocketAddr, &Cache)| {
            cache.snapshot((*address, records(*address)), now, expiry(*address))
        };
        all.map(snapshot).collect()
    }

    /// Follows the configuration.
    pub(super) fn configure_caches(&mut self, now: Instant) {
        let wanted = self.config.caches.clone();
        let known: Vec<SocketAddr> = self.caches.caches.keys().copied().collect();
        for address in known.into_iter().filter(|address| !wanted.contains(address)) {
            self.hang_up_cache(now, address);
            self.caches.caches.remove(&address);
            self.forget_what_said(address);
            for timer in [CacheTimer::Dial, CacheTimer::Expire] {
                self.timers.cancel(Timer::Cache(address, timer));
            }
        }
        for address in wanted {
            if let Entry::Vacant(place) = self.caches.caches.entry(address) {
                place.insert(Cache::new(now));
                self.dial_cache(address);
            }
        }
    }

    /// Ends all connections with caches; what they have said stays.
    pub(super) fn end_caches(&mut self, now: Instant) {
        let all: Vec<SocketAddr> = self.caches.caches.keys().copied().collect();
        for address in all {
            self.hang_up_cache(now, address);
            self.timers.cancel(Timer::Cache(address, CacheTimer::Dial));
        }
    }

    /// Closes the connection, if there is one, after what is still to be said.
    fn hang_up_cache(&mut self, now: Instant, address: SocketAddr) -> Redial {
        let Some(cache) = self.caches.caches.get_mut(&address) else { return Redial::Patiently };
        let Some(conn) = cache.conn.take() else { return Redial::Patiently };
        let last_words = cache.client.take_output();
        let redial = cache.client.disconnected();
        cache.since = now;
        cache.announced = false;
        self.caches.conns.remove(&conn);
        self.caches.closing.extend(last_words.map(|last_words| (conn, last_words)));
        for timer in [CacheTimer::Ask, CacheTimer::Answer] {
            self.timers.cancel(Timer::Cache(address, timer));
        }
        self.outputs.push_back(Output::Close { conn });
        redial
    }

    pub(super) fn fire_cache(&mut self, now: Instant, address: SocketAddr, timer: CacheTimer) {
        let Some(cache) = self.caches.caches.get_mut(&address) else { return };
        match timer {
            CacheTimer::Dial => self.dial_cache(address),
            CacheTimer::Ask => {
                cache.client.ask();
                cache.heard = now;
                self.rearm_cache(now, address);
            }
            CacheTimer::Answer => {
                let due = cache.heard + ANSWER_WITHIN;
                if due > now {
                    self.timers.set(Timer::Cache(address, timer), due);
                } else {
                    let text = format!("no answer within {} s", ANSWER_WITHIN.as_secs());
                    self.give_up_cache(now, address, &text);
                }
            }
            CacheTimer::Expire => {
                cache.completed = None;
                cache.client.expire();
                self.outputs.push_back(Output::CacheExpired { cache: address });
                self.forget_what_said(address);
            }
        }
    }

    fn dial_cache(&mut self, address: SocketAddr) {
        let conn = self.new_conn();
        let Some(cache) = self.caches.caches.get_mut(&address) else { return };
        cache.conn = Some(conn);
        self.caches.conns.insert(conn, address);
        self.outputs.push_back(Output::ConnectCache { conn, cache: address });
    }

    pub(super) fn cache_connected(&mut self, now: Instant, conn: ConnId) {
        let Some((address, cache)) = self.caches.of(conn) else { return };
        cache.client.connected();
        (cache.since, cache.heard) = (now, now);
        self.rearm_cache(now, address);
    }

    /// Octets wait in the socket: the cache is alive.
    pub(super) fn cache_alive(&mut self, now: Instant, conn: ConnId) {
        if let Some((_, cache)) = self.caches.of(conn) {
            cache.heard = now;
        }
    }

    pub(super) fn cache_received(&mut self, now: Instant, conn: ConnId, bytes: &[u8]) {
        let Some((address, cache)) = self.caches.of(conn) else { return };
        cache.heard = now;
        let have = self.rib.origins.of(address);
        let Outcome { news, completed, ending } = cache.client.received(bytes, have);
        if completed {
            cache.answers += 1;
            cache.completed = Some(now);
            cache.failures = 0;
            let expiry = now + cache.client.timing().expire;
            let was_away = cache.last_error.take().is_some();
            if cache.answers == 1 || was_away {
                let records = have.len();
                self.outputs.push_back(Output::CacheUp { cache: address, records });
            }
            self.timers.set(Timer::Cache(address, CacheTimer::Expire), expiry);
        }
        for news in news {
            self.learn(address, news);
        }
        match ending {
            None => self.rearm_cache(now, address),
            Some(Ending::OlderVersion) => {
                self.hang_up_cache(now, address);
                self.dial_cache(address);
            }
            Some(Ending::Fault(text)) => self.give_up_cache(now, address, &text),
        }
    }

    /// What a cache says otherwise than before matters to the paths that it covers.
    fn learn(&mut self, cache: SocketAddr, news: News) {
        self.caches.revalidations.extend(Revalidation::new(&self.rib, cache, news));
    }

    fn forget_what_said(&mut self, cache: SocketAddr) {
        let before = self.rib.origins.forget(cache);
        self.learn(cache, News::Replaced(before));
    }

    /// Does a slice of judging paths again.
    pub(super) fn revalidate(&mut self) {
        let Some(first) = self.caches.revalidations.front_mut() else { return };
        match first.advance(&mut self.rib) {
            Progress::More => {}
            Progress::Done => drop(self.caches.revalidations.pop_front()),
        }
    }

    /// Sets the timers by where the talk stands.
    fn rearm_cache(&mut self, now: Instant, address: SocketAddr) {
        let Some(cache) = self.caches.caches.get(&address) else { return };
        let timing = cache.client.timing();
        let (ask, answer) = match cache.client.stage() {
            Stage::Down => (None, None),
            Stage::Loading => (None, Some(cache.heard + ANSWER_WITHIN)),
            Stage::Current => (Some(cache.completed.unwrap_or(now) + timing.refresh), None),
            Stage::NoData => (Some(now + timing.retry), None),
        };
        for (timer, deadline) in [(CacheTimer::Ask, ask), (CacheTimer::Answer, answer)] {
            let timer = Timer::Cache(address, timer);
            match deadline {
                Some(deadline) => self.timers.set(timer, deadline),
                None => self.timers.cancel(timer),
            }
        }
    }

    /// Ends a connection from our side, for cause.
    fn give_up_cache(&mut self, now: Instant, address: SocketAddr, text: &str) {
        let redial = self.hang_up_cache(now, address);
        self.await_cache(now, address, redial, text);
    }

    /// The connection of a cache is gone, or could not be made. Its data stay.
    pub(super) fn cache_lost(&mut self, now: Instant, conn: ConnId, error: &str) {
        self.caches.closing.remove(&conn);
        let Some((address, cache)) = self.caches.of(conn) else { return };
        cache.conn = None;
        cache.announced = false;
        if cache.client.stage() != Stage::Down {
            cache.since = now;
        }
        let redial = cache.client.disconnected();
        self.caches.conns.remove(&conn);
        for timer in [CacheTimer::Ask, CacheTimer::Answer] {
            self.timers.cancel(Timer::Cache(address, timer));
        }
        self.await_cache(now, address, redial, error);
    }

    fn await_cache(&mut self, now: Instant, address: SocketAddr, redial: Redial, error: &str) {
        let Some(cache) = self.caches.caches.get_mut(&address) else { return };
        // That a cache does not answer is said once.
        let news = cache.last_error.replace(error.to_owned()).is_none();
        let wait = match redial {
            Redial::AtOnce => Duration::ZERO,
            Redial::Patiently => self.jitter.of(cache.wait()),
        };
        self.timers.set(Timer::Cache(address, CacheTimer::Dial), now + wait);
        if news {
            let reason = error.to_owned();
            self.outputs.push_back(Output::CacheDown { cache: address, reason });
        }
    }

    /// Tells the edge which caches there is something to say to.
    pub(super) fn announce_caches(&mut self) {
        for cache in self.caches.caches.values_mut() {
            if let Some(conn) = cache.conn.filter(|_| !cache.announced && cache.client.has_output())
            {
                cache.announced = true;
                self.outputs.push_back(Output::Transmit { conn });
            }
        }
    }

    /// The next octets for a cache.
    pub(super) fn transmit_to_cache(&mut self, conn: ConnId) -> Option<Bytes> {
        if let Some(last_words) = self.caches.closing.remove(&conn) {
            return Some(last_words);
        }
        let (_, cache) = self.caches.of(conn)?;
        let bytes = cache.client.take_output();
        cache.announced = bytes.is_some();
        bytes
    }
}
