//! The routing table: what peers told us, what we chose, what we tell others.
//!
//! ```text
//! UPDATE -> import (filter, loops) -> Paths, chained per prefix -> best (rank) -> changed prefixes
//!                                                             +--> groups (export) -> UPDATEs
//!                                                             +--> routes for the node
//! ```
//!
//! A path is stored once; the chain of a prefix is the Adj-RIB-In of all peers, its head the
//! Loc-RIB. Rejected paths stay in the chain, so that a filter can change its mind without asking
//! the peer again. No I/O, no clock, no session in here.

pub(crate) mod attribute;
pub(crate) mod best;
pub(crate) mod export;
pub mod filter;
pub(crate) mod group;
pub(crate) mod import;
mod index;
pub(crate) mod links;
pub(crate) mod path;
pub(crate) mod prefix;
pub(crate) mod queue;
pub(crate) mod reach;
pub(crate) mod slab;
pub(crate) mod sweep;
pub(crate) mod validation;
mod walk;
pub(crate) mod watch;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use crate::rpki::Origins;
use crate::speaker::{Chosen, OriginValidation, Reflection, Role};
use crate::wire::{Family, FamilySet, Marks, PeerKind, Prefix};
use attribute::{AttrId, AttributeStore};
use best::{Contender, Ineligible, Limits, Outcome, Source};
use filter::Lookup;
use links::LinkTable;
use path::{LOCAL, Path, PathId, Paths, PeerIndex, Standing};
use prefix::{PrefixId, Prefixes};
use queue::PrefixQueue;
use reach::Obstacles;
use watch::Watch;

/// What the table knows of a peer.
#[derive(Debug, Clone)]
pub(crate) struct Neighbor {
    pub(crate) kind: PeerKind,
    pub(crate) router_id: Ipv4Addr,
    pub(crate) address: IpAddr,
    /// Our address on the session, which is no next hop for us.
    pub(crate) own_address: Option<IpAddr>,
    /// The AS that we are in this peer's eyes.
    pub(crate) local_as: u32,
    /// Put before the paths that the peer tells.
    pub(crate) prepend: Option<u32>,
    pub(crate) allow_own_as: u8,
    /// What we are to an external peer (RFC 9234), and its AS number while there is a session.
    pub(crate) role: Option<(Role, u32)>,
    /// What becomes of paths whose origin is invalid; `None`: what is customary for the kind of session.
    pub(crate) origin_validation: Option<OriginValidation>,
    pub(crate) reflection: Reflection,
    pub(crate) interface: Option<Arc<str>>,
    pub(crate) import: Lookup,
    pub(crate) export: Lookup,
    /// Counts, per family, how often the peer has begun to tell its routes anew, modulo 256: older
    /// paths are stale.
    pub(crate) generation: [u8; 2],
    /// Families whose stale paths are kept beyond the restart time (RFC 9494).
    pub(crate) long_lived: FamilySet,
    /// Paths in the table, per family.
    pub(crate) paths: [u32; 2],
}

/// The most paths to one prefix that are taken from one peer (RFC 7911), those that are stale not
/// counted: one more than can be used together. What one path costs grows with those beside it, and a
/// peer could tell thousands in one message.
pub(crate) const PATHS_TO_PREFIX: usize = 256;

/// Where a path of a peer belongs among those to a prefix.
enum Slot {
    /// There is one with its identifier.
    Taken(PathId),
    Free,
    /// There are as many as may be.
    Crowded,
}

/// The routing table of both families.
#[derive(Debug)]
pub(crate) struct Rib {
    pub(crate) prefixes: Prefixes,
    pub(crate) paths: Paths,
    pub(crate) attributes: AttributeStore,
    /// By [`PeerIndex`]; the first is ourselves.
    pub(crate) neighbors: Vec<Neighbor>,
    pub(crate) limits: Limits,
    pub(crate) router_id: Ipv4Addr,
    /// The AS that we are to the world: our own, or our confederation.
    pub(crate) public_as: u32,
    pub(crate) cluster_id: Option<Ipv4Addr>,
    /// Families of which no path of a peer may be chosen yet (RFC 4724 §4.1).
    pub(crate) deferred: FamilySet,
    /// Prefixes whose best path changed since they were last taken out.
    pub(crate) best_changed: PrefixQueue,
    /// Who may originate what, as far as that is known.
    pub(crate) origins: Origins,
    /// What the node cannot reach.
    obstacles: Obstacles,
    /// Through which interface what can be reached is.
    pub(crate) links: LinkTable,
    /// Any change of a path counts as one of the best: some peers are told several.
    pub(crate) every_path_counts: bool,
    /// Prefixes whose next hops changed since they were last taken out, if anybody does.
    pub(crate) hops_changed: PrefixQueue,
    /// Changes of single paths, if anybody wants to know.
    pub(crate) watch: Watch,
    /// How many prefixes have a best path, per family.
    pub(crate) loc_rib: [u32; 2],
    chosen: Chosen,
    /// Prefixes that lost their last path; they keep their number until everybody was told.
    pub(crate) orphans: Vec<PrefixId>,
    contenders: Vec<Contender<PathId>>,
    order: Vec<PathId>,
    used_before: Vec<(PathId, AttrId)>,
}

