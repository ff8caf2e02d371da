//! Edits a canonical block on its way to a peer, in one pass and straight into the output.

use std::net::Ipv4Addr;

use super::as_path::{self, AsPath, Parts};
use super::attribute::{self, AttributeOverflow, Attributes, Origin, RawAttribute, flags};
use super::community::{self, LargeCommunity};
use super::iana::attribute as code;
use super::{AsnWidth, PeerKind};

/// What happens to an attribute that holds one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Edit<T> {
    /// It stays as it is.
    #[default]
    Keep,
    /// It gets this value, whether it was there or not.
    Set(T),
    /// It goes.
    Remove,
}

impl<T: Copy> Edit<T> {
    fn apply(self, old: Option<T>) -> Option<T> {
        match self {
            Self::Keep => old,
            Self::Set(new) => Some(new),
            Self::Remove => None,
        }
    }
}

/// What happens to a list of communities: first the removals, then the additions.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ListEdit<T> {
    /// Taken out wherever they stand.
    pub remove: Vec<T>,
    /// Put at the end unless already there.
    pub add: Vec<T>,
}

impl<T> Default for ListEdit<T> {
    fn default() -> Self {
        Self { remove: Vec::new(), add: Vec::new() }
    }
}

impl<T: PartialEq + Copy> ListEdit<T> {
    fn is_identity(&self) -> bool {
        self.remove.is_empty() && self.add.is_empty()
    }

    fn apply(&self, old: impl Iterator<Item = T>) -> Vec<T> {
        let mut list: Vec<T> = old.filter(|item| !self.remove.contains(item)).collect();
        for item in &self.add {
            if !list.contains(item) {
                list.push(*item);
            }
        }
        list
    }
}

/// What becomes of private AS numbers (RFC 6996) on a path. The number of the peer that the path
/// goes to always stays: without it that peer could not see a loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum PrivateEdit {
    /// They stay.
    #[default]
    Keep,
    /// They go if the path holds no public number.
    RemoveWhenAll {
        /// The peer.
        but: u32,
    },
    /// They go.
    Remove {
        /// The peer.
        but: u32,
    },
    /// Another number stands in their place.
    Replace {
        /// That number.
        with: u32,
        /// The peer.
        but: u32,
    },
}

impl PrivateEdit {
    fn apply(self, path: &mut Vec<u32>) {
        match self {
            Self::Keep => {}
            Self::RemoveWhenAll { .. } if !path.iter().all(|asn| as_path::is_private(*asn)) => {}
            Self::RemoveWhenAll { but } | Self::Remove { but } => {
                path.retain(|asn| *asn == but || !as_path::is_private(*asn));
            }
            Self::Replace { with, but } => {
                let private = |asn: &&mut u32| **asn != but && as_path::is_private(**asn);
                path.iter_mut().filter(private).for_each(|asn| *asn = with);
            }
        }
    }
}

/// What becomes of the confederation segments of a path (RFC 5065 §4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ConfedEdit {
    /// They stay: the path remains in our Member-AS.
    #[default]
    Keep,
    /// Our Member-AS Number stands before them: the path goes to another Member-AS.
    Prepend(u32),
    /// They go: the path leaves the confederation.
    Remove,
}

/// What route reflection adds (RFC 4456 §8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Reflection {
    /// Put into ORIGINATOR_ID unless one is there: the router id of who sent us the route.
    pub originator_id: Ipv4Addr,
    /// Put in front of CLUSTER_LIST: our cluster.
    pub cluster_id: Ipv4Addr,
}

/// The edits on the way from the table to a peer. [`Default`] to an internal peer changes nothing.
///
/// NEXT_HOP is not among them: [`super::announce`] puts it in, so that blocks can be shared by
/// sessions with different next hops.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Rewrite {
    /// Attributes that stay within an AS do not go to an external peer: LOCAL_PREF, ORIGINATOR_ID,
    /// CLUSTER_LIST and non-transitive extended communities. MED does, unless removed. To another
    /// Member-AS go all but ORIGINATOR_ID and CLUSTER_LIST.
    pub to: PeerKind,
    /// What becomes of confederation segments.
    pub confederation: ConfedEdit,
    /// Put in front of AS_PATH, nearest first; behind confederation segments, which would hide it
    /// from the length.
    pub prepend: Vec<u32>,
    /// Replaces an AS number on the path, before prepending (as-override).
    pub replace_as: Option<(u32, u32)>,
    /// What becomes of private AS numbers on the path, before prepending.
    pub private: PrivateEdit,
    /// ORIGIN.
    pub origin: Edit<Origin>,
    /// MULTI_EXIT_DISC.
    pub med: Edit<u32>,
    /// LOCAL_PREF; to an external peer it is left out whatever this says (RFC 4271 §5.1.5).
    pub local_pref: Edit<u32>,
    /// COMMUNITIES.
    pub communities: ListEdit<u32>,
    /// LARGE_COMMUNITIES.
    pub large_communities: ListEdit<LargeCommunity>,
    /// ONLY_TO_CUSTOMER (RFC 9234 §5).
    pub only_to_customer: Edit<u32>,
    /// Set when the route is reflected.
    pub reflection: Option<Reflection>,
    /// How wide AS numbers are at the peer.
    pub asn_width: AsnWidth,
}

