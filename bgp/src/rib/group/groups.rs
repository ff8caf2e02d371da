//! All groups: who is in which, and how members come, go and move between them.

use std::collections::BTreeMap;

use super::conditions::Conditions;
use super::ring::Chunk;
use super::{Group, Role};
use crate::rib::Rib;
use crate::rib::attribute::AttrId;
use crate::rib::export::Policy;
use crate::rib::path::PeerIndex;
use crate::rib::prefix::PrefixId;
use crate::wire::{Family, FamilySet};

type GroupId = u32;

/// The groups of all peers with a session.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    groups: BTreeMap<GroupId, Group>,
    members: BTreeMap<PeerIndex, GroupId>,
    next: GroupId,
    /// Some may have prefixes to look at again for a condition that has changed.
    walking: bool,
}

impl Groups {
    fn add(&mut self, group: Group) -> GroupId {
        let id = self.next;
        self.next += 1;
        self.members.extend(group.ring.readers().map(|peer| (peer, id)));
        self.groups.insert(id, group);
        id
    }

    fn group_of(&mut self, peer: PeerIndex) -> Option<(GroupId, &mut Group)> {
        let id = *self.members.get(&peer)?;
        self.groups.get_mut(&id).map(|group| (id, group))
    }

    fn of(&self, peer: PeerIndex) -> Option<&Group> {
        self.members.get(&peer).and_then(|id| self.groups.get(id))
    }

    /// A peer whose session has come up; it will be told everything.
    pub(crate) fn join(&mut self, rib: &Rib, peer: PeerIndex, policy: Policy) {
        let mut alike = self.groups.iter_mut().filter(|(_, group)| group.policy == policy);
        if let Some((id, group)) = alike.find(|(_, group)| group.is_fresh()) {
            group.ring.join(peer);
            self.members.insert(peer, *id);
            return;
        }
        let alone = !self.groups.values().any(|group| group.policy == policy);
        let mut group = Group::new(rib, policy, if alone { Role::Main } else { Role::CatchingUp });
        group.ring.join(peer);
        group.mark_all(rib);
        self.add(group);
    }

    /// A peer whose session is down.
    pub(crate) fn leave(&mut self, rib: &mut Rib, peer: PeerIndex) {
        let Some((id, group)) = self.group_of(peer) else { return };
        group.ring.leave(peer);
        let deserted = group.ring.readers().next().is_none();
        self.members.remove(&peer);
        if deserted && let Some(group) = self.groups.remove(&id) {
            group.dissolve(rib);
        }
    }

    /// Notes that the best path to a prefix changed.
    pub(crate) fn mark(&mut self, prefix: PrefixId) {
        self.groups.values_mut().for_each(|group| group.pending.push(prefix));
    }

    /// Notes that these go by other interfaces, for whoever asks by which.
    pub(crate) fn mark_relinked(&mut self, prefixes: &[PrefixId]) {
        let asking = self.groups.values_mut().filter(|group| group.policy.filter.asks_link());
        for group in asking {
            prefixes.iter().for_each(|prefix| group.pending.push(*prefix));
        }
    }

    /// Looks which conditions of filters hold, after the table has changed. Of what that concerns, each
    /// group looks at some at once, and at the rest by [`Self::walk`].
    pub(crate) fn follow_conditions(&mut self, rib: &Rib) {
        for group in self.groups.values_mut().filter(|group| !group.conditions.is_empty()) {
            if group.conditions.follow(&group.policy, rib) {
                group.walk(rib);
                self.walking = true;
            }
        }
    }

    /// Lets a group whose conditions have changed look at some more of what that concerns.
    pub(crate) fn walk(&mut self, rib: &Rib) {
        if self.walking {
            match self.groups.values_mut().find(|group| group.conditions.is_walking()) {
                Some(group) => group.walk(rib),
                None => self.walking = false,
            }
        }
    }

    /// Whether there may be something for [`Self::walk`] to do.
    pub(crate) const fn are_walking(&self) -> bool {
        self.walking
    }

    /// Families of which a peer will be told more than it would be now, though nothing else changes;
    /// of `deferred` ones we have not heard everything.
    pub(crate) fn unsettled(&self, peer: PeerIndex, deferred: FamilySet) -> FamilySet {
        let group = self.of(peer).filter(|group| !group.conditions.is_empty());
        let more = group.map(|group| group.conditions.unsettled(&group.policy, deferred));
        deferred.iter().chain(more.unwrap_or(FamilySet::EMPTY).iter()).collect()
    }

    /// Gives a peer another policy: it is told what differs.
    pub(crate) fn change_policy(&mut self, rib: &mut Rib, peer: PeerIndex, policy: Policy) {
        let Some((_, group)) = self.group_of(peer) else { return };
        if group.policy == policy {
            return;
        }
        let Some(mut group) = self.take_out(rib, peer) else { return };
        group.conditions = Conditions::new(&policy, rib);
        group.policy = policy;
        let told: Vec<_> = group.all_told().map(|(prefix, _)| prefix).collect();
        told.into_iter().for_each(|prefix| group.pending.push(prefix));
        // Another limit, maybe; what is held back shows anew.
        group.held_back = FamilySet::EMPTY;
        group.mark_all(rib);
        self.add(group);
    }

