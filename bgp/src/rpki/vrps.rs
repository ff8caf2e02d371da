//! Validated ROA payloads, and what they say of a prefix and its origin (RFC 6811).
//!
//! A hash table by prefix, asked once for each length that occurs: a route of /24 in a world with payloads
//! of /8 to /24 takes seventeen looks. Several caches may tell the same payload; it counts until none does.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::fmt;

use foldhash::fast::FixedState;

use crate::wire::{Family, Prefix};

/// A validated ROA payload (RFC 6811 §2): this AS may originate the prefix, and parts of it down to a
/// length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Vrp {
    /// The prefix.
    pub prefix: Prefix,
    /// The longest part that the AS may originate, in bits.
    pub max_length: u8,
    /// The AS; 0: nobody may (RFC 6483 §4).
    pub asn: u32,
}

impl fmt::Display for Vrp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} up to /{} by AS {}", self.prefix, self.max_length, self.asn)
    }
}

/// What a prefix and its origin are worth (RFC 6811 §2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Validity {
    /// A payload covers the prefix and names the origin.
    Valid,
    /// Payloads cover the prefix, and none names the origin for this length.
    Invalid,
    /// No payload covers the prefix.
    NotFound,
}

impl fmt::Display for Validity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Valid => "valid",
            Self::Invalid => "invalid",
            Self::NotFound => "not-found",
        })
    }
}

/// Whether the table says something else than before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It does.
    Changed,
    /// It does not: another cache says the same.
    None,
}

/// What a payload says of its prefix, and how many caches say it.
#[derive(Debug, Clone, Copy)]
struct Record {
    asn: u32,
    max_length: u8,
    caches: u16,
}

/// The payloads of all caches.
#[derive(Debug, Default)]
pub struct Vrps {
    by_prefix: HashMap<Prefix, Vec<Record>, FixedState>,
    /// How many prefixes of each length there are, by family.
    lengths: [BTreeMap<u8, usize>; 2],
}

impl Vrps {
    /// A cache says so.
    pub fn announce(&mut self, vrp: Vrp) -> Effect {
        let records = match self.by_prefix.entry(vrp.prefix) {
            Entry::Occupied(place) => place.into_mut(),
            Entry::Vacant(place) => {
                let lengths = &mut self.lengths[vrp.prefix.family().index()];
                *lengths.entry(vrp.prefix.len()).or_default() += 1;
                place.insert(Vec::with_capacity(1))
            }
        };
        let same = records.iter_mut().find(|record| record.is_of(vrp));
        if let Some(record) = same {
            record.caches = record.caches.saturating_add(1);
            return Effect::None;
        }
        records.push(Record { asn: vrp.asn, max_length: vrp.max_length, caches: 1 });
        Effect::Changed
    }

    /// A cache that said so does not any longer.
    pub fn withdraw(&mut self, vrp: Vrp) -> Effect {
        let Entry::Occupied(mut place) = self.by_prefix.entry(vrp.prefix) else {
            return Effect::None;
        };
        let records = place.get_mut();
        let Some(at) = records.iter().position(|record| record.is_of(vrp)) else {
            return Effect::None;
        };
        records[at].caches -= 1;
        if records[at].caches > 0 {
            return Effect::None;
        }
        records.swap_remove(at);
        if records.is_empty() {
            place.remove();
            let lengths = &mut self.lengths[vrp.prefix.family().index()];
            if let Some(count) = lengths.get_mut(&vrp.prefix.len()) {
                *count -= 1;
                if *count == 0 {
                    lengths.remove(&vrp.prefix.len());
                }
            }
        }
        Effect::Changed
    }

    /// Whether nothing is known: then nothing is valid, and nothing invalid.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_prefix.is_empty()
    }

    /// How many different payloads of a family there are.
    #[must_use]
    pub fn len(&self, family: Family) -> usize {
        let of_family = self.by_prefix.iter().filter(|(prefix, _)| prefix.family() == family);
        of_family.map(|(_, records)| records.len()).sum()
    }

    /// What a prefix that an AS originates is worth (RFC 6811 §2). No AS number 0 is valid.
    #[must_use]
    pub fn validity(&self, prefix: Prefix, origin: u32) -> Validity {
        let mut validity = Validity::NotFound;
        let lengths = self.lengths[prefix.family().index()].keys();
        for length in lengths.take_while(|length| **length <= prefix.len()) {
            let covering = Prefix::from_bits(prefix.family(), prefix.bits(), *length);
            let Some(records) = self.by_prefix.get(&covering) else { continue };
            if records.iter().any(|record| record.matches(prefix, origin)) {
                return Validity::Valid;
            }
            validity = Validity::Invalid;
        }
        validity
    }
}

impl Record {
    const fn is_of(&self, vrp: Vrp) -> bool {
        self.asn == vrp.asn && self.max_length == vrp.max_length
    }

    const fn matches(&self, prefix: Prefix, origin: u32) -> bool {
        self.asn == origin && origin != 0 && prefix.len() <= self.max_length
    }
}

/// Prefixes of which a table says something else than before: routes to these and to parts of them are
/// to be judged again.
#[derive(Debug, Default)]
pub(crate) struct Affected {
    prefixes: std::collections::HashSet<Prefix, FixedState>,
    lengths: [std::collections::BTreeSet<u8>; 2],
}

impl Affected {
    pub(crate) fn insert(&mut self, prefix: Prefix) {
        self.prefixes.insert(prefix);
        self.lengths[prefix.family().index()].insert(prefix.len());
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.prefixes.is_empty()
    }

    /// Whether there is one of a family.
    pub(crate) fn concern(&self, family: Family) -> bool {
        !self.lengths[family.index()].is_empty()
    }

    /// Whether a route to this prefix is to be judged again.
    pub(crate) fn cover(&self, prefix: Prefix) -> bool {
        let lengths = self.lengths[prefix.family().index()].iter();
        lengths.take_while(|length| **length <= prefix.len()).any(|length| {
            let covering = Prefix::from_bits(prefix.family(), prefix.bits(), *length);
            self.prefixes.contains(&covering)
        })
    }
}
