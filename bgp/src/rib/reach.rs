//! Next hops that the node cannot reach (RFC 4271 §9.1.2): their paths are kept, and not chosen.

use std::collections::{BTreeSet, HashSet};
use std::net::IpAddr;

use foldhash::fast::FixedState;

use super::Rib;
use super::attribute::AttrId;
use super::best::Ineligible;
use super::path::{LOCAL, Path, PathId, Standing};
use super::prefix::PrefixId;
use crate::wire::Family;

/// See [`Rib::set_unreachable`].
pub(crate) type Unreachable = HashSet<IpAddr, FixedState>;

impl Rib {
    /// Takes over which next hops cannot be reached, and chooses again where that matters.
    pub(crate) fn set_unreachable(&mut self, next_hops: &BTreeSet<IpAddr>) {
        let new: Unreachable = next_hops.iter().copied().collect();
        let changed: Unreachable = self.unreachable.symmetric_difference(&new).copied().collect();
        if changed.is_empty() {
            return;
        }
        self.unreachable = new;
        for family in Family::ALL {
            let concerned = |prefix: &PrefixId| {
                let mut paths = self.paths.chain(&self.prefixes, *prefix);
                paths.any(|id| self.goes_by(self.paths.get(id).attr, &changed))
            };
            let prefixes: Vec<PrefixId> =
                self.prefixes.ids(family, 0).filter(|prefix| concerned(prefix)).collect();
            for prefix in prefixes {
                self.remember(prefix);
                self.select(prefix);
            }
        }
    }

    /// Whether a path may be chosen now: `deferred` says that no path of a peer may yet.
    pub(super) fn competes(&self, path: &Path, deferred: bool) -> bool {
        self.obstacle(path).is_none() && (!deferred || path.peer == LOCAL)
    }

    /// Why a path may not be chosen at all.
    pub(super) fn obstacle(&self, path: &Path) -> Option<Ineligible> {
        match path.standing {
            Standing::Ineligible(why) => Some(why),
            Standing::Unused | Standing::Multipath | Standing::Best => {
                self.goes_by(path.attr, &self.unreachable).then_some(Ineligible::UnreachableNextHop)
            }
        }
    }

    /// A path that may not be chosen is not in use any longer.
    pub(super) fn retire(&mut self, id: PathId) {
        let path = self.paths.get_mut(id);
        match path.standing {
            Standing::Ineligible(_) | Standing::Unused => {}
            Standing::Multipath | Standing::Best => path.standing = Standing::Unused,
        }
    }

    fn goes_by(&self, attr: AttrId, next_hops: &Unreachable) -> bool {
        let next_hop = || self.attributes.get(attr).next_hop;
        !next_hops.is_empty() && next_hop().is_some_and(|hop| next_hops.contains(&hop.addr()))
    }
}
