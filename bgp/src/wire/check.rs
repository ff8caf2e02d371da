//! One walk over a received attribute list: verdict, next hop, prefixes, and the canonical block.
//!
//! In: an [`Update`] and the session's [`Codec`]. Out: a [`Checked`] with what the routes need, and
//! in the [`Scratch`] the canonical block (see [`super::attribute`]), ready for interning. The
//! rules are those of RFC 7606; what each error costs stands in [`super::error`].

use std::net::{IpAddr, Ipv4Addr};

use nom::Parser;
use nom::bytes::complete::take;
use nom::combinator::flat_map;
use nom::number::complete::{be_u8, be_u16};

use super::as_path::{self, PathFacts};
use super::attribute::{self, Origin, RawAttribute, flags};
use super::canonical::{OldSpeaker, Scratch, Slot};
use super::error::{AttributeError, Severity};
use super::iana::{self, attribute as code};
use super::{AfiSafi, AsnWidth, Codec, Family, Marks, NextHop, Nlri, PeerKind, Summary, Update};

/// MP_REACH_NLRI of a family that the session carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reach<'a> {
    /// Where to send packets.
    pub next_hop: NextHop,
    /// Announced prefixes; they know their family.
    pub nlri: Nlri<'a>,
}

/// The gravest thing wrong with the attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault<'a> {
    /// What is wrong.
    pub error: AttributeError,
    /// What it costs here; at least `error.severity()`, more where RFC 7606 §5.2 says so.
    pub severity: Severity,
    /// The attribute as received, as evidence; empty when it is missing or cut off.
    pub attribute: &'a [u8],
}

/// The attributes of one UPDATE, checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checked<'a> {
    /// What is wrong, if anything. Up to [`Severity::AttributeDiscard`] the routes are good.
    pub fault: Option<Fault<'a>>,
    /// NEXT_HOP: for the classic IPv4 prefixes.
    pub next_hop: Option<Ipv4Addr>,
    /// MP_REACH_NLRI.
    pub reach: Option<Reach<'a>>,
    /// Prefixes of MP_UNREACH_NLRI.
    pub unreach: Option<Nlri<'a>>,
    /// A family named in the UPDATE that the session does not carry; its routes are ignored.
    pub ignored: Option<AfiSafi>,
    /// The UPDATE is the End-of-RIB marker of this family (RFC 4724 §2).
    pub end_of_rib: Option<Family>,
    /// What the decision process reads.
    pub summary: Summary,
}

/// Checks the attributes of `update`.
#[must_use]
pub fn check<'a>(update: &Update<'a>, codec: &Codec, scratch: &mut Scratch) -> Checked<'a> {
    scratch.clear();
    let mut walk = Walk::new(update, codec, &mut scratch.slots);
    walk.run();
    walk.require_mandatory();
    walk.raise_without_reachable_nlri();
    let (mut checked, old) = walk.finish();
    if checked.fault.is_none_or(|fault| fault.severity == Severity::AttributeDiscard) {
        scratch.write_block(update.attributes, codec, old, &mut checked.summary);
    }
    checked
}

/// Type codes met so far.
#[derive(Debug, Default)]
struct Seen([u64; 4]);

impl Seen {
    /// Adds a code; false when it was there.
    const fn insert(&mut self, code: u8) -> bool {
        let (word, bit) = (code as usize / 64, 1u64 << (code % 64));
        let fresh = self.0[word] & bit == 0;
        self.0[word] |= bit;
        fresh
    }

    const fn contains(&self, code: u8) -> bool {
        self.0[code as usize / 64] & 1u64 << (code % 64) != 0
    }

    /// Whether there is any code but this one.
    fn besides(&self, code: u8) -> bool {
        let mut others = self.0;
        others[usize::from(code) / 64] &= !(1 << (code % 64));
        others != [0; 4]
    }
}

struct Walk<'a, 'c> {
    update: &'c Update<'a>,
    codec: &'c Codec,
    slots: &'c mut Vec<Slot>,
    seen: Seen,
    old: OldSpeaker<'a>,
    checked: Checked<'a>,
}

/// Whether an attribute goes into the canonical block.
enum Keep {
    InBlock,
    Aside,
}

