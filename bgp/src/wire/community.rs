//! Communities of the three sizes, as numbers and as text.

use std::fmt;
use std::str::FromStr;

use super::iana::community as known;

/// A large community (RFC 8092 §3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LargeCommunity {
    /// Who defines the meaning: an AS number.
    pub global: u32,
    /// First part of the meaning.
    pub local1: u32,
    /// Second part of the meaning.
    pub local2: u32,
}

impl LargeCommunity {
    pub(super) fn from_octets(octets: [u8; 12]) -> Self {
        let word = |at| u32::from_be_bytes(std::array::from_fn(|i| octets[at + i]));
        Self { global: word(0), local1: word(4), local2: word(8) }
    }

    pub(super) fn octets(self) -> [u8; 12] {
        let words = [self.global, self.local1, self.local2].map(u32::to_be_bytes);
        std::array::from_fn(|i| words[i / 4][i % 4])
    }
}

impl fmt::Display for LargeCommunity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.global, self.local1, self.local2)
    }
}

/// Text that is no community.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a {1}")]
pub struct InvalidCommunity(String, &'static str);

impl FromStr for LargeCommunity {
    type Err = InvalidCommunity;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let mut words = text.split(':').map(|word| word.parse().ok());
            let community =
                Self { global: words.next()??, local1: words.next()??, local2: words.next()?? };
            words.next().is_none().then_some(community)
        };
        parse().ok_or_else(|| InvalidCommunity(text.into(), "large community (N:N:N)"))
    }
}

/// A community (RFC 1997), for printing and reading; on the hot path it is a bare `u32`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Community(pub u32);

const NAMES: [(u32, &str); 7] = [
    (known::GRACEFUL_SHUTDOWN, "graceful-shutdown"),
    (known::LLGR_STALE, "llgr-stale"),
    (known::NO_LLGR, "no-llgr"),
    (known::BLACKHOLE, "blackhole"),
    (known::NO_EXPORT, "no-export"),
    (known::NO_ADVERTISE, "no-advertise"),
    (known::NO_EXPORT_SUBCONFED, "no-export-subconfed"),
];

impl fmt::Display for Community {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.iter().find(|row| row.0 == self.0) {
            Some((_, name)) => f.write_str(name),
            None => write!(f, "{}:{}", self.0 >> 16, self.0 & 0xFFFF),
        }
    }
}

impl FromStr for Community {
    type Err = InvalidCommunity;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some((number, _)) = NAMES.iter().find(|row| row.1 == text) {
            return Ok(Self(*number));
        }
        let halves = text.split_once(':').and_then(|(high, low)| {
            Some(u32::from(high.parse::<u16>().ok()?) << 16 | u32::from(low.parse::<u16>().ok()?))
        });
        halves.map(Self).ok_or_else(|| InvalidCommunity(text.into(), "community (N:N or a name)"))
    }
}

/// An extended community (RFC 4360 §2), as received.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExtendedCommunity(pub [u8; 8]);

impl ExtendedCommunity {
    /// Whether it may cross the border of an AS (RFC 4360 §2: the T bit is 0).
    #[must_use]
    pub const fn is_transitive(self) -> bool {
        is_transitive(&self.0)
    }
}

/// Whether an extended community of either length may cross the border of an AS.
pub(super) const fn is_transitive(octets: &[u8]) -> bool {
    matches!(octets, [first, ..] if *first & 0x40 == 0)
}

impl fmt::Display for ExtendedCommunity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [kind, subtype, value @ ..] = self.0;
        let name = match subtype {
            2 => "rt",
            3 => "soo",
            _ => return write!(f, "{:016x}", u64::from_be_bytes(self.0)),
        };
        let [a, b, c, d, e, g] = value;
        match kind & 0x3F {
            // RFC 4360 §3.1, §3.2; RFC 5668 §2.
            0 => write!(f, "{name}:{}:{}", u16::from_be_bytes([a, b]), be32([c, d, e, g])),
            1 => write!(f, "{name}:{a}.{b}.{c}.{d}:{}", u16::from_be_bytes([e, g])),
            2 => write!(f, "{name}:{}:{}", be32([a, b, c, d]), u16::from_be_bytes([e, g])),
            _ => write!(f, "{:016x}", u64::from_be_bytes(self.0)),
        }
    }
}

const fn be32(octets: [u8; 4]) -> u32 {
    u32::from_be_bytes(octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_number_of_a_community_agree() {
        for (text, number) in [
            ("65001:100", 0xFDE9_0064),
            ("no-export", 0xFFFF_FF01),
            ("graceful-shutdown", 0xFFFF_0000),
        ] {
            assert_eq!(text.parse(), Ok(Community(number)));
            assert_eq!(Community(number).to_string(), text);
        }
        let error = "65536:1".parse::<Community>().unwrap_err();
        assert_eq!(error.to_string(), "\"65536:1\" is not a community (N:N or a name)");
    }

    #[test]
    fn text_and_octets_of_a_large_community_agree() {
        let community: LargeCommunity = "4200000000:1:2".parse().unwrap();
        assert_eq!(community.octets(), [0xFA, 0x56, 0xEA, 0, 0, 0, 0, 1, 0, 0, 0, 2]);
        assert_eq!(LargeCommunity::from_octets(community.octets()), community);
        assert!("1:2".parse::<LargeCommunity>().is_err());
        assert!("1:2:3:4".parse::<LargeCommunity>().is_err());
    }

    #[test]
    fn route_targets_print_in_their_usual_form() {
        for (octets, text) in [
            ([0, 2, 0xFD, 0xE9, 0, 0, 0, 7], "rt:65001:7"),
            ([1, 3, 10, 0, 0, 1, 0, 9], "soo:10.0.0.1:9"),
            ([2, 2, 0, 1, 0, 0, 0, 5], "rt:65536:5"),
            ([0x43, 0, 0, 0, 0, 0, 0, 1], "4300000000000001"),
        ] {
            assert_eq!(ExtendedCommunity(octets).to_string(), text);
        }
        assert!(!ExtendedCommunity([0x43, 0, 0, 0, 0, 0, 0, 1]).is_transitive());
    }
}
