//! AS_PATH: checking it, reading it, and moving it between two and four octets (RFC 6793).
//!
//! A path that passed `facts` holds AS_SEQUENCE segments, and from within our confederation
//! AS_CONFED_SEQUENCE segments (RFC 5065): sets of both kinds are refused by RFC 9774. So it reads as
//! one flat list of AS numbers, and another of those that count for nothing.

use std::fmt;

use super::attribute;
use super::error::AttributeError;
use super::iana::{self, attribute as code, segment};
use super::{AsnWidth, Codec, ConfedSegments};

/// The most AS numbers that one segment holds.
const SEGMENT_MAX: usize = 255;

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

    fn segments(self) -> impl Iterator<Item = Segment<'a>> {
        segments(self.0, AsnWidth::Four).map_while(Result::ok)
    }

    /// The AS numbers, nearest first, without those within the confederation.
    pub fn asns(self) -> impl Iterator<Item = u32> + 'a {
        self.segments().filter(Segment::counts).flat_map(|segment| segment.asns(AsnWidth::Four))
    }

    /// The Member-AS Numbers that the route has passed within the confederation (RFC 5065 §3),
    /// nearest first.
    pub fn confederation(self) -> impl Iterator<Item = u32> + 'a {
        let within = self.segments().filter(|segment| !segment.counts());
        within.flat_map(|segment| segment.asns(AsnWidth::Four))
    }

    /// How many AS numbers there are; those within the confederation do not count (RFC 5065 §5.3).
    #[must_use]
    pub fn length(self) -> usize {
        self.segments().filter(Segment::counts).map(|s| s.count(AsnWidth::Four)).sum()
    }

    /// How often any of these is on the path, within the confederation or outside: a loop, when
    /// they are our own.
    #[must_use]
    pub fn occurrences(self, ours: &[u32]) -> usize {
        let all = self.segments().flat_map(|segment| segment.asns(AsnWidth::Four));
        all.filter(|asn| ours.contains(asn)).count()
    }

    /// The AS that originated the route; `None`: our own, as the path is empty or begins within our
    /// confederation (RFC 6811 §2).
    #[must_use]
    pub fn origin(self) -> Option<u32> {
        self.segments().last().filter(Segment::counts)?.asns(AsnWidth::Four).last()
    }

    /// The same octets as text where each number takes so many (RFC 6793 §4.2.2: a peer without
    /// four-octet numbers is told paths of two-octet ones).
    pub(crate) fn in_width(self, width: AsnWidth) -> impl fmt::Display + use<'a> {
        InWidth(self, width)
    }
}

impl fmt::Display for AsPath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.in_width(AsnWidth::Four).fmt(f)
    }
}

/// A path in the form in which a peer is told it.
struct InWidth<'a>(AsPath<'a>, AsnWidth);

impl fmt::Display for InWidth<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(AsPath(octets), width) = *self;
        let mut gap = "";
        for segment in segments(octets, width).map_while(Result::ok) {
            let (open, close) = if segment.counts() { ("", "") } else { ("(", ")") };
            f.write_str(gap)?;
            f.write_str(open)?;
            for (n, asn) in segment.asns(width).enumerate() {
                let gap = if n == 0 { "" } else { " " };
                write!(f, "{gap}{asn}")?;
            }
            f.write_str(close)?;
            gap = " ";
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
    /// Whether its AS numbers are those of a way through the Internet, not through a confederation.
    const fn counts(&self) -> bool {
        self.kind == segment::AS_SEQUENCE
    }

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
    /// Number of AS numbers outside of our confederation.
    pub(super) length: usize,
    /// Nearest of these; 0 if there are none.
    pub(super) first: u32,
    /// Number of Member-AS Numbers.
    pub(super) members: usize,
}

