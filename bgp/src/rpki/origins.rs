//! What all caches say together, and what of it is new.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::SocketAddr;

use foldhash::fast::FixedState;

use super::vrps::covering;
use super::{Validity, Vrps};
use crate::wire::{Family, Prefix};

/// The payloads of each cache. What any of them says counts, so a payload holds until no cache tells it.
#[derive(Debug, Default)]
pub struct Origins {
    by_cache: BTreeMap<SocketAddr, Vrps>,
}

impl Origins {
    /// What a cache says.
    pub fn of(&mut self, cache: SocketAddr) -> &mut Vrps {
        self.by_cache.entry(cache).or_default()
    }

    /// What a cache says, if it ever said anything.
    #[must_use]
    pub fn get(&self, cache: SocketAddr) -> Option<&Vrps> {
        self.by_cache.get(&cache)
    }

    /// What a cache says does not count any more; gives what that was.
    pub fn forget(&mut self, cache: SocketAddr) -> Vrps {
        self.by_cache.remove(&cache).unwrap_or_default()
    }

    /// Whether nothing is known: then nothing is valid, and nothing invalid.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_cache.values().all(Vrps::is_empty)
    }

    /// What a prefix that an AS originates is worth (RFC 6811 §2).
    #[must_use]
    pub fn validity(&self, prefix: Prefix, origin: u32) -> Validity {
        let mut together = Validity::NotFound;
        for vrps in self.by_cache.values() {
            match vrps.validity(prefix, origin) {
                Validity::Valid => return Validity::Valid,
                Validity::Invalid => together = Validity::Invalid,
                Validity::NotFound => {}
            }
        }
        together
    }
}

/// What a cache says otherwise than before.
#[derive(Debug)]
pub enum News {
    /// Something of these prefixes.
    Changed(Affected),
    /// Everything was told anew; these payloads were there before.
    Replaced(Vrps),
}

/// Prefixes of which a cache says something else than before: routes to these and to parts of them are to
/// be judged again.
#[derive(Debug, Default)]
pub struct Affected {
    prefixes: HashSet<Prefix, FixedState>,
    lengths: [BTreeSet<u8>; 2],
}

impl Affected {
    pub(crate) fn insert(&mut self, prefix: Prefix) {
        self.prefixes.insert(prefix);
        self.lengths[prefix.family().index()].insert(prefix.len());
    }

    /// Whether there is one of a family.
    pub(crate) fn concern(&self, family: Family) -> bool {
        !self.lengths[family.index()].is_empty()
    }

    /// Whether a route to this prefix is to be judged again.
    pub(crate) fn cover(&self, prefix: Prefix) -> bool {
        let lengths = self.lengths[prefix.family().index()].iter().copied();
        covering(prefix, lengths).any(|covering| self.prefixes.contains(&covering))
    }
}
