//! The generated routes: the same in every run, and numbered in the order in which they are told,
//! so that a receiver can tell in a few instructions which prefix it holds.
//!
//! Each /16 that may be routed has 16 places, one at each /20 of it, for prefixes of the lengths that
//! the Internet's table has most of. Prefixes that follow one another are far apart in address.

use std::collections::BTreeSet;
use std::ops::Range;

/// An address family of the generated routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) enum Family {
    Ipv4,
    Ipv6,
}

/// Lengths by place in a /16; a place can hold what its address is aligned to.
const LENGTHS: [u8; 16] = [16, 24, 20, 24, 18, 24, 22, 24, 17, 24, 23, 24, 19, 24, 21, 24];

/// A sequence of numbers that look random and never change (splitmix64).
#[derive(Debug, Clone)]
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// Spreads the bits of a number.
pub(crate) const fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    number ^ (number >> 31)
}

/// A first octet that no speaker takes for private, reserved or multicast.
const fn is_routable(octet: u8) -> bool {
    !matches!(octet, 0 | 10 | 100 | 127 | 169 | 172 | 192 | 198 | 203 | 224..)
}

/// Which prefixes there are, and which share their attributes.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) family: Family,
    /// The number of the /16 in use with these upper 16 bits, or `u32::MAX`.
    block_of: Vec<u32>,
    /// The address of each prefix; it gives the length too.
    addresses: Vec<u32>,
    /// The prefix at each place.
    numbers: Vec<u32>,
    /// Set `n` has the prefixes from `starts[n]` to before `starts[n + 1]`.
    starts: Vec<u32>,
    /// The set of each prefix.
    set_of: Vec<u32>,
}

impl Table {
    /// `shares` times as many prefixes and sets; no set reaches from one share into another.
    pub(crate) fn new(family: Family, shares: u32, prefixes: u32, sets: u32) -> Self {
        let all = shares * prefixes;
        let blocks = blocks(all.div_ceil(16));
        let mut block_of = vec![u32::MAX; 1 << 16];
        for (place, high) in (0..).zip(&blocks) {
            block_of[usize::from(*high)] = place;
        }
        let mut numbers = vec![0; all as usize];
        let mut addresses = Vec::with_capacity(all as usize);
        for (number, place) in (0..).zip(spread(all)) {
            numbers[place as usize] = number;
            addresses.push(u32::from(blocks[place as usize / 16]) << 16 | (place % 16) << 12);
        }
        let mut random = Numbers(0x0C1CA7);
        let mut starts = Vec::new();
        for share in 0..shares {
            let mut cuts = BTreeSet::from([0]);
            while cuts.len() < sets as usize {
                cuts.insert(u32::try_from(random.below(prefixes.into())).expect("it is below"));
            }
            starts.extend(cuts.into_iter().map(|cut| share * prefixes + cut));
        }
        starts.push(all);
        let mut set_of = vec![0; all as usize];
        for (set, pair) in (0..).zip(starts.windows(2)) {
            set_of[pair[0] as usize..pair[1] as usize].fill(set);
        }
        Self { family, block_of, addresses, numbers, starts, set_of }
    }

    /// How many prefixes there are.
    pub(crate) fn len(&self) -> usize {
        self.addresses.len()
    }

    /// All prefixes.
    pub(crate) fn all(&self) -> Range<u32> {
        0..u32::try_from(self.len()).expect("prefixes are counted by u32")
    }

    /// How many attribute sets there are.
    pub(crate) fn sets(&self) -> u32 {
        u32::try_from(self.starts.len() - 1).expect("sets are counted by u32")
    }

    /// The prefixes of a set.
    pub(crate) fn members(&self, set: u32) -> Range<u32> {
        let set = set as usize;
        self.starts[set]..self.starts[set + 1]
    }

    /// The set of a prefix.
    pub(crate) fn set_of(&self, prefix: u32) -> u32 {
        self.set_of[prefix as usize]
    }

    /// Address and length of a prefix, as those of IPv4 whatever the family.
    fn prefix(&self, number: u32) -> (u32, u8) {
        let address = self.addresses[number as usize];
        (address, length_at(address))
    }

    /// The number of a prefix with this IPv4 address and length, if it is one of ours. Prefixes come
    /// mostly in the order in which they were told, or against it: the neighbours of the one before
    /// are looked at first, and the large tables seldom.
    #[inline]
    fn number(&self, address: u32, length: u8, before: u32) -> Option<u32> {
        if length_at(address) != length {
            return None;
        }
        let near = [before.wrapping_add(1), before.wrapping_sub(1)];
        let near = near.into_iter().find(|n| self.addresses.get(*n as usize) == Some(&address));
        near.or_else(|| {
            let block = self.block_of[(address >> 16) as usize];
            let place = block.wrapping_mul(16).wrapping_add((address >> 12) & 15);
            let known = address & 0xFFF == 0 && block != u32::MAX;
            self.numbers.get(place as usize).copied().filter(|_| known)
        })
    }

    /// Appends a prefix as an UPDATE has it.
    pub(crate) fn put(&self, out: &mut Vec<u8>, number: u32) {
        let (address, length) = self.prefix(number);
        let octets = address.to_be_bytes();
        let used = usize::from(length.div_ceil(8));
        match self.family {
            Family::Ipv4 => out.push(length),
            Family::Ipv6 => {
                out.push(length + 24);
                out.extend(IPV6_START);
            }
        }
        out.extend(&octets[..used]);
    }

