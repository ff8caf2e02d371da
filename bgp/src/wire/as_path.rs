//! AS_PATH: checking it, reading it, and moving it between two and four octets (RFC 6793).
//!
//! A path that passed [`facts`] holds AS_SEQUENCE segments only: AS_SET is refused by RFC 9774 and
//! confederation segments by RFC 5065, so a path reads as one flat list of AS numbers.

use std::fmt;

use super::error::AttributeError;
use super::iana::{self, attribute as code, segment};
use super::{AsnWidth, Codec};

/// The most AS numbers that one segment holds.
pub(super) const SEGMENT_MAX: usize = 255;

/// Whether an AS number is for private use (RFC 6996 §5).
#[must_use]
pub const fn is_private(asn: u32) -> bool {
    matches!(asn, 64_512..=65_534 | 4_200_000_000..=4_294_967_294)
}

/// A canonical AS_PATH: four octets per AS number, nearest AS first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AsPath<'a>(&'a [u8]);

impl<'a> AsPath<'a> {
    /// Over the value of the AS_PATH of a canonical block.
    #[must_use]
    pub const fn new(value: &'a [u8]) -> Self {
        Self(value)
    }

    /// The AS numbers, nearest first.
    pub fn asns(self) -> impl Iterator<Item = u32> + 'a {
        segments(self.0, AsnWidth::Four)
            .map_while(Result::ok)
            .flat_map(|segment| segment.asns(AsnWidth::Four))
    }

    /// How many AS numbers there are.
    #[must_use]
    pub fn length(self) -> usize {
        segments(self.0, AsnWidth::Four)
            .map_while(Result::ok)
            .map(|s| s.count(AsnWidth::Four))
            .sum()
    }

    /// Whether `asn` is on the path: a loop, when it is our own.
    #[must_use]
    pub fn contains(self, asn: u32) -> bool {
        self.asns().any(|each| each == asn)
    }

    /// The AS that originated the route; `None` on an empty path.
    #[must_use]
    pub fn origin(self) -> Option<u32> {
        self.asns().last()
    }
}

impl fmt::Display for AsPath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, asn) in self.asns().enumerate() {
            let gap = if n == 0 { "" } else { " " };
            write!(f, "{gap}{asn}")?;
        }
        Ok(())
    }
}

/// A segment as it stands on the wire.
#[derive(Debug, Clone, Copy)]
struct Segment<'a> {
    kind: u8,
    octets: &'a [u8],
}

impl<'a> Segment<'a> {
    const fn count(&self, width: AsnWidth) -> usize {
        self.octets.len() / width.octets()
    }

    fn asns(&self, width: AsnWidth) -> impl Iterator<Item = u32> + use<'a> {
        self.octets.chunks_exact(width.octets()).map(|octets| match *octets {
            [a, b, c, d] => u32::from_be_bytes([a, b, c, d]),
            [a, b] => u16::from_be_bytes([a, b]).into(),
            _ => unreachable!("an AS number takes two or four octets"),
        })
    }
}

struct BadSegment;

/// Splits a path into segments; the last item is an error when the path is malformed (RFC 7606
/// §7.2: unknown type, no AS number, or more than the attribute holds).
fn segments(
    mut rest: &[u8],
    width: AsnWidth,
) -> impl Iterator<Item = Result<Segment<'_>, BadSegment>> {
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let split = || {
            let (&[kind, count], body) = rest.split_first_chunk()?;
            let (octets, after) = body.split_at_checked(usize::from(count) * width.octets())?;
            let known = (segment::AS_SET..=segment::AS_CONFED_SET).contains(&kind);
            (known && count > 0).then_some((Segment { kind, octets }, after))
        };
        match split() {
            Some((segment, after)) => {
                rest = after;
                Some(Ok(segment))
            }
            None => {
                rest = &[];
                Some(Err(BadSegment))
            }
        }
    })
}

