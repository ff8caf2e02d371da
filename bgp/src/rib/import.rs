//! From what a peer sent to what may be chosen: loops, then the import filter.

use crate::rib::attribute::{AttrId, AttributeStore, Block};
use crate::rib::best::Ineligible;
use crate::rib::filter::{Holding, Operation, Source, Subject};
use crate::rib::links::LinkTable;
use crate::rib::path::{LOCAL, PathId, PeerIndex};
use crate::rib::validation::Origin;
use crate::rib::{Neighbor, Rib};
use crate::speaker::OriginValidation;
use crate::wire::{Edit, Marks, PeerKind, Prefix, Rewrite, Summary, iana};

/// The import of one attribute set from one peer: judged once as far as the prefix does not matter.
#[derive(Debug)]
pub(crate) struct Import {
    peer: PeerIndex,
    pub(crate) received: AttrId,
    barred: Option<Ineligible>,
    age: Age,
    /// Who originates it, and what follows if it must not; `None` where nobody asks.
    origin: Option<Origin>,
    /// What the sets of operations met so far made of `received`; few, mostly one.
    changed: Vec<(Vec<Operation>, Rank, AttrId)>,
}

/// Where a path that may be chosen stands among the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rank {
    AsTold,
    /// LOCAL_PREF 0.
    Last,
}

/// Whether a path still counts, or is only kept for want of a better one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Age {
    /// It counts.
    Current,
    /// RFC 9494 §4.2: the peer has been away for longer than its restart time.
    LongLivedStale,
}

impl Import {
    /// Takes over the caller's use of `received`.
    pub(crate) fn new(rib: &Rib, peer: PeerIndex, received: AttrId, age: Age) -> Self {
        let neighbor = rib.neighbor(peer);
        let block = rib.attributes.get(received);
        let barred = barred(rib, neighbor, block);
        let origin = rib.origin_to_judge(neighbor, block);
        Self { peer, received, barred, age, origin, changed: Vec::new() }
    }

    /// What becomes of a path to `prefix` with these attributes. The result stays alive until
    /// [`Self::finish`].
    pub(crate) fn judge(&mut self, rib: &mut Rib, prefix: Prefix) -> Result<AttrId, Ineligible> {
        if let Some(why) = self.barred {
            return Err(why);
        }
        let invalid = self.origin.filter(|origin| origin.is_invalid(rib, prefix));
        let rank = match invalid.map(|origin| origin.policy) {
            None | Some(OriginValidation::Off) => Rank::AsTold,
            Some(OriginValidation::Mark) => Rank::Last,
            Some(OriginValidation::RejectInvalid) => return Err(Ineligible::OriginInvalid),
        };
        let Rib { neighbors, attributes, links, .. } = rib;
        let neighbor = &neighbors[usize::from(self.peer.0)];
        let block = attributes.get(self.received);
        let Some(operations) = neighbor.import.evaluate(subject(neighbor, links, prefix, block))
        else {
            return Err(Ineligible::Filtered);
        };
        // RFC 8326 §4: a path that is about to go away is the last one to choose.
        let leaving = neighbor.kind == PeerKind::External
            && block.summary.marks.contains(Marks::GRACEFUL_SHUTDOWN);
        let rank = if leaving { Rank::Last } else { rank };
        // An AS between us and an external peer that is only for show (local-as).
        let prepend = neighbor.prepend.filter(|_| neighbor.kind == PeerKind::External);
        let stale = self.age == Age::LongLivedStale;
        // RFC 9234 §5: what comes from above is marked, if the peer has not done so.
        let from_above = neighbor.role.filter(|(role, _)| role.receives_from_above());
        let mark = from_above.filter(|_| block.attributes().only_to_customer().is_none());
        let as_told = rank == Rank::AsTold && !stale && prepend.is_none() && mark.is_none();
        if operations.is_empty() && as_told {
            return Ok(self.received);
        }
        let same = |(done, at, _): &&(Vec<_>, Rank, AttrId)| done == operations && *at == rank;
        if let Some((_, _, id)) = self.changed.iter().find(same) {
            return Ok(*id);
        }
        let mut rewrite = Rewrite::towards(PeerKind::Internal);
        operations.iter().for_each(|operation| operation.amend(&mut rewrite));
        match rank {
            Rank::AsTold => {}
            Rank::Last => rewrite.local_pref = Edit::Set(0),
        }
        if stale {
            rewrite.communities.add.push(iana::community::LLGR_STALE);
        }
        rewrite.prepend.extend(prepend);
        rewrite.only_to_customer = mark.map_or(Edit::Keep, |(_, remote_as)| Edit::Set(remote_as));
        let operations = operations.to_vec();
        let id = rewritten(attributes, self.received, &rewrite)?;
        self.changed.push((operations, rank, id));
        Ok(id)
    }

    /// Lets go of all attribute sets.
    pub(crate) fn finish(self, rib: &mut Rib) {
        let changed = self.changed.into_iter().map(|(_, _, id)| id);
        changed.chain([self.received]).for_each(|id| rib.attributes.release(id));
    }
}

/// Judges all paths of a peer again, after its filter changed.
pub(crate) fn reimport(rib: &mut Rib, peer: PeerIndex) {
    reimport_where(rib, |rib, id| rib.paths.get(id).peer == peer);
}

