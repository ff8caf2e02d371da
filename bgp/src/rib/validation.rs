//! What becomes of a path whose AS must not originate its prefix (RFC 6811), and judging again, in
//! slices, the paths to prefixes of which something else is known than before.

use super::attribute::Block;
use super::path::{LOCAL, PathId};
use super::prefix::PrefixId;
use super::sweep::Progress;
use super::{Neighbor, Rib, import};
use crate::rpki::{Affected, Change, Effect, Validity, Vrp};
use crate::speaker::OriginValidation;
use crate::wire::{Family, PeerKind, Prefix};

/// Prefixes looked at in one slice; some milliseconds at most.
const SLICE: usize = 8192;

/// Who originates a route, and what follows if it must not.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Origin {
    asn: u32,
    pub(crate) policy: OriginValidation,
}

impl Origin {
    /// Whether its AS must not originate this prefix.
    pub(crate) fn is_invalid(self, rib: &Rib, prefix: Prefix) -> bool {
        rib.vrps.validity(prefix, self.asn) == Validity::Invalid
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
        if self.vrps.is_empty() {
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
        Some(self.vrps.validity(self.prefixes.prefix(prefix), origin))
    }

    /// Takes in what a cache says now and did not before; gives the prefixes that it matters to.
    pub(crate) fn learn_origins(&mut self, changes: &[(Change, Vrp)]) -> Affected {
        let mut affected = Affected::default();
        for (change, vrp) in changes {
            let effect = match change {
                Change::Announced => self.vrps.announce(*vrp),
                Change::Withdrawn => self.vrps.withdraw(*vrp),
            };
            match effect {
                Effect::Changed => affected.insert(vrp.prefix),
                Effect::None => {}
            }
        }
        affected
    }
}

/// A walk over all prefixes that judges again the paths to those affected. A change of one payload costs a
/// look at each prefix, and a judgement of the few that it covers.
#[derive(Debug)]
pub(crate) struct Revalidation {
    affected: Affected,
    families: Vec<Family>,
    /// The next row of the last family.
    at: u32,
}

impl Revalidation {
    /// `None` where nothing is to be done.
    pub(crate) fn new(affected: Affected) -> Option<Self> {
        let families: Vec<Family> =
            Family::ALL.into_iter().filter(|family| affected.concern(*family)).collect();
        (!affected.is_empty()).then_some(Self { affected, families, at: 0 })
    }

    /// Does a slice.
    pub(crate) fn advance(&mut self, rib: &mut Rib) -> Progress {
        let Some(family) = self.families.last() else { return Progress::Done };
        let slice: Vec<PrefixId> = rib.prefixes.ids(*family, self.at).take(SLICE).collect();
        match slice.last() {
            Some(last) if slice.len() == SLICE => self.at = last.row() + 1,
            Some(_) | None => {
                self.families.pop();
                self.at = 0;
            }
        }
        for prefix in slice {
            if self.affected.cover(rib.prefixes.prefix(prefix)) {
                revalidate(rib, prefix);
            }
        }
        if self.families.is_empty() { Progress::Done } else { Progress::More }
    }
}

fn revalidate(rib: &mut Rib, prefix: PrefixId) {
    // The chain may change its order under way.
    let paths: Vec<PathId> = rib.paths.chain(&rib.prefixes, prefix).collect();
    for id in paths {
        let peer = rib.paths.get(id).peer;
        if peer != LOCAL && rib.neighbor(peer).origin_policy() != OriginValidation::Off {
            import::rejudge_as_it_is(rib, id);
        }
    }
}