impl Rib {
    /// An empty table. `own` stands for ourselves among the neighbours.
    pub(crate) fn new(own: Neighbor, limits: Limits, chosen: Chosen, seed: u64) -> Self {
        Self {
            prefixes: Prefixes::new(seed),
            paths: Paths::new(seed),
            attributes: AttributeStore::new(seed),
            router_id: own.router_id,
            public_as: own.local_as,
            neighbors: vec![own],
            limits,
            cluster_id: None,
            deferred: FamilySet::EMPTY,
            best_changed: PrefixQueue::default(),
            origins: Origins::default(),
            obstacles: Obstacles::default(),
            links: LinkTable::default(),
            every_path_counts: false,
            hops_changed: PrefixQueue::default(),
            watch: Watch::default(),
            loc_rib: [0; 2],
            chosen,
            orphans: Vec::new(),
            contenders: Vec::new(),
            order: Vec::new(),
            used_before: Vec::new(),
        }
    }

    pub(crate) fn neighbor(&self, peer: PeerIndex) -> &Neighbor {
        &self.neighbors[usize::from(peer.0)]
    }

    pub(crate) fn neighbor_mut(&mut self, peer: PeerIndex) -> &mut Neighbor {
        &mut self.neighbors[usize::from(peer.0)]
    }

    /// Adds or replaces a path. `received` is what the peer sent, `imported` what import made of
    /// it; the table takes its own uses of both. False when nothing was done, as the peer has told
    /// [`PATHS_TO_PREFIX`] others.
    pub(crate) fn announce(
        &mut self,
        peer: PeerIndex,
        identifier: u32,
        prefix: Prefix,
        received: AttrId,
        imported: Result<AttrId, Ineligible>,
    ) -> bool {
        let generation = self.neighbor(peer).generation[prefix.family().index()];
        let prefix = self.prefixes.find_or_insert(prefix);
        match self.slot(prefix, peer, identifier, generation) {
            Slot::Crowded => return false,
            Slot::Taken(id) => {
                self.paths.get_mut(id).generation = generation;
                self.reimport(id, received, imported);
            }
            Slot::Free => {
                self.remember(prefix);
                let attr = self.attributes.retain(imported.unwrap_or(received));
                let standing = imported.err().map_or(Standing::Unused, Standing::Ineligible);
                let path = Path::new(prefix, attr, peer, generation, standing);
                let id = self.paths.insert(&mut self.prefixes, path, identifier);
                self.neighbor_mut(peer).paths[prefix.family().index()] += 1;
                if attr != received {
                    self.paths.set_received(id, Some(self.attributes.retain(received)));
                }
                if self.watch.paths {
                    self.note_new(id);
                }
                self.select(prefix);
            }
        }
        true
    }

    fn slot(&self, prefix: PrefixId, peer: PeerIndex, identifier: u32, generation: u8) -> Slot {
        let (mut current, mut all) = (0, 0);
        for id in self.paths.chain(&self.prefixes, prefix) {
            let path = self.paths.get(id);
            if path.peer != peer {
                continue;
            }
            if self.paths.identifier(id) == identifier {
                return Slot::Taken(id);
            }
            current += usize::from(path.generation == generation);
            all += 1;
        }
        // A peer that has restarted may call the same paths by other identifiers.
        if current < PATHS_TO_PREFIX && all < 2 * PATHS_TO_PREFIX {
            Slot::Free
        } else {
            Slot::Crowded
        }
    }

