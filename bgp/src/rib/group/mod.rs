//! Update groups: peers that are told the same, and the bytes that tell them.
//!
//! A group keeps once what it told its members (the Adj-RIB-Out of all of them), the prefixes that
//! changed since, and the encoded messages. Nothing is encoded before a member asks: a prefix that
//! changes its mind meanwhile is told once, with the last word. A prefix is never told to the peer
//! that it came from; that is a matter of who reads which message, not of another group.
//!
//! A member that joins late, lags behind or asks for a refresh gets a group of its own, with a
//! copy of what it was told, and returns to the others as soon as it has caught up.

mod batch;
mod conditions;
mod groups;
mod ring;
mod several;

pub(crate) use groups::Groups;

use bytes::Bytes;

use super::Rib;
use super::attribute::AttrId;
use super::export::{Advert, Memo, Policy};
use super::path::PeerIndex;
use super::prefix::PrefixId;
use super::queue::{PrefixQueue, PrefixSet};
use super::slab::Column;
use super::watch::{Change, Side, Topic, Watch};
use crate::wire::{self, Family, FamilySet, Prefix};
use batch::{Batch, Entry, Say};
use conditions::Conditions;
use ring::{Audience, Ring};
use several::Several;

/// Whether the group is the one that others with the same policy return to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Main,
    CatchingUp,
}

/// Peers that are told the same.
#[derive(Debug)]
struct Group {
    policy: Policy,
    /// Those of the policy's filter.
    conditions: Conditions,
    role: Role,
    told: Told,
    /// The same for families of which several paths are told.
    several: Several,
    /// Families of which more could be told than may be.
    held_back: FamilySet,
    pending: PrefixQueue,
    /// Of these, what is told is said once more even if it is what was told.
    again: PrefixSet,
    batch: Batch,
    ring: Ring,
}

/// The Adj-RIB-Out: per prefix the attributes told, and who was the source.
#[derive(Debug, Clone)]
struct Told {
    attrs: [Column<u32>; 2],
    sources: [Column<u16>; 2],
    /// By family.
    counts: [usize; 2],
    /// By family and source.
    by_source: [Vec<u32>; 2],
}

const NOTHING: u32 = u32::MAX;

impl Told {
    const fn new() -> Self {
        let attrs = [Column::new(NOTHING), Column::new(NOTHING)];
        let sources = [Column::new(0), Column::new(0)];
        Self { attrs, sources, counts: [0; 2], by_source: [Vec::new(), Vec::new()] }
    }

    fn get(&self, prefix: PrefixId) -> Option<Advert> {
        let (family, row) = (prefix.family().index(), prefix.row());
        let attr = self.attrs[family].get(row);
        let source = PeerIndex(self.sources[family].get(row));
        (attr != NOTHING).then_some(Advert { attr: AttrId(attr), source })
    }

    fn set(&mut self, prefix: PrefixId, advert: Option<Advert>) {
        let (family, row) = (prefix.family().index(), prefix.row());
        let (attr, source) =
            advert.map_or((NOTHING, PeerIndex(0)), |told| (told.attr.0, told.source));
        let before = self.attrs[family].replace(row, attr);
        let source_before = self.sources[family].replace(row, source.0);
        if before != NOTHING {
            self.counts[family] -= 1;
            self.by_source[family][usize::from(source_before)] -= 1;
        }
        if attr != NOTHING {
            let counts = &mut self.by_source[family];
            counts.resize(counts.len().max(usize::from(source.0) + 1), 0);
            counts[usize::from(source.0)] += 1;
            self.counts[family] += 1;
        }
    }

    fn count(&self) -> usize {
        self.counts.iter().sum()
    }

    /// How many prefixes there is room for, told or not any more.
    fn rows(&self) -> usize {
        self.attrs.iter().map(Column::rows).sum()
    }

    /// How many prefixes a member was told: all but its own.
    fn told_to(&self, peer: PeerIndex, family: Family) -> u64 {
        let counts = self.by_source[family.index()].iter().enumerate();
        let others = counts.filter(|(source, _)| *source != usize::from(peer.0));
        others.map(|(_, count)| u64::from(*count)).sum()
    }

    fn iter(&self, family: Family) -> impl Iterator<Item = (PrefixId, Advert)> {
        self.attrs[family.index()].iter().map(move |(row, attr)| {
            let source = PeerIndex(self.sources[family.index()].get(row));
            (PrefixId::new(family, row), Advert { attr: AttrId(attr), source })
        })
    }
}

/// How much one chunk of messages holds, about.
const CHUNK: usize = 32 * 1024;

impl Group {
    fn new(rib: &Rib, policy: Policy, role: Role) -> Self {
        Self {
            conditions: Conditions::new(&policy, rib),
            policy,
            role,
            told: Told::new(),
            several: Several::default(),
            held_back: FamilySet::EMPTY,
            pending: PrefixQueue::default(),
            again: PrefixSet::default(),
            batch: Batch::default(),
            ring: Ring::default(),
        }
    }

