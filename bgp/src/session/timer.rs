//! Deadlines by name. One per name; the earliest is always at hand.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// Deadlines, each with a key.
#[derive(Debug)]
pub(crate) struct Timers<K> {
    by_time: BTreeSet<(Instant, K)>,
    by_key: BTreeMap<K, Instant>,
}

impl<K: Copy + Ord> Timers<K> {
    pub(crate) const fn new() -> Self {
        Self { by_time: BTreeSet::new(), by_key: BTreeMap::new() }
    }

    /// Sets or moves a deadline.
    pub(crate) fn set(&mut self, key: K, at: Instant) {
        self.cancel(key);
        self.by_key.insert(key, at);
        self.by_time.insert((at, key));
    }

    pub(crate) fn cancel(&mut self, key: K) {
        if let Some(at) = self.by_key.remove(&key) {
            self.by_time.remove(&(at, key));
        }
    }

    /// Exchanges two deadlines.
    pub(crate) fn swap(&mut self, one: K, other: K) {
        let (first, second) = (self.by_key.get(&one).copied(), self.by_key.get(&other).copied());
        for (key, at) in [(one, second), (other, first)] {
            match at {
                Some(at) => self.set(key, at),
                None => self.cancel(key),
            }
        }
    }

    pub(crate) fn is_set(&self, key: K) -> bool {
        self.by_key.contains_key(&key)
    }

    pub(crate) fn at(&self, key: K) -> Option<Instant> {
        self.by_key.get(&key).copied()
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// Takes out the earliest deadline that is due.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<K> {
        let (_, key) = *self.by_time.first().filter(|(at, _)| *at <= now)?;
        self.cancel(key);
        Some(key)
    }
}

/// A small generator (SplitMix64) for what has to differ from node to node but not from run to
/// run. Nothing secret hangs on it.
#[derive(Debug)]
pub(crate) struct Jitter(u64);

impl Jitter {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bits ^ (bits >> 31)
    }

    /// Between three and four quarters of `time` (RFC 4271 §10).
    pub(crate) fn of(&mut self, time: Duration) -> Duration {
        let quarter = time / 4;
        let fraction = u32::try_from(self.next() % 1000).expect("less than a thousand");
        quarter * 3 + quarter * fraction / 1000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    fn deadlines_come_in_order_and_can_be_moved() {
        let start = Instant::now();
        let at = |secs| start + Duration::from_secs(secs);
        let mut timers = Timers::new();
        timers.set('a', at(1));
        timers.set('b', at(2));
        timers.set('a', at(3));
        assert_eq!((timers.next(), timers.pop(at(1))), (Some(at(2)), None));
        assert_eq!(
            [timers.pop(at(3)), timers.pop(at(3)), timers.pop(at(3))],
            [Some('b'), Some('a'), None]
        );
    }

    #[test]
    fn jitter_stays_within_a_quarter() {
        let mut jitter = Jitter::new(7);
        let whole = Duration::from_secs(4);
        for _ in 0..1000 {
            let time = jitter.of(whole);
            assert!(time >= Duration::from_secs(3) && time <= whole);
        }
    }
}