    /// Gives a path new attributes, or a new judgement of the old ones.
    pub(crate) fn reimport(
        &mut self,
        id: PathId,
        received: AttrId,
        imported: Result<AttrId, Ineligible>,
    ) {
        let attr = imported.unwrap_or(received);
        let old = *self.paths.get(id);
        let was = match old.standing {
            Standing::Ineligible(why) => Some(why),
            Standing::Unused | Standing::Multipath | Standing::Best => None,
        };
        let same_received = self.paths.received(id) == received;
        if same_received && old.attr == attr && was == imported.err() {
            return;
        }
        let prefix = old.prefix.expect("a path in a chain has a prefix");
        if self.watch.paths {
            self.note_again(id, received, imported);
        }
        self.remember(prefix);
        // The new uses before the old ones go: a set that both share must not vanish in between.
        self.attributes.retain(attr);
        let noted = (attr != received).then(|| self.attributes.retain(received));
        if let Some(noted_before) = self.paths.set_received(id, noted) {
            self.attributes.release(noted_before);
        }
        self.attributes.release(old.attr);
        let path = self.paths.get_mut(id);
        path.attr = attr;
        path.standing = imported.err().map_or(Standing::Unused, Standing::Ineligible);
        self.select(prefix);
    }

    /// Removes a path, if it is there.
    pub(crate) fn withdraw(&mut self, peer: PeerIndex, identifier: u32, prefix: Prefix) {
        let Some(prefix) = self.prefixes.find(prefix) else { return };
        if let Some(id) = self.paths.find(&self.prefixes, prefix, peer, identifier) {
            self.remove(id);
        }
    }

    /// Removes a path that is there.
    pub(crate) fn remove(&mut self, id: PathId) {
        let prefix = self.paths.get(id).prefix.expect("a path in a chain has a prefix");
        if self.watch.paths {
            self.note_gone(id);
        }
        self.remember(prefix);
        let (path, received) = self.paths.remove(&mut self.prefixes, id);
        self.neighbor_mut(path.peer).paths[prefix.family().index()] -= 1;
        self.attributes.release(path.attr);
        if let Some(received) = received {
            self.attributes.release(received);
        }
        self.select(prefix);
        if self.prefixes.head(prefix) == prefix::NONE {
            self.orphans.push(prefix);
        }
    }

    /// Whether a path was told before the peer last began to tell its routes anew.
    pub(crate) fn is_stale(&self, path: &Path) -> bool {
        path.prefix.is_some_and(|prefix| {
            path.generation != self.neighbor(path.peer).generation[prefix.family().index()]
        })
    }

    /// The best path.
    pub(crate) fn best(&self, prefix: PrefixId) -> Option<&Path> {
        self.used(prefix).next().map(|id| self.paths.get(id))
    }

    /// The paths in use, the best first.
    pub(crate) fn used(&self, prefix: PrefixId) -> impl Iterator<Item = PathId> {
        self.paths.chain(&self.prefixes, prefix).take_while(|id| {
            matches!(self.paths.get(*id).standing, Standing::Best | Standing::Multipath)
        })
    }

    /// Chooses again for each prefix of a family.
    pub(crate) fn select_all(&mut self, family: Family) {
        let all: Vec<PrefixId> = self.prefixes.ids(family, 0).collect();
        for prefix in all {
            self.remember(prefix);
            self.select(prefix);
        }
    }

    /// Forgets prefixes without paths, except where `told` says that somebody has yet to hear.
    pub(crate) fn forget_orphans(&mut self, told: impl Fn(PrefixId) -> bool) {
        let mut orphans = std::mem::take(&mut self.orphans);
        orphans.sort_unstable();
        orphans.dedup();
        orphans.retain(|id| {
            let alive = self.prefixes.head(*id) != prefix::NONE;
            let wanted = self.best_changed.contains(*id) || self.hops_changed.contains(*id);
            if alive || wanted || told(*id) {
                return !alive;
            }
            self.prefixes.remove(*id);
            false
        });
        self.orphans = orphans;
    }

    /// Notes which paths of the prefix are in use; to be called before anything changes.
    fn remember(&mut self, prefix: PrefixId) {
        let mut used = std::mem::take(&mut self.used_before);
        used.clear();
        used.extend(self.used(prefix).map(|id| (id, self.paths.get(id).attr)));
        self.used_before = used;
    }

    /// The best `count` paths of a prefix, in order: each is what would be chosen without those
    /// before it.
    pub(crate) fn best_paths(&mut self, prefix: PrefixId, count: usize) -> Vec<PathId> {
        self.contend(prefix, self.deferred.contains(prefix.family()));
        let mut paths = Vec::new();
        while paths.len() < count && !self.contenders.is_empty() {
            best::rank(&mut self.contenders, self.limits);
            paths.push(self.contenders.remove(0).path);
        }
        paths
    }