    /// Tells a peer all routes of some families again (RFC 2918).
    pub(crate) fn refresh(&mut self, rib: &mut Rib, peer: PeerIndex, families: FamilySet) {
        let Some(mut group) = self.take_out(rib, peer) else { return };
        for family in families.iter() {
            for (prefix, _) in group.told.iter(family).chain(group.several.iter(family)) {
                group.again.insert(prefix);
                group.pending.push(prefix);
            }
        }
        self.add(group);
    }

    /// Takes a member out of its group, with a copy of all that concerns it.
    fn take_out(&mut self, rib: &mut Rib, peer: PeerIndex) -> Option<Group> {
        let (_, group) = self.group_of(peer)?;
        let mut own = group.split(rib, peer);
        self.leave(rib, peer);
        // What is half said is said to the end: its attributes are about to be let go.
        while !own.batch.is_empty() {
            own.encode(rib);
        }
        Some(own)
    }

    /// Whether some peers are told more than the best path of each prefix.
    pub(crate) fn tell_several(&self) -> bool {
        self.groups.values().any(|group| !group.policy.codec.add_path_send.is_empty())
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.groups.len()
    }

    /// Whether every group has encoded all it has to say.
    pub(crate) fn are_idle(&self) -> bool {
        self.groups.values().all(Group::is_idle)
    }

    /// Whether there is something to send to a peer.
    pub(crate) fn has_news(&self, peer: PeerIndex) -> bool {
        self.of(peer).is_some_and(|group| !group.is_idle() || !group.ring.is_drained(peer))
    }

    /// The next messages for a peer; `None`: it knows everything.
    pub(crate) fn pull(&mut self, rib: &mut Rib, peer: PeerIndex) -> Option<Chunk> {
        loop {
            let (id, group) = self.group_of(peer)?;
            if let Some(chunk) = group.ring.read(peer) {
                return Some(chunk);
            }
            if group.is_idle() {
                self.return_to_main(rib, peer, id);
                return None;
            }
            if group.is_ring_full() {
                self.leave_behind(rib, id);
            } else {
                group.encode(rib);
            }
        }
    }

    /// Moves those who hold up the others into groups of their own.
    fn leave_behind(&mut self, rib: &mut Rib, id: GroupId) {
        let Some(group) = self.groups.get_mut(&id) else { return };
        let slow = group.ring.slowest();
        let own: Vec<Group> = slow.into_iter().map(|peer| group.split(rib, peer)).collect();
        own.into_iter().for_each(|group| {
            self.add(group);
        });
    }

    /// A member that has caught up joins the main group of its policy, if that has said everything
    /// too: then both have told the same.
    fn return_to_main(&mut self, rib: &mut Rib, peer: PeerIndex, own: GroupId) {
        let returns = |group: &&Group| group.role == Role::CatchingUp && group.tells_all();
        let Some(group) = self.groups.get(&own).filter(returns) else { return };
        let policy = &group.policy;
        let main = self
            .groups
            .iter()
            .find(|(_, other)| other.role == Role::Main && other.policy == *policy)
            .map(|(id, main)| (*id, main.tells_all()));
        match main {
            None => {
                let group = self.groups.get_mut(&own).expect("it was just there");
                group.role = Role::Main;
            }
            Some((_, false)) => {}
            Some((main, true)) => {
                self.leave(rib, peer);
                self.groups.get_mut(&main).expect("it was just found").ring.join(peer);
                self.members.insert(peer, main);
            }
        }
    }

    /// What a peer has been told of one prefix, or is about to be: path identifiers and attributes.
    pub(crate) fn told(
        &self,
        peer: PeerIndex,
        prefix: PrefixId,
    ) -> impl Iterator<Item = (u32, AttrId)> {
        let told = self.of(peer).into_iter().flat_map(move |group| {
            let one = group.told.get(prefix).map(|advert| (0, advert));
            one.into_iter().chain(group.several.get(prefix).iter().copied())
        });
        told.filter(move |(_, told)| told.source != peer)
            .map(|(identifier, told)| (identifier, told.attr))
    }

    /// Whether some group has told of a prefix or will speak of it.
    pub(crate) fn concern(&self, prefix: PrefixId) -> bool {
        self.groups.values().any(|group| {
            group.told.get(prefix).is_some()
                || !group.several.get(prefix).is_empty()
                || group.pending.contains(prefix)
                || group.batch.contains(prefix)
        })
    }

    /// How many prefixes a peer has been told, or is about to be.
    pub(crate) fn advertised_count(&self, peer: PeerIndex, family: Family) -> u64 {
        self.of(peer).map_or(0, |group| {
            group.told.told_to(peer, family) + group.several.told_to(peer, family)
        })
    }

    /// Lets every group look at every prefix again.
    pub(crate) fn mark_all(&mut self, rib: &Rib) {
        self.groups.values_mut().for_each(|group| group.mark_all(rib));
    }

    /// Octets of encoded messages that wait for somebody, shared ones counted once per group.
    pub(crate) fn waiting_octets(&self) -> usize {
        self.groups.values().map(|group| group.ring.octets()).sum()
    }

    /// What a peer has been told, or is about to be, per family.
    pub(crate) fn advertised(
        &self,
        peer: PeerIndex,
        family: Family,
    ) -> impl Iterator<Item = (PrefixId, AttrId)> {
        self.of(peer).into_iter().flat_map(move |group| {
            let told = group.told.iter(family).chain(group.several.iter(family));
            let told = told.filter(move |(_, told)| told.source != peer);
            told.map(|(prefix, told)| (prefix, told.attr))
        })
    }
}
