//! A prefix of either family in 24 bytes, host bits always zero.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::{AddrParseError, IpNet};

use super::Family;

/// An address prefix.
///
/// The bits stand left-aligned in 128, whatever the family, so masking and comparing need no
/// branch. Host bits are zero: two prefixes that mean the same are equal and hash alike.
/// Order: family, then address, then length, so a covering prefix comes before what it covers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Prefix {
    family: Family,
    high: u64,
    low: u64,
    len: u8,
}

/// A length that its family does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("prefix length {len} is beyond {} of {family}", family.max_len())]
pub struct InvalidPrefixLength {
    /// Family of the address.
    pub family: Family,
    /// The length in bits that was asked for.
    pub len: u8,
}

impl Prefix {
    /// From an address and a length in bits; host bits are dropped.
    ///
    /// # Errors
    /// When `len` is beyond the family's address size.
    pub fn new(addr: IpAddr, len: u8) -> Result<Self, InvalidPrefixLength> {
        let host = Self::host(addr);
        let family = host.family;
        if len > family.max_len() {
            return Err(InvalidPrefixLength { family, len });
        }
        Ok(Self::from_bits(family, host.bits(), len))
    }

    /// The prefix that is one address.
    #[must_use]
    pub fn host(addr: IpAddr) -> Self {
        let (family, bits) = match addr {
            IpAddr::V4(v4) => (Family::Ipv4, u128::from(v4.to_bits()) << 96),
            IpAddr::V6(v6) => (Family::Ipv6, v6.to_bits()),
        };
        Self::from_bits(family, bits, family.max_len())
    }

    /// The prefix that holds every address of a family.
    #[must_use]
    pub fn default_of(family: Family) -> Self {
        Self::from_bits(family, 0, 0)
    }

    /// From left-aligned bits. `len` must already be within the family's size.
    #[expect(clippy::cast_possible_truncation, reason = "splits 128 bits into two halves")]
    #[inline]
    pub(crate) fn from_bits(family: Family, bits: u128, len: u8) -> Self {
        debug_assert!(len <= family.max_len());
        let bits = bits & mask(len);
        Self { family, high: (bits >> 64) as u64, low: bits as u64, len }
    }

    /// Family of the address.
    #[inline]
    #[must_use]
    pub const fn family(self) -> Family {
        self.family
    }

    /// Length in bits.
    #[inline]
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a prefix length, not a count of elements")]
    pub const fn len(self) -> u8 {
        self.len
    }

    /// The address bits, left-aligned in 128 for both families.
    #[inline]
    #[must_use]
    pub const fn bits(self) -> u128 {
        (self.high as u128) << 64 | self.low as u128
    }

    /// The first 32 address bits: the whole address when the family is IPv4.
    #[inline]
    #[must_use]
    pub const fn bits32(self) -> u32 {
        (self.high >> 32) as u32
    }

    /// The network address.
    #[must_use]
    pub fn addr(self) -> IpAddr {
        match self.family {
            Family::Ipv4 => IpAddr::V4(Ipv4Addr::from_bits(self.bits32())),
            Family::Ipv6 => IpAddr::V6(Ipv6Addr::from_bits(self.bits())),
        }
    }

    /// Whether `other` is this prefix or lies within it.
    #[must_use]
    pub fn contains(self, other: Self) -> bool {
        self.family == other.family
            && self.len <= other.len
            && (self.bits() ^ other.bits()) & mask(self.len) == 0
    }

    /// Whether this prefix lies within `other` and is longer.
    #[must_use]
    pub fn is_part_of(self, other: Self) -> bool {
        other.len < self.len && other.contains(self)
    }

    /// How many octets of address the prefix takes on the wire.
    #[inline]
    #[must_use]
    pub(crate) const fn octets(self) -> usize {
        self.len.div_ceil(8) as usize
    }
}

/// `len` ones at the top.
#[inline]
const fn mask(len: u8) -> u128 {
    if len == 0 { 0 } else { u128::MAX << (128 - len as u32) }
}

impl From<IpNet> for Prefix {
    fn from(net: IpNet) -> Self {
        Self::new(net.addr(), net.prefix_len()).expect("an IpNet's length is valid")
    }
}

impl From<Prefix> for IpNet {
    fn from(prefix: Prefix) -> Self {
        Self::new(prefix.addr(), prefix.len).expect("a Prefix's length is valid")
    }
}

impl FromStr for Prefix {
    type Err = AddrParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse::<IpNet>().map(Self::from)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr(), self.len)
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn p(text: &str) -> Prefix {
        text.parse().unwrap()
    }

    #[test]
    fn host_bits_do_not_make_another_prefix() {
        assert_eq!(p("10.1.2.3/16"), p("10.1.0.0/16"));
        assert_eq!(p("2001:db8::1/32"), p("2001:db8::/32"));
        assert_eq!(p("0.0.0.0/0").to_string(), "0.0.0.0/0");
        assert_ne!(p("0.0.0.0/0"), p("::/0"));
    }

    #[test]
    fn a_length_beyond_the_family_is_refused() {
        let err = Prefix::new("10.0.0.0".parse().unwrap(), 33).unwrap_err();
        assert_eq!(err.to_string(), "prefix length 33 is beyond 32 of ipv4-unicast");
        assert!(Prefix::new("::".parse().unwrap(), 128).is_ok());
    }

    #[test]
    fn containment_needs_the_same_family_and_the_leading_bits() {
        assert!(p("10.0.0.0/8").contains(p("10.255.0.0/16")));
        assert!(p("10.0.0.0/8").contains(p("10.0.0.0/8")));
        assert!(!p("10.0.0.0/16").contains(p("10.0.0.0/8")));
        assert!(!p("10.0.0.0/8").contains(p("11.0.0.0/16")));
        assert!(!p("0.0.0.0/0").contains(p("::/0")));
        assert!(p("::/0").contains(p("2001:db8::/32")));
    }

    #[test]
    fn a_prefix_is_small() {
        assert_eq!(size_of::<Prefix>(), 24);
    }
}