/// Judges the paths again that came by a cluster, after ours changed.
pub(crate) fn reimport_clustered(rib: &mut Rib) {
    reimport_where(rib, |rib, id| {
        let internal = rib.neighbor(rib.paths.get(id).peer).kind == PeerKind::Internal;
        let received = rib.attributes.get(rib.paths.received(id));
        internal && received.summary.cluster_list_length > 0
    });
}

fn reimport_where(rib: &mut Rib, concerns: impl Fn(&Rib, PathId) -> bool) {
    for id in (0..rib.paths.bound()).map(PathId) {
        if rib.paths.get(id).prefix.is_some() && concerns(rib, id) {
            rejudge_as_it_is(rib, id);
        }
    }
}

/// Judges a path of a peer again.
pub(crate) fn rejudge_as_it_is(rib: &mut Rib, id: PathId) {
    let path = *rib.paths.get(id);
    let long_lived = path.prefix.is_some_and(|prefix| {
        rib.neighbor(path.peer).long_lived.contains(prefix.family()) && rib.is_stale(&path)
    });
    rejudge(rib, id, if long_lived { Age::LongLivedStale } else { Age::Current });
}

/// RFC 9494 §4.2: a stale path is kept for longer, marked, unless it must not be.
pub(crate) fn mark_long_lived(rib: &mut Rib, id: PathId) {
    let received = rib.attributes.get(rib.paths.received(id));
    if received.summary.marks.contains(Marks::NO_LLGR) {
        rib.remove(id);
    } else {
        rejudge(rib, id, Age::LongLivedStale);
    }
}

fn rejudge(rib: &mut Rib, id: PathId, age: Age) {
    let path = *rib.paths.get(id);
    let prefix = rib.prefixes.prefix(path.prefix.expect("a path in a chain has a prefix"));
    let received = rib.paths.received(id);
    rib.attributes.retain(received);
    let mut import = Import::new(rib, path.peer, received, age);
    let judged = import.judge(rib, prefix);
    rib.reimport(id, received, judged);
    import.finish(rib);
}

/// Interns an edited copy of a set, with the same next hop.
fn rewritten(
    attributes: &mut AttributeStore,
    id: AttrId,
    rewrite: &Rewrite,
) -> Result<AttrId, Ineligible> {
    let block = attributes.get(id);
    let mut raw = Vec::new();
    rewrite.apply(block.raw, &mut raw).map_err(|_| Ineligible::AttributeTooLong)?;
    let next_hop = block.next_hop;
    Ok(attributes.intern(Block::made(next_hop, &raw)))
}

/// A path of a peer as its import filter sees it.
pub(crate) fn subject<'a>(
    neighbor: &'a Neighbor,
    links: &'a LinkTable,
    prefix: Prefix,
    attributes: Block<'a>,
) -> Subject<'a> {
    Subject {
        prefix,
        source: Source::RemotePeers,
        link: links.to_peer(neighbor),
        peer_kind: neighbor.kind,
        attributes,
        holding: Holding::Unknown,
    }
}

/// Why no prefix with these attributes may be chosen.
fn barred(rib: &Rib, neighbor: &Neighbor, block: Block<'_>) -> Option<Ineligible> {
    let attributes = block.attributes();
    // RFC 4271 §9.1.2: own AS in the path means a loop, unless the operator allows some. RFC 5065 §4:
    // so do the Member-AS Number and the identifier of a confederation, looked for in all segments.
    let ours = [neighbor.local_as, rib.neighbor(LOCAL).local_as, rib.public_as];
    let own = attributes.as_path().occurrences(&ours);
    let reflected = block.summary.originator_id == Some(rib.router_id)
        || rib.cluster_id.is_some_and(|own| attributes.cluster_list().any(|id| id == own));
    let to_us = neighbor.own_address.is_some()
        && block.next_hop.map(crate::wire::NextHop::addr) == neighbor.own_address;
    let leaked = neighbor.role.is_some_and(|(role, remote_as)| {
        attributes.only_to_customer().is_some_and(|mark| role.is_leak(mark, remote_as))
    });
    if leaked {
        Some(Ineligible::RouteLeak)
    } else if own > usize::from(neighbor.allow_own_as) {
        Some(Ineligible::AsLoop)
    } else if reflected {
        Some(Ineligible::ReflectionLoop)
    } else if to_us {
        Some(Ineligible::OwnNextHop)
    } else {
        None
    }
}

/// The summary of a canonical block that we made ourselves.
pub(crate) fn summarize(raw: &[u8]) -> Summary {
    let attributes = crate::wire::Attributes::new(raw);
    let path = attributes.as_path();
    let marks = attributes.communities().map(Marks::of);
    Summary {
        med: attributes.med(),
        local_pref: attributes.local_pref(),
        first_as: path.asns().next().unwrap_or(0),
        originator_id: attributes.originator_id(),
        as_path_length: u16::try_from(path.length()).unwrap_or(u16::MAX),
        confederation_length: u8::try_from(path.confederation().count()).unwrap_or(u8::MAX),
        cluster_list_length: u8::try_from(attributes.cluster_list().count()).unwrap_or(u8::MAX),
        origin: attributes.origin(),
        marks: marks.fold(Marks::default(), Marks::union),
    }
}
