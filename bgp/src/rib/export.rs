//! From the best path to what a group of peers is told: who may hear of it, the export filter,
//! and the attributes as they leave.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::num::{NonZeroU8, NonZeroU32};
use std::sync::Arc;

use foldhash::fast::FixedState;

use super::attribute::{AttrId, Block};
use super::best::DEFAULT_LOCAL_PREF;
use super::filter::{Holding, LEAVING, Link, Lookup, Operation, Source, Subject};
use super::path::{LOCAL, Path, PeerIndex};
use super::prefix::PrefixId;
use super::{Neighbor, Rib};
use crate::speaker::{DefaultRoute, NextHopMode, Reflection, Role};
use crate::wire::{
    self, Codec, ConfedEdit, Edit, Family, Marks, NextHop, Origin, PeerKind, Prefix, PrivateEdit,
    Rewrite,
};

/// All that decides what a peer is told, and in which bytes. Peers with equal policies share their
/// messages; whatever a new setting changes must stand in here.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Policy {
    pub(crate) codec: Codec,
    /// What stands before each path that leaves for another AS, nearest first: the AS that we are
    /// in the peers' eyes, and maybe our real one. For another Member-AS: ours.
    pub(crate) own_as: Vec<u32>,
    /// The peers' AS number, and ours to stand in its place (as-override).
    pub(crate) replace_as: Option<(u32, u32)>,
    pub(crate) private: PrivateEdit,
    /// Ourselves as the next hop of each family, where there is one.
    pub(crate) own_next_hop: [Option<NextHop>; 2],
    pub(crate) next_hop: NextHopMode,
    pub(crate) reflection: Reflection,
    /// Our cluster, when we reflect.
    pub(crate) cluster_id: Option<Ipv4Addr>,
    pub(crate) filter: Lookup,
    /// What we are to external peers (RFC 9234).
    pub(crate) role: Option<Role>,
    /// Aggregates of whose parts the peers are not told.
    pub(crate) summaries: Arc<[Prefix]>,
    pub(crate) default_route: DefaultRoute,
    /// The most prefixes of a family that the peers are told.
    pub(crate) max_advertised: Option<NonZeroU32>,
    /// How many paths of each prefix are told, where the codec allows more than one.
    pub(crate) paths: NonZeroU8,
    /// Whether the peers know what a long-lived stale path is (RFC 9494).
    pub(crate) long_lived: LongLived,
}

/// Whether a peer has the long-lived graceful restart capability.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum LongLived {
    Known,
    Unknown,
}

/// What the peers of a group are told about a prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Advert {
    pub(crate) attr: AttrId,
    /// Who told us, and is not told in turn.
    pub(crate) source: PeerIndex,
}

/// Which conditions of the filter hold, and what was worked out for one set of attributes, so that the
/// next prefix with it costs nothing. Valid while the RIB does not change.
#[derive(Debug)]
pub(crate) struct Memo<'a> {
    holding: &'a [bool],
    made: HashMap<(AttrId, PeerIndex, Vec<Operation>, Family), AttrId, FixedState>,
}

impl<'a> Memo<'a> {
    /// Nothing is worked out yet; these conditions hold, by their number.
    pub(crate) fn under(holding: &'a [bool]) -> Self {
        Self { holding, made: HashMap::default() }
    }
}

impl Policy {
    /// What to tell about a prefix now; the caller gets a use of the attribute set.
    pub(crate) fn advertise(
        &self,
        rib: &mut Rib,
        memo: &mut Memo<'_>,
        prefix: PrefixId,
    ) -> Option<Advert> {
        if let Some(advert) = self.advertise_default(rib, prefix) {
            return Some(advert);
        }
        let path = *rib.best(prefix)?;
        self.advertise_path(rib, memo, prefix, path)
    }