/// Checks an AS_PATH: also that the canonical block has room for it, where AS numbers take four octets
/// however wide the peer's are.
pub(super) fn facts(value: &[u8], codec: &Codec) -> Result<PathFacts, AttributeError> {
    let (mut facts, width) = (PathFacts::default(), codec.asn_width);
    for segment in segments(value, width) {
        let segment = segment.map_err(|BadSegment| AttributeError::AsPath(code::AS_PATH))?;
        match segment.kind {
            segment::AS_SEQUENCE => {}
            segment::AS_SET | segment::AS_CONFED_SET => {
                return Err(AttributeError::AsSet(code::AS_PATH)); // RFC 9774 §3
            }
            _ if codec.confed_segments == ConfedSegments::Refused => {
                return Err(AttributeError::Confederation); // RFC 5065 §5
            }
            _ => {}
        }
        for asn in segment.asns(width) {
            if asn == 0 {
                return Err(AttributeError::ZeroAs(code::AS_PATH)); // RFC 7607 §2
            }
            if segment.counts() {
                if facts.length == 0 {
                    facts.first = asn;
                }
                facts.length += 1;
            } else {
                facts.members += 1;
            }
        }
    }
    let within = value.first() == Some(&segment::AS_CONFED_SEQUENCE);
    if codec.confed_segments == ConfedSegments::First && !within {
        return Err(AttributeError::NotOfConfederation); // RFC 5065 §5
    }
    let octets = octets(facts.members, AsnWidth::Four) + octets(facts.length, AsnWidth::Four);
    attribute::fit(code::AS_PATH, octets).map_err(AttributeError::Overflow)?;
    Ok(facts)
}

/// Checks an AS4_PATH (RFC 6793 §6). Confederation segments in it are skipped by `merge`.
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

/// How many octets so many AS numbers take in segments of one kind.
const fn octets(asns: usize, width: AsnWidth) -> usize {
    asns * width.octets() + 2 * asns.div_ceil(SEGMENT_MAX)
}

/// A path taken apart.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Parts {
    /// The AS numbers of AS_CONFED_SEQUENCE segments, which stand in front.
    pub(super) confederation: Vec<u32>,
    /// Those of AS_SEQUENCE segments.
    pub(super) sequence: Vec<u32>,
}

impl Parts {
    /// How many octets `put` appends.
    pub(super) fn octets(&self, width: AsnWidth) -> usize {
        octets(self.confederation.len(), width) + octets(self.sequence.len(), width)
    }

    /// Appends the segments.
    pub(super) fn put(&self, out: &mut Vec<u8>, width: AsnWidth) {
        put_segments(out, segment::AS_CONFED_SEQUENCE, &self.confederation, width);
        put_segments(out, segment::AS_SEQUENCE, &self.sequence, width);
    }
}

/// The path of an old speaker in four octets, with its AS4_PATH worked in (RFC 6793 §4.2.3).
pub(super) fn merge(as_path: &[u8], as4_path: Option<&[u8]>) -> Parts {
    let confederation = flat(as_path, segment::AS_CONFED_SEQUENCE, AsnWidth::Two);
    let short = flat(as_path, segment::AS_SEQUENCE, AsnWidth::Two);
    let long = as4_path.map(|value| flat(value, segment::AS_SEQUENCE, AsnWidth::Four));
    let long = long.unwrap_or_default();
    // "If the number of AS numbers in the AS_PATH is less than the number in the AS4_PATH, then
    // the AS4_PATH SHALL be ignored."
    let sequence = match short.len().checked_sub(long.len()) {
        Some(kept) => [&short[..kept], &long].concat(),
        None => short,
    };
    Parts { confederation, sequence }
}

/// The AS numbers of all segments of one kind.
fn flat(path: &[u8], kind: u8, width: AsnWidth) -> Vec<u32> {
    segments(path, width)
        .map_while(Result::ok)
        .filter(|segment| segment.kind == kind)
        .flat_map(|segment| segment.asns(width))
        .collect()
}

