//! Encoded messages, shared by all members of a group, each of whom reads at its own pace.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use crate::rib::path::PeerIndex;

/// Who of the group is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Audience {
    /// All but this one, who is the source of the routes and need not even be a member.
    Except(PeerIndex),
    /// Only this one.
    Only(PeerIndex),
}

impl Audience {
    pub(super) const fn includes(self, peer: PeerIndex) -> bool {
        match self {
            Self::Except(source) => source.0 != peer.0,
            Self::Only(one) => one.0 == peer.0,
        }
    }
}

/// Some whole messages for the same audience.
#[derive(Debug, Clone)]
pub(crate) struct Chunk {
    pub(crate) audience: Audience,
    pub(crate) bytes: Bytes,
    pub(crate) messages: u32,
}

/// What is encoded and not yet read by all.
#[derive(Debug, Default)]
pub(crate) struct Ring {
    chunks: VecDeque<Chunk>,
    /// The number of the first chunk; they are numbered from 0.
    first: u64,
    octets: usize,
    /// The next chunk of each member.
    readers: BTreeMap<PeerIndex, u64>,
}

impl Ring {
    fn end(&self) -> u64 {
        self.first + self.chunks.len() as u64
    }

    pub(crate) fn push(&mut self, chunk: Chunk) {
        self.octets += chunk.bytes.len();
        self.chunks.push_back(chunk);
    }

    /// How much waits for the slowest member.
    pub(crate) const fn octets(&self) -> usize {
        self.octets
    }

    /// A member that has read all there is.
    pub(crate) fn join(&mut self, peer: PeerIndex) {
        self.readers.insert(peer, self.end());
    }

    pub(crate) fn leave(&mut self, peer: PeerIndex) {
        self.readers.remove(&peer);
        self.trim();
    }

    pub(crate) fn readers(&self) -> impl Iterator<Item = PeerIndex> {
        self.readers.keys().copied()
    }

    /// Those who have not read the oldest chunk.
    pub(crate) fn slowest(&self) -> Vec<PeerIndex> {
        let slow = self.readers.iter().filter(|(_, at)| **at == self.first);
        slow.map(|(peer, _)| *peer).collect()
    }

    pub(crate) fn is_drained(&self, peer: PeerIndex) -> bool {
        self.readers.get(&peer).is_none_or(|at| *at == self.end())
    }

    /// The next chunk that is meant for a member.
    pub(crate) fn read(&mut self, peer: PeerIndex) -> Option<Chunk> {
        let end = self.end();
        let at = self.readers.get_mut(&peer)?;
        let mut found = None;
        while *at < end && found.is_none() {
            let index = usize::try_from(*at - self.first).expect("an index into the ring");
            let chunk = &self.chunks[index];
            found = chunk.audience.includes(peer).then(|| chunk.clone());
            *at += 1;
        }
        self.trim();
        found
    }

    /// A ring of its own for one member, with all that it has not read.
    pub(crate) fn split(&mut self, peer: PeerIndex) -> Self {
        let at = self.readers.get(&peer).copied().unwrap_or(self.end());
        let skip = usize::try_from(at - self.first).expect("an index into the ring");
        let unread = self.chunks.iter().skip(skip).filter(|chunk| chunk.audience.includes(peer));
        let mut ring = Self::default();
        ring.join(peer);
        unread.cloned().for_each(|chunk| ring.push(chunk));
        self.leave(peer);
        ring
    }

    fn trim(&mut self) {
        let oldest = self.readers.values().copied().min().unwrap_or(self.end());
        while self.first < oldest {
            let Some(chunk) = self.chunks.pop_front() else { return };
            self.octets -= chunk.bytes.len();
            self.first += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(audience: Audience, text: &'static str) -> Chunk {
        Chunk { audience, bytes: Bytes::from_static(text.as_bytes()), messages: 1 }
    }

    fn text(ring: &mut Ring, peer: u16) -> String {
        let chunks = std::iter::from_fn(|| ring.read(PeerIndex(peer)));
        chunks.map(|chunk| String::from_utf8(chunk.bytes.to_vec()).unwrap()).collect()
    }

    #[test]
    fn each_member_reads_what_is_meant_for_it_and_the_rest_is_forgotten() {
        let mut ring = Ring::default();
        ring.join(PeerIndex(1));
        ring.join(PeerIndex(2));
        ring.push(chunk(Audience::Except(PeerIndex(0)), "a"));
        ring.push(chunk(Audience::Except(PeerIndex(1)), "b"));
        ring.push(chunk(Audience::Only(PeerIndex(1)), "c"));
        assert_eq!(text(&mut ring, 1), "ac");
        let mut own = ring.split(PeerIndex(2));
        assert_eq!(text(&mut own, 2), "ab");
        assert_eq!((ring.octets, ring.chunks.len()), (0, 0));
    }
}