    /// A default route that leads to us, for peers that are always told one.
    fn advertise_default(&self, rib: &mut Rib, prefix: PrefixId) -> Option<Advert> {
        let operations: &[Operation] = match self.default_route {
            DefaultRoute::Ordinary => return None,
            DefaultRoute::Originated => &[],
            DefaultRoute::Leaving => &LEAVING,
        };
        let wanted =
            self.codec.families.contains(prefix.family()) && rib.prefixes.prefix(prefix).len() == 0;
        if !wanted {
            return None;
        }
        let raw = wire::originated(Origin::Igp);
        let own = rib.attributes.intern(Block::made(None, &raw));
        let attr = self.rewritten(rib, prefix.family(), (own, LOCAL), operations);
        rib.attributes.release(own);
        Some(Advert { attr: attr?, source: LOCAL })
    }

    /// The same for peers that are told several paths, each with its identifier: the number of the
    /// path in our table, which no other path has at the same time (RFC 7911 §2).
    pub(crate) fn advertise_several(
        &self,
        rib: &mut Rib,
        memo: &mut Memo<'_>,
        prefix: PrefixId,
    ) -> Vec<(u32, Advert)> {
        let mut adverts = Vec::new();
        if let Some(advert) = self.advertise_default(rib, prefix) {
            return vec![(u32::MAX, advert)];
        }
        for id in rib.best_paths(prefix, usize::from(self.paths.get())) {
            let path = *rib.paths.get(id);
            if let Some(advert) = self.advertise_path(rib, memo, prefix, path) {
                adverts.push((id.0 + 1, advert));
            }
        }
        adverts
    }

    fn advertise_path(
        &self,
        rib: &mut Rib,
        memo: &mut Memo<'_>,
        prefix: PrefixId,
        path: Path,
    ) -> Option<Advert> {
        if !self.codec.families.contains(prefix.family()) {
            return None;
        }
        let source = path.peer;
        let neighbor = rib.neighbor(source);
        let block = rib.attributes.get(path.attr);
        if source != LOCAL && !self.may_hear(neighbor, block) {
            return None;
        }
        let told = rib.prefixes.prefix(prefix);
        // An aggregate stands for it.
        if self.summaries.iter().any(|summary| told.is_part_of(*summary)) {
            return None;
        }
        let subject = Subject {
            prefix: told,
            source: if source == LOCAL { Source::Local } else { Source::RemotePeers },
            link: if source == LOCAL { Link::Ours } else { rib.links.of_path(neighbor, block) },
            peer_kind: self.codec.peer,
            attributes: block,
            holding: Holding::Known(memo.holding),
        };
        let operations = self.filter.evaluate(subject)?;
        let key = (path.attr, source, operations.to_vec(), prefix.family());
        if let Some(id) = memo.made.get(&key) {
            return Some(Advert { attr: rib.attributes.retain(*id), source });
        }
        let attr = self.rewritten(rib, prefix.family(), (path.attr, source), operations)?;
        memo.made.insert(key, attr);
        Some(Advert { attr, source })
    }

    /// The attributes as they leave; the caller gets a use.
    fn rewritten(
        &self,
        rib: &mut Rib,
        family: Family,
        (attr, source): (AttrId, PeerIndex),
        operations: &[Operation],
    ) -> Option<AttrId> {
        let block = rib.attributes.get(attr);
        let next_hop = self.next_hop(block, family)?;
        let mut raw = Vec::new();
        // RFC 8654 §4: what does not fit is not told.
        self.rewrite(rib, source, block, operations).apply(block.raw, &mut raw).ok()?;
        Some(rib.attributes.intern(Block::made(Some(next_hop), &raw)))
    }

    /// Whether a path heard from `from` may be told to this group at all.
    fn may_hear(&self, from: &Neighbor, block: Block<'_>) -> bool {
        let marks = block.summary.marks;
        if marks.contains(Marks::NO_ADVERTISE) {
            return false; // RFC 1997
        }
        // RFC 9234 §5: what came from above goes down only.
        let marked = || block.attributes().only_to_customer().is_some();
        if self.role.is_some_and(Role::receives_from_above) && marked() {
            return false;
        }
        // RFC 9494 §4.3: who does not know the mark would take the path for a good one.
        if marks.contains(Marks::LLGR_STALE) && self.long_lived == LongLived::Unknown {
            return false;
        }
        match self.codec.peer {
            // RFC 1997.
            PeerKind::External => {
                !marks.contains(Marks::NO_EXPORT) && !marks.contains(Marks::NO_EXPORT_SUBCONFED)
            }
            PeerKind::Confederation => !marks.contains(Marks::NO_EXPORT_SUBCONFED),
            PeerKind::Internal => match from.kind {
                PeerKind::External | PeerKind::Confederation => true,
                // RFC 4456 §6: from a client to all, from others to clients.
                PeerKind::Internal => {
                    from.reflection == Reflection::Client || self.reflection == Reflection::Client
                }
            },
        }
    }