    /// Runs the decision for one prefix and notes what changed since [`Self::remember`].
    fn select(&mut self, prefix: PrefixId) {
        let deferred = self.deferred.contains(prefix.family());
        if self.select_alone(prefix, deferred) {
            return self.note_changes(prefix);
        }
        self.contend(prefix, deferred);
        best::judge(&mut self.contenders, self.limits);
        self.order.clear();
        for contender in &self.contenders {
            self.order.push(contender.path);
            self.paths.get_mut(contender.path).standing = match contender.outcome {
                Outcome::Best => Standing::Best,
                Outcome::Multipath => Standing::Multipath,
                Outcome::Lost(_) => Standing::Unused,
            };
        }
        let judged = self.order.len();
        let mut order = std::mem::take(&mut self.order);
        let rest = self.paths.chain(&self.prefixes, prefix);
        order.extend(rest.filter(|id| !self.competes(self.paths.get(*id), deferred)));
        order[judged..].iter().for_each(|id| self.retire(*id));
        let used = self.contenders.iter().filter(|contender| contender.outcome.is_used()).count();
        let head = self.paths.chain(&self.prefixes, prefix).take(used);
        if !head.eq(order[..used].iter().copied()) {
            self.paths.relink(&mut self.prefixes, prefix, &order);
        }
        order.truncate(judged);
        self.order = order;
        self.note_changes(prefix);
    }

    /// Most prefixes have one path, or none: then there is nothing to compare.
    fn select_alone(&mut self, prefix: PrefixId, deferred: bool) -> bool {
        let Some(id) = self.paths.chain(&self.prefixes, prefix).next() else { return true };
        if !self.paths.is_last(id) {
            return false;
        }
        if self.competes(self.paths.get(id), deferred) {
            self.paths.get_mut(id).standing = Standing::Best;
        } else {
            self.retire(id);
        }
        true
    }

    fn note_changes(&mut self, prefix: PrefixId) {
        let mut used = self.used(prefix).map(|id| (id, self.paths.get(id).attr));
        let best = used.next();
        let same_best = best == self.used_before.first().copied();
        let same_rest = used.eq(self.used_before.iter().skip(1).copied());
        if !same_best || self.every_path_counts {
            self.best_changed.push(prefix);
        }
        if !same_best {
            self.note_best(prefix, best.is_some());
        }
        let hops_changed = !same_best || !same_rest;
        if hops_changed && self.chosen == Chosen::Told {
            self.hops_changed.push(prefix);
        }
    }

    /// Collects the paths that may be chosen.
    fn contend(&mut self, prefix: PrefixId, deferred: bool) {
        let mut contenders = std::mem::take(&mut self.contenders);
        contenders.clear();
        for id in self.paths.chain(&self.prefixes, prefix) {
            if self.competes(self.paths.get(id), deferred) {
                contenders.push(self.contender(id));
            }
        }
        self.contenders = contenders;
    }

    fn contender(&self, id: PathId) -> Contender<PathId> {
        let path = self.paths.get(id);
        let summary = self.attributes.get(path.attr).summary;
        let neighbor = self.neighbor(path.peer);
        Contender {
            path: id,
            source: if path.peer == LOCAL { Source::Local } else { neighbor.kind.into() },
            long_lived_stale: summary.marks.contains(Marks::LLGR_STALE),
            local_pref: summary.local_pref.unwrap_or(best::DEFAULT_LOCAL_PREF),
            as_path_length: summary.as_path_length,
            confederation_length: summary.confederation_length,
            origin: summary.origin,
            first_as: summary.first_as,
            med: summary.med.unwrap_or(0),
            router_id: summary.originator_id.unwrap_or(neighbor.router_id),
            cluster_list_length: summary.cluster_list_length,
            peer: neighbor.address,
            identifier: self.paths.identifier(id),
            outcome: Outcome::Best,
        }
    }

    /// What became of each path of a prefix, the best first; for those who ask why.
    pub(crate) fn explain(&self, prefix: PrefixId) -> Vec<(PathId, Result<Outcome, Ineligible>)> {
        let mut contenders = Vec::new();
        let mut others = Vec::new();
        for id in self.paths.chain(&self.prefixes, prefix) {
            match self.obstacle(self.paths.get(id)) {
                Some(why) => others.push((id, Err(why))),
                None => contenders.push(self.contender(id)),
            }
        }
        best::rank(&mut contenders, self.limits);
        contenders.into_iter().map(|c| (c.path, Ok(c.outcome))).chain(others).collect()
    }
}