    /// Whether encoding more would leave too much behind for the slowest member: it is cheaper
    /// then to go on without it. Its own copy of the group costs some 20 octets per prefix that is
    /// told, or was; a whole table encoded takes less. By what is told alone the withdrawal of a table
    /// would be too much for everybody who has not had a turn yet.
    fn is_ring_full(&self) -> bool {
        self.ring.octets() >= (self.told.rows() * 16).max(256 * 1024)
    }

    /// Nothing waits to be encoded.
    fn is_idle(&self) -> bool {
        self.pending.is_empty() && self.batch.is_empty()
    }

    /// Nothing waits, and nothing will but what changes from now on.
    fn is_settled(&self) -> bool {
        self.is_idle() && !self.conditions.is_walking()
    }

    /// Whether what the group has told follows from its policy and the table alone. With a limit it
    /// also does from what came first.
    fn tells_all(&self) -> bool {
        self.is_settled() && self.held_back.is_empty()
    }

    /// Whether a new member would be told everything that the group will tell from now on.
    fn is_fresh(&self) -> bool {
        self.told.count() == 0 && self.several.is_empty() && self.batch.is_empty()
    }

    fn mark_all(&mut self, rib: &Rib) {
        self.policy.codec.families.iter().for_each(|family| self.mark_family(rib, family));
    }

    fn mark_family(&mut self, rib: &Rib, family: Family) {
        rib.prefixes.ids(family, 0).for_each(|prefix| self.pending.push(prefix));
        // A default route of our own making has no path in the table.
        if self.policy.default_route.is_originated() {
            let any = rib.prefixes.find(Prefix::default_of(family));
            any.into_iter().for_each(|prefix| self.pending.push(prefix));
        }
    }

    /// Looks at some of what a condition has changed for.
    fn walk(&mut self, rib: &Rib) {
        self.conditions.slice(rib).into_iter().for_each(|prefix| self.pending.push(prefix));
    }

    /// Encodes one more chunk, if there is anything to say.
    fn encode(&mut self, rib: &mut Rib) {
        if self.batch.is_empty() && !self.pending.is_empty() {
            self.form_batch(rib);
        }
        let Some(first) = self.batch.run().first().copied() else { return };
        let mut out = Vec::with_capacity(CHUNK + 4096);
        let mut messages = 0;
        while out.len() < CHUNK {
            let run = self.batch.run();
            if run.first().is_none_or(|entry| entry.audience != first.audience) {
                break;
            }
            let written = self.message(rib, &mut out);
            self.batch.advance(written);
            messages += 1;
        }
        out.shrink_to_fit();
        self.ring.push(ring::Chunk { audience: first.audience, bytes: Bytes::from(out), messages });
    }

    /// Appends one UPDATE for the front of the batch; says how many prefixes went in.
    fn message(&self, rib: &Rib, out: &mut Vec<u8>) -> usize {
        let run = self.batch.run();
        let (family, say) = (run[0].family(), run[0].say());
        let prefixes =
            || run.iter().map(|entry| (entry.identifier, rib.prefixes.prefix(entry.prefix)));
        let codec = &self.policy.codec;
        match say {
            Say::Withdraw => wire::withdraw(out, codec, family, prefixes()),
            Say::Announce(attr) => {
                let block = rib.attributes.get(attr);
                let next_hop = block.next_hop.expect("export always sets the next hop");
                // Prefixes for which attributes leave no room in a message cannot be told; what was told
                // before must not stand.
                wire::announce(out, codec, block.raw, next_hop, family, prefixes()).unwrap_or_else(
                    |error| wire::withdraw(out, codec, family, prefixes().take(error.prefixes)),
                )
            }
        }
    }

    /// Works out what has to be said about the prefixes that changed.
    fn form_batch(&mut self, rib: &mut Rib) {
        let mut memo = Memo::under(self.conditions.holding());
        // A withdrawal beside an announcement is rare: this seldom grows.
        let mut entries = Vec::with_capacity(self.pending.len());
        let mut released = Vec::new();
        while let Some(prefix) = self.pending.pop() {
            let emphasis = if self.again.remove(prefix) { Emphasis::Again } else { Emphasis::News };
            if self.policy.codec.add_path_send.contains(prefix.family()) {
                let mut new = self.policy.advertise_several(rib, &mut memo, prefix);
                if !new.is_empty() && !self.has_room(prefix) {
                    self.held_back.insert(prefix.family());
                    released.extend(new.drain(..).map(|(_, new)| new.attr));
                }
                let old = self.several.replace(prefix, new);
                let new = self.several.get(prefix);
                compare_several((prefix, emphasis), &old, new, |entry| entries.push(entry));
                released.extend(old.iter().map(|(_, old)| old.attr));
                continue;
            }
            let mut new = self.policy.advertise(rib, &mut memo, prefix);
            let old = self.told.get(prefix);
            if new.is_some() && !self.has_room(prefix) {
                self.held_back.insert(prefix.family());
                released.extend(new.take().map(|new| new.attr));
            }
            compare((prefix, emphasis), 0, old, new, |entry| entries.push(entry));
            self.told.set(prefix, new);
            released.extend(old.map(|old| old.attr));
        }
        // Only now: a set that is told again must keep its number meanwhile.
        released.into_iter().for_each(|attr| rib.attributes.release(attr));
        if rib.watch.out {
            self.note_entries(&mut rib.watch, &entries);
        }
        self.batch = Batch::new(entries);
        self.fill_room(rib);
    }