impl Rewrite {
    /// No edits but those that the kind of peer brings.
    #[must_use]
    pub fn towards(to: PeerKind) -> Self {
        Self {
            to,
            confederation: match to {
                PeerKind::Internal | PeerKind::Confederation => ConfedEdit::Keep,
                PeerKind::External => ConfedEdit::Remove,
            },
            prepend: Vec::new(),
            replace_as: None,
            private: PrivateEdit::Keep,
            origin: Edit::Keep,
            med: Edit::Keep,
            local_pref: Edit::Keep,
            communities: ListEdit::default(),
            large_communities: ListEdit::default(),
            only_to_customer: Edit::Keep,
            reflection: None,
            asn_width: AsnWidth::Four,
        }
    }

    /// Appends the edited form of the canonical block `block`. With four-octet AS numbers the
    /// result is canonical again; with two it carries AS4_PATH and AS4_AGGREGATOR where needed.
    ///
    /// # Errors
    /// When an attribute grows beyond what one can have; then nothing is appended. RFC 8654 §4: such a
    /// route cannot be told.
    pub fn apply(&self, block: &[u8], out: &mut Vec<u8>) -> Result<(), AttributeOverflow> {
        let start = out.len();
        self.write(block, out).inspect_err(|_| out.truncate(start))
    }

    fn write(&self, block: &[u8], out: &mut Vec<u8>) -> Result<(), AttributeOverflow> {
        out.reserve(block.len() + 16);
        // Attributes that may appear or change get a turn at their place in the order; between
        // these places, everything is copied as it stands.
        let mut rest = Attributes::new(block).iter().peekable();
        for turn in TURNS {
            while let Some(other) = rest.next_if(|attribute| attribute.code < turn) {
                self.copy(other, out);
            }
            let old = rest.next_if(|attribute| attribute.code == turn);
            self.turn(turn, old, block, out)?;
        }
        rest.for_each(|other| self.copy(other, out));
        Ok(())
    }

    fn copy(&self, attribute: RawAttribute<'_>, out: &mut Vec<u8>) {
        attribute::emit(out, attribute.flags, attribute.code, attribute.value);
    }

    fn turn(
        &self,
        turn: u8,
        old: Option<RawAttribute<'_>>,
        block: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), AttributeOverflow> {
        let number = old.and_then(|old| old.value.try_into().ok()).map(u32::from_be_bytes);
        let internal = self.to == PeerKind::Internal;
        match turn {
            code::ORIGIN => self.put_origin(old, out),
            code::AS_PATH => return self.put_as_path(old.map_or(&[], |old| old.value), out),
            code::MULTI_EXIT_DISC => put_number(out, turn, self.med.apply(number)),
            code::LOCAL_PREF if self.to.is_within() => {
                put_number(out, turn, self.local_pref.apply(number));
            }
            code::AGGREGATOR => self.put_aggregator(old, out),
            code::COMMUNITIES => return self.put_communities(old, out),
            code::ORIGINATOR_ID if internal => {
                let reflected = self.reflection.map(|r| r.originator_id.to_bits());
                put_number(out, turn, number.or(reflected));
            }
            code::CLUSTER_LIST if internal => return self.put_cluster_list(old, out),
            code::EXTENDED_COMMUNITIES => return self.put_extended::<8>(old, out),
            code::IPV6_EXTENDED_COMMUNITIES => return self.put_extended::<20>(old, out),
            code::AS4_PATH => return self.put_as4_path(block, out),
            code::AS4_AGGREGATOR => self.put_as4_aggregator(block, out),
            code::LARGE_COMMUNITIES => return self.put_large(old, out),
            code::ONLY_TO_CUSTOMER => match (self.only_to_customer, old) {
                (Edit::Keep, Some(old)) => self.copy(old, out),
                (edit, _) => put_number(out, turn, edit.apply(number)),
            },
            _ => {}
        }
        Ok(())
    }

