//! Path attributes: the walk over received bytes, and the view over a canonical block.
//!
//! A *canonical block* is what [`super::check`] makes of a received attribute list: attributes in
//! ascending order, AS numbers four octets wide, AS4_PATH and AS4_AGGREGATOR merged, without
//! NEXT_HOP, MP_REACH_NLRI and MP_UNREACH_NLRI, unknown transitive attributes marked partial. Equal
//! attributes make equal blocks, whoever sent them, so blocks can be interned by their bytes.

use std::net::Ipv4Addr;

use nom::bytes::complete::take;
use nom::combinator::flat_map;
use nom::number::complete::{be_u8, be_u16};
use nom::{IResult, Parser};

use super::as_path::AsPath;
use super::community::{ExtendedCommunity, LargeCommunity};
use super::iana::{self, attribute as code};

/// Bits of the attribute flags octet (RFC 4271 §4.3).
pub mod flags {
    /// Not every speaker needs to know the attribute.
    pub const OPTIONAL: u8 = 0x80;
    /// To be passed on by who does not know it.
    pub const TRANSITIVE: u8 = 0x40;
    /// Somebody on the way did not know it.
    pub const PARTIAL: u8 = 0x20;
    /// The length takes two octets.
    pub const EXTENDED_LENGTH: u8 = 0x10;
    /// The two bits that the type code prescribes.
    pub const CLASS: u8 = OPTIONAL | TRANSITIVE;
}

/// An attribute, undecoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawAttribute<'a> {
    /// Flags octet as received.
    pub flags: u8,
    /// Type code.
    pub code: u8,
    /// Value.
    pub value: &'a [u8],
    /// Flags, type, length and value.
    pub whole: &'a [u8],
}

/// Reads one attribute off the front of a list.
pub(super) fn attribute(input: &[u8]) -> IResult<&[u8], RawAttribute<'_>, ()> {
    let (body, (flags, code)) = (be_u8, be_u8).parse(input)?;
    let (rest, value) = if flags & flags::EXTENDED_LENGTH == 0 {
        flat_map(be_u8, take).parse(body)?
    } else {
        flat_map(be_u16, take).parse(body)?
    };
    let whole = &input[..input.len() - rest.len()];
    Ok((rest, RawAttribute { flags, code, value, whole }))
}

/// The most octets that the value of an attribute has (RFC 4271 §4.3).
const LONGEST: usize = 65_535;

/// An attribute would be longer than its length field can say. Received ones never are, but they grow:
/// by what is added to them, and by AS numbers that become four octets wide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{} would take {len} octets, more than an attribute can have", iana::attribute::name(*code))]
pub struct AttributeOverflow {
    /// Type code.
    pub code: u8,
    /// Length of the value in octets.
    pub len: usize,
}

/// Whether a value of `len` octets is short enough for [`put_head`] and [`emit`].
pub(super) const fn fit(code: u8, len: usize) -> Result<(), AttributeOverflow> {
    if len > LONGEST { Err(AttributeOverflow { code, len }) } else { Ok(()) }
}

/// Appends one attribute; the extended-length flag is set exactly when needed.
///
/// # Panics
/// When `value` is longer than 65535 octets: [`fit`] says so before, where it may be.
pub(super) fn emit(out: &mut Vec<u8>, flags: u8, code: u8, value: &[u8]) {
    put_head(out, flags, code, value.len());
    out.extend_from_slice(value);
}

/// Appends flags, type and length of an attribute whose value follows; panics as [`emit`] does.
pub(super) fn put_head(out: &mut Vec<u8>, flags: u8, code: u8, len: usize) {
    let flags = flags & (flags::CLASS | flags::PARTIAL);
    if let Ok(len) = u8::try_from(len) {
        out.extend_from_slice(&[flags, code, len]);
    } else {
        let len = u16::try_from(len).expect("`fit` was asked where a value may grow");
        out.extend_from_slice(&[flags | flags::EXTENDED_LENGTH, code]);
        out.extend_from_slice(&len.to_be_bytes());
    }
}

/// The optional and transitive bits that a type code has; `None` when we do not know the code.
pub(super) const fn class(code: u8) -> Option<u8> {
    Some(match code {
        code::ORIGIN
        | code::AS_PATH
        | code::NEXT_HOP
        | code::LOCAL_PREF
        | code::ATOMIC_AGGREGATE => flags::TRANSITIVE,
        code::MULTI_EXIT_DISC
        | code::ORIGINATOR_ID
        | code::CLUSTER_LIST
        | code::MP_REACH_NLRI
        | code::MP_UNREACH_NLRI => flags::OPTIONAL,
        code::AGGREGATOR
        | code::COMMUNITIES
        | code::EXTENDED_COMMUNITIES
        | code::AS4_PATH
        | code::AS4_AGGREGATOR
        | code::IPV6_EXTENDED_COMMUNITIES
        | code::LARGE_COMMUNITIES
        | code::ONLY_TO_CUSTOMER => flags::OPTIONAL | flags::TRANSITIVE,
        _ => return None,
    })
}