/// Appends segments of one kind that hold `asns`.
pub(super) fn put_segments(out: &mut Vec<u8>, kind: u8, asns: &[u32], width: AsnWidth) {
    for part in asns.chunks(SEGMENT_MAX) {
        let count = u8::try_from(part.len()).expect("chunks of at most 255");
        out.extend_from_slice(&[kind, count]);
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
    let Ok(found) = facts(value, codec) else { return };
    let sequence = flat(value, segment::AS_SEQUENCE, codec.asn_width);
    assert_eq!(sequence.len(), found.length);
    assert_eq!(sequence.first().copied().unwrap_or(0), found.first);
    let confederation = flat(value, segment::AS_CONFED_SEQUENCE, codec.asn_width);
    assert_eq!(confederation.len(), found.members);
    let confederation = confederation.into_iter().map(|asn| short_asn(asn).into()).collect();
    let parts = Parts { confederation, sequence };
    let (mut short, mut long, mut as4) = (Vec::new(), Vec::new(), Vec::new());
    parts.put(&mut short, AsnWidth::Two);
    parts.put(&mut long, AsnWidth::Four);
    put_segments(&mut as4, segment::AS_SEQUENCE, &parts.sequence, AsnWidth::Four);
    assert_eq!(merge(&short, Some(&as4)), parts);
    assert_eq!(long.len(), parts.octets(AsnWidth::Four));
    assert!(AsPath::new(&long).asns().eq(parts.sequence));
    assert!(AsPath::new(&long).confederation().eq(parts.confederation));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::PeerKind;

    const TRANS: u16 = iana::AS_TRANS;

    fn two(asns: &[u16]) -> Vec<u8> {
        let asns: Vec<u32> = asns.iter().map(|asn| u32::from(*asn)).collect();
        let mut out = Vec::new();
        put_segments(&mut out, segment::AS_SEQUENCE, &asns, AsnWidth::Two);
        out
    }

    fn four(asns: &[u32]) -> Vec<u8> {
        let mut out = Vec::new();
        put_segments(&mut out, segment::AS_SEQUENCE, asns, AsnWidth::Four);
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
            assert_eq!(merge(&two(&short), Some(&four(&long))).sequence, expected);
        }
    }

    #[test]
    fn confederation_segments_inside_as4_path_are_skipped() {
        let mut long = vec![segment::AS_CONFED_SEQUENCE, 1, 0, 0, 0, 9];
        long.extend(four(&[70000]));
        assert_eq!(check_as4_path(&long), Ok(()));
        assert_eq!(merge(&two(&[10, TRANS]), Some(&long)).sequence, [10, 70000]);
    }

    #[test]
    fn a_path_reads_the_same_in_either_width() {
        let (old, new) = (two(&[65001, TRANS]), four(&[65001, TRANS.into()]));
        assert_eq!(AsPath::new(&old).in_width(AsnWidth::Two).to_string(), "65001 23456");
        assert_eq!(AsPath::new(&new).to_string(), "65001 23456");
    }

    #[test]
    fn malformed_paths_are_told_apart() {
        use AttributeError::{AsPath as Bad, AsSet, Confederation, ZeroAs};
        for (value, expected) in [
            (vec![], Ok(PathFacts::default())),
            (vec![2, 1, 0, 0, 0, 7], Ok(PathFacts { length: 1, first: 7, members: 0 })),
            (vec![2, 0], Err(Bad(2))),
            (vec![2, 2, 0, 0, 0, 7], Err(Bad(2))),
            (vec![2, 1, 0, 0, 0, 7, 2], Err(Bad(2))),
            (vec![9, 1, 0, 0, 0, 7], Err(Bad(2))),
            (vec![1, 1, 0, 0, 0, 7], Err(AsSet(2))),
            (vec![3, 1, 0, 0, 0, 7], Err(Confederation)),
            (vec![2, 1, 0, 0, 0, 0], Err(ZeroAs(2))),
        ] {
            assert_eq!(facts(&value, &codec(PeerKind::External)), expected, "{value:?}");
        }
    }

    fn codec(peer: PeerKind) -> Codec {
        Codec { asn_width: AsnWidth::Four, ..Codec::baseline(peer) }
    }

    /// `(65002 65003) 64500`.
    fn through_members() -> Vec<u8> {
        let parts = Parts { confederation: vec![65002, 65003], sequence: vec![64500] };
        let mut out = Vec::new();
        parts.put(&mut out, AsnWidth::Four);
        out
    }

    /// RFC 5065 §5: nowhere from outside, first from another Member-AS, anywhere from our own.
    #[test]
    fn confederation_segments_are_taken_from_members_alone() {
        use AttributeError::{AsSet, Confederation, NotOfConfederation, ZeroAs};
        use ConfedSegments::{Allowed, First, Refused};
        let facts = |value: &[u8], confed_segments| {
            facts(value, &Codec { confed_segments, ..codec(PeerKind::Internal) })
        };
        let through = through_members();
        let good = Ok(PathFacts { length: 1, first: 64500, members: 2 });
        assert_eq!([Allowed, First].map(|each| facts(&through, each)), [good, good]);
        assert_eq!(facts(&through, Refused), Err(Confederation));
        let plain = four(&[64500]);
        let good = Ok(PathFacts { length: 1, first: 64500, members: 0 });
        assert_eq!([Allowed, Refused].map(|each| facts(&plain, each)), [good, good]);
        assert_eq!(facts(&plain, First), Err(NotOfConfederation));
        assert_eq!(facts(&[], Allowed), Ok(PathFacts::default()));
        assert_eq!(facts(&[], First), Err(NotOfConfederation));
        let within = [3, 1, 0, 0, 0, 7];
        let expected = PathFacts { members: 1, ..PathFacts::default() };
        assert_eq!(facts(&within, First), Ok(expected), "the length does not count it");
        assert_eq!(facts(&[3, 1, 0, 0, 0, 0], First), Err(ZeroAs(2)));
        assert_eq!(facts(&[4, 1, 0, 0, 0, 7], First), Err(AsSet(2)), "RFC 9774");
    }

    #[test]
    fn members_stand_apart_on_a_path() {
        let value = through_members();
        let path = AsPath::new(&value);
        assert_eq!(path.to_string(), "(65002 65003) 64500");
        assert!(path.asns().eq([64500]));
        assert!(path.confederation().eq([65002, 65003]));
        assert_eq!((path.length(), path.origin()), (1, Some(64500)));
        assert_eq!(path.occurrences(&[65003, 64500]), 2);
        // RFC 6811 §2: what begins within the confederation is our own, whatever stands before it.
        for own in [&[][..], &[3, 1, 0, 0, 0, 7], &[2, 1, 0, 0, 0, 8, 3, 1, 0, 0, 0, 7]] {
            assert_eq!(AsPath::new(own).origin(), None, "{own:?}");
        }
    }

    /// RFC 6793 §4.2.3: what stands in front of the far end comes from AS_PATH.
    #[test]
    fn confederation_segments_of_an_old_member_stay_in_front() {
        let mut short = vec![segment::AS_CONFED_SEQUENCE, 1, 0xFD, 0xEA];
        short.extend(two(&[TRANS]));
        let expected = Parts { confederation: vec![65002], sequence: vec![70000] };
        assert_eq!(merge(&short, Some(&four(&[70000]))), expected);
    }

    #[test]
    fn a_long_path_takes_several_segments() {
        let asns: Vec<u32> = (1..=300).collect();
        let value = four(&asns);
        assert_eq!(value.len(), 2 + 255 * 4 + 2 + 45 * 4);
        assert_eq!(AsPath::new(&value).length(), 300);
        assert_eq!(AsPath::new(&value).origin(), Some(300));
        assert_eq!(AsPath::new(&value).occurrences(&[299, 4]), 2);
    }

    #[test]
    fn a_path_prints_as_operators_write_it() {
        assert_eq!(AsPath::new(&four(&[65001, 4_200_000_000])).to_string(), "65001 4200000000");
        assert_eq!(AsPath::new(&[]).to_string(), "");
    }
}
