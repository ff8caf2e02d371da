//! The table as an MRT dump, in slices.

use super::Speaker;
use super::monitor::own_next_hop;
use crate::mrt::{self, IndexedPeer, RibEntry};
use crate::rib::path::{LOCAL, PeerIndex};
use crate::rib::prefix::PrefixId;
use crate::wire::{Family, FamilySet};

/// Prefixes in one slice; some tenths of a millisecond.
const SLICE: usize = 1024;

/// Where a dump goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DumpCursor {
    /// Peers in the index: paths of others are left out.
    pub peers: u16,
    /// The family.
    pub family: Family,
    /// The row in it.
    pub row: u32,
    /// The number of the next record.
    pub sequence: u32,
}

impl Speaker {
    /// A slice of the table as MRT records (RFC 6396), and where to go on; `from` is `None` for the
    /// beginning, which has the index of peers. `time` is in seconds since the Unix epoch.
    ///
    /// All that peers told is in it, as they told it, whatever import made of it, and what we
    /// originate. Between two slices the table may change.
    pub fn dump(
        &self,
        time: u32,
        families: FamilySet,
        from: Option<DumpCursor>,
    ) -> (Vec<u8>, Option<DumpCursor>) {
        let mut out = Vec::new();
        let Some(cursor) = from else {
            let peers = self.put_index(&mut out, time);
            let first = families.iter().next();
            let next = first.map(|family| DumpCursor { peers, family, row: 0, sequence: 0 });
            return (out, next);
        };
        let DumpCursor { peers, family, row, mut sequence } = cursor;
        let ids: Vec<PrefixId> = self.rib.prefixes.ids(family, row).take(SLICE).collect();
        for id in &ids {
            if self.put_prefix(&mut out, time, sequence, *id, peers) {
                sequence += 1;
            }
        }
        let next = match ids.last().filter(|_| ids.len() == SLICE) {
            Some(last) => Some((family, last.row() + 1)),
            None => families.iter().find(|other| *other > family).map(|other| (other, 0)),
        };
        (out, next.map(|(family, row)| DumpCursor { peers, family, row, sequence }))
    }

    /// Ourselves, and everybody that ever was a peer; the numbers are those of the table.
    fn put_index(&self, out: &mut Vec<u8>, time: u32) -> u16 {
        let peers = self.rib.neighbors.iter().zip(0..=u16::MAX).map(|(neighbor, number)| {
            let index = PeerIndex(number);
            let asn = match self.peers.get(&index) {
                _ if index == LOCAL => neighbor.local_as,
                Some(peer) => peer.remote_as().unwrap_or(0),
                None => 0,
            };
            IndexedPeer { router_id: neighbor.router_id, address: neighbor.address, asn }
        });
        let peers: Vec<IndexedPeer> = peers.collect();
        let count = u16::try_from(peers.len()).unwrap_or(u16::MAX);
        let collector = self.config.router_id;
        mrt::peer_index_table(out, time, collector, peers.into_iter().take(count.into()));
        count
    }

    /// Says whether there was anything to put.
    fn put_prefix(
        &self,
        out: &mut Vec<u8>,
        time: u32,
        sequence: u32,
        id: PrefixId,
        peers: u16,
    ) -> bool {
        let rib = &self.rib;
        let chain = rib.paths.chain(&rib.prefixes, id);
        let entries = chain.filter(|path| rib.paths.get(*path).peer.0 < peers).map(|path| {
            let block = rib.attributes.get(rib.paths.received(path));
            RibEntry {
                peer: rib.paths.get(path).peer.0,
                identifier: rib.paths.identifier(path),
                next_hop: block.next_hop.unwrap_or_else(|| own_next_hop(&self.config, id.family())),
                attributes: block.raw,
            }
        });
        let entries: Vec<RibEntry<'_>> = entries.collect();
        if !entries.is_empty() {
            mrt::rib(out, time, sequence, rib.prefixes.prefix(id), &entries);
        }
        !entries.is_empty()
    }
}
