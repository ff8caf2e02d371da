//! What becomes of a path whose AS must not originate its prefix (RFC 6811), and judging again, in
//! slices, the paths to prefixes of which something else is known than before.

use std::net::SocketAddr;

use super::attribute::Block;
use super::path::{LOCAL, PathId};
use super::prefix::PrefixId;
use super::sweep::Progress;
use super::walk::PrefixWalk;
use super::{Neighbor, Rib, import};
use crate::rpki::{Affected, News, Validity, Vrps};
use crate::speaker::OriginValidation;
use crate::wire::{Family, PeerKind, Prefix};

/// Prefixes looked at in one slice; some milliseconds at most.
const SLICE: usize = if cfg!(test) { 3 } else { 2048 };

/// Who originates a route, and what follows if it must not.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Origin {
    asn: u32,
    pub(crate) policy: OriginValidation,
}

impl Origin {
    /// Whether its AS must not originate this prefix.
    pub(crate) fn is_invalid(self, rib: &Rib, prefix: Prefix) -> bool {
        rib.origins.validity(prefix, self.asn) == Validity::Invalid
    }
}

impl Neighbor {
    /// What becomes of paths whose origin is invalid. Over iBGP whoever heard the route from another AS
    /// has judged it.
    fn origin_policy(&self) -> OriginValidation {
        self.origin_validation.unwrap_or(match self.kind {
            PeerKind::External => OriginValidation::RejectInvalid,
            PeerKind::Internal | PeerKind::Confederation => OriginValidation::Off,
        })
    }
}

impl Rib {
    /// RFC 6811 §2: the last AS of the path, or our own as the world knows it. No path with a set gets
    /// here.
    fn origin_as(&self, block: Block<'_>) -> u32 {
        block.attributes().as_path().origin().unwrap_or(self.public_as)
    }

    /// The origin of a path, if it is to be judged. While no cache has told anything, none is.
    pub(crate) fn origin_to_judge(&self, neighbor: &Neighbor, block: Block<'_>) -> Option<Origin> {
        if self.origins.is_empty() {
            return None;
        }
        let policy = neighbor.origin_policy();
        match policy {
            OriginValidation::Off => None,
            OriginValidation::Mark | OriginValidation::RejectInvalid => {
                Some(Origin { asn: self.origin_as(block), policy })
            }
        }
    }

    /// What a path that was heard is worth, whatever follows from it.
    pub(crate) fn validity(&self, id: PathId) -> Option<Validity> {
        let path = self.paths.get(id);
        let prefix = path.prefix.filter(|_| path.peer != LOCAL)?;
        let received = self.attributes.get(self.paths.received(id));
        let origin = self.origin_as(received);
        Some(self.origins.validity(self.prefixes.prefix(prefix), origin))
    }
}

/// A walk over all prefixes that judges again the paths that something a cache says concerns. A change of
/// one payload costs a look at each prefix, and a judgement of the few that it covers.
#[derive(Debug)]
pub(crate) struct Revalidation {
    cause: Cause,
    walk: PrefixWalk,
}

/// What there is to be judged again.
#[derive(Debug)]
enum Cause {
    /// Paths to these prefixes.
    Changed(Affected),
    /// Paths of which the cache says something else than this.
    Replaced { cache: SocketAddr, before: Vrps },
}

impl Revalidation {
    /// After what a cache has said; `None` where nothing is to be done.
    pub(crate) fn new(rib: &Rib, cache: SocketAddr, news: News) -> Option<Self> {
        let mut families = Family::ALL.to_vec();
        let cause = match news {
            News::Changed(affected) => {
                families.retain(|family| affected.concern(*family));
                Cause::Changed(affected)
            }
            News::Replaced(before) => {
                let now = rib.origins.get(cache).map(Vrps::counts).unwrap_or_default();
                families.retain(|family| before.counts()[family.index()] + now[family.index()] > 0);
                Cause::Replaced { cache, before }
            }
        };
        let walk = PrefixWalk::through(families.into_iter().collect());
        (!walk.is_over()).then_some(Self { cause, walk })
    }

    /// Does a slice.
    pub(crate) fn advance(&mut self, rib: &mut Rib) -> Progress {
        for prefix in self.walk.slice(rib, SLICE) {
            self.cause.revalidate(rib, prefix);
        }
        if self.walk.is_over() { Progress::Done } else { Progress::More }
    }
}

impl Cause {
    fn revalidate(&self, rib: &mut Rib, id: PrefixId) {
        let prefix = rib.prefixes.prefix(id);
        match self {
            Self::Changed(affected) if !affected.cover(prefix) => return,
            Self::Changed(_) | Self::Replaced { .. } => {}
        }
        // The chain may change its order under way.
        let paths: Vec<PathId> = rib.paths.chain(&rib.prefixes, id).collect();
        for path in paths {
            let peer = rib.paths.get(path).peer;
            if peer != LOCAL
                && rib.neighbor(peer).origin_policy() != OriginValidation::Off
                && self.concerns(rib, prefix, path)
            {
                import::rejudge_as_it_is(rib, path);
            }
        }
    }

    /// Whether the cache says something else of this path than before. That other caches may have the
    /// last word, and that it may have changed its mind since, makes a judgement too many at worst: each
    /// change has a walk of its own, and they come in order.
    fn concerns(&self, rib: &Rib, prefix: Prefix, path: PathId) -> bool {
        match self {
            Self::Changed(_) => true,
            Self::Replaced { cache, before } => {
                let origin = rib.origin_as(rib.attributes.get(rib.paths.received(path)));
                let now = rib.origins.get(*cache).map(|now| now.validity(prefix, origin));
                now.unwrap_or(Validity::NotFound) != before.validity(prefix, origin)
            }
        }
    }
}
