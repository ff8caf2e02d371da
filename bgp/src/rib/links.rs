//! Through which interface routes go, for filters that ask: the edge knows, from the kernel's tables.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use foldhash::fast::FixedState;

use super::attribute::Block;
use super::filter::Link;
use super::path::{LOCAL, PeerIndex};
use super::prefix::PrefixId;
use super::{Neighbor, Rib};
use crate::wire::Family;

/// Interfaces by the addresses of routers and peers that are reached through them.
pub type Links = BTreeMap<IpAddr, Arc<str>>;

/// The same, as the table looks it up.
#[derive(Debug, Default)]
pub(crate) struct LinkTable(HashMap<IpAddr, Arc<str>, FixedState>);

impl LinkTable {
    /// The link to a peer: what it tells comes that way.
    pub(crate) fn to_peer<'a>(&'a self, neighbor: &'a Neighbor) -> Link<'a> {
        self.or_by(neighbor, Some(neighbor.address))
    }

    /// The link that packets take for a path of this peer.
    pub(super) fn of_path<'a>(&'a self, neighbor: &'a Neighbor, block: Block<'_>) -> Link<'a> {
        self.or_by(neighbor, block.next_hop.map(crate::wire::NextHop::addr))
    }

    fn or_by<'a>(&'a self, neighbor: &'a Neighbor, address: Option<IpAddr>) -> Link<'a> {
        let found = || address.and_then(|address| self.0.get(&address));
        neighbor.interface.as_ref().or_else(found).map_or(Link::Unknown, |name| Link::Known(name))
    }
}

impl Rib {
    /// Takes over what is known of links. Gives the peers that are reached another way than before, and the prefixes with
    /// a path that goes another way.
    pub(crate) fn set_links(&mut self, links: &Links) -> (Vec<PeerIndex>, Vec<PrefixId>) {
        let new: HashMap<_, _, _> =
            links.iter().map(|(address, name)| (*address, Arc::clone(name))).collect();
        let old = std::mem::replace(&mut self.links, LinkTable(new)).0;
        let changed = |address: IpAddr| self.links.0.get(&address) != old.get(&address);
        if self.links.0 == old {
            return (Vec::new(), Vec::new());
        }
        let numbered = (0..).map(PeerIndex).zip(&self.neighbors);
        let peers = numbered.filter(|(index, peer)| *index != LOCAL && changed(peer.address));
        let concerned = |prefix: &PrefixId| {
            let mut paths = self.paths.chain(&self.prefixes, *prefix);
            paths.any(|id| {
                let next_hop = self.attributes.get(self.paths.get(id).attr).next_hop;
                next_hop.is_some_and(|next_hop| changed(next_hop.addr()))
            })
        };
        let all = Family::ALL.into_iter().flat_map(|family| self.prefixes.ids(family, 0));
        (peers.map(|(index, _)| index).collect(), all.filter(concerned).collect())
    }
}