    /// Tells those who watch what is about to be said to whom.
    fn note_entries(&self, watch: &mut Watch, entries: &[Entry]) {
        for Entry { audience, prefix, identifier, .. } in entries.iter().copied() {
            for peer in self.ring.readers().filter(|peer| audience.includes(*peer)) {
                let topic = Topic { prefix, side: Side::Out(peer), identifier };
                watch.note(topic, Change::HAD_POST.and(Change::POST));
            }
        }
    }

    /// How many prefixes of a family are told.
    fn count(&self, family: Family) -> usize {
        if self.policy.codec.add_path_send.contains(family) {
            self.several.count(family)
        } else {
            self.told.counts[family.index()]
        }
    }

    /// Whether one more prefix may be told, or this one is told already.
    fn has_room(&self, prefix: PrefixId) -> bool {
        let Some(max) = self.policy.max_advertised else { return true };
        let told = self.told.get(prefix).is_some() || !self.several.get(prefix).is_empty();
        told || self.count(prefix.family()) < max.get() as usize
    }

    /// Where something was held back and there is room now, everything is looked at again.
    fn fill_room(&mut self, rib: &Rib) {
        let Some(max) = self.policy.max_advertised else { return };
        for family in self.held_back.iter() {
            if self.count(family) < max.get() as usize {
                self.held_back.remove(family);
                self.mark_family(rib, family);
            }
        }
    }

    /// Everything that is told, of all families.
    fn all_told(&self) -> impl Iterator<Item = (PrefixId, Advert)> {
        let families = Family::ALL.into_iter();
        families.flat_map(|family| self.told.iter(family).chain(self.several.iter(family)))
    }

    /// A group for one member alone, which was told the same.
    fn split(&mut self, rib: &mut Rib, peer: PeerIndex) -> Self {
        for (_, told) in self.all_told() {
            rib.attributes.retain(told.attr);
        }
        Self {
            policy: self.policy.clone(),
            conditions: self.conditions.clone(),
            role: Role::CatchingUp,
            told: self.told.clone(),
            several: self.several.clone(),
            held_back: self.held_back,
            pending: self.pending.clone(),
            again: self.again.clone(),
            batch: self.batch.clone(),
            ring: self.ring.split(peer),
        }
    }

    fn dissolve(self, rib: &mut Rib) {
        for (_, told) in self.all_told() {
            rib.attributes.release(told.attr);
        }
    }
}

/// What is worth saying.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Emphasis {
    /// What differs from what was told.
    News,
    /// All that is told.
    Again,
}

/// The same as [`compare`] for a prefix with several paths, each by its identifier.
fn compare_several(
    what: (PrefixId, Emphasis),
    old: &[(u32, Advert)],
    new: &[(u32, Advert)],
    mut emit: impl FnMut(Entry),
) {
    let find = |list: &[(u32, Advert)], wanted| {
        list.iter().find(|(identifier, _)| *identifier == wanted).map(|(_, advert)| *advert)
    };
    for (identifier, advert) in old {
        compare(what, *identifier, Some(*advert), find(new, *identifier), &mut emit);
    }
    for (identifier, advert) in new.iter().filter(|(each, _)| find(old, *each).is_none()) {
        compare(what, *identifier, None, Some(*advert), &mut emit);
    }
}

/// What has to be said about a prefix, and to whom. The source of a path is not told of it; the
/// source of the path before has therefore not heard of the prefix yet.
fn compare(
    (prefix, emphasis): (PrefixId, Emphasis),
    identifier: u32,
    old: Option<Advert>,
    new: Option<Advert>,
    mut emit: impl FnMut(Entry),
) {
    let mut say = |audience, say| {
        emit(Entry::new(audience, say, prefix, identifier));
    };
    match (old, new) {
        (None, None) => {}
        (Some(old), None) => say(Audience::Except(old.source), Say::Withdraw),
        (None, Some(new)) => say(Audience::Except(new.source), Say::Announce(new.attr)),
        (Some(old), Some(new)) if old == new && emphasis == Emphasis::News => {}
        (Some(old), Some(new)) => {
            if old.attr == new.attr && emphasis == Emphasis::News {
                say(Audience::Only(old.source), Say::Announce(new.attr));
            } else {
                say(Audience::Except(new.source), Say::Announce(new.attr));
            }
            if old.source != new.source {
                say(Audience::Only(new.source), Say::Withdraw);
            }
        }
    }
}