    fn put_origin(&self, old: Option<RawAttribute<'_>>, out: &mut Vec<u8>) {
        let old = old.and_then(|old| Origin::from_octet(*old.value.first()?));
        if let Some(origin) = self.origin.apply(old) {
            attribute::emit(out, flags::TRANSITIVE, code::ORIGIN, &[origin.octet()]);
        }
    }

    fn path(&self, value: &[u8]) -> Parts {
        let path = AsPath::new(value);
        let confederation = match self.confederation {
            ConfedEdit::Keep => path.confederation().collect(),
            ConfedEdit::Prepend(own) => [own].into_iter().chain(path.confederation()).collect(),
            ConfedEdit::Remove => Vec::new(),
        };
        let replaced = path.asns().map(|asn| match self.replace_as {
            Some((from, to)) if asn == from => to,
            Some(_) | None => asn,
        });
        let mut sequence: Vec<u32> = replaced.collect();
        self.private.apply(&mut sequence);
        sequence.splice(0..0, self.prepend.iter().copied());
        Parts { confederation, sequence }
    }

    fn put_as_path(&self, value: &[u8], out: &mut Vec<u8>) -> Result<(), AttributeOverflow> {
        let unchanged = self.confederation == ConfedEdit::Keep
            && self.prepend.is_empty()
            && self.replace_as.is_none()
            && self.private == PrivateEdit::Keep;
        match self.asn_width {
            AsnWidth::Four if unchanged => {
                attribute::emit(out, flags::TRANSITIVE, code::AS_PATH, value);
                Ok(())
            }
            width @ (AsnWidth::Two | AsnWidth::Four) => {
                put_path(out, flags::TRANSITIVE, code::AS_PATH, &self.path(value), width)
            }
        }
    }

    /// RFC 6793 §4.2.2: only when some AS number does not fit two octets, and without confederation
    /// segments.
    fn put_as4_path(&self, block: &[u8], out: &mut Vec<u8>) -> Result<(), AttributeOverflow> {
        match self.asn_width {
            AsnWidth::Four => Ok(()),
            AsnWidth::Two => {
                let path = self.path(Attributes::new(block).get(code::AS_PATH).unwrap_or_default());
                if path.sequence.iter().any(|asn| u16::try_from(*asn).is_err()) {
                    let path = Parts { confederation: Vec::new(), ..path };
                    put_path(out, flags::CLASS, code::AS4_PATH, &path, AsnWidth::Four)?;
                }
                Ok(())
            }
        }
    }

    fn put_aggregator(&self, old: Option<RawAttribute<'_>>, out: &mut Vec<u8>) {
        let Some(old) = old else { return };
        match (self.asn_width, old.value) {
            (AsnWidth::Two, &[a, b, c, d, ref router_id @ ..]) => {
                let short = as_path::short_asn(u32::from_be_bytes([a, b, c, d]));
                let value = [&short.to_be_bytes(), router_id].concat();
                attribute::emit(out, old.flags, old.code, &value);
            }
            _ => self.copy(old, out),
        }
    }

    fn put_as4_aggregator(&self, block: &[u8], out: &mut Vec<u8>) {
        let attributes = Attributes::new(block);
        let long = attributes.aggregator().filter(|who| u16::try_from(who.asn).is_err());
        if let (AsnWidth::Two, Some(_), Some(value)) =
            (self.asn_width, long, attributes.get(code::AGGREGATOR))
        {
            attribute::emit(out, flags::CLASS, code::AS4_AGGREGATOR, value);
        }
    }

    fn put_communities(
        &self,
        old: Option<RawAttribute<'_>>,
        out: &mut Vec<u8>,
    ) -> Result<(), AttributeOverflow> {
        if self.communities.is_identity() {
            old.into_iter().for_each(|old| self.copy(old, out));
            return Ok(());
        }
        let old = old.map_or(&[][..], |old| old.value.as_chunks().0);
        let list = self.communities.apply(old.iter().copied().map(u32::from_be_bytes));
        put_list(out, code::COMMUNITIES, list.into_iter().map(u32::to_be_bytes))
    }

    fn put_large(
        &self,
        old: Option<RawAttribute<'_>>,
        out: &mut Vec<u8>,
    ) -> Result<(), AttributeOverflow> {
        if self.large_communities.is_identity() {
            old.into_iter().for_each(|old| self.copy(old, out));
            return Ok(());
        }
        let old = old.map_or(&[][..], |old| old.value.as_chunks().0);
        let old = old.iter().copied().map(LargeCommunity::from_octets);
        let list = self.large_communities.apply(old);
        put_list(out, code::LARGE_COMMUNITIES, list.into_iter().map(LargeCommunity::octets))
    }