/// How a route came into BGP (RFC 4271 §5.1.1); less is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Origin {
    /// Interior to the originating AS.
    #[default]
    Igp,
    /// Learnt by EGP.
    Egp,
    /// By other means.
    Incomplete,
}

impl Origin {
    /// The octet on the wire.
    #[must_use]
    pub const fn octet(self) -> u8 {
        match self {
            Self::Igp => 0,
            Self::Egp => 1,
            Self::Incomplete => 2,
        }
    }

    /// From the octet on the wire.
    #[must_use]
    pub const fn from_octet(octet: u8) -> Option<Self> {
        match octet {
            0 => Some(Self::Igp),
            1 => Some(Self::Egp),
            2 => Some(Self::Incomplete),
            _ => None,
        }
    }
}

/// Who aggregated a route (RFC 4271 §5.1.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Aggregator {
    /// AS number.
    pub asn: u32,
    /// Router identifier.
    pub router_id: Ipv4Addr,
}

/// Reads a canonical block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes<'a>(&'a [u8]);

impl<'a> Attributes<'a> {
    /// Over a block that [`super::check`] or [`super::Rewrite`] made. Other bytes are safe to read
    /// but make little sense.
    #[must_use]
    pub const fn new(block: &'a [u8]) -> Self {
        Self(block)
    }

    /// All attributes in ascending order of their codes.
    pub fn iter(self) -> impl Iterator<Item = RawAttribute<'a>> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let (after, found) = attribute(rest).ok()?;
            rest = after;
            Some(found)
        })
    }

    /// The value of one attribute.
    #[must_use]
    pub fn get(self, code: u8) -> Option<&'a [u8]> {
        self.iter().find(|attribute| attribute.code == code).map(|attribute| attribute.value)
    }

    fn number(self, code: u8) -> Option<u32> {
        self.get(code)?.try_into().ok().map(u32::from_be_bytes)
    }

    fn words<const N: usize>(self, code: u8) -> impl Iterator<Item = [u8; N]> + 'a {
        self.get(code).unwrap_or_default().as_chunks().0.iter().copied()
    }

    /// ORIGIN.
    #[must_use]
    pub fn origin(self) -> Origin {
        let octet = self.get(code::ORIGIN).and_then(|value| value.first().copied());
        octet.and_then(Origin::from_octet).unwrap_or_default()
    }

    /// AS_PATH.
    #[must_use]
    pub fn as_path(self) -> AsPath<'a> {
        AsPath::new(self.get(code::AS_PATH).unwrap_or_default())
    }

    /// MULTI_EXIT_DISC.
    #[must_use]
    pub fn med(self) -> Option<u32> {
        self.number(code::MULTI_EXIT_DISC)
    }

    /// LOCAL_PREF.
    #[must_use]
    pub fn local_pref(self) -> Option<u32> {
        self.number(code::LOCAL_PREF)
    }

    /// AGGREGATOR.
    #[must_use]
    pub fn aggregator(self) -> Option<Aggregator> {
        let &[a, b, c, d, id @ ..]: &[u8; 8] = self.get(code::AGGREGATOR)?.try_into().ok()?;
        Some(Aggregator { asn: u32::from_be_bytes([a, b, c, d]), router_id: id.into() })
    }

    /// COMMUNITIES, each as one number (high half: AS).
    pub fn communities(self) -> impl Iterator<Item = u32> + 'a {
        self.words(code::COMMUNITIES).map(u32::from_be_bytes)
    }

    /// EXTENDED_COMMUNITIES.
    pub fn extended_communities(self) -> impl Iterator<Item = ExtendedCommunity> + 'a {
        self.words(code::EXTENDED_COMMUNITIES).map(ExtendedCommunity)
    }

    /// IPV6_EXTENDED_COMMUNITIES, undecoded.
    pub fn ipv6_extended_communities(self) -> impl Iterator<Item = [u8; 20]> + 'a {
        self.words(code::IPV6_EXTENDED_COMMUNITIES)
    }

    /// LARGE_COMMUNITIES.
    pub fn large_communities(self) -> impl Iterator<Item = LargeCommunity> + 'a {
        self.words(code::LARGE_COMMUNITIES).map(LargeCommunity::from_octets)
    }

    /// ONLY_TO_CUSTOMER (RFC 9234 §5).
    #[must_use]
    pub fn only_to_customer(&self) -> Option<u32> {
        self.number(code::ONLY_TO_CUSTOMER)
    }

    /// ORIGINATOR_ID.
    #[must_use]
    pub fn originator_id(self) -> Option<Ipv4Addr> {
        self.number(code::ORIGINATOR_ID).map(Ipv4Addr::from_bits)
    }

    /// CLUSTER_LIST, nearest first.
    pub fn cluster_list(self) -> impl Iterator<Item = Ipv4Addr> + 'a {
        self.words::<4>(code::CLUSTER_LIST).map(Ipv4Addr::from)
    }
}
