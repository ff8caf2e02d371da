//! The canonical block: one form for equal attributes (see [`super::attribute`]).

use super::attribute::{self, flags};
use super::error::Severity;
use super::iana::attribute as code;
use super::{
    AsnWidth, Attributes, Codec, ConfedSegments, Edit, Family, LargeCommunity, ListEdit, Nlri,
    Origin, PeerKind, Reflection, Rewrite, Summary, Update, as_path, check, originated,
};

/// Buffers that [`super::check`] reuses. After it ran, [`Self::block`] is the canonical block, unless the
/// routes are to be withdrawn: then it is empty.
#[derive(Debug, Default)]
pub struct Scratch {
    pub(super) slots: Vec<Slot>,
    block: Vec<u8>,
}

impl Scratch {
    /// The canonical block of the last check.
    #[must_use]
    pub fn block(&self) -> &[u8] {
        &self.block
    }

    /// Forgets the last check.
    pub(super) fn clear(&mut self) {
        self.slots.clear();
        self.block.clear();
    }

    /// Writes the canonical block of a list that passed the walk, from the slots it left. AS4_PATH may
    /// say more of the nearest AS than the walk has seen.
    pub(super) fn write_block(
        &mut self,
        list: &[u8],
        codec: &Codec,
        old: OldSpeaker<'_>,
        summary: &mut Summary,
    ) {
        let Self { slots, block } = self;
        // Most senders keep the order that RFC 4271 §5 asks for.
        if !slots.is_sorted_by_key(|slot| slot.code) {
            slots.sort_unstable_by_key(|slot| slot.code);
        }
        block.reserve(list.len());
        for slot in slots.iter() {
            let value = &list[slot.start..slot.start + slot.len];
            let flags = slot.canonical_flags();
            match (slot.code, codec.asn_width) {
                (code::AS_PATH, AsnWidth::Two) => {
                    let path = as_path::merge(value, old.as4_path);
                    summary.first_as = path.sequence.first().copied().unwrap_or(0);
                    let mut wide = Vec::with_capacity(2 * value.len());
                    path.put(&mut wide, AsnWidth::Four);
                    attribute::emit(block, flags, slot.code, &wide);
                }
                (code::AGGREGATOR, AsnWidth::Two) => {
                    let wide = [&[0, 0], value].concat();
                    let value = old.as4_aggregator.unwrap_or(&wide);
                    attribute::emit(block, flags, slot.code, value);
                }
                _ => attribute::emit(block, flags, slot.code, value),
            }
        }
    }
}

/// An attribute that goes into the canonical block, by its place in the received list.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slot {
    pub(super) code: u8,
    pub(super) flags: u8,
    pub(super) start: usize,
    pub(super) len: usize,
}

impl Slot {
    /// RFC 4271 §4.3: only an optional transitive attribute can be partial, and one that we do not
    /// know is, from here on. What a peer says otherwise is not passed on.
    fn canonical_flags(self) -> u8 {
        match attribute::class(self.code) {
            None => self.flags | flags::PARTIAL,
            Some(flags::CLASS) => flags::CLASS | self.flags & flags::PARTIAL,
            Some(class) => class,
        }
    }
}

/// AS4_PATH and AS4_AGGREGATOR of an old peer.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct OldSpeaker<'a> {
    pub(super) as4_path: Option<&'a [u8]>,
    pub(super) as4_aggregator: Option<&'a [u8]>,
    /// The AS in AGGREGATOR, of a peer of either kind.
    pub(super) aggregator_as: Option<u32>,
}

/// For the fuzz target: the canonical block of good attributes is a fixed point. Sent unchanged to
/// an internal peer with four-octet AS numbers, of our confederation, it makes the same block and summary there.
///
/// # Panics
/// When it does not.
pub fn canonical_form_is_stable(update: &Update<'_>, codec: &Codec) {
    let mut scratch = Scratch::default();
    let first = check(update, codec, &mut scratch);
    if first.fault.is_some_and(|fault| fault.severity > Severity::AttributeDiscard) {
        assert!(scratch.block.is_empty(), "no block when the routes are not good");
        return;
    }
    if Attributes::new(&scratch.block).get(code::AS_PATH).is_none() {
        return; // Nothing is announced, and nothing will be.
    }
    let mut sent = Vec::new();
    let unedited = Rewrite::towards(PeerKind::Internal).apply(&scratch.block, &mut sent);
    assert_eq!(unedited, Ok(()), "what was received fits");
    assert_eq!(sent, scratch.block, "rewriting without edits changes nothing");
    samples().for_each(|rewrite| edits_fit_or_are_refused(&rewrite, &scratch.block));

    let codec = Codec {
        peer: PeerKind::Internal,
        confed_segments: ConfedSegments::Allowed,
        asn_width: AsnWidth::Four,
        ..*codec
    };
    let update = Update { attributes: &sent, announced: Nlri::empty(Family::Ipv4), ..*update };
    let mut again = Scratch::default();
    let second = check(&update, &codec, &mut again);
    assert_eq!(second.fault, None);
    assert_eq!(again.block, sent);
    assert_eq!(second.summary, first.summary);
}

/// Edits that make attributes grow, towards peers of each kind and age.
fn samples() -> impl Iterator<Item = Rewrite> {
    let kinds = [PeerKind::Internal, PeerKind::Confederation, PeerKind::External];
    kinds.into_iter().flat_map(|to| [AsnWidth::Two, AsnWidth::Four].map(|width| growing(to, width)))
}

fn growing(to: PeerKind, asn_width: AsnWidth) -> Rewrite {
    let numbers = || 70_000..70_032;
    let large = |global| LargeCommunity { global, local1: 1, local2: 2 };
    let (originator_id, cluster_id) = ([10, 0, 0, 7].into(), [10, 0, 0, 8].into());
    Rewrite {
        prepend: numbers().collect(),
        local_pref: Edit::Set(50),
        communities: ListEdit { remove: vec![], add: numbers().collect() },
        large_communities: ListEdit { remove: vec![], add: numbers().map(large).collect() },
        reflection: Some(Reflection { originator_id, cluster_id }),
        asn_width,
        ..Rewrite::towards(to)
    }
}

fn edits_fit_or_are_refused(rewrite: &Rewrite, block: &[u8]) {
    let mut out = Vec::new();
    match rewrite.apply(block, &mut out) {
        Ok(()) => {
            let read = Attributes::new(&out).iter().map(|attribute| attribute.whole.len());
            assert_eq!(read.sum::<usize>(), out.len(), "what is written can be read");
        }
        Err(_) => assert!(out.is_empty(), "what does not fit is not begun"),
    }
}

/// For the fuzz targets, whose inputs are short: a list of attributes of which one is so long that it
/// takes an extended message (RFC 8654). The first two octets are its flags and type code, the third says
/// how much of such a message it fills, and the rest stands in it again and again.
#[must_use]
pub fn stretched(script: &[u8]) -> Vec<u8> {
    /// Beside header, ORIGIN, AS_PATH, NEXT_HOP and a prefix or two.
    const ROOM: usize = 65_475;
    /// Octets of ORIGIN.
    const ORIGIN: usize = 4;
    let mut list = originated(Origin::Igp);
    if let [flags, code, share, unit @ ..] = script
        && !unit.is_empty()
    {
        let value = unit.repeat(ROOM.min(usize::from(*share) * 257) / unit.len());
        let is_path = *code == code::AS_PATH;
        list.truncate(if is_path { ORIGIN } else { list.len() });
        attribute::emit(&mut list, *flags, *code, &value);
    }
    list
}
