//! Network Layer Reachability Information: a run of prefixes, checked once, then read for free.
//!
//! [`Nlri::parse`] walks the run and refuses what RFC 7606 §5.3 calls syntactically incorrect;
//! iterating afterwards cannot fail and allocates nothing. Written by hand, not with nom: this is
//! the one loop whose speed decides how fast a table loads.

use super::{Family, Prefix};

/// Whether each prefix is preceded by a path identifier (RFC 7911 §3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum PathIds {
    /// Prefixes stand alone; the path identifier reads as 0.
    #[default]
    Absent,
    /// Four octets of path identifier precede each prefix.
    Present,
}

impl PathIds {
    const fn octets(self) -> usize {
        match self {
            Self::Absent => 0,
            Self::Present => 4,
        }
    }
}

/// Why a run of prefixes cannot be read (RFC 7606 §5.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NlriError {
    /// A length that the family does not have.
    #[error("prefix length {len} is beyond {} of {family}", family.max_len())]
    Length {
        /// Family of the run.
        family: Family,
        /// Length octet as received.
        len: u8,
    },
    /// The run ends inside a prefix.
    #[error("{family} prefixes end in the middle of a prefix, {missing} octets short")]
    Truncated {
        /// Family of the run.
        family: Family,
        /// How many octets are missing.
        missing: usize,
    },
}

/// A syntactically correct run of prefixes, still as received bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nlri<'a> {
    bytes: &'a [u8],
    family: Family,
    path_ids: PathIds,
}

impl<'a> Nlri<'a> {
    /// No prefixes.
    #[must_use]
    pub const fn empty(family: Family) -> Self {
        Self { bytes: &[], family, path_ids: PathIds::Absent }
    }

    /// Checks a run of prefixes.
    ///
    /// # Errors
    /// When a length is beyond the family's, or the run ends inside a prefix.
    pub fn parse(bytes: &'a [u8], family: Family, path_ids: PathIds) -> Result<Self, NlriError> {
        let max = family.max_len();
        let head = path_ids.octets();
        let mut at = 0;
        while at < bytes.len() {
            let Some(&len) = bytes.get(at + head) else {
                return Err(NlriError::Truncated { family, missing: at + head + 1 - bytes.len() });
            };
            if len > max {
                return Err(NlriError::Length { family, len });
            }
            at += head + 1 + usize::from(len.div_ceil(8));
        }
        if at > bytes.len() {
            return Err(NlriError::Truncated { family, missing: at - bytes.len() });
        }
        Ok(Self { bytes, family, path_ids })
    }

    /// Family of all the prefixes.
    #[must_use]
    pub const fn family(self) -> Family {
        self.family
    }

    /// Whether there is no prefix.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.bytes.is_empty()
    }
}

impl<'a> IntoIterator for Nlri<'a> {
    type Item = (u32, Prefix);
    type IntoIter = NlriIter<'a>;

    fn into_iter(self) -> NlriIter<'a> {
        NlriIter { rest: self.bytes, family: self.family, path_ids: self.path_ids }
    }
}

/// Yields `(path identifier, prefix)`; the identifier is 0 without ADD-PATH.
#[derive(Debug, Clone)]
pub struct NlriIter<'a> {
    rest: &'a [u8],
    family: Family,
    path_ids: PathIds,
}

impl Iterator for NlriIter<'_> {
    type Item = (u32, Prefix);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let path_id = match self.path_ids {
            PathIds::Absent => 0,
            PathIds::Present => {
                let (id, rest) = self.rest.split_first_chunk()?;
                self.rest = rest;
                u32::from_be_bytes(*id)
            }
        };
        let (&len, rest) = self.rest.split_first()?;
        let (addr, rest) = rest.split_at(usize::from(len.div_ceil(8)));
        self.rest = rest;
        let bits = match self.family {
            // The common case gets its own arm: four octets, no 128-bit load.
            Family::Ipv4 => {
                let mut octets = [0; 4];
                octets[..addr.len()].copy_from_slice(addr);
                u128::from(u32::from_be_bytes(octets)) << 96
            }
            Family::Ipv6 => {
                let mut octets = [0; 16];
                octets[..addr.len()].copy_from_slice(addr);
                u128::from_be_bytes(octets)
            }
        };
        // RFC 4271 §4.3: the value of trailing bits is irrelevant; `from_bits` drops them.
        Some((path_id, Prefix::from_bits(self.family, bits, len)))
    }
}

/// How many octets [`emit`] writes.
#[must_use]
pub const fn emitted_len(prefix: Prefix, path_ids: PathIds) -> usize {
    path_ids.octets() + 1 + prefix.octets()
}

/// Appends one prefix.
#[inline]
pub fn emit(out: &mut Vec<u8>, path_id: u32, prefix: Prefix, path_ids: PathIds) {
    match path_ids {
        PathIds::Absent => {}
        PathIds::Present => out.extend_from_slice(&path_id.to_be_bytes()),
    }
    out.push(prefix.len());
    out.extend_from_slice(&prefix.bits().to_be_bytes()[..prefix.octets()]);
}

/// For the fuzz target: what was read, written and read again is the same.
///
/// # Panics
/// When it is not.
pub fn reencode_is_stable(bytes: &[u8], family: Family, path_ids: PathIds) {
    let Ok(first) = Nlri::parse(bytes, family, path_ids) else { return };
    let mut again = Vec::new();
    for (path_id, prefix) in first {
        emit(&mut again, path_id, prefix, path_ids);
    }
    assert_eq!(again.len(), bytes.len(), "only host bits may change");
    let second = Nlri::parse(&again, family, path_ids).expect("what we write can be read");
    assert!(first.into_iter().eq(second), "the same prefixes in the same order");
}