impl<'a, 'c> Walk<'a, 'c> {
    fn new(update: &'c Update<'a>, codec: &'c Codec, slots: &'c mut Vec<Slot>) -> Self {
        let checked = Checked {
            fault: None,
            next_hop: None,
            reach: None,
            unreach: None,
            ignored: None,
            end_of_rib: None,
            summary: Summary::default(),
        };
        Self { update, codec, slots, seen: Seen::default(), old: OldSpeaker::default(), checked }
    }

    fn run(&mut self) {
        let list = self.update.attributes;
        let mut rest = list;
        while !rest.is_empty() {
            let Ok((after, found)) = attribute::attribute(rest) else {
                let code = rest.get(1).copied().unwrap_or_default();
                self.fault(AttributeError::Truncated(code), &[]);
                return;
            };
            self.one(found, list.len() - after.len() - found.value.len());
            rest = after;
        }
    }

    /// RFC 7606 §3 (h): the gravest error decides.
    fn fault(&mut self, error: AttributeError, attribute: &'a [u8]) {
        let severity = error.severity();
        if self.checked.fault.is_none_or(|fault| fault.severity < severity) {
            self.checked.fault = Some(Fault { error, severity, attribute });
        }
    }

    /// `start` is where the value stands in the list.
    fn one(&mut self, found: RawAttribute<'a>, start: usize) {
        if !self.seen.insert(found.code) {
            let error = match found.code {
                code::MP_REACH_NLRI | code::MP_UNREACH_NLRI => {
                    AttributeError::DuplicateMp(found.code)
                }
                _ => AttributeError::Duplicate(found.code),
            };
            return self.fault(error, found.whole);
        }
        let class = found.flags & flags::CLASS;
        let keep = match attribute::class(found.code) {
            None => self.unknown(class, found.code),
            Some(expected) => {
                if class != expected {
                    let error = AttributeError::Flags { code: found.code, flags: found.flags };
                    self.fault(error, found.whole);
                }
                self.known(found)
            }
        };
        match keep {
            Ok(Keep::InBlock) => self.slots.push(Slot {
                code: found.code,
                flags: found.flags,
                start,
                len: found.value.len(),
            }),
            Ok(Keep::Aside) => {}
            Err(error) => self.fault(error, found.whole),
        }
    }

    /// RFC 4271 §5: an unknown optional attribute is passed on when transitive, else dropped.
    fn unknown(&self, class: u8, code: u8) -> Result<Keep, AttributeError> {
        if class & flags::OPTIONAL == 0 {
            Err(AttributeError::UnknownWellKnown(code))
        } else if class & flags::TRANSITIVE == 0 {
            Ok(Keep::Aside)
        } else {
            Ok(Keep::InBlock)
        }
    }

    fn known(&mut self, found: RawAttribute<'a>) -> Result<Keep, AttributeError> {
        let RawAttribute { code, value, .. } = found;
        let summary = &mut self.checked.summary;
        match code {
            code::ORIGIN => {
                let [octet] = exact(found)?;
                summary.origin = Origin::from_octet(octet).ok_or(AttributeError::Origin(octet))?;
            }
            code::AS_PATH => {
                let PathFacts { length, first, members } = as_path::facts(value, self.codec)?;
                summary.as_path_length = u16::try_from(length).unwrap_or(u16::MAX);
                summary.first_as = first;
                summary.confederation_length = u8::try_from(members).unwrap_or(u8::MAX);
            }
            code::NEXT_HOP => {
                let next_hop = Ipv4Addr::from(exact::<4>(found)?);
                be_host(NextHop::V4(next_hop))?;
                self.checked.next_hop = Some(next_hop);
                return Ok(Keep::Aside);
            }
            code::MULTI_EXIT_DISC => summary.med = Some(u32::from_be_bytes(exact(found)?)),
            code::LOCAL_PREF if !self.codec.peer.is_within() => {
                return Err(AttributeError::FromExternalPeer(code)); // RFC 7606 §7.5
            }
            code::LOCAL_PREF => {
                self.checked.summary.local_pref = Some(u32::from_be_bytes(exact(found)?));
            }
            code::ATOMIC_AGGREGATE => {
                let [] = exact(found)?;
            }
            code::AGGREGATOR => self.aggregator(found)?,
            code::COMMUNITIES => {
                for number in multiple::<4>(found)? {
                    let mark = Marks::of(u32::from_be_bytes(*number));
                    summary.marks = summary.marks.union(mark);
                }
            }
            code::ORIGINATOR_ID => {
                self.internal_only(code)?;
                self.checked.summary.originator_id = Some(exact(found)?.into());
            }
            code::CLUSTER_LIST => {
                self.internal_only(code)?;
                let length = multiple::<4>(found)?.len();
                self.checked.summary.cluster_list_length = u8::try_from(length).unwrap_or(u8::MAX);
            }
            code::EXTENDED_COMMUNITIES => {
                multiple::<8>(found)?;
            }
            code::IPV6_EXTENDED_COMMUNITIES => {
                multiple::<20>(found)?;
            }
            code::LARGE_COMMUNITIES => {
                multiple::<12>(found)?;
            }
            code::ONLY_TO_CUSTOMER => {
                let _: [u8; 4] = exact(found)?;
            }
            code::MP_REACH_NLRI => return self.reach(found).map(|()| Keep::Aside),
            code::MP_UNREACH_NLRI => return self.unreach(found).map(|()| Keep::Aside),
            code::AS4_PATH | code::AS4_AGGREGATOR => {
                return self.old_speaker(found).map(|()| Keep::Aside);
            }
            _ => unreachable!("`attribute::class` knows only the codes above"),
        }
        Ok(Keep::InBlock)
    }

