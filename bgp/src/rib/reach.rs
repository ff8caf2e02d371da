//! What the node cannot reach (RFC 4271 §9.1.2): paths by there are kept, and not chosen.

use std::collections::{BTreeSet, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use foldhash::fast::FixedState;

use super::Rib;
use super::best::Ineligible;
use super::path::{LOCAL, Path, PathId, Standing};
use super::prefix::PrefixId;
use crate::wire::Family;

/// What the edge has found to lead nowhere. What is not mentioned counts as reachable.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unreachable {
    /// Next hops to which there is no way.
    pub next_hops: BTreeSet<IpAddr>,
    /// Interfaces that carry nothing: paths of the peers that are bound to them are of no use.
    pub interfaces: BTreeSet<Arc<str>>,
}

/// The same, as the table looks it up.
#[derive(Debug, Default)]
pub(super) struct Obstacles {
    next_hops: HashSet<IpAddr, FixedState>,
    interfaces: Vec<Arc<str>>,
}

impl Obstacles {
    fn is_empty(&self) -> bool {
        self.next_hops.is_empty() && self.interfaces.is_empty()
    }
}

impl Rib {
    /// Takes over what cannot be reached, and chooses again where that matters.
    pub(crate) fn set_unreachable(&mut self, unreachable: &Unreachable) {
        let new = Obstacles {
            next_hops: unreachable.next_hops.iter().copied().collect(),
            interfaces: unreachable.interfaces.iter().cloned().collect(),
        };
        let old = std::mem::replace(&mut self.obstacles, new);
        let changed = self.changed_since(&old);
        if changed.is_empty() {
            return;
        }
        for family in Family::ALL {
            let concerned = |prefix: &PrefixId| {
                let mut paths = self.paths.chain(&self.prefixes, *prefix);
                paths.any(|id| self.is_behind(self.paths.get(id), &changed))
            };
            let prefixes: Vec<PrefixId> =
                self.prefixes.ids(family, 0).filter(|prefix| concerned(prefix)).collect();
            for prefix in prefixes {
                self.remember(prefix);
                self.select(prefix);
            }
        }
    }

    /// What is an obstacle now or was one before, and not both. An interface that no peer is bound to
    /// is nobody's obstacle: the table need not be looked through for it.
    fn changed_since(&self, old: &Obstacles) -> Obstacles {
        let new = &self.obstacles;
        let matters = |link: &Arc<str>| {
            old.interfaces.contains(link) != new.interfaces.contains(link)
                && self.neighbors.iter().any(|peer| peer.interface.as_ref() == Some(link))
        };
        let links = old.interfaces.iter().chain(&new.interfaces);
        Obstacles {
            next_hops: old.next_hops.symmetric_difference(&new.next_hops).copied().collect(),
            interfaces: links.filter(|link| matters(link)).cloned().collect(),
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
                self.is_behind(path, &self.obstacles).then_some(Ineligible::UnreachableNextHop)
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

    fn is_behind(&self, path: &Path, obstacles: &Obstacles) -> bool {
        if obstacles.is_empty() {
            return false;
        }
        let Obstacles { next_hops, interfaces } = obstacles;
        let next_hop = self.attributes.get(path.attr).next_hop;
        let link = self.neighbor(path.peer).interface.as_ref();
        next_hop.is_some_and(|hop| next_hops.contains(&hop.addr()))
            || link.is_some_and(|link| interfaces.contains(link))
    }
}