    /// The next hop, if there is one that the peers can read.
    fn next_hop(&self, block: Block<'_>, family: Family) -> Option<NextHop> {
        let keep = match (self.next_hop, self.codec.peer) {
            (NextHopMode::Keep, _) => true,
            (NextHopMode::Own, _) => false,
            (NextHopMode::Auto, kind) => kind.is_within(),
        };
        let own = self.own_next_hop[family.index()];
        let heard = block.next_hop.filter(|_| keep).and_then(beyond_link);
        let chosen = heard.or(own)?;
        let readable = match (family, chosen.addr()) {
            (Family::Ipv4, IpAddr::V6(_)) => self.codec.extended_next_hop.contains(family),
            (Family::Ipv6, IpAddr::V4(_)) => false,
            (Family::Ipv4, IpAddr::V4(_)) | (Family::Ipv6, IpAddr::V6(_)) => true,
        };
        readable.then_some(chosen)
    }

    fn rewrite(
        &self,
        rib: &Rib,
        source: PeerIndex,
        block: Block<'_>,
        operations: &[Operation],
    ) -> Rewrite {
        let mut rewrite = Rewrite::towards(self.codec.peer);
        rewrite.asn_width = self.codec.asn_width;
        match self.codec.peer {
            PeerKind::External => {
                // RFC 4271 §5.1.4: the MED of one neighbour means nothing to another.
                rewrite.med = if source == LOCAL { Edit::Keep } else { Edit::Remove };
                rewrite.replace_as = self.replace_as;
                rewrite.private = self.private;
            }
            // RFC 5065 §4: LOCAL_PREF and MED go on within the confederation.
            PeerKind::Internal | PeerKind::Confederation => {
                let local_pref = block.summary.local_pref.unwrap_or(DEFAULT_LOCAL_PREF);
                rewrite.local_pref = Edit::Set(local_pref);
            }
        }
        match self.codec.peer {
            PeerKind::Internal => rewrite.reflection = self.reflected(rib, source),
            PeerKind::Confederation => {
                let own = self.own_as.first().copied();
                rewrite.confederation = own.map_or(ConfedEdit::Keep, ConfedEdit::Prepend);
            }
            PeerKind::External => {}
        }
        operations.iter().for_each(|operation| operation.amend(&mut rewrite));
        if self.codec.peer == PeerKind::External {
            rewrite.prepend.splice(0..0, self.own_as.iter().copied()); // RFC 4271 §5.1.2
            let unmarked = block.attributes().only_to_customer().is_none();
            if unmarked && self.role.is_some_and(Role::marks) {
                // RFC 9234 §5.
                let shown = self.own_as.first().copied();
                rewrite.only_to_customer = shown.map_or(Edit::Keep, Edit::Set);
            }
        }
        rewrite
    }

    /// RFC 4456 §8, for a path from an internal peer.
    fn reflected(&self, rib: &Rib, source: PeerIndex) -> Option<wire::Reflection> {
        let neighbor = rib.neighbor(source);
        let cluster_id = self.cluster_id.filter(|_| source != LOCAL)?;
        (neighbor.kind == PeerKind::Internal)
            .then_some(wire::Reflection { originator_id: neighbor.router_id, cluster_id })
    }
}

/// A next hop as it may be told on another link: its link-local address means nothing there
/// (RFC 2545 §2).
fn beyond_link(next_hop: NextHop) -> Option<NextHop> {
    match next_hop {
        NextHop::V6(address) if address.is_unicast_link_local() => None,
        NextHop::V4(_) | NextHop::V6(_) => Some(next_hop),
        NextHop::V6WithLinkLocal { global, .. } => Some(NextHop::V6(global)),
    }
}