    /// Takes one prefix off the front of NLRI; `before` is the one before it. `Err`: malformed;
    /// `None`: none of ours.
    #[inline]
    pub(crate) fn take(&self, nlri: &mut &[u8], before: u32) -> Result<Option<u32>, &'static str> {
        let Some((length, rest)) = nlri.split_first() else { return Err("no prefix length") };
        let used = usize::from(length.div_ceil(8));
        let Some((octets, rest)) = rest.split_at_checked(used) else {
            return Err("a prefix is cut off");
        };
        *nlri = rest;
        let (octets, length) = match self.family {
            Family::Ipv4 if *length > 32 => return Err("a prefix is too long"),
            Family::Ipv4 => (octets, *length),
            Family::Ipv6 if *length > 128 => return Err("a prefix is too long"),
            Family::Ipv6 => match octets.strip_prefix(&IPV6_START) {
                Some(octets) if *length <= 56 => (octets, length - 24),
                Some(_) | None => return Ok(None),
            },
        };
        let mut address = [0; 4];
        address[..octets.len()].copy_from_slice(octets);
        Ok(self.number(u32::from_be_bytes(address), length, before))
    }
}

/// The length of the prefix with this address.
const fn length_at(address: u32) -> u8 {
    LENGTHS[(address >> 12) as usize & 15]
}

/// The first octets of every generated IPv6 prefix; then comes what IPv4 has.
const IPV6_START: [u8; 3] = [0x2A, 0x0C, 0x1C];

/// Routable /16s, scattered over the address space.
fn blocks(count: u32) -> Vec<u16> {
    let all: Vec<u16> = (0..=u16::MAX).filter(|high| is_routable(high.to_be_bytes()[0])).collect();
    assert!(count as usize <= all.len(), "at most {} prefixes can be generated", all.len() * 16);
    // A stride prime to their number meets each once.
    (0..count as usize).map(|at| all[at * 30_011 % all.len()]).collect()
}

/// The numbers below `count`, each once, neighbours far apart.
fn spread(count: u32) -> Vec<u32> {
    let gcd = |mut a: u64, mut b: u64| {
        while b > 0 {
            (a, b) = (b, a % b);
        }
        a
    };
    let count = u64::from(count);
    let stride = (count * 618 / 1000..).find(|stride| gcd(*stride, count) == 1).expect("a prime");
    let numbers = (0..count).map(|at| at * stride % count);
    numbers.map(|number| u32::try_from(number).expect("below a u32")).collect()
}

/// The attributes of a set, as its sender tells them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attributes {
    pub(crate) path: Vec<u32>,
    pub(crate) communities: Vec<u32>,
}

/// Attributes that no other `id` has, with a path of this length that begins with `first`.
pub(crate) fn attributes(id: u32, first: Option<u32>, length: u64) -> Attributes {
    let mut numbers = Numbers(u64::from(id) << 20);
    let mut narrow = |base: u64, span: u64| {
        u32::try_from(base + numbers.below(span)).expect("the bases are below 2^31")
    };
    let mut path: Vec<u32> = first.into_iter().collect();
    path.extend((2..length).map(|_| narrow(131_072, 200_000)));
    path.push(1_000_000 + id);
    let wanted = narrow(0, 10);
    let count = if wanted < 6 { narrow(1, 5) } else { 0 };
    let communities = (0..count).map(|_| narrow(3_000, 60_000) << 16 | narrow(0, 60_000));
    Attributes { path, communities: communities.collect() }
}

/// How long the path of a set is: 3 to 6.
pub(crate) fn path_length(set: u32) -> u64 {
    3 + mix(u64::from(set) ^ 0x5E7) % 4
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_prefix_is_in_one_set_and_is_read_back_from_its_octets() {
        for family in [Family::Ipv4, Family::Ipv6] {
            let table = Table::new(family, 3, 1_000, 83);
            assert_eq!((table.len(), table.sets()), (3_000, 249));
            let mut seen = BTreeSet::new();
            for set in 0..table.sets() {
                assert!(!table.members(set).is_empty());
                for prefix in table.members(set) {
                    assert!(seen.insert(prefix));
                    assert_eq!(table.set_of(prefix), set);
                    let mut octets = Vec::new();
                    table.put(&mut octets, prefix);
                    let mut rest = octets.as_slice();
                    assert_eq!(table.take(&mut rest, prefix.wrapping_sub(1)), Ok(Some(prefix)));
                    assert!(rest.is_empty());
                    assert_eq!(table.take(&mut octets.as_slice(), 77), Ok(Some(prefix)));
                }
            }
            assert_eq!(seen.len(), table.len());
        }
    }

    #[test]
    fn what_is_none_of_ours_is_told_from_what_is_malformed() {
        let table = Table::new(Family::Ipv4, 1, 100, 10);
        assert_eq!(table.take(&mut [8, 10].as_slice(), 0), Ok(None));
        assert!(table.take(&mut [24, 10].as_slice(), 0).is_err());
        assert!(table.take(&mut [33, 1, 2, 3, 4, 5].as_slice(), 0).is_err());
    }

    #[test]
    fn no_two_sets_have_equal_attributes() {
        let all: BTreeSet<_> = (0..10_000)
            .map(|id| attributes(id, Some(64_600), path_length(id)))
            .map(|attributes| (attributes.path, attributes.communities))
            .collect();
        assert_eq!(all.len(), 10_000);
        assert!(all.iter().all(|(path, _)| (3..=6).contains(&path.len())));
        let tagged = all.iter().filter(|(_, communities)| !communities.is_empty()).count();
        assert!((5_700..6_300).contains(&tagged), "{tagged}");
    }
}