    /// RFC 4360 §6: non-transitive ones do not cross the border of an AS, but that of a Member-AS. The
    /// longer ones for IPv6 say so in the same bit (RFC 5701 §2).
    fn put_extended<const N: usize>(
        &self,
        old: Option<RawAttribute<'_>>,
        out: &mut Vec<u8>,
    ) -> Result<(), AttributeOverflow> {
        let Some(old) = old else { return Ok(()) };
        match self.to {
            PeerKind::Internal | PeerKind::Confederation => {
                self.copy(old, out);
                Ok(())
            }
            PeerKind::External => {
                let list = old.value.as_chunks::<N>().0.iter().copied();
                let kept = list.filter(|octets| community::is_transitive(octets));
                put_list_with(out, old.flags, old.code, kept)
            }
        }
    }

    fn put_cluster_list(
        &self,
        old: Option<RawAttribute<'_>>,
        out: &mut Vec<u8>,
    ) -> Result<(), AttributeOverflow> {
        let old = old.map_or(&[][..], |old| old.value.as_chunks::<4>().0);
        let ours = self.reflection.map(|reflection| reflection.cluster_id.octets());
        let list = ours.into_iter().chain(old.iter().copied());
        put_list_with(out, flags::OPTIONAL, code::CLUSTER_LIST, list)
    }
}

/// The places in the order of type codes where a rewrite may add or change something.
const TURNS: [u8; 14] = [
    code::ORIGIN,
    code::AS_PATH,
    code::MULTI_EXIT_DISC,
    code::LOCAL_PREF,
    code::AGGREGATOR,
    code::COMMUNITIES,
    code::ORIGINATOR_ID,
    code::CLUSTER_LIST,
    code::EXTENDED_COMMUNITIES,
    code::AS4_PATH,
    code::AS4_AGGREGATOR,
    code::IPV6_EXTENDED_COMMUNITIES,
    code::LARGE_COMMUNITIES,
    code::ONLY_TO_CUSTOMER,
];

fn put_number(out: &mut Vec<u8>, code: u8, number: Option<u32>) {
    if let Some(number) = number {
        let class = attribute::class(code).expect("only known attributes are written");
        attribute::emit(out, class, code, &number.to_be_bytes());
    }
}

fn put_path(
    out: &mut Vec<u8>,
    flags: u8,
    code: u8,
    path: &Parts,
    width: AsnWidth,
) -> Result<(), AttributeOverflow> {
    let len = path.octets(width);
    attribute::fit(code, len)?;
    attribute::put_head(out, flags, code, len);
    path.put(out, width);
    Ok(())
}

fn put_list<const N: usize>(
    out: &mut Vec<u8>,
    code: u8,
    list: impl Iterator<Item = [u8; N]>,
) -> Result<(), AttributeOverflow> {
    put_list_with(out, flags::CLASS, code, list)
}

/// RFC 7606 §7.8 and kin: an empty list is malformed, so it is not written at all.
fn put_list_with<const N: usize>(
    out: &mut Vec<u8>,
    flags: u8,
    code: u8,
    list: impl Iterator<Item = [u8; N]>,
) -> Result<(), AttributeOverflow> {
    let value: Vec<u8> = list.flatten().collect();
    attribute::fit(code, value.len())?;
    if !value.is_empty() {
        attribute::emit(out, flags, code, &value);
    }
    Ok(())
}

/// The canonical block of an aggregate that this speaker forms (RFC 4271 §9.2.2.2): no AS number of
/// what it is made of is told, and it says so.
#[must_use]
pub fn aggregated(asn: u32, router_id: Ipv4Addr) -> Vec<u8> {
    let mut block = originated(Origin::Igp);
    attribute::emit(&mut block, flags::TRANSITIVE, code::ATOMIC_AGGREGATE, &[]);
    let by = [asn.to_be_bytes(), router_id.octets()].concat();
    attribute::emit(&mut block, flags::OPTIONAL | flags::TRANSITIVE, code::AGGREGATOR, &by);
    block
}

/// The canonical block of a route that starts here: ORIGIN and an empty AS_PATH. A [`Rewrite`]
/// adds the rest.
#[must_use]
pub fn originated(origin: Origin) -> Vec<u8> {
    let mut block = Vec::with_capacity(7);
    attribute::emit(&mut block, flags::TRANSITIVE, code::ORIGIN, &[origin.octet()]);
    attribute::emit(&mut block, flags::TRANSITIVE, code::AS_PATH, &[]);
    block
}