    /// RFC 7606 §7.9, §7.10. Clusters are a matter of one Member-AS.
    fn internal_only(&self, code: u8) -> Result<(), AttributeError> {
        match self.codec.peer {
            PeerKind::Internal => Ok(()),
            PeerKind::Confederation | PeerKind::External => {
                Err(AttributeError::FromExternalPeer(code))
            }
        }
    }

    fn aggregator(&mut self, found: RawAttribute<'a>) -> Result<(), AttributeError> {
        let asn = match self.codec.asn_width {
            AsnWidth::Four => {
                let [a, b, c, d, ..]: [u8; 8] = exact(found)?;
                u32::from_be_bytes([a, b, c, d])
            }
            AsnWidth::Two => {
                let [a, b, ..]: [u8; 6] = exact(found)?;
                u16::from_be_bytes([a, b]).into()
            }
        };
        if asn == 0 {
            return Err(AttributeError::ZeroAs(found.code));
        }
        self.old.aggregator_as = Some(asn);
        Ok(())
    }

    fn old_speaker(&mut self, found: RawAttribute<'a>) -> Result<(), AttributeError> {
        match self.codec.asn_width {
            AsnWidth::Four => return Err(AttributeError::FromNewSpeaker(found.code)),
            AsnWidth::Two => {}
        }
        if found.code == code::AS4_PATH {
            as_path::check_as4_path(found.value)?;
            self.old.as4_path = Some(found.value);
        } else {
            let [asn @ .., _, _, _, _]: [u8; 8] = exact(found)?;
            if asn == [0; 4] {
                return Err(AttributeError::ZeroAs(found.code));
            }
            self.old.as4_aggregator = Some(found.value);
        }
        Ok(())
    }

    /// The family, when the session carries it; else it is noted as ignored.
    fn carried(&mut self, afi: u16, safi: u8) -> Option<Family> {
        let named = AfiSafi { afi, safi };
        let family = named.family().filter(|family| self.codec.families.contains(*family));
        if family.is_none() {
            self.checked.ignored = Some(named);
        }
        family
    }

    fn reach(&mut self, found: RawAttribute<'a>) -> Result<(), AttributeError> {
        let RawAttribute { code, value, .. } = found;
        let short = AttributeError::MpTooShort { code, len: value.len() };
        if value.len() < 5 {
            return Err(short); // RFC 7606 §5.3
        }
        let (rest, (afi, safi)) = (be_u16::<_, ()>, be_u8).parse(value).map_err(|_| short)?;
        let Some(family) = self.carried(afi, safi) else { return Ok(()) };
        let bad_next_hop = AttributeError::MpNextHop { family, len: rest[0] };
        let (nlri, (octets, _reserved)) =
            (flat_map(be_u8::<_, ()>, take), be_u8).parse(rest).map_err(|_| bad_next_hop)?;
        let next_hop = NextHop::parse(octets, family, self.codec).ok_or(bad_next_hop)?;
        let nlri = self.mp_nlri(code, nlri, family)?;
        // First, so that the routes of a bad next hop are withdrawn.
        self.checked.reach = Some(Reach { next_hop, nlri });
        be_host(next_hop)
    }