/// What the decision process wants to know of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct PathFacts {
    /// Number of AS numbers.
    pub(super) length: usize,
    /// Nearest AS; 0 on an empty path.
    pub(super) first: u32,
}

/// Checks an AS_PATH.
pub(super) fn facts(value: &[u8], width: AsnWidth) -> Result<PathFacts, AttributeError> {
    let mut facts = PathFacts::default();
    for segment in segments(value, width) {
        let segment = segment.map_err(|BadSegment| AttributeError::AsPath(code::AS_PATH))?;
        match segment.kind {
            segment::AS_SEQUENCE => {}
            segment::AS_SET | segment::AS_CONFED_SET => {
                return Err(AttributeError::AsSet(code::AS_PATH)); // RFC 9774 §3
            }
            _ => return Err(AttributeError::Confederation), // RFC 5065 §5
        }
        for asn in segment.asns(width) {
            if asn == 0 {
                return Err(AttributeError::ZeroAs(code::AS_PATH)); // RFC 7607 §2
            }
            if facts.length == 0 {
                facts.first = asn;
            }
            facts.length += 1;
        }
    }
    Ok(facts)
}

/// Checks an AS4_PATH (RFC 6793 §6). Confederation segments in it are skipped by [`merge`].
pub(super) fn check_as4_path(value: &[u8]) -> Result<(), AttributeError> {
    if value.is_empty() {
        return Err(AttributeError::Length { code: code::AS4_PATH, len: 0 });
    }
    for segment in segments(value, AsnWidth::Four) {
        let segment = segment.map_err(|BadSegment| AttributeError::AsPath(code::AS4_PATH))?;
        if matches!(segment.kind, segment::AS_SET | segment::AS_CONFED_SET) {
            return Err(AttributeError::AsSet(code::AS4_PATH)); // RFC 9774 §3
        }
        if segment.asns(AsnWidth::Four).any(|asn| asn == 0) {
            return Err(AttributeError::ZeroAs(code::AS4_PATH)); // RFC 7607 §2
        }
    }
    Ok(())
}

/// The path of an old speaker in four octets, with its AS4_PATH worked in (RFC 6793 §4.2.3).
pub(super) fn merge(as_path: &[u8], as4_path: Option<&[u8]>) -> Vec<u32> {
    let short = flat(as_path, AsnWidth::Two);
    let long = as4_path.map(|value| flat(value, AsnWidth::Four)).unwrap_or_default();
    // "If the number of AS numbers in the AS_PATH is less than the number in the AS4_PATH, then
    // the AS4_PATH SHALL be ignored."
    let Some(kept) = short.len().checked_sub(long.len()) else { return short };
    [&short[..kept], &long].concat()
}

fn flat(path: &[u8], width: AsnWidth) -> Vec<u32> {
    segments(path, width)
        .map_while(Result::ok)
        .filter(|segment| segment.kind == segment::AS_SEQUENCE)
        .flat_map(|segment| segment.asns(width))
        .collect()
}

/// Appends AS_SEQUENCE segments that hold `asns`.
pub(super) fn put_sequence(out: &mut Vec<u8>, asns: &[u32], width: AsnWidth) {
    for part in asns.chunks(SEGMENT_MAX) {
        let count = u8::try_from(part.len()).expect("chunks of at most 255");
        out.extend_from_slice(&[segment::AS_SEQUENCE, count]);
        for asn in part {
            match width {
                AsnWidth::Four => out.extend_from_slice(&asn.to_be_bytes()),
                AsnWidth::Two => out.extend_from_slice(&short_asn(*asn).to_be_bytes()),
            }
        }
    }
}

/// An AS number in two octets: itself, or AS_TRANS (RFC 6793 §4.2.2).
pub(super) fn short_asn(asn: u32) -> u16 {
    u16::try_from(asn).unwrap_or(iana::AS_TRANS)
}

