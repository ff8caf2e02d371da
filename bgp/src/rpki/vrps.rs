//! Validated ROA payloads of one cache, and what they say of a prefix and its origin (RFC 6811).
//!
//! A hash table by prefix, asked once for each length that occurs: a route of /24 in a world with payloads
//! of /8 to /24 takes seventeen looks. Most prefixes have one payload, which stands in the table itself;
//! the rest have them in order, so that no number of payloads for one prefix makes an answer slow.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
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

/// A payload without its prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Record {
    asn: u32,
    max_length: u8,
}

impl From<Vrp> for Record {
    fn from(Vrp { max_length, asn, .. }: Vrp) -> Self {
        Self { asn, max_length }
    }
}

/// The payloads of a prefix, at least one.
#[derive(Debug)]
enum Records {
    One(Record),
    #[expect(clippy::box_collection, reason = "rare, and not to make the others larger")]
    Several(Box<BTreeSet<Record>>),
}

/// A set of payloads.
#[derive(Debug, Default)]
pub struct Vrps {
    by_prefix: HashMap<Prefix, Records, FixedState>,
    /// How many prefixes of each length there are, by family.
    lengths: [BTreeMap<u8, usize>; 2],
    /// How many payloads there are, by family.
    counts: [usize; 2],
}

impl Vrps {
    /// Adds one; whether it was not there.
    pub fn insert(&mut self, vrp: Vrp) -> bool {
        let family = vrp.prefix.family().index();
        let is_new = match self.by_prefix.entry(vrp.prefix) {
            Entry::Occupied(mut place) => place.get_mut().insert(vrp.into()),
            Entry::Vacant(place) => {
                place.insert(Records::One(vrp.into()));
                *self.lengths[family].entry(vrp.prefix.len()).or_default() += 1;
                true
            }
        };
        self.counts[family] += usize::from(is_new);
        is_new
    }

    /// Takes one away; whether it was there.
    pub fn remove(&mut self, vrp: Vrp) -> bool {
        let Entry::Occupied(mut place) = self.by_prefix.entry(vrp.prefix) else { return false };
        let family = vrp.prefix.family().index();
        match place.get_mut() {
            Records::Several(all) => {
                if !all.remove(&vrp.into()) {
                    return false;
                }
                if let (1, Some(last)) = (all.len(), all.first()) {
                    let last = Records::One(*last);
                    place.insert(last);
                }
            }
            Records::One(record) if *record == vrp.into() => {
                place.remove();
                let lengths = &mut self.lengths[family];
                if let Some(count) = lengths.get_mut(&vrp.prefix.len()) {
                    *count -= 1;
                    if *count == 0 {
                        lengths.remove(&vrp.prefix.len());
                    }
                }
            }
            Records::One(_) => return false,
        }
        self.counts[family] -= 1;
        true
    }

    /// Whether it is there.
    #[must_use]
    pub fn contains(&self, vrp: Vrp) -> bool {
        match self.by_prefix.get(&vrp.prefix) {
            None => false,
            Some(Records::One(record)) => *record == vrp.into(),
            Some(Records::Several(all)) => all.contains(&vrp.into()),
        }
    }

    /// All of them, in no order.
    pub fn iter(&self) -> impl Iterator<Item = Vrp> {
        self.by_prefix.iter().flat_map(|(prefix, records)| {
            let (one, several) = match records {
                Records::One(record) => (Some(record), None),
                Records::Several(all) => (None, Some(all)),
            };
            let all = one.into_iter().chain(several.into_iter().flat_map(|all| all.iter()));
            all.map(|record| Vrp {
                prefix: *prefix,
                max_length: record.max_length,
                asn: record.asn,
            })
        })
    }

    /// Whether there is none: then nothing is valid, and nothing invalid.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_prefix.is_empty()
    }

    /// How many there are, by family.
    #[must_use]
    pub const fn counts(&self) -> [usize; 2] {
        self.counts
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.counts.iter().sum()
    }

    /// What a prefix that an AS originates is worth (RFC 6811 §2). No AS number 0 is valid.
    #[must_use]
    pub fn validity(&self, prefix: Prefix, origin: u32) -> Validity {
        let mut validity = Validity::NotFound;
        for covering in covering(prefix, self.lengths_of(prefix.family())) {
            match self.by_prefix.get(&covering) {
                Some(records) if records.name(prefix, origin) => return Validity::Valid,
                Some(_) => validity = Validity::Invalid,
                None => {}
            }
        }
        validity
    }

    fn lengths_of(&self, family: Family) -> impl Iterator<Item = u8> {
        self.lengths[family.index()].keys().copied()
    }
}

impl Records {
    fn insert(&mut self, record: Record) -> bool {
        match self {
            Self::One(same) if *same == record => false,
            Self::One(other) => {
                *self = Self::Several(Box::new(BTreeSet::from([*other, record])));
                true
            }
            Self::Several(all) => all.insert(record),
        }
    }

    /// Whether one of them names the origin for this length.
    fn name(&self, prefix: Prefix, origin: u32) -> bool {
        if origin == 0 {
            return false;
        }
        let enough = Record { asn: origin, max_length: prefix.len() };
        let record = match self {
            Self::One(record) => Some(record),
            Self::Several(all) => all.range(enough..).next(),
        };
        record.is_some_and(|record| record.asn == origin && record.max_length >= prefix.len())
    }
}

/// The prefixes of these lengths, in order, that cover this one.
pub(super) fn covering(
    prefix: Prefix,
    lengths: impl Iterator<Item = u8>,
) -> impl Iterator<Item = Prefix> {
    let shorter = lengths.take_while(move |length| *length <= prefix.len());
    shorter.map(move |length| Prefix::from_bits(prefix.family(), prefix.bits(), length))
}