    fn unreach(&mut self, found: RawAttribute<'a>) -> Result<(), AttributeError> {
        let RawAttribute { code, value, .. } = found;
        let Ok((nlri, (afi, safi))) = (be_u16::<_, ()>, be_u8).parse(value) else {
            return Err(AttributeError::MpTooShort { code, len: value.len() });
        };
        let Some(family) = self.carried(afi, safi) else { return Ok(()) };
        self.checked.unreach = Some(self.mp_nlri(code, nlri, family)?);
        Ok(())
    }

    fn mp_nlri(
        &self,
        code: u8,
        nlri: &'a [u8],
        family: Family,
    ) -> Result<Nlri<'a>, AttributeError> {
        Nlri::parse(nlri, family, self.codec.received_path_ids(family))
            .map_err(|error| AttributeError::MpNlri { code, error, family })
    }

    fn announces(&self) -> bool {
        !self.update.announced.is_empty() || self.seen.contains(code::MP_REACH_NLRI)
    }

    /// RFC 7606 §3 (d).
    fn require_mandatory(&mut self) {
        if !self.announces() {
            return;
        }
        let classic = !self.update.announced.is_empty();
        for (code, needed) in
            [(code::ORIGIN, true), (code::AS_PATH, true), (code::NEXT_HOP, classic)]
        {
            if needed && !self.seen.contains(code) {
                self.fault(AttributeError::Missing(code), &[]);
            }
        }
    }

    /// RFC 7606 §5.2: attributes without any reachable prefix, one of them wrong: the prefixes may
    /// be what went wrong, so withdrawing them is not possible.
    fn raise_without_reachable_nlri(&mut self) {
        if self.announces() {
            return;
        }
        let others = self.seen.besides(code::MP_UNREACH_NLRI);
        if let Some(fault) = &mut self.checked.fault
            && fault.severity == Severity::TreatAsWithdraw
            && (others || matches!(fault.error, AttributeError::Truncated(_)))
        {
            fault.severity = Severity::SessionReset;
        }
    }

    fn finish(mut self) -> (Checked<'a>, OldSpeaker<'a>) {
        self.checked.end_of_rib = self.end_of_rib();
        // RFC 6793 §4.2.3, of AGGREGATOR and AS4_AGGREGATOR together: one that is not AS_TRANS was put
        // there by an old speaker who did not update the AS4_ attributes; both are stale.
        let by_old = self.old.aggregator_as.is_some_and(|asn| asn != iana::AS_TRANS.into());
        if by_old && self.old.as4_aggregator.is_some() {
            self.old.as4_path = None;
            self.old.as4_aggregator = None;
        }
        (self.checked, self.old)
    }

    /// RFC 4724 §2: an UPDATE without anything, or with an empty MP_UNREACH_NLRI and nothing else.
    fn end_of_rib(&self) -> Option<Family> {
        let bare = self.update.withdrawn.is_empty() && self.update.announced.is_empty();
        if !bare || self.checked.fault.is_some() {
            return None;
        }
        if self.update.attributes.is_empty() {
            return Some(Family::Ipv4);
        }
        let unreach = self.checked.unreach.filter(|nlri| nlri.is_empty())?;
        (!self.seen.besides(code::MP_UNREACH_NLRI)).then(|| unreach.family())
    }
}

/// Reads a value of exactly `N` octets.
fn exact<const N: usize>(found: RawAttribute<'_>) -> Result<[u8; N], AttributeError> {
    found.value.try_into().map_err(|_| bad_length(found))
}

/// Reads a value of one or more items of `N` octets.
fn multiple<const N: usize>(found: RawAttribute<'_>) -> Result<&[[u8; N]], AttributeError> {
    match found.value.as_chunks() {
        (items, []) if !items.is_empty() => Ok(items),
        _ => Err(bad_length(found)),
    }
}

fn bad_length(found: RawAttribute<'_>) -> AttributeError {
    AttributeError::Length { code: found.code, len: found.value.len() }
}

/// RFC 4271 §6.3: NEXT_HOP is a valid host address. Loopback is let through: it is the only
/// address that speakers on one machine have.
fn be_host(next_hop: NextHop) -> Result<(), AttributeError> {
    let reserved = match next_hop.addr() {
        IpAddr::V4(addr) => addr.octets()[0] == 0 || addr.octets()[0] >= 224,
        IpAddr::V6(addr) => addr.is_unspecified() || addr.is_multicast(),
    };
    if reserved { Err(AttributeError::NextHop(next_hop.addr())) } else { Ok(()) }
}