/// For the fuzz target: a path that passed the check survives the way to an old peer and back.
///
/// # Panics
/// When it does not.
pub fn reencode_is_stable(value: &[u8], codec: &Codec) {
    let Ok(found) = facts(value, codec.asn_width) else { return };
    let asns = flat(value, codec.asn_width);
    assert_eq!(asns.len(), found.length);
    assert_eq!(asns.first().copied().unwrap_or(0), found.first);
    let (mut short, mut long) = (Vec::new(), Vec::new());
    put_sequence(&mut short, &asns, AsnWidth::Two);
    put_sequence(&mut long, &asns, AsnWidth::Four);
    assert_eq!(merge(&short, Some(&long)), asns);
    assert!(AsPath::new(&long).asns().eq(asns));
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRANS: u16 = iana::AS_TRANS;

    fn two(asns: &[u16]) -> Vec<u8> {
        let asns: Vec<u32> = asns.iter().map(|asn| u32::from(*asn)).collect();
        let mut out = Vec::new();
        put_sequence(&mut out, &asns, AsnWidth::Two);
        out
    }

    fn four(asns: &[u32]) -> Vec<u8> {
        let mut out = Vec::new();
        put_sequence(&mut out, asns, AsnWidth::Four);
        out
    }

    #[test]
    fn as4_path_replaces_the_far_end_of_the_path() {
        // RFC 6793 §4.2.3: the leading AS numbers come from AS_PATH, the rest from AS4_PATH.
        for (short, long, expected) in [
            (vec![10, 20, TRANS, TRANS], vec![70000, 80000], vec![10, 20, 70000, 80000]),
            (vec![TRANS], vec![70000], vec![70000]),
            (vec![10], vec![10, 70000], vec![10]),
            (vec![10, 20], vec![], vec![10, 20]),
        ] {
            assert_eq!(merge(&two(&short), Some(&four(&long))), expected);
        }
    }

    #[test]
    fn confederation_segments_inside_as4_path_are_skipped() {
        let mut long = vec![segment::AS_CONFED_SEQUENCE, 1, 0, 0, 0, 9];
        long.extend(four(&[70000]));
        assert_eq!(check_as4_path(&long), Ok(()));
        assert_eq!(merge(&two(&[10, TRANS]), Some(&long)), [10, 70000]);
    }

    #[test]
    fn malformed_paths_are_told_apart() {
        use AttributeError::{AsPath as Bad, AsSet, Confederation, ZeroAs};
        for (value, expected) in [
            (vec![], Ok(PathFacts::default())),
            (vec![2, 1, 0, 0, 0, 7], Ok(PathFacts { length: 1, first: 7 })),
            (vec![2, 0], Err(Bad(2))),
            (vec![2, 2, 0, 0, 0, 7], Err(Bad(2))),
            (vec![2, 1, 0, 0, 0, 7, 2], Err(Bad(2))),
            (vec![9, 1, 0, 0, 0, 7], Err(Bad(2))),
            (vec![1, 1, 0, 0, 0, 7], Err(AsSet(2))),
            (vec![3, 1, 0, 0, 0, 7], Err(Confederation)),
            (vec![2, 1, 0, 0, 0, 0], Err(ZeroAs(2))),
        ] {
            assert_eq!(facts(&value, AsnWidth::Four), expected, "{value:?}");
        }
    }

    #[test]
    fn a_long_path_takes_several_segments() {
        let asns: Vec<u32> = (1..=300).collect();
        let value = four(&asns);
        assert_eq!(value.len(), 2 + 255 * 4 + 2 + 45 * 4);
        assert_eq!(AsPath::new(&value).length(), 300);
        assert_eq!(AsPath::new(&value).origin(), Some(300));
        assert!(AsPath::new(&value).contains(299));
    }

    #[test]
    fn a_path_prints_as_operators_write_it() {
        assert_eq!(AsPath::new(&four(&[65001, 4_200_000_000])).to_string(), "65001 4200000000");
        assert_eq!(AsPath::new(&[]).to_string(), "");
    }
}
